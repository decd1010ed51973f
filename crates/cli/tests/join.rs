//! A joined machine: a real `rexec join` beside a real server that has no engine, used by all that a workspace is.
#![allow(clippy::unwrap_used)]

use rexec_api::error::ErrorCode;
use rexec_api::exec::ExecRequest;
use rexec_api::ids::WorkspaceId;
use rexec_api::machines::{JoinMachine, NewJoinToken};
use rexec_api::snapshots::NewSnapshot;
use rexec_api::terminals::NewTerminal;
use rexec_api::workspaces::{PatchWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::{AttachOptions, Attachment, Client, ClientError, Lifecycle, Received};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const REXEC: &str = env!("CARGO_BIN_EXE_rexec");
const PASSWORD: &str = "correct horse battery";
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server at one address, which may be stopped and started, and the home of whoever joins it.
struct Stage {
    dir: tempfile::TempDir,
    port: u16,
    server: Option<Child>,
}

/// A process that is ended whatever happens.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// How it ended, and what it had said.
    async fn ended(mut self) -> (ExitStatus, String) {
        let status = eventually("the process to end", async || self.0.try_wait().unwrap()).await;
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status, said)
    }
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Stage {
    fn new() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut stage = Self { dir: tempfile::tempdir().unwrap(), port, server: None };
        fs::create_dir(stage.home()).unwrap();
        stage.start();
        stage
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn start(&mut self) {
        let dir = self.dir.path();
        let mut command = Command::new(REXEC);
        command.arg("serve").current_dir(dir).env("HOST", "127.0.0.1").env("PORT", self.port.to_string());
        command.env("REXEC_SSH_PORT", "0").env("REXEC_DATA_DIR", dir.join("data")).env_remove("DATABASE_URL");
        command.env("DOCKER_HOST", format!("unix://{}/no-engine.sock", dir.display())).env("RUST_LOG", "error");
        let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("Rexec is ready"), "{line}");
        self.server = Some(server);
    }

    /// As a machine that loses its power.
    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(REXEC);
        command.args(words).current_dir(self.dir.path()).env("HOME", self.home());
        for name in ["XDG_CONFIG_HOME", "REXEC_URL", "REXEC_TOKEN"] {
            command.env_remove(name);
        }
        command
    }

    fn join(&self, words: &[&str]) -> Process {
        let url = self.url();
        let words = [&["join", url.as_str()], words].concat();
        Process(self.command(&words).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// A machine that is there, and the process that it is.
    async fn joined(&self, owner: &Client, name: &str) -> (WorkspaceView, Process) {
        let token = owner.create_join_token(&NewJoinToken::default()).await.unwrap().token;
        let process = self.join(&["--token", &token, "--name", name]);
        let machine = eventually("the machine to be there", async || {
            let all = owner.workspaces().await.unwrap().items;
            all.into_iter().find(|view| view.name == name && view.status == WorkspaceStatus::Running)
        })
        .await;
        (machine, process)
    }

    fn state(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.home().join(".config/rexec/machines")) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn status(owner: &Client, id: WorkspaceId, status: WorkspaceStatus) {
    eventually(status.as_str(), async || (owner.workspace(id).await.unwrap().status == status).then_some(())).await;
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>, code: ErrorCode) {
    assert_eq!(answer.unwrap_err().code(), Some(code));
}

fn run(command: &[&str]) -> ExecRequest {
    ExecRequest { command: command.iter().map(|word| (*word).to_owned()).collect(), ..ExecRequest::default() }
}

/// Reads until the terminal has shown the text.
async fn shown(attachment: &mut Attachment, text: &str) {
    let mut seen = Vec::new();
    let reading = async {
        loop {
            match attachment.next().await.unwrap() {
                Received::Output { bytes, .. } | Received::Snapshot { bytes, .. } => seen.extend_from_slice(&bytes),
                Received::Closed(code) => panic!("closed: {code}"),
                _ => {}
            }
            if String::from_utf8_lossy(&seen).contains(text) {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, reading).await;
    assert!(in_time.is_ok(), "not shown: {text}");
}

#[tokio::test]
async fn a_machine_is_used_as_a_workspace_is() {
    let mut stage = Stage::new();
    let client = Client::new(stage.url()).unwrap();
    let (owner, _) = client.register("ada@example.com", PASSWORD).await.unwrap();
    let (stranger, _) = client.register("eve@example.com", PASSWORD).await.unwrap();
    let (machine, _process) = stage.joined(&owner, "box").await;
    let told = machine.machine.clone().unwrap();
    let home = stage.home().to_str().unwrap().to_owned();
    assert_eq!((told.home.as_str(), told.arch.as_str()), (home.as_str(), std::env::consts::ARCH));
    assert!(machine.cpu >= 1.0 && machine.memory_mb > 0 && machine.image.is_empty(), "{machine:?}");
    let id = machine.id;

    // Commands: as whoever joined, at their home, without what the process was started with.
    let whoami = Command::new("id").arg("-un").output().unwrap().stdout;
    let done = owner.exec(id, &run(&["sh", "-c", "id -un; pwd; echo ${REXEC_TOKEN-none}"])).await.unwrap();
    assert_eq!(done.stdout, format!("{}{home}\nnone\n", String::from_utf8(whoami).unwrap()));

    // Files.
    let path = format!("{home}/greeting");
    owner.write_file(id, &path, "hello").await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "hello");
    assert_eq!(owner.read_file(id, &path).await.unwrap(), "hello");

    // Ports.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = String::new();
        stream.read_to_string(&mut asked).await.unwrap();
        stream.write_all(asked.to_uppercase().as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut answer = Vec::new();
    owner.tunnel(id, port).await.unwrap().carry(&b"ping"[..], &mut answer).await.unwrap();
    assert_eq!(answer, b"PING");
    answering.await.unwrap();

    // A terminal, which a server that dies leaves as it was.
    let terminal =
        owner.create_terminal(id, &NewTerminal { cols: 80, rows: 24, ..NewTerminal::default() }).await.unwrap().id;
    let mut attachment = owner.attach(id, terminal, AttachOptions::default()).await.unwrap();
    attachment.input(b"kept=4; echo at-$((kept + 3))\r").await.unwrap();
    shown(&mut attachment, "at-7").await;
    stage.stop();
    while attachment.next().await.is_ok_and(|received| !matches!(received, Received::Closed(_))) {}
    stage.start();
    status(&owner, id, WorkspaceStatus::Running).await;
    let mut attachment =
        eventually("the terminal", async || owner.attach(id, terminal, AttachOptions::default()).await.ok()).await;
    attachment.input(b"echo still-$((kept + 5))\r").await.unwrap();
    shown(&mut attachment, "still-9").await;

    // What a machine has not, nobody gives it; and it is nobody else's.
    for request in [Lifecycle::Start, Lifecycle::Stop, Lifecycle::Restart, Lifecycle::Pause, Lifecycle::Resume] {
        refused(owner.lifecycle(id, request).await, ErrorCode::NotForMachines);
    }
    refused(owner.take_snapshot(id, &NewSnapshot::default()).await, ErrorCode::NotForMachines);
    let change = PatchWorkspace { cpu: Some(1.0), ..PatchWorkspace::default() };
    refused(owner.change_workspace(id, &change).await, ErrorCode::NotForMachines);
    assert_eq!(owner.rename_workspace(id, "other").await.unwrap().name, "other");
    refused(stranger.workspace(id).await, ErrorCode::NotFound);
    refused(stranger.exec(id, &run(&["true"])).await, ErrorCode::NotFound);
    refused(stranger.tunnel(id, port).await.map(drop), ErrorCode::NotFound);
    refused(stranger.delete_workspace(id).await, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_machine_goes_offline_and_away() {
    let stage = Stage::new();
    let client = Client::new(stage.url()).unwrap();
    let (owner, _) = client.register("ada@example.com", PASSWORD).await.unwrap();
    let (machine, process) = stage.joined(&owner, "box").await;
    let id = machine.id;
    let states = stage.state();
    let [state] = &states[..] else { panic!("{states:?}") };
    assert_eq!(fs::metadata(state).unwrap().permissions().mode() & 0o777, 0o600);
    let credential: serde_json::Value = serde_json::from_slice(&fs::read(state).unwrap()).unwrap();
    let credential = credential["credential"].as_str().unwrap().to_owned();

    // One process at a time is this machine.
    let (second, said) = stage.join(&[]).ended().await;
    assert!(!second.success() && said.contains("Another process"), "{said}");

    // Asked to go, it ends what it started and goes offline; it is a machine still.
    let pid = stage.dir.path().join("pid");
    let sleeping = ExecRequest {
        cwd: Some("/".into()),
        ..run(&["sh", "-c", &format!("echo $$ > {}; exec sleep 3600", pid.display())])
    };
    let ending = owner.clone();
    let sleeper = tokio::spawn(async move { ending.exec(id, &sleeping).await });
    let pid = eventually("a command to run", async || fs::read_to_string(&pid).ok()?.trim().parse::<u32>().ok()).await;
    process.signal("-TERM");
    let (ended, said) = process.ended().await;
    assert!(ended.success(), "{said}");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "what it ran is left behind");
    let _ = sleeper.await.unwrap();
    status(&owner, id, WorkspaceStatus::Unreachable).await;
    refused(owner.exec(id, &run(&["true"])).await, ErrorCode::WorkspaceUnreachable);

    // It comes back by itself, without a token; removed by its owner it ends and forgets.
    let process = stage.join(&[]);
    status(&owner, id, WorkspaceStatus::Running).await;
    owner.delete_workspace(id).await.unwrap();
    let (ended, said) = process.ended().await;
    assert!(ended.success() && said.contains("removed"), "{said}");
    assert!(stage.state().is_empty());
    refused(owner.workspace(id).await, ErrorCode::NotFound);
    let removed = client.clone().with_token(&credential);
    refused(removed.machine_tunnel().await.map(drop), ErrorCode::MachineGone);
    refused(removed.leave_machine().await, ErrorCode::MachineGone);

    // Removed while it is away, it learns so when it comes.
    let (machine, process) = stage.joined(&owner, "another").await;
    process.signal("-INT");
    assert!(process.ended().await.0.success());
    owner.delete_workspace(machine.id).await.unwrap();
    let (ended, said) = stage.join(&[]).ended().await;
    assert!(ended.success() && said.contains("removed"), "{said}");

    // Or it leaves by itself.
    let (machine, process) = stage.joined(&owner, "a third").await;
    let left = stage.command(&["leave"]).output().unwrap();
    assert!(left.status.success(), "{}", String::from_utf8_lossy(&left.stderr));
    assert!(process.ended().await.0.success());
    assert!(stage.state().is_empty());
    refused(owner.workspace(machine.id).await, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_token_joins_one_machine() {
    let stage = Stage::new();
    let client = Client::new(stage.url()).unwrap();
    let (owner, _) = client.register("ada@example.com", PASSWORD).await.unwrap();
    let made =
        owner.create_join_token(&NewJoinToken { name: Some("named".into()), ..Default::default() }).await.unwrap();
    assert_eq!(owner.join_tokens().await.unwrap().items, std::slice::from_ref(&made.view));
    let told = stage.command(&["join", &stage.url(), "--token", &made.token, "--systemd"]).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(owner.join_tokens().await.unwrap().items.is_empty());
    let machines = owner.workspaces().await.unwrap().items;
    let [machine] = &machines[..] else { panic!("{machines:?}") };
    assert_eq!((machine.name.as_str(), machine.status), ("named", WorkspaceStatus::Unreachable));

    // Used up, revoked, or with a typing error.
    let again = client.join_machine(&JoinMachine { token: made.token.clone(), name: None }).await;
    refused(again.map(drop), ErrorCode::JoinTokenRefused);
    let other = owner.create_join_token(&NewJoinToken::default()).await.unwrap();
    owner.revoke_join_token(other.view.id).await.unwrap();
    refused(owner.revoke_join_token(other.view.id).await, ErrorCode::NotFound);
    let revoked = client.join_machine(&JoinMachine { token: other.token.clone(), name: None }).await;
    refused(revoked.map(drop), ErrorCode::JoinTokenRefused);
    assert_eq!(owner.workspaces().await.unwrap().items.len(), 1);

    // What systemd is told to run is this machine.
    let words = format!("ExecStart=\"{REXEC}\" join \"{}\"\n", stage.url());
    let unit = String::from_utf8(told.stdout).unwrap();
    assert!(unit.contains(&words), "{unit}");
    let process = stage.join(&[]);
    status(&owner, machine.id, WorkspaceStatus::Running).await;
    // While it runs the unit can be asked for, and nobody else can be the machine.
    let told = stage.command(&["join", "--systemd"]).output().unwrap();
    assert!(String::from_utf8_lossy(&told.stdout).contains(&words), "{told:?}");
    let second = stage.command(&["join"]).output().unwrap();
    let why = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && why.contains("Another process of yours"), "{why}");
    process.signal("-TERM");
    assert!(process.ended().await.0.success());
}
