//! Forwards of every kind.

use crate::client::{PATIENCE, World, finish, noise};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Answers each connection with what it has said, once it has said all.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                io.read_to_end(&mut all).await.expect("a request");
                io.write_all(&all).await.expect("an answer");
            });
        }
    });
    port
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port()
}

fn background(ssh: &mut Command) -> Child {
    ssh.args(["-N", "-oExitOnForwardFailure=yes", "ws@127.0.0.1"]);
    ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("ssh")
}

async fn connect(port: u16) -> TcpStream {
    let tries = async {
        loop {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(io) => return io,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, tries).await.expect("a forward that listens")
}

/// Sends all, says that this was all, and gets it back.
async fn exchange(mut io: impl AsyncReadExt + AsyncWriteExt + Unpin + Send + 'static, bytes: Vec<u8>) {
    let (sent, back) = (bytes.clone(), async move {
        io.write_all(&bytes).await.expect("a request");
        io.shutdown().await.expect("its end");
        let mut back = Vec::new();
        io.read_to_end(&mut back).await.expect("an answer");
        back
    });
    assert!(timeout(PATIENCE, back).await.expect("an answer in time") == sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_ports_sockets_and_a_proxy() {
    let world = World::new().await;
    let (there, here) = (echo().await, free_port().await);
    let socket = world.path("here.sock");
    let remote = world.home().join("there.sock");
    let listener = UnixListener::bind(&remote).expect("a socket");
    tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.expect("a stream");
        let mut all = Vec::new();
        io.read_to_end(&mut all).await.expect("a request");
        io.write_all(&all).await.expect("an answer");
    });
    let mut ssh = world.ssh();
    ssh.args(["-L", &format!("{here}:127.0.0.1:{there}")]);
    let _client = background(ssh.args(["-L", &format!("{}:{}", socket.display(), remote.display())]));
    exchange(connect(here).await, b"small".to_vec()).await;
    let many: Vec<_> =
        (0..20).map(|_| tokio::spawn(async move { exchange(connect(here).await, noise(1 << 20)).await })).collect();
    for one in many {
        one.await.expect("an exchange");
    }
    world.until("a socket", || socket.exists()).await;
    exchange(UnixStream::connect(&socket).await.expect("a stream"), noise(1 << 20)).await;
    // `-W` is what a jump host does; `-D` asks for the same channels.
    let done = finish(world.ssh().args(["-W", &format!("127.0.0.1:{there}"), "ws@127.0.0.1"]), b"through").await.ok();
    assert_eq!(done.text(), "through");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socks_proxy() {
    let world = World::new().await;
    let (there, here) = (echo().await, free_port().await);
    let _client = background(world.ssh().args(["-D", &here.to_string()]));
    let mut io = connect(here).await;
    let [high, low] = there.to_be_bytes();
    io.write_all(&[5, 1, 0]).await.expect("a greeting");
    io.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, high, low]).await.expect("a request");
    let mut answer = [0; 12];
    timeout(PATIENCE, io.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(answer[..4], [5, 0, 5, 0]);
    exchange(io, b"by proxy".to_vec()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_or_may_not_be_dialled() {
    let world = World::new().await;
    let nobody = free_port().await;
    let done = finish(world.ssh().args(["-W", &format!("127.0.0.1:{nobody}"), "ws@127.0.0.1"]), b"").await;
    assert_eq!(done.code, Some(255));
    assert!(done.err.contains("connect failed"), "{}", done.err);
    world.local.forbidden.lock().expect("forbidden").push("dial");
    let done = finish(world.ssh().args(["-W", &format!("127.0.0.1:{nobody}"), "ws@127.0.0.1"]), b"").await;
    assert!(done.err.contains("administratively prohibited"), "{}", done.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_ports_chosen_and_given() {
    let world = World::new().await;
    let (here, given) = (echo().await, free_port().await);
    let _client = background(world.ssh().args(["-R", &format!("{given}:127.0.0.1:{here}")]));
    exchange(connect(given).await, noise(1 << 20)).await;

    let mut ssh = world.ssh();
    ssh.args(["-R", &format!("0:127.0.0.1:{here}"), "ws@127.0.0.1", "cat"]);
    let client = ssh.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut client = client.kill_on_drop(true).spawn().expect("ssh");
    let mut said = String::new();
    let mut stderr = client.stderr.take().expect("stderr");
    let mut chunk = [0; 256];
    while !said.contains('\n') {
        let count = timeout(PATIENCE, stderr.read(&mut chunk)).await.expect("in time").expect("a line");
        said.push_str(std::str::from_utf8(&chunk[..count]).expect("text"));
    }
    let chosen = said.strip_prefix("Allocated port ").and_then(|rest| rest.split(' ').next()).expect("a port");
    exchange(connect(chosen.parse().expect("a number")).await, b"chosen".to_vec()).await;
    // It ends with its connection.
    client.kill().await.expect("a kill");
    let port: u16 = chosen.parse().expect("a number");
    let gone = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the port is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_sockets_and_a_forward_that_is_taken_back() {
    let world = World::new().await;
    let (here, master) = (echo().await, world.path("master"));
    let remote = world.home().join("remote.sock");
    let control = format!("-oControlPath={}", master.display());
    let mut ssh = world.ssh();
    let _client = background(ssh.args([&control, "-oControlMaster=yes"]));
    world.until("a master", || master.exists()).await;
    let forward = format!("{}:127.0.0.1:{here}", remote.display());
    let ask = async |what: &str| {
        finish(world.ssh().args([&control, "-O", what, "-R", &forward, "ws@127.0.0.1"]), b"").await.ok()
    };
    ask("forward").await;
    exchange(UnixStream::connect(&remote).await.expect("a stream"), noise(1 << 18)).await;
    ask("cancel").await;
    world.until("the socket is gone", || !remote.exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_lent_and_taken_back() {
    let world = World::new().await;
    let agent = world.path("agent.sock");
    let mut process = Command::new("ssh-agent");
    let process = process.args(["-D", "-a"]).arg(&agent).stdout(Stdio::null()).kill_on_drop(true);
    let _process = process.spawn().expect("an agent");
    world.until("an agent", || agent.exists()).await;
    let status = Command::new("ssh-add")
        .arg("-q")
        .arg(world.path("id"))
        .env("SSH_AUTH_SOCK", &agent)
        .status()
        .await
        .expect("ssh-add");
    assert!(status.success());
    let mut ssh = Command::new("ssh");
    ssh.arg("-A").arg(format!("-oIdentityAgent={}", agent.display())).args(world.options());
    ssh.arg("-i").arg(world.path("id"));
    let done = finish(ssh.args(["ws@127.0.0.1", "ssh-add -l; echo $SSH_AUTH_SOCK"]), b"").await.ok();
    let mut lines = done.text().lines();
    let fingerprint = lines.next().expect("a key");
    assert!(fingerprint.contains("SHA256:") && fingerprint.ends_with("(ED25519)"), "{fingerprint}");
    let socket = std::path::PathBuf::from(lines.next().expect("a socket"));
    world.until("the socket is gone", || !socket.exists()).await;

    let done = finish(world.ssh().args(["ws@127.0.0.1", "echo \"<$SSH_AUTH_SOCK>\""]), b"").await.ok();
    assert_eq!(done.text(), "<>\n", "nobody asked for it");
}
