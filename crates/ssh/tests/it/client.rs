//! A server of ours, and OpenSSH's programs set up to trust it.

use crate::backend::{Door, Local};
use rexec_ssh::{Backend, Bounds, HostKey, PublicKey, Server, Settings};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Long enough for a machine that does much else; what takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub local: Arc<Local>,
    pub port: u16,
    pub dir: TempDir,
    pub stop: CancellationToken,
    serving: Option<JoinHandle<()>>,
    _stops: DropGuard,
}

pub struct Done {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Done {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("text")
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{} {}", String::from_utf8_lossy(&self.out), self.err);
        self
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(Bounds::default(), Vec::new()).await
    }

    pub async fn with(bounds: Bounds, authorities: Vec<PublicKey>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().join("home");
        std::fs::create_dir(&home).expect("a home");
        let local = Arc::new(Local { home, ..Local::default() });
        let host_key = HostKey::generate();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let known = format!("[127.0.0.1]:{port} {}\n", host_key.public().line());
        std::fs::write(dir.path().join("known_hosts"), known).expect("known hosts");
        let settings = Settings { host_keys: vec![host_key], authorities, bounds };
        let backend: Arc<dyn Backend> = Arc::new(Door(local.clone()));
        let server = Server::new(backend, settings);
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let stop = stop.clone();
            async move { server.serve(listener, stop).await }
        });
        let world = Self { local, port, dir, _stops: stop.clone().drop_guard(), stop, serving: Some(serving) };
        let key = world.key("id", &["-t", "ed25519"]).await;
        world.allow("ws", key);
        world
    }

    /// Has the server stop, and waits for it.
    pub async fn stopped(&mut self) {
        self.stop.cancel();
        let serving = self.serving.take().expect("stopped once");
        timeout(PATIENCE, serving).await.expect("a server that stops").expect("no panic");
    }

    pub fn home(&self) -> &Path {
        &self.local.home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a key pair `name` and `name.pub` with ssh-keygen.
    pub async fn key(&self, name: &str, kind: &[&str]) -> PublicKey {
        let path = self.path(name);
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(kind).args(["-q", "-N", "", "-C", name, "-f"]).arg(&path);
        finish(&mut keygen, b"").await.ok();
        let line = std::fs::read_to_string(path.with_extension("pub")).expect("the public half");
        PublicKey::parse(&line).expect("a key")
    }

    pub fn allow(&self, login: &str, key: PublicKey) {
        self.local.keys.lock().expect("keys").entry(login.into()).or_default().push(key);
    }

    /// Options for any of OpenSSH's programs.
    pub fn options(&self) -> Vec<String> {
        let known = self.path("known_hosts");
        let mut options = vec!["-F".to_owned(), "/dev/null".to_owned()];
        for option in [
            "StrictHostKeyChecking=yes",
            &format!("UserKnownHostsFile={}", known.display()),
            "GlobalKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "UpdateHostKeys=no",
            "ConnectTimeout=30",
            &format!("Port={}", self.port),
        ] {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    /// `ssh` up to its destination, with the key `name`.
    pub fn ssh_as(&self, name: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options()).arg("-i").arg(self.path(name));
        ssh
    }

    pub fn ssh(&self) -> Command {
        self.ssh_as("id")
    }

    pub async fn run(&self, command: &str) -> Done {
        finish(self.ssh().args(["ws@127.0.0.1", command]), b"").await
    }

    /// Waits until no process of the backend is left.
    pub async fn until_idle(&self) {
        self.until("processes end", || *self.local.alive.lock().expect("alive") == 0).await;
    }

    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let waited = timeout(PATIENCE, async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(waited.await.is_ok(), "waited for: {what}");
    }
}

/// Runs a program to its end with `stdin`.
pub async fn finish(command: &mut Command, stdin: &[u8]) -> Done {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY");
    let mut child = command.spawn().expect("a program");
    let mut input = child.stdin.take().expect("stdin");
    let stdin = stdin.to_vec();
    tokio::spawn(async move {
        let _ = input.write_all(&stdin).await;
    });
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{command:?} hangs")).expect("its output");
    Done { code: output.status.code(), out: output.stdout, err: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// Bytes that compress badly and repeat never.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(word).flatten().take(bytes).collect()
}
