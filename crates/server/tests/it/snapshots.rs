//! Snapshots: taken in every state, cloned, deleted while clones live.

use crate::support::workspaces::{PATIENCE, Stage, engine_address, eventually, on_stage};
use crate::support::{Backend, PASSWORD, on_both};
use rexec_api::error::ErrorCode;
use rexec_api::ids::{SnapshotId, WorkspaceId};
use rexec_api::snapshots::{NewSnapshot, SnapshotState, SnapshotView};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::{Client, ClientError, Lifecycle};
use rexec_engine::docker::DockerEngine;
use rexec_engine::{Engine as _, Labels};
use rexec_server::db::sql;
use sea_orm::ConnectionTrait as _;

on_both!(
    a_snapshot_becomes_a_clone,
    every_state_can_be_taken,
    refusals,
    clones_outlive_their_snapshot,
    five_clones_at_once,
    what_a_late_commit_leaves_is_swept,
    a_full_host_takes_none,
    holes_count_in_full,
    what_is_asked_meanwhile_goes_before,
);

fn wait_ms() -> Option<u64> {
    Some(PATIENCE.as_millis() as u64)
}

async fn take(stage: &Stage, id: WorkspaceId) -> SnapshotView {
    let view = stage.client.take_snapshot(id, &NewSnapshot { wait_ms: wait_ms(), ..Default::default() }).await.unwrap();
    assert_eq!(view.state, SnapshotState::Ready, "{view:?}");
    view
}

async fn clone(stage: &Stage, snapshot: SnapshotId) -> WorkspaceView {
    let new = NewWorkspace { snapshot: Some(snapshot), wait_ms: wait_ms(), ..Default::default() };
    let view = stage.client.create_workspace(&new).await.unwrap();
    assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
    view
}

fn volume(id: SnapshotId) -> String {
    format!("rexec-snapshot-{}", id.0.simple())
}

fn image(id: SnapshotId) -> String {
    format!("rexec/snapshot:{}", id.0.simple())
}

/// The volumes of snapshots that the engine has of this test.
async fn volumes(stage: &Stage) -> usize {
    let labels = Labels::from([("rexec.instance".to_owned(), stage.instance.clone())]);
    let all = stage.engine.volumes(&labels).await.unwrap();
    all.iter().filter(|volume| volume.labels.contains_key("rexec.snapshot")).count()
}

async fn until_removed(stage: &Stage, id: SnapshotId) {
    eventually("the engine to have nothing of it", async || {
        let there = stage.engine.image(&image(id)).await.unwrap().is_some();
        (!there && volumes(stage).await == 0).then_some(())
    })
    .await;
}

