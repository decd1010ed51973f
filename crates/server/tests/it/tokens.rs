//! API tokens: made, listed, revoked, and never beyond what they were given.

use crate::support::{Answer, Backend, PATIENCE, Server, in_place, on_both, with_server};
use futures_util::StreamExt as _;
use reqwest::{Method, StatusCode};
use rexec_api::ids::WorkspaceId;
use rexec_api::tokens::{Scope, is_well_formed};
use serde_json::{Value, json};

on_both!(
    a_token_is_told_once_and_acts_for_its_user,
    a_token_revoked_here_ends_there_and_its_streams,
    no_token_gives_more_than_it_has,
    a_token_runs_out,
    a_limited_token_stays_with_its_workspaces,
    what_does_not_fit_is_named,
    tokens_run_out,
);

async fn make(server: &Server, by: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {by}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    server.send(Method::POST, "/api/tokens", &headers, Some(body.to_string().into_bytes())).await
}

async fn token(server: &Server, by: &str, scopes: &[&str]) -> String {
    let made = make(server, by, json!({ "name": "a test", "scopes": scopes })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    made.token()
}

async fn a_token_is_told_once_and_acts_for_its_user(backend: Backend) {
    with_server(backend, &[], async |server| {
        let person = server.register("ann@example.com").await.token();
        let made = make(server, &person, json!({ "name": " ci ", "scopes": ["exec", "files", "exec"] })).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        let (secret, view) = (made.token(), made.json());
        assert!(is_well_formed(&secret));
        assert_eq!((&view["name"], &view["scopes"]), (&json!("ci"), &json!(["exec", "files"])));
        assert_eq!(
            (&view["expires_at"], &view["workspaces"], &view["last_used_at"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        assert!(secret.starts_with(view["hint"].as_str().unwrap()));

        // By header and by subprotocol; never as a cookie, which a browser sends whoever asks.
        assert_eq!(server.by(&secret, Method::GET, "/api/me").await.json()["email"], "ann@example.com");
        let protocols = format!("rexec.terminal.v1, rexec.token.{secret}");
        let me = server.send(Method::GET, "/api/me", &[("sec-websocket-protocol", &protocols)], None).await;
        assert_eq!(me.status, StatusCode::OK, "{me:?}");
        let cookie = format!("__Host-rexec={secret}");
        let refused = server.send(Method::GET, "/api/me", &[("cookie", &cookie)], None).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "invalid_token".into()));

        let list = server.by(&person, Method::GET, "/api/tokens").await;
        assert!(!list.text.contains(&secret));
        let item = &list.json()["items"][0];
        assert!(item["last_used_at"].is_string() && item["current"] == false && item["expired"] == false, "{item}");
        let refused = server.by(&secret, Method::POST, "/api/auth/refresh").await;
        assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "forbidden".into()));
        // What a program holds it may give back.
        assert_eq!(server.by(&secret, Method::POST, "/api/auth/logout").await.status, StatusCode::NO_CONTENT);
        assert_eq!(server.by(&secret, Method::GET, "/api/me").await.code(), "token_revoked");
        assert_eq!(server.by(&person, Method::GET, "/api/me").await.status, StatusCode::OK);
    })
    .await;
}

/// The events that a stream ended with.
async fn last_words(response: reqwest::Response) -> String {
    let pieces: Vec<_> = response.bytes_stream().map(|piece| piece.unwrap()).collect().await;
    String::from_utf8(pieces.concat()).unwrap()
}

