//! Warm workspaces: how they become somebody's, and what becomes of those that nobody wants.

use crate::busybox;
use crate::replicas::{another, client, port, run};
use crate::support::workspaces::{Follower, PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, on_both};
use futures_util::future::join_all;
use rexec_api::ids::WorkspaceId;
use rexec_api::servers::{PatchServer, PoolView, ServerView};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::{AttachOptions, Lifecycle, ServerRequest};
use rexec_engine::{ContainerInfo, Engine as _, Labels};
use std::collections::{BTreeSet, HashSet};

on_both!(
    a_warm_workspace_becomes_somebodys,
    those_who_come_at_once_get_one_each,
    what_nobody_wants_goes,
    room_is_for_those_who_ask,
    whoever_types_comes_first,
);

const POOL: &str = "REXEC_POOL_SIZE";

async fn local(stage: &Stage) -> ServerView {
    stage.client.servers().await.unwrap().items.remove(0)
}

async fn until_pool(stage: &Stage, what: &str, fits: impl Fn(&PoolView) -> bool) {
    eventually(what, async || local(stage).await.pool.filter(|pool| fits(pool))).await;
}

async fn until_ready(stage: &Stage, ready: u32) {
    until_pool(stage, "the pool is full", |pool| pool.ready == ready).await;
}

/// Every container of this installation.
async fn containers(stage: &Stage) -> Vec<ContainerInfo> {
    let labels = Labels::from([("rexec.instance".to_owned(), stage.instance.clone())]);
    stage.engine.containers(&labels).await.unwrap()
}

async fn create(stage: &Stage, new: &NewWorkspace) -> WorkspaceView {
    let new = NewWorkspace { wait_ms: Some(PATIENCE.as_millis() as u64), ..new.clone() };
    let view = stage.client.create_workspace(&new).await.unwrap();
    assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
    view
}

fn named(name: &str) -> NewWorkspace {
    NewWorkspace { name: Some(name.into()), ..Default::default() }
}

async fn a_warm_workspace_becomes_somebodys(backend: Backend) {
    on_stage(backend, &[(POOL, "2")], async |place, stage| {
        until_ready(&stage, 2).await;
        let warm: HashSet<String> = containers(&stage).await.into_iter().map(|c| c.id).collect();
        assert_eq!(warm.len(), 2);
        assert!(stage.client.workspaces().await.unwrap().items.is_empty(), "they are nobody's");
        // One that is none of the pool's, and older than what comes next, though its id is younger.
        let odd = create(&stage, &NewWorkspace { memory_mb: Some(300), ..named("odd") }).await;
        let env = [("GREETING".to_owned(), "hello there".to_owned())].into();
        let web = create(&stage, &NewWorkspace { env, ..named("web") }).await;
        let of_web = stage.containers(web.id).await;
        assert!(of_web.len() == 1 && warm.contains(&of_web[0].id), "its container ran before it was asked for");
        assert!(!warm.contains(&stage.containers(odd.id).await[0].id), "another size is not in the pool");
        let listed = stage.client.workspaces().await.unwrap().items;
        assert_eq!(listed.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["web", "odd"], "newest first");
        assert!(web.started_at.is_some() && web.created_at > odd.created_at, "{web:?}");
        // It is a workspace like any other: environment, home, terminals, stop and start.
        let said = stage.run(web.id, "echo $GREETING; touch ~/kept; stat -c %U ~").await;
        assert_eq!(said.stdout, "hello there\nuser\n");
        let host = stage.run(web.id, "hostname").await.stdout;
        assert!(host.starts_with("ws-"), "its host name says nothing of anyone: {host}");
        let volumes = stage.client.volumes().await.unwrap().items;
        assert_eq!(volumes.len(), 2);
        assert!(volumes.iter().any(|volume| volume.workspace_id == web.id && volume.workspace_name == "web"));
        stage.client.lifecycle(web.id, Lifecycle::Stop).await.unwrap();
        stage.until(web.id, "stopped", |view| view.status == WorkspaceStatus::Stopped).await;
        stage.client.lifecycle(web.id, Lifecycle::Start).await.unwrap();
        stage.until(web.id, "running", |view| view.status == WorkspaceStatus::Running).await;
        assert_eq!(stage.run(web.id, "ls ~; echo $GREETING").await.stdout, "kept\nhello there\n");
        // The pool is filled again; a restart of the server keeps it.
        until_ready(&stage, 2).await;
        let before: BTreeSet<String> = containers(&stage).await.into_iter().map(|c| c.id).collect();
        let stage = stage.restart_server(place, &[(POOL, "2")]).await;
        until_ready(&stage, 2).await;
        let after: BTreeSet<String> = containers(&stage).await.into_iter().map(|c| c.id).collect();
        assert_eq!(before, after);
        let again = create(&stage, &named("again")).await;
        assert!(before.contains(&stage.containers(again.id).await[0].id));
        stage
    })
    .await;
}

#[tokio::test]
async fn a_warm_one_is_had_through_another_server() {
    let port = port();
    let url = format!("http://127.0.0.1:{port}");
    let own = [(POOL, "1"), ("PORT", port.as_str()), ("REXEC_ADVERTISE_URL", url.as_str())];
    on_stage(Backend::Postgres, &own, async |place, stage| {
        until_ready(&stage, 1).await;
        let warm = containers(&stage).await.remove(0).id;
        let other = another(place, "other", &[(POOL, "1")]).await;
        let there = client(&other, &stage.client);
        let new = NewWorkspace { wait_ms: Some(PATIENCE.as_millis() as u64), ..named("far") };
        let made = eventually("it is had", async || there.create_workspace(&new).await.ok()).await;
        assert_eq!(made.status, WorkspaceStatus::Running, "{made:?}");
        let of_it = stage.containers(made.id).await;
        assert!(of_it.len() == 1 && of_it[0].id == warm, "it ran before it was asked for");
        assert_eq!(run(&there, made.id, "echo $((40+2))").await, "42\n");
        until_ready(&stage, 1).await;
        assert!(other.stop().await);
        stage
    })
    .await;
}

