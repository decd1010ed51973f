//! Homes that outlive their workspaces: kept, restored, purged.

use crate::events::Heard;
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage, on_stage_as};
use crate::support::{Backend, PASSWORD, on_both};
use rexec_api::error::ErrorCode;
use rexec_api::ids::EventId;
use rexec_api::snapshots::NewSnapshot;
use rexec_api::volumes::{RestoreVolume, VolumeState, VolumeView};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::Client;
use rexec_engine::{Engine as _, Labels};
use rexec_server::db;
use std::time::Duration;

on_both!(
    a_home_is_kept_and_restored,
    a_kept_home_takes_up_its_disk,
    a_lost_root_is_told,
    homes_have_sizes,
    what_is_purged_is_gone,
    time_runs_out,
    others_have_no_say
);

fn patient() -> RestoreVolume {
    RestoreVolume { wait_ms: Some(PATIENCE.as_millis() as u64), ..Default::default() }
}

async fn only_volume(stage: &Stage) -> VolumeView {
    let mut found = stage.client.volumes().await.unwrap().items;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// The homes that the engine has of this test.
async fn homes(stage: &Stage) -> usize {
    let labels = [("rexec.instance".to_owned(), stage.instance.clone()), ("rexec.home".to_owned(), "1".to_owned())];
    stage.engine.volumes(&Labels::from(labels)).await.unwrap().len()
}

async fn a_home_is_kept_and_restored(backend: Backend) {
    on_stage(backend, &[], async |place, stage| {
        let env = [("COLOUR".to_owned(), "red".to_owned())].into();
        let new = NewWorkspace { env, memory_mb: Some(256), wait_ms: patient().wait_ms, ..Default::default() };
        let before = stage.client.create_workspace(&new).await.unwrap();
        let volume = only_volume(&stage).await;
        assert_eq!((volume.state, volume.workspace_id), (VolumeState::InUse, before.id));
        let in_use = stage.client.restore_volume(volume.id, &patient()).await.unwrap_err();
        assert_eq!(in_use.code(), Some(ErrorCode::WorkspaceBusy));
        let in_use = stage.client.purge_volume(volume.id).await.unwrap_err();
        assert_eq!(in_use.code(), Some(ErrorCode::WorkspaceBusy));

        stage.run(before.id, "echo mine > ~/kept; sudo touch /root-fs-goes").await;
        stage.client.delete_workspace(before.id).await.unwrap();
        assert!(stage.containers(before.id).await.is_empty());
        let kept = only_volume(&stage).await;
        assert_eq!((kept.id, kept.state, &kept.workspace_name), (volume.id, VolumeState::Kept, &before.name));
        assert!(kept.kept_at.is_some() && kept.purge_after > kept.kept_at);
        let sized = eventually("it to be measured", async || only_volume(&stage).await.size_bytes).await;
        assert!(sized > 0);

        let stage = stage.restart_server(place, &[]).await;
        let after = stage.client.restore_volume(kept.id, &patient()).await.unwrap();
        assert_ne!(after.id, before.id);
        assert_eq!((after.status, &after.name, after.memory_mb), (WorkspaceStatus::Running, &before.name, 256));
        let seen = stage.run(after.id, "cat ~/kept; echo $COLOUR; ls /root-fs-goes").await;
        assert_eq!(seen.stdout, "mine\nred\n", "files and environment are back, the root file system is not");
        let taken = only_volume(&stage).await;
        assert_eq!((taken.state, taken.workspace_id, taken.purge_after), (VolumeState::InUse, after.id, None));

        // Once more, under another name, and then for good.
        stage.client.delete_workspace(after.id).await.unwrap();
        let named = RestoreVolume { name: Some("again".into()), ..patient() };
        let again = stage.client.restore_volume(kept.id, &named).await.unwrap();
        assert_eq!((again.name.as_str(), again.status), ("again", WorkspaceStatus::Running));
        assert_eq!(stage.run(again.id, "cat ~/kept").await.stdout, "mine\n");
        stage.client.purge_workspace(again.id).await.unwrap();
        assert_eq!(homes(&stage).await, 0);
        assert!(stage.client.volumes().await.unwrap().items.is_empty());
        stage
    })
    .await;
}

async fn a_kept_home_takes_up_its_disk(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let until_used = async |what: &str, gb: u64| {
            let used = async || stage.client.servers().await.unwrap().items.remove(0);
            eventually(what, async || {
                let server = used().await;
                (server.used_disk_gb == gb).then_some(server)
            })
            .await
        };
        let new =
            NewWorkspace { memory_mb: Some(256), disk_gb: Some(3), wait_ms: patient().wait_ms, ..Default::default() };
        let id = stage.client.create_workspace(&new).await.unwrap().id;
        until_used("all that it may have to be its own", 3).await;
        stage.run(id, "truncate -s 2200M ~/large").await;
        stage.client.delete_workspace(id).await.unwrap();
        let server = until_used("what its home has to be kept for it", 2).await;
        // Another volume of it that goes, as a move leaves one behind, is not its home.
        let (app, left) = (&stage.server.running.app, "rexec-home-left");
        let beside = "INSERT INTO volumes (id, owner_id, workspace_id, host_id, name, workspace_name, state, created_ms) \
                      SELECT 'left', owner_id, workspace_id, host_id, $1, workspace_name, 'purging', created_ms FROM volumes";
        assert_eq!(db::execute(app.db.write(), beside, [left.into()]).await.unwrap(), 1);
        app.fleet.local().upkeep.notify_one();
        let gone = "UPDATE volumes SET state = 'purged' WHERE name = $1 AND state = 'purged'";
        eventually("the other volume to go", async || {
            (db::execute(app.db.write(), gone, [left.into()]).await.unwrap() == 1).then_some(())
        })
        .await;
        until_used("its home to be kept for it all the same", 2).await;
        assert_eq!((server.workspaces, server.used_memory_mb, server.used_cpu), (0, 0, 0.0), "{server:?}");
        let kept = only_volume(&stage).await.id;
        let restored = stage.client.restore_volume(kept, &patient()).await.unwrap();
        until_used("that to be in what its next workspace may have", 3).await;
        stage.client.delete_workspace(restored.id).await.unwrap();
        until_used("as much as before", 2).await;
        stage.client.purge_volume(kept).await.unwrap();
        until_used("all of it to be given back", 0).await;
        // A restored one that goes with its home.
        let id = stage.client.create_workspace(&new).await.unwrap().id;
        stage.client.delete_workspace(id).await.unwrap();
        let kept = only_volume(&stage).await.id;
        let restored = stage.client.restore_volume(kept, &patient()).await.unwrap();
        stage.client.purge_workspace(restored.id).await.unwrap();
        until_used("all of it to be given back", 0).await;
        stage
    })
    .await;
}