async fn a_token_revoked_here_ends_there_and_its_streams(backend: Backend) {
    in_place(backend, async |place| {
        let elsewhere = place.dir.path().join("another-server");
        let elsewhere = [("REXEC_DATA_DIR", elsewhere.to_str().unwrap())];
        let (here, there) = (place.start(&[]).await, place.start(&elsewhere).await);
        let person = here.register("ann@example.com").await.token();
        let made = make(&here, &person, json!({ "name": "news", "scopes": ["workspaces:read"] })).await;
        let (secret, id) = (made.token(), made.json()["id"].as_str().unwrap().to_owned());
        let stream = there.http.get(format!("{}/api/events", there.base)).bearer_auth(&secret).send().await.unwrap();
        assert_eq!(stream.status(), StatusCode::OK);
        // Another user's token is none.
        let other = here.register("eve@example.com").await.token();
        let path = format!("/api/tokens/{id}");
        assert_eq!(here.by(&other, Method::DELETE, &path).await.code(), "not_found");
        assert_eq!(here.by(&person, Method::DELETE, &path).await.status, StatusCode::NO_CONTENT);
        assert_eq!(here.by(&secret, Method::GET, "/api/me").await.code(), "token_revoked");
        let words = tokio::time::timeout(PATIENCE, last_words(stream)).await.unwrap();
        assert!(words.contains("event: error") && words.contains("token_revoked"), "{words}");
        assert_eq!(there.by(&secret, Method::GET, "/api/me").await.code(), "token_revoked");
        assert_eq!(here.by(&person, Method::DELETE, &path).await.code(), "not_found");
        assert!(here.stop().await && there.stop().await);
    })
    .await;
}

async fn no_token_gives_more_than_it_has(backend: Backend) {
    with_server(backend, &[], async |server| {
        let person = server.register("ann@example.com").await.token();
        let half =
            make(server, &person, json!({ "name": "half", "scopes": ["account", "exec"], "expires_in_days": 10 }))
                .await;
        let half = half.token();
        let child = make(server, &half, json!({ "name": "child", "scopes": ["exec"] })).await;
        assert_eq!(child.status, StatusCode::CREATED, "{child:?}");
        let list = server.by(&half, Method::GET, "/api/tokens").await.json();
        let end = |name| {
            let items = list["items"].as_array().unwrap();
            let item = items.iter().find(|item| item["name"] == name).unwrap();
            (item["expires_at"].clone(), item["current"].clone())
        };
        // Without a wish of its own it ends with the one that made it.
        assert_eq!(end("child").0, end("half").0);
        assert_eq!((end("child").1, end("half").1), (json!(false), json!(true)));
        let refused = make(server, &half, json!({ "name": "x", "scopes": ["exec"], "expires_in_days": 11 })).await;
        assert_eq!(
            (refused.code(), &refused.json()["error"]["details"]["field"]),
            ("invalid_request".into(), &json!("expires_in_days"))
        );
        for beyond in ["all", "files", "admin", "workspaces:read"] {
            let refused = make(server, &half, json!({ "name": "x", "scopes": ["exec", beyond] })).await;
            assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "insufficient_scope".into()));
            assert_eq!(refused.json()["error"]["details"]["scope"], beyond);
        }
        let child = child.token();
        for (method, path) in [(Method::GET, "/api/tokens"), (Method::GET, "/api/auth/sessions")] {
            assert_eq!(server.by(&child, method, path).await.code(), "insufficient_scope");
        }
        // An administrator's token is none without that scope.
        let body = json!({ "server": "ghcr.io", "username": "u", "password": "p", "everyone": true }).to_string();
        for (scopes, status) in [(vec!["account"], 403), (vec!["account", "admin"], 201), (vec!["all"], 201)] {
            let bearer = format!("Bearer {}", token(server, &person, &scopes).await);
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            let answer = server.send(Method::POST, "/api/registries", &headers, Some(body.clone().into())).await;
            assert_eq!(answer.status.as_u16(), status, "{scopes:?} {answer:?}");
        }
    })
    .await;
}

