//! The machine of a server of the fleet, closed to its workspaces by ourselves: an engine with a network of its own, added as
//! an administrator adds it, through mutual TLS and through SSH, and rules judged by `nft` and by what a workspace reaches.

use crate::busybox;
use crate::support::Backend;
use crate::support::apart::{ALLOWED, CLOSED, GREETING, NAMES_PORT, OUTSIDE, PLAIN_PORT, PORT};
use crate::support::dockerd::Dockerd;
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use futures_util::FutureExt as _;
use rexec_api::egress::{EgressPreset, EgressSettings};
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::servers::{NewServer, ServerHealth, SshAccess};
use rexec_api::workspaces::{MoveWorkspace, NewWorkspace, WorkspaceStatus};
use rexec_client::{ClientError, Lifecycle, ServerRequest};
use rexec_engine::Engine as _;
use rexec_engine::contract::remote::{Authority, Sshd, TlsFront, When};
use std::panic::{AssertUnwindSafe, resume_unwind};

const IMAGE: &str = "rexec-test-closing:1";
/// What is reached in any case.
const PUBLIC: [&str; 2] = [ALLOWED, OUTSIDE];

/// A test on a stage and an engine with a network of its own, both gone afterwards.
async fn beside(more: &[&str], test: impl AsyncFnOnce(&Stage, &mut Dockerd)) {
    beside_as(&[("REXEC_EGRESS_ALLOW", "10.78.0.0/16,a.example")], more, test).await;
}

async fn beside_as(variables: &[(&str, &str)], more: &[&str], test: impl AsyncFnOnce(&Stage, &mut Dockerd)) {
    on_stage(Backend::Sqlite, variables, async |_, stage| {
        let mut daemon = Dockerd::start_apart(more).await;
        let outcome = AssertUnwindSafe(test(&stage, &mut daemon)).catch_unwind().await;
        daemon.remove().await;
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        stage
    })
    .await;
}

fn behind_ssh(sshd: &Sshd, daemon: &Dockerd) -> NewServer {
    let ssh = SshAccess {
        user: "root".into(),
        port: Some(sshd.port()),
        private_key: sshd.key(),
        host_key: Some(sshd.host_key("ed25519").fingerprint()),
        socket: Some(daemon.socket()),
    };
    NewServer { name: "far".into(), hostname: Some("127.0.0.1".into()), ssh: Some(ssh), ..NewServer::default() }
}