async fn a_lost_root_is_told(backend: Backend) {
    on_stage(backend, &[], async |place, stage| {
        let first = stage.workspace().await;
        stage.run(first.id, "echo mine > ~/kept; sudo touch /opt/root").await;
        let request = NewSnapshot { wait_ms: patient().wait_ms, ..Default::default() };
        let snapshot = stage.client.take_snapshot(first.id, &request).await.unwrap();
        stage.client.purge_workspace(first.id).await.unwrap();
        let new = NewWorkspace { snapshot: Some(snapshot.id), wait_ms: patient().wait_ms, ..Default::default() };
        let cloned = stage.client.create_workspace(&new).await.unwrap();
        stage.client.delete_workspace(cloned.id).await.unwrap();

        // With the snapshot there, all of it comes back, and there is nothing to tell.
        let kept = only_volume(&stage).await.id;
        let whole = stage.client.restore_volume(kept, &patient()).await.unwrap();
        assert_eq!((&whole.status_reason, whole.snapshot), (&None, Some(snapshot.id)));
        assert_eq!(stage.run(whole.id, "cat ~/kept; ls /opt/root").await.stdout, "mine\n/opt/root\n");
        stage.client.delete_workspace(whole.id).await.unwrap();
        stage.client.delete_snapshot(snapshot.id).await.unwrap();

        let before = EventId::new().to_string();
        let poorer = stage.client.restore_volume(kept, &patient()).await.unwrap();
        let told = poorer.status_reason.unwrap();
        assert!(told.contains("snapshot") && told.contains(&format!("image {}", first.image)), "{told}");
        assert_eq!((&poorer.image, poorer.snapshot), (&first.image, None));
        let mut log = Heard::open(&stage.client, Some(&before)).await;
        let restored = log.until("workspace.restored", |event| event.workspace_id == poorer.id).await;
        assert_eq!((&restored.data["snapshot_gone"], &restored.data["image"]), (&true.into(), &first.image.into()));
        assert_eq!(stage.run(poorer.id, "cat ~/kept; ls /opt").await.stdout, "mine\n");
        // A log that is followed would hold the server's end up.
        drop(log);
        let stage = stage.restart_server(place, &[]).await;
        stage.until(poorer.id, "it to be told still", |view| view.status_reason.as_ref() == Some(&told)).await;
        stage
    })
    .await;
}

