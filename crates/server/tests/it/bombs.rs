//! What a workspace can do to itself, and what its neighbours and the server notice of it: nothing.

use crate::support::Backend;
use crate::support::workspaces::{Follower, PATIENCE, Stage, eventually, on_stage, on_stage_as};
use rexec_api::exec::ExecRequest;
use rexec_api::ids::WorkspaceId;
use rexec_api::snapshots::NewSnapshot;
use rexec_api::terminals::NewTerminal;
use rexec_api::workspaces::{DiskEnforced, NewWorkspace, PatchWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::{AttachOptions, Lifecycle, Method};
use rexec_engine::{Engine as _, docker::DockerEngine};
use std::time::Duration;

/// Echoes that a neighbour does while a bomb goes off.
const ECHOES: usize = 50;

async fn small(stage: &Stage, new: NewWorkspace) -> WorkspaceId {
    let wait_ms = Some(PATIENCE.as_millis() as u64);
    let view = stage.client.create_workspace(&NewWorkspace { wait_ms, ..new }).await.unwrap();
    assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
    view.id
}

/// A neighbour that types and is answered, and a server that says that it is well.
struct Neighbour {
    follower: Follower,
    echoes: usize,
}

impl Neighbour {
    async fn new(stage: &Stage) -> (WorkspaceId, Self) {
        let id = stage.workspace().await.id;
        let terminal = stage.terminal(id, &["/bin/cat"]).await;
        let follower = Follower::new(stage.attach(id, terminal, AttachOptions::default()).await, None);
        (id, Self { follower, echoes: 0 })
    }

    async fn is_well(&mut self, stage: &Stage) {
        for _ in 0..ECHOES {
            self.echoes += 1;
            let text = format!("echo-{}-", self.echoes);
            self.follower.attachment.input(format!("{text}\n").as_bytes()).await.unwrap();
            self.follower.until(&text).await;
            assert_eq!(stage.server.get("/health").await.status, 200);
        }
    }
}

/// The terminal that was there before still answers: PID 1 was not what had to go.
async fn answers(follower: &mut Follower, text: &str) {
    follower.attachment.input(format!("{text}\n").as_bytes()).await.unwrap();
    follower.until(text).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_stays_at_home() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let bombed = small(&stage, NewWorkspace { memory_mb: Some(512), pids: Some(128), ..Default::default() }).await;
        let (_, mut neighbour) = Neighbour::new(&stage).await;
        let before = stage.terminal(bombed, &["/bin/cat"]).await;
        let mut before = Follower::new(stage.attach(bombed, before, AttachOptions::default()).await, None);
        let container = stage.containers(bombed).await.remove(0).id;
        // A shell that may not fork ends, and others take its place: lit again and again, the bomb fills every place.
        let bomb = "trap '' HUP; bomb() { sleep 1000 & bomb | bomb & }; bomb; while :; do sleep 1000 & done";
        eventually("the bomb to have gone off", async || {
            let command = Some(["/bin/sh", "-c", bomb].map(str::to_owned).to_vec());
            let new = NewTerminal { cols: 80, rows: 24, command, ..Default::default() };
            // Refused once there is no place left.
            let _ = stage.client.create_terminal(bombed, &new).await;
            (stage.engine.stats_once(&container).await.unwrap().pids >= 120).then_some(())
        })
        .await;
        neighbour.is_well(&stage).await;
        answers(&mut before, "still-here").await;
        assert!(!stage.client.terminals(bombed).await.unwrap().items.is_empty());

        stage.client.lifecycle(bombed, Lifecycle::Restart).await.unwrap();
        let ready = stage.until(bombed, "it to run", |view| view.status == WorkspaceStatus::Running).await;
        assert_eq!(stage.run(ready.id, "echo well").await.stdout, "well\n");
        stage
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_bomb_takes_its_own_process_and_is_told() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let bombed = stage.workspace().await.id;
        let (_, mut neighbour) = Neighbour::new(&stage).await;
        let before = stage.terminal(bombed, &["/bin/cat"]).await;
        let mut before = Follower::new(stage.attach(bombed, before, AttachOptions::default()).await, None);
        let bomb =
            ExecRequest { command: ["/usr/bin/tail", "/dev/zero"].map(str::to_owned).to_vec(), ..Default::default() };
        let (ended, ()) = tokio::join!(stage.client.exec(bombed, &bomb), neighbour.is_well(&stage));
        assert_ne!(ended.unwrap().exit_code, 0);
        answers(&mut before, "still-here").await;
        let told = |view: &WorkspaceView| {
            view.status == WorkspaceStatus::Running
                && view
                    .status_reason
                    .as_deref()
                    .is_some_and(|reason| reason.starts_with("Out of memory: ") && reason.contains("256 MiB"))
        };
        stage.until(bombed, "its owner to be told", told).await;
        assert_eq!(stage.run(bombed, "echo well").await.stdout, "well\n");
        stage
    })
    .await;
}

