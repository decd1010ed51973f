//! Previews: who is let in to them, and until when.

use crate::support::previews::{PAGE, Visitor, in_a_while, seen};
use crate::support::workspaces::{Stage, eventually, on_stage};
use crate::support::{Backend, PASSWORD, on_both};
use reqwest::Method;
use rexec_api::ids::WorkspaceId;
use rexec_client::{Client, Lifecycle};
use rexec_server::time::now_ms;
use rexec_server::workspaces::lifecycle::Desired;
use rexec_server::workspaces::store::{self, Want, WantBy};
use serde_json::json;
use std::time::Duration;

on_both!(a_private_preview_is_its_owners, a_public_preview_is_everybodys_for_a_while);

/// Reads a stream that was begun until it ends, however that happens.
async fn to_its_end(mut response: reqwest::Response) {
    while let Ok(Some(_)) = response.chunk().await {}
}

async fn a_private_preview_is_its_owners(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        stage.serve(id, 8000).await;
        let mut visitor = stage.stranger(id, 8000);

        // A person is sent to the application, which knows who it is; a program is told.
        let sent = visitor.get("/deep?a=1&b=%2F", &[PAGE]).await;
        assert_eq!(sent.status, 303, "{sent:?}");
        let app = format!("http://localhost:{}", stage.server.running.addr.port());
        let way = format!("{app}/open-preview?workspace={id}&port=8000&path=%2Fdeep%3Fa%3D1%26b%3D%252F");
        assert_eq!(sent.header("location"), way);
        let told = visitor.get("/", &[]).await;
        assert_eq!((told.status.as_u16(), told.code().as_str()), (401, "unauthenticated"));
        let script = visitor.get("/", &[PAGE, ("sec-fetch-mode", "cors")]).await;
        assert_eq!(script.status, 401);

        // A code is good once, for its own port, and what it lets in to is clean of it.
        let opened = stage.open_port(id, 8000, "//deep?a=1").await;
        let path = format!("/{}", opened.url.splitn(4, '/').nth(3).unwrap());
        let elsewhere = stage.stranger(id, 8001).get(&path, &[PAGE]).await;
        assert_eq!(elsewhere.status, 401, "{elsewhere:?}");
        assert_eq!(visitor.enter(&opened.url).await, format!("http://{}//deep?a=1", visitor.host));
        let again = stage.stranger(id, 8000).get(&path, &[PAGE]).await;
        assert_eq!(again.status, 401);
        assert!(again.text.contains("used up") && again.text.contains("/open-preview?"), "{again:?}");
        let inside = visitor.get("/deep?a=1", &[]).await;
        assert_eq!((inside.status.as_u16(), &inside.json()["line"]), (200, &json!("GET /deep?a=1 HTTP/1.1")));
        assert!(inside.told("cookie").is_empty(), "{inside:?}");

        // The pass is for this port alone, and another site cannot use it to change anything.
        let neighbour = Visitor { cookie: visitor.cookie.clone(), ..stage.stranger(id, 8001) };
        assert_eq!(neighbour.get("/", &[]).await.status, 401);
        let post = async |origin: &str| {
            let request = visitor.request(Method::POST, "/").header("origin", origin).body("x");
            seen(request.send().await.unwrap()).await
        };
        assert_eq!(post("http://evil.example").await.code(), "foreign_origin");
        assert_eq!(post("null").await.code(), "foreign_origin");
        assert_eq!(post(&format!("http://{}", visitor.host)).await.status, 200);
        assert_eq!(post(&format!("http://{}", stage.stranger(id, 5173).host)).await.status, 200);
        let other_workspace = stage.stranger(WorkspaceId::new(), 8000);
        assert_eq!(post(&format!("http://{}", other_workspace.host)).await.code(), "foreign_origin");

        // Tokens work too, for the owner; to others nothing is there.
        let bearer = format!("Bearer {}", stage.client.token().unwrap());
        let by_token = stage.stranger(id, 8000).get("/", &[("authorization", &bearer)]).await;
        assert_eq!((by_token.status.as_u16(), by_token.told("authorization")), (200, vec![]));
        let anyone = Client::new(&stage.server.base).unwrap();
        let (eve, _) = anyone.register("eve@example.com", PASSWORD).await.unwrap();
        let eves = format!("Bearer {}", eve.token().unwrap());
        let refused = stage.stranger(id, 8000).get("/", &[("authorization", &eves)]).await;
        assert_eq!(refused.code(), "not_found");
        assert_eq!(other_workspace.get("/", &[("authorization", &bearer)]).await.code(), "not_found");

        // Signing out ends it all, what is under way too.
        let stream = visitor.request(Method::GET, "/endless").send().await.unwrap();
        assert_eq!(stream.status(), 200);
        let ended = tokio::spawn(to_its_end(stream));
        stage.client.log_out().await.unwrap();
        ended.await.unwrap();
        assert_eq!(visitor.get("/", &[]).await.status, 401);
        let (client, _) = anyone.log_in("ada@example.com", PASSWORD).await.unwrap();
        Stage { client, ..stage }
    })
    .await;
}

