//! Joined machines as their owners, others and machines themselves may ask, without an engine.
//!
//! The machine here speaks the guest's protocol and is no guest: what a real one does is tested with `rexec join`.

use crate::replicas::another;
use crate::support::workspaces::eventually;
use crate::support::{Answer, Backend, PATIENCE, Server, in_place, on_both, with_server};
use reqwest::{Method, StatusCode};
use rexec_api::guest::{Configure, GuestError, Hello, MachineFacts, PROTOCOL};
use rexec_api::machines::{JoinMachine, JoinedMachine};
use rexec_channel::Call;
use rexec_client::{Client, Closed};
use serde_json::{Value, json};
use std::io;
use std::time::Instant;
use tokio::task::{JoinHandle, LocalSet};

on_both!(
    a_join_token_makes_one_machine,
    join_tokens_run_out_and_are_bounded,
    a_machine_comes_goes_and_is_replaced,
    a_machine_that_breaks_the_protocol_harms_nobody,
    a_machine_has_what_it_has,
);

async fn make(server: &Server, by: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {by}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    server.send(Method::POST, "/api/machines/tokens", &headers, Some(body.to_string().into_bytes())).await
}

async fn send(server: &Server, by: &str, method: Method, path: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {by}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    server.send(method, path, &headers, Some(body.to_string().into_bytes())).await
}

async fn join(server: &Server, by: &str) -> JoinedMachine {
    let token = make(server, by, json!({})).await.token();
    Client::new(&server.base).unwrap().join_machine(&JoinMachine { token, name: Some("box".into()) }).await.unwrap()
}

async fn view(server: &Server, by: &str, machine: &JoinedMachine) -> Value {
    server.by(by, Method::GET, &format!("/api/workspaces/{}", machine.workspace_id)).await.json()
}

