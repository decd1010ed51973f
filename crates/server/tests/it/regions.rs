//! Regions: how far they are, and how many workspaces each may have.

use crate::busybox;
use crate::support::dockerd::Dockerd;
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, on_both};
use futures_util::FutureExt as _;
use rexec_api::error::ErrorCode;
use rexec_api::servers::{NewServer, PatchServer, RegionView};
use rexec_api::volumes::RestoreVolume;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::{ClientError, ServerRequest};
use rexec_engine::Engine as _;
use std::panic::{AssertUnwindSafe, resume_unwind};

on_both!(a_region_has_no_more_than_it_may,);

const IMAGE: &str = "rexec-test/regions:1";

fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ErrorCode {
    result.unwrap_err().code().unwrap()
}

async fn region(stage: &Stage, name: &str) -> RegionView {
    stage.client.regions().await.unwrap().items.into_iter().find(|region| region.name == name).unwrap()
}

async fn a_region_has_no_more_than_it_may(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let daemon = Dockerd::start().await;
        daemon.engine().import_image(IMAGE, busybox::image().into()).await.unwrap();
        let outcome = AssertUnwindSafe(limit(&stage, &daemon)).catch_unwind().await;
        daemon.remove().await;
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
        stage
    })
    .await;
}

async fn limit(stage: &Stage, daemon: &Dockerd) {
    let client = &stage.client;
    let second = NewServer {
        name: "second".into(),
        socket: Some(daemon.socket()),
        region: Some("cellar".into()),
        ..NewServer::default()
    };
    let server = client.add_server(&second).await.unwrap();
    let cellar = eventually("it to be known how far the region is", async || {
        Some(region(stage, "cellar").await).filter(|region| region.latency_ms.is_some())
    })
    .await;
    assert_eq!((cellar.servers, cellar.ready, cellar.workspaces, cellar.max_workspaces), (1, 1, 0, None));
    assert!(cellar.latency_ms.is_some_and(|ms| ms < 10_000.0), "{cellar:?}");
    let health = client.compute_health().await.unwrap();
    assert!(health.latency_ms.contains_key("cellar") && health.full_regions.is_empty(), "{health:?}");

    // Bad input.
    assert_eq!(code(client.limit_region("attic", Some(1)).await), ErrorCode::NotFound);
    assert_eq!(code(client.limit_region("cellar", Some(u32::MAX)).await), ErrorCode::InvalidRequest);

    // Of six at once, two.
    let limited = client.limit_region("cellar", Some(2)).await.unwrap();
    assert_eq!(limited.max_workspaces, Some(2));
    let new = NewWorkspace {
        image: Some(IMAGE.into()),
        memory_mb: Some(64),
        cpu: Some(0.25),
        region: Some("cellar".into()),
        wait_ms: Some(PATIENCE.as_millis() as u64),
        ..Default::default()
    };
    let made = futures_util::future::join_all((0..6).map(|_| client.create_workspace(&new))).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
    assert!(made.iter().all(|view| view.status == WorkspaceStatus::Running), "{made:?}");
    assert_eq!(made.len(), 2);
    for error in refused {
        let error = error.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::HostFull), "{error:?}");
    }
    let refusal = client.create_workspace(&new).await.unwrap_err();
    assert!(refusal.to_string().contains("its region has as many workspaces as it may have"), "{refusal}");
    assert_eq!(client.compute_health().await.unwrap().full_regions, ["cellar"]);
    // Who names no region is not concerned.
    let anywhere = NewWorkspace { image: None, region: None, ..new.clone() };
    let here = client.create_workspace(&anywhere).await.unwrap();
    assert_eq!(here.host.as_deref(), Some("local"));
    client.purge_workspace(here.id).await.unwrap();

    // A kept home cannot come back there meanwhile, a deleted workspace makes room, and fewer than there are ends none.
    client.delete_workspace(made[0].id).await.unwrap();
    let third = client.create_workspace(&new).await.unwrap();
    let kept = client.volumes().await.unwrap().items.into_iter().find(|volume| volume.workspace_id == made[0].id);
    let patient = RestoreVolume { wait_ms: new.wait_ms, ..Default::default() };
    let restored = client.restore_volume(kept.as_ref().unwrap().id, &patient).await;
    assert_eq!(code(restored), ErrorCode::HostFull);
    assert_eq!(client.limit_region("cellar", Some(0)).await.unwrap().workspaces, 2);
    assert_eq!(stage.run(third.id, "echo here").await.stdout, "here\n");
    assert_eq!(code(client.create_workspace(&new).await), ErrorCode::HostFull);

    // A server that changes its region counts where it is.
    let attic = PatchServer { region: Some("attic".into()), ..Default::default() };
    client.change_server(server.id, &attic).await.unwrap();
    let moved = region(stage, "attic").await;
    assert_eq!((moved.workspaces, moved.max_workspaces), (2, None));
    let back = PatchServer { region: Some("cellar".into()), ..Default::default() };
    client.change_server(server.id, &back).await.unwrap();
    assert_eq!(client.limit_region("cellar", None).await.unwrap().max_workspaces, None);
    let restored = client.restore_volume(kept.unwrap().id, &patient).await.unwrap();
    assert_eq!(restored.status, WorkspaceStatus::Running);
    client.ask_server(server.id, ServerRequest::Drain).await.unwrap();
    assert_eq!(region(stage, "cellar").await.ready, 0);
    for view in client.workspaces().await.unwrap().items {
        client.purge_workspace(view.id).await.unwrap();
    }
}