async fn a_token_runs_out(backend: Backend) {
    with_server(backend, &[], async |server| {
        let person = server.register("ann@example.com").await.token();
        let made = make(server, &person, json!({ "name": "short", "scopes": ["all"], "expires_in_days": 1 })).await;
        let secret = made.token();
        let conn = server.running.app.db.write();
        let text = "UPDATE api_tokens SET expires_ms = 1700000000000";
        // Written behind the server's back, before it has looked at the token for the first time.
        rexec_server::db::execute(conn, text, []).await.unwrap();
        let refused = server.by(&secret, Method::GET, "/api/me").await;
        assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "token_expired".into()));
        let list = server.by(&person, Method::GET, "/api/tokens").await.json();
        assert_eq!(list["items"][0]["expired"], true);
    })
    .await;
}

/// A workspace as the database has it; no engine is needed to see one.
async fn workspace(server: &Server, owner: &str) -> WorkspaceId {
    let id = WorkspaceId::new();
    let text = "INSERT INTO workspaces (id, owner_id, name, image, runtime, cpu_milli, memory_mb, pids, env_json, desired, \
                boot_seq, booted_seq, status, generation, volume, guest_key, created_ms, updated_ms) VALUES ($1, $2, 'w', 'i', '', 1000, 256, \
                64, '{}', 'stopped', 0, 0, 'stopped', 0, $3, '', 1, 1)";
    let values = [id.to_string().into(), owner.into(), format!("v-{id}").into()];
    rexec_server::db::execute(server.running.app.db.write(), text, values).await.unwrap();
    id
}

async fn a_limited_token_stays_with_its_workspaces(backend: Backend) {
    with_server(backend, &[], async |server| {
        let registered = server.register("ann@example.com").await;
        let (person, user) = (registered.token(), registered.json()["user"]["id"].as_str().unwrap().to_owned());
        let other = server.register("eve@example.com").await.json()["user"]["id"].as_str().unwrap().to_owned();
        let (mine, second, theirs) =
            (workspace(server, &user).await, workspace(server, &user).await, workspace(server, &other).await);
        let ask = |only: Vec<WorkspaceId>, scopes: Value| {
            let body = json!({ "name": "one", "scopes": scopes, "workspaces": only });
            make(server, &person, body)
        };
        for only in [vec![theirs], vec![mine, WorkspaceId::new()], vec![]] {
            let refused = ask(only, json!(["all"])).await;
            assert_eq!(
                (refused.code(), &refused.json()["error"]["details"]["field"]),
                ("invalid_request".into(), &json!("workspaces"))
            );
        }
        assert_eq!(ask(vec![mine], json!(["account"])).await.json()["error"]["details"]["field"], "scopes");
        let secret = ask(vec![mine], json!(["all"])).await.token();
        let list = server.by(&secret, Method::GET, "/api/workspaces").await.json();
        let ids: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
        assert_eq!(ids, [json!(mine)]);
        let at = |id: WorkspaceId| format!("/api/workspaces/{id}");
        assert_eq!(server.by(&secret, Method::GET, &at(mine)).await.status, StatusCode::OK);
        for path in [at(second), at(theirs), format!("{}/setup", at(second)), format!("{}/ports", at(second))] {
            assert_eq!(server.by(&secret, Method::GET, &path).await.code(), "not_found", "{path}");
        }
        for path in ["/api/tokens", "/api/registries", "/api/auth/sessions"] {
            assert_eq!(server.by(&secret, Method::GET, path).await.code(), "insufficient_scope", "{path}");
        }
        let bearer = format!("Bearer {secret}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let refused = server.send(Method::POST, "/api/workspaces", &headers, Some(b"{}".to_vec())).await;
        assert_eq!(refused.code(), "insufficient_scope");
        assert_eq!(server.by(&person, Method::GET, &at(second)).await.status, StatusCode::OK);
    })
    .await;
}

async fn what_does_not_fit_is_named(backend: Backend) {
    with_server(backend, &[], async |server| {
        let person = server.register("ann@example.com").await.token();
        let cases = [
            (json!({ "scopes": ["all"] }), "name"),
            (json!({ "name": " ", "scopes": ["all"] }), "name"),
            (json!({ "name": "x".repeat(101), "scopes": ["all"] }), "name"),
            (json!({ "name": "a\nb", "scopes": ["all"] }), "name"),
            (json!({ "name": "x", "scopes": [] }), "scopes"),
            (json!({ "name": "x", "scopes": ["root"] }), "scopes[0]"),
            (json!({ "name": "x", "scopes": ["all"], "expires_in_days": 0 }), "expires_in_days"),
            (json!({ "name": "x", "scopes": ["all"], "expires_in_days": 3651 }), "expires_in_days"),
            (json!({ "name": "x", "scopes": ["all"], "days": 1 }), "days"),
        ];
        for (body, field) in cases {
            let refused = make(server, &person, body.clone()).await;
            assert_eq!((refused.status, refused.code()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request".into()));
            assert_eq!(refused.json()["error"]["details"]["field"], field, "{body} {refused:?}");
        }
        let secret = token(server, &person, &["all"]).await;
        let mut typo = secret.clone().into_bytes();
        typo[10] = if typo[10] == b'a' { b'b' } else { b'a' };
        let typo = String::from_utf8(typo).unwrap();
        for (wrong, code) in [
            (typo.as_str(), "invalid_token"),
            (&secret[..50], "invalid_token"),
            ("rexec_", "invalid_token"),
            (&rexec_api::tokens::encode([7; 32]), "token_revoked"),
        ] {
            let refused = server.by(wrong, Method::GET, "/api/me").await;
            assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, code.into()), "{wrong}");
        }
    })
    .await;
}

async fn tokens_run_out(backend: Backend) {
    with_server(backend, &[], async |server| {
        let person = server.register("ann@example.com").await.token();
        for _ in 0..rexec_api::tokens::TOKENS_MAX {
            token(server, &person, &["exec"]).await;
        }
        let refused = make(server, &person, json!({ "name": "x", "scopes": ["exec"] })).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "quota_exceeded".into()));
        assert_eq!(refused.json()["error"]["details"]["quota"], "tokens");
    })
    .await;
}

