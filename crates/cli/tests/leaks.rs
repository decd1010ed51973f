//! A round of everything, again and again, leaves nothing: no container, volume or image at the engine, no
//! process and no descriptor of the server's. Some come by SSH, and vanish. (Workspaces share one network, which is made once.)
#![allow(clippy::unwrap_used)]

use http::Method;
use rexec_api::exec::ExecRequest;
use rexec_api::ids::{SnapshotId, WorkspaceId};
use rexec_api::snapshots::{NewSnapshot, SnapshotState};
use rexec_api::ssh::NewSshKey;
use rexec_api::terminals::NewTerminal;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::{AttachOptions, Client, Lifecycle, Received};
use rexec_engine::{Engine as _, Labels, docker::DockerEngine};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long anything may take on a busy machine; longer than the server keeps idle connections to its engine.
const PATIENCE: Duration = Duration::from_secs(180);
/// The pause before asking again.
const POLL: Duration = Duration::from_millis(100);
const ROUNDS: usize = 3;
/// Connections by SSH of one round: in a row, and of each kind that is cut.
const VISITS: usize = 10;
const CUT_VISITS: usize = 5;

/// `rexec serve` on a data directory of its own; killed when dropped.
struct Served {
    child: Child,
    client: Client,
    engine: DockerEngine,
    instance: String,
    /// Those that were taken so far.
    snapshots: Vec<SnapshotId>,
}

/// What there is of a server's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    containers: usize,
    volumes: Vec<String>,
    snapshot_images: usize,
    children: usize,
    descriptors: usize,
}

impl Account {
    /// Connections come and go; none may be left of what has been.
    fn is_within(&self, before: &Self) -> bool {
        let descriptors = self.descriptors.min(before.descriptors);
        self.descriptors <= before.descriptors && Self { descriptors, ..before.clone() } == *self
    }
}

impl Served {
    async fn start(dir: &std::path::Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rexec"));
        command
            .arg("serve")
            .current_dir(dir)
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("REXEC_SSH_PORT", free_port().to_string())
            .env("REXEC_DATA_DIR", dir);
        // Should this process be killed, `scripts/leftovers.sh` knows by the label what to take away.
        command.env("REXEC_ENGINE_LABELS", "rexec.test=leaks").env("REXEC_HOME_KEPT_SECONDS", "0");
        command.env_remove("DATABASE_URL").env("RUST_LOG", "error").stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it does not start").unwrap();
        let address = line.as_deref().and_then(|line| line.strip_prefix("Rexec is ready: ")).expect("its address");
        let client = Client::new(address).unwrap();
        until("its engine to be ready", async || {
            client.request(Method::GET, "/ready").send().await.unwrap().status().is_success()
        })
        .await;
        let (client, _) = client.register("ada@example.com", "correct horse battery").await.unwrap();
        let usual = || format!("unix://{}", rexec_server::hosts::usual_socket().display());
        let engine = DockerEngine::connect(&std::env::var("DOCKER_HOST").unwrap_or_else(|_| usual())).unwrap();
        Self { child, client, engine, instance: String::new(), snapshots: Vec::new() }
    }

    fn labels(&self) -> Labels {
        Labels::from([("rexec.instance".to_owned(), self.instance.clone())])
    }

    async fn account(&self) -> Account {
        let pid = self.child.id().unwrap();
        let mut volumes: Vec<String> =
            self.engine.volumes(&self.labels()).await.unwrap().into_iter().map(|volume| volume.name).collect();
        volumes.sort();
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let children = tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
            .map(|children| children.split_whitespace().count());
        Account {
            containers: self.engine.summaries(&self.labels()).await.unwrap().len(),
            volumes,
            snapshot_images: self.snapshot_images().await,
            children: children.sum(),
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        }
    }

    async fn snapshot_images(&self) -> usize {
        let mut count = 0;
        for id in &self.snapshots {
            let image = format!("rexec/snapshot:{}", id.0.simple());
            count += usize::from(self.engine.image(&image).await.unwrap().is_some());
        }
        count
    }

    async fn sweep(&self) {
        for container in self.engine.summaries(&self.labels()).await.unwrap() {
            self.engine.remove(&container.id).await.unwrap();
        }
        for volume in self.engine.volumes(&self.labels()).await.unwrap() {
            self.engine.remove_volume(&volume.name).await.unwrap();
        }
        for id in &self.snapshots {
            self.engine.remove_image(&format!("rexec/snapshot:{}", id.0.simple())).await.unwrap();
        }
    }
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain waited for: {what}");
        tokio::time::sleep(POLL).await;
    }
}

fn wait_ms() -> Option<u64> {
    Some(120_000)
}

async fn create(client: &Client, new: NewWorkspace) -> WorkspaceId {
    let new = NewWorkspace { memory_mb: Some(128), wait_ms: wait_ms(), ..new };
    let view = client.create_workspace(&new).await.unwrap();
    assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
    view.id
}

