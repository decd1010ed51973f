//! Images on their way to a host: pulls that are shared and told of, private registries, and what refusals leave.

use crate::support::registry::{PASSWORD as REGISTRY_PASSWORD, Registry, USERNAME};
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, PASSWORD, on_both};
use reqwest::{Method, StatusCode};
use rexec_api::error::ErrorCode;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::Client;
use rexec_engine::Engine as _;
use serde_json::{Value, json};

on_both!(a_pull_is_told_of_and_shared, private_images_need_credentials, unusable_images_leave_nothing);

fn of(image: &str) -> NewWorkspace {
    let wait_ms = Some(PATIENCE.as_millis() as u64);
    NewWorkspace { image: Some(image.into()), memory_mb: Some(64), wait_ms, ..Default::default() }
}

async fn a_pull_is_told_of_and_shared(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let registry = Registry::start().await;
        let image = registry.offer(&stage.engine, &format!("shared-{}", stage.instance)).await;
        let new = of(&image);
        let both = tokio::join!(stage.client.create_workspace(&new), stage.client.create_workspace(&new));
        let (first, second) = (both.0.unwrap(), both.1.unwrap());
        for workspace in [&first, &second] {
            assert_eq!((workspace.status, workspace.image.as_str()), (WorkspaceStatus::Running, image.as_str()));
            assert_eq!(workspace.status_reason, None, "nothing is said of a pull that is over");
            assert_eq!(stage.run(workspace.id, "echo here").await.stdout, "here\n");
        }
        for workspace in [first.id, second.id] {
            stage.client.purge_workspace(workspace).await.unwrap();
        }
        stage.engine.remove_image(&image).await.unwrap();

        // One who makes it and does not wait follows it from its first layer to its running.
        let new = NewWorkspace { wait_ms: Some(0), ..of(&image) };
        let held = registry.hold();
        let third = stage.client.create_workspace(&new).await.unwrap();
        let mut events = follow(&stage, third.id).await;
        let mut seen: Vec<Value> = Vec::new();
        while seen.last().is_none_or(|view| !view["pull"].is_object()) {
            seen.push(next(&mut events).await);
        }
        drop(held);
        while seen.last().is_none_or(|view| view["status"] != "running") {
            seen.push(next(&mut events).await);
        }
        let pulls: Vec<&Value> = seen.iter().filter(|view| view["pull"].is_object()).collect();
        assert!(pulls.iter().any(|view| view["pull"]["image"] == image.as_str()), "{seen:?}");
        assert_eq!(seen.last().unwrap()["pull"], Value::Null, "{seen:?}");
        stage.client.purge_workspace(third.id).await.unwrap();
        stage.engine.remove_image(&image).await.unwrap();
        stage
    })
    .await;
}

/// The progress of a workspace as it comes over the wire.
async fn follow(stage: &Stage, id: rexec_api::ids::WorkspaceId) -> (reqwest::Response, String) {
    let url = format!("{}/api/workspaces/{id}/progress", stage.server.base);
    let response = stage.server.http.get(url).bearer_auth(stage.client.token().unwrap()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    (response, String::new())
}

async fn next((response, text): &mut (reqwest::Response, String)) -> Value {
    loop {
        if let Some((event, rest)) = text.split_once("\n\n") {
            let data = event.strip_prefix("event: progress\ndata: ").map(|data| serde_json::from_str(data).unwrap());
            *text = rest.to_owned();
            match data {
                Some(view) => return view,
                None => continue,
            }
        }
        let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await.expect("it goes on").unwrap();
        text.push_str(std::str::from_utf8(&chunk.expect("it goes on")).unwrap());
    }
}

async fn store(stage: &Stage, token: &str, body: Value) -> crate::support::Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    stage.server.send(Method::POST, "/api/registries", &headers, Some(body.to_string().into_bytes())).await
}

