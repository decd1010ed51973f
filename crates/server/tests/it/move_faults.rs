//! Moves that the machines themselves end: a disk that fills on the way, and a source that dies.

use crate::busybox;
use crate::moves::{code, second, start, stop, to, until_there};
use crate::support::dockerd::Dockerd;
use crate::support::workspaces::{Stage, eventually, on_stage};
use crate::support::{Backend, on_both};
use futures_util::FutureExt as _;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::servers::{ServerHealth, ServerLost};
use rexec_api::volumes::{RestoreVolume, VolumeState};
use rexec_api::workspaces::{MoveState, MoveWorkspace, NewWorkspace, WorkspaceStatus};
use rexec_client::Lifecycle;
use rexec_engine::{Engine as _, Labels};
use std::panic::{AssertUnwindSafe, resume_unwind};

on_both!(
    a_target_that_fills_gets_nothing,
    a_home_that_is_gone_is_not_replaced,
    a_source_that_dies_keeps_it,
    a_server_that_is_lost_is_written_off
);

/// Room for the guest, the image and little more.
const SMALL_MIB: u32 = 48;
const HOME_MIB: u32 = 256;
const IMAGE: &str = "rexec-test-faults:1";

async fn with(backend: Backend, daemon: Dockerd, test: impl AsyncFnOnce(&Stage, &mut Dockerd)) {
    // Nothing is kept free, so that the disk itself is what ends it.
    on_stage(backend, &[("REXEC_HOST_DISK_FREE_MB", "0")], async |_, stage| {
        let mut daemon = daemon;
        daemon.engine().import_image(IMAGE, busybox::image().into()).await.unwrap();
        stage.engine.import_image(IMAGE, busybox::image().into()).await.unwrap();
        let outcome = AssertUnwindSafe(test(&stage, &mut daemon)).catch_unwind().await;
        daemon.remove().await;
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
        stage
    })
    .await;
}

/// A stopped workspace there with more in its home than fits into a small disk.
async fn large(stage: &Stage, host: &str) -> (WorkspaceId, String) {
    let new = NewWorkspace {
        image: Some(IMAGE.into()),
        memory_mb: Some(64),
        cpu: Some(1.0),
        host: Some(host.into()),
        wait_ms: to("").wait_ms,
        ..Default::default()
    };
    let id = stage.client.create_workspace(&new).await.unwrap().id;
    let fill = format!("cd && head -c {}m /dev/urandom > large && sha256sum large", HOME_MIB);
    let sum = stage.run(id, &fill).await;
    assert_eq!(sum.exit_code, 0, "{sum:?}");
    stop(stage, id).await;
    (id, sum.stdout)
}

async fn a_target_that_fills_gets_nothing(backend: Backend) {
    with(backend, Dockerd::start_small(SMALL_MIB).await, async |stage, daemon| {
        second(stage, daemon.socket(), "cellar").await;
        let (id, sum) = large(stage, "local").await;
        let refused = code(stage.client.move_workspace(id, &to("second")).await);
        assert!(matches!(refused, ErrorCode::DiskFull | ErrorCode::HostFull), "{refused:?}");
        let view = stage.client.workspace(id).await.unwrap();
        assert_eq!(view.moving.as_ref().map(|moving| moving.state), Some(MoveState::Failed), "it was begun: {view:?}");
        assert_eq!((view.host.as_deref(), view.status), (Some("local"), WorkspaceStatus::Stopped), "{view:?}");
        until_there("nothing to be left there", &daemon.engine(), stage, id, [0, 0, 0]).await;
        start(stage, id).await;
        assert_eq!(stage.run(id, "cd && sha256sum large").await.stdout, sum);
        stage.client.purge_workspace(id).await.unwrap();
        until_there("nothing to be left here", &stage.engine, stage, id, [0, 0, 0]).await;
    })
    .await;
}

async fn a_home_that_is_gone_is_not_replaced(backend: Backend) {
    with(backend, Dockerd::start().await, async |stage, daemon| {
        second(stage, daemon.socket(), "cellar").await;
        let (id, _) = large(stage, "local").await;
        stage.client.move_workspace(id, &to("second")).await.unwrap();
        stage.until(id, "it to be there", |view| view.host.as_deref() == Some("second")).await;
        // As a prune does that takes what no container has.
        let of = Labels::from([("rexec.workspace".to_owned(), id.to_string())]);
        for volume in daemon.engine().volumes(&of).await.unwrap() {
            daemon.engine().remove_volume(&volume.name).await.unwrap();
        }
        // It is refused, or fails at once.
        let _ = stage.client.lifecycle(id, Lifecycle::Start).await;
        let view = stage.until(id, "it to say so", |view| view.status == WorkspaceStatus::Error).await;
        assert!(view.status_reason.as_ref().is_some_and(|why| why.contains("home no more")), "{view:?}");
        assert_eq!(stage.volumes(id).await.len(), 1, "what it left behind is all that there is: it is kept");
        assert!(daemon.engine().volumes(&of).await.unwrap().is_empty(), "no other was made");
        stage.client.purge_workspace(id).await.unwrap();
        until_there("nothing to be left here", &stage.engine, stage, id, [0, 0, 0]).await;
    })
    .await;
}