async fn a_snapshot_becomes_a_clone(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let first = stage.workspace().await;
        stage.run(first.id, "echo mine > ~/kept; mkdir ~/d; ln ~/kept ~/d/hard; truncate -s 1G ~/sparse").await;
        // What an upper layer of a nested container's overlay says of a file that is gone there.
        stage.run(first.id, "python3 -c 'import os, stat; os.mknod(\"w\", stat.S_IFCHR, 0)'").await;
        stage.run(first.id, "echo root | sudo tee /opt/root >/dev/null; touch ~/before").await;
        // It writes on while it is copied; each line is whole, and none is missing in the middle.
        stage.terminal(first.id, &["sh", "-c", "i=0; while true; do i=$((i+1)); echo $i >> ~/log; done"]).await;
        eventually("it to write", async || stage.run(first.id, "test -s ~/log").await.exit_code.eq(&0).then_some(()))
            .await;
        let snapshot = take(&stage, first.id).await;
        assert!(snapshot.pause_ms.is_some() && snapshot.home_bytes > 0, "{snapshot:?}");
        assert_eq!(snapshot.size_bytes, snapshot.home_bytes + snapshot.image_bytes);
        assert_eq!(stage.client.workspace(first.id).await.unwrap().status, WorkspaceStatus::Running);
        stage.run(first.id, "echo other > ~/kept; rm ~/before; sudo rm /opt/root").await;

        // The guest's key is nowhere in the image.
        let info = stage.engine.image(&image(snapshot.id)).await.unwrap().expect("its image");
        assert!(info.env.contains(&"REXEC_GUEST_KEY=0".to_owned()), "{:?}", info.env);
        assert_eq!(info.env.iter().filter(|pair| pair.starts_with("REXEC_GUEST_KEY")).count(), 1);

        let second = clone(&stage, snapshot.id).await;
        assert_eq!(second.memory_mb, first.memory_mb, "it has what that had");
        assert_eq!((first.snapshot, second.snapshot), (None, Some(snapshot.id)));
        let script = "cat ~/kept ~/d/hard /opt/root; ls ~/before; id -un; stat -c %h ~/kept; \
                      test $(du -k ~/sparse | cut -f1) -lt 1024 && stat -c %s ~/sparse; \
                      awk '$1 != NR { bad = 1 } END { print bad + 0 }' ~/log; \
                      stat -c %F:%t:%T ~/w";
        let seen = stage.run(second.id, script).await;
        let expected = "mine\nmine\nroot\n/home/user/before\nuser\n2\n1073741824\n0\ncharacter special file:0:0\n";
        assert_eq!(seen.stdout, expected, "{seen:?}");
        assert_eq!(stage.client.snapshot(snapshot.id).await.unwrap().clones, 1);
        assert_eq!(stage.run(first.id, "cat ~/kept").await.stdout, "other\n");

        let ours = [("rexec.instance".to_owned(), stage.instance.clone())].into();
        eventually("the helpers to go", async || {
            let containers = stage.engine.containers(&ours).await.unwrap();
            containers.iter().all(|c| !c.labels.contains_key("rexec.helper")).then_some(())
        })
        .await;
        for id in [first.id, second.id] {
            stage.client.purge_workspace(id).await.unwrap();
        }
        stage.client.delete_snapshot(snapshot.id).await.unwrap();
        until_removed(&stage, snapshot.id).await;
        stage
    })
    .await;
}

async fn every_state_can_be_taken(backend: Backend) {
    on_stage(backend, &[], async |place, stage| {
        let id = stage.workspace().await.id;
        stage.run(id, "echo mine > ~/kept").await;
        let mut taken = Vec::new();
        for (request, status) in
            [(Lifecycle::Pause, WorkspaceStatus::Paused), (Lifecycle::Stop, WorkspaceStatus::Stopped)]
        {
            stage.client.lifecycle(id, request).await.unwrap();
            let snapshot = take(&stage, id).await;
            assert_eq!(snapshot.pause_ms, None, "{status:?}");
            assert_eq!(stage.client.workspace(id).await.unwrap().status, status, "it stays as it is");
            taken.push(snapshot.id);
        }
        // A container that somebody removed leaves its home.
        let container = stage.containers(id).await.remove(0);
        stage.engine.remove(&container.id).await.unwrap();
        let homeless = take(&stage, id).await;
        assert!(homeless.reason.is_some() && homeless.image_bytes == 0, "{homeless:?}");
        taken.push(homeless.id);
        let stage = stage.restart_server(place, &[]).await;
        for &snapshot in &taken {
            let cloned = clone(&stage, snapshot).await;
            assert_eq!(stage.run(cloned.id, "cat ~/kept").await.stdout, "mine\n");
            stage.client.purge_workspace(cloned.id).await.unwrap();
        }
        let listed: Vec<SnapshotId> = stage.client.snapshots().await.unwrap().items.iter().map(|s| s.id).collect();
        assert_eq!(listed, taken.iter().rev().copied().collect::<Vec<_>>(), "newest first");
        for &id in &taken {
            stage.client.delete_snapshot(id).await.unwrap();
        }
        for id in taken {
            until_removed(&stage, id).await;
        }
        stage
    })
    .await;
}

