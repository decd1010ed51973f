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
use sqlx::{Connection as _, Executor as _};
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, resume_unwind};
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

#[derive(Debug, Clone, Copy)]
enum Backend {
    Sqlite,
    Postgres,
}

/// Where a server keeps its data: a directory, and a database in it or on PostgreSQL.
struct Place {
    dir: tempfile::TempDir,
    database: Option<Database>,
}

struct Database {
    admin_url: String,
    name: String,
    url: String,
}

impl Place {
    async fn new(backend: Backend) -> Self {
        let database = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(Database::create().await),
        };
        Self { dir: tempfile::tempdir().unwrap(), database }
    }

    async fn remove(self) {
        if let Some(database) = self.database {
            database.execute("DROP DATABASE", "WITH (FORCE)").await;
        }
    }
}

impl Database {
    async fn create() -> Self {
        let admin_url = std::env::var("REXEC_TEST_POSTGRES_URL")
            .expect("REXEC_TEST_POSTGRES_URL is not set: run `make test`, which starts a PostgreSQL for the tests");
        let name = format!("rexec_test_{}", uuid::Uuid::new_v4().simple());
        let (server, query) = admin_url.split_once('?').unwrap_or((&admin_url, ""));
        let (host, _) = server.rsplit_once('/').unwrap();
        let url = format!("{host}/{name}?{query}").trim_end_matches('?').to_owned();
        let database = Self { url, admin_url, name };
        database.execute("CREATE DATABASE", "").await;
        database
    }

    async fn execute(&self, verb: &str, rest: &str) {
        let mut admin = sqlx::PgConnection::connect(&self.admin_url).await.unwrap();
        let statement = format!("{verb} {} {rest}", self.name);
        admin.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
        admin.close().await.unwrap();
    }
}

/// `rexec serve` on a place; killed when dropped.
struct Served {
    child: Child,
    client: Client,
}

