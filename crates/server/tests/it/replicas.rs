//! Several servers on one database: what is asked of one for what another tends, and what becomes of it when that one ends.

use crate::events::Heard;
use crate::support::dockerd::Dockerd;
use crate::support::workspaces::{Follower, PATIENCE, Stage, engine_address, eventually, on_stage, sweep};
use crate::support::{Backend, PASSWORD, Place, Server, in_place};
use futures_util::FutureExt as _;
use rexec_api::error::ErrorCode;
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_api::servers::{NewServer, PatchServer, ServerHealth, ServerView, SshAccess};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::{AttachOptions, Client, ClientError, Lifecycle, Method};
use rexec_engine::contract::remote::Sshd;
use rexec_engine::docker::DockerEngine;
use rexec_server::config::{Config, Sources};
use rexec_server::db::{self, Db, sql};
use rexec_server::hosts::store::{self as hosts, Found};
use rexec_server::replicas::{ReplicaId, Replicas};
use sea_orm::ConnectionTrait as _;
use serde_json::Value;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::{Duration, Instant};

/// Where a server listens that others reach.
pub fn port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Another server on the place's database.
pub async fn another(place: &Place, name: &str, more: &[(&str, &str)]) -> Server {
    let (dir, port) = (place.dir.path().join(name), port());
    let url = format!("http://127.0.0.1:{port}");
    let own = [("REXEC_DATA_DIR", dir.to_str().unwrap()), ("PORT", &port), ("REXEC_ADVERTISE_URL", &url)];
    place.start(&[more, &own].concat()).await
}

pub fn client(server: &Server, like: &Client) -> Client {
    Client::new(&server.base).unwrap().with_token(like.token().unwrap())
}

async fn until(client: &Client, id: WorkspaceId, status: WorkspaceStatus) {
    eventually(status.as_str(), async || (client.workspace(id).await.ok()?.status == status).then_some(())).await;
}

pub async fn run(client: &Client, id: WorkspaceId, script: &str) -> String {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let request = rexec_api::exec::ExecRequest { command, ..Default::default() };
    client.exec(id, &request).await.unwrap().stdout
}

/// Ends all that a server does, and tells nobody: as if its process had been killed.
async fn kill(server: Server) {
    server.running.app.tasks.shutdown(Duration::from_secs(10)).await;
    server.running.app.db.close().await;
}

