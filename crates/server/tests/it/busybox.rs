//! An image with nothing in it but busybox: the guest brings all that it needs.

use crate::support::registry;
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, on_both};
use rexec_api::files::ArchiveFormat;
use rexec_api::snapshots::{NewSnapshot, SnapshotState};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_engine::{Engine as _, Labels, PLAIN_IMAGES};
use serde_json::json;

on_both!(files_commands_and_snapshots_work, declared_volumes_are_part_of_the_root);

const APPLETS: [&str; 11] = ["cat", "chmod", "chown", "echo", "id", "ls", "mkdir", "nc", "sh", "sleep", "touch"];

/// Busybox alone: not even a file of users.
pub fn image() -> Vec<u8> {
    image_with(&[])
}

/// Busybox and these files.
pub fn image_with(files: &[(&str, &[u8])]) -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("/bin/busybox is there (Debian's package busybox-static)");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    tar.append_data(&mut header, "bin/busybox", busybox.as_slice()).unwrap();
    for applet in APPLETS {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

async fn running(stage: &Stage, new: NewWorkspace) -> WorkspaceView {
    let new = NewWorkspace { wait_ms: Some(PATIENCE.as_millis() as u64), ..new };
    let view = stage.client.create_workspace(&new).await.unwrap();
    assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
    view
}

async fn files_commands_and_snapshots_work(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let name = format!("rexec-test-busybox:{}", stage.instance);
        stage.engine.import_image(&name, image().into()).await.unwrap();
        let new = NewWorkspace { image: Some(name.clone()), memory_mb: Some(64), ..Default::default() };
        let id = running(&stage, new).await.id;
        let told = stage.run(id, "id -u; cd ~ && mkdir d && echo mine > d/kept && ls /usr 2>&1; echo $?").await;
        assert!(told.stdout.starts_with("1000\n") && told.stdout.ends_with("1\n"), "{told:?}");

        let client = &stage.client;
        client.write_file(id, "/home/user/d/sent", "sent").await.unwrap();
        let archive = client.archive(id, "/home/user/d", ArchiveFormat::TarZst).await.unwrap().bytes().await.unwrap();
        let made = client.extract(id, "/home/user/e", ArchiveFormat::TarZst, archive).await.unwrap();
        assert_eq!(made.files, 2, "{made:?}");

        let taken = NewSnapshot { wait_ms: Some(PATIENCE.as_millis() as u64), ..Default::default() };
        let taken = client.take_snapshot(id, &taken).await.unwrap();
        assert_eq!(taken.state, SnapshotState::Ready, "{taken:?}");
        let archive = client.export_snapshot(taken.id).await.unwrap().bytes().await.unwrap();
        let came = client.import_snapshot(None, archive).await.unwrap();
        for snapshot in [taken.id, came.id] {
            let cloned = running(&stage, NewWorkspace { snapshot: Some(snapshot), ..Default::default() }).await.id;
            let seen = stage.run(cloned, "cat ~/d/kept ~/e/d/kept ~/e/d/sent").await;
            assert_eq!(seen.stdout, "mine\nmine\nsent", "{seen:?}");
            stage.client.purge_workspace(cloned).await.unwrap();
        }
        stage.client.purge_workspace(id).await.unwrap();
        for snapshot in [taken.id, came.id] {
            stage.client.delete_snapshot(snapshot).await.unwrap();
        }
        eventually("its images to be free", async || stage.engine.remove_image(&name).await.ok()).await;
        stage
    })
    .await;
}

/// Of an image such as a database's: what it keeps in a declared volume is in the snapshot, and in an archive of that.
async fn declared_volumes_are_part_of_the_root(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let name = format!("rexec-test-volumes:{}", stage.instance);
        registry::load(&name, json!({ "Volumes": { "/data": {} }, "Env": ["KEPT=yes"] })).await;
        let new = NewWorkspace { image: Some(name.clone()), memory_mb: Some(64), ..Default::default() };
        let first = running(&stage, new).await;
        assert_eq!(first.image, name, "it is told as it was asked for");
        let made = stage.run(first.id, "sudo mkdir -p /data && sudo sh -c 'echo mine > /data/file'; echo $KEPT").await;
        assert_eq!(made.stdout, "yes\n", "{made:?}");
        let labels = Labels::from([("rexec.workspace".to_owned(), first.id.to_string())]);
        let containers = stage.engine.containers(&labels).await.unwrap();
        assert!(containers.iter().all(|container| container.unnamed_volumes.is_empty()), "{containers:?}");

        let taken = NewSnapshot { wait_ms: Some(PATIENCE.as_millis() as u64), ..Default::default() };
        let taken = stage.client.take_snapshot(first.id, &taken).await.unwrap();
        assert_eq!((taken.state, &taken.reason), (SnapshotState::Ready, &None));
        let archive = stage.client.export_snapshot(taken.id).await.unwrap().bytes().await.unwrap();
        let came = stage.client.import_snapshot(None, archive).await.unwrap();
        for snapshot in [taken.id, came.id] {
            let cloned = running(&stage, NewWorkspace { snapshot: Some(snapshot), ..Default::default() }).await.id;
            assert_eq!(stage.run(cloned, "cat /data/file").await.stdout, "mine\n");
            stage.client.purge_workspace(cloned).await.unwrap();
        }
        stage.client.purge_workspace(first.id).await.unwrap();
        for snapshot in [taken.id, came.id] {
            stage.client.delete_snapshot(snapshot).await.unwrap();
        }
        let id = stage.engine.image(&name).await.unwrap().unwrap().id;
        let plain = format!("{PLAIN_IMAGES}{}", id.trim_start_matches("sha256:"));
        eventually("the image to be free", async || stage.engine.remove_image(&name).await.ok()).await;
        eventually("the one made of it to be free", async || stage.engine.remove_image(&plain).await.ok()).await;
        stage
    })
    .await;
}
