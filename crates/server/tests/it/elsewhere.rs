//! Two servers on one database, of which one alone reaches the engine: all ways into a workspace lead through the other as
//! well, and a database that does not answer for longer than a server's term ends no terminal.

use crate::replicas::{another, client, port};
use crate::support::ssh::{Desk, finish, post};
use crate::support::workspaces::{Follower, PATIENCE, Stage, engine_address, eventually, on_stage, sweep};
use crate::support::{Backend, PASSWORD, in_place};
use futures_util::FutureExt as _;
use reqwest::Method;
use rexec_api::setups::{SetupState, SetupView};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::{AttachOptions, Client, Lifecycle};
use rexec_engine::docker::DockerEngine;
use rexec_server::config::{DatabaseUrl, SshListen};
use serde_json::json;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Longer than a server's term.
const OUTAGE: Duration = Duration::from_secs(13);

/// What a server is told that others reach.
fn advertised() -> [(&'static str, String); 2] {
    let port = port();
    [("PORT", port.clone()), ("REXEC_ADVERTISE_URL", format!("http://127.0.0.1:{port}"))]
}

fn pairs<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[tokio::test]
async fn every_way_into_a_workspace_leads_through_another_server() {
    let templates = tempfile::tempdir().unwrap();
    let text = "name = 'Test'\ndescription = 'Of a test.'\nicon = 'x'\nimage = 'rexec/base:latest'\nsize_mb = 1\n\
                [[setup]]\nname = 'First'\nrun = 'echo once >> ~/first'\n";
    std::fs::write(templates.path().join("own.toml"), text).unwrap();
    let overlay = ("REXEC_TEMPLATES_DIR", templates.path().display().to_string());
    let [first, second] = advertised();
    on_stage(Backend::Postgres, &pairs(&[first, second, overlay.clone()]), async |place, stage| {
        let [first, second] = advertised();
        let dir = ("REXEC_DATA_DIR", place.dir.path().join("other").display().to_string());
        let mut config = place.config(&pairs(&[first, second, dir, overlay]));
        config.ssh.listen = SshListen::At(0);
        let other = place.start_as(config).await;
        let there = client(&other, &stage.client);
        let (engine, instance) = (stage.engine.clone(), stage.instance.clone());
        let far = Stage { server: other, client: there, engine, instance };
        ways(&far).await;
        assert!(far.server.stop().await, "the other left work behind when it stopped");
        stage
    })
    .await;
}

async fn ways(far: &Stage) {
    let new = NewWorkspace {
        template: Some("own".into()),
        memory_mb: Some(256),
        wait_ms: Some(PATIENCE.as_millis() as u64),
        ..Default::default()
    };
    let made = eventually("it is made through the other", async || far.client.create_workspace(&new).await.ok()).await;
    let id = made.id;
    assert_eq!(made.status, WorkspaceStatus::Running, "{made:?}");

    // Its set-up, which the server that has the engine does.
    let token = far.client.token().unwrap();
    let set_up = async || {
        let answer = far.server.by(token, Method::GET, &format!("/api/workspaces/{id}/setup")).await;
        serde_json::from_str::<SetupView>(&answer.text).is_ok_and(|view| view.state == SetupState::Done).then_some(())
    };
    eventually("its set-up is done", set_up).await;
    assert_eq!(far.run(id, "cat ~/first").await.stdout, "once\n");

    // SSH: a command, and files.
    let desk = Desk::new(far).await;
    let key = desk.key("id").await;
    assert_eq!(post(far, token, "/api/ssh/keys", json!({ "public_key": key })).await.status, 201);
    let login = id.to_string();
    assert_eq!(desk.run(&login, "echo over-$((40+2)); cat ~/first").await.ok().text(), "over-42\nonce\n");
    let mut cat = desk.ssh();
    cat.args(["-l", &login, "127.0.0.1", "cat > ~/sent && sha256sum < ~/sent"]);
    let sent = vec![7; 3 << 20];
    finish(&mut cat, &sent).await.ok();
    assert!(far.client.read_file(id, "/home/user/sent").await.unwrap() == sent);

    // A preview, and the list of ports.
    far.serve(id, 8000).await;
    let visitor = far.guest(id, 8000).await;
    let seen = visitor.get("/deep?a=1", &[]).await;
    assert_eq!((seen.status.as_u16(), &seen.json()["line"]), (200, &json!("GET /deep?a=1 HTTP/1.1")));

    far.client.purge_workspace(id).await.unwrap();
}

/// Stands before PostgreSQL; while it is cut nothing passes, and what was open ends.
struct Gate {
    port: u16,
    is_cut: watch::Sender<bool>,
}

impl Gate {
    async fn before(database: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, is_cut) = (listener.local_addr().unwrap().port(), watch::Sender::new(false));
        let (behind, cut) = (address(database), is_cut.subscribe());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (behind, mut cut) = (behind.clone(), cut.clone());
                tokio::spawn(async move {
                    if *cut.borrow_and_update() {
                        return;
                    }
                    let mut far = TcpStream::connect(&behind).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.wait_for(|is_cut| *is_cut) => {}
                    }
                });
            }
        });
        Self { port, is_cut }
    }
}