#[tokio::test]
async fn what_one_tends_is_used_at_another_which_takes_it_over() {
    let sshd = Sshd::start("");
    let (address, key, first) = (sshd.address(), sshd.key().replace('\n', "\\n"), port());
    let url = format!("http://127.0.0.1:{first}");
    let engine = [("DOCKER_HOST", address.as_str()), ("SSH_PRIVATE_KEY", key.as_str())];
    let variables = [&engine[..], &[("PORT", &first), ("REXEC_ADVERTISE_URL", &url)]].concat();
    on_stage(Backend::Postgres, &variables, async |place, stage| {
        let other = another(place, "other", &engine).await;
        assert_eq!(stage.client.servers().await.unwrap().items.len(), 1, "it is one engine for both");
        let there = client(&other, &stage.client);
        let ready: Value = reqwest::get(format!("{}/ready", other.base)).await.unwrap().json().await.unwrap();
        assert_eq!((&ready["replica"]["replicas"], &ready["replica"]["advertised"]), (&2.into(), &true.into()));

        // Made through the one that does not tend the engine, and by the one that does.
        let mut news = Heard::open(&there, None).await;
        let made = eventually("the other knows the engine", async || {
            let new = NewWorkspace { memory_mb: Some(256), wait_ms: Some(60_000), ..Default::default() };
            match there.create_workspace(&new).await {
                Ok(made) => Some(made),
                Err(error) if error.code() == Some(ErrorCode::EngineUnavailable) => None,
                Err(error) => panic!("{error:?}"),
            }
        })
        .await;
        assert_eq!(made.status, WorkspaceStatus::Running, "{made:?}");
        let id = made.id;
        assert!(stage.server.running.app.replicas.held() > 0 && other.running.app.replicas.held() == 0);
        news.until("workspace.created", |view| view.workspace_id == id).await;

        let terminal = stage.terminal(id, &["/bin/sh"]).await;
        let mut typist = Follower::new(there.attach(id, terminal, AttachOptions::default()).await.unwrap(), None);
        typist.attachment.input(b"echo typed-$((40+2))\n").await.unwrap();
        typist.until("typed-42").await;
        let content: Vec<u8> = (0..3 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        there.write_file(id, "/home/user/bulk", content.clone()).await.unwrap();
        assert!(there.read_file(id, "/home/user/bulk").await.unwrap() == content, "it comes back as it went");
        assert!(stage.client.read_file(id, "/home/user/bulk").await.unwrap() == content);

        there.lifecycle(id, Lifecycle::Restart).await.unwrap();
        until(&stage.client, id, WorkspaceStatus::Running).await;
        assert_eq!(run(&there, id, "wc -c < ~/bulk").await.trim(), content.len().to_string());
        news.until("workspace.status", |view| view.data["status"] == "running").await;

        // The one that tends it is gone without a word: the other drives it, and nothing of the terminal is lost.
        let terminal = stage.terminal(id, &["/bin/sh"]).await;
        let mut typist = Follower::new(there.attach(id, terminal, AttachOptions::default()).await.unwrap(), None);
        typist
            .attachment
            .input(b"for n in $(seq 1 400); do echo line-$n; sleep 0.1; done; echo o''ver\n")
            .await
            .unwrap();
        typist.until("line-3\r").await;
        let Stage { server, client: before, engine: docker, instance } = stage;
        let killed = Instant::now();
        kill(server).await;
        while !typist.has("over\r") {
            if typist.closed.is_some() {
                let options = AttachOptions { offset: typist.end, ..AttachOptions::default() };
                let again =
                    eventually("the terminal is there again", async || there.attach(id, terminal, options).await.ok())
                        .await;
                typist = Follower { attachment: again, closed: None, ..typist };
            }
            typist.step().await;
        }
        let text = typist.text();
        for n in 1..=400 {
            assert_eq!(text.matches(&format!("line-{n}\r")).count(), 1, "line {n}");
        }
        eventually("it is driven there", async || (other.running.app.replicas.held() > 0).then_some(())).await;
        assert!(killed.elapsed() < PATIENCE, "{:?}", killed.elapsed());
        there.lifecycle(id, Lifecycle::Stop).await.unwrap();
        until(&there, id, WorkspaceStatus::Stopped).await;
        there.purge_workspace(id).await.unwrap();
        let _ = before;
        Stage { server: other, client: there, engine: docker, instance }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_added_at_one_is_known_at_all_and_handed_over() {
    let sshd = Sshd::start("");
    in_place(Backend::Postgres, async |place| {
        let (one, two) = (another(place, "one", &[]).await, another(place, "two", &[]).await);
        let (admin, _) = Client::new(&one.base).unwrap().register("ada@example.com", PASSWORD).await.unwrap();
        let there = client(&two, &admin);
        let names = admin.servers().await.unwrap().items.into_iter().map(|server| server.name).collect::<Vec<_>>();
        assert_eq!(
            (names.len(), names[0].as_str()),
            (2, "local"),
            "each has a row for an engine of its own: {names:?}"
        );
        let engine = DockerEngine::connect(&engine_address()).unwrap();
        let instance = one.running.app.fleet.local().instance.clone();
        let outcome = AssertUnwindSafe(async {
            let ssh = SshAccess {
                user: "root".into(),
                port: Some(sshd.port()),
                private_key: sshd.key(),
                host_key: Some(sshd.host_key("ed25519").fingerprint()),
                socket: None,
            };
            let new = NewServer {
                name: "far".into(),
                hostname: Some("127.0.0.1".into()),
                ssh: Some(ssh),
                ..NewServer::default()
            };
            let added = admin.add_server(&new).await.unwrap();
            let health = async |client: &Client| {
                let servers = client.servers().await.unwrap().items;
                servers.into_iter().find(|server| server.id == added.id).map(|server| server.health)
            };
            eventually("the other has heard of it", async || {
                (health(&there).await == Some(ServerHealth::Ready)).then_some(())
            })
            .await;
            assert_eq!(two.running.app.replicas.held(), 1, "only its own engine");

            assert!(there.pull_image(added.id, "rexec/base:latest").await.unwrap().asked, "it is asked of the one");

            let left = one.running.app.replicas.id().unwrap().to_string();
            assert!(one.stop().await);
            let db = &two.running.app.db;
            let text = "SELECT name FROM leases WHERE holder = $1";
            let held = db.read().query_all_raw(sql(db.read(), text, [left.into()])).await.unwrap();
            assert!(held.is_empty(), "what a server that stops has is given up, not left to run out");
            eventually("it is taken over", async || (two.running.app.replicas.held() >= 2).then_some(())).await;
            eventually("it is ready there", async || (health(&there).await == Some(ServerHealth::Ready)).then_some(()))
                .await;
            // It is new again once it was deleted, whatever its engine is marked as.
            there.remove_server(added.id).await.unwrap();
            let again = there.add_server(&new).await.unwrap();
            there.remove_server(again.id).await.unwrap();
            assert!(two.stop().await);
        });
        let outcome = outcome.catch_unwind().await;
        sweep(&engine, &instance).await;
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    })
    .await;
}

#[tokio::test]
async fn an_engine_has_one_name_and_is_known_again_without_the_data_directory() {
    let daemons = [Dockerd::start().await, Dockerd::start().await];
    let first = port();
    let url = format!("http://127.0.0.1:{first}");
    let variables = [("PORT", first.as_str()), ("REXEC_ADVERTISE_URL", &url)];
    let sockets = daemons.each_ref().map(Dockerd::socket);
    let outcome = AssertUnwindSafe(on_stage(Backend::Postgres, &variables, async |place, stage| {
        names(place, stage, &sockets).await
    }));
    let outcome = outcome.catch_unwind().await;
    for daemon in daemons {
        daemon.remove().await;
    }
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}

async fn names(place: &Place, stage: Stage, sockets: &[String; 2]) -> Stage {
    let usual = engine_address();
    let here = [("DOCKER_HOST", usual.as_str())];
    let (sshd, id) = (Sshd::start(""), stage.workspace().await.id);
    run(&stage.client, id, "echo mine > ~/kept").await;
    let by_socket = |name: &str, n: usize| NewServer {
        name: name.into(),
        socket: Some(sockets[n].clone()),
        ..NewServer::default()
    };
    let at = |n: usize| PatchServer { socket: Some(sockets[n].clone()), ..PatchServer::default() };
    let near = stage.client.add_server(&by_socket("near", 0)).await.unwrap().id;

    // Through SSH, or with another data directory, it is the same engine.
    let (address, key) = (sshd.address(), sshd.key().replace('\n', "\\n"));
    let far = another(place, "far", &[("DOCKER_HOST", &address), ("SSH_PRIVATE_KEY", &key)]).await;
    let twin = another(place, "twin", &here).await;
    for other in [&far, &twin] {
        eventually("it says whose the engine is", async || {
            let local = other.running.app.fleet.local();
            local.ready().err().filter(|why| why.contains("is the server `local` already"))
        })
        .await;
    }
    let there = client(&far, &stage.client);
    assert_eq!(refused(there.add_server(&by_socket("other", 0)).await), ErrorCode::ServerExists);
    assert_eq!(
        refused(there.change_server(near, &at(1)).await),
        ErrorCode::NotHere,
        "it is the other's while that runs"
    );
    assert_eq!(run(&there, id, "cat ~/kept").await, "mine\n");

    // The server ends, and its data directory is lost: what it had is there again, under the name that it had.
    assert!(twin.stop().await);
    let before = stage.server.running.app.fleet.local().id;
    assert!(stage.server.stop().await);
    let again = another(place, "again", &here).await;
    let client = client(&again, &stage.client);
    let local = until_ready(&client, "local").await;
    assert!(local.is_local && local.id == before, "{local:?}");
    until(&client, id, WorkspaceStatus::Running).await;
    assert_eq!(run(&client, id, "cat ~/kept").await, "mine\n");

    // One that was added by a socket is named anew where it is, and what has become free can be another.
    assert_eq!(client.change_server(near, &at(0)).await.unwrap().health, ServerHealth::Ready);
    assert_eq!(client.change_server(near, &at(1)).await.unwrap().health, ServerHealth::Ready);
    assert_eq!(refused(client.add_server(&by_socket("second", 1)).await), ErrorCode::ServerExists);
    let second = client.add_server(&by_socket("second", 0)).await.unwrap();
    assert_eq!(second.health, ServerHealth::Ready);
    client.purge_workspace(id).await.unwrap();
    assert!(far.stop().await);
    Stage { server: again, client, ..stage }
}

fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ErrorCode {
    result.unwrap_err().code().unwrap()
}

/// The server of this name once it is ready, as one of Rexec's servers sees it.
async fn until_ready(client: &Client, name: &str) -> ServerView {
    let found = async || {
        let servers = client.servers().await.ok()?.items;
        servers.into_iter().find(|server| server.name == name && server.health == ServerHealth::Ready)
    };
    eventually("the server to be ready", found).await
}

#[tokio::test]
async fn a_row_is_taken_over_from_whoever_is_there_no_more() {
    in_place(Backend::Postgres, async |place| {
        let server = place.start(&[]).await;
        let db = &server.running.app.db;
        let [a, b, c] = [(); 3].map(|()| ReplicaId::new());
        let there = async |id: ReplicaId, until: i64| {
            let text = "INSERT INTO replicas (id, run, version, started_ms, until_ms) VALUES ($1, 'x', 'x', 0, $2) \
                        ON CONFLICT (id) DO UPDATE SET until_ms = $2";
            db::execute(db.write(), text, [id.to_string().into(), until.into()]).await.unwrap();
        };
        let find = async |id: ReplicaId, is_here: bool, marked: Option<HostId>| {
            let tx = db.begin().await.unwrap();
            let address = if is_here { format!("unix:///{}", id.short()) } else { "ssh://root@host".to_owned() };
            let found = hosts::ensure_local_of(&tx, id, is_here, marked, &address, 0).await.unwrap();
            tx.commit().await.unwrap();
            match found {
                Found::Mine(name, kept) => Some((name, kept.id)),
                Found::AnothersYet => None,
            }
        };
        for id in [a, b, c] {
            there(id, i64::MAX).await;
        }
        let own = |id: ReplicaId| format!("local-{}", id.short());
        let (name, of_a) = find(a, true, None).await.unwrap();
        assert_eq!(name, "local");
        let (name, of_b) = find(b, true, None).await.unwrap();
        assert_eq!(name, own(b));
        // By the mark, as soon as whoever had it has ended.
        assert!(find(c, true, Some(of_b)).await.is_none(), "it is there");
        there(b, 0).await;
        assert_eq!(find(c, true, Some(of_b)).await.unwrap(), (own(c), of_b));
        there(b, i64::MAX).await;
        let (name, anew) = find(b, true, None).await.unwrap();
        assert_eq!(name, own(b));
        assert_ne!(anew, of_b, "who comes back has a row of its own, and not what is another's now");
        assert_eq!(find(c, true, None).await.unwrap(), (own(c), of_b));
        // The same engine by another way, of which it is the only one.
        assert_eq!(find(c, false, Some(of_b)).await.unwrap(), (own(c), of_b));
        assert_eq!(find(a, true, Some(of_b)).await.unwrap(), (own(c), of_b), "it is everyone's that reaches it");

        // Whoever has something on its row keeps that.
        let text = "UPDATE hosts SET replica = $1 WHERE id = $2";
        db::execute(db.write(), text, [a.to_string().into(), of_a.to_string().into()]).await.unwrap();
        there(a, 0).await;
        let text = "INSERT INTO volumes (id, workspace_id, host_id, name, state, owner_id, workspace_name, created_ms) \
                    VALUES ('v', 'w', $1, 'v', 'kept', 'o', 'w', 0)";
        db::execute(db.write(), text, [anew.to_string().into()]).await.unwrap();
        assert_eq!(find(b, true, Some(of_a)).await.unwrap(), (own(b), anew));
        db::execute(db.write(), "DELETE FROM volumes", []).await.unwrap();
        assert_eq!(find(b, true, Some(of_a)).await.unwrap(), ("local".into(), of_a));
        assert!(server.stop().await);
    })
    .await;
}

#[tokio::test]
async fn nobody_but_a_server_asks_what_servers_ask() {
    in_place(Backend::Postgres, async |place| {
        let server = another(place, "one", &[]).await;
        let token = server.register("ada@example.com").await.token();
        let id = WorkspaceId::new();
        let host = server.running.app.fleet.local().id;
        let workspace = |what: &str| format!("/internal/workspaces/{id}/{what}");
        let engine = format!("/internal/hosts/{host}/engine");
        for (method, path) in
            [(Method::POST, workspace("follow")), (Method::GET, workspace("guest")), (Method::GET, engine)]
        {
            let answer = server.by(&token, method.clone(), &path).await;
            assert_eq!(answer.status, 404, "{answer:?}");
            let from = uuid::Uuid::new_v4().to_string();
            let now = jiff_now().to_string();
            let forged = [
                ("x-rexec-replica", from.as_str()),
                ("x-rexec-time", &now),
                ("x-rexec-nonce", &from),
                ("x-rexec-signature", "00"),
            ];
            assert_eq!(server.send(method, &path, &forged, None).await.status, 404);
        }
        assert!(server.stop().await);
    })
    .await;
}

fn jiff_now() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
}

#[tokio::test]
async fn a_write_under_a_lease_that_another_has_changes_nothing() {
    in_place(Backend::Postgres, async |place| {
        let config = |name: &str| {
            let dir = place.dir.path().join(name);
            std::fs::create_dir_all(&dir).unwrap();
            let env = [("REXEC_DATA_DIR", dir.to_str().unwrap()), ("REXEC_ADVERTISE_URL", "http://127.0.0.1:1")];
            let env = env.map(|(name, value)| (name, value.to_owned()));
            Config::from_sources(&Sources::from_env(env)).unwrap()
        };
        let db = Db::open(&place.database()).await.unwrap();
        let one = Replicas::join(&db, &config("one"), &[1; 32]).await.unwrap();
        let two = Replicas::join(&db, &config("two"), &[1; 32]).await.unwrap();
        let held = one.acquire_open("work").await.unwrap();
        assert!(two.acquire_open("work").await.is_none(), "one has it");
        let write = "UPDATE settings SET value = $1 WHERE key = $2";
        db::execute(db.write(), "INSERT INTO settings (key, value) VALUES ('k', 'first')", []).await.unwrap();
        assert_eq!(held.execute(&db, write, vec!["second".into(), "k".into()]).await.unwrap(), 1);
        held.begin(&db).await.unwrap().commit().await.unwrap();

        let taken = two.take_over("work").await.unwrap();
        assert!(held.execute(&db, write, vec!["stale".into(), "k".into()]).await.is_err());
        assert!(held.begin(&db).await.is_err());
        assert!(held.run_while(std::future::pending::<()>()).await.is_none(), "whoever has met the fence stops");
        assert_eq!(taken.execute(&db, write, vec!["third".into(), "k".into()]).await.unwrap(), 1);
        assert!(one.acquire_open("work").await.is_none(), "two has it");

        // What is given up is anyone's, and the same server that begins anew has its own again, with another epoch.
        let again = Replicas::join(&db, &config("two"), &[1; 32]).await.unwrap();
        assert_eq!(again.id(), two.id());
        let fresh = again.acquire_open("work").await.unwrap();
        assert!(taken.begin(&db).await.is_err());
        fresh.begin(&db).await.unwrap().rollback().await.unwrap();
        again.leave().await;
        assert!(one.acquire_open("work").await.is_some());
        db.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_nobody_reaches_says_so() {
    in_place(Backend::Postgres, async |place| {
        // Where it says that it is reached, it is not.
        let one = place.start(&[("REXEC_ADVERTISE_URL", "http://127.0.0.1:1")]).await;
        let two = another(place, "two", &[]).await;
        let (admin, _) = Client::new(&one.base).unwrap().register("ada@example.com", PASSWORD).await.unwrap();
        let there = client(&two, &admin);
        let db = &one.running.app.db;
        let (id, host) = (WorkspaceId::new(), one.running.app.fleet.local().id);
        let owner = admin.me().await.unwrap().id;
        let text = "INSERT INTO workspaces (id, owner_id, host_id, name, image, runtime, cpu_milli, memory_mb, env_json, \
            desired, status, generation, boot_seq, booted_seq, volume, guest_key, created_ms, updated_ms) \
            VALUES ($1, $2, $3, 'test', 'test/image:1', '', 1000, 64, '{}', 'running', 'running', 1, 1, 1, 'test', '', 0, 0)";
        let values = [id.to_string().into(), owner.to_string().into(), host.to_string().into()];
        db::execute(db.write(), text, values).await.unwrap();
        eventually("it says what is missing", async || match there.ports(id).await {
            Err(ClientError::Refused(error)) if error.code == ErrorCode::NotHere => {
                error.message.contains("http://127.0.0.1:1: it does not take connections").then_some(())
            }
            _ => None,
        })
        .await;
        assert!(two.stop().await);

        // Whoever does not say how it is reached is alone, or does not start.
        let lone = place.dir.path().join("lone");
        std::fs::create_dir_all(&lone).unwrap();
        let env = [("REXEC_DATA_DIR", lone.to_str().unwrap().to_owned())];
        let config = Config::from_sources(&Sources::from_env(env)).unwrap();
        let Err(error) = Replicas::join(db, &config, &[1; 32]).await else { panic!("it is alone") };
        assert!(error.to_string().starts_with("1 other servers run on this database"), "{error}");
        let forgotten = "DELETE FROM replicas";
        db::execute(db.write(), forgotten, []).await.unwrap();
        eventually("a server whose row was lost to be there again", async || {
            Replicas::join(db, &config, &[1; 32]).await.is_err().then_some(())
        })
        .await;
        assert!(one.running.app.replicas.is_firm());
        assert!(one.stop().await);
    })
    .await;
}
