//! Snapshots that leave as archives, and come back: on another server, in full or not at all.

use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, PASSWORD, on_both};
use bytes::Bytes;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::snapshots::{NewSnapshot, SnapshotState, SnapshotView};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::Client;
use rexec_engine::{Engine as _, Labels};

on_both!(a_snapshot_moves_to_another_server, what_is_refused_leaves_nothing);

/// What there is to be found again, of every kind that a file system knows: in the home and outside of it.
pub const MAKE: &str = r#"
    set -e
    cd ~; echo mine > kept; mkdir -p d/e; ln kept d/hard; ln -s ../kept d/soft; ln -s /etc/passwd abroad
    printf odd > "$(printf 'n\377 \001me')"; mkfifo -m 620 pipe; truncate -s 1G sparse; echo end >> sparse
    mkdir -m 700 closed; touch -d '2001-02-03 04:05:06.789 UTC' old; chmod 4750 kept
    sudo sh -c 'set -e; mkdir -m 1777 /opt/d; echo root > /opt/d/file; chmod 2640 /opt/d/file; chown 12:34 /opt/d/file
        cp /bin/true /opt/d/suid; chmod 4755 /opt/d/suid; ln /opt/d/file /opt/hard; ln -s nowhere /opt/dangling
        rm -f /etc/issue; printf x > "/opt/$(printf "\376")"; echo theirs > /home/user/rooted; head -c 2000000 /dev/urandom > /opt/random'
"#;
/// Tells all of it.
pub const TELL: &str = r#"
    cd /; find /opt /home/user /usr/bin -printf '%p %y %m %U:%G %l %TY-%Tm-%Td %TH:%TM ' \( ! -type d -printf '%n\n' -o -printf '\n' \) | LC_ALL=C sort | sha256sum
    sudo sh -c 'cat /opt/random /opt/d/file /opt/d/suid /usr/bin/*' 2>/dev/null | sha256sum
    sudo sh -c 'stat -c "%n %a %u:%g %h %F" /opt/d /opt/d/* /opt/hard'; readlink /opt/dangling
    cd ~; cat kept d/soft rooted; tail -c 4 sparse; test $(du -k sparse | cut -f1) -lt 1024 && stat -c '%s' sparse
    stat -c '%a %h' kept; stat -c '%F %a' pipe closed; stat -c %y old; ls | od -c | head; ls /etc/issue 2>&1
    echo $COLOUR; test -s /etc/passwd && test -d /proc/1 && id -un
"#;

fn patient() -> NewWorkspace {
    NewWorkspace { memory_mb: Some(256), wait_ms: Some(PATIENCE.as_millis() as u64), ..Default::default() }
}

async fn take(client: &Client, id: WorkspaceId) -> SnapshotView {
    let new = NewSnapshot { wait_ms: patient().wait_ms, ..Default::default() };
    let view = client.take_snapshot(id, &new).await.unwrap();
    assert_eq!(view.state, SnapshotState::Ready, "{view:?}");
    view
}

async fn clone(stage: &Stage, snapshot: &SnapshotView) -> WorkspaceView {
    let new = NewWorkspace { snapshot: Some(snapshot.id), memory_mb: None, ..patient() };
    let view = stage.client.create_workspace(&new).await.unwrap();
    assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
    view
}

async fn tell(stage: &Stage, id: WorkspaceId) -> String {
    let told = stage.run(id, TELL).await;
    assert_eq!(told.exit_code, 0, "{told:?}");
    told.stdout
}

/// What the engine has of snapshots and helpers of this test.
async fn remains(stage: &Stage) -> usize {
    let ours = Labels::from([("rexec.instance".to_owned(), stage.instance.clone())]);
    let volumes = stage.engine.volumes(&ours).await.unwrap();
    let containers = stage.engine.summaries(&ours).await.unwrap();
    volumes.iter().filter(|volume| volume.labels.contains_key("rexec.snapshot")).count()
        + containers.iter().filter(|container| container.labels.contains_key("rexec.helper")).count()
}