/// The rules of the workspaces' bridge there, without spaces at the ends of lines.
async fn rules(daemon: &Dockerd) -> Option<Vec<String>> {
    let listed =
        daemon.apart().says("nft", &["list", "table", "inet", &format!("rexec-{}", bridge(daemon).await)]).await?;
    Some(listed.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}

async fn bridge(daemon: &Dockerd) -> String {
    let links = daemon.apart().says("ip", &["-o", "link", "show", "type", "bridge"]).await.unwrap();
    let mut names = links.lines().filter_map(|line| line.split(": ").nth(1));
    names.find(|name| name.starts_with("rexec-")).expect("the network is there").to_owned()
}

async fn open(daemon: &Dockerd) {
    let table = format!("rexec-{}", bridge(daemon).await);
    daemon.apart().says("nft", &["delete", "table", "inet", &table]).await.expect("it was there");
}

async fn reaches(stage: &Stage, id: WorkspaceId, address: &str, port: u16) -> bool {
    stage.run(id, &format!("nc -w 2 {address} {port} </dev/null")).await.stdout.contains(GREETING)
}

/// Whatever leads to the machine itself, to its cloud, to private networks, or to anybody else.
async fn reached(stage: &Stage, id: WorkspaceId) -> Vec<String> {
    let gateway = stage.run(id, "ip -4 route show default").await.stdout;
    let gateway = gateway.split_whitespace().nth(2).expect("a gateway").to_owned();
    let mut reached = Vec::new();
    for address in [gateway.as_str(), "203.0.113.2"].iter().chain(CLOSED).chain(&PUBLIC) {
        if reaches(stage, id, address, PORT).await {
            reached.push(if *address == gateway { "gateway".to_owned() } else { (*address).to_owned() });
        }
    }
    reached
}

/// A server, from its beginning to its end.
async fn keeps_its_machine_closed(stage: &Stage, daemon: &mut Dockerd, new: NewServer) {
    daemon.engine().import_image(IMAGE, busybox::image().into()).await.unwrap();
    let client = &stage.client;
    let server = client.add_server(&new).await.unwrap();
    assert_eq!((server.health, server.is_local), (ServerHealth::Ready, false), "{server:?}");
    assert!(server.weaker.is_empty(), "{:?}", server.weaker);
    let bridge = bridge(daemon).await;
    let from = format!("iifname \"{bridge}\"");
    let is = rules(daemon).await.expect("a table of ours");
    for rule in [
        format!("{from} drop"),
        format!("{from} oifname \"{bridge}\" drop"),
        format!("{from} ip daddr 169.254.0.0/16 drop"),
        format!("{from} ip daddr 100.100.100.200 drop"),
        format!("{from} meta nfproto ipv6 drop"),
    ] {
        assert!(is.contains(&rule), "{rule}: {is:#?}");
    }
    assert_eq!(is.iter().filter(|line| line.contains("drop")).count(), 12, "and no more: {is:#?}");

    let workspace = NewWorkspace {
        image: Some(IMAGE.into()),
        memory_mb: Some(64),
        cpu: Some(0.5),
        host: Some("far".into()),
        wait_ms: Some(PATIENCE.as_millis() as u64),
        ..Default::default()
    };
    let made = client.create_workspace(&workspace).await.unwrap();
    assert_eq!((made.status, made.host.as_deref()), (WorkspaceStatus::Running, Some("far")), "{made:?}");
    let id = made.id;
    assert_eq!(reached(stage, id).await, PUBLIC);
    assert!(!reaches(stage, id, ALLOWED, PLAIN_PORT).await, "another port than was allowed");
    for server in ["10.77.0.1", "169.254.169.254"] {
        assert!(reaches(stage, id, server, NAMES_PORT).await, "servers of names are anywhere: {server}");
    }
    open(daemon).await;
    let all: Vec<&str> = ["gateway", "203.0.113.2"].iter().chain(CLOSED).chain(&PUBLIC).copied().collect();
    assert_eq!(reached(stage, id).await, all, "this is what the rules are for");
    client.ask_server(server.id, ServerRequest::Test).await.unwrap();
    assert_eq!(reached(stage, id).await, PUBLIC, "a test of the server mends them");
    assert_eq!(rules(daemon).await.unwrap(), is);

    // Its machine fails and comes back, without them.
    daemon.pause().await;
    open(daemon).await;
    stage.until(id, "the workspace to be out of reach", |view| view.status == WorkspaceStatus::Unreachable).await;
    daemon.resume().await;
    stage.until(id, "the workspace to come back", |view| view.status == WorkspaceStatus::Running).await;
    eventually("the rules to be back", async || (rules(daemon).await? == is).then_some(())).await;
    assert_eq!(reached(stage, id).await, PUBLIC);

    client.purge_workspace(id).await.unwrap();
    let left = eventually("no helper to be left", async || {
        let containers = daemon.engine().containers(&Default::default()).await.unwrap();
        containers.is_empty().then_some(())
    });
    left.await;
    eventually("the server to be empty", async || client.remove_server(server.id).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_behind_ssh_is_closed_to_its_workspaces() {
    let sshd = Sshd::start("");
    beside(&[], async |stage, daemon| {
        let new = behind_ssh(&sshd, daemon);
        keeps_its_machine_closed(stage, daemon, new).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_behind_tls_is_closed_to_its_workspaces() {
    let (engines, clients) = (Authority::new("engines"), Authority::new("clients"));
    let (shown, ours) = (engines.issue(&["127.0.0.1"], When::Now), clients.issue(&[], When::Now));
    beside(&[], async |stage, daemon| {
        let front = TlsFront::start_before(daemon.socket().into(), &shown, &clients);
        let new = NewServer {
            name: "far".into(),
            hostname: Some("127.0.0.1".into()),
            docker_port: Some(front.port()),
            tls_ca: Some(engines.pem().into()),
            tls_cert: Some(ours.certificate.clone()),
            tls_key: Some(ours.key.clone()),
            ..NewServer::default()
        };
        keeps_its_machine_closed(stage, daemon, new).await;
    })
    .await;
}

/// Netlink is forbidden to every container there, as a hardened engine may do.
fn no_netlink(dir: &std::path::Path) -> String {
    const AF_NETLINK: u32 = 16;
    let profile = dir.join("seccomp.json");
    let no_netlink = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{ "index": 0, "value": AF_NETLINK, "op": "SCMP_CMP_EQ" }],
        }],
    });
    std::fs::write(&profile, no_netlink.to_string()).unwrap();
    profile.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_closed_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let profile = no_netlink(dir.path());
    let sshd = Sshd::start("");
    beside(&["--seccomp-profile", &profile], async |stage, daemon| {
        match stage.client.add_server(&behind_ssh(&sshd, daemon)).await.unwrap_err() {
            ClientError::Refused(error) => {
                assert_eq!(error.details["fault"], "not_ready", "{error:?}");
                for words in ["its machine's ports, the metadata", "Operation not permitted", "REXEC_ALLOW_WEAKER"] {
                    assert!(error.message.contains(words), "{words}: {}", error.message);
                }
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(stage.client.servers().await.unwrap().items.len(), 1, "it is not added");
        assert_eq!(daemon.engine().containers(&Default::default()).await.unwrap().len(), 0, "nothing is left there");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_closed_is_for_open_ones() {
    let dir = tempfile::tempdir().unwrap();
    let profile = no_netlink(dir.path());
    let sshd = Sshd::start("");
    let variables = [("REXEC_ALLOW_WEAKER_ISOLATION", "true")];
    beside_as(&variables, &["--seccomp-profile", &profile], async |stage, daemon| {
        daemon.engine().import_image(IMAGE, busybox::image().into()).await.unwrap();
        let client = &stage.client;
        let server = client.add_server(&behind_ssh(&sshd, daemon)).await.unwrap();
        let new = |host: &str, image: Option<&str>| NewWorkspace {
            image: image.map(str::to_owned),
            memory_mb: Some(64),
            host: Some(host.into()),
            egress: Some(EgressSettings { preset: EgressPreset::Locked, ..EgressSettings::default() }),
            wait_ms: Some(PATIENCE.as_millis() as u64),
            ..Default::default()
        };
        let refused = client.create_workspace(&new("far", Some(IMAGE))).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::EgressUnavailable), "{refused}");
        assert!(refused.to_string().contains("Operation not permitted"), "{refused}");
        assert!(client.workspaces().await.unwrap().items.is_empty(), "nothing is left of it");
        let servers = client.servers().await.unwrap().items;
        let told = &servers.iter().find(|view| view.id == server.id).unwrap().weaker;
        assert!(told.iter().any(|sentence| sentence.starts_with("Only `open` workspaces run there: ")), "{told:?}");

        let elsewhere = client.create_workspace(&new("local", None)).await.unwrap().id;
        client.lifecycle(elsewhere, Lifecycle::Stop).await.unwrap();
        let to = MoveWorkspace { host: Some("far".into()), ..MoveWorkspace::default() };
        let refused = client.move_workspace(elsewhere, &to).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::EgressUnavailable), "{refused}");
        client.purge_workspace(elsewhere).await.unwrap();
    })
    .await;
}
