//! A server with an engine for one test, and a home of whoever calls its command; gone afterwards without a trace.

use rexec_client::Client;
use rexec_engine::{Engine as _, Labels, docker::DockerEngine};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const REXEC: &str = env!("CARGO_BIN_EXE_rexec");
pub const EMAIL: &str = "ada@example.com";
pub const PASSWORD: &str = "correct horse battery";
/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A server, and a home of whoever calls it.
pub struct Stage {
    server: Child,
    pub url: String,
    pub dir: tempfile::TempDir,
    /// On all that it makes at the engine.
    label: String,
}

impl Stage {
    /// With these templates besides: their ids, and what their files say.
    pub fn start(templates: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("templates");
        std::fs::create_dir(&folder).unwrap();
        for (id, text) in templates {
            std::fs::write(folder.join(format!("{id}.toml")), text).unwrap();
        }
        let label = uuid::Uuid::new_v4().to_string();
        let mut command = Command::new(REXEC);
        command
            .arg("serve")
            .current_dir(dir.path())
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("REXEC_SSH_PORT", free_port().to_string());
        command.env("REXEC_TEMPLATES_DIR", folder);
        // Models are offered, and nobody answers for them; whoever tests may have keys of their own.
        for name in ["LLM_PROVIDER", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "ANTHROPIC_API_KEY"] {
            command.env_remove(name);
        }
        command.env("LLM_BASE_URL", "http://127.0.0.1:1/v1").env("REXEC_MODELS", "gpt-5*,o4-mini");
        command.env("REXEC_MODELS_TOKENS_PER_DAY", "1000000");
        command.env("REXEC_DATA_DIR", dir.path().join("data")).env_remove("DATABASE_URL").env("RUST_LOG", "error");
        // Should this process be killed, `scripts/leftovers.sh` knows by the first what to take away.
        command.env("REXEC_ENGINE_LABELS", format!("rexec.test=command,rexec.test.server={label}"));
        let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("Rexec is ready: ").expect("its address").to_owned();
        let stage = Self { server, url, dir, label };
        runtime().block_on(async {
            let client = Client::new(&stage.url).unwrap();
            let began = Instant::now();
            while !client.request(http::Method::GET, "/ready").send().await.unwrap().status().is_success() {
                assert!(began.elapsed() < PATIENCE, "its engine is not ready");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            client.register(EMAIL, PASSWORD).await.unwrap();
        });
        stage
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(REXEC);
        command.args(words).current_dir(self.dir.path()).env("HOME", self.dir.path());
        for name in ["XDG_CONFIG_HOME", "REXEC_URL", "REXEC_TOKEN", "NO_COLOR"] {
            command.env_remove(name);
        }
        command
    }

    pub fn run_with(&self, words: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    pub fn ok(&self, words: &[&str]) -> String {
        self.ok_with(words, b"")
    }

    #[track_caller]
    pub fn ok_with(&self, words: &[&str], input: &[u8]) -> String {
        let done = self.run_with(words, input);
        assert!(done.status.success(), "{words:?}: {} {}", done.status, String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// What it says when it ends with the code.
    #[track_caller]
    pub fn fails(&self, words: &[&str], code: i32) -> String {
        let done = self.run_with(words, b"");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(code), "{words:?}: {said}");
        said
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let usual = || format!("unix://{}", rexec_server::hosts::usual_socket().display());
        let address = std::env::var("DOCKER_HOST").unwrap_or_else(|_| usual());
        let labels = Labels::from([("rexec.test.server".to_owned(), self.label.clone())]);
        runtime().block_on(async {
            let engine = DockerEngine::connect(&address).unwrap();
            let mut closed = None;
            for container in engine.containers(&labels).await.unwrap() {
                if container.labels.contains_key("rexec.gateway") {
                    closed = container.name.strip_suffix("-gateway").map(str::to_owned);
                }
                engine.remove(&container.id).await.unwrap();
            }
            if let Some(name) = closed {
                let bridge = engine.network(&name).await.unwrap().and_then(|network| network.bridge);
                engine.remove_network(&name).await.unwrap();
                if let Some(bridge) = bridge {
                    rexec_engine::firewall::forget_bridge(&bridge).await.unwrap();
                }
            }
            for volume in engine.volumes(&labels).await.unwrap() {
                engine.remove_volume(&volume.name).await.unwrap();
            }
            for image in engine.images().await.unwrap() {
                if image.labels.get("rexec.test.server") == Some(&self.label) {
                    for reference in image.references {
                        engine.remove_image(&reference).await.unwrap();
                    }
                }
            }
        });
    }
}

/// One that nobody has now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A command in a terminal of its own, by script(1), and what it has drawn.
pub struct InTerminal {
    child: Child,
    keys: ChildStdin,
    drawn: Arc<Mutex<Vec<u8>>>,
}

impl InTerminal {
    pub fn start(stage: &Stage, (cols, rows): (u16, u16), line: &str) -> Self {
        let mut command = Command::new("script");
        let line = format!("stty cols {cols} rows {rows}; {REXEC} {line}");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.current_dir(stage.dir.path()).env("HOME", stage.dir.path()).env("SHELL", "/bin/sh");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keys, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let drawn = Arc::new(Mutex::new(Vec::new()));
        let to = drawn.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                to.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { child, keys, drawn }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.drawn.lock().unwrap()).into_owned()
    }

    #[track_caller]
    pub fn until(&self, text: &str) {
        let began = Instant::now();
        while !self.text().contains(text) {
            assert!(began.elapsed() < PATIENCE, "{text:?} was not drawn: {:?}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn keys(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
        self.keys.flush().unwrap();
    }

    /// All that was drawn.
    pub fn drawn(&self) -> Vec<u8> {
        self.drawn.lock().unwrap().clone()
    }

    /// Ends the command, whose shell goes on.
    pub fn terminate(&self) {
        let child = |pid: &str| {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            children.split_whitespace().next().expect("it runs").to_owned()
        };
        let pid = child(&child(&self.child.id().to_string())).parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Its exit code once it has ended, and all that was drawn.
    pub fn ended(mut self) -> (Option<i32>, Vec<u8>) {
        let code = self.child.wait().unwrap().code();
        // What was drawn last is on its way to the thread that keeps it.
        while Arc::strong_count(&self.drawn) > 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        (code, self.drawn())
    }

    pub fn exit_code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for InTerminal {
    fn drop(&mut self) {
        // It has its command end, too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