async fn a_server_that_is_lost_is_written_off(backend: Backend) {
    with(backend, Dockerd::start().await, async |stage, daemon| {
        let client = &stage.client;
        let server = second(stage, daemon.socket(), "cellar").await;
        let new = |host: &str| NewWorkspace {
            image: Some(IMAGE.into()),
            memory_mb: Some(64),
            host: Some(host.into()),
            wait_ms: to("").wait_ms,
            ..Default::default()
        };
        let [lost, kept] = [
            client.create_workspace(&new("second")).await.unwrap().id,
            client.create_workspace(&new("second")).await.unwrap().id,
        ];
        client.delete_workspace(kept).await.unwrap();
        let moved = client.create_workspace(&new("local")).await.unwrap().id;
        assert_eq!(stage.run(moved, "echo mine > ~/kept").await.exit_code, 0);
        stop(stage, moved).await;
        client.move_workspace(moved, &to("second")).await.unwrap();
        stage.until(moved, "it to be there", |view| view.host.as_deref() == Some("second")).await;
        let homes = async || {
            client
                .volumes()
                .await
                .unwrap()
                .items
                .into_iter()
                .map(|home| (home.workspace_id, home.state))
                .collect::<Vec<_>>()
        };
        eventually("its home to be kept", async || homes().await.contains(&(kept, VolumeState::Kept)).then_some(()))
            .await;

        assert_eq!(code(client.write_off_server(server.id).await), ErrorCode::ServerInUse, "it answers");
        let (coming, sum) = large(stage, "local").await;
        client.move_workspace(coming, &MoveWorkspace { wait_ms: Some(0), ..to("second") }).await.unwrap();
        let of = Labels::from([("rexec.workspace".to_owned(), coming.to_string())]);
        let begun = async || (!daemon.engine().volumes(&of).await.ok()?.is_empty()).then_some(());
        eventually("its home to be on its way", begun).await;
        daemon.pause().await;
        let offline = async || {
            let servers = client.servers().await.unwrap().items;
            servers.iter().any(|other| other.id == server.id && other.health == ServerHealth::Offline).then_some(())
        };
        eventually("it to be away", offline).await;
        let off = client.write_off_server(server.id).await.unwrap();
        assert_eq!(off, ServerLost { workspaces: 2, homes: 1, snapshots: 0, saved: 1 });
        for id in [lost, moved] {
            assert_eq!(code(client.workspace(id).await), ErrorCode::NotFound);
        }
        assert_eq!(client.servers().await.unwrap().items.len(), 1);
        let view = start(stage, coming).await;
        assert_eq!(view.host.as_deref(), Some("local"), "{view:?}");
        assert_eq!(stage.run(coming, "cd && sha256sum large").await.stdout, sum);
        client.purge_workspace(coming).await.unwrap();
        assert_eq!(code(client.write_off_server(server.id).await), ErrorCode::NotFound);

        // What had moved there and not run is had again from where it was.
        assert_eq!(homes().await, [(moved, VolumeState::Kept)]);
        let home = client.volumes().await.unwrap().items[0].id;
        let again = client
            .restore_volume(home, &RestoreVolume { wait_ms: to("").wait_ms, ..Default::default() })
            .await
            .unwrap();
        assert_eq!((again.host.as_deref(), again.image.as_str()), (Some("local"), IMAGE));
        assert_eq!(stage.run(again.id, "cat ~/kept").await.stdout, "mine\n");
        client.purge_workspace(again.id).await.unwrap();
        until_there("nothing to be left here", &stage.engine, stage, moved, [0, 0, 0]).await;
        daemon.resume().await;
    })
    .await;
}

async fn a_source_that_dies_keeps_it(backend: Backend) {
    with(backend, Dockerd::start().await, async |stage, daemon| {
        second(stage, daemon.socket(), "cellar").await;
        let (id, sum) = large(stage, "second").await;
        let begun = MoveWorkspace { wait_ms: Some(0), ..to("local") };
        stage.client.move_workspace(id, &begun).await.unwrap();
        eventually("its home to be on its way", async || (!stage.volumes(id).await.is_empty()).then_some(())).await;
        daemon.pause().await;
        let is_over = |view: &rexec_api::workspaces::WorkspaceView| {
            view.moving.as_ref().is_none_or(|moving| moving.state != MoveState::Moving)
        };
        let view = stage.until(id, "the move to be over", is_over).await;
        assert_eq!(view.host.as_deref(), Some("second"), "it is where it was: {view:?}");
        until_there("nothing to be left here", &stage.engine, stage, id, [0, 0, 0]).await;

        daemon.resume().await;
        stage.until(id, "it to be there again", |view| view.status == WorkspaceStatus::Stopped).await;
        eventually("it to move", async || stage.client.move_workspace(id, &to("local")).await.ok()).await;
        start(stage, id).await;
        assert_eq!(stage.run(id, "cd && sha256sum large").await.stdout, sum);
        until_there("nothing to be left there", &daemon.engine(), stage, id, [0, 0, 0]).await;
        stage.client.purge_workspace(id).await.unwrap();
    })
    .await;
}
