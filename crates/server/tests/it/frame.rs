//! What every request meets: JSON for every failure, ids, headers, and no way around sign-in.

use crate::support::{Backend, PASSWORD, PATIENCE, in_place, with_server};
use axum::routing::get;
use reqwest::{Method, StatusCode};
use rexec_server::config::Config;
use rexec_server::http::streams::USER_STREAMS_MAX;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::ServiceExt as _;

/// A request (method, path, headers, body) and the status and error code that answer it.
type Case<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], Option<&'a str>, u16, &'a str);

#[tokio::test]
async fn every_failure_is_json() {
    with_server(Backend::Sqlite, &[], async |server| {
        let json = [("content-type", "application/json")];
        let login = "/api/auth/login";
        let big = format!("{{\"email\":\"{}\"}}", "x".repeat(2 * 1024 * 1024));
        let cases: [Case<'_>; 12] = [
            (Method::GET, "/api", &[], None, 404, "no_such_route"),
            (Method::GET, "/api/nowhere", &[], None, 404, "no_such_route"),
            (Method::POST, "/api/workspaces/x/y/z", &json, Some("{}"), 404, "no_such_route"),
            (Method::PUT, "/api/me", &[], None, 405, "method_not_allowed"),
            (Method::POST, "/somewhere", &[], None, 405, "method_not_allowed"),
            (Method::POST, login, &json, Some("{\"email\":"), 400, "invalid_json"),
            (Method::POST, login, &json, Some(""), 400, "invalid_json"),
            (Method::POST, login, &json, Some("{} trailing"), 422, "invalid_request"),
            (Method::POST, login, &json, Some("[1]"), 422, "invalid_request"),
            (Method::POST, login, &[], Some("{}"), 415, "unsupported_media_type"),
            (Method::POST, login, &[("content-type", "text/plain")], Some("{}"), 415, "unsupported_media_type"),
            (Method::POST, login, &json, Some(&big), 413, "body_too_large"),
        ];
        for (method, path, headers, body, status, code) in cases {
            let body = body.map(|b| b.as_bytes().to_vec());
            let answer = server.send(method.clone(), path, headers, body).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{method} {path}");
        }
        let answer = server.send(Method::DELETE, "/api/me", &[], None).await;
        assert_eq!(answer.header("allow"), "GET,HEAD");
    })
    .await;
}

#[tokio::test]
async fn answers_carry_an_id_and_guard_the_browser() {
    with_server(Backend::Sqlite, &[], async |server| {
        let given = [("x-request-id", "proxy-7.a_b")];
        let answer = server.send(Method::GET, "/api/me", &given, None).await;
        assert_eq!(answer.header("x-request-id"), "proxy-7.a_b");
        assert_eq!(answer.code(), "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        for bad in ["a b", "x\"y", &"x".repeat(65)] {
            let answer = server.send(Method::GET, "/health", &[("x-request-id", bad)], None).await;
            let id = answer.header("x-request-id");
            assert!(id != bad && id.parse::<uuid::Uuid>().is_ok(), "{id}");
        }
        let api = server.get("/api/auth/status").await;
        assert!(api.header("content-security-policy").contains("sandbox"));
        assert_eq!(api.header("cache-control"), "no-store");
        assert_eq!(api.header("x-content-type-options"), "nosniff");
    })
    .await;
}

#[tokio::test]
async fn no_route_serves_strangers() {
    with_server(Backend::Sqlite, &[], async |server| {
        let spec = server.get("/api/openapi.json").await.json();
        assert_eq!(spec["openapi"].as_str().unwrap()[..3], *"3.1");
        let mut tried = 0;
        for (path, operations) in spec["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                if is_public(operation) {
                    continue;
                }
                let path = with_ids(path);
                let method: Method = method.to_uppercase().parse().unwrap();
                let answer = server.send(method.clone(), &path, &[], None).await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}: {answer:?}");
                assert_eq!(answer.code(), "unauthenticated");
                tried += 1;
            }
        }
        assert!(tried >= 5, "only {tried} routes need a sign-in");
    })
    .await;
}

/// Described with a security requirement that asks for nothing.
fn is_public(operation: &Value) -> bool {
    let security = operation.get("security").and_then(Value::as_array);
    security.is_some_and(|all| all.iter().any(|one| one == &serde_json::json!({})))
}