async fn a_public_preview_is_everybodys_for_a_while(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        stage.serve(id, 8000).await;
        let visitor = stage.stranger(id, 8000);
        let public = json!({ "visibility": "public", "expires_at": in_a_while(Duration::from_secs(3)) });
        assert_eq!(stage.set_port(id, "8000", public).await.status, 200);
        assert_eq!(visitor.get("/", &[]).await.status, 200);
        assert_eq!(stage.stranger(id, 8001).get("/", &[]).await.status, 401, "one port says nothing of another");
        to_its_end(visitor.request(Method::GET, "/endless").send().await.unwrap()).await;
        eventually("the preview to be private", async || (visitor.get("/", &[]).await.status == 401).then_some(()))
            .await;

        // Taken back, it ends at once for those who look at it.
        assert_eq!(stage.set_port(id, "8000", json!({ "visibility": "public" })).await.status, 200);
        let stream = visitor.request(Method::GET, "/endless").send().await.unwrap();
        assert_eq!(stream.status(), 200);
        assert_eq!(stage.set_port(id, "8000", json!({})).await.status, 200);
        to_its_end(stream).await;
        assert_eq!(visitor.get("/", &[]).await.status, 401);
        stage
    })
    .await;
}

#[tokio::test]
async fn a_preview_says_why_it_shows_nothing_and_wakes_what_sleeps() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        stage.serve(id, 8000).await;
        let visitor = stage.guest(id, 8000).await;
        let silent = stage.guest(id, 8001).await;
        let nothing = silent.get("/", &[PAGE]).await;
        assert_eq!((nothing.status.as_u16(), nothing.header("content-type")), (502, "text/html; charset=utf-8"));
        assert!(
            nothing.text.contains("Nothing listens") && nothing.text.contains("http-equiv=\"refresh\""),
            "{nothing:?}"
        );
        assert!(nothing.header("content-security-policy").starts_with("default-src 'none'"));
        assert_eq!(silent.get("/", &[]).await.code(), "port_closed");

        // Asleep because nobody used it: whoever looks wakes it.
        let running = store::find(stage.server.running.app.db.read(), id).await.unwrap().unwrap();
        let idle = Want { by: WantBy::Idle, reason: None };
        let db = stage.server.running.app.db.write();
        assert!(store::want_if(db, &running, Desired::Paused, &idle, now_ms()).await.unwrap());
        assert_eq!(visitor.get("/", &[]).await.status, 200);

        // Paused or stopped by a person, it stays so, and the page says how to have it back.
        for (request, word) in [(Lifecycle::Pause, "Resume it"), (Lifecycle::Stop, "Start it")] {
            stage.client.lifecycle(id, request).await.unwrap();
            let page = visitor.get("/a?b=1", &[PAGE]).await;
            assert_eq!(page.status, 409, "{page:?}");
            assert!(page.text.contains(word) && page.text.contains("path=%2Fa%3Fb%3D1"), "{page:?}");
            assert_eq!(visitor.get("/", &[]).await.code(), "workspace_state");
        }
        stage.client.purge_workspace(id).await.unwrap();
        eventually("the preview to be gone", async || (visitor.get("/", &[PAGE]).await.status == 404).then_some(()))
            .await;
        stage
    })
    .await;
}