async fn until_status(server: &Server, by: &str, machine: &JoinedMachine, status: &str) -> Value {
    let began = Instant::now();
    loop {
        let view = view(server, by, machine).await;
        if view["status"] == status {
            return view;
        }
        assert!(began.elapsed() < PATIENCE, "never {status}: {view}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A connection of the machine; it ends with why the server has closed it.
fn connect(server: &Server, machine: &JoinedMachine) -> JoinHandle<io::Error> {
    let client = Client::new(&server.base).unwrap().with_token(&machine.credential);
    let boot_id = uuid::Uuid::new_v4();
    tokio::task::spawn_local(async move {
        let tunnel = client.machine_tunnel().await.unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (from, to) = tokio::io::split(far);
        let serving = tokio::task::spawn_local(rexec_channel::serve(near, move |call| answer(call, boot_id)));
        let cut = tunnel.carry(from, to).await.unwrap_err();
        serving.abort();
        cut
    })
}

async fn answer(mut call: Call, boot_id: uuid::Uuid) {
    if call.path() == "/configure" {
        let configured = call.json::<Configure>().await.map(|_| Hello {
            protocol: PROTOCOL,
            version: "9.9".into(),
            boot_id,
            configured: true,
            machine: Some(MachineFacts {
                os: "Odd\u{1b}OS".into(),
                home: "/h".into(),
                cpus: 3,
                memory_mb: 99,
                ..Default::default()
            }),
        });
        return call.answer(configured).await;
    }
    if call.path() == "/hello" {
        let (version, machine) = ("9.9".into(), None);
        return call.answer(Ok(Hello { protocol: PROTOCOL, version, boot_id, configured: true, machine })).await;
    }
    let refused = GuestError { code: rexec_api::error::ErrorCode::NoSuchRoute, message: "no".into(), number: None };
    call.answer::<()>(Err(refused)).await;
}

async fn closed(connection: JoinHandle<io::Error>) -> u16 {
    let cut = tokio::time::timeout(PATIENCE, connection).await.expect("it stays open").unwrap();
    Closed::of(&cut).unwrap_or_else(|| panic!("{cut}")).code
}

async fn a_join_token_makes_one_machine(backend: Backend) {
    with_server(backend, &[], async |server| {
        let (ann, eve) =
            (server.register("ann@example.com").await.token(), server.register("eve@example.com").await.token());
        let made = make(server, &ann, json!({ "name": "from the token" })).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        let (token, view) = (made.token(), made.json());
        assert!(token.starts_with("rexecj_") && token.starts_with(view["hint"].as_str().unwrap()), "{view}");
        let list = server.by(&ann, Method::GET, "/api/machines/tokens").await;
        assert!(list.json()["items"][0]["id"] == view["id"] && !list.text.contains(&token), "{list:?}");
        assert_eq!(server.by(&eve, Method::GET, "/api/machines/tokens").await.json()["items"], json!([]));
        let path = format!("/api/machines/tokens/{}", view["id"].as_str().unwrap());
        assert_eq!(server.by(&eve, Method::DELETE, &path).await.code(), "not_found");

        // It is good for joining and for nothing else, and of two at once one joins.
        assert_eq!(server.by(&token, Method::GET, "/api/me").await.code(), "invalid_token");
        let body = json!({ "token": token, "name": "own word" });
        let (one, two) =
            tokio::join!(server.post("/api/machines/join", body.clone()), server.post("/api/machines/join", body));
        let (joined, refused) = if one.status == StatusCode::CREATED { (one, two) } else { (two, one) };
        assert_eq!(
            (joined.status, &joined.json()["name"]),
            (StatusCode::CREATED, &json!("from the token")),
            "{joined:?}"
        );
        assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "join_token_refused".into()));
        assert_eq!(server.by(&ann, Method::GET, "/api/machines/tokens").await.json()["items"], json!([]));
        assert_eq!(server.by(&ann, Method::DELETE, &path).await.code(), "not_found");
        let log = server.by(&ann, Method::GET, "/api/workspaces").await.json();
        assert_eq!(log["items"].as_array().unwrap().len(), 1);
        assert_eq!(server.by(&eve, Method::GET, "/api/workspaces").await.json()["items"], json!([]));

        // A credential is the machine's alone.
        let credential = joined.json()["credential"].as_str().unwrap().to_owned();
        assert_eq!(server.by(&credential, Method::GET, "/api/workspaces").await.code(), "invalid_token");
        for (by, code) in [(ann.as_str(), "invalid_token"), ("rexecm_0", "invalid_token")] {
            assert_eq!(server.by(by, Method::POST, "/api/machines/leave").await.code(), code);
        }
        assert_eq!(server.send(Method::POST, "/api/machines/leave", &[], None).await.code(), "unauthenticated");
        assert_eq!(server.by(&credential, Method::POST, "/api/machines/leave").await.status, StatusCode::NO_CONTENT);
        assert_eq!(server.by(&credential, Method::POST, "/api/machines/leave").await.code(), "machine_gone");
        assert_eq!(server.by(&ann, Method::GET, "/api/workspaces").await.json()["items"], json!([]));
    })
    .await;
}

async fn join_tokens_run_out_and_are_bounded(backend: Backend) {
    with_server(backend, &[], async |server| {
        let ann = server.register("ann@example.com").await.token();
        for body in
            [json!({ "expires_in_minutes": 0 }), json!({ "expires_in_minutes": 10081 }), json!({ "name": " x" })]
        {
            assert_eq!(make(server, &ann, body).await.code(), "invalid_request");
        }
        let token = make(server, &ann, json!({ "expires_in_minutes": 1 })).await.token();
        let text = "UPDATE join_tokens SET expires_ms = 1700000000000";
        let conn = server.running.app.db.write();
        sea_orm::ConnectionTrait::execute_unprepared(conn, text).await.unwrap();
        assert_eq!(server.by(&ann, Method::GET, "/api/machines/tokens").await.json()["items"], json!([]));
        assert_eq!(server.post("/api/machines/join", json!({ "token": token })).await.code(), "join_token_refused");
        for _ in 0..rexec_api::machines::JOIN_TOKENS_MAX {
            assert_eq!(make(server, &ann, json!({})).await.status, StatusCode::CREATED);
        }
        let refused = make(server, &ann, json!({})).await;
        assert_eq!((refused.code(), &refused.json()["error"]["details"]["max"]), ("quota_exceeded".into(), &json!(20)));
    })
    .await;
}

async fn a_machine_comes_goes_and_is_replaced(backend: Backend) {
    in_place(backend, async |place| {
        LocalSet::new()
            .run_until(async {
                let server = place.start(&[]).await;
                let ann = server.register("ann@example.com").await.token();
                let machine = join(&server, &ann).await;
                assert_eq!(view(&server, &ann, &machine).await["status"], "unreachable");
                let first = connect(&server, &machine);
                let seen = until_status(&server, &ann, &machine, "running").await;
                let told = &seen["machine"];
                assert_eq!(
                    (&told["os"], &told["home"], &told["version"]),
                    (&json!("OddOS"), &json!("/h"), &json!("9.9"))
                );
                assert_eq!((&seen["cpu"], &seen["memory_mb"], &seen["image"]), (&json!(3.0), &json!(99), &json!("")));

                // One that comes anew takes the place of the one before.
                let second = connect(&server, &machine);
                assert_eq!(closed(first).await, 4409);
                // One that goes is missed, and known again after a restart of the server.
                second.abort();
                until_status(&server, &ann, &machine, "unreachable").await;
                let third = connect(&server, &machine);
                until_status(&server, &ann, &machine, "running").await;
                assert!(server.stop().await, "the server left work behind");
                assert_eq!(closed(third).await, 1012);
                let server = place.start(&[]).await;
                let known = view(&server, &ann, &machine).await["started_at"].clone();
                let fourth = connect(&server, &machine);
                // It counts as running from before.
                eventually("it to be met", async || {
                    (view(&server, &ann, &machine).await["started_at"] != known).then_some(())
                })
                .await;

                // Deleted, it is told so, and its credential is worth nothing.
                let path = format!("/api/workspaces/{}", machine.workspace_id);
                assert_eq!(server.by(&ann, Method::DELETE, &path).await.status, StatusCode::NO_CONTENT);
                assert_eq!(closed(fourth).await, 4410);
                let gone = Client::new(&server.base).unwrap().with_token(&machine.credential).machine_tunnel().await;
                assert_eq!(gone.err().unwrap().code(), Some(rexec_api::error::ErrorCode::MachineGone));
                assert!(server.stop().await, "the server left work behind");
            })
            .await;
    })
    .await;
}

async fn a_machine_that_breaks_the_protocol_harms_nobody(backend: Backend) {
    in_place(backend, async |place| {
        LocalSet::new()
            .run_until(async {
                let server = place.start(&[]).await;
                let ann = server.register("ann@example.com").await.token();
                let machine = join(&server, &ann).await;
                let good = connect(&server, &machine);
                until_status(&server, &ann, &machine, "running").await;
                // What is no HTTP/2 takes nobody's place.
                let client = Client::new(&server.base).unwrap().with_token(&machine.credential);
                let tunnel = client.machine_tunnel().await.unwrap();
                let noise = [0xffu8; 4096];
                let cut = tokio::time::timeout(PATIENCE, tunnel.carry(&noise[..], tokio::io::sink())).await.unwrap();
                drop(cut);
                assert_eq!(view(&server, &ann, &machine).await["status"], "running");
                assert!(!good.is_finished());
                good.abort();
                assert!(server.stop().await, "the server left work behind");
            })
            .await;
    })
    .await;
}

async fn a_machine_has_what_it_has(backend: Backend) {
    with_server(backend, &[("REXEC_MAX_WORKSPACES", "1")], async |server| {
        let (ann, eve) =
            (server.register("ann@example.com").await.token(), server.register("eve@example.com").await.token());
        // The limit is of what the server itself runs.
        let (machine, _) = (join(server, &ann).await, join(server, &ann).await);
        let path = format!("/api/workspaces/{}", machine.workspace_id);
        for (method, rest, body) in [
            (Method::POST, "/start", json!({})),
            (Method::POST, "/stop", json!({})),
            (Method::POST, "/restart", json!({})),
            (Method::POST, "/pause", json!({})),
            (Method::POST, "/resume", json!({})),
            (Method::POST, "/snapshots", json!({})),
            (Method::POST, "/setup/retry", json!({})),
            (Method::GET, "/stats", json!({})),
            (Method::GET, "/stats/history", json!({})),
            (Method::PATCH, "", json!({ "memory_mb": 64 })),
            (Method::PATCH, "", json!({ "idle": { "stop_after_s": 60 } })),
        ] {
            let refused = send(server, &ann, method.clone(), &format!("{path}{rest}"), body.clone()).await;
            assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "not_for_machines".into()), "{rest}");
            let unseen = send(server, &eve, method, &format!("{path}{rest}"), body).await;
            assert_eq!((unseen.status, unseen.code()), (StatusCode::NOT_FOUND, "not_found".into()), "{rest}");
        }
        let away = send(server, &ann, Method::POST, &format!("{path}/exec"), json!({ "command": ["true"] })).await;
        assert_eq!(away.code(), "workspace_unreachable");
        let renamed = send(server, &ann, Method::PATCH, &path, json!({ "name": "mine" })).await;
        assert_eq!(renamed.json()["name"], "mine");
        let idle = &renamed.json()["idle"]["in_force"];
        assert!(idle.as_object().unwrap().values().all(|after| *after == json!(0)), "{idle}");
    })
    .await;
}

