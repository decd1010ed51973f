//! Machines that sign in by a person's browser.

use crate::support::{Answer, Backend, Server, in_place, on_both, with_server};
use reqwest::{Method, StatusCode};
use rexec_api::device::{EXPIRES_IN_S, INTERVAL_S};
use rexec_server::db::execute;
use serde_json::{Value, json};

on_both!(
    a_machine_is_let_in_once,
    of_many_who_ask_at_once_one_is_told,
    a_machine_is_turned_away,
    a_machine_that_hurries_is_slowed_down,
    what_ran_out_lets_nobody_in,
    what_begins_on_one_server_is_approved_on_the_other,
    who_approves_gives_no_more_than_there_is,
    an_account_full_of_tokens_is_told_before,
);

async fn begin(server: &Server) -> Value {
    let begun = server.post("/api/auth/device", json!({ "client_name": "rexec on laptop" })).await;
    assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
    begun.json()
}

async fn finish(server: &Server, begun: &Value) -> Answer {
    server.post("/api/auth/device/token", json!({ "device_code": begun["device_code"] })).await
}

async fn decide(server: &Server, by: &str, how: &str, code: &str) -> Answer {
    let bearer = format!("Bearer {by}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = json!({ "user_code": code }).to_string().into_bytes();
    server.send(Method::POST, &format!("/api/auth/device/{how}"), &headers, Some(body)).await
}

fn code(begun: &Value) -> &str {
    begun["user_code"].as_str().unwrap()
}

async fn a_machine_is_let_in_once(backend: Backend) {
    with_server(backend, &[], async |server| {
        let person = server.register("ann@example.com").await.token();
        let begun = begin(server).await;
        assert_eq!((&begun["expires_in"], &begun["interval"]), (&json!(EXPIRES_IN_S), &json!(INTERVAL_S)));
        assert_eq!(begun["verification_uri"], format!("{}/device", server.base));
        assert_eq!(begun["verification_uri_complete"], format!("{}/device?code={}", server.base, code(&begun)));
        let waiting = finish(server, &begun).await;
        assert_eq!((waiting.status, waiting.code()), (StatusCode::BAD_REQUEST, "authorization_pending".into()));

        let seen = decide(server, &person, "lookup", &code(&begun).to_lowercase().replace('-', " ")).await.json();
        assert_eq!((&seen["user_code"], &seen["client_name"]), (&begun["user_code"], &json!("rexec on laptop")));
        assert_eq!((&seen["address"], &seen["same_address"]), (&json!("127.0.0.1"), &json!(true)));
        assert_eq!(decide(server, &person, "approve", code(&begun)).await.status, StatusCode::NO_CONTENT);
        assert_eq!(decide(server, &person, "deny", code(&begun)).await.code(), "not_found", "it is decided");

        let granted = finish(server, &begun).await;
        assert_eq!(granted.status, StatusCode::OK, "{granted:?}");
        let granted = granted.json();
        assert_eq!((&granted["token_type"], &granted["user"]["email"]), (&json!("Bearer"), &json!("ann@example.com")));
        let token = granted["access_token"].as_str().unwrap();
        assert_eq!(server.by(token, Method::GET, "/api/me").await.status, StatusCode::OK);
        let item = server.by(&person, Method::GET, "/api/tokens").await.json()["items"][0].clone();
        assert_eq!((&item["name"], &item["scopes"]), (&json!("rexec on laptop"), &json!(["all"])));
        assert!(item["expires_at"].is_string());

        assert_eq!(finish(server, &begun).await.code(), "expired_token");
        assert_eq!(decide(server, &person, "lookup", code(&begun)).await.code(), "not_found");
    })
    .await;
}

async fn of_many_who_ask_at_once_one_is_told(backend: Backend) {
    with_server(backend, &[], async |server| {
        let person = server.register("ann@example.com").await.token();
        let begun = begin(server).await;
        decide(server, &person, "approve", code(&begun)).await;
        let answers = futures_util::future::join_all((0..8).map(|_| finish(server, &begun))).await;
        let told = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert_eq!(told, 1);
        for other in answers.iter().filter(|answer| answer.status != StatusCode::OK) {
            assert_eq!(other.code(), "expired_token");
        }
        let made = server.by(&person, Method::GET, "/api/tokens").await.json()["items"].as_array().unwrap().len();
        assert_eq!(made, 1);
    })
    .await;
}

async fn a_machine_is_turned_away(backend: Backend) {
    with_server(backend, &[], async |server| {
        let person = server.register("ann@example.com").await.token();
        let begun = begin(server).await;
        assert_eq!(decide(server, &person, "deny", code(&begun)).await.status, StatusCode::NO_CONTENT);
        assert_eq!(decide(server, &person, "approve", code(&begun)).await.code(), "not_found");
        let denied = finish(server, &begun).await;
        assert_eq!((denied.status, denied.code()), (StatusCode::BAD_REQUEST, "access_denied".into()));
        assert_eq!(finish(server, &begun).await.code(), "expired_token");
        assert_eq!(server.by(&person, Method::GET, "/api/tokens").await.json()["items"], json!([]));
    })
    .await;
}

async fn a_machine_that_hurries_is_slowed_down(backend: Backend) {
    with_server(backend, &[], async |server| {
        let begun = begin(server).await;
        assert_eq!(finish(server, &begun).await.code(), "authorization_pending");
        for interval in [INTERVAL_S + 5, INTERVAL_S + 10] {
            let hurried = finish(server, &begun).await;
            assert_eq!((hurried.status, hurried.code()), (StatusCode::BAD_REQUEST, "slow_down".into()));
            assert_eq!(hurried.json()["error"]["details"]["interval"], interval);
            assert_eq!(hurried.header("retry-after"), interval.to_string());
        }
    })
    .await;
}

async fn what_ran_out_lets_nobody_in(backend: Backend) {
    with_server(backend, &[], async |server| {
        let person = server.register("ann@example.com").await.token();
        let (waits, approved) = (begin(server).await, begin(server).await);
        decide(server, &person, "approve", code(&approved)).await;
        // Nothing that the machine holds lies in the database.
        let secret = approved["device_code"].as_str().unwrap();
        let text = "DELETE FROM device_logins WHERE device_hash = $1";
        assert_eq!(execute(server.running.app.db.write(), text, [secret.into()]).await.unwrap(), 0);
        let text = "UPDATE device_logins SET expires_ms = 1700000000000";
        assert_eq!(execute(server.running.app.db.write(), text, []).await.unwrap(), 2);
        for begun in [&waits, &approved] {
            assert_eq!(finish(server, begun).await.code(), "expired_token");
            for how in ["lookup", "approve", "deny"] {
                assert_eq!(decide(server, &person, how, code(begun)).await.code(), "not_found");
            }
        }
        let unknown = server.post("/api/auth/device/token", json!({ "device_code": "x" })).await;
        assert_eq!(unknown.code(), "expired_token");
    })
    .await;
}

async fn what_begins_on_one_server_is_approved_on_the_other(backend: Backend) {
    in_place(backend, async |place| {
        let elsewhere = place.dir.path().join("another-server");
        let elsewhere = [("REXEC_DATA_DIR", elsewhere.to_str().unwrap())];
        let (here, there) = (place.start(&[]).await, place.start(&elsewhere).await);
        let person = there.register("ann@example.com").await.token();
        let begun = begin(&here).await;
        assert_eq!(decide(&there, &person, "approve", code(&begun)).await.status, StatusCode::NO_CONTENT);
        assert_eq!(finish(&here, &begun).await.status, StatusCode::OK);
        assert!(here.stop().await && there.stop().await);
    })
    .await;
}

async fn token(server: &Server, by: &str, body: Value) -> String {
    let bearer = format!("Bearer {by}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    server.send(Method::POST, "/api/tokens", &headers, Some(body.to_string().into_bytes())).await.token()
}

async fn who_approves_gives_no_more_than_there_is(backend: Backend) {
    with_server(backend, &[], async |server| {
        let person = server.register("ann@example.com").await.token();
        let begun = begin(server).await;
        let part = token(server, &person, json!({ "name": "part", "scopes": ["account", "admin", "exec"] })).await;
        for how in ["lookup", "approve", "deny"] {
            assert_eq!(decide(server, &part, how, code(&begun)).await.code(), "insufficient_scope");
            assert_eq!(decide(server, "none", how, code(&begun)).await.code(), "invalid_token");
        }
        // What lasts a day lets in for a day.
        let short = json!({ "name": "short", "scopes": ["all"], "expires_in_days": 1 });
        let short = token(server, &person, short).await;
        assert_eq!(decide(server, &short, "approve", code(&begun)).await.status, StatusCode::NO_CONTENT);
        let lasts = finish(server, &begun).await.json()["expires_in"].as_u64().unwrap();
        assert!(lasts <= 24 * 3600, "{lasts}");

        // What has approved and is gone lets nobody in.
        for gone in [&short, &person] {
            let begun = begin(server).await;
            assert_eq!(decide(server, gone, "approve", code(&begun)).await.status, StatusCode::NO_CONTENT);
            let bearer = format!("Bearer {gone}");
            let left = server.send(Method::POST, "/api/auth/logout", &[("authorization", &bearer)], None).await;
            assert_eq!(left.status, StatusCode::NO_CONTENT);
            assert_eq!(finish(server, &begun).await.code(), "expired_token");
        }
    })
    .await;
}

async fn an_account_full_of_tokens_is_told_before(backend: Backend) {
    with_server(backend, &[], async |server| {
        let person = server.register("ann@example.com").await.token();
        for _ in 0..rexec_api::tokens::TOKENS_MAX {
            token(server, &person, json!({ "name": "x", "scopes": ["exec"] })).await;
        }
        let begun = begin(server).await;
        let refused = decide(server, &person, "approve", code(&begun)).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "quota_exceeded".into()));
        assert_eq!(finish(server, &begun).await.code(), "authorization_pending");
    })
    .await;
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    with_server(Backend::Sqlite, &[("PUBLIC_URL", "https://rexec.example.org")], async |server| {
        for name in ["", "a\nb", "a\u{202e}b"] {
            let refused = server.post("/api/auth/device", json!({ "client_name": name })).await;
            assert_eq!(refused.json()["error"]["details"]["field"], "client_name", "{refused:?}");
        }
        assert_eq!(begin(server).await["verification_uri"], "https://rexec.example.org/device");
        let person = server.register("ann@example.com").await.token();
        for typed in ["", "ABCD-EFGH", "BCDF-GHJ", "../.."] {
            let refused = decide(server, &person, "lookup", typed).await;
            assert_eq!((refused.status, refused.code()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request".into()));
            assert_eq!(refused.json()["error"]["details"]["field"], "user_code");
        }
        assert_eq!(decide(server, &person, "lookup", "BCDF-GHJK").await.code(), "not_found");
    })
    .await;
}

#[tokio::test]
async fn codes_are_not_tried_for_long() {
    with_server(Backend::Sqlite, &[("REXEC_SIGN_INS_PER_MINUTE", "3")], async |server| {
        let person = server.register("ann@example.com").await.token();
        let begun = begin(server).await;
        for _ in 0..3 {
            assert_eq!(decide(server, &person, "lookup", "BCDF-GHJK").await.code(), "not_found");
        }
        for how in ["lookup", "approve"] {
            let refused = decide(server, &person, how, code(&begun)).await;
            assert_eq!((refused.status, refused.code()), (StatusCode::TOO_MANY_REQUESTS, "rate_limited".into()));
        }
        let begun = futures_util::future::join_all(
            (0..40).map(|_| server.post("/api/auth/device", json!({ "client_name": "many" }))),
        );
        assert!(begun.await.iter().any(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS));
    })
    .await;
}
