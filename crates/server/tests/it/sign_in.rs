//! Tokens, login sessions, cookies and the limits on them.

use crate::support::{Answer, Backend, PASSWORD, PATIENCE, SECRET, Server, in_place, on_both, with_server};
use reqwest::{Method, StatusCode};
use rexec_server::auth::token::{Expiry, Keys, TOKEN_SECONDS};
use rexec_server::secret::Secret;

on_both!(
    signing_out_ends_the_session,
    sessions_are_listed_and_ended,
    a_session_ended_on_one_server_ends_on_the_other,
    a_token_that_ran_out_is_refreshed,
    the_token_goes_in_header_subprotocol_or_cookie,
    another_users_session_is_none,
);

async fn signing_out_ends_the_session(backend: Backend) {
    with_server(backend, &[], async |server| {
        let first = server.register("ann@example.com").await.token();
        let second = server.log_in("ann@example.com", PASSWORD).await.token();
        let out = server.by(&first, Method::POST, "/api/auth/logout").await;
        assert_eq!(out.status, StatusCode::NO_CONTENT);
        assert!(out.header("set-cookie").contains("Max-Age=0"), "{out:?}");
        let refused = server.by(&first, Method::GET, "/api/me").await;
        assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "session_revoked".into()));
        let refused = server.by(&first, Method::POST, "/api/auth/refresh").await;
        assert_eq!(refused.code(), "session_revoked");
        assert_eq!(server.by(&second, Method::GET, "/api/me").await.status, StatusCode::OK);
    })
    .await;
}

async fn sessions_are_listed_and_ended(backend: Backend) {
    with_server(backend, &[], async |server| {
        let mine = server.register("ann@example.com").await.token();
        let other = server.log_in("ann@example.com", PASSWORD).await.token();
        let list = server.by(&mine, Method::GET, "/api/auth/sessions").await.json();
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        assert!(list["next"].is_null());
        let theirs = items.iter().find(|s| s["current"] == false).unwrap();
        assert_eq!(theirs["address"], "127.0.0.1");
        let path = format!("/api/auth/sessions/{}", theirs["id"].as_str().unwrap());
        let ended = server.by(&mine, Method::DELETE, &path).await;
        assert_eq!(ended.status, StatusCode::NO_CONTENT);
        assert_eq!(server.by(&other, Method::GET, "/api/me").await.code(), "session_revoked");
        assert_eq!(server.by(&mine, Method::DELETE, &path).await.code(), "not_found");
        let list = server.by(&mine, Method::GET, "/api/auth/sessions").await.json();
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
    })
    .await;
}

async fn a_session_ended_on_one_server_ends_on_the_other(backend: Backend) {
    in_place(backend, async |place| {
        let elsewhere = place.dir.path().join("another-server");
        let elsewhere = [("REXEC_DATA_DIR", elsewhere.to_str().unwrap())];
        let (here, there) = (place.start(&[]).await, place.start(&elsewhere).await);
        let token = here.register("ann@example.com").await.token();
        assert_eq!(there.by(&token, Method::GET, "/api/me").await.status, StatusCode::OK);
        here.by(&token, Method::POST, "/api/auth/logout").await;
        let refused = tokio::time::timeout(PATIENCE, until_refused(&there, &token)).await.unwrap();
        assert_eq!(refused.code(), "session_revoked");
        assert!(here.stop().await && there.stop().await);
    })
    .await;
}

async fn until_refused(server: &Server, token: &str) -> Answer {
    loop {
        let answer = server.by(token, Method::GET, "/api/me").await;
        if answer.status != StatusCode::OK {
            return answer;
        }
    }
}

async fn a_token_that_ran_out_is_refreshed(backend: Backend) {
    with_server(backend, &[], async |server| {
        let token = server.register("ann@example.com").await.token();
        let keys = Keys::from_secret(&Secret::new(SECRET));
        let claims = keys.verify(&token, Expiry::Refuse).unwrap();
        let long_ago = (claims.iat - TOKEN_SECONDS - 60) * 1000;
        let old = keys.sign(claims.sub, claims.sid, long_ago).unwrap();
        let refused = server.by(&old, Method::GET, "/api/me").await;
        assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "token_expired".into()));
        let fresh = server.by(&old, Method::POST, "/api/auth/refresh").await.token();
        assert_eq!(server.by(&fresh, Method::GET, "/api/me").await.status, StatusCode::OK);

        let stranger = Keys::from_secret(&Secret::new("some other secret of someone else"));
        let forged = stranger.sign(claims.sub, claims.sid, claims.iat * 1000).unwrap();
        for token in [forged.as_str(), "garbage", "a.b.c"] {
            let refused = server.by(token, Method::GET, "/api/me").await;
            assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "invalid_token".into()));
            let refused = server.by(token, Method::POST, "/api/auth/refresh").await;
            assert_eq!(refused.code(), "invalid_token");
        }
        let basic = [("authorization", "Basic YTpi")];
        let refused = server.send(Method::GET, "/api/me", &basic, None).await;
        assert_eq!(refused.code(), "invalid_token");
    })
    .await;
}

