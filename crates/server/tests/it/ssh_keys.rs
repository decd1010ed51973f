//! SSH keys: whose they are, where they come from, and what they are written into.

use crate::support::workspaces::on_stage;
use crate::support::{Answer, Backend, Server, on_both, with_server};
use base64::Engine as _;
use reqwest::{Method, StatusCode};
use rexec_api::ids::WorkspaceId;
use rexec_api::ssh::{KEYS_MAX, SshConnect, SyncedSshKeys};
use rexec_server::ssh_keys::public_key::PublicKey;
use rexec_server::ssh_keys::{Gateway, store};
use rexec_server::time::now_ms;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

on_both!(one_key_has_one_account, keys_run_out, keys_come_from_github, the_gateway_finds_whose_a_key_is);

/// An Ed25519 key whose point is this byte over and over: no one has its private half.
fn key(byte: u8) -> String {
    let field = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let blob = [field(b"ssh-ed25519"), field(&[byte; 32])].concat();
    format!("ssh-ed25519 {} key-{byte}", base64::engine::general_purpose::STANDARD.encode(blob))
}

async fn post(server: &Server, by: &str, path: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {by}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    server.send(Method::POST, path, &headers, Some(body.to_string().into_bytes())).await
}

async fn add(server: &Server, by: &str, key: &str) -> Answer {
    post(server, by, "/api/ssh/keys", json!({ "public_key": key })).await
}

async fn one_key_has_one_account(backend: Backend) {
    with_server(backend, &[], async |server| {
        let ann = server.register("ann@example.com").await.token();
        let eve = server.register("eve@example.com").await.token();
        let added = add(server, &ann, &key(1)).await;
        assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
        let view = added.json();
        assert_eq!((&view["name"], &view["kind"]), (&json!("key-1"), &json!("ssh-ed25519")));
        assert_eq!(view["fingerprint"], PublicKey::parse(&key(1)).unwrap().fingerprint());
        let again = add(server, &ann, &key(1)).await;
        assert_eq!((again.status, again.code()), (StatusCode::CONFLICT, "ssh_key_taken".into()));
        assert!(again.text.contains("key-1"), "{again:?}");
        let stolen = add(server, &eve, &key(1)).await;
        assert_eq!((stolen.status, stolen.code()), (StatusCode::CONFLICT, "ssh_key_taken".into()));
        let told = stolen.text.to_lowercase();
        assert!(!told.contains("ann") && !told.contains("key-1") && !told.contains("key_id"), "{stolen:?}");
        let path = format!("/api/ssh/keys/{}", view["id"].as_str().unwrap());
        assert_eq!(server.by(&eve, Method::DELETE, &path).await.code(), "not_found");
        assert_eq!(server.by(&eve, Method::GET, "/api/ssh/keys").await.json()["items"], json!([]));
        assert_eq!(server.by(&ann, Method::DELETE, &path).await.status, StatusCode::NO_CONTENT);
        assert_eq!(add(server, &eve, &key(1)).await.status, StatusCode::CREATED);
        let named = json!({ "public_key": key(2), "name": " laptop " });
        assert_eq!(post(server, &ann, "/api/ssh/keys", named).await.json()["name"], "laptop");
        for (body, field) in [
            (json!({ "public_key": "-----BEGIN OPENSSH PRIVATE KEY-----" }), "public_key"),
            (json!({ "public_key": key(3), "name": "x".repeat(101) }), "name"),
            (json!({ "name": "x" }), "public_key"),
        ] {
            let refused = post(server, &ann, "/api/ssh/keys", body).await;
            assert_eq!(
                (refused.code(), &refused.json()["error"]["details"]["field"]),
                ("invalid_request".into(), &json!(field))
            );
        }
    })
    .await;
}

async fn keys_run_out(backend: Backend) {
    with_server(backend, &[], async |server| {
        let ann = server.register("ann@example.com").await.token();
        for n in 0..KEYS_MAX {
            assert_eq!(add(server, &ann, &key(n as u8)).await.status, StatusCode::CREATED);
        }
        let refused = add(server, &ann, &key(255)).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "quota_exceeded".into()));
    })
    .await;
}

async fn the_gateway_finds_whose_a_key_is(backend: Backend) {
    with_server(backend, &[], async |server| {
        let registered = server.register("ann@example.com").await;
        let added = add(server, &registered.token(), &key(1)).await.json();
        let blob = PublicKey::parse(&key(1)).unwrap().blob;
        let db = &server.running.app.db;
        let found = store::by_blob(db.read(), &blob).await.unwrap().unwrap();
        assert_eq!(json!(found.user), registered.json()["user"]["id"]);
        assert_eq!((json!(found.id), found.last_used_ms), (added["id"].clone(), None));
        store::touch(db.write(), found.id, now_ms()).await.unwrap();
        assert!(store::by_blob(db.read(), &blob).await.unwrap().unwrap().last_used_ms.is_some());
        assert!(store::by_blob(db.read(), &blob[1..]).await.unwrap().is_none());
    })
    .await;
}