/// The `host:port` of a database's address.
fn address(database: &str) -> String {
    let rest = database.split_once("://").unwrap().1;
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    rest.split_once('/').unwrap().0.to_owned()
}

#[tokio::test]
async fn terminals_outlive_a_database_that_is_away_for_longer_than_a_term() {
    in_place(Backend::Postgres, async |place| {
        let DatabaseUrl::Postgres(url) = place.database() else { unreachable!() };
        let (url, engine) = (url.expose(), engine_address());
        let gate = Gate::before(url).await;
        let gated = url.replace(&address(url), &format!("127.0.0.1:{}", gate.port));
        let server = another(place, "one", &[("DOCKER_HOST", &engine), ("DATABASE_URL", &gated)]).await;
        let (client, _) = Client::new(&server.base).unwrap().register("ada@example.com", PASSWORD).await.unwrap();
        let instance = server.running.app.fleet.local().instance.clone();
        let stage = Stage { server, client, engine: DockerEngine::connect(&engine).unwrap(), instance };
        let (engine, instance) = (stage.engine.clone(), stage.instance.clone());
        let outcome = AssertUnwindSafe(outage(stage, &gate)).catch_unwind().await;
        sweep(&engine, &instance).await;
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    })
    .await;
}

async fn outage(stage: Stage, gate: &Gate) {
    let id = eventually("a workspace", async || {
        let new = NewWorkspace { memory_mb: Some(256), wait_ms: Some(60_000), ..Default::default() };
        stage.client.create_workspace(&new).await.ok()
    })
    .await
    .id;
    let terminal = stage.terminal(id, &["/bin/sh"]).await;
    let attachment = stage.client.attach(id, terminal, AttachOptions::default()).await.unwrap();
    let mut typist = Follower::new(attachment, None);
    gate.is_cut.send_replace(true);
    let cut = Instant::now();
    let mut typed = 0;
    while cut.elapsed() < OUTAGE {
        typed += 1;
        typist.attachment.input(format!("echo typed-$(({typed}+1000))\n").as_bytes()).await.unwrap();
        typist.until(&format!("typed-{}\r", typed + 1000)).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let replicas = &stage.server.running.app.replicas;
    assert!(!replicas.is_firm(), "it knows that it cannot be certain of what it holds");
    let ready = reqwest::get(format!("{}/ready", stage.server.base)).await.unwrap();
    assert_eq!(ready.status(), 503);

    gate.is_cut.send_replace(false);
    eventually("it holds what it held", async || (replicas.is_firm() && replicas.held() > 0).then_some(())).await;
    typist.attachment.input(b"echo af''ter\n").await.unwrap();
    typist.until("after\r").await;
    eventually("it takes orders", async || stage.client.lifecycle(id, Lifecycle::Stop).await.ok()).await;
    stage.until(id, "it to stop", |view| view.status == WorkspaceStatus::Stopped).await;
    stage.client.purge_workspace(id).await.unwrap();
    assert!(stage.server.stop().await, "the server left work behind when it stopped");
}
