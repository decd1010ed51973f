//! Two servers, each with an engine that it alone reaches: what is asked of one for the other's engine is done there.

use crate::exports::{MAKE, TELL};
use crate::moves::{code, start, stop, to, until_there};
use crate::replicas::{another, client, port};
use crate::support::Backend;
use crate::support::dockerd::Dockerd;
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use futures_util::FutureExt as _;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::servers::{ImageState, ServerHealth, ServerView};
use rexec_api::snapshots::{NewSnapshot, SnapshotState};
use rexec_api::workspaces::{MoveState, NewWorkspace, WorkspaceStatus};
use rexec_client::{Client, ServerRequest, StatsHeard};
use std::panic::{AssertUnwindSafe, resume_unwind};

#[tokio::test]
async fn an_engine_that_one_server_reaches_is_used_through_it() {
    let port = port();
    let url = format!("http://127.0.0.1:{port}");
    let daemon = Dockerd::start().await;
    let socket = format!("unix://{}", daemon.socket());
    let outcome = AssertUnwindSafe(on_stage(
        Backend::Postgres,
        &[("PORT", &port), ("REXEC_ADVERTISE_URL", &url)],
        async |place, stage| {
            let other = another(place, "other", &[("DOCKER_HOST", &socket)]).await;
            let there = client(&other, &stage.client);
            let its = ready(&stage.client, |server| server.name != "local").await;
            let ours = ready(&there, |server| server.name == "local").await;
            looks(&stage, &there, &its, &ours).await;
            goes(&stage, &there, &daemon, &its).await;
            assert!(other.stop().await, "it left work behind when it stopped");
            let gone = async || match stage.client.server_images(its.id).await {
                Err(error) => (error.code() == Some(ErrorCode::EngineUnavailable)).then_some(()),
                Ok(_) => None,
            };
            eventually("what its server alone reaches is away with it", gone).await;
            stage
        },
    ))
    .catch_unwind()
    .await;
    daemon.remove().await;
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}

async fn ready(client: &Client, is_it: impl Fn(&ServerView) -> bool) -> ServerView {
    eventually("the server to be ready", async || {
        let servers = client.servers().await.ok()?.items;
        servers.into_iter().find(|server| server.health == ServerHealth::Ready && is_it(server))
    })
    .await
}

/// Images, figures and snapshots of each other's.
async fn looks(stage: &Stage, there: &Client, its: &ServerView, ours: &ServerView) {
    let tested = there.ask_server(ours.id, ServerRequest::Test).await.unwrap();
    assert_eq!(tested.health, ServerHealth::Ready);
    let asked = stage.client.pull_image(its.id, "rexec/test:1").await.unwrap();
    assert!(asked.asked && asked.image == "rexec/test:1");
    eventually("the one who tends it has tried, and both say so", async || {
        let [here, far] = [stage.client.server_images(its.id).await.ok()?, there.server_images(its.id).await.ok()?];
        let failed = |image: &&rexec_api::servers::WantedImage| {
            image.image == "rexec/test:1" && image.state == ImageState::Failed
        };
        (here == far && here.wanted.iter().find(failed).is_some()).then_some(())
    })
    .await;

    let id = made(stage).await;
    let mut figures = there.watch_stats(id).await.unwrap();
    let heard = figures.next().await.unwrap();
    assert!(matches!(&heard, Some(StatsHeard::Sample(sample)) if sample.memory_bytes > 0), "{heard:?}");
    drop(figures);

    assert_eq!(stage.run(id, "echo kept > ~/file").await.exit_code, 0);
    let new = NewSnapshot { name: Some("one".into()), ..NewSnapshot::default() };
    let taken = there.take_snapshot(id, &new).await.unwrap();
    eventually("it to be taken", async || {
        (there.snapshot(taken.id).await.ok()?.state == SnapshotState::Ready).then_some(())
    })
    .await;
    let archive = async |client: &Client| client.export_snapshot(taken.id).await.unwrap().bytes().await.unwrap();
    // While one is being read, another disturbs it from neither server.
    let first = stage.client.export_snapshot(taken.id).await.unwrap();
    for client in [&stage.client, there] {
        assert_eq!(code(client.export_snapshot(taken.id).await), ErrorCode::WorkspaceBusy);
    }
    let (here, far) = (first.bytes().await.unwrap(), archive(there).await);
    // One that ends is whole; what an engine packs is not the same to the byte each time.
    assert!(here.len() > 1 << 20 && far.len() > 1 << 20, "{} {}", here.len(), far.len());
    there.delete_snapshot(taken.id).await.unwrap();
    stage.client.purge_workspace(id).await.unwrap();
}

/// One on the engine that has images.
async fn made(stage: &Stage) -> WorkspaceId {
    let wait_ms = Some(PATIENCE.as_millis() as u64);
    let new = NewWorkspace { host: Some("local".into()), memory_mb: Some(256), wait_ms, ..NewWorkspace::default() };
    let made = stage.client.create_workspace(&new).await.unwrap();
    assert_eq!(made.status, WorkspaceStatus::Running, "{made:?}");
    made.id
}

/// From one engine to the other, and back through the other server.
async fn goes(stage: &Stage, there: &Client, daemon: &Dockerd, its: &ServerView) {
    let away = daemon.engine();
    let id = made(stage).await;
    assert_eq!(stage.run(id, MAKE).await.exit_code, 0);
    let told = stage.run(id, TELL).await.stdout;
    for (name, asked_at) in [(its.name.as_str(), &stage.client), ("local", there)] {
        stop(stage, id).await;
        asked_at.move_workspace(id, &to(name)).await.unwrap();
        let moved = stage
            .until(id, "the move to be over", |view| {
                view.moving.as_ref().is_none_or(|moving| moving.state != MoveState::Moving)
            })
            .await;
        let state = moved.moving.as_ref().map(|moving| moving.state);
        assert_eq!((moved.host.as_deref(), state), (Some(name), Some(MoveState::Unproven)), "{moved:?}");
        start(stage, id).await;
        assert_eq!(stage.run(id, TELL).await.stdout, told);
    }
    until_there("nothing to be left there", &away, stage, id, [0, 0, 0]).await;
    assert_eq!(code(there.move_workspace(id, &to(&its.name)).await), ErrorCode::NotStopped);
    stage.client.purge_workspace(id).await.unwrap();
}