async fn refusals(backend: Backend) {
    on_stage(backend, &[("REXEC_SNAPSHOTS_MAX", "1")], async |_, stage| {
        let id = stage.workspace().await.id;
        let anyone = Client::new(&stage.server.base).unwrap();
        let (other, _) = anyone.register("eve@example.com", PASSWORD).await.unwrap();
        let new = NewSnapshot { wait_ms: wait_ms(), ..Default::default() };
        assert_eq!(other.take_snapshot(id, &new).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        let snapshot = take(&stage, id).await.id;
        assert_eq!(stage.client.take_snapshot(id, &new).await.unwrap_err().code(), Some(ErrorCode::QuotaExceeded));

        assert_eq!(other.snapshot(snapshot).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        assert_eq!(other.delete_snapshot(snapshot).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        assert!(other.snapshots().await.unwrap().items.is_empty());
        let stolen = NewWorkspace { snapshot: Some(snapshot), ..Default::default() };
        assert_eq!(other.create_workspace(&stolen).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        let both = NewWorkspace { image: Some("rexec/base".into()), ..stolen };
        assert_eq!(stage.client.create_workspace(&both).await.unwrap_err().code(), Some(ErrorCode::InvalidRequest));
        let none = NewWorkspace { snapshot: Some(SnapshotId::new()), ..Default::default() };
        assert_eq!(stage.client.create_workspace(&none).await.unwrap_err().code(), Some(ErrorCode::NotFound));

        stage.client.delete_snapshot(snapshot).await.unwrap();
        assert_eq!(stage.client.snapshot(snapshot).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        until_removed(&stage, snapshot).await;
        assert_eq!(take(&stage, id).await.state, SnapshotState::Ready, "there is room again");
        let left = stage.client.snapshots().await.unwrap().items.remove(0).id;
        stage.client.purge_workspace(id).await.unwrap();
        stage.client.delete_snapshot(left).await.unwrap();
        until_removed(&stage, left).await;
        stage
    })
    .await;
}

async fn clones_outlive_their_snapshot(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        stage.run(id, "echo mine > ~/kept; sudo touch /opt/root").await;
        let snapshot = take(&stage, id).await.id;
        stage.client.purge_workspace(id).await.unwrap();
        let both = tokio::join!(clone(&stage, snapshot), clone(&stage, snapshot));
        stage.client.delete_snapshot(snapshot).await.unwrap();
        eventually("its volume to go", async || (volumes(&stage).await == 0).then_some(())).await;

        // A clone's container is made again from the image that nobody else sees.
        let container = stage.containers(both.0.id).await.remove(0);
        stage.engine.remove(&container.id).await.unwrap();
        stage
            .until(both.0.id, "it to be made again", |w| {
                w.status == WorkspaceStatus::Running && w.status_reason.as_deref().is_some_and(|r| r.contains("again"))
            })
            .await;
        assert_eq!(stage.run(both.0.id, "cat ~/kept; ls /opt/root").await.stdout, "mine\n/opt/root\n");
        stage.client.purge_workspace(both.0.id).await.unwrap();
        assert!(stage.engine.image(&image(snapshot)).await.unwrap().is_some(), "the other needs it");
        stage.client.purge_workspace(both.1.id).await.unwrap();
        until_removed(&stage, snapshot).await;
        stage
    })
    .await;
}

async fn five_clones_at_once(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        stage.run(id, "head -c 3000000 /dev/urandom > ~/random; sudo cp ~/random /opt/random").await;
        let sum = "sha256sum < ~/random; sha256sum < /opt/random";
        let told = stage.run(id, sum).await.stdout;
        let snapshot = take(&stage, id).await.id;
        let clones = futures_util::future::join_all((0..5).map(|_| clone(&stage, snapshot))).await;
        assert_eq!(stage.client.snapshot(snapshot).await.unwrap().clones, 5);
        for (n, cloned) in clones.iter().enumerate() {
            assert_eq!(stage.run(cloned.id, sum).await.stdout, told);
            stage.run(cloned.id, &format!("echo {n} > ~/random")).await;
        }
        // Each has a home of its own.
        for (n, cloned) in clones.iter().enumerate() {
            assert_eq!(stage.run(cloned.id, "cat ~/random").await.stdout, format!("{n}\n"));
        }
        for id in clones.iter().map(|cloned| cloned.id).chain([id]) {
            stage.client.purge_workspace(id).await.unwrap();
        }
        stage.client.delete_snapshot(snapshot).await.unwrap();
        until_removed(&stage, snapshot).await;
        stage
    })
    .await;
}

fn refusal(refused: Result<SnapshotView, ClientError>) -> Box<rexec_api::error::ErrorDetail> {
    match refused {
        Err(ClientError::Refused(error)) => error,
        other => panic!("it must be refused: {other:?}"),
    }
}

/// An engine ends a commit that was begun, whether or not the server lives, or its snapshot is still wanted.
async fn what_a_late_commit_leaves_is_swept(backend: Backend) {
    on_stage(backend, &[], async |place, stage| {
        let id = stage.workspace().await.id;
        let (gone, kept) = (take(&stage, id).await.id, take(&stage, id).await.id);
        stage.client.delete_snapshot(gone).await.unwrap();
        eventually("it to be removed", async || {
            stage.engine.image(&image(gone)).await.unwrap().is_none().then_some(())
        })
        .await;
        eventually("its removal to be recorded", async || {
            let text = "SELECT id FROM snapshots WHERE id = $1 AND image_ref IS NULL AND volume IS NULL";
            let db = &stage.server.running.app.db;
            let found = db.read().query_all_raw(sql(db.read(), text, [gone.to_string().into()])).await.unwrap();
            (!found.is_empty()).then_some(())
        })
        .await;
        let another_servers = image(SnapshotId::new());
        for late in [&image(gone), &another_servers] {
            stage.engine.tag_image("rexec/base:latest", late).await.unwrap();
        }
        let ours = Labels::from([("rexec.instance".to_owned(), stage.instance.clone())]);
        stage.engine.volume_create(&volume(gone), &ours, None).await.unwrap();
        // It comes about while no server runs; the next sweeps as soon as it has its host.
        let stage = stage.restart_server(place, &[]).await;
        let swept = async || stage.engine.image(&image(gone)).await.unwrap().is_none().then_some(());
        eventually("what is left to be swept", swept).await;
        eventually("the volume too", async || {
            let volumes = stage.engine.volumes(&ours).await.unwrap();
            volumes.iter().all(|found| found.name != volume(gone)).then_some(())
        })
        .await;
        let left = stage.engine.volumes(&ours).await.unwrap();
        assert!(left.iter().any(|found| found.name == volume(kept)), "what is wanted stays: {left:?}");
        let others = stage.engine.image(&another_servers).await.unwrap();
        stage.engine.remove_image(&another_servers).await.unwrap();
        assert!(others.is_some(), "what is not ours stays");
        assert!(stage.engine.image(&image(kept)).await.unwrap().is_some(), "what is wanted stays");
        stage.client.purge_workspace(id).await.unwrap();
        stage.client.delete_snapshot(kept).await.unwrap();
        until_removed(&stage, kept).await;
        stage
    })
    .await;
}

async fn a_full_host_takes_none(backend: Backend) {
    on_stage(backend, &[], async |place, stage| {
        let id = stage.workspace().await.id;
        // More than any disk has.
        let stage = stage.restart_server(place, &[("REXEC_HOST_DISK_FREE_MB", "4000000000")]).await;
        stage.until(id, "it to be reached", |w| w.status == WorkspaceStatus::Running).await;
        let new = NewSnapshot { wait_ms: wait_ms(), ..Default::default() };
        let error = refusal(stage.client.take_snapshot(id, &new).await);
        assert_eq!((error.code, &error.details["resource"]), (ErrorCode::HostFull, &"disk".into()), "{error:?}");
        assert!(error.message.contains("Delete"), "{error:?}");
        assert!(stage.client.snapshots().await.unwrap().items.is_empty(), "nothing was begun");
        assert_eq!(stage.run(id, "echo on").await.stdout, "on\n");
        stage
    })
    .await;
}

/// A commit would write the hole out. With room for half of it the host is safe even if that were begun.
async fn holes_count_in_full(backend: Backend) {
    const HOLE_GB: u64 = 8;
    let space = DockerEngine::connect(&engine_address()).unwrap().disk_space().await.unwrap();
    let free_mb = space.expect("the engine's disk is this machine's").free_bytes >> 20;
    let kept_free = free_mb.saturating_sub(HOLE_GB << 9).to_string();
    on_stage(backend, &[("REXEC_HOST_DISK_FREE_MB", &kept_free)], async |place, stage| {
        let id = stage.workspace().await.id;
        stage.run(id, &format!("sudo truncate -s {HOLE_GB}G /opt/hole; echo mine > ~/kept")).await;
        let new = NewSnapshot { wait_ms: wait_ms(), ..Default::default() };
        let error = refusal(stage.client.take_snapshot(id, &new).await);
        assert_eq!(error.code, ErrorCode::HostFull, "{error:?}");
        assert!(error.message.contains("8.0 GiB, holes in them counted in full"), "{error:?}");
        let failed = stage.client.snapshots().await.unwrap().items.remove(0);
        assert_eq!((failed.state, failed.error_code), (SnapshotState::Failed, Some(ErrorCode::HostFull)));
        assert_eq!(stage.client.workspace(id).await.unwrap().status, WorkspaceStatus::Running);

        // So it is with what its owner may keep.
        let stage = stage.restart_server(place, &[("REXEC_SNAPSHOT_BYTES_MAX", "4000000000")]).await;
        stage.until(id, "it to be reached", |w| w.status == WorkspaceStatus::Running).await;
        assert_eq!(refusal(stage.client.take_snapshot(id, &new).await).code, ErrorCode::QuotaExceeded);

        // In the home holes stay holes.
        stage.run(id, "sudo rm /opt/hole; truncate -s 100G ~/hole").await;
        let taken = take(&stage, id).await;
        assert!(taken.home_bytes < 1 << 20, "{taken:?}");
        stage.client.purge_workspace(id).await.unwrap();
        for snapshot in stage.client.snapshots().await.unwrap().items {
            stage.client.delete_snapshot(snapshot.id).await.unwrap();
        }
        until_removed(&stage, taken.id).await;
        stage
    })
    .await;
}

async fn what_is_asked_meanwhile_goes_before(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        // Enough that it is still at work when it is stopped.
        stage.run(id, "head -c 600000000 /dev/zero > ~/large").await;
        let new = NewSnapshot { wait_ms: wait_ms(), ..Default::default() };
        let taking = stage.client.take_snapshot(id, &new);
        let stopping = async {
            eventually("it to be begun", async || {
                let all = stage.client.snapshots().await.unwrap().items;
                all.iter().any(|s| s.state == SnapshotState::Taking).then_some(())
            })
            .await;
            stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        };
        let (refused, ()) = tokio::join!(taking, stopping);
        let error = refusal(refused);
        assert_eq!((error.code, error.code.http_status()), (ErrorCode::SnapshotGivenUp, 409), "{error:?}");
        assert!(error.message.contains("Take it again"), "{error:?}");
        stage.until(id, "it to be stopped", |w| w.status == WorkspaceStatus::Stopped).await;
        let failed = stage.client.snapshots().await.unwrap().items.remove(0);
        assert_eq!((failed.state, failed.error_code), (SnapshotState::Failed, Some(ErrorCode::SnapshotGivenUp)));
        stage.client.delete_snapshot(failed.id).await.unwrap();
        until_removed(&stage, failed.id).await;
        stage
    })
    .await;
}
