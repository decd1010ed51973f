//! More servers than one: how they are added, what is placed where, and what becomes of workspaces whose server goes.

use crate::busybox;
use crate::support::dockerd::Dockerd;
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, on_both};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use rexec_api::error::ErrorCode;
use rexec_api::servers::{NewServer, PatchServer, ServerHealth, ServerState, ServerView};
use rexec_api::snapshots::NewSnapshot;
use rexec_api::workspaces::{NewWorkspace, PatchWorkspace, WorkspaceStatus};
use rexec_client::{Client, ClientError, Lifecycle, ServerRequest};
use rexec_engine::Engine as _;
use std::panic::{AssertUnwindSafe, resume_unwind};

on_both!(
    what_fails_is_said_and_leaves_nothing,
    fifty_at_once_never_oversell,
    what_failed_holds_no_room,
    a_second_engine_is_a_server,
);

fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ErrorCode {
    result.unwrap_err().code().unwrap()
}

/// The code of a refusal, and the word in its details.
async fn fault(client: &Client, new: &NewServer) -> (ErrorCode, String) {
    match client.add_server(new).await.unwrap_err() {
        ClientError::Refused(error) => {
            let word = error.details["fault"].as_str().or(error.details["field"].as_str()).unwrap_or_default();
            (error.code, word.to_owned())
        }
        other => panic!("{other:?}"),
    }
}

async fn local(stage: &Stage) -> ServerView {
    stage.client.servers().await.unwrap().items.into_iter().find(|server| server.is_local).unwrap()
}

async fn what_fails_is_said_and_leaves_nothing(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let client = &stage.client;
        let named = |name: &str| NewServer { name: name.into(), ..NewServer::default() };
        let socket = |path: &str| NewServer { socket: Some(path.into()), ..named("a") };
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let guide = NewServer {
            hostname: Some("10.0.1.10".into()),
            docker_port: Some(2376),
            tls_ca_path: Some("/nowhere/ca.pem".into()),
            tls_cert_path: Some("/nowhere/client-cert.pem".into()),
            tls_key_path: Some("/nowhere/client-key.pem".into()),
            total_cpu: Some(8.0),
            total_memory_mb: Some(32_768),
            total_disk_gb: Some(100),
            ..named("ws-1")
        };
        let host = |host: &str| NewServer { hostname: Some(host.into()), ..named("a") };
        use ErrorCode::{InvalidRequest, ServerUnfit};
        for (new, code, word) in [
            (guide, ServerUnfit, "tls_files"),
            (socket("/nowhere/docker.sock"), ServerUnfit, "no_socket"),
            (NewServer { docker_port: Some(free), ..host("127.0.0.1") }, ServerUnfit, "refused"),
            (host("10.0.1.10"), ServerUnfit, "tls_needed"),
            (named("a"), InvalidRequest, "hostname"),
            (socket("relative"), InvalidRequest, "socket"),
            (NewServer { total_cpu: Some(-1.0), ..socket("/x") }, InvalidRequest, "total_cpu"),
            (NewServer { total_cpu: Some(0.0004), ..socket("/x") }, InvalidRequest, "total_cpu"),
            (socket("/x\u{1b}[2J"), InvalidRequest, "socket"),
            (NewServer { name: "a b".into(), ..socket("/x") }, InvalidRequest, "name"),
            (NewServer { runtimes: Some(Vec::new()), ..socket("/x") }, InvalidRequest, "runtimes"),
        ] {
            assert_eq!(fault(client, &new).await, (code, word.to_owned()));
        }
        let own = client.servers().await.unwrap().items;
        assert_eq!(own.len(), 1, "nothing of them is left: {own:?}");
        let own = &own[0];
        assert_eq!((own.name.as_str(), own.health, own.state), ("local", ServerHealth::Ready, ServerState::Active));
        assert!(own.found.as_ref().is_some_and(|found| found.cpu > 0 && found.memory_mb > 0));
        // The same engine by its own address is no other.
        let address = own.address.strip_prefix("unix://").unwrap();
        assert_eq!(code(client.add_server(&socket(address)).await), ErrorCode::ServerExists);
        assert_eq!(
            code(client.add_server(&NewServer { name: "local".into(), ..socket("/x") }).await),
            ErrorCode::ServerExists
        );
        let odd = NewServer { runtimes: Some(vec!["runc".into(), "no-such".into()]), ..socket(address) };
        assert_eq!(fault(client, &odd).await, (ServerUnfit, "runtime_missing".into()));
        let odd = NewServer { architecture: Some("s390x".into()), ..socket(address) };
        assert_eq!(fault(client, &odd).await, (ServerUnfit, "architecture".into()));
        assert_eq!(code(client.remove_server(own.id).await), ErrorCode::ServerInUse);

        // Nobody else sees or does any of it, but everybody in numbers how the fleet is.
        let (other, _) = Client::new(&stage.server.base)
            .unwrap()
            .register("bob@example.com", "correct horse battery")
            .await
            .unwrap();
        assert_eq!(code(other.servers().await), ErrorCode::Forbidden);
        assert_eq!(code(other.add_server(&socket("/x")).await), ErrorCode::Forbidden);
        let named_host = NewWorkspace { host: Some("local".into()), ..Default::default() };
        assert_eq!(code(other.create_workspace(&named_host).await), ErrorCode::Forbidden);
        let health = other.compute_health().await.unwrap();
        assert_eq!((health.status.as_str(), health.servers, health.ready, health.details.len()), ("ok", 1, 1, 0));
        assert_eq!(client.compute_health().await.unwrap().details.len(), 1);

        // What is changed counts at once.
        let change = PatchServer {
            region: Some("eu-1".into()),
            labels: Some([("disk".into(), "nvme".into())].into()),
            ..Default::default()
        };
        let view = client.change_server(own.id, &change).await.unwrap();
        assert_eq!((view.region.as_str(), view.health), ("eu-1", ServerHealth::Ready));
        for wrong in [
            NewWorkspace { region: Some("us-1".into()), ..Default::default() },
            NewWorkspace { host: Some("gone".into()), ..Default::default() },
            NewWorkspace { architecture: Some("s390x".into()), ..Default::default() },
            NewWorkspace { host_labels: [("disk".into(), "tape".into())].into(), ..Default::default() },
        ] {
            assert_eq!(code(client.create_workspace(&wrong).await), ErrorCode::NoHost, "{wrong:?}");
        }
        let long = NewWorkspace { region: Some("x".repeat(200)), ..Default::default() };
        assert_eq!(code(client.create_workspace(&long).await), ErrorCode::InvalidRequest);
        let drained = client.ask_server(own.id, ServerRequest::Drain).await.unwrap();
        assert_eq!(drained.state, ServerState::Draining);
        assert_eq!(code(client.create_workspace(&NewWorkspace::default()).await), ErrorCode::NoHost);
        assert_eq!(client.compute_health().await.unwrap().regions["eu-1"], 0);
        client.ask_server(own.id, ServerRequest::Activate).await.unwrap();
        assert_eq!(client.ask_server(own.id, ServerRequest::Test).await.unwrap().health, ServerHealth::Ready);
        stage
    })
    .await;
}