/// A route of the description that wants to know who asks.
struct Route {
    method: Method,
    path: String,
    /// `None`: any token will do.
    scope: Option<Scope>,
    body: Option<(&'static str, Vec<u8>)>,
}

/// A value that fits a schema, with what is required and little else.
fn sample(api: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return sample(api, api.pointer(reference.trim_start_matches('#')).unwrap());
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(first) = schema[choice].get(0) {
            return sample(api, first);
        }
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("object");
    match kind {
        "object" => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            // A path may stand in one of two fields, of which the description can require neither.
            let paths = ["path", "from", "to"];
            let is_wanted = |name: &str| required.iter().any(|field| field == name) || paths.contains(&name);
            let fields = schema["properties"].as_object().cloned().unwrap_or_default();
            let fields = fields.into_iter().filter(|(name, _)| is_wanted(name));
            Value::Object(fields.map(|(name, schema)| (name, sample(api, &schema))).collect())
        }
        "array" => json!([sample(api, &schema["items"])]),
        "integer" | "number" => json!(80),
        "boolean" => json!(false),
        _ if schema["format"] == "uuid" => json!(uuid::Uuid::nil()),
        _ => json!("/x"),
    }
}

/// The paths' and queries' parameters, as they must be.
fn address(path: &str, operation: &Value) -> String {
    let mut address = path.to_owned();
    let mut query = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let is_number = parameter["schema"]["type"] == "integer";
        let value = if is_number { "80" } else { "00000000-0000-7000-8000-000000000000" };
        match parameter["in"].as_str().unwrap() {
            "path" => address = address.replace(&format!("{{{name}}}"), value),
            "query" if name == "path" => query.push("path=/x".to_owned()),
            "query" if name == "upload" && parameter["required"] == true => query.push(format!("upload={value}")),
            _ => {}
        }
    }
    if query.is_empty() { address } else { format!("{address}?{}", query.join("&")) }
}

