//! Machines that come and go with demand: the provider is a stand-in that speaks its API, the machine a second engine that is
//! set up by nothing but what the machine was given.

use crate::busybox;
use crate::support::dockerd::Dockerd;
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage_as};
use crate::support::{Backend, Place, on_both};
use futures_util::FutureExt as _;
use rexec_api::error::ErrorCode;
use rexec_api::servers::{PatchServer, ServerHealth, ServerView};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_engine::Engine as _;
use rexec_provision::fake::{Fake, Fault, TOKEN};
use rexec_provision::hetzner::{Hetzner, NewMachine, UserData};
use rexec_server::config::Config;
use rexec_server::db;
use rexec_server::hosts::elastic;
use sea_orm::FromQueryResult;
use serde_json::Value;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

on_both!(a_machine_comes_with_demand_and_goes_without, what_does_not_come_is_told_and_removed);

const REGION: &str = "fsn1";
const IMAGE: &str = "rexec-test-elastic:1";
const SCRIPT: &str = "#!/bin/sh\necho \"$SERVER_NAME $PLATFORM_SERVER_IP\" > \"$DOCKER_CERTS_DIR/ran\"\n";

async fn a_machine_comes_with_demand_and_goes_without(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("init.sh");
    std::fs::write(&script, SCRIPT).unwrap();
    let fake = Fake::start().await.unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let variables = [
        ("REXEC_ELASTIC_LOCATIONS", REGION),
        ("REXEC_ELASTIC_NETWORK", "inner"),
        ("REXEC_ELASTIC_FIREWALL", "wall"),
        ("REXEC_ELASTIC_SSH_KEYS", "ops"),
        ("REXEC_ELASTIC_PLATFORM_IP", "10.0.1.1"),
        ("REXEC_ELASTIC_DOCKER_PORT", &port),
        ("REXEC_ELASTIC_SPARE_CPU", "0"),
        ("REXEC_ELASTIC_SPARE_MEMORY_MB", "0"),
        ("REXEC_ELASTIC_UP_PAUSE", "0"),
        ("REXEC_ELASTIC_DOWN_PAUSE", "0"),
    ];
    let with = |more: &[(&'static str, &'static str)]| {
        [basics(&fake, script.to_str().unwrap()).to_vec(), variables.to_vec(), more.to_vec()].concat()
    };
    let port: u16 = port.parse().unwrap();
    let (first, then) = (with(&[("REXEC_ELASTIC_MIN", "1")]), with(&[("REXEC_ELASTIC_BOOT_TIMEOUT", "0")]));
    let theirs = somebody_elses(&fake).await;
    // The answer to the first creation is lost.
    fake.fail("POST /servers", Fault::CutAfter);
    on_stage_as(backend, &first, quick, async |place, stage| {
        let machine = boot(&fake, dir.path(), 1).await;
        let mut daemon = Dockerd::start_tls(&dir.path().join("certs"), port).await;
        let lived = live(place, stage, &then, &fake, theirs, &machine, &daemon);
        let outcome = AssertUnwindSafe(lived).catch_unwind().await;
        daemon.pause().await;
        daemon.remove().await;
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    })
    .await;
}

/// One region cannot have a machine, and what the other gets is not made to its end.
async fn what_does_not_come_is_told_and_removed(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("init.sh");
    std::fs::write(&script, SCRIPT).unwrap();
    let fake = Fake::start().await.unwrap();
    fake.fail("POST /servers", Fault::refuse(403, "resource_limit_exceeded"));
    fake.world().failing_action = Some("server_creation_failed");
    let own = [("REXEC_ELASTIC_MIN", "1"), ("REXEC_ELASTIC_LOCATIONS", "fsn1, hills=nbg1")];
    let variables = [basics(&fake, script.to_str().unwrap()).as_slice(), &own].concat();
    on_stage_as(backend, &variables, quick, async |_, stage| {
        eventually("it to be removed", async || (fake.world().deleted.len() == 1).then_some(())).await;
        let wanted = [("resource_limit_exceeded", "fsn1"), ("server_creation_failed", "hills")];
        for (reason, region) in wanted {
            eventually("it to be told", async || {
                let fits = |(kind, data): &(String, Value)| {
                    kind == "elastic.failed" && data["reason"] == reason && data["region"] == region
                };
                told(&stage).await.iter().any(fits).then_some(())
            })
            .await;
        }
        eventually("no machine to be left", async || {
            let left = elastic::store::all(stage.server.running.app.db.read()).await.unwrap();
            (left.is_empty() && fake.world().servers.is_empty()).then_some(())
        })
        .await;
        assert_eq!(stage.client.servers().await.unwrap().items.len(), 1, "no server came of it");
        stage
    })
    .await;
}

fn basics<'a>(fake: &'a Fake, script: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("REXEC_ELASTIC_MAX", "2"),
        ("REXEC_ELASTIC_API", fake.base()),
        ("HCLOUD_TOKEN", TOKEN),
        ("REXEC_ELASTIC_TYPE", "cx22"),
        ("REXEC_ELASTIC_SCRIPT", script),
    ]
}

fn quick(config: &mut Config) {
    if let Some(elastic) = &mut config.elastic {
        elastic.every = Duration::from_millis(200);
    }
}

/// A machine of the same project that is none of ours.
async fn somebody_elses(fake: &Fake) -> u64 {
    let new = NewMachine {
        name: "database".into(),
        server_type: "cx22".into(),
        image: "ubuntu-24.04".into(),
        location: REGION.into(),
        ssh_keys: Vec::new(),
        network: None,
        firewall: None,
        labels: [("rexec-instance".to_owned(), "another".to_owned())].into(),
        user_data: UserData(String::new()),
    };
    Hetzner::new(&fake.settings()).unwrap().create(&new).await.unwrap().machine.id
}

