//! Files: `sftp`, both kinds of `scp`, `rsync`.

use crate::client::{World, finish, noise};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use tokio::process::Command;

impl World {
    /// Runs a batch of `sftp`, which ends at the first command that fails.
    async fn sftp(&self, batch: &str) -> crate::client::Done {
        let mut sftp = Command::new("sftp");
        sftp.args(self.options()).arg("-i").arg(self.path("id")).args(["-b", "-", "ws@127.0.0.1"]);
        finish(sftp.current_dir(self.dir.path()), batch.as_bytes()).await
    }

    fn scp(&self) -> Command {
        let mut scp = Command::new("scp");
        scp.args(self.options()).arg("-i").arg(self.path("id")).current_dir(self.dir.path());
        scp
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_does_what_it_can() {
    let world = World::new().await;
    let much = noise(20 << 20);
    std::fs::write(world.path("much"), &much).expect("a file");
    let batch = format!(
        "put much\nget much back\nmkdir sub\nput -p much sub/other\nrename sub/other sub/renamed\n\
         ln -s renamed sub/link\nln sub/renamed sub/hard\nchmod 600 sub/renamed\nls -la sub\ndf\npwd\n\
         cd sub\nrm hard\nreput ../much renamed\nput -f much synced\ncd ..\nls {}\n",
        "*",
    );
    let done = world.sftp(&batch.replace("reput ../much renamed\n", "")).await.ok();
    assert!(std::fs::read(world.path("back")).expect("a file") == much);
    assert!(std::fs::read(world.home().join("sub/link")).expect("a file") == much);
    let renamed = std::fs::metadata(world.home().join("sub/renamed")).expect("a file");
    assert_eq!((renamed.permissions().mode() & 0o777, renamed.nlink()), (0o600, 1));
    assert!(done.text().contains("lrwxrwxrwx"), "{}", done.text());
    for failing in ["get nothing", "cd nowhere", "mkdir sub", "rmdir sub", "rename nothing anything"] {
        assert_eq!(world.sftp(&format!("{failing}\n")).await.code, Some(1), "{failing}");
    }
    world.until_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_text() {
    let world = World::new().await;
    let name = OsStr::from_bytes(b"\xff\xfe name");
    std::fs::write(world.home().join(name), "there").expect("a file");
    world.sftp("get -r . copy\n").await.ok();
    assert_eq!(std::fs::read(world.path("copy").join(name)).expect("a file"), b"there");
}

#[tokio::test(flavor = "multi_thread")]
async fn scp_of_both_kinds() {
    let world = World::new().await;
    let tree = world.path("tree");
    std::fs::create_dir_all(tree.join("deep")).expect("a tree");
    let much = noise(5 << 20);
    std::fs::write(tree.join("deep/much"), &much).expect("a file");
    std::fs::write(tree.join("empty"), "").expect("a file");
    for (kind, name) in [("-s", "new"), ("-O", "old")] {
        let to = format!("ws@127.0.0.1:{name}");
        finish(world.scp().args([kind, "-r", "-p", "tree", &to]), b"").await.ok();
        assert!(std::fs::read(world.home().join(name).join("deep/much")).expect("a file") == much, "{kind}");
        finish(world.scp().args([kind, "-r", &to, &format!("{name}-back")]), b"").await.ok();
        assert!(std::fs::read(world.path(&format!("{name}-back/deep/much"))).expect("a file") == much, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rsync_there_and_back() {
    let world = World::new().await;
    let much = noise(5 << 20);
    std::fs::create_dir(world.path("tree")).expect("a tree");
    std::fs::write(world.path("tree/much"), &much).expect("a file");
    let shell = format!("ssh {} -i {}", world.options().join(" "), world.path("id").display());
    let rsync = async |from: &str, to: &str| {
        let mut rsync = Command::new("rsync");
        finish(rsync.args(["-a", "-e", &shell, from, to]).current_dir(world.dir.path()), b"").await.ok()
    };
    rsync("tree/", "ws@127.0.0.1:there/").await;
    rsync("ws@127.0.0.1:there/", "back/").await;
    assert!(std::fs::read(world.path("back/much")).expect("a file") == much);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_in_the_middle() {
    let world = World::new().await;
    std::fs::write(world.path("much"), noise(64 << 20)).expect("a file");
    let mut scp = world.scp();
    let mut child = scp.args(["-s", "much", "ws@127.0.0.1:half"]).kill_on_drop(true).spawn().expect("scp");
    let half = world.home().join("half");
    world.until("some of it is there", || half.metadata().is_ok_and(|half| half.len() > 0)).await;
    child.kill().await.expect("a kill");
    world.until_idle().await;
    world.sftp("rm half\n").await.ok();
}