async fn the_token_goes_in_header_subprotocol_or_cookie(backend: Backend) {
    with_server(backend, &[], async |server| {
        let registered = server.register("ann@example.com").await;
        let token = registered.token();
        let set = registered.header("set-cookie");
        assert_eq!(set, format!("__Host-rexec={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000; Secure"));
        let cookie = set.split(';').next().unwrap();
        let protocols = format!("rexec.terminal.v1, rexec.token.{token}");
        for header in [("cookie", cookie), ("sec-websocket-protocol", &protocols)] {
            let me = server.send(Method::GET, "/api/me", &[header], None).await;
            assert_eq!(me.status, StatusCode::OK, "{me:?}");
        }
        // Whose of two would be used, another page could choose.
        let two = format!("__Host-rexec=another; {cookie}");
        let answer = server.send(Method::GET, "/api/me", &[("cookie", &two)], None).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "invalid_token".into()));
        let same = format!("{cookie}; {cookie}");
        assert_eq!(server.send(Method::GET, "/api/me", &[("cookie", &same)], None).await.status, StatusCode::OK);
        let host = server.base.clone();
        let cases: [(&[(&str, &str)], bool); 5] = [
            (&[], false),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "null")], false),
            (&[("origin", "http://127.0.0.1")], false),
            (&[("origin", &host)], true),
        ];
        for (headers, allowed) in cases {
            let headers: Vec<_> = headers.iter().copied().chain([("cookie", cookie)]).collect();
            let answer = server.send(Method::POST, "/api/auth/refresh", &headers, None).await;
            assert_eq!(answer.status.is_success(), allowed, "{headers:?} {answer:?}");
            if !allowed {
                assert_eq!((answer.status, answer.code()), (StatusCode::FORBIDDEN, "foreign_origin".into()));
            }
            // A WebSocket is asked for by GET, and is guarded alike.
            let upgrade: Vec<_> = headers.iter().copied().chain([("upgrade", "websocket")]).collect();
            let answer = server.send(Method::GET, "/api/me", &upgrade, None).await;
            assert_eq!(answer.status.is_success(), allowed, "{upgrade:?} {answer:?}");
        }
        // A program's token is no browser's: it needs no origin, and a foreign one harms nothing.
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("origin", "https://evil.example")];
        let answer = server.send(Method::POST, "/api/auth/refresh", &headers, None).await;
        assert_eq!(answer.status, StatusCode::OK);
    })
    .await;
}

async fn another_users_session_is_none(backend: Backend) {
    with_server(backend, &[], async |server| {
        let admin = server.register("ann@example.com").await.token();
        let user = server.register("bob@example.com").await.token();
        let list = server.by(&admin, Method::GET, "/api/auth/sessions").await.json();
        let path = format!("/api/auth/sessions/{}", list["items"][0]["id"].as_str().unwrap());
        assert_eq!(server.by(&user, Method::DELETE, &path).await.code(), "not_found");
        let bad = server.by(&user, Method::DELETE, "/api/auth/sessions/7").await;
        assert_eq!((bad.status, bad.code()), (StatusCode::BAD_REQUEST, "invalid_id".into()));
        assert_eq!(server.by(&admin, Method::GET, "/api/me").await.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn the_cookie_follows_the_public_address() {
    let public = [("PUBLIC_URL", "http://192.168.7.7:8080")];
    with_server(Backend::Sqlite, &public, async |server| {
        let registered = server.register("ann@example.com").await;
        let set = registered.header("set-cookie");
        assert!(set.starts_with("rexec=") && !set.contains("Secure"), "{set}");
        let cookie = set.split(';').next().unwrap();
        let headers = [("cookie", cookie), ("origin", "http://192.168.7.7:8080")];
        let answer = server.send(Method::POST, "/api/auth/refresh", &headers, None).await;
        assert_eq!(answer.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn attempts_to_sign_in_run_out() {
    let limits = [("REXEC_SIGN_INS_PER_MINUTE", "3")];
    with_server(Backend::Sqlite, &limits, async |server| {
        server.register("ann@example.com").await.token();
        for _ in 0..2 {
            let answer = server.log_in("ann@example.com", "wrong password").await;
            assert_eq!(answer.code(), "bad_credentials");
        }
        let refused = server.log_in("ann@example.com", PASSWORD).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::TOO_MANY_REQUESTS, "rate_limited".into()));
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=20).contains(&wait), "{wait}");
        // Whoever shares the address is not shut out.
        assert_eq!(server.register("bob@example.com").await.status, StatusCode::CREATED);
    })
    .await;
}

#[tokio::test]
async fn requests_run_out() {
    let limits = [("REXEC_REQUESTS_PER_SECOND", "1")];
    with_server(Backend::Sqlite, &limits, async |server| {
        let mut answers = Vec::new();
        for _ in 0..30 {
            answers.push(server.get("/api/auth/status").await);
        }
        let refused: Vec<_> = answers.iter().filter(|a| !a.status.is_success()).collect();
        assert!(!refused.is_empty());
        for answer in refused {
            assert_eq!(answer.code(), "rate_limited");
            assert_ne!(answer.header("retry-after"), "");
        }
        // Probes are never refused.
        assert_eq!(server.get("/health").await.status, StatusCode::OK);
    })
    .await;
}