impl Served {
    async fn start(place: &Place, crash_at: Option<&str>) -> Self {
        let dir = place.dir.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rexec"));
        command
            .arg("serve")
            .current_dir(dir)
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("REXEC_SSH_PORT", "0")
            .env("REXEC_DATA_DIR", dir);
        // Should this process be killed, `scripts/leftovers.sh` knows by the label what to take away.
        command.env("REXEC_ENGINE_LABELS", "rexec.test=crash");
        match &place.database {
            Some(database) => command.env("DATABASE_URL", &database.url),
            None => command.env_remove("DATABASE_URL"),
        };
        // Required beside an external database.
        command.env("JWT_SECRET", "a secret of the tests alone");
        command.env("RUST_LOG", "error").stdout(Stdio::piped()).kill_on_drop(true);
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

/// Whether the engine has nothing of a snapshot.
async fn is_gone(id: SnapshotId) -> bool {
    engine().volumes(&snapshot_labels(id)).await.unwrap().is_empty()
        && engine().image(&image(id)).await.unwrap().is_none()
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
async fn creation_survives(point: &str, place: &Place, made: &mut Made) {
    let first = Served::start(place, Some(point)).await;
    let (client, _) = first.client.register(EMAIL, PASSWORD).await.unwrap();
    let answer = client.create_workspace(&small()).await;
    assert!(answer.is_err(), "{point}: it answered before it died: {answer:?}");
    first.until_dead().await;

    let second = Served::start(place, None).await;
    let (client, _) = second.client.log_in(EMAIL, PASSWORD).await.unwrap();
    let found = client.workspaces().await.unwrap().items;
    made.workspaces.extend(found.iter().map(|view| view.id));
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
    made.workspaces.push(other.id);
    assert_eq!(other.status, WorkspaceStatus::Running, "{point}: the same succeeds");
    for id in [id, other.id] {
        client.purge_workspace(id).await.unwrap();
        assert!(engine().containers(&labels(id)).await.unwrap().is_empty(), "{point}: nothing left over");
        assert!(engine().volumes(&labels(id)).await.unwrap().is_empty(), "{point}: nothing left over");
    }
}

/// Dies at a point of a set-up: the next server sees it to its end, each step after the one before it.
async fn setup_survives(point: &str, place: &Place, made: &mut Made) {
    let templates = place.dir.path().join("templates");
    std::fs::create_dir(&templates).unwrap();
    let template = "name = 'Test'\ndescription = 'Of a test.'\nicon = 'x'\nimage = 'rexec/base:latest'\nsize_mb = 1\n\
        [[setup]]\nname = 'One'\nrun = 'echo 1 >> ~/steps'\n[[setup]]\nname = 'Two'\nrun = 'echo 2 >> ~/steps'\n";
    std::fs::write(templates.join("test.toml"), template).unwrap();
    std::fs::write(place.dir.path().join(".env"), format!("REXEC_TEMPLATES_DIR={}\n", templates.display())).unwrap();
    let first = Served::start(place, Some(point)).await;
    let (client, _) = first.client.register(EMAIL, PASSWORD).await.unwrap();
    // Whether it is answered before it dies is a race.
    let _ = client.create_workspace(&NewWorkspace { template: Some("test".into()), ..small() }).await;
    first.until_dead().await;

    let second = Served::start(place, None).await;
    let (client, _) = second.client.log_in(EMAIL, PASSWORD).await.unwrap();
    let id = client.workspaces().await.unwrap().items[0].id;
    made.workspaces.push(id);
    eventually(&format!("{point}: the set-up to be done"), async || {
        let answer = client.request(Method::GET, &format!("/api/workspaces/{id}/setup")).send().await.unwrap();
        answer.json::<rexec_api::setups::SetupView>().await.unwrap().state == rexec_api::setups::SetupState::Done
    })
    .await;
    assert_eq!(run(&client, id, "uniq ~/steps").await, "1\n2\n", "{point}: in order");
    client.purge_workspace(id).await.unwrap();
}

/// Dies at a point of a deletion: the home is kept all the same, and can be had back.
async fn deletion_survives(point: &str, place: &Place, made: &mut Made) {
    let first = Served::start(place, Some(point)).await;
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

    let second = Served::start(place, None).await;
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
async fn snapshot_survives(point: &str, place: &Place, made: &mut Made) {
    let first = Served::start(place, Some(point)).await;
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

    let second = Served::start(place, None).await;
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
        eventually(&format!("{point}: its remains to go"), async || is_gone(snapshot).await).await;
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
        eventually(&format!("{point}: nothing to be left over"), async || is_gone(snapshot).await).await;
    }
}

/// Dies at a point of an import: what is not ready leaves nothing, and the same succeeds afterwards.
async fn import_survives(point: &str, place: &Place, made: &mut Made) {
    let first = Served::start(place, Some(point)).await;
    let (client, _) = first.client.register(EMAIL, PASSWORD).await.unwrap();
    let id = client.create_workspace(&small()).await.unwrap().id;
    made.workspaces.push(id);
    run(&client, id, "echo mine > ~/kept").await;
    let taken = client.take_snapshot(id, &new_snapshot()).await.unwrap().id;
    made.snapshots.push(taken);
    let archive = client.export_snapshot(taken).await.unwrap().bytes().await.unwrap();
    client.purge_workspace(id).await.unwrap();
    let _ = client.import_snapshot(None, archive.clone()).await;
    first.until_dead().await;

    let second = Served::start(place, None).await;
    let (client, _) = second.client.log_in(EMAIL, PASSWORD).await.unwrap();
    let listed = client.snapshots().await.unwrap().items;
    made.snapshots.extend(listed.iter().map(|snapshot| snapshot.id));
    let other = listed.iter().find(|snapshot| snapshot.id != taken).expect("it was recorded");
    let expected = if point == "import.ready" { SnapshotState::Ready } else { SnapshotState::Failed };
    assert_eq!(other.state, expected, "{point}");
    if other.state == SnapshotState::Failed {
        eventually(&format!("{point}: its remains to go"), async || is_gone(other.id).await).await;
    }
    let again = client.import_snapshot(None, archive).await.unwrap();
    made.snapshots.push(again.id);
    let new = NewWorkspace { snapshot: Some(again.id), ..small() };
    let back = client.create_workspace(&new).await.unwrap().id;
    made.workspaces.push(back);
    assert_eq!(run(&client, back, "cat ~/kept").await, "mine\n", "{point}");
    client.purge_workspace(back).await.unwrap();
    for &snapshot in &made.snapshots {
        // One that is gone already is not found.
        let _ = client.delete_snapshot(snapshot).await;
        eventually(&format!("{point}: nothing to be left over"), async || is_gone(snapshot).await).await;
    }
    let helpers = Labels::from([("rexec.helper".to_owned(), format!("import-{}", other.id.0.simple()))]);
    assert!(engine().containers(&helpers).await.unwrap().is_empty(), "{point}: a helper is left over");
}

/// Tries every point of these families; whatever fails, nothing made stays.
async fn at_every_point(backend: Backend, families: &[&str], survives: impl AsyncFn(&str, &Place, &mut Made)) {
    let is_of = |point: &&&str| families.iter().any(|family| point.starts_with(family));
    for point in rexec_server::crash::POINTS.iter().filter(is_of) {
        let place = Place::new(backend).await;
        let mut made = Made::default();
        let outcome = AssertUnwindSafe(survives(point, &place, &mut made)).catch_unwind().await;
        remove_remains(&made.workspaces).await;
        remove_snapshots(&made.snapshots).await;
        place.remove().await;
        if let Err(panic) = outcome {
            eprintln!("at {point}");
            resume_unwind(panic);
        }
    }
}

/// Declares each test once for each database.
macro_rules! on_both {
    ($($name:ident: $survives:ident at $families:expr;)*) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() {
                super::at_every_point(super::Backend::Sqlite, &$families, super::$survives).await;
            })*
        }
        mod postgres {
            $(#[tokio::test] async fn $name() {
                super::at_every_point(super::Backend::Postgres, &$families, super::$survives).await;
            })*
        }
    };
}

on_both! {
    a_creation_survives_a_crash_at_every_point: creation_survives at ["create."];
    a_setup_survives_a_crash_at_every_point: setup_survives at ["setup."];
    a_deletion_survives_a_crash_at_every_point: deletion_survives at ["delete.", "purge.volume"];
    a_snapshot_survives_a_crash_at_every_point: snapshot_survives at ["snapshot.", "fill.", "purge.image"];
    an_import_survives_a_crash_at_every_point: import_survives at ["import."];
}