async fn fifty_at_once_never_oversell(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        const ROOM: usize = 3;
        let image = format!("rexec-test-oversell:{}", stage.instance);
        stage.engine.import_image(&image, busybox::image().into()).await.unwrap();
        let client = &stage.client;
        let limit =
            PatchServer { total_memory_mb: Some(64 * ROOM as u64), total_cpu: Some(100.0), ..Default::default() };
        let server = client.change_server(local(&stage).await.id, &limit).await.unwrap();
        assert_eq!(server.total_memory_mb, 64 * ROOM as u64);
        let new = NewWorkspace {
            image: Some(image.clone()),
            memory_mb: Some(64),
            cpu: Some(1.0),
            wait_ms: Some(PATIENCE.as_millis() as u64),
            ..Default::default()
        };
        let made = join_all((0..50).map(|_| client.create_workspace(&new))).await;
        let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
        assert_eq!(made.len(), ROOM);
        assert!(refused.into_iter().all(|refused| code(refused) == ErrorCode::HostFull));
        let used = async || {
            let server = local(&stage).await;
            (server.workspaces as usize, server.used_memory_mb, server.used_cpu)
        };
        assert_eq!(used().await, (ROOM, 64 * ROOM as u64, ROOM as f64));

        // What is stopped gives its memory back, and must find it again.
        let made: Vec<_> = made.into_iter().map(|view| view.unwrap().id).collect();
        client.lifecycle(made[0], Lifecycle::Stop).await.unwrap();
        assert_eq!(used().await, (ROOM, 64 * (ROOM as u64 - 1), ROOM as f64 - 1.0));
        let next = client.create_workspace(&new).await.unwrap().id;
        assert_eq!(code(client.lifecycle(made[0], Lifecycle::Start).await), ErrorCode::HostFull);
        assert_eq!(client.workspace(made[0]).await.unwrap().status, WorkspaceStatus::Stopped, "it is as it was");
        // More for one is less for the others.
        let more = PatchWorkspace { memory_mb: Some(128), ..Default::default() };
        assert_eq!(code(client.change_workspace(next, &more).await), ErrorCode::HostFull);
        assert_eq!(client.workspace(next).await.unwrap().memory_mb, 64);
        client.purge_workspace(made[1]).await.unwrap();
        client.change_workspace(next, &more).await.unwrap();
        assert_eq!(used().await, (ROOM, 64 * ROOM as u64, ROOM as f64 - 1.0));
        for id in [made[0], made[2], next] {
            client.purge_workspace(id).await.unwrap();
        }
        assert_eq!(used().await, (0, 0, 0.0));
        eventually("its image to be free", async || stage.engine.remove_image(&image).await.ok()).await;
        stage
    })
    .await;
}