#[tokio::test]
async fn without_names_each_preview_has_a_port() {
    // Whatever has these in the meantime is passed over.
    let (first, last) = (24_100, 24_119);
    let range = format!("{first}-{last}");
    on_stage(Backend::Sqlite, &[("REXEC_PREVIEW_PORTS", &range)], async |place, stage| {
        let id = stage.workspace().await.id;
        stage.serve(id, 8000).await;
        let host = [("host", "192.0.2.7:8080")];
        let route = format!("/api/workspaces/{id}/ports/8000");
        let open = async |stage: &Stage| {
            let request = stage.client.request(Method::POST, &format!("{route}/open")).header("host", host[0].1);
            let answer = seen(request.json(&json!({})).send().await.unwrap()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.json()["url"].as_str().unwrap().to_owned()
        };
        let url = open(&stage).await;
        let port: u16 = url.strip_prefix("http://192.0.2.7:").unwrap().split('/').next().unwrap().parse().unwrap();
        assert!((first..=last).contains(&port), "{url}");
        let mut visitor = Visitor::of(&format!("http://127.0.0.1:{port}"), &format!("192.0.2.7:{port}"));
        let app = format!("http://192.0.2.7:{}/open-preview?", stage.server.running.addr.port());
        assert!(visitor.get("/", &[PAGE]).await.header("location").starts_with(&app));
        visitor.enter(&url).await;
        assert!(visitor.cookie.as_ref().unwrap().starts_with(&format!("rexec-preview-{port}=")));

        // Cookies ignore ports, so the application's come along: they go no further, nor is one set.
        let pass = visitor.cookie.clone().unwrap();
        visitor.cookie = Some(format!("rexec=secret; {pass}; theirs=1; __Host-rexec=secret"));
        assert_eq!(visitor.get("/", &[]).await.told("cookie"), ["theirs=1"]);
        let set: Vec<_> = visitor.get("/cookies", &[]).await.headers.get_all("set-cookie").iter().cloned().collect();
        assert_eq!(set, ["mine=1"]);
        let worker = visitor.get("/sw.js", &[("service-worker", "script")]).await;
        assert_eq!(worker.code(), "forbidden");

        // The same port after a restart; none after a reset.
        let stage = stage.restart_server(place, &[("REXEC_PREVIEW_PORTS", &range)]).await;
        assert_eq!(visitor.get("/", &[]).await.status, 200);
        assert!(open(&stage).await.starts_with(&format!("http://192.0.2.7:{port}/")));
        let reset = stage.client.request(Method::DELETE, &route).send().await.unwrap();
        assert_eq!(reset.status(), 204);
        eventually("the port to be closed", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err().then_some(())
        })
        .await;
        stage
    })
    .await;
}

#[tokio::test]
async fn where_there_is_one_origin_there_are_no_previews() {
    on_stage(Backend::Sqlite, &[("PUBLIC_URL", "http://rexec.example.com")], async |_, stage| {
        let id = stage.workspace().await.id;
        let list = stage.ports(id).await;
        assert!(list.previews_unavailable.unwrap().contains("REXEC_PREVIEW_DOMAIN"));
        let route = format!("/api/workspaces/{id}/ports/80");
        let open = stage.client.request(Method::POST, &format!("{route}/open")).json(&json!({})).send().await.unwrap();
        assert_eq!(seen(open).await.code(), "preview_unavailable");
        let public = stage.set_port(id, "80", json!({ "visibility": "public" })).await;
        assert_eq!(public.code(), "preview_unavailable");
        assert!(stage.ports(id).await.items.is_empty(), "what is refused leaves nothing");
        assert_eq!(stage.set_port(id, "80", json!({ "label": "web" })).await.status, 200);
        stage
    })
    .await;
}

#[tokio::test]
async fn with_a_domain_previews_have_names_of_their_own() {
    let names = [("PUBLIC_URL", "https://rexec.example.com"), ("REXEC_PREVIEW_DOMAIN", "preview.example.net")];
    on_stage(Backend::Sqlite, &names, async |_, stage| {
        let id = stage.workspace().await.id;
        stage.serve(id, 8000).await;
        let host = format!("8000-{}.preview.example.net", id.0.simple());
        let opened = stage.open_port(id, 8000, "/").await;
        assert!(opened.url.starts_with(&format!("https://{host}/?")), "{opened:?}");
        let mut visitor = Visitor::of(&stage.server.base, &host);
        let sent = visitor.get("/", &[PAGE]).await;
        assert!(sent.header("location").starts_with("https://rexec.example.com/open-preview?"), "{sent:?}");
        assert_eq!(visitor.enter(&opened.url).await, format!("https://{host}/"));
        assert!(visitor.cookie.as_ref().unwrap().starts_with("__Host-rexec-preview="));
        let inside = visitor.get("/", &[]).await;
        assert_eq!((inside.told("host"), inside.told("x-forwarded-proto")), (vec![host], vec!["https".to_owned()]));
        let nobody = Visitor::of(&stage.server.base, "x.preview.example.net").get("/api/me", &[PAGE]).await;
        assert!(nobody.status == 404 && nobody.text.contains("no such preview"), "{nobody:?}");
        stage
    })
    .await;
}
