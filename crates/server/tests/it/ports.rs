//! What listens in workspaces, as their owners list it, hear of it and set it up.

use crate::events::Heard;
use crate::support::workspaces::on_stage;
use crate::support::{Backend, PASSWORD, on_both};
use reqwest::Method;
use rexec_api::ports::Visibility;
use rexec_client::{Client, Lifecycle};
use serde_json::json;
use std::time::Duration;

on_both!(ports_come_and_go, ports_are_set_up);

async fn ports_come_and_go(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        assert!(stage.ports(id).await.items.is_empty());
        let mut heard = Heard::open(&stage.client, None).await;
        let serving = stage.terminal(id, &["python3", "-m", "http.server", "--bind", "0.0.0.0", "8000"]).await;
        let has = |event: &rexec_api::events::EventView, there: bool| {
            let items = event.data["items"].as_array().unwrap();
            event.workspace_id == id && items.iter().any(|p| p["port"] == 8000 && p["listening"] == true) == there
        };
        heard.until("workspace.ports", |event| has(event, true)).await;
        let list = stage.ports(id).await;
        assert_eq!(list.previews_unavailable, None);
        let port = list.items.iter().find(|view| view.port == 8000).unwrap();
        assert_eq!((port.address.as_deref(), port.process.as_deref()), (Some("0.0.0.0"), Some("python3")));
        assert_eq!((port.owner.as_deref(), port.visibility), (Some("user"), Visibility::Private));
        assert!(port.pid.is_some_and(|pid| pid > 1) && port.since.is_some());
        let name = format!("http://8000-{}.localhost:{}", id.0.simple(), stage.server.running.addr.port());
        assert_eq!(port.url.as_deref(), Some(name.as_str()));
        stage.client.delete_terminal(id, serving).await.unwrap();
        heard.until("workspace.ports", |event| has(event, false)).await;
        stage
    })
    .await;
}

async fn ports_are_set_up(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let soon = crate::support::previews::in_a_while(Duration::from_secs(3600));
        let bad = [
            ("0", json!({}), "port"),
            ("65536", json!({}), "port"),
            ("http", json!({}), "port"),
            ("80", json!({ "visibility": "public", "expires_at": "2020-01-01T00:00:00Z" }), "expires_at"),
            ("80", json!({ "visibility": "public", "expires_at": "soon" }), "expires_at"),
            ("80", json!({ "expires_at": soon }), "expires_at"),
            ("80", json!({ "visibility": "organisation" }), "visibility"),
            ("80", json!({ "visibility": "everyone" }), "visibility"),
            ("80", json!({ "label": "x".repeat(81) }), "label"),
            ("80", json!({ "label": "two\nlines" }), "label"),
        ];
        for (port, set, field) in bad {
            let answer = stage.set_port(id, port, set.clone()).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, "invalid_request"), "{port} {set}");
            assert_eq!(answer.json()["error"]["details"]["field"], field, "{port} {set}");
        }
        let public = json!({ "visibility": "public", "expires_at": soon, "label": " the site " });
        let answer = stage.set_port(id, "80", public).await;
        let view = answer.json();
        assert_eq!((&view["visibility"], &view["label"]), (&json!("public"), &json!("the site")), "{answer:?}");
        assert_eq!(view["listening"], false);

        // Nobody else can tell that there is anything.
        let anyone = Client::new(&stage.server.base).unwrap();
        let (other, _) = anyone.register("eve@example.com", PASSWORD).await.unwrap();
        let path = format!("/api/workspaces/{id}/ports");
        let tries = [
            (Method::GET, path.clone()),
            (Method::PUT, format!("{path}/80")),
            (Method::DELETE, format!("{path}/80")),
            (Method::POST, format!("{path}/80/open")),
        ];
        for (method, path) in tries {
            let answer = other.request(method.clone(), &path).json(&json!({})).send().await.unwrap();
            assert_eq!(answer.status(), 404, "{method} {path}");
        }

        // What was said of a port outlives the workspace's run, until it is taken back.
        stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        let items = stage.ports(id).await.items;
        assert_eq!(
            items.iter().map(|p| (p.port, p.visibility, p.listening)).collect::<Vec<_>>(),
            [(80, Visibility::Public, false)]
        );
        for _ in 0..2 {
            let request = stage.client.request(Method::DELETE, &format!("{path}/80"));
            assert_eq!(request.send().await.unwrap().status(), 204);
        }
        assert!(stage.ports(id).await.items.is_empty());
        stage
    })
    .await;
}