async fn those_who_come_at_once_get_one_each(backend: Backend) {
    on_stage(backend, &[(POOL, "3"), ("REXEC_POOL_MAX", "3")], async |_, stage| {
        until_ready(&stage, 3).await;
        let warm: HashSet<String> = containers(&stage).await.into_iter().map(|c| c.id).collect();
        let made =
            join_all((0..8).map(|n| {
                let (stage, name) = (&stage, format!("box-{n}"));
                async move {
                    create(stage, &NewWorkspace { env: [("ME".into(), name.clone())].into(), ..named(&name) }).await
                }
            }))
            .await;
        let ids: HashSet<WorkspaceId> = made.iter().map(|view| view.id).collect();
        assert_eq!(ids.len(), 8);
        let mut taken = 0;
        for view in &made {
            assert_eq!(stage.run(view.id, "echo $ME").await.stdout.trim(), view.name);
            let container = stage.containers(view.id).await.remove(0);
            taken += usize::from(warm.contains(&container.id));
        }
        assert_eq!(taken, 3, "each warm one is one person's");
        stage
    })
    .await;
}

async fn what_nobody_wants_goes(backend: Backend) {
    on_stage(backend, &[(POOL, "2")], async |place, stage| {
        until_ready(&stage, 2).await;
        let id = local(&stage).await.id;
        stage.client.ask_server(id, ServerRequest::Drain).await.unwrap();
        let none = async |stage: &Stage| {
            eventually("no warm one is left", async || containers(stage).await.is_empty().then_some(())).await;
        };
        none(&stage).await;
        stage.client.ask_server(id, ServerRequest::Activate).await.unwrap();
        until_ready(&stage, 2).await;
        // An image that was replaced under its name.
        let stage = stage.restart_server(place, &[]).await;
        none(&stage).await;
        let image = format!("rexec-test-pool:{}", stage.instance);
        stage.engine.import_image(&image, busybox::image().into()).await.unwrap();
        let settings = [(POOL, "1"), ("REXEC_WORKSPACE_IMAGE", image.as_str())];
        let stage = stage.restart_server(place, &settings).await;
        until_ready(&stage, 1).await;
        let before = containers(&stage).await.remove(0).id;
        stage.engine.import_image(&image, busybox::image_with(&[("etc/new", b"it is")]).into()).await.unwrap();
        // A round comes by itself; whoever takes what is there asks for one.
        stage.client.ask_server(id, ServerRequest::Drain).await.unwrap();
        stage.client.ask_server(id, ServerRequest::Activate).await.unwrap();
        eventually("another is there", async || {
            let all = containers(&stage).await;
            (all.len() == 1 && all[0].id != before).then_some(())
        })
        .await;
        until_ready(&stage, 1).await;
        let new = create(&stage, &named("new")).await;
        assert_eq!(stage.run(new.id, "cat /etc/new").await.stdout, "it is");
        let stage = stage.restart_server(place, &[]).await;
        eventually("only what is somebody's is left", async || (containers(&stage).await.len() == 1).then_some(()))
            .await;
        stage.client.delete_workspace(new.id).await.unwrap();
        stage.engine.remove_image(&image).await.unwrap();
        stage
    })
    .await;
}

async fn room_is_for_those_who_ask(backend: Backend) {
    on_stage(backend, &[(POOL, "2"), ("REXEC_POOL_MAX", "2")], async |_, stage| {
        until_ready(&stage, 2).await;
        let id = local(&stage).await.id;
        let limit = PatchServer { max_workspaces: Some(Some(2)), ..Default::default() };
        assert_eq!(stage.client.change_server(id, &limit).await.unwrap().workspaces, 2);
        // Neither is what is asked for; one of them makes room, and then the other.
        let small = |n: u32| NewWorkspace { memory_mb: Some(256 + n), ..Default::default() };
        create(&stage, &small(0)).await;
        create(&stage, &small(1)).await;
        let refused = stage.client.create_workspace(&small(2)).await.unwrap_err();
        assert_eq!(refused.code(), Some(rexec_api::error::ErrorCode::HostFull));
        eventually("the pool has gone", async || (containers(&stage).await.len() == 2).then_some(())).await;
        assert_eq!(local(&stage).await.workspaces, 2);
        stage
    })
    .await;
}

async fn whoever_types_comes_first(backend: Backend) {
    on_stage(backend, &[(POOL, "3"), ("REXEC_POOL_MAX", "3")], async |_, stage| {
        until_ready(&stage, 3).await;
        assert_eq!(local(&stage).await.pool.and_then(|pool| pool.reason), None, "nobody types");
        let id = create(&stage, &named("typed-in")).await.id;
        let terminal = stage.terminal(id, &["/bin/sh"]).await;
        let mut typist = Follower::new(stage.attach(id, terminal, AttachOptions::default()).await, None);
        typist.attachment.input(b"echo typed-$((40+2))\n").await.unwrap();
        typist.until("typed-42").await;
        create(&stage, &named("next")).await;
        // The one that is made first ends the quick filling; what is missing then waits for its time.
        until_pool(&stage, "the pool rests", |pool| {
            pool.reason.as_ref().is_some_and(|why| why.starts_with("Somebody types there"))
        })
        .await;
        stage
    })
    .await;
}
