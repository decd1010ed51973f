//! Channels that nobody reads.

use crate::client::{PATIENCE, World, finish, noise};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::{TcpListener, UnixStream};
use tokio::time::timeout;

/// Nothing moves for so long: then nothing will.
const STILL: Duration = Duration::from_secs(1);

/// A stream that its reader does not take holds up nobody else on its connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_stream_does_not_hold_up_the_others() {
    let world = World::new().await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = deaf.local_addr().expect("an address").port();
    let (here, master) = (world.path("here"), world.path("master"));
    let control = format!("-oControlPath={}", master.display());
    let forward = format!("{}:127.0.0.1:{port}", here.display());
    let mut ssh = world.ssh();
    ssh.args([&control, "-oControlMaster=yes", "-N", "-L", &forward, "ws@127.0.0.1"]);
    let _client = ssh.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("ssh");
    world.until("a master and a forward", || master.exists() && here.exists()).await;
    let stream = UnixStream::connect(&here).await.expect("a stream");
    let (kept, _) = timeout(PATIENCE, deaf.accept()).await.expect("in time").expect("a connection");
    // Written until there is no room anywhere on the way.
    let block = noise(1 << 20);
    while timeout(STILL, stream.writable()).await.is_ok() {
        let _ = stream.try_write(&block);
    }
    let much = noise(4 << 20);
    let done = finish(world.ssh().args([&control, "ws@127.0.0.1", "cat"]), &much).await.ok();
    assert!(done.out == much);
    drop(kept);
}

/// What is sent before somebody reads it waits for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_reads_late_gets_all() {
    let world = World::new().await;
    let much = noise(8 << 20);
    let command = "until [ -e go ]; do sleep 0.1; done; cat";
    let mut ssh = world.ssh();
    ssh.args(["ws@127.0.0.1", command]);
    let sent = much.clone();
    let session = tokio::spawn(async move { finish(&mut ssh, &sent).await });
    world.until("a session", || *world.local.alive.lock().expect("alive") == 1).await;
    // Another connection is not in its way.
    world.run("sleep 1; touch go").await.ok();
    let done = session.await.expect("a session").ok();
    assert!(done.out == much);
}
