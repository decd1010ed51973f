//! Other runtimes than the engine's own: gVisor's real `runsc`, on an engine with a network of its own, added to the fleet.
//! On these machines it needs the host's network calls and ptrace, which a wrapper of two lines asks for.

use crate::busybox;
use crate::support::Backend;
use crate::support::dockerd::Dockerd;
use crate::support::workspaces::{Follower, PATIENCE, Stage, on_stage};
use futures_util::FutureExt as _;
use rexec_api::error::ErrorCode;
use rexec_api::servers::NewServer;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::{AttachOptions, ClientError, Lifecycle, ServerRequest};
use rexec_engine::Engine as _;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;

const IMAGE: &str = "rexec-test-runtimes:1";
const RUNSC: (&str, &str) = ("COMPUTE_DOCKER_RUNTIME", "runsc");

fn of_image() -> NewWorkspace {
    NewWorkspace {
        image: Some(IMAGE.into()),
        memory_mb: Some(256),
        cpu: Some(1.0),
        wait_ms: Some(PATIENCE.as_millis() as u64),
        ..Default::default()
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ErrorCode {
    result.unwrap_err().code().unwrap()
}

/// Registers `runsc` as it is, and as one that keeps root file systems in memory.
fn runtimes(dir: &Path) -> Vec<String> {
    let registered = [("runsc", ""), ("runsc-forgets", "--overlay")].map(|(name, more)| {
        let path = dir.join(name);
        let script = format!("#!/bin/sh\nexec runsc --network=host --platform=ptrace {more} \"$@\"\n");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("--add-runtime={name}={}", path.display())
    });
    registered.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gvisor_runs_workspaces_where_it_keeps_what_they_write() {
    on_stage(Backend::Sqlite, &[], async |place, stage| {
        // One of the engine's own runtime, from before.
        let before = stage.workspace().await.id;
        stage.client.lifecycle(before, Lifecycle::Stop).await.unwrap();
        stage.until(before, "its stop", |view| view.status == WorkspaceStatus::Stopped).await;

        let stage = stage.restart_server(place, &[RUNSC]).await;
        assert_eq!(code(stage.client.create_workspace(&of_image()).await), ErrorCode::RuntimeUnavailable);
        assert_eq!(code(stage.client.lifecycle(before, Lifecycle::Start).await), ErrorCode::RuntimeNotAllowed);
        stage.client.purge_workspace(before).await.unwrap();

        let dir = tempfile::tempdir().unwrap();
        let more = runtimes(dir.path());
        let mut daemon = Dockerd::start_apart(&more.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let outcome = AssertUnwindSafe(with_runsc(&stage, &mut daemon)).catch_unwind().await;
        daemon.remove().await;
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        stage
    })
    .await;
}

async fn with_runsc(stage: &Stage, daemon: &mut Dockerd) {
    daemon.engine().import_image(IMAGE, busybox::image().into()).await.unwrap();
    let client = &stage.client;
    let new = NewServer { name: "far".into(), socket: Some(daemon.socket()), ..NewServer::default() };
    let server = client.add_server(&new).await.unwrap();

    // It goes where the runtime is, which nobody had to name.
    let made = client.create_workspace(&of_image()).await.unwrap();
    assert_eq!(
        (made.status, made.host.as_deref(), made.runtime.as_str()),
        (WorkspaceStatus::Running, Some("far"), "runsc"),
        "{made:?}"
    );
    let id = made.id;
    let dmesg = stage.run(id, "dmesg").await;
    assert!(dmesg.stdout.contains("gVisor"), "{dmesg:?}");
    let told = stage.run(id, "echo out; echo err >&2; exit 3").await;
    assert_eq!((told.exit_code, told.stdout.as_str(), told.stderr.as_str()), (3, "out\n", "err\n"));
    let terminal = stage.terminal(id, &["/bin/sh"]).await;
    let mut typist = Follower::new(stage.attach(id, terminal, AttachOptions::default()).await, None);
    typist.attachment.input(b"echo typed-$((40+2))\n").await.unwrap();
    typist.until("typed-42").await;
    let content: Vec<u8> = (0..1 << 18).flat_map(|n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    client.write_file(id, "/home/user/bulk", content.clone()).await.unwrap();
    assert!(client.read_file(id, "/home/user/bulk").await.unwrap() == content, "it comes back as it went");

    // Home and root outlive a stop.
    let root = rexec_api::exec::ExecRequest {
        command: ["/bin/sh", "-c", "echo kept > /kept && sync"].map(str::to_owned).to_vec(),
        user: Some("#0".into()),
        ..Default::default()
    };
    assert_eq!(client.exec(id, &root).await.unwrap().exit_code, 0);
    client.lifecycle(id, Lifecycle::Stop).await.unwrap();
    stage.until(id, "its stop", |view| view.status == WorkspaceStatus::Stopped).await;
    client.lifecycle(id, Lifecycle::Start).await.unwrap();
    stage.until(id, "its start", |view| view.status == WorkspaceStatus::Running).await;
    assert_eq!(stage.run(id, "cat /kept; wc -c < ~/bulk").await.stdout.trim(), "kept\n1048576");

    // One that would lose it is found out before anything is made.
    let forgets = NewWorkspace { runtime: Some("runsc-forgets".into()), ..of_image() };
    assert_eq!(code(client.create_workspace(&forgets).await), ErrorCode::RuntimeUnfit);
    let seen = client.ask_server(server.id, ServerRequest::Test).await.unwrap();
    let unfit = seen.found.unwrap().runtimes_unfit;
    assert_eq!(unfit.keys().collect::<Vec<_>>(), ["runsc-forgets"], "{unfit:?}");
    assert!(unfit["runsc-forgets"].contains("lost when a workspace stops"), "{unfit:?}");
    client.purge_workspace(id).await.unwrap();
    let left = daemon.engine().images().await.unwrap();
    assert!(left.iter().all(|image| image.references.iter().all(|name| !name.contains("trial"))), "{left:?}");
}