fn with_ids(path: &str) -> String {
    let id = uuid::Uuid::now_v7().to_string();
    path.split('/').map(|part| if part.starts_with('{') { id.as_str() } else { part }).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn probes_and_figures() {
    with_server(Backend::Sqlite, &[], async |server| {
        let health = server.get("/health").await;
        assert_eq!((health.status, &health.json()["status"]), (StatusCode::OK, &"ok".into()));
        let ready = server.get("/ready").await.json();
        assert_eq!(ready["checks"]["database"], "ok");
        assert_eq!(ready["checks"]["migrations"], "ok");
        assert!(ready["weaker"].is_array(), "{ready}");
        server.log_in("nobody@example.com", PASSWORD).await;
        let metrics = server.get("/metrics").await;
        assert!(metrics.header("content-type").starts_with("text/plain"));
        let sample =
            "rexec_http_request_duration_seconds_count{method=\"POST\",route=\"/api/auth/login\",status=\"401\"}";
        assert!(metrics.text.contains(sample), "{}", metrics.text);
    })
    .await;
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    with_server(Backend::Sqlite, &[], async |server| {
        let app = std::sync::Arc::clone(&server.running.app);
        let routes = axum::Router::new().route("/api/panic", get(panicking));
        let router = rexec_server::http::framed(routes, app);
        let request = http::Request::get("/api/panic").body(axum::body::Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], "internal");
        assert!(!body.to_string().contains("private"), "{body}");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_stops_halfway_is_given_up_on() {
    in_place(Backend::Sqlite, async |place| {
        let patience = Duration::from_millis(200);
        let config = Config { body_patience: patience, ..place.config(&[]) };
        let server = place.start_as(config).await;
        let mut stream = TcpStream::connect(server.running.addr).await.unwrap();
        let head = "POST /api/auth/login HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                    content-type: application/json\r\ncontent-length: 50\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("\"request_timeout\""), "{answer}");
        assert!(server.stop().await);
    })
    .await;
}

async fn panicking() -> &'static str {
    panic!("a private matter")
}

/// The committed file is what clients' types are generated from.
#[test]
fn the_committed_description_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == rexec_server::http::openapi::document(),
        "docs/openapi.json is stale: run `cargo run -p rexec-cli -- openapi > docs/openapi.json`"
    );
}

#[tokio::test]
async fn a_user_has_so_many_streams() {
    with_server(Backend::Sqlite, &[], async |server| {
        let (ada, eve) =
            (server.register("ada@example.com").await.token(), server.register("eve@example.com").await.token());
        let http = reqwest::Client::new();
        let open = async |token: &str| {
            let request = http.get(format!("{}/api/events", server.base)).bearer_auth(token);
            request.header("accept", "text/event-stream").send().await.unwrap()
        };
        let mut streams = Vec::new();
        for _ in 0..USER_STREAMS_MAX {
            let stream = open(&ada).await;
            assert_eq!(stream.status(), 200);
            streams.push(stream);
        }
        let refused = open(&ada).await;
        assert_eq!(refused.status(), 429);
        assert!(refused.headers().contains_key("retry-after"), "{:?}", refused.headers());
        let told: Value = refused.json().await.unwrap();
        assert_eq!(told["error"]["code"], "too_many_streams");
        assert_eq!(told["error"]["details"]["max"], USER_STREAMS_MAX);
        assert_eq!(server.by(&ada, Method::GET, "/api/me").await.status, 200, "what is answered at once goes on");
        assert_eq!(open(&eve).await.status(), 200, "another is not held up");
        // One that is closed leaves its place.
        drop(streams.pop());
        let again = async {
            while open(&ada).await.status() != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, again).await.expect("its place stays taken");
    })
    .await;
}

#[tokio::test]
async fn a_name_that_is_no_previews_is_told_so() {
    with_server(Backend::Sqlite, &[], async |server| {
        let id = "0197f0c26b1e7c3a8f001234567890ab";
        let dashed = "0197f0c2-6b1e-7c3a-8f00-1234567890ab";
        for host in ["zzz.localhost", &format!("99999-{id}.localhost:80"), &format!("80-{dashed}.localhost")] {
            let page = server.send(Method::GET, "/", &[("host", host), ("accept", "text/html")], None).await;
            assert_eq!(page.status, 404, "{host}");
            assert!(page.text.contains("There is no such preview") && page.text.contains("Go to Rexec"), "{page:?}");
            let told = server.send(Method::GET, "/api/me", &[("host", host)], None).await;
            assert_eq!((told.status, told.code()), (StatusCode::NOT_FOUND, "no_such_preview".into()), "{host}");
        }
        let app = server.send(Method::GET, "/health", &[("host", "localhost")], None).await;
        assert_eq!(app.status, 200);
    })
    .await;
}