#[tokio::test]
async fn a_machine_is_used_at_any_server_and_belongs_to_the_one_that_it_connects_to() {
    in_place(Backend::Postgres, async |place| {
        let (one, two) = (another(place, "one", &[]).await, another(place, "two", &[]).await);
        LocalSet::new()
            .run_until(async {
                let ann = one.register("ann@example.com").await.token();
                let machine = join(&one, &ann).await;
                let at_one = connect(&one, &machine);
                until_status(&two, &ann, &machine, "running").await;
                // The same answer of the same guest, by whatever way.
                let path = format!("/api/workspaces/{}/ports", machine.workspace_id);
                let direct = one.by(&ann, Method::GET, &path).await.code();
                assert_eq!(two.by(&ann, Method::GET, &path).await.code(), direct);
                assert!(!direct.contains("unreachable") && direct != "not_here", "{direct}");

                let at_two = connect(&two, &machine);
                assert_eq!(closed(at_one).await, rexec_api::frames::close::REPLACED);
                let began = Instant::now();
                while one.by(&ann, Method::GET, &path).await.code() != direct {
                    assert!(began.elapsed() < PATIENCE, "it is not reached through the other");
                }
                assert_eq!(view(&one, &ann, &machine).await["status"], "running");
                assert_eq!(two.by(&ann, Method::GET, &path).await.code(), direct);

                let bearer = format!("/api/workspaces/{}", machine.workspace_id);
                assert!(one.by(&ann, Method::DELETE, &bearer).await.status.is_success());
                closed(at_two).await;
            })
            .await;
        assert!(one.stop().await);
        assert!(two.stop().await);
    })
    .await;
}
