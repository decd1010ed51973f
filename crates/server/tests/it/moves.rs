//! Workspaces that move between two real engines: whole at one or whole at the other, whatever happens on the way.

use crate::busybox;
use crate::exports::{MAKE, TELL};
use crate::support::dockerd::Dockerd;
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, PASSWORD, on_both};
use futures_util::FutureExt as _;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::servers::{NewServer, PatchServer, ServerState, ServerView};
use rexec_api::snapshots::NewSnapshot;
use rexec_api::workspaces::{MoveState, MoveWorkspace, NewWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::{Client, ClientError, Lifecycle, Sources};
use rexec_engine::{Engine as _, Labels, docker::DockerEngine};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

on_both!(
    a_workspace_moves_with_all_that_it_has,
    what_fails_on_the_way_leaves_it_whole,
    a_move_outlives_its_server,
    a_server_is_cleared
);

/// Bytes of one connection after which one of them is changed.
const SPOILT_AT: usize = 1 << 20;

pub fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ErrorCode {
    result.unwrap_err().code().unwrap()
}

pub fn to(host: &str) -> MoveWorkspace {
    MoveWorkspace { host: Some(host.into()), wait_ms: Some(PATIENCE.as_millis() as u64), region: None }
}

pub async fn second(stage: &Stage, socket: String, region: &str) -> ServerView {
    let region = Some(region.into());
    let new = NewServer { name: "second".into(), socket: Some(socket), region, ..NewServer::default() };
    stage.client.add_server(&new).await.unwrap()
}

async fn server(stage: &Stage, name: &str) -> ServerView {
    let servers = stage.client.servers().await.unwrap().items;
    servers.into_iter().find(|server| server.name == name).unwrap()
}

/// Moves it, however long that takes on a busy machine.
async fn relocate(stage: &Stage, id: WorkspaceId, to: &MoveWorkspace) -> WorkspaceView {
    stage.client.move_workspace(id, to).await.unwrap();
    let is_over = |view: &WorkspaceView| view.moving.as_ref().is_none_or(|moving| moving.state != MoveState::Moving);
    stage.until(id, "the move to be over", is_over).await
}

pub async fn stop(stage: &Stage, id: WorkspaceId) {
    stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
    stage.until(id, "it to stop", |view| view.status == WorkspaceStatus::Stopped).await;
}

pub async fn start(stage: &Stage, id: WorkspaceId) -> WorkspaceView {
    stage.client.lifecycle(id, Lifecycle::Start).await.unwrap();
    stage.until(id, "it to run", |view| view.status == WorkspaceStatus::Running).await
}

/// What an engine has of it: containers, homes, and images of roots on their way.
pub async fn there(engine: &DockerEngine, instance: &str, id: WorkspaceId) -> [usize; 3] {
    let of = Labels::from([("rexec.workspace".to_owned(), id.to_string())]);
    let images = engine.images().await.unwrap();
    let ours = |labels: &Labels| labels.get("rexec.instance").is_some_and(|of| of == instance);
    let is_root = |name: &String| name.starts_with("rexec/snapshot:");
    let images = images.iter().filter(|image| ours(&image.labels)).flat_map(|image| &image.references);
    [
        engine.containers(&of).await.unwrap().len(),
        engine.volumes(&of).await.unwrap().len(),
        images.filter(|name| is_root(name)).count(),
    ]
}

pub async fn until_there(what: &str, engine: &DockerEngine, stage: &Stage, id: WorkspaceId, wanted: [usize; 3]) {
    eventually(what, async || (there(engine, &stage.instance, id).await == wanted).then_some(())).await;
}

async fn with_second(stage: Stage, test: impl AsyncFnOnce(Stage, &mut Dockerd) -> Stage) -> Stage {
    let mut daemon = Dockerd::start().await;
    let outcome = AssertUnwindSafe(test(stage, &mut daemon)).catch_unwind().await;
    daemon.remove().await;
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

async fn a_workspace_moves_with_all_that_it_has(backend: Backend) {
    on_stage(backend, &[], async |_, stage| with_second(stage, moves_and_comes_back).await).await;
}

async fn moves_and_comes_back(stage: Stage, daemon: &mut Dockerd) -> Stage {
    let (client, away) = (&stage.client, daemon.engine());
    let workspace = stage.workspace().await;
    let (id, made_from) = (workspace.id, workspace.image);
    assert_eq!(code(client.move_workspace(id, &MoveWorkspace::default()).await), ErrorCode::NotStopped);
    let made = stage.run(id, MAKE).await;
    assert_eq!(made.exit_code, 0, "{made:?}");
    let told = stage.run(id, TELL).await;
    let home = client.volumes().await.unwrap().items[0].id;
    stop(&stage, id).await;

    // Who may, and whereto.
    assert_eq!(code(client.move_workspace(id, &to("local")).await), ErrorCode::AlreadyThere);
    assert_eq!(code(client.move_workspace(id, &to("second")).await), ErrorCode::NoHost);
    assert_eq!(code(client.move_workspace(id, &MoveWorkspace::default()).await), ErrorCode::NoHost);
    let stranger = Client::new(&stage.server.base).unwrap();
    let (stranger, _) = stranger.register("bob@example.com", PASSWORD).await.unwrap();
    assert_eq!(code(stranger.move_workspace(id, &MoveWorkspace::default()).await), ErrorCode::NotFound);
    let own = stranger.create_workspace(&NewWorkspace { memory_mb: Some(64), ..Default::default() }).await.unwrap().id;
    assert_eq!(code(stranger.move_workspace(own, &to("second")).await), ErrorCode::Forbidden);
    stranger.purge_workspace(own).await.unwrap();
    second(&stage, daemon.socket(), "cellar").await;
    let nowhere = MoveWorkspace { region: Some("nowhere".into()), ..Default::default() };
    assert_eq!(code(client.move_workspace(id, &nowhere).await), ErrorCode::NoHost);

    // It lies there, and what it was made of is kept here.
    let region = MoveWorkspace { region: Some("cellar".into()), wait_ms: to("").wait_ms, host: None };
    let moved = relocate(&stage, id, &region).await;
    assert_eq!((moved.status, moved.host.as_deref()), (WorkspaceStatus::Stopped, Some("second")), "{moved:?}");
    assert_eq!(moved.image, made_from, "it says what it was made from");
    assert_eq!((moved.region.as_str(), moved.moving.as_ref().map(|m| m.state)), ("cellar", Some(MoveState::Unproven)));
    assert_eq!(there(&stage.engine, &stage.instance, id).await, [1, 1, 1]);
    assert_eq!(there(&away, &stage.instance, id).await, [0, 1, 1]);
    let places = async || (server(&stage, "local").await.workspaces, server(&stage, "second").await.workspaces);
    assert_eq!(places().await, (0, 1));
    assert_eq!(code(client.remove_server(server(&stage, "second").await.id).await), ErrorCode::ServerInUse);
    assert_eq!(code(client.take_snapshot(id, &NewSnapshot::default()).await), ErrorCode::WorkspaceBusy);

    // It runs there as it ran here, and then nothing of it is left here.
    let running = start(&stage, id).await;
    assert_eq!((running.moving, running.started_at.is_some()), (None, true));
    let again = stage.run(id, TELL).await;
    assert_eq!(again.stdout, told.stdout);
    until_there("the source to be let go", &stage.engine, &stage, id, [0, 0, 0]).await;
    let homes = client.volumes().await.unwrap().items;
    assert_eq!((homes.len(), homes[0].id), (1, home), "its home is the one that it had");
    let events = client.events_of(id, None).await.unwrap().items;
    assert_eq!(events.iter().filter(|event| event.kind == "workspace.moved").count(), 1);
    let snapshot = NewSnapshot { wait_ms: to("").wait_ms, ..Default::default() };
    let snapshot = client.take_snapshot(id, &snapshot).await.unwrap().id;
    client.delete_snapshot(snapshot).await.unwrap();

    // Back, and away once more before it has run there; a disk, its place and its images are where it is.
    stage.run(id, "echo later > ~/later; sudo sh -c 'echo root > /opt/later'").await;
    stop(&stage, id).await;
    for host in ["local", "second"] {
        let moved = relocate(&stage, id, &to(host)).await;
        assert_eq!((moved.host.as_deref(), moved.status), (Some(host), WorkspaceStatus::Stopped));
    }
    assert_eq!(places().await, (0, 1));
    start(&stage, id).await;
    let files = stage.run(id, "cat ~/later /opt/later ~/kept; sudo cat /opt/d/file").await;
    assert_eq!(files.stdout, "later\nroot\nmine\nroot\n");
    until_there("the way to be let go", &stage.engine, &stage, id, [0, 0, 0]).await;
    until_there("one of each to be left", &away, &stage, id, [1, 1, 1]).await;
    client.purge_workspace(id).await.unwrap();
    until_there("nothing to be left", &away, &stage, id, [0, 0, 0]).await;
    assert_eq!(places().await, (0, 0));
    stage
}

/// Stands before an engine, and changes a bit on the way to it when it is told to.
async fn spoiler(path: &Path, engine: String, spoils: Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = UnixStream::connect(&engine).await else { continue };
            let spoils = spoils.clone();
            tokio::spawn(async move {
                let (mut near_in, mut near_out) = near.into_split();
                let (mut far_in, mut far_out) = far.into_split();
                let back = tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut far_in, &mut near_out).await;
                    let _ = near_out.shutdown().await;
                });
                let (mut passed, mut buffer) = (0, vec![0; 64 << 10]);
                while let Ok(count @ 1..) = near_in.read(&mut buffer).await {
                    let is_here = passed <= SPOILT_AT && SPOILT_AT < passed + count;
                    if is_here && spoils.swap(false, Ordering::SeqCst) {
                        buffer[SPOILT_AT - passed] ^= 1;
                    }
                    passed += count;
                    if far_out.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
                let _ = far_out.shutdown().await;
                let _ = back.await;
            });
        }
    })
}