/// Every route that wants to know who asks.
fn described(api: &Value) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let bearer = operation["security"].as_array().unwrap().iter().find_map(|entry| entry.get("bearer"));
            let Some(scopes) = bearer.map(|scopes| scopes.as_array().unwrap()) else {
                assert_eq!(operation["security"], json!([{}]), "{method} {path}");
                continue;
            };
            let scope = scopes.first().map(|scope| Scope::parse(scope.as_str().unwrap()).unwrap());
            let content = operation["requestBody"]["content"].as_object();
            let body = content.and_then(|content| content.iter().next()).map(|(media, described)| {
                let json = ("application/json", sample(api, &described["schema"]).to_string().into_bytes());
                if media == "application/json" { json } else { ("application/octet-stream", b"x".to_vec()) }
            });
            let method = method.to_uppercase().parse().unwrap();
            routes.push(Route { method, path: address(path, operation), scope, body });
        }
    }
    routes
}

/// What is answered to one who lacks a scope.
fn refusal(scope: Scope) -> (StatusCode, String) {
    (StatusCode::FORBIDDEN, format!("insufficient_scope {}", scope.as_str()))
}

/// The status, and of a refusal its code and the scope that is lacking.
async fn ask(server: &Server, route: &Route, token: &str) -> (StatusCode, String) {
    let mut request = server.http.request(route.method.clone(), format!("{}{}", server.base, route.path));
    if route.path.ends_with("/ws") {
        request = request
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    }
    if let Some((media, body)) = &route.body {
        request = request.header("content-type", *media).body(body.clone());
    }
    let response = request.bearer_auth(token).send().await.unwrap();
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        // A WebSocket tells why it is refused in its first frame.
        use tokio::io::AsyncReadExt as _;
        let mut words = Vec::new();
        let mut socket = response.upgrade().await.unwrap();
        let mut piece = [0; 1024];
        while let Ok(read @ 1..) = socket.read(&mut piece).await {
            words.extend_from_slice(&piece[..read]);
            if String::from_utf8_lossy(&words).contains("code") {
                break;
            }
        }
        let words = String::from_utf8_lossy(&words);
        let is_refused = words.contains("insufficient_scope") && words.contains("`terminals`");
        return if is_refused { refusal(Scope::Terminals) } else { (status, String::new()) };
    }
    // Streams that are let begin have no end.
    if status.is_success() {
        return (status, String::new());
    }
    let error = &response.json::<Value>().await.unwrap()["error"];
    let lacking = error["details"]["scope"].as_str().map(|scope| format!(" {scope}")).unwrap_or_default();
    (status, format!("{}{lacking}", error["code"].as_str().unwrap()))
}

#[tokio::test]
async fn no_route_is_reached_without_its_scope() {
    with_server(Backend::Sqlite, &[], async |server| {
        let person = server.register("ann@example.com").await.token();
        let api: Value = server.get("/api/openapi.json").await.json();
        let routes = described(&api);
        assert!(routes.len() > 50, "{}", routes.len());
        let free: Vec<_> =
            routes.iter().filter(|route| route.scope.is_none()).map(|route| route.path.as_str()).collect();
        assert_eq!(free, ["/api/auth/logout", "/api/auth/refresh", "/api/me"]);
        for scope in Scope::EVERY {
            let others: Vec<_> =
                Scope::EVERY.iter().filter(|other| !other.covers(scope)).map(|other| other.as_str()).collect();
            let (with, without) =
                (token(server, &person, &[scope.as_str()]).await, token(server, &person, &others).await);
            for route in routes.iter().filter(|route| route.scope == Some(scope)) {
                let what = format!("{} {} by {}", route.method, route.path, scope.as_str());
                let refused = ask(server, route, &without).await;
                assert_eq!(refused, refusal(scope), "{what}");
                let answer = ask(server, route, &with).await;
                assert!(answer.0 != StatusCode::UNAUTHORIZED && answer != refusal(scope), "{what}: {answer:?}");
            }
        }
    })
    .await;
}
