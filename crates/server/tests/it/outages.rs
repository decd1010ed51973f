//! Servers of the fleet that are cut off or slow: what is seen of their workspaces, and that these are
//! themselves again when it is over. Nothing is deleted or started anew because something did not answer.

use crate::busybox;
use crate::support::Backend;
use crate::support::far::{Far, Way, with_far};
use crate::support::workspaces::{Follower, PATIENCE, Stage, eventually};
use futures_util::future::join_all;
use rexec_api::error::ErrorCode;
use rexec_api::ids::{TerminalId, WorkspaceId};
use rexec_api::servers::ServerHealth;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::{AttachOptions, Lifecycle};
use rexec_engine::{ContainerInfo, ContainerState, Engine as _, ExecStart, Labels};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;

const IMAGE: &str = "rexec-test-outages:1";
/// Says a number more each moment, and leaves it where it can be read without a terminal.
const TICKER: &str = "i=0; while :; do i=$((i+1)); echo tick-$i.; echo $i >/home/user/tick; sleep 0.1; done";
/// How long the network is away.
const OUTAGE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

fn small(server: &str) -> NewWorkspace {
    NewWorkspace {
        image: Some(IMAGE.into()),
        memory_mb: Some(64),
        cpu: Some(0.5),
        host: Some(server.into()),
        wait_ms: Some(PATIENCE.as_millis() as u64),
        ..Default::default()
    }
}

async fn running(stage: &Stage, server: &str) -> WorkspaceId {
    let made = stage.client.create_workspace(&small(server)).await.unwrap();
    assert_eq!((made.status, made.host.as_deref()), (WorkspaceStatus::Running, Some(server)), "{made:?}");
    made.id
}

async fn until_status(stage: &Stage, id: WorkspaceId, status: WorkspaceStatus) -> WorkspaceView {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let view = stage.client.workspace(id).await.unwrap();
        if view.status == status {
            return view;
        }
        assert!(Instant::now() < deadline, "in vain waited for {status:?}: {view:?}");
        tokio::time::sleep(POLL).await;
    }
}

fn labels(id: WorkspaceId) -> Labels {
    Labels::from([("rexec.workspace".to_owned(), id.to_string())])
}

/// As its engine has it, whatever the network does: what a workspace is made of.
async fn container(far: &Far, id: WorkspaceId) -> ContainerInfo {
    let mut all = far.daemon.engine().containers(&labels(id)).await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// How far its ticker has come, asked of its engine.
async fn ticks(far: &Far, id: WorkspaceId) -> u64 {
    let (engine, container) = (far.daemon.engine(), container(far, id).await.id);
    let command = ["/bin/cat", "/home/user/tick"].map(str::to_owned).to_vec();
    let exec = ExecStart { command, user: "0:0".into(), env: Vec::new() };
    eventually("the ticker to have said something", async || {
        let mut text = String::new();
        engine.exec_stream(&container, &exec).await.ok()?.read_to_string(&mut text).await.ok()?;
        text.trim().parse().ok()
    })
    .await
}

async fn ticker(stage: &Stage, id: WorkspaceId) -> (TerminalId, Follower) {
    let terminal = stage.terminal(id, &["/bin/sh", "-c", TICKER]).await;
    // From the first byte on, so that no snapshot stands for any.
    let whole = AttachOptions { offset: Some(0), ..Default::default() };
    let mut follower = Follower::new(stage.attach(id, terminal, whole).await, Some(0));
    follower.until("tick-3.").await;
    (terminal, follower)
}

/// Follows until the text has come, attaching again as often as it takes, as the page does.
async fn persist(stage: &Stage, id: WorkspaceId, terminal: TerminalId, follower: &mut Follower, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !follower.has(text) {
        assert!(Instant::now() < deadline, "in vain waited for {text:?}");
        if let Ok(Ok(received)) = tokio::time::timeout(PATIENCE, follower.attachment.next()).await {
            follower.take(&received).await;
            if follower.closed.is_none() {
                continue;
            }
        }
        assert!(!matches!(follower.closed, Some(4401 | 4403 | 4410)), "it is over: {:?}", follower.closed);
        let options = AttachOptions { offset: follower.end, ..Default::default() };
        match stage.client.attach(id, terminal, options).await {
            Ok(attachment) => (follower.attachment, follower.closed) = (attachment, None),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Every tick, once and in order.
fn require_every_tick(follower: &Follower) {
    let text = follower.text();
    let ticks: Vec<&str> = text.split("\r\n").filter(|line| !line.is_empty()).collect();
    let whole = &ticks[..ticks.len() - 1];
    for (at, line) in whole.iter().enumerate() {
        assert_eq!(*line, format!("tick-{}.", at + 1));
    }
}

/// Both ways to a server at once: both take their minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminals_outlive_a_minute_without_network() {
    with_far(Backend::Sqlite, [(Way::Tls, &[]), (Way::Ssh, &[])], async |_, stage, far| {
        join_all(far.iter().zip(["tls", "ssh"]).map(|(far, name)| outlives(&stage, far, name))).await;
        stage
    })
    .await;
}

async fn outlives(stage: &Stage, far: &Far, name: &str) {
    far.daemon.engine().import_image(IMAGE, busybox::image().into()).await.unwrap();
    let server = far.join(stage, name, "far").await;
    let id = running(stage, name).await;
    let doomed = running(stage, name).await;
    let (terminal, mut follower) = ticker(stage, id).await;
    let before = container(far, id).await;

    far.wire.blackhole();
    let (gone, at) = (Instant::now(), ticks(far, id).await);
    let away = until_status(stage, id, WorkspaceStatus::Unreachable).await;
    assert!(away.status_reason.is_some(), "{away:?}");
    let health = async || {
        let servers = stage.client.servers().await.unwrap().items;
        servers.into_iter().find(|other| other.id == server.id).unwrap().health
    };
    assert_eq!(health().await, ServerHealth::Offline);
    let refused = stage.client.create_workspace(&small(name)).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::EngineUnavailable));
    // Its workspaces are somebody's: it cannot be given up with them, and they cannot be taken for gone.
    let refused = stage.client.remove_server(server.id).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::ServerInUse));
    stage.client.purge_workspace(doomed).await.unwrap();
    container(far, doomed).await;
    // It is the network that is away, and nothing else.
    eventually("what runs there to go on", async || (ticks(far, id).await > at + 50).then_some(())).await;
    tokio::time::sleep(OUTAGE.saturating_sub(gone.elapsed())).await;
    assert_eq!(stage.client.workspace(id).await.unwrap().status, WorkspaceStatus::Unreachable);
    let last = ticks(far, id).await;

    far.wire.heal().await;
    until_status(stage, id, WorkspaceStatus::Running).await;
    assert_eq!(health().await, ServerHealth::Ready);
    persist(stage, id, terminal, &mut follower, &format!("tick-{}.", last + 20)).await;
    require_every_tick(&follower);
    let after = container(far, id).await;
    assert_eq!((&after.id, &after.state), (&before.id, &ContainerState::Running), "nothing was made or started anew");
    assert_eq!(stage.client.terminals(id).await.unwrap().items.len(), 1);
    // What was asked for meanwhile is done now.
    until_gone(far, doomed).await;
    purge(stage, far, id).await;
}