/// Makes a volume of the engine's that is full soon.
async fn tiny_volume(name: &str) {
    let address = crate::support::workspaces::engine_address();
    let socket = address.strip_prefix("unix://").expect("an engine on a socket");
    let body = serde_json::json!({
        "Name": name, "Driver": "local", "Labels": { "rexec.test": "server" },
        "DriverOpts": { "type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,gid=1000" },
    })
    .to_string();
    let request = format!(
        "POST /v1.41/volumes/create HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(" 201 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_home_leaves_terminals_and_neighbours_alone() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let (_, mut neighbour) = Neighbour::new(&stage).await;
        // Its home is put on a file system of its own, so that it alone is full.
        stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        let volume = stage.volumes(id).await.remove(0);
        let container = stage.containers(id).await.remove(0).id;
        stage.engine.remove(&container).await.unwrap();
        stage.engine.remove_volume(&volume).await.unwrap();
        tiny_volume(&volume).await;
        stage.client.lifecycle(id, Lifecycle::Start).await.unwrap();

        let full = stage.run(id, "cd && dd if=/dev/zero of=fill bs=64k").await;
        assert!(full.stderr.contains("No space left"), "{full:?}");
        let terminal = stage.terminal(id, &[]).await;
        let mut shell = Follower::new(stage.attach(id, terminal, AttachOptions::default()).await, None);
        shell.attachment.input(b"echo still-$((40+2))\n").await.unwrap();
        shell.until("still-42").await;
        let refused = stage.client.write_file(id, "/home/user/more", vec![0u8; 1 << 16]).await.unwrap_err();
        assert_eq!(refused.code(), Some(rexec_api::error::ErrorCode::DiskFull));
        neighbour.is_well(&stage).await;
        stage.client.purge_workspace(id).await.unwrap();
        stage
    })
    .await;
}