async fn a_snapshot_moves_to_another_server(backend: Backend) {
    on_stage(backend, &[], async |_, here| {
        let env = [("COLOUR".to_owned(), "red".to_owned())].into();
        let id = here.client.create_workspace(&NewWorkspace { env, ..patient() }).await.unwrap().id;
        let made = here.run(id, MAKE).await;
        assert_eq!(made.exit_code, 0, "{made:?}");
        let told = tell(&here, id).await;
        let taken = take(&here.client, id).await;
        let archive = here.client.export_snapshot(taken.id).await.unwrap();
        assert!(archive.headers()["content-disposition"].to_str().unwrap().ends_with(".tar.zst"));
        let archive = archive.bytes().await.unwrap();
        here.client.purge_workspace(id).await.unwrap();
        here.client.delete_snapshot(taken.id).await.unwrap();
        eventually("nothing to be left here", async || (remains(&here).await == 0).then_some(())).await;

        on_stage(backend, &[], async |_, there| {
            let came = there.client.import_snapshot(None, archive.clone()).await.unwrap();
            assert_eq!((came.state, &came.name), (SnapshotState::Ready, &taken.name));
            assert!(came.pause_ms.is_some() && came.pause_ms == taken.pause_ms, "{came:?}");
            assert_eq!((&came.workspace_name, came.home_bytes > 0), (&taken.workspace_name, true), "{came:?}");
            let first = clone(&there, &came).await;
            assert_eq!(first.memory_mb, 256, "it has what that had");
            assert_eq!(tell(&there, first.id).await, told);

            // It is a snapshot as any other: what is made from it can be taken, and leave again.
            let again = take(&there.client, first.id).await;
            let archive = there.client.export_snapshot(again.id).await.unwrap().bytes().await.unwrap();
            let named = there.client.import_snapshot(Some("zweites/ü"), archive).await.unwrap();
            assert_eq!(named.name, "zweites/ü");
            let second = clone(&there, &named).await;
            assert_eq!(tell(&there, second.id).await, told);
            for workspace in [first.id, second.id] {
                there.client.purge_workspace(workspace).await.unwrap();
            }
            for snapshot in [came.id, again.id, named.id] {
                there.client.delete_snapshot(snapshot).await.unwrap();
            }
            eventually("nothing to be left there", async || (remains(&there).await == 0).then_some(())).await;
            there
        })
        .await;
        here
    })
    .await;
}

async fn what_is_refused_leaves_nothing(backend: Backend) {
    on_stage(backend, &[("REXEC_SNAPSHOTS_MAX", "2")], async |_, stage| {
        let id = stage.client.create_workspace(&patient()).await.unwrap().id;
        stage.run(id, "echo mine > ~/kept").await;
        let taken = take(&stage.client, id).await;
        stage.client.purge_workspace(id).await.unwrap();
        let (other, _) = Client::new(&stage.server.base).unwrap().register("eve@example.com", PASSWORD).await.unwrap();
        assert_eq!(other.export_snapshot(taken.id).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        let archive = stage.client.export_snapshot(taken.id).await.unwrap().bytes().await.unwrap();
        // One whose end has been read is over: the next one begins at once.
        for _ in 0..3 {
            assert!(!stage.client.export_snapshot(taken.id).await.unwrap().bytes().await.unwrap().is_empty());
        }

        let mut changed = archive.to_vec();
        let middle = changed.len() / 2;
        changed[middle] ^= 0x10;
        for (body, code) in [
            (Bytes::new(), ErrorCode::ArchiveInvalid),
            (Bytes::from_static(b"no archive at all"), ErrorCode::ArchiveInvalid),
            (archive.slice(..archive.len() - 1), ErrorCode::ArchiveInvalid),
            (archive.slice(..middle), ErrorCode::ArchiveInvalid),
            (changed.into(), ErrorCode::ArchiveInvalid),
        ] {
            let refused = stage.client.import_snapshot(None, body).await.unwrap_err();
            assert_eq!(refused.code(), Some(code), "{refused:?}");
        }
        let refused = stage.client.import_snapshot(Some("\u{7}"), archive.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::InvalidRequest));
        // A connection that breaks in the middle.
        let half = archive.slice(..middle);
        let pieces = futures_util::stream::iter([Ok(half), Err(std::io::Error::other("gone"))]);
        stage.client.import_snapshot(None, reqwest::Body::wrap_stream(pieces)).await.unwrap_err();
        // A reader that goes in the middle.
        drop(stage.client.export_snapshot(taken.id).await.unwrap());
        eventually("all but the snapshot to go", async || (remains(&stage).await == 1).then_some(())).await;
        assert_eq!(stage.client.snapshots().await.unwrap().items.len(), 1, "none of them is listed");

        let came = other.import_snapshot(Some("eve's"), archive.clone()).await.unwrap();
        assert_eq!(stage.client.snapshot(came.id).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        let mine = stage.client.import_snapshot(None, archive.clone()).await.unwrap();
        let refused = stage.client.import_snapshot(None, archive.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::QuotaExceeded));
        other.delete_snapshot(came.id).await.unwrap();
        for snapshot in [taken.id, mine.id] {
            stage.client.delete_snapshot(snapshot).await.unwrap();
        }
        eventually("nothing to be left", async || (remains(&stage).await == 0).then_some(())).await;
        stage
    })
    .await;
    // What would take more than there may be is refused by what its manifest tells.
    on_stage(backend, &[("REXEC_SNAPSHOT_BYTES_MAX", "4000000000")], async |place, stage| {
        let id = stage.client.create_workspace(&patient()).await.unwrap().id;
        let taken = take(&stage.client, id).await;
        let archive = stage.client.export_snapshot(taken.id).await.unwrap().bytes().await.unwrap();
        let stage = stage.restart_server(place, &[("REXEC_SNAPSHOT_BYTES_MAX", "1000000")]).await;
        let refused = stage.client.import_snapshot(None, archive).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::QuotaExceeded), "{refused:?}");
        stage.client.purge_workspace(id).await.unwrap();
        stage.client.delete_snapshot(taken.id).await.unwrap();
        eventually("nothing to be left", async || (remains(&stage).await == 0).then_some(())).await;
        stage
    })
    .await;
}