/// Has a workspace go, and nothing of it is left there.
async fn purge(stage: &Stage, far: &Far, id: WorkspaceId) {
    stage.client.purge_workspace(id).await.unwrap();
    until_gone(far, id).await;
}

async fn until_gone(far: &Far, id: WorkspaceId) {
    eventually("nothing of it to be left", async || {
        let engine = far.daemon.engine();
        let is_gone =
            engine.containers(&labels(id)).await.ok()?.is_empty() && engine.volumes(&labels(id)).await.ok()?.is_empty();
        is_gone.then_some(())
    })
    .await;
}

/// A round trip takes as long as to another continent; no time-out is so short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_is_no_fault() {
    const ROUND_TRIP: Duration = Duration::from_millis(80);
    with_far(Backend::Sqlite, [(Way::Tls, &[]), (Way::Ssh, &[])], async |_, stage, far| {
        let lives = far.iter().zip(["tls", "ssh"]).map(|(far, name)| async {
            far.wire.slow(ROUND_TRIP);
            far.daemon.engine().import_image(IMAGE, busybox::image().into()).await.unwrap();
            far.join(&stage, name, "far").await;
            works(&stage, far, name).await;
            far.wire.slow(Duration::ZERO);
            is_unplugged(&stage, far, name).await;
        });
        join_all(lives).await;
        stage
    })
    .await;
}

/// A network that is away and says so.
async fn is_unplugged(stage: &Stage, far: &Far, name: &str) {
    let id = running(stage, name).await;
    let (terminal, mut follower) = ticker(stage, id).await;
    far.wire.cut().await;
    until_status(stage, id, WorkspaceStatus::Unreachable).await;
    let last = ticks(far, id).await;
    far.wire.heal().await;
    until_status(stage, id, WorkspaceStatus::Running).await;
    persist(stage, id, terminal, &mut follower, &format!("tick-{}.", last + 20)).await;
    require_every_tick(&follower);
    purge(stage, far, id).await;
}

async fn works(stage: &Stage, far: &Far, name: &str) {
    const FILE_BYTES: usize = 2 << 20;
    let id = running(stage, name).await;
    let told = stage.run(id, "echo out; echo err >&2; exit 3").await;
    assert_eq!((told.exit_code, told.stdout.as_str(), told.stderr.as_str()), (3, "out\n", "err\n"));
    let terminal = stage.terminal(id, &["/bin/sh"]).await;
    let mut typist = Follower::new(stage.attach(id, terminal, AttachOptions::default()).await, None);
    for round in 0..10 {
        typist.attachment.input(format!("echo typed-$(({round}+100))\n").as_bytes()).await.unwrap();
        typist.until(&format!("typed-{}", round + 100)).await;
    }
    let content: Vec<u8> =
        (0..FILE_BYTES / 4).flat_map(|n| (n as u32).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    stage.client.write_file(id, "/home/user/bulk", content.clone()).await.unwrap();
    assert!(stage.client.read_file(id, "/home/user/bulk").await.unwrap() == content, "it comes back as it went");
    stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
    until_status(stage, id, WorkspaceStatus::Stopped).await;
    stage.client.lifecycle(id, Lifecycle::Start).await.unwrap();
    until_status(stage, id, WorkspaceStatus::Running).await;
    assert_eq!(stage.run(id, "cd && ls").await.stdout, "bulk\n");
    purge(stage, far, id).await;
}
