//! A server that dies in the middle: whatever the line, the next one makes whole what it finds, and
//! nothing is left over.
//!
//! The real command is killed by the crash point named to it (`crates/server/src/crash.rs`) on a
//! data directory of its own, and started again without.
#![allow(clippy::unwrap_used)]

use futures_util::FutureExt as _;
use http::Method;
use rexec_api::exec::ExecRequest;
use rexec_api::ids::{SnapshotId, WorkspaceId};
use rexec_api::snapshots::{NewSnapshot, SnapshotState};
use rexec_api::volumes::{RestoreVolume, VolumeState};
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

async fn remove_snapshots(ids: &[SnapshotId]) {
    let engine = engine();
    for id in ids {
        for volume in engine.volumes(&snapshot_labels(*id)).await.unwrap() {
            engine.remove_volume(&volume.name).await.unwrap();
        }
        // Most are gone by then.
        let _ = engine.remove_image(&image(*id)).await;
    }
}

fn snapshot_labels(id: SnapshotId) -> Labels {
    Labels::from([("rexec.snapshot".to_owned(), id.to_string())])
}

fn image(id: SnapshotId) -> String {
    format!("rexec/snapshot:{}", id.0.simple())
}

/// What a test made, to be taken away should it fail.
#[derive(Default)]
struct Made {
    workspaces: Vec<WorkspaceId>,
    snapshots: Vec<SnapshotId>,
}

/// Asks again until it is so.
async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain waited for: {what}");
        tokio::time::sleep(POLL).await;
    }
}

async fn run(client: &Client, id: WorkspaceId, script: &str) -> String {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    client.exec(id, &ExecRequest { command, ..Default::default() }).await.unwrap().stdout
}

async fn until_running(client: &Client, id: WorkspaceId, point: &str) {
    let runs = async || client.workspace(id).await.unwrap().status == WorkspaceStatus::Running;
    eventually(&format!("{point}: it to run"), runs).await;
}