/// A GitHub of one answer, and the request that came for it.
async fn github(answer: String) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await.unwrap());
        }
        // The client may have heard enough.
        let _ = socket.write_all(answer.as_bytes()).await;
        let _ = socket.shutdown().await;
        String::from_utf8(request).unwrap()
    });
    (base, serving)
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn keys_come_from_github(backend: Backend) {
    let import = json!({ "username": "octo-cat" });
    let body = format!("{}\nssh-dss AAAA\n\n{}\n{}\n", key(1), key(2), key(1));
    let (base, serving) = github(http("200 OK", &body)).await;
    with_server(backend, &[("REXEC_GITHUB_URL", &base)], async |server| {
        let ann = server.register("ann@example.com").await.token();
        let done = post(server, &ann, "/api/ssh/keys/github", import.clone()).await;
        assert_eq!(done.status, StatusCode::OK, "{done:?}");
        let done = done.json();
        assert_eq!(done["added"].as_array().unwrap().len(), 2, "{done}");
        assert_eq!(done["added"][0]["name"], "octo-cat at GitHub");
        let skipped: Vec<_> = done["skipped"].as_array().unwrap().iter().map(|s| s["line"].clone()).collect();
        assert_eq!(skipped, [json!(2), json!(5)], "{done}");
        assert!(serving.await.unwrap().starts_with("GET /octo-cat.keys HTTP/1.1\r\n"));
        for wrong in ["", "-x", "a/../b", "a b", &"x".repeat(40)] {
            let refused = post(server, &ann, "/api/ssh/keys/github", json!({ "username": wrong })).await;
            assert_eq!(
                (refused.code(), &refused.json()["error"]["details"]["field"]),
                ("invalid_request".into(), &json!("username"))
            );
        }
    })
    .await;
    let endless = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(300 * 1024));
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    for (answer, code) in [
        (http("404 Not Found", "no"), "invalid_request"),
        (http("200 OK", ""), "invalid_request"),
        (http("500 Oops", "no"), "github_unavailable"),
        (moved.to_owned(), "github_unavailable"),
        (endless, "github_unavailable"),
        ("nonsense\r\n\r\n".to_owned(), "github_unavailable"),
    ] {
        let (base, serving) = github(answer.clone()).await;
        with_server(backend, &[("REXEC_GITHUB_URL", &base)], async |server| {
            let ann = server.register("ann@example.com").await.token();
            let refused = post(server, &ann, "/api/ssh/keys/github", import.clone()).await;
            assert_eq!(refused.code(), code, "{} {refused:?}", answer.lines().next().unwrap());
        })
        .await;
        serving.await.unwrap();
    }
    // Nobody listens there: as where there is no way to the network.
    with_server(backend, &[("REXEC_GITHUB_URL", "http://127.0.0.1:1")], async |server| {
        let ann = server.register("ann@example.com").await.token();
        let refused = post(server, &ann, "/api/ssh/keys/github", import.clone()).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::BAD_GATEWAY, "github_unavailable".into()));
        assert!(refused.text.contains("Paste"), "{refused:?}");
    })
    .await;
}

async fn connect(stage: &crate::support::workspaces::Stage, id: WorkspaceId) -> SshConnect {
    let path = format!("/api/ssh/connect/{id}");
    let answer = stage.client.request(Method::GET, &path).send().await.unwrap().error_for_status().unwrap();
    answer.json().await.unwrap()
}

#[tokio::test]
async fn keys_are_written_into_a_workspace_and_commands_lead_there() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let sync = async || -> SyncedSshKeys {
            let path = format!("/api/ssh/sync/{id}");
            let answer = stage.client.request(Method::POST, &path).send().await.unwrap();
            answer.error_for_status().unwrap().json().await.unwrap()
        };
        // Without keys nothing is made.
        assert_eq!(sync().await.keys, 0);
        assert_ne!(stage.run(id, "test -e ~/.ssh/authorized_keys").await.exit_code, 0);
        let token = stage.client.token().unwrap().to_owned();
        let added = add(&stage.server, &token, &key(1)).await;
        assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
        assert_eq!(sync().await, SyncedSshKeys { path: "/home/user/.ssh/authorized_keys".into(), keys: 1 });
        let look = "stat -c '%a %U' ~/.ssh ~/.ssh/authorized_keys; cat ~/.ssh/authorized_keys";
        let seen = stage.run(id, look).await.stdout;
        assert!(seen.starts_with("700 user\n600 user\n# BEGIN Rexec"), "{seen}");
        assert!(seen.contains(&key(1)), "{seen}");
        // A stranger's line stays, and what we wrote before does not.
        stage.run(id, "echo 'ssh-ed25519 AAAA mine' >> ~/.ssh/authorized_keys").await;
        add(&stage.server, &token, &key(2)).await;
        let path = format!("/api/ssh/keys/{}", added.json()["id"].as_str().unwrap());
        assert_eq!(stage.server.by(&token, Method::DELETE, &path).await.status, StatusCode::NO_CONTENT);
        assert_eq!(sync().await.keys, 1);
        let seen = stage.run(id, look).await.stdout;
        assert!(seen.contains("ssh-ed25519 AAAA mine") && seen.contains(&key(2)) && !seen.contains(&key(1)), "{seen}");
        assert_eq!(seen.matches("# BEGIN Rexec").count(), 1);

        let told = connect(&stage, id).await;
        assert!(!told.enabled && told.target.is_none() && told.reason.is_some(), "{told:?}");
        let host_key = PublicKey::parse(&key(9)).unwrap();
        let gateway = Gateway { port: 2222, host_keys: vec![host_key.clone()] };
        stage.server.running.app.ssh_keys.set_gateway(Some(gateway));
        let told = connect(&stage, id).await;
        let target = told.target.unwrap();
        assert_eq!((told.enabled, told.keys, target.port, target.host.as_str()), (true, 1, 2222, "127.0.0.1"));
        assert_eq!(target.ssh, format!("ssh -p 2222 {}@127.0.0.1", target.user));
        assert_eq!(target.host_keys[0].fingerprint, host_key.fingerprint());
        assert_eq!(target.host_keys[0].known_hosts, format!("[127.0.0.1]:2222 {}", host_key.line()));
        stage.server.running.app.ssh_keys.set_gateway(None);
        assert!(!connect(&stage, id).await.enabled);
        stage
    })
    .await;
}