async fn private_images_need_credentials(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let registry = Registry::start_private().await;
        let image = registry.offer(&stage.engine, &format!("private-{}", stage.instance)).await;
        let admin = stage.client.token().unwrap().to_owned();
        let anyone = Client::new(&stage.server.base).unwrap();
        let (other, _) = anyone.register("eve@example.com", PASSWORD).await.unwrap();
        let eve = other.token().unwrap().to_owned();

        let refused = stage.client.create_workspace(&of(&image)).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::ImageUnauthorised), "{refused:?}");
        let credentials =
            |password: &str| json!({ "server": registry.host, "username": USERNAME, "password": password });
        let stored = store(&stage, &admin, credentials("wrong")).await;
        assert_eq!(stored.status, StatusCode::CREATED, "{stored:?}");
        let refused = stage.client.create_workspace(&of(&image)).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::ImageUnauthorised), "{refused:?}");
        nothing_is_left(&stage).await;

        // Stored again, they take the place of those; nothing tells the password.
        let stored = store(&stage, &admin, credentials(REGISTRY_PASSWORD)).await;
        assert!(!stored.text.contains(REGISTRY_PASSWORD), "{stored:?}");
        let listed = stage.server.by(&admin, Method::GET, "/api/registries").await;
        assert_eq!(listed.json()["items"].as_array().unwrap().len(), 1, "{listed:?}");
        assert!(!listed.text.contains("password") && !listed.text.contains(REGISTRY_PASSWORD), "{listed:?}");
        let refused = other.create_workspace(&of(&image)).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::ImageUnauthorised), "they are not everyone's: {refused:?}");
        let made = stage.client.create_workspace(&of(&image)).await.unwrap();
        assert_eq!(made.status, WorkspaceStatus::Running);
        stage.client.purge_workspace(made.id).await.unwrap();
        stage.engine.remove_image(&image).await.unwrap();

        // Others neither see nor delete them; what is for everyone only an administrator stores and deletes.
        let path = format!("/api/registries/{}", stored.json()["id"].as_str().unwrap());
        assert_eq!(stage.server.by(&eve, Method::DELETE, &path).await.code(), "not_found");
        assert!(
            stage.server.by(&eve, Method::GET, "/api/registries").await.json()["items"].as_array().unwrap().is_empty()
        );
        let mut everyone = credentials(REGISTRY_PASSWORD);
        everyone["everyone"] = true.into();
        assert_eq!(store(&stage, &eve, everyone.clone()).await.code(), "forbidden");
        let shared = store(&stage, &admin, everyone).await;
        let made = other.create_workspace(&of(&image)).await.unwrap();
        other.purge_workspace(made.id).await.unwrap();
        let shared = format!("/api/registries/{}", shared.json()["id"].as_str().unwrap());
        assert_eq!(stage.server.by(&eve, Method::DELETE, &shared).await.code(), "forbidden");
        for path in [path, shared] {
            assert_eq!(stage.server.by(&admin, Method::DELETE, &path).await.status, StatusCode::NO_CONTENT);
            assert_eq!(stage.server.by(&admin, Method::DELETE, &path).await.code(), "not_found");
        }
        for bad in [json!({}), json!({ "server": "https://x", "username": "u", "password": "p" })] {
            assert_eq!(store(&stage, &admin, bad).await.code(), "invalid_request");
        }
        stage.engine.remove_image(&image).await.unwrap();
        stage
    })
    .await;
}

async fn unusable_images_leave_nothing(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let registry = Registry::start().await;
        let name = format!("foreign-{}", stage.instance);
        let foreign = registry.offer_for(&stage.engine, &name, "s390x").await;
        let refused = stage.client.create_workspace(&of(&foreign)).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::ImageArchitecture), "{refused:?}");
        let missing = format!("{}/none:1", registry.host);
        let refused = stage.client.create_workspace(&of(&missing)).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::ImageNotFound), "{refused:?}");
        let host = registry.host.clone();
        drop(registry);
        let refused = stage.client.create_workspace(&of(&format!("{host}/gone:1"))).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::ImagePullFailed), "{refused:?}");
        nothing_is_left(&stage).await;
        let _ = stage.engine.remove_image(&foreign).await;
        stage
    })
    .await;
}

async fn nothing_is_left(stage: &Stage) {
    let labels = [("rexec.instance".to_owned(), stage.instance.clone())].into();
    eventually("nothing to be left", async || {
        let containers = stage.engine.containers(&labels).await.unwrap();
        let volumes = stage.engine.volumes(&labels).await.unwrap();
        let listed = stage.client.workspaces().await.unwrap().items;
        (containers.is_empty() && volumes.is_empty() && listed.is_empty()).then_some(())
    })
    .await;
}