async fn homes_have_sizes(backend: Backend) {
    // Kept ones are not measured anew here: what is told of them was seen while they were in use.
    let soon = |config: &mut rexec_server::config::Config| {
        config.disk.look_every = Duration::from_millis(100);
        config.storage.purge_every = Duration::from_secs(3600);
    };
    on_stage_as(backend, &[], soon, async |_, stage| {
        let workspace = stage.workspace().await;
        // A first look may have come before the guest had put anything there: another follows when it runs.
        let sized = async || only_volume(&stage).await.size_bytes.filter(|&bytes| bytes > 0);
        eventually("a home in use to be measured", sized).await;
        stage.client.delete_workspace(workspace.id).await.unwrap();
        let kept = only_volume(&stage).await;
        assert_eq!((kept.state, kept.size_bytes.is_some()), (VolumeState::Kept, true));

        // One whose workspace never came to be is none.
        let image = Some("localhost:1/no/such-image:1".to_owned());
        let never = NewWorkspace { image, wait_ms: Some(0), ..Default::default() };
        let never = stage.client.create_workspace(&never).await.unwrap();
        stage.until(never.id, "it to fail", |view| view.status == WorkspaceStatus::Error).await;
        assert_eq!(only_volume(&stage).await.id, kept.id);
        stage
    })
    .await;
}

async fn what_is_purged_is_gone(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let workspace = stage.workspace().await;
        stage.client.delete_workspace(workspace.id).await.unwrap();
        let kept = only_volume(&stage).await;
        stage.client.purge_volume(kept.id).await.unwrap();
        assert_eq!(
            stage.client.restore_volume(kept.id, &patient()).await.unwrap_err().code(),
            Some(ErrorCode::NotFound)
        );
        assert_eq!(stage.client.purge_volume(kept.id).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        eventually("the volume to go", async || (homes(&stage).await == 0).then_some(())).await;

        // A workspace that could not be made leaves no home.
        let image = Some("localhost:1/no/such-image:1".to_owned());
        let refused = NewWorkspace { image, wait_ms: patient().wait_ms, ..Default::default() };
        stage.client.create_workspace(&refused).await.unwrap_err();
        eventually("nothing to be left", async || {
            let listed = stage.client.volumes().await.unwrap().items;
            listed.is_empty().then_some(())
        })
        .await;

        // What somebody removed at the engine does not come back empty.
        let workspace = stage.workspace().await;
        stage.client.delete_workspace(workspace.id).await.unwrap();
        for name in stage.volumes(workspace.id).await {
            stage.engine.remove_volume(&name).await.unwrap();
        }
        let lost = stage.client.restore_volume(only_volume(&stage).await.id, &patient()).await.unwrap_err();
        assert_eq!(lost.code(), Some(ErrorCode::NotFound));
        assert!(stage.client.workspaces().await.unwrap().items.is_empty());
        stage
    })
    .await;
}

async fn time_runs_out(backend: Backend) {
    let soon = |config: &mut rexec_server::config::Config| {
        config.storage.home_kept = Duration::ZERO;
        config.storage.purge_every = Duration::from_millis(50);
    };
    on_stage_as(backend, &[], soon, async |_, stage| {
        let workspace = stage.workspace().await;
        stage.client.delete_workspace(workspace.id).await.unwrap();
        eventually("its time to run out", async || {
            (stage.client.volumes().await.unwrap().items.is_empty() && homes(&stage).await == 0).then_some(())
        })
        .await;
        stage
    })
    .await;
}

async fn others_have_no_say(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let workspace = stage.workspace().await;
        stage.client.delete_workspace(workspace.id).await.unwrap();
        let kept = only_volume(&stage).await;
        let anyone = Client::new(&stage.server.base).unwrap();
        let (other, _) = anyone.register("eve@example.com", PASSWORD).await.unwrap();
        assert!(other.volumes().await.unwrap().items.is_empty());
        assert_eq!(other.restore_volume(kept.id, &patient()).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        assert_eq!(other.purge_volume(kept.id).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        let path = format!("/api/volumes/{}", kept.id);
        assert_eq!(other.request(http::Method::GET, &path).send().await.unwrap().status(), 404);
        assert_eq!(only_volume(&stage).await.state, VolumeState::Kept);
        stage
    })
    .await;
}
