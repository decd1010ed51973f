//! OpenSSH's server with keys of its own, on a free port of the loopback or of another network's address.
//!
//! It ends with its value, and with this process however that ends: a shell waits for our end of its input.

use super::local_socket;
use crate::docker::{Address, DockerEngine, Endpoint, KnownHost, PrivateKey, SshMaterial};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian and others keep it; it wants to be called by its whole path.
const SSHD: &str = "/usr/sbin/sshd";
/// It refuses to start without it.
const PRIVILEGE_DIRECTORY: &str = "/run/sshd";
const PATIENCE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const PORTS_TRIED_MAX: usize = 8;
const SCRIPT: &str = r#""$0" -D -e -f "$1" 2>>"$2" & echo $!; read _; kill $! 2>/dev/null; wait"#;

pub struct Sshd {
    dir: tempfile::TempDir,
    port: u16,
    /// Where it listens.
    address: Ipv4Addr,
    /// Goes before its command line: what has it run elsewhere.
    enter: Vec<String>,
    socket: PathBuf,
    /// Lines for its configuration, before all others.
    more: String,
    running: Option<Running>,
}

struct Running {
    shell: Child,
    sshd: u32,
}

impl Sshd {
    /// `more` is for its configuration and wins over what is there.
    pub fn start(more: &str) -> Sshd {
        Self::start_at(more, Vec::new(), Ipv4Addr::LOCALHOST, local_socket())
    }

    /// One on another machine, as far as a network of its own makes one: `enter` is the command that runs the rest of its
    /// line there, and `socket` the engine's.
    pub fn start_in(enter: impl Into<Vec<String>>, address: Ipv4Addr, socket: PathBuf) -> Sshd {
        Self::start_at("", enter.into(), address, socket)
    }

    fn start_at(more: &str, enter: Vec<String>, address: Ipv4Addr, socket: PathBuf) -> Sshd {
        assert!(Path::new(SSHD).exists(), "{SSHD} is missing: apt-get install openssh-server");
        let _ = std::fs::create_dir_all(PRIVILEGE_DIRECTORY);
        let dir = tempfile::tempdir().expect("a directory");
        for (name, kind) in [("client", "ed25519"), ("host_ed25519", "ed25519"), ("host_rsa", "rsa")] {
            keygen(&dir.path().join(name), kind);
        }
        let mut server = Sshd { dir, port: 0, address, enter, socket, more: more.into(), running: None };
        for _ in 0..PORTS_TRIED_MAX {
            server.port = free_port();
            if server.try_run() {
                return server;
            }
        }
        panic!("sshd does not start: {}", server.log());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `DOCKER_HOST` has it.
    pub fn address(&self) -> String {
        format!("ssh://{}@{}:{}{}", user(), self.address, self.port, self.socket.display())
    }

    /// The private key of who may log in.
    pub fn key(&self) -> String {
        self.read("client")
    }

    /// Of one of its host keys: `ed25519` or `rsa`.
    pub fn host_key(&self, kind: &str) -> KnownHost {
        KnownHost::parse(&self.read(&format!("host_{kind}.pub"))).expect("a public key")
    }

    pub fn engine(&self, known: Option<KnownHost>) -> DockerEngine {
        self.engine_with(&self.key(), known)
    }

    pub fn engine_with(&self, key: &str, known: Option<KnownHost>) -> DockerEngine {
        let endpoint = Endpoint::parse(&self.address()).expect("an address");
        let key = PrivateKey::read(key).expect("a private key");
        let address = Address::new(&endpoint, None, Some(SshMaterial { key, known })).expect("an address with a key");
        DockerEngine::at(address).expect("an engine")
    }

    /// How many are connected.
    pub fn connections(&self) -> usize {
        self.running.as_ref().map_or(0, |running| children_of(running.sshd).len())
    }

    /// Ends it with all of its connections, at once.
    pub fn kill(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let mut doomed = vec![running.sshd];
        let mut next = 0;
        while let Some(&pid) = doomed.get(next) {
            doomed.extend(children_of(pid));
            next += 1;
        }
        for pid in doomed {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        drop(running.shell.stdin.take());
        let _ = running.shell.wait();
    }

    /// Starts it again at the same port.
    pub fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
        while !self.try_run() {
            assert!(Instant::now() < deadline, "sshd does not start again: {}", self.log());
        }
    }

    /// Puts options before the key of who may log in (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
    pub fn limit_key(&self, options: &str) {
        let line = self.read("client.pub");
        let key = line.find("ssh-ed25519 ").map_or("", |at| &line[at..]);
        std::fs::write(self.dir.path().join("client.pub"), format!("{options} {key}")).expect("writes");
    }

    /// As a machine that was set up anew, or another one.
    pub fn change_host_keys(&mut self) {
        for (name, kind) in [("host_ed25519", "ed25519"), ("host_rsa", "rsa")] {
            let path = self.dir.path().join(name);
            std::fs::remove_file(&path).expect("removes");
            let _ = std::fs::remove_file(path.with_extension("pub"));
            keygen(&path, kind);
        }
        self.restart();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).expect("reads")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Whether it took its port.
    fn try_run(&mut self) -> bool {
        let at = |name: &str| self.dir.path().join(name);
        let config = format!(
            "{}\nPort {}\nListenAddress {}\nHostKey {}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nPrintMotd no\nMaxStartups 1000\n",
            self.more,
            self.port,
            self.address,
            at("host_ed25519").display(),
            at("host_rsa").display(),
            at("client.pub").display(),
        );
        std::fs::write(at("config"), config).expect("writes");
        let mut words = self.enter.iter().map(String::as_str).chain(["/bin/sh", "-c", SCRIPT, SSHD]);
        let mut shell = Command::new(words.next().expect("a command"))
            .args(words)
            .args([at("config"), at("log")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell runs");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut line).expect("reads");
        let sshd = line.trim().parse().expect("a process id");
        self.running = Some(Running { shell, sshd });
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && is_alive(sshd) {
            if TcpStream::connect((self.address, self.port)).is_ok() {
                // Somebody else may have it.
                return is_alive(sshd);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        self.kill();
        false
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn user() -> String {
    let name = std::env::var("USER").ok().filter(|name| !name.is_empty());
    if rustix::process::getuid().is_root() { "root".into() } else { name.unwrap_or_else(|| "root".into()) }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
    listener.local_addr().expect("an address").port()
}

fn keygen(path: &Path, kind: &str) {
    let done = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-C", "test", "-f"]).arg(path).status();
    assert!(done.expect("ssh-keygen is installed").success());
}

fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may have anything in it (proc(5)).
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("reads").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| stat(pid).is_some_and(|(state, of)| of == parent && state != 'Z')).collect()
}