async fn what_failed_holds_no_room(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let image = format!("rexec-test-failed:{}", stage.instance);
        stage.engine.import_image(&image, busybox::image().into()).await.unwrap();
        let client = &stage.client;
        let new = NewWorkspace {
            image: Some(image.clone()),
            memory_mb: Some(64),
            cpu: Some(1.0),
            wait_ms: Some(PATIENCE.as_millis() as u64),
            ..Default::default()
        };
        let id = client.create_workspace(&new).await.unwrap().id;
        let used = async || {
            let server = local(&stage).await;
            (server.workspaces, server.used_memory_mb, server.used_cpu)
        };
        assert_eq!(used().await, (1, 64, 1.0));
        // Somebody tidies up at the engine: what it was made from is gone.
        for container in stage.containers(id).await {
            stage.engine.remove(&container.id).await.unwrap();
        }
        eventually("its image to be free", async || stage.engine.remove_image(&image).await.ok()).await;
        let _ = client.lifecycle(id, Lifecycle::Restart).await;
        stage.until(id, "it to fail", |view| view.status == WorkspaceStatus::Error).await;
        eventually("what it does not use to be others'", async || (used().await == (1, 0, 0.0)).then_some(())).await;

        stage.engine.import_image(&image, busybox::image().into()).await.unwrap();
        client.lifecycle(id, Lifecycle::Start).await.unwrap();
        stage.until(id, "it to run", |view| view.status == WorkspaceStatus::Running).await;
        assert_eq!(used().await, (1, 64, 1.0));
        client.purge_workspace(id).await.unwrap();
        assert_eq!(used().await, (0, 0, 0.0));
        eventually("its image to be free", async || stage.engine.remove_image(&image).await.ok()).await;
        stage
    })
    .await;
}

async fn a_second_engine_is_a_server(backend: Backend) {
    on_stage(backend, &[], async |place, stage| {
        let mut daemon = Dockerd::start().await;
        let outcome = AssertUnwindSafe(on_two(place, stage, &mut daemon)).catch_unwind().await;
        daemon.remove().await;
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    })
    .await;
}

