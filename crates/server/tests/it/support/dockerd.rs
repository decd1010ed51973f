//! A second `dockerd` on this machine, for one test: its own directories, bridge and socket, and no rules of its own.
//!
//! Without `--iptables=false` its start would take the rules of the machine's first daemon away; without a bridge of its
//! own, that one's bridge. In a network of its own ([`Apart`]) it does as it does on a machine of its own.

use super::apart::{Apart, output, run};
use super::held::HeldRunc;
use super::workspaces::{PATIENCE, eventually};
use rexec_engine::{Engine as _, docker::DockerEngine, firewall};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// The network of workspaces, as servers call it that are told nothing else.
const NETWORK: &str = "rexec";

pub struct Dockerd {
    dir: tempfile::TempDir,
    bridge: String,
    process: Option<Child>,
    /// The bridge of the workspaces' network there.
    inner: Option<String>,
    /// The network that it has for itself.
    apart: Option<Apart>,
    /// For its command line, besides.
    more: Vec<String>,
    /// Where it looks for programs, if not where everybody does.
    search_path: Option<String>,
    /// Files that are named there.
    _files: Option<tempfile::TempDir>,
}

impl Dockerd {
    pub async fn start() -> Dockerd {
        Self::start_also(Vec::new(), None).await
    }

    /// One that makes its containers by this `runc`; they outlive it or not.
    pub async fn start_behind(runc: &HeldRunc, live_restore: bool) -> Dockerd {
        Self::start_also(vec![format!("--live-restore={live_restore}")], Some(runc.search_path())).await
    }

    /// One that listens with TLS too, with the certificates of a directory, as a workspace server does.
    pub async fn start_tls(certs: &std::path::Path, port: u16) -> Dockerd {
        let file = |option: &str, name: &str| format!("--{option}={}", certs.join(name).display());
        let more = vec![
            "--tlsverify".into(),
            file("tlscacert", "ca.pem"),
            file("tlscert", "server-cert.pem"),
            file("tlskey", "server-key.pem"),
            format!("--host=tcp://127.0.0.1:{port}"),
        ];
        Self::start_also(more, None).await
    }