/// Types into a terminal until it answers, and goes away without a word.
async fn type_and_go(client: &Client, id: WorkspaceId) {
    let new = NewTerminal { cols: 80, rows: 24, ..Default::default() };
    let terminal = client.create_terminal(id, &new).await.unwrap().id;
    let mut attachment = client.attach(id, terminal, AttachOptions::default()).await.unwrap();
    attachment.input(b"echo seen-$((40+2))\n").await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("seen-42") {
        let next = tokio::time::timeout(PATIENCE, attachment.next()).await.expect("nothing came").unwrap();
        if let Received::Output { bytes, .. } | Received::Snapshot { bytes, .. } = next {
            seen.extend_from_slice(&bytes);
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A key of the account's.
async fn key(client: &Client, dir: &Path) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join("key"));
    assert!(keygen.status().await.unwrap().success());
    let public_key = std::fs::read_to_string(dir.join("key.pub")).unwrap();
    client.add_ssh_key(&NewSshKey { name: None, public_key }).await.unwrap();
}

/// Connections by SSH: some end well, some are cut while they wait or receive.
async fn come_by_ssh(client: &Client, id: WorkspaceId, dir: &Path) {
    let port = client.ssh_connect(id).await.unwrap().target.unwrap().port.to_string();
    let ssh = |command: &str| {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]);
        ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-p", &port, "-i"]);
        ssh.arg(dir.join("key")).args(["-l", &id.to_string(), "127.0.0.1", command]);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        ssh
    };
    for _ in 0..VISITS {
        assert!(ssh("true").status().await.unwrap().success());
    }
    let mut cut = Vec::new();
    for command in ["echo here; sleep 1000", "echo here; cat /dev/zero"] {
        for _ in 0..CUT_VISITS {
            let mut child = ssh(command).spawn().unwrap();
            let mut line = String::new();
            let mut stdout = BufReader::new(child.stdout.take().unwrap());
            let read = tokio::time::timeout(PATIENCE, stdout.read_line(&mut line)).await;
            read.expect("it does not connect").unwrap();
            assert_eq!(line, "here\n");
            cut.push((child, stdout));
        }
    }
    for (mut child, _) in cut {
        child.kill().await.unwrap();
    }
}

/// Follows a stream of events for one piece, and goes away.
async fn follow_and_go(client: &Client, path: &str) {
    let mut response = client.request(Method::GET, path).send().await.unwrap();
    assert!(response.status().is_success(), "{path}");
    assert!(tokio::time::timeout(PATIENCE, response.chunk()).await.expect("nothing came").unwrap().is_some());
}

/// Gives the snapshot that it took and deleted.
async fn round(client: &Client, dir: &Path) -> SnapshotId {
    let id = create(client, NewWorkspace { disk_gb: Some(5), ..Default::default() }).await;
    type_and_go(client, id).await;
    come_by_ssh(client, id, dir).await;
    let command = ["/bin/sh", "-c", "sleep 1000 & echo done > ~/made"].map(str::to_owned).to_vec();
    client.exec(id, &ExecRequest { command, ..Default::default() }).await.unwrap();
    assert_eq!(client.read_file(id, "/home/user/made").await.unwrap(), "done\n".as_bytes());
    client.write_file(id, "/home/user/sent", vec![7u8; 1 << 20]).await.unwrap();
    follow_and_go(client, &format!("/api/workspaces/{id}/stats?history=1")).await;
    follow_and_go(client, "/api/events").await;
    client.lifecycle(id, Lifecycle::Pause).await.unwrap();
    client.lifecycle(id, Lifecycle::Resume).await.unwrap();

    let snapshot = NewSnapshot { wait_ms: wait_ms(), ..Default::default() };
    let snapshot = client.take_snapshot(id, &snapshot).await.unwrap();
    assert_eq!(snapshot.state, SnapshotState::Ready, "{snapshot:?}");
    let cloned = create(client, NewWorkspace { snapshot: Some(snapshot.id), ..Default::default() }).await;
    client.lifecycle(id, Lifecycle::Restart).await.unwrap();
    client.purge_workspace(cloned).await.unwrap();
    client.delete_snapshot(snapshot.id).await.unwrap();
    client.lifecycle(id, Lifecycle::Stop).await.unwrap();
    client.purge_workspace(id).await.unwrap();

    // What cannot be made: no such image, no such runtime, no such snapshot.
    for new in [
        NewWorkspace { image: Some("localhost:1/none:1".into()), wait_ms: wait_ms(), ..Default::default() },
        NewWorkspace { runtime: Some("none".into()), ..Default::default() },
        NewWorkspace { snapshot: Some(snapshot.id), ..Default::default() },
    ] {
        assert!(client.create_workspace(&new).await.is_err(), "{new:?}");
    }
    snapshot.id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_of_everything_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut served = Served::start(dir.path()).await;
    let first = create(&served.client, NewWorkspace::default()).await;
    let labels = Labels::from([("rexec.workspace".to_owned(), first.to_string())]);
    let container = served.engine.containers(&labels).await.unwrap().remove(0);
    served.instance = container.labels["rexec.instance"].clone();
    served.client.purge_workspace(first).await.unwrap();

    key(&served.client, dir.path()).await;
    let rounds = async {
        // The first round fills what is kept: connections to the engine and to the database.
        let taken = round(&served.client, dir.path()).await;
        served.snapshots.push(taken);
        until("the first round to be over", async || {
            let account = served.account().await;
            account.containers == 0 && account.snapshot_images == 0
        })
        .await;
        let before = served.account().await;
        assert!(before.children == 0 && before.snapshot_images == 0, "{before:?}");
        for _ in 0..ROUNDS {
            let taken = round(&served.client, dir.path()).await;
            served.snapshots.push(taken);
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let after = served.account().await;
            if after.is_within(&before) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{after:?} is left, it was {before:?}");
            tokio::time::sleep(POLL).await;
        }
    };
    let outcome = std::panic::AssertUnwindSafe(rounds);
    let outcome = futures_util::FutureExt::catch_unwind(outcome).await;
    served.sweep().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