async fn what_fails_on_the_way_leaves_it_whole(backend: Backend) {
    on_stage(backend, &[], async |_, stage| with_second(stage, fails_and_stays).await).await;
}

async fn fails_and_stays(stage: Stage, daemon: &mut Dockerd) -> Stage {
    let (client, away, dir) = (&stage.client, daemon.engine(), tempfile::tempdir().unwrap());
    let (path, spoils) = (dir.path().join("sock"), Arc::new(AtomicBool::new(false)));
    let between = spoiler(&path, daemon.socket(), spoils.clone()).await;
    let host = second(&stage, path.display().to_string(), "cellar").await;
    let image = format!("rexec-test-move:{}", stage.instance);
    stage.engine.import_image(&image, busybox::image().into()).await.unwrap();
    let new = NewWorkspace {
        image: Some(image.clone()),
        memory_mb: Some(64),
        cpu: Some(1.0),
        host: Some("local".into()),
        wait_ms: to("").wait_ms,
        ..Default::default()
    };
    let id = client.create_workspace(&new).await.unwrap().id;
    // What no compression makes small.
    let random: Vec<u8> =
        (0..1u32 << 20).flat_map(|n| (n ^ n >> 7).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    client.write_file(id, "/home/user/random", random.clone()).await.unwrap();
    stop(&stage, id).await;
    let is_as_it_was = async |why: &str| {
        let view = client.workspace(id).await.unwrap();
        assert_eq!((view.host.as_deref(), view.status), (Some("local"), WorkspaceStatus::Stopped), "{why}");
        until_there(why, &away, &stage, id, [0, 0, 0]).await;
        until_there(why, &stage.engine, &stage, id, [1, 1, 0]).await;
        assert_eq!(
            (server(&stage, "local").await.workspaces, server(&stage, "second").await.workspaces),
            (1, 0),
            "{why}"
        );
        view
    };

    // No room: it says so before anything is made.
    let small = PatchServer { total_memory_mb: Some(32), ..Default::default() };
    client.change_server(host.id, &small).await.unwrap();
    assert_eq!(code(client.move_workspace(id, &to("second")).await), ErrorCode::HostFull);
    let large = PatchServer { total_memory_mb: Some(host.total_memory_mb), ..Default::default() };
    client.change_server(host.id, &large).await.unwrap();
    is_as_it_was("no room").await;

    // One bit.
    spoils.store(true, Ordering::SeqCst);
    assert_eq!(code(client.move_workspace(id, &to("second")).await), ErrorCode::MoveUnverified);
    assert!(!spoils.load(Ordering::SeqCst), "a bit was changed");
    let view = is_as_it_was("a changed bit").await;
    let failed = view.moving.unwrap();
    assert_eq!((failed.state, failed.error_code), (MoveState::Failed, Some(ErrorCode::MoveUnverified)));

    // Who wants it to run comes first.
    let begun = client.move_workspace(id, &MoveWorkspace { wait_ms: Some(0), ..to("second") }).await.unwrap();
    assert_eq!(begun.moving.unwrap().state, MoveState::Moving);
    assert_eq!(code(client.move_workspace(id, &to("second")).await), ErrorCode::WorkspaceBusy);
    let running = start(&stage, id).await;
    assert_eq!((running.host.as_deref(), running.moving), (Some("local"), None));
    stop(&stage, id).await;
    is_as_it_was("given up").await;

    // Nothing answers there.
    daemon.pause().await;
    let refused = code(client.move_workspace(id, &to("second")).await);
    assert!(matches!(refused, ErrorCode::EngineUnavailable | ErrorCode::EngineError), "{refused:?}");
    let view = client.workspace(id).await.unwrap();
    assert_eq!((view.host.as_deref(), view.status), (Some("local"), WorkspaceStatus::Stopped));
    daemon.resume().await;
    eventually("it to answer", async || client.move_workspace(id, &to("second")).await.ok()).await;
    start(&stage, id).await;
    assert!(client.read_file(id, "/home/user/random").await.unwrap() == random, "it comes as it was");
    client.purge_workspace(id).await.unwrap();
    until_there("nothing to be left there", &away, &stage, id, [0, 0, 0]).await;
    until_there("nothing to be left here", &stage.engine, &stage, id, [0, 0, 0]).await;
    eventually("its image to be free", async || stage.engine.remove_image(&image).await.ok()).await;
    between.abort();
    stage
}

async fn a_move_outlives_its_server(backend: Backend) {
    on_stage(backend, &[], async |place, stage| {
        with_second(stage, async |stage, daemon| {
            second(&stage, daemon.socket(), "cellar").await;
            let image = format!("rexec-test-outlives:{}", stage.instance);
            stage.engine.import_image(&image, busybox::image().into()).await.unwrap();
            let host = Some("local".into());
            let wait_ms = to("").wait_ms;
            let new =
                NewWorkspace { image: Some(image.clone()), memory_mb: Some(64), host, wait_ms, ..Default::default() };
            let id = stage.client.create_workspace(&new).await.unwrap().id;
            stage.run(id, "echo mine > ~/kept; sudo sh -c 'echo root > /kept' 2>/dev/null || true").await;
            stop(&stage, id).await;
            let away = MoveWorkspace { wait_ms: Some(0), ..to("second") };
            stage.client.move_workspace(id, &away).await.unwrap();

            // What was on its way is begun again.
            let stage = stage.restart_server(place, &[]).await;
            let is_there =
                |view: &WorkspaceView| view.moving.as_ref().is_some_and(|moving| moving.state == MoveState::Unproven);
            stage.until(id, "it to be there", is_there).await;
            assert_eq!(there(&stage.engine, &stage.instance, id).await, [1, 1, 1], "and is kept here");
            start(&stage, id).await;
            assert_eq!(stage.run(id, "cat ~/kept").await.stdout, "mine\n");
            until_there("the source to be let go", &stage.engine, &stage, id, [0, 0, 0]).await;
            until_there("one of each to be left", &daemon.engine(), &stage, id, [1, 1, 1]).await;

            // It is a workspace like any other, which a server that starts leaves as it runs.
            let of = Labels::from([("rexec.workspace".to_owned(), id.to_string())]);
            let container = async || daemon.engine().containers(&of).await.unwrap()[0].id.clone();
            let before = container().await;
            let stage = stage.restart_server(place, &[]).await;
            stage.until(id, "it to run on", |view| view.status == WorkspaceStatus::Running).await;
            assert_eq!(stage.run(id, "cat ~/kept").await.stdout, "mine\n");
            assert_eq!(container().await, before, "it was not made anew");
            stage.client.purge_workspace(id).await.unwrap();
            eventually("its image to be free", async || stage.engine.remove_image(&image).await.ok()).await;
            stage
        })
        .await
    })
    .await;
}

async fn a_server_is_cleared(backend: Backend) {
    on_stage(backend, &[], async |_, stage| with_second(stage, is_cleared).await).await;
}

async fn is_cleared(stage: Stage, daemon: &mut Dockerd) -> Stage {
    const IMAGE: &str = "rexec-test-cleared:1";
    daemon.engine().import_image(IMAGE, busybox::image().into()).await.unwrap();
    let client = &stage.client;
    let here = server(&stage, "local").await;
    let host = second(&stage, daemon.socket(), &here.region).await.id;
    let new = |name: &str| NewWorkspace {
        name: Some(name.into()),
        image: Some(IMAGE.into()),
        memory_mb: Some(64),
        host: Some("second".into()),
        wait_ms: to("").wait_ms,
        ..Default::default()
    };
    let rests = client.create_workspace(&new("rests")).await.unwrap().id;
    stage.run(rests, "echo mine > ~/kept").await;
    stop(&stage, rests).await;
    let runs = client.create_workspace(&new("runs")).await.unwrap().id;

    let stranger = Client::new(&stage.server.base).unwrap();
    let (stranger, _) = stranger.register("bob@example.com", PASSWORD).await.unwrap();
    assert_eq!(code(stranger.clear_server(host, Sources::Drop).await), ErrorCode::Forbidden);
    assert_eq!(code(client.clear_server(here.id, Sources::Keep).await), ErrorCode::ServerInUse);

    // What rests goes, what runs is named, and what is not proven yet is kept.
    let left = eventually("what rests to be moved", async || {
        let left = client.clear_server(host, Sources::Keep).await.unwrap().expect("something runs there");
        (left.moving.is_empty() && left.going == 0).then_some(left)
    })
    .await;
    assert_eq!(server(&stage, "second").await.state, ServerState::Draining);
    assert_eq!(left.running.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["runs"]);
    assert_eq!(left.unproven.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["rests"]);
    assert_eq!((left.stuck.len(), left.homes, left.snapshots), (0, 0, 0), "{left:?}");
    assert_eq!(client.workspace(runs).await.unwrap().status, WorkspaceStatus::Running, "nobody has stopped it");
    assert_eq!(client.workspace(rests).await.unwrap().host.as_deref(), Some("local"));

    stop(&stage, runs).await;
    eventually("the server to be gone", async || {
        client.clear_server(host, Sources::Drop).await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(client.servers().await.unwrap().items.len(), 1);
    start(&stage, rests).await;
    assert_eq!(stage.run(rests, "cat ~/kept").await.stdout, "mine\n");
    for id in [rests, runs] {
        client.purge_workspace(id).await.unwrap();
    }
    for id in [rests, runs] {
        until_there("nothing to be left", &stage.engine, &stage, id, [0, 0, 0]).await;
    }
    stage
}
