//! A server that dies in the middle: whatever the line, the next one makes whole what it finds, and
//! nothing is left over.
//!
//! The real command is killed by the crash point named to it (`crates/server/src/crash.rs`) on a
//! data directory of its own, and started again without.
#![allow(clippy::unwrap_used)]

use futures_util::FutureExt as _;
use http::Method;
use rexec_api::exec::ExecRequest;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::Client;
use rexec_engine::{Engine as _, Labels, docker::DockerEngine};
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long anything may take that involves the engine on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause before asking again.
const POLL: Duration = Duration::from_millis(20);
const KILL: i32 = 9;
const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery";

/// `rexec serve` on a data directory; killed when dropped.
struct Served {
    child: Child,
    client: Client,
}

impl Served {
    async fn start(dir: &Path, crash_at: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rexec"));
        command.arg("serve").current_dir(dir).env("HOST", "127.0.0.1").env("PORT", "0").env("REXEC_DATA_DIR", dir);
        // Should this process be killed, `scripts/leftovers.sh` knows by the label what to take away.
        command.env("REXEC_ENGINE_LABELS", "rexec.test=crash");
        command.env_remove("DATABASE_URL").env("RUST_LOG", "error").stdout(Stdio::piped()).kill_on_drop(true);
        if let Some(point) = crash_at {
            command.env("REXEC_CRASH_AT", point);
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it does not start").unwrap();
        let address = line.as_deref().and_then(|line| line.strip_prefix("Rexec is ready: ")).expect("its address");
        let served = Self { client: Client::new(address).unwrap(), child };
        served.until_ready().await;
        served
    }

    /// Until its engine can be used.
    async fn until_ready(&self) {
        let ready = async {
            while !self.client.request(Method::GET, "/ready").send().await.unwrap().status().is_success() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("its engine does not become ready");
    }

    async fn until_dead(mut self) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it lives on").unwrap();
        assert_eq!(status.signal(), Some(KILL), "{status}");
    }
}

fn engine() -> DockerEngine {
    let usual = || format!("unix://{}", rexec_server::hosts::usual_socket().display());
    DockerEngine::connect(&std::env::var("DOCKER_HOST").unwrap_or_else(|_| usual())).unwrap()
}

fn labels(id: WorkspaceId) -> Labels {
    Labels::from([("rexec.workspace".to_owned(), id.to_string())])
}

async fn remove_remains(ids: &[WorkspaceId]) {
    let engine = engine();
    for id in ids {
        for container in engine.containers(&labels(*id)).await.unwrap() {
            engine.remove(&container.id).await.unwrap();
        }
        for volume in engine.volumes(&labels(*id)).await.unwrap() {
            engine.remove_volume(&volume.name).await.unwrap();
        }
    }
}

fn small() -> NewWorkspace {
    NewWorkspace { memory_mb: Some(128), wait_ms: Some(PATIENCE.as_millis() as u64), ..Default::default() }
}

/// Dies at a point of a creation, comes back, and finds or makes all of the workspace.
async fn creation_survives(point: &str, made: &mut Vec<WorkspaceId>) {
    let dir = tempfile::tempdir().unwrap();
    let first = Served::start(dir.path(), Some(point)).await;
    let (client, _) = first.client.register(EMAIL, PASSWORD).await.unwrap();
    let answer = client.create_workspace(&small()).await;
    assert!(answer.is_err(), "{point}: it answered before it died: {answer:?}");
    first.until_dead().await;

    let second = Served::start(dir.path(), None).await;
    let (client, _) = second.client.log_in(EMAIL, PASSWORD).await.unwrap();
    let found = client.workspaces().await.unwrap().items;
    made.extend(found.iter().map(|view| view.id));
    assert_eq!(found.len(), 1, "{point}: what was recorded is there, once");
    let id = found[0].id;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while client.workspace(id).await.unwrap().status != WorkspaceStatus::Running {
        assert!(tokio::time::Instant::now() < deadline, "{point}: {:?}", client.workspace(id).await);
        tokio::time::sleep(POLL).await;
    }
    let command = ["/bin/sh", "-c", "touch ~/kept && echo alive"].map(str::to_owned).to_vec();
    let alive = client.exec(id, &ExecRequest { command, ..Default::default() }).await.unwrap();
    assert_eq!(alive.stdout, "alive\n", "{point}");
    assert_eq!(engine().containers(&labels(id)).await.unwrap().len(), 1, "{point}: one container");
    assert_eq!(engine().volumes(&labels(id)).await.unwrap().len(), 1, "{point}: one home");

    let other = client.create_workspace(&small()).await.unwrap();
    made.push(other.id);
    assert_eq!(other.status, WorkspaceStatus::Running, "{point}: the same succeeds");
    for id in [id, other.id] {
        client.purge_workspace(id).await.unwrap();
        assert!(engine().containers(&labels(id)).await.unwrap().is_empty(), "{point}: nothing left over");
        assert!(engine().volumes(&labels(id)).await.unwrap().is_empty(), "{point}: nothing left over");
    }
}

#[tokio::test]
async fn a_creation_survives_a_crash_at_every_point() {
    for point in rexec_server::crash::POINTS.iter().filter(|point| point.starts_with("create.")) {
        let mut made = Vec::new();
        let outcome = AssertUnwindSafe(creation_survives(point, &mut made)).catch_unwind().await;
        remove_remains(&made).await;
        if let Err(panic) = outcome {
            eprintln!("at {point}");
            resume_unwind(panic);
        }
    }
}