async fn on_two(place: &crate::support::Place, stage: Stage, daemon: &mut Dockerd) -> Stage {
    const IMAGE: &str = "rexec-test-second:1";
    daemon.engine().import_image(IMAGE, busybox::image().into()).await.unwrap();
    let client = &stage.client;
    let new = NewServer {
        name: "second".into(),
        socket: Some(daemon.socket()),
        region: Some("cellar".into()),
        max_workspaces: Some(2),
        ..NewServer::default()
    };
    let second = new.clone();
    let server = client.add_server(&new).await.unwrap();
    assert_eq!(
        (server.health, server.region.as_str(), server.is_local),
        (ServerHealth::Ready, "cellar", false),
        "{server:?}"
    );
    let found = server.found.as_ref().unwrap();
    assert_eq!(
        (server.total_cpu, server.total_memory_mb),
        (f64::from(found.cpu * 4), found.memory_mb),
        "cores are shared, memory is not"
    );

    let new = NewWorkspace {
        image: Some(IMAGE.into()),
        memory_mb: Some(64),
        cpu: Some(0.5),
        region: Some("cellar".into()),
        wait_ms: Some(PATIENCE.as_millis() as u64),
        ..Default::default()
    };
    // A workspace whose image never came has no home there: that tells nothing of which engine it is.
    let nowhere = NewWorkspace { image: Some("127.0.0.1:1/none:1".into()), ..new.clone() };
    assert!(client.create_workspace(&nowhere).await.is_err());
    let same = PatchServer { socket: Some(daemon.socket()), ..Default::default() };
    assert_eq!(client.change_server(server.id, &same).await.unwrap().health, ServerHealth::Ready);
    let failed =
        client.workspaces().await.unwrap().items.into_iter().filter(|view| view.status == WorkspaceStatus::Error);
    for view in failed {
        client.purge_workspace(view.id).await.unwrap();
    }
    // It has more room, but not the image of this server, which no registry has.
    let usual = NewWorkspace { image: None, region: None, ..new.clone() };
    let here = client.create_workspace(&usual).await.unwrap();
    assert_eq!((here.status, here.host.as_deref()), (WorkspaceStatus::Running, Some("local")));
    client.purge_workspace(here.id).await.unwrap();
    let there = client.create_workspace(&new).await.unwrap();
    assert_eq!(
        (there.status, there.host.as_deref(), there.region.as_str()),
        (WorkspaceStatus::Running, Some("second"), "cellar")
    );
    let id = there.id;
    assert_eq!(stage.containers(id).await.len(), 0, "the first engine has nothing of it");
    assert_eq!(stage.run(id, "cd && echo mine > kept; echo ok").await.stdout, "ok\n");
    let taken = NewSnapshot { wait_ms: Some(PATIENCE.as_millis() as u64), ..Default::default() };
    let snapshot = client.take_snapshot(id, &taken).await.unwrap().id;
    assert_eq!(code(client.remove_server(server.id).await), ErrorCode::ServerInUse);

    // Another engine cannot take its place while anything lies on it.
    let other = Dockerd::start().await;
    let elsewhere = PatchServer { socket: Some(other.socket()), ..Default::default() };
    let refused = client.change_server(server.id, &elsewhere).await;
    other.remove().await;
    assert_eq!(code(refused), ErrorCode::ServerInUse);
    // The way to it is named once more, and stays as it was: nobody is cut off in the middle of anything.
    let begun = async {
        eventually("the command to have begun", async || {
            (stage.run(id, "[ -e ~/begun ] && echo yes; :").await.stdout == "yes\n").then_some(())
        })
        .await;
        assert_eq!(client.change_server(server.id, &same).await.unwrap().health, ServerHealth::Ready);
        // Its driver has looked at its host since.
        client.lifecycle(id, Lifecycle::Start).await.unwrap();
        stage.run(id, "touch ~/go").await;
    };
    let command = "cd && touch begun && until [ -e go ]; do sleep 0.1; done; cat kept";
    assert_eq!(tokio::join!(stage.run(id, command), begun).0.stdout, "mine\n");

    // Its engine goes: it says so, nothing is deleted, and the other server is as ever.
    daemon.pause().await;
    stage.until(id, "the workspace to be out of reach", |view| view.status == WorkspaceStatus::Unreachable).await;
    // A workspace may notice before its server has lost two pings.
    let is_degraded = async || (client.compute_health().await.unwrap().status == "degraded").then_some(());
    eventually("the fleet to be degraded", is_degraded).await;
    assert_eq!(code(client.ask_server(server.id, ServerRequest::Test).await), ErrorCode::ServerUnfit);
    assert_eq!(code(client.create_workspace(&new).await), ErrorCode::EngineUnavailable);
    assert_eq!(stage.workspace().await.host.as_deref(), Some("local"));

    // The server starts anew meanwhile, and knows both again.
    let stage = stage.restart_server(place, &[]).await;
    let client = &stage.client;
    daemon.resume().await;
    stage.until(id, "the workspace to come back", |view| view.status == WorkspaceStatus::Running).await;
    assert_eq!(stage.run(id, "cat ~/kept").await.stdout, "mine\n");

    // A clone is made where its snapshot lies, whatever has more room.
    let clone = NewWorkspace { snapshot: Some(snapshot), wait_ms: new.wait_ms, ..Default::default() };
    let cloned = client.create_workspace(&clone).await.unwrap();
    assert_eq!(cloned.host.as_deref(), Some("second"));
    assert_eq!(stage.run(cloned.id, "cat ~/kept").await.stdout, "mine\n");
    assert_eq!(code(client.create_workspace(&new).await), ErrorCode::HostFull, "two are all it takes");

    client.purge_workspace(cloned.id).await.unwrap();
    client.purge_workspace(id).await.unwrap();
    assert_eq!(code(client.remove_server(server.id).await), ErrorCode::ServerInUse, "there is the snapshot");
    client.delete_snapshot(snapshot).await.unwrap();
    eventually("the server to be empty", async || client.remove_server(server.id).await.ok()).await;
    assert_eq!(client.servers().await.unwrap().items.len(), 1);
    // What it left at its engine does not keep it away.
    let again = client.add_server(&second).await.unwrap();
    assert_eq!((again.health, again.id == server.id), (ServerHealth::Ready, false));
    client.remove_server(again.id).await.unwrap();
    stage
}
