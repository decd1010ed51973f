//! Accounts: the first, the others, and those that cannot be.

use crate::support::{Backend, PASSWORD, on_both, with_server};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;

on_both!(
    of_many_first_accounts_one_is_administrator,
    an_address_has_one_account,
    an_account_sees_itself,
    what_does_not_fit_is_named,
    a_wrong_password_and_no_account_look_alike,
);

async fn of_many_first_accounts_one_is_administrator(backend: Backend) {
    with_server(backend, &[], async |server| {
        assert_eq!(server.get("/api/auth/status").await.json()["first_account"], true);
        let emails: Vec<String> = (0..6).map(|n| format!("user{n}@example.com")).collect();
        let answers = join_all(emails.iter().map(|email| server.register(email))).await;
        let admins = answers
            .iter()
            .inspect(|answer| assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}"))
            .filter(|answer| answer.json()["user"]["role"] == "admin")
            .count();
        assert_eq!(admins, 1);
        assert_eq!(server.get("/api/auth/status").await.json()["first_account"], false);
    })
    .await;
}

async fn an_address_has_one_account(backend: Backend) {
    with_server(backend, &[], async |server| {
        let spellings = ["ann@example.com", "Ann@Example.com", " ANN@EXAMPLE.COM "];
        let answers = join_all(spellings.iter().map(|email| server.register(email))).await;
        let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status.is_success());
        assert_eq!(made.len(), 1, "{answers:?}");
        assert_eq!(made[0].json()["user"]["email"], "ann@example.com");
        // A failed first registration does not use up the administrator's place.
        assert_eq!(made[0].json()["user"]["role"], "admin");
        for answer in refused {
            assert_eq!((answer.status, answer.code()), (StatusCode::CONFLICT, "email_taken".into()));
        }
        assert!(server.log_in("ANN@example.com", PASSWORD).await.status.is_success());
    })
    .await;
}

async fn an_account_sees_itself(backend: Backend) {
    with_server(backend, &[], async |server| {
        let body = json!({"email": "ann@example.com", "password": PASSWORD, "name": " Ann "});
        let registered = server.post("/api/auth/register", body).await;
        let me = server.by(&registered.token(), Method::GET, "/api/me").await;
        assert_eq!(me.json(), registered.json()["user"]);
        assert_eq!(me.json()["name"], "Ann");
        assert!(me.json().get("password_hash").is_none());
    })
    .await;
}

async fn what_does_not_fit_is_named(backend: Backend) {
    with_server(backend, &[], async |server| {
        let long = "x".repeat(2000);
        let cases = [
            (json!({"email": "nobody", "password": PASSWORD}), "email"),
            (json!({"email": "a@b.c", "password": "short"}), "password"),
            (json!({"email": "a@b.c", "password": long}), "password"),
            (json!({"email": "a@b.c", "password": PASSWORD, "name": "a\u{7}b"}), "name"),
            (json!({"email": "a@b.c", "password": PASSWORD, "name": long}), "name"),
            (json!({"email": "a@b.c"}), "password"),
            (json!({"email": 7, "password": PASSWORD}), "email"),
            (json!({"email": "a@b.c", "password": PASSWORD, "admin": true}), "admin"),
        ];
        for (body, field) in cases {
            let answer = server.post("/api/auth/register", body.clone()).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
            assert_eq!(answer.code(), "invalid_request");
            assert_eq!(answer.json()["error"]["details"]["field"], field, "{body}");
        }
        // Nothing half made: the place of the first is still free.
        assert_eq!(server.get("/api/auth/status").await.json()["first_account"], true);
    })
    .await;
}

async fn a_wrong_password_and_no_account_look_alike(backend: Backend) {
    with_server(backend, &[], async |server| {
        server.register("ann@example.com").await.token();
        let wrong = server.log_in("ann@example.com", "not the password").await;
        let nobody = server.log_in("bob@example.com", PASSWORD).await;
        let long = server.log_in("ann@example.com", &"x".repeat(100_000)).await;
        for answer in [&wrong, &nobody, &long] {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            assert_eq!(answer.code(), "bad_credentials");
            assert_eq!(answer.json()["error"]["message"], wrong.json()["error"]["message"]);
        }
    })
    .await;
}