fn new_snapshot() -> NewSnapshot {
    NewSnapshot { wait_ms: Some(PATIENCE.as_millis() as u64), ..Default::default() }
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

/// Dies at a point of a deletion: the home is kept all the same, and can be had back.
async fn deletion_survives(point: &str, made: &mut Made) {
    let dir = tempfile::tempdir().unwrap();
    let first = Served::start(dir.path(), Some(point)).await;
    let (client, _) = first.client.register(EMAIL, PASSWORD).await.unwrap();
    let id = client.create_workspace(&small()).await.unwrap().id;
    made.workspaces.push(id);
    run(&client, id, "echo mine > ~/kept").await;
    // Whether it is answered before it dies is a race at the last point.
    let _ = client.delete_workspace(id).await;
    let purged = point.starts_with("purge.");
    if purged {
        let kept = client.volumes().await.unwrap().items.remove(0);
        let _ = client.purge_volume(kept.id).await;
    }
    first.until_dead().await;

    let second = Served::start(dir.path(), None).await;
    let (client, _) = second.client.log_in(EMAIL, PASSWORD).await.unwrap();
    assert!(client.workspaces().await.unwrap().items.is_empty(), "{point}: it is deleted");
    eventually(&format!("{point}: its container to go"), async || {
        engine().containers(&labels(id)).await.unwrap().is_empty()
    })
    .await;
    if purged {
        eventually(&format!("{point}: its home to go"), async || {
            engine().volumes(&labels(id)).await.unwrap().is_empty() && client.volumes().await.unwrap().items.is_empty()
        })
        .await;
        return;
    }
    eventually(&format!("{point}: its home to be kept"), async || {
        client.volumes().await.unwrap().items.iter().any(|volume| volume.state == VolumeState::Kept)
    })
    .await;
    let kept = client.volumes().await.unwrap().items.remove(0);
    let request = RestoreVolume { wait_ms: small().wait_ms, ..Default::default() };
    let back = client.restore_volume(kept.id, &request).await.unwrap();
    made.workspaces.push(back.id);
    assert_eq!(run(&client, back.id, "cat ~/kept").await, "mine\n", "{point}");
    client.purge_workspace(back.id).await.unwrap();
    assert!(engine().volumes(&labels(id)).await.unwrap().is_empty(), "{point}: nothing left over");
}

/// Dies at a point of a snapshot, of a clone's filling, or of a snapshot's removal.
async fn snapshot_survives(point: &str, made: &mut Made) {
    let dir = tempfile::tempdir().unwrap();
    let first = Served::start(dir.path(), Some(point)).await;
    let (client, _) = first.client.register(EMAIL, PASSWORD).await.unwrap();
    let id = client.create_workspace(&small()).await.unwrap().id;
    made.workspaces.push(id);
    run(&client, id, "echo mine > ~/kept").await;
    let taken = client.take_snapshot(id, &new_snapshot()).await;
    if let Ok(taken) = &taken {
        made.snapshots.push(taken.id);
        match point {
            "purge.image" => drop(client.delete_snapshot(taken.id).await),
            _ => drop(client.create_workspace(&NewWorkspace { snapshot: Some(taken.id), ..small() }).await),
        }
    }
    first.until_dead().await;

    let second = Served::start(dir.path(), None).await;
    let (client, _) = second.client.log_in(EMAIL, PASSWORD).await.unwrap();
    for view in client.workspaces().await.unwrap().items {
        made.workspaces.push(view.id);
        until_running(&client, view.id, point).await;
        assert_eq!(run(&client, view.id, "cat ~/kept").await, "mine\n", "{point}");
    }
    let listed = client.snapshots().await.unwrap().items;
    made.snapshots.extend(listed.iter().map(|snapshot| snapshot.id));
    match listed.first() {
        None => assert_eq!(point, "purge.image"),
        Some(found) if point.starts_with("fill.") || point == "snapshot.ready" => {
            assert_eq!(found.state, SnapshotState::Ready, "{point}");
        }
        Some(found) => assert_eq!(found.state, SnapshotState::Failed, "{point}: {found:?}"),
    }
    // Whatever is not ready leaves nothing at the engine.
    let ready: Vec<_> = listed.iter().filter(|s| s.state == SnapshotState::Ready).map(|s| s.id).collect();
    for &snapshot in made.snapshots.iter().filter(|id| !ready.contains(id)) {
        eventually(&format!("{point}: its remains to go"), async || {
            engine().volumes(&snapshot_labels(snapshot)).await.unwrap().is_empty()
                && engine().image(&image(snapshot)).await.unwrap().is_none()
        })
        .await;
    }
    let again = client.take_snapshot(id, &new_snapshot()).await.unwrap();
    made.snapshots.push(again.id);
    assert_eq!(again.state, SnapshotState::Ready, "{point}: the same succeeds");
    for view in client.workspaces().await.unwrap().items {
        client.purge_workspace(view.id).await.unwrap();
    }
    for &snapshot in &made.snapshots {
        // The failed ones are listed, too; one that is gone already is not found.
        let _ = client.delete_snapshot(snapshot).await;
        eventually(&format!("{point}: nothing to be left over"), async || {
            engine().volumes(&snapshot_labels(snapshot)).await.unwrap().is_empty()
                && engine().image(&image(snapshot)).await.unwrap().is_none()
        })
        .await;
    }
}

/// Tries every point of these families; whatever fails, nothing made stays.
async fn at_every_point(families: &[&str], survives: impl AsyncFn(&str, &mut Made)) {
    let is_of = |point: &&&str| families.iter().any(|family| point.starts_with(family));
    for point in rexec_server::crash::POINTS.iter().filter(is_of) {
        let mut made = Made::default();
        let outcome = AssertUnwindSafe(survives(point, &mut made)).catch_unwind().await;
        remove_remains(&made.workspaces).await;
        remove_snapshots(&made.snapshots).await;
        if let Err(panic) = outcome {
            eprintln!("at {point}");
            resume_unwind(panic);
        }
    }
}

#[tokio::test]
async fn a_deletion_survives_a_crash_at_every_point() {
    at_every_point(&["delete.", "purge.volume"], deletion_survives).await;
}

#[tokio::test]
async fn a_snapshot_survives_a_crash_at_every_point() {
    at_every_point(&["snapshot.", "fill.", "purge.image"], snapshot_survives).await;
}
