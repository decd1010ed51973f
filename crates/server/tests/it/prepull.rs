//! Images that are fetched before anyone asks.

use crate::support::registry::Registry;
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, on_both};
use rexec_api::error::ErrorCode;
use rexec_api::ids::HostId;
use rexec_api::servers::{ImageState, WantedImage};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_engine::Engine as _;
use serde_json::Value;

on_both!(images_are_there_before_anyone_asks);

async fn local(stage: &Stage) -> HostId {
    stage.client.servers().await.unwrap().items[0].id
}

async fn until(stage: &Stage, image: &str, state: ImageState) -> WantedImage {
    let id = local(stage).await;
    eventually(&format!("{image} is {state:?}"), async || {
        let wanted = stage.client.server_images(id).await.unwrap().wanted;
        wanted.into_iter().find(|wanted| wanted.image == image && wanted.state == state)
    })
    .await
}

async fn images_are_there_before_anyone_asks(backend: Backend) {
    let registry = Registry::start().await;
    on_stage(backend, &[], async |place, stage| {
        let engine = stage.engine.clone();
        let first = registry.offer(&engine, &format!("ahead-{}", stage.instance)).await;
        let second = registry.offer(&engine, &format!("asked-{}", stage.instance)).await;
        let settings = [("REXEC_PREPULL", "true"), ("REXEC_WORKSPACE_IMAGE", first.as_str())];
        let stage = stage.restart_server(place, &settings).await;
        until(&stage, &first, ImageState::Present).await;
        assert!(engine.image(&first).await.unwrap().is_some());
        let new = NewWorkspace { wait_ms: Some(PATIENCE.as_millis() as u64), ..Default::default() };
        let made = stage.client.create_workspace(&new).await.unwrap();
        assert_eq!((made.status, made.image.as_str()), (WorkspaceStatus::Running, first.as_str()));

        // What an administrator asks for comes, too; what cannot be had says why, and hinders nothing.
        let id = local(&stage).await;
        assert!(stage.client.pull_image(id, &second).await.unwrap().asked);
        until(&stage, &second, ImageState::Present).await;
        let nowhere = format!("{}/no-such-image:1", registry.host);
        stage.client.pull_image(id, &nowhere).await.unwrap();
        let failed = until(&stage, &nowhere, ImageState::Failed).await;
        assert!(failed.reason.is_some_and(|reason| !reason.is_empty()));
        let listed = stage.client.server_images(id).await.unwrap().items;
        assert!(listed.iter().any(|image| image.references.contains(&second) && image.size_bytes > 0));
        let ready: Value = stage.server.get("/ready").await.json();
        assert_eq!(ready["ready"], true, "{ready}");
        assert!(ready["images"]["present"].as_u64() >= Some(2) && ready["images"]["failed"].as_u64() >= Some(1));
        let refused = stage.client.pull_image(id, "no name at all").await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::InvalidRequest));

        stage.client.purge_workspace(made.id).await.unwrap();
        for image in [&first, &second] {
            engine.remove_image(image).await.unwrap();
        }
        stage
    })
    .await;
}