/// An engine walks its disk for one at a time, and beside other tests that takes long.
async fn until_measured(stage: &Stage, id: WorkspaceId, fits: impl Fn(&WorkspaceView) -> bool) -> WorkspaceView {
    let seen = async {
        loop {
            let view = stage.client.workspace(id).await.unwrap();
            if fits(&view) {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(5 * PATIENCE, seen).await.expect("its disk is not measured")
}

/// Whether the engine holds sizes by itself: then nothing is measured.
async fn holds_sizes(stage: &Stage) -> bool {
    let view = stage.client.workspaces().await.unwrap().items.remove(0);
    view.disk_enforced == Some(DiskEnforced::Quota)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_on_a_disk_is_warned_of_and_then_stopped() {
    let quick = |config: &mut rexec_server::config::Config| {
        config.disk.grace = Duration::ZERO;
        config.disk.look_every = Duration::from_millis(200);
        config.disk.rest_times = 1;
    };
    on_stage_as(Backend::Sqlite, &[("REXEC_DISK_GB", "1")], quick, async |_, stage| {
        let id = stage.workspace().await.id;
        if holds_sizes(&stage).await {
            return stage;
        }
        let told = |text: &'static str| {
            move |view: &WorkspaceView| view.status_reason.as_deref().is_some_and(|reason| reason.contains(text))
        };
        stage.run(id, "fallocate -l 970M ~/most").await;
        until_measured(&stage, id, told("nearly full")).await;
        stage.run(id, "rm ~/most && fallocate -l 1100M ~/more").await;
        let stopped = until_measured(&stage, id, |view| view.status == WorkspaceStatus::Stopped).await;
        assert!(stopped.status_reason.unwrap().starts_with("Stopped because its disk of 1 GiB is full."));

        // It may be started again, and is left alone with a larger disk.
        let larger = PatchWorkspace { disk_gb: Some(Some(3)), ..Default::default() };
        let path = format!("/api/workspaces/{id}");
        let view: WorkspaceView =
            stage.client.request(Method::PATCH, &path).json(&larger).send().await.unwrap().json().await.unwrap();
        assert_eq!((view.disk_gb, view.disk_enforced), (Some(3), Some(DiskEnforced::Measured)));
        stage.client.lifecycle(id, Lifecycle::Start).await.unwrap();
        assert_eq!(stage.run(id, "rm ~/more; echo well").await.stdout, "well\n");
        let smaller = PatchWorkspace { disk_gb: Some(Some(0)), ..Default::default() };
        let refused = stage.client.request(Method::PATCH, &path).json(&smaller).send().await.unwrap();
        assert_eq!(refused.status(), 422);
        stage
    })
    .await;
}

/// Empty files take no bytes that an engine tells of, and a disk has so many of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_files_fill_a_disk_too_and_a_snapshot() {
    let quick = |config: &mut rexec_server::config::Config| {
        config.disk.grace = Duration::ZERO;
        config.disk.look_every = Duration::from_millis(200);
        config.disk.rest_times = 1;
    };
    on_stage_as(Backend::Sqlite, &[("REXEC_DISK_GB", "1")], quick, async |_, stage| {
        let id = stage.workspace().await.id;
        let make = async |count: u32, at: &str| {
            let script = format!("sudo mkdir -p {at} && cd {at} && seq {count} | sudo xargs touch");
            let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
            let timeout_ms = Some(5 * PATIENCE.as_millis() as u64);
            let request = ExecRequest { command, timeout_ms, ..Default::default() };
            stage.client.exec(id, &request).await.map(|ran| ran.exit_code)
        };
        assert_eq!(make(5000, "/home/user/some").await.unwrap(), 0);
        let wait_ms = Some(PATIENCE.as_millis() as u64);
        let taken = stage.client.take_snapshot(id, &NewSnapshot { wait_ms, ..Default::default() }).await.unwrap();
        assert!(taken.home_bytes > 5000 << 12, "{taken:?}");
        stage.client.delete_snapshot(taken.id).await.unwrap();
        // More than half of a GiB each, by themselves: in the home, and outside of it.
        assert_eq!(make(140_000, "/home/user/many").await.unwrap(), 0);
        // The disk is full before the last of them is made: who looks just then stops it in the middle.
        let _ = make(140_000, "/opt/many").await;
        let stopped = until_measured(&stage, id, |view| view.status == WorkspaceStatus::Stopped).await;
        assert!(stopped.status_reason.unwrap().starts_with("Stopped because its disk of 1 GiB is full."));
        stage
    })
    .await;
}

#[tokio::test]
async fn nothing_is_made_on_a_full_host() {
    on_stage(Backend::Sqlite, &[("REXEC_HOST_DISK_FREE_MB", "4000000000")], async |_, stage| {
        assert!(
            DockerEngine::connect(&crate::support::workspaces::engine_address())
                .unwrap()
                .disk_space()
                .await
                .unwrap()
                .is_some()
        );
        let refused = stage.client.create_workspace(&NewWorkspace::default()).await.unwrap_err();
        assert_eq!(refused.code(), Some(rexec_api::error::ErrorCode::HostFull));
        assert!(stage.client.workspaces().await.unwrap().items.is_empty());
        stage
    })
    .await;
}
