//! An engine that is killed while it makes and starts workspaces: once it is back, all of them come to run, each once, and
//! nothing is left over of what it had begun.

use crate::busybox;
use crate::support::dockerd::Dockerd;
use crate::support::held::{After, HeldRunc};
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, on_both};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use rexec_api::ids::WorkspaceId;
use rexec_api::servers::NewServer;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::Lifecycle;
use rexec_engine::{ContainerInfo, ContainerState, Engine as _, Labels};
use std::panic::{AssertUnwindSafe, resume_unwind};

on_both!(a_start_that_is_cut_off_is_made_good, creations_outlive_their_engine);

const IMAGE: &str = "rexec-test-killed:1";
const SERVER: &str = "mortal";
/// Where no home is: it goes with the container.
const OF_THE_ROOT: &str = "/kept";

fn small(wait: bool) -> NewWorkspace {
    NewWorkspace {
        image: Some(IMAGE.into()),
        memory_mb: Some(64),
        cpu: Some(0.25),
        host: Some(SERVER.into()),
        wait_ms: Some(if wait { PATIENCE.as_millis() as u64 } else { 0 }),
        ..Default::default()
    }
}

/// Runs a test on a stage with a second server that can be killed.
async fn with_mortal(backend: Backend, live_restore: bool, test: impl AsyncFnOnce(&Stage, &mut Dockerd, &HeldRunc)) {
    on_stage(backend, &[], async |_, stage| {
        let runc = HeldRunc::new();
        let mut daemon = Dockerd::start_behind(&runc, live_restore).await;
        let outcome = AssertUnwindSafe(async {
            daemon.engine().import_image(IMAGE, busybox::image().into()).await.unwrap();
            let server = NewServer { name: SERVER.into(), socket: Some(daemon.socket()), ..NewServer::default() };
            stage.client.add_server(&server).await.unwrap();
            test(&stage, &mut daemon, &runc).await;
        });
        let outcome = outcome.catch_unwind().await;
        daemon.remove().await;
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
        stage
    })
    .await;
}

async fn create(stage: &Stage, wait: bool) -> WorkspaceId {
    let view = stage.client.create_workspace(&small(wait)).await.unwrap();
    assert!(!wait || view.status == WorkspaceStatus::Running, "{view:?}");
    view.id
}

async fn ask(stage: &Stage, id: WorkspaceId, request: Lifecycle, status: WorkspaceStatus) {
    stage.client.lifecycle(id, request).await.unwrap();
    stage.until(id, "it to be as asked", |view| view.status == status).await;
}

async fn containers(daemon: &Dockerd, id: WorkspaceId) -> Vec<ContainerInfo> {
    let labels = Labels::from([("rexec.workspace".to_owned(), id.to_string())]);
    daemon.engine().containers(&labels).await.unwrap()
}

/// All run, each in one container; nothing else does.
async fn require_whole(stage: &Stage, daemon: &Dockerd, all: &[WorkspaceId]) {
    for &id in all {
        stage.until(id, "it to run", |view| view.status == WorkspaceStatus::Running).await;
        let told = stage.run(id, "echo here >/home/user/here && echo $$").await;
        assert_eq!(told.exit_code, 0, "{told:?}");
        let found = containers(daemon, id).await;
        assert!(matches!(&found[..], [one] if one.state == ContainerState::Running), "{found:?}");
    }
    eventually("nothing else to be left", async || {
        let every = daemon.engine().summaries(&Labels::new()).await.ok()?;
        (every.len() == all.len() && daemon.shims() == all.len()).then_some(())
    })
    .await;
}

async fn purge(stage: &Stage, daemon: &Dockerd, all: &[WorkspaceId]) {
    join_all(all.iter().map(|&id| async move { stage.client.purge_workspace(id).await.unwrap() })).await;
    eventually("nothing of them to be left", async || {
        let every = daemon.engine().summaries(&Labels::new()).await.ok()?;
        (every.is_empty() && daemon.shims() == 0).then_some(())
    })
    .await;
}

/// The engine dies when the first process stands ready, and when it runs: either way it knows nothing of that afterwards,
/// and refuses for ever to start the container, of which something runs or waits that is nobody's.
async fn a_start_that_is_cut_off_is_made_good(backend: Backend) {
    let live_restore = backend == Backend::Sqlite;
    with_mortal(backend, live_restore, async |stage, daemon, runc| {
        let before = create(stage, true).await;
        let told = stage.run(before, &format!("sudo sh -c 'echo mine >{OF_THE_ROOT}'; cat {OF_THE_ROOT}")).await;
        assert_eq!(told.stdout, "mine\n", "{told:?}");
        let mut all = vec![before];
        for after in [After::Create, After::Start] {
            ask(stage, before, Lifecycle::Stop, WorkspaceStatus::Stopped).await;
            let container = containers(daemon, before).await.remove(0).id;
            runc.hold(after);
            // It is answered in time or not: what counts is what comes of it.
            let (_, made) = tokio::join!(stage.client.lifecycle(before, Lifecycle::Start), async {
                let made = create(stage, false).await;
                eventually("both to be half started", async || (runc.held() >= 2).then_some(())).await;
                daemon.kill().await;
                runc.release(after);
                daemon.resume().await;
                made
            });
            all.push(made);
            require_whole(stage, daemon, &all).await;
            // It was no other container, and so it has its root file system.
            assert_eq!(containers(daemon, before).await.remove(0).id, container);
            assert_eq!(stage.run(before, &format!("cat {OF_THE_ROOT}")).await.stdout, "mine\n");
        }
        // One that is to go meanwhile goes as a whole.
        runc.hold(After::Start);
        let doomed = create(stage, false).await;
        eventually("it to be half started", async || (runc.held() >= 1).then_some(())).await;
        daemon.kill().await;
        stage.client.purge_workspace(doomed).await.unwrap();
        runc.release(After::Start);
        daemon.resume().await;
        require_whole(stage, daemon, &all).await;
        purge(stage, daemon, &all).await;
    })
    .await;
}

/// At whatever moment it dies: cold creations are under way at each line of it.
async fn creations_outlive_their_engine(backend: Backend) {
    const MANY: usize = 12;
    let live_restore = backend == Backend::Postgres;
    with_mortal(backend, live_restore, async |stage, daemon, _| {
        let all = join_all((0..MANY).map(|_| create(stage, false))).await;
        for alive in [1, MANY / 2] {
            let some = async || {
                let every = daemon.engine().summaries(&Labels::new()).await.ok()?;
                (every.len() >= alive && daemon.shims() >= alive).then_some(())
            };
            eventually("some of them to be under way", some).await;
            daemon.kill().await;
            daemon.resume().await;
        }
        require_whole(stage, daemon, &all).await;
        purge(stage, daemon, &all).await;
    })
    .await;
}