/// Runs what the machine was given, as its first start would.
async fn boot(fake: &Fake, dir: &Path, at: usize) -> Value {
    let machine = eventually("a machine to be asked for", async || fake.world().created.get(at).cloned()).await;
    assert_eq!((&machine["location"], &machine["networks"][0]), (&REGION.into(), &11.into()), "{machine}");
    assert_eq!((&machine["firewalls"][0]["firewall"], &machine["ssh_keys"][0]), (&12.into(), &"ops".into()));
    let (path, certs) = (dir.join("user_data"), dir.join("certs"));
    std::fs::write(&path, machine["user_data"].as_str().unwrap()).unwrap();
    let mut script = Command::new("bash");
    script.arg(&path).env("DOCKER_CERTS_DIR", &certs).env("TMPDIR", dir).stdin(Stdio::null());
    assert!(script.status().await.unwrap().success());
    let told = std::fs::read_to_string(certs.join("ran")).unwrap();
    assert_eq!(told, format!("{} 10.0.1.1\n", machine["name"].as_str().unwrap()));
    machine
}

async fn provisioned(stage: &Stage) -> Option<ServerView> {
    stage.client.servers().await.unwrap().items.into_iter().find(|server| server.provisioner.is_some())
}

async fn live(
    place: &Place,
    stage: Stage,
    then: &[(&str, &str)],
    fake: &Fake,
    theirs: u64,
    machine: &Value,
    daemon: &Dockerd,
) -> Stage {
    let server = eventually("the machine to be a server", async || {
        provisioned(&stage).await.filter(|server| server.health == ServerHealth::Ready)
    })
    .await;
    let id: u64 = server.machine_id.as_deref().unwrap().parse().unwrap();
    assert_eq!((server.provisioner.as_deref(), server.region.as_str()), (Some("hetzner"), REGION));
    assert_eq!(Value::from(server.name.clone()), machine["name"]);
    assert!(fake.world().servers.contains_key(&id));
    assert_eq!(fake.world().created.len(), 2, "theirs, and one of ours, whose answer was lost");

    daemon.engine().import_image(IMAGE, busybox::image().into()).await.unwrap();
    let new = NewWorkspace {
        image: Some(IMAGE.into()),
        memory_mb: Some(64),
        cpu: Some(0.5),
        region: Some(REGION.into()),
        wait_ms: Some(PATIENCE.as_millis() as u64),
        ..Default::default()
    };
    let workspace = stage.client.create_workspace(&new).await.unwrap();
    assert_eq!((workspace.status, workspace.host.as_deref()), (WorkspaceStatus::Running, Some(server.name.as_str())));
    assert_eq!(stage.run(workspace.id, "echo $((40+2))").await.stdout, "42\n");

    // Somebody finds no room: another machine is asked for.
    let small = PatchServer { total_memory_mb: Some(100), ..Default::default() };
    stage.client.change_server(server.id, &small).await.unwrap();
    let refused = stage.client.create_workspace(&new).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::HostFull));
    eventually("another machine", async || fake.world().created.get(2).cloned()).await;
    let metrics = reqwest::get(format!("{}/metrics", stage.server.base)).await.unwrap().text().await.unwrap();
    for reason in ["below_min", "refused"] {
        let line = format!("rexec_elastic_actions_total{{region=\"{REGION}\",action=\"create\",reason=\"{reason}\"}}");
        assert!(metrics.contains(&line), "{metrics}");
    }

    // That one never becomes a server. The next server knows of both, and gives it up; the first goes once nothing is on it.
    let stage = stage.restart_server(place, then).await;
    eventually("what does not come to be removed", async || (fake.world().deleted.len() == 1).then_some(())).await;
    let kept = provisioned(&stage).await.unwrap();
    assert_eq!(kept.machine_id, server.machine_id);
    assert!(fake.world().servers.contains_key(&id), "somebody is on it");
    stage.client.purge_workspace(workspace.id).await.unwrap();
    eventually("the first machine to be removed", async || (fake.world().deleted.last() == Some(&id)).then_some(()))
        .await;
    eventually("nothing to be left of it", async || provisioned(&stage).await.is_none().then_some(())).await;
    assert_eq!(fake.world().servers.keys().copied().collect::<Vec<_>>(), [theirs], "theirs was left alone");
    eventually("its end to be told", async || {
        let told = told(&stage).await;
        (told.iter().filter(|(kind, _)| kind == "elastic.removed").count() == 2).then_some(())
    })
    .await;
    let told = told(&stage).await;
    for (kind, reason) in [
        ("elastic.created", "below_min"),
        ("elastic.arrived", "answers"),
        ("elastic.created", "refused"),
        ("elastic.failed", "too_late"),
        ("server.drained", "plenty_free"),
        ("server.removed", "empty"),
    ] {
        assert!(told.iter().any(|(is, data)| is == kind && data["reason"] == reason), "{kind} {reason}: {told:?}");
    }
    stage
}

/// What the audit log has of it.
async fn told(stage: &Stage) -> Vec<(String, Value)> {
    #[derive(FromQueryResult)]
    struct Row {
        kind: String,
        data_json: String,
    }
    let text = "SELECT kind, data_json FROM events WHERE user_id IS NULL ORDER BY id";
    let rows = db::fetch_all::<Row, _>(stage.server.running.app.db.read(), text, []).await.unwrap();
    rows.into_iter().map(|row| (row.kind, serde_json::from_str(&row.data_json).unwrap())).collect()
}