    /// One with a disk of so little room.
    pub async fn start_small(mib: u32) -> Dockerd {
        let dir = directory();
        let data = dir.path().join("data").display().to_string();
        std::fs::create_dir(&data).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "rexec-test", &data]).await;
        Self::start_with(dir, Vec::new(), None).await
    }

    async fn start_also(more: Vec<String>, search_path: Option<String>) -> Dockerd {
        Self::start_with(directory(), more, search_path).await
    }

    async fn start_with(dir: tempfile::TempDir, more: Vec<String>, search_path: Option<String>) -> Dockerd {
        // 15 bytes at most.
        let bridge = format!("rxd{:07}{}", std::process::id(), &uuid::Uuid::new_v4().simple().to_string()[..5]);
        run("ip", &["link", "add", &bridge, "type", "bridge"]).await;
        let third: u8 = rand::random();
        run("ip", &["addr", "add", &format!("10.217.{third}.1/24"), "dev", &bridge]).await;
        run("ip", &["link", "set", &bridge, "up"]).await;
        let mut daemon =
            Dockerd { dir, bridge, process: None, inner: None, apart: None, more, search_path, _files: None };
        daemon.resume().await;
        daemon
    }

    /// One with a network of its own; `more` is for its command line.
    pub async fn start_apart(more: &[&str]) -> Dockerd {
        let more = more.iter().map(|&word| word.to_owned()).collect();
        Self::start_in(Apart::make().await, more, None).await
    }

    /// The same in one that is there already; `files` are what `more` names.
    pub async fn start_in(apart: Apart, more: Vec<String>, files: Option<tempfile::TempDir>) -> Dockerd {
        let (dir, apart) = (directory(), Some(apart));
        let mut daemon = Dockerd {
            dir,
            bridge: String::new(),
            process: None,
            inner: None,
            apart,
            more,
            search_path: None,
            _files: files,
        };
        daemon.resume().await;
        daemon
    }

    pub fn apart(&self) -> &Apart {
        self.apart.as_ref().expect("it has a network of its own")
    }

    pub fn socket(&self) -> String {
        self.path("sock").display().to_string()
    }

    pub fn engine(&self) -> DockerEngine {
        DockerEngine::connect(&format!("unix://{}", self.socket())).unwrap()
    }

    /// Starts it, or starts it again on what it had.
    pub async fn resume(&mut self) {
        let path = |name: &str| self.path(name).display().to_string();
        let log = std::fs::File::create(self.path("log")).unwrap();
        let (data, exec, pid) = (path("data"), path("exec"), path("pid"));
        let host = format!("unix://{}", self.socket());
        // That of the machine's first daemon may have containers outlive it.
        let config = path("daemon.json");
        std::fs::write(&config, "{}").unwrap();
        let mut command = match &self.apart {
            Some(apart) => {
                let [nsenter, net] = apart.enter();
                let mut command = Command::new(nsenter);
                command.args([&net, "dockerd"]);
                command
            }
            None => {
                let mut command = Command::new("dockerd");
                command.args(["--bridge", &self.bridge, "--iptables=false", "--ip6tables=false", "--ip-masq=false"]);
                command
            }
        };
        if let Some(path) = &self.search_path {
            command.env("PATH", path);
        }
        let process = command
            .args(["--data-root", &data, "--exec-root", &exec, "--pidfile", &pid, "--host", &host])
            .args(["--config-file", &config])
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("dockerd is installed");
        self.process = Some(process);
        let engine = self.engine();
        let answers = async {
            while engine.ping().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, answers).await.is_err() {
            panic!("no second dockerd: {}", std::fs::read_to_string(self.path("log")).unwrap());
        }
    }

    /// Ends it and all that runs on it at once, as a machine does whose power fails.
    pub async fn pause(&mut self) {
        if let Some(mut process) = self.process.take() {
            let named = "{{index .Options \"com.docker.network.bridge.name\"}}";
            let address = format!("unix://{}", self.socket());
            let inner = output("docker", &["--host", &address, "network", "inspect", "--format", named, NETWORK]).await;
            self.inner = inner.map(|name| name.trim().to_owned()).filter(|name| name.starts_with("rexec-"));
            process.kill().await.unwrap();
        }
        // Its containerd goes with it, though not at once.
        let exec = self.exec_root();
        let of_it = || processes().filter(|(_, _, command)| command.contains(&exec)).map(|(pid, ..)| pid);
        let doomed: Vec<u32> = of_it().collect();
        let inside = processes().filter(|(_, parent, _)| doomed.contains(parent)).map(|(pid, ..)| pid);
        for pid in inside.collect::<Vec<_>>().into_iter().chain(doomed) {
            output("kill", &["-KILL", &pid.to_string()]).await;
        }
        // One that was about to be started when the others were ended.
        eventually("its processes to be gone", async || {
            let left: Vec<u32> = of_it().collect();
            for pid in &left {
                output("kill", &["-KILL", &pid.to_string()]).await;
            }
            left.is_empty().then_some(())
        })
        .await;
        self.forget_processes();
    }

    /// Ends the daemon alone: what it runs goes on, and what it was about to run stays half made.
    pub async fn kill(&mut self) {
        self.process.take().expect("it runs").kill().await.unwrap();
        // Its containerd goes with it, though not at once.
        let is_its = |command: &str| command.starts_with("containerd\0") && command.contains(&self.exec_root());
        let is_gone = || !processes().any(|(_, _, command)| is_its(&command));
        eventually("its containerd to be gone", async || is_gone().then_some(())).await;
        self.forget_processes();
    }

    /// The processes that look after one container each, of those that run and of those that nobody knows any more.
    pub fn shims(&self) -> usize {
        let is_its = |command: &str| command.contains("containerd-shim") && command.contains(&self.exec_root());
        processes().filter(|(_, _, command)| is_its(command)).count()
    }

    fn exec_root(&self) -> String {
        self.path("exec").display().to_string()
    }

    /// As /run is empty after a machine's end: the next daemon would take a process that nobody has collected yet for one
    /// that still runs.
    fn forget_processes(&self) {
        for file in ["pid", "exec/containerd/containerd.pid"] {
            let _ = std::fs::remove_file(self.path(file));
        }
    }

    /// Ends it and removes what it had of this machine.
    pub async fn remove(mut self) {
        self.pause().await;
        // What only the daemon or the containers had mounted.
        for mount in mounts(self.dir.path()) {
            output("umount", &["--lazy", &mount]).await;
        }
        if let Some(apart) = self.apart {
            return apart.remove().await;
        }
        if let Some(bridge) = &self.inner {
            let _ = firewall::forget_bridge(bridge).await;
            // There is one where it was reached as another machine is.
            output("nft", &["delete", "table", "inet", &format!("rexec-{bridge}")]).await;
            output("ip", &["link", "del", bridge]).await;
        }
        output("ip", &["link", "del", &self.bridge]).await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Named so that `scripts/leftovers.sh` knows whose it was.
fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix(&format!("rexec-dockerd-{}-", std::process::id())).tempdir().unwrap()
}

/// Every process: its id, its parent's, and its command line.
fn processes() -> impl Iterator<Item = (u32, u32, String)> {
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let command = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some((pid, parent, String::from_utf8_lossy(&command).into_owned()))
    })
}

/// What is mounted below a directory, the innermost first.
fn mounts(below: &std::path::Path) -> Vec<String> {
    let below = below.display().to_string();
    let all = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let paths = all.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| path.starts_with(&below));
    let mut paths: Vec<String> = paths.map(str::to_owned).collect();
    paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
    paths
}
