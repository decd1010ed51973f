//! What workspaces may reach, from the request to the container and back.

use crate::busybox;
use crate::support::apart::{GREETING, OUTSIDE, PLAIN_PORT};
use crate::support::dockerd::Dockerd;
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, on_both};
use futures_util::FutureExt as _;
use rexec_api::egress::{EgressNetwork, EgressPreset, EgressSettings, EgressState, LendRule, LentRule};
use rexec_api::error::ErrorCode;
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_api::servers::{NewServer, SshAccess};
use rexec_api::snapshots::NewSnapshot;
use rexec_api::volumes::{RestoreVolume, VolumeState};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::{ClientError, Lifecycle};
use rexec_engine::contract::remote::Sshd;
use rexec_engine::{ContainerState, Engine as _};
use std::panic::{AssertUnwindSafe, resume_unwind};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// Where the operator's proxy listens.
const UPSTREAM_PORT: u16 = 3129;

on_both!(
    a_life_behind_the_gateway,
    refusals_change_nothing,
    a_server_restart_cuts_nothing_off,
    what_becomes_of_it_may_reach_as_much,
);

fn code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ErrorCode {
    result.unwrap_err().code().expect("the server's own error")
}

fn settings(preset: EgressPreset, allow: &[&str], deny: &[&str]) -> EgressSettings {
    let owned = |rules: &[&str]| rules.iter().map(|&rule| rule.to_owned()).collect();
    EgressSettings { preset, allow: owned(allow), deny: owned(deny), ..EgressSettings::default() }
}

fn locked() -> EgressSettings {
    settings(EgressPreset::Locked, &[], &[])
}

async fn made(stage: &Stage, egress: Option<EgressSettings>) -> WorkspaceView {
    let new =
        NewWorkspace { memory_mb: Some(256), wait_ms: Some(PATIENCE.as_millis() as u64), egress, ..Default::default() };
    let view = stage.client.create_workspace(&new).await.unwrap();
    assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
    view
}

/// What a program is told that asks its proxy for a tunnel.
async fn tunnel(stage: &Stage, id: WorkspaceId, host: &str, port: u16) -> String {
    let script =
        format!("proxy=${{https_proxy#http://}}; sleep 1 | /.rexec/current/guest tunnel \"$proxy\" {host} {port} 2>&1");
    stage.run(id, &script).await.stdout
}

async fn a_life_behind_the_gateway(backend: Backend) {
    on_stage(backend, &[("REXEC_EGRESS_RESOLVERS", "127.0.0.1:9")], async |_, stage| {
        let client = &stage.client;
        let open = made(&stage, None).await.id;
        let view = client.egress(open).await.unwrap();
        assert_eq!(
            (view.preset, view.network, view.state),
            (EgressPreset::Open, EgressNetwork::Open, EgressState::InForce)
        );
        assert_eq!(stage.run(open, "echo $https_proxy").await.stdout, "\n", "nothing is in its way");

        let id = made(&stage, Some(locked())).await.id;
        let view = client.egress(id).await.unwrap();
        assert_eq!(
            (view.preset, view.network, view.state),
            (EgressPreset::Locked, EgressNetwork::Closed, EgressState::InForce)
        );
        let proxy = stage.run(id, "echo $http_proxy").await.stdout;
        let gateway = proxy.trim().trim_start_matches("http://").split(':').next().unwrap().to_owned();
        let names = stage.run(id, "grep ^nameserver /etc/resolv.conf").await.stdout;
        assert_eq!(names.trim(), format!("nameserver {gateway}"));
        let refused = tunnel(&stage, id, "a.example", 443).await;
        assert!(refused.contains("No rule allows a.example:443"), "{refused}");
        // It is refused what it may not have in the way that it may ask for what it may.
        let rules = settings(EgressPreset::Locked, &["a.example", "10.0.0.0/8:22"], &["b.example"]);
        let view = client.set_egress(id, &rules).await.unwrap();
        assert_eq!((view.state, view.version, view.allow.len()), (EgressState::InForce, 2, 2));
        let unknown = tunnel(&stage, id, "a.example", 443).await;
        assert!(unknown.contains("No server of names answers"), "at once, and asked of the gateway's own: {unknown}");
        client.set_egress(id, &locked()).await.unwrap();
        assert!(tunnel(&stage, id, "a.example", 443).await.contains("No rule allows"), "and forbidden at once");
        // For a while: what ended is not kept, and its end is told to the gateway.
        let lend = |minutes| LendRule { rule: "a.example".into(), minutes };
        assert_eq!(code(client.lend(id, &lend(0)).await), ErrorCode::InvalidRequest);
        let view = client.lend(id, &lend(60)).await.unwrap();
        assert_eq!((view.lent.len(), view.state), (1, EgressState::InForce));
        assert!(tunnel(&stage, id, "a.example", 443).await.contains("No server of names answers"));
        let mut soon = locked();
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(1500);
        soon.lent.push(LentRule { rule: "a.example".into(), until: until.to_string() });
        client.set_egress(id, &soon).await.unwrap();
        eventually("it to end", async || {
            tunnel(&stage, id, "a.example", 443).await.contains("No rule allows").then_some(())
        })
        .await;
        assert!(client.egress(id).await.unwrap().lent.is_empty());

        // What was decided is told, what was refused apart.
        let told = eventually("the log to have all three", async || {
            let log = client.egress_log(id, false).await.unwrap().items;
            (log.iter().map(|entry| entry.count).sum::<u64>() >= 3).then_some(log)
        })
        .await;
        assert!(
            told.iter().all(|entry| (entry.host.as_str(), entry.how.as_str()) == ("a.example", "connect")),
            "{told:?}"
        );
        let denied = client.egress_log(id, true).await.unwrap().items;
        assert!(!denied.is_empty() && denied.iter().all(|entry| !entry.allowed), "{denied:?}");
        assert!(denied.iter().any(|entry| entry.why == "egress_not_allowed"), "{denied:?}");
        assert!(client.egress(id).await.unwrap().totals.denied >= 2);
        assert!(client.egress_log(open, false).await.unwrap().items.is_empty());

        // Stopped and started it keeps its address; another has another.
        let address = |id| async move { stage_address(client, id).await };
        let first = address(id).await;
        client.lifecycle(id, Lifecycle::Restart).await.unwrap();
        assert_eq!(address(id).await, first);
        let other = made(&stage, Some(locked())).await.id;
        let theirs = address(other).await;
        assert!(theirs != first && !theirs.is_empty(), "{theirs}");
        let sibling = stage.run(id, &format!("nc -w 2 {theirs} 22 </dev/null; echo $?")).await.stdout;
        assert!(!sibling.starts_with('0'), "{sibling}");

        // From one network to the other it goes between two starts, with all that it has.
        stage.run(id, "echo mine | sudo tee /kept").await;
        let view = client.set_egress(id, &settings(EgressPreset::Open, &[], &[])).await.unwrap();
        assert_eq!((view.state, view.network), (EgressState::NextStart, EgressNetwork::Closed));
        client.lifecycle(id, Lifecycle::Restart).await.unwrap();
        let view = client.egress(id).await.unwrap();
        assert_eq!((view.state, view.network), (EgressState::InForce, EgressNetwork::Open));
        assert_eq!(stage.run(id, "cat /kept; echo $https_proxy").await.stdout, "mine\n\n");
        let names = stage.run(id, "cat /etc/resolv.conf").await.stdout;
        assert!(!names.contains(&gateway), "{names}");
        client.set_egress(id, &settings(EgressPreset::Balanced, &[], &[])).await.unwrap();
        client.lifecycle(id, Lifecycle::Restart).await.unwrap();
        assert_eq!(client.egress(id).await.unwrap().network, EgressNetwork::Closed);
        assert!(tunnel(&stage, id, "a.example", 443).await.contains("No rule allows"));

        // Its gateway goes: it reaches nothing, and then the same as before.
        let gateway = gateway_of(&stage).await;
        stage.engine.remove(&gateway).await.unwrap();
        eventually("the gateway to be back", async || {
            tunnel(&stage, id, "a.example", 443).await.contains("No rule allows").then_some(())
        })
        .await;
        // Somebody tidies up while all that are behind it rest: a network on which nothing runs goes.
        for id in [id, other] {
            client.lifecycle(id, Lifecycle::Stop).await.unwrap();
            stage.until(id, "it to stop", |view| view.status == WorkspaceStatus::Stopped).await;
        }
        stage.engine.remove_network(&format!("rexec-closed-{}", stage.instance)).await.unwrap();
        client.lifecycle(id, Lifecycle::Start).await.unwrap();
        stage.until(id, "it to run again", |view| view.status == WorkspaceStatus::Running).await;
        assert!(tunnel(&stage, id, "a.example", 443).await.contains("No rule allows"));
        // Whatever it has put where its guest writes, it starts.
        let trap = "cd /etc; sudo mkdir -p ssh/ssh_config.d; sudo rm -f ssh/ssh_config.d/90-rexec-gateway.conf; \
                    sudo mkfifo ssh/ssh_config.d/90-rexec-gateway.conf";
        stage.run(id, trap).await;
        client.lifecycle(id, Lifecycle::Restart).await.unwrap();
        stage.until(id, "it to run all the same", |view| view.status == WorkspaceStatus::Running).await;
        for id in [id, other, open] {
            client.purge_workspace(id).await.unwrap();
        }
        stage
    })
    .await;
}

async fn stage_address(client: &rexec_client::Client, id: WorkspaceId) -> String {
    let request = rexec_api::exec::ExecRequest {
        command: ["/bin/sh", "-c", "hostname -i"].map(str::to_owned).to_vec(),
        ..Default::default()
    };
    client.exec(id, &request).await.unwrap().stdout.trim().to_owned()
}

/// The container of the stage's own.
async fn gateway_of(stage: &Stage) -> String {
    let labels = rexec_engine::Labels::from([("rexec.instance".to_owned(), stage.instance.clone())]);
    let all = stage.engine.containers(&labels).await.unwrap();
    let gateway = all.into_iter().find(|container| container.labels.contains_key("rexec.gateway")).unwrap();
    assert_eq!(gateway.state, ContainerState::Running);
    gateway.id
}

async fn refusals_change_nothing(backend: Backend) {
    let variables = [("REXEC_EGRESS", "balanced"), ("REXEC_EGRESS_PRESETS", "locked,balanced")];
    on_stage(backend, &variables, async |_, stage| {
        let client = &stage.client;
        let asked = |egress| NewWorkspace { egress: Some(egress), memory_mb: Some(256), ..Default::default() };
        let open = client.create_workspace(&asked(settings(EgressPreset::Open, &[], &[]))).await;
        assert_eq!(code(open), ErrorCode::PresetNotAllowed);
        let bad = client.create_workspace(&asked(settings(EgressPreset::Locked, &["https://a.example"], &[]))).await;
        assert_eq!(code(bad), ErrorCode::InvalidRequest);
        assert!(client.workspaces().await.unwrap().items.is_empty());
        let id = made(&stage, None).await.id;
        let before = client.egress(id).await.unwrap();
        assert_eq!((before.preset, before.presets.len()), (EgressPreset::Balanced, 2));
        assert_eq!(
            code(client.set_egress(id, &settings(EgressPreset::Open, &[], &[])).await),
            ErrorCode::PresetNotAllowed
        );
        assert_eq!(
            code(client.set_egress(id, &settings(EgressPreset::Locked, &["a.*"], &[])).await),
            ErrorCode::InvalidRequest
        );
        assert_eq!(client.egress(id).await.unwrap(), before);
        let (grace, _) = rexec_client::Client::new(&stage.server.base)
            .unwrap()
            .register("grace@example.com", crate::support::PASSWORD)
            .await
            .unwrap();
        assert_eq!(code(grace.egress(id).await), ErrorCode::NotFound);
        assert_eq!(code(grace.set_egress(id, &locked()).await), ErrorCode::NotFound);
        assert_eq!(code(grace.egress_log(id, false).await), ErrorCode::NotFound);
        client.purge_workspace(id).await.unwrap();
        stage
    })
    .await;
}

async fn a_server_restart_cuts_nothing_off(backend: Backend) {
    on_stage(backend, &[("REXEC_EGRESS_RESOLVERS", "127.0.0.1:9")], async |place, stage| {
        let id = made(&stage, Some(settings(EgressPreset::Locked, &["a.example"], &[]))).await.id;
        let gateway = gateway_of(&stage).await;
        // A stricter operator.
        let strict = [("REXEC_EGRESS_RESOLVERS", "127.0.0.1:9"), ("REXEC_EGRESS_DENY", "a.example")];
        let stage = stage.restart_server(place, &strict).await;
        stage.until(id, "it to be met", |view| view.status == WorkspaceStatus::Running).await;
        let refused = eventually("the gateway to be told", async || {
            let told = tunnel(&stage, id, "a.example", 443).await;
            told.contains("this server's").then_some(told)
        })
        .await;
        assert!(refused.contains("denies a.example:443"), "{refused}");
        assert_eq!(gateway_of(&stage).await, gateway, "the same, which went on meanwhile");
        let view = stage.client.egress(id).await.unwrap();
        assert_eq!((view.server_deny, view.state), (vec!["a.example".to_owned()], EgressState::InForce));
        stage.client.purge_workspace(id).await.unwrap();
        stage
    })
    .await;
}

/// A warm one that becomes somebody's, a clone, and one on a kept home.
async fn what_becomes_of_it_may_reach_as_much(backend: Backend) {
    let variables = [
        ("REXEC_POOL_SIZE", "1"),
        ("REXEC_POOL_MAX", "1"),
        ("REXEC_EGRESS", "balanced"),
        ("REXEC_EGRESS_RESOLVERS", "127.0.0.1:9"),
    ];
    on_stage(backend, &variables, async |_, stage| {
        let client = &stage.client;
        let warm = eventually("one is warm", async || {
            let local = client.servers().await.unwrap().items.remove(0);
            local.pool.filter(|pool| pool.ready == 1)?;
            let labels = rexec_engine::Labels::from([("rexec.instance".to_owned(), stage.instance.clone())]);
            let all = stage.engine.containers(&labels).await.unwrap();
            all.into_iter().find(|container| container.labels.contains_key("rexec.workspace"))
        })
        .await;
        let wait_ms = Some(PATIENCE.as_millis() as u64);
        // Of the usual size, as warm ones are.
        let id = client.create_workspace(&NewWorkspace { wait_ms, ..Default::default() }).await.unwrap().id;
        assert_eq!(stage.containers(id).await[0].id, warm.id, "it ran before it was asked for");
        let view = client.egress(id).await.unwrap();
        assert_eq!(
            (view.preset, view.network, view.state),
            (EgressPreset::Balanced, EgressNetwork::Closed, EgressState::InForce)
        );
        assert!(tunnel(&stage, id, "a.example", 443).await.contains("No rule allows"));
        let allowed = tunnel(&stage, id, "deb.debian.org", 443).await;
        assert!(allowed.contains("No server of names answers"), "its own rules, not the warm one's: {allowed}");

        let rules = settings(EgressPreset::Locked, &["a.example"], &["b.example"]);
        client.set_egress(id, &rules).await.unwrap();
        let as_before = async |id| {
            let view = client.egress(id).await.unwrap();
            assert_eq!((view.preset, view.network), (EgressPreset::Locked, EgressNetwork::Closed));
            assert_eq!((&view.allow, &view.deny), (&rules.allow, &rules.deny));
            assert!(tunnel(&stage, id, "c.example", 443).await.contains("No rule allows"));
        };
        let taken = client.take_snapshot(id, &NewSnapshot { wait_ms, ..Default::default() }).await.unwrap();
        let new = NewWorkspace { snapshot: Some(taken.id), wait_ms, ..Default::default() };
        let clone = client.create_workspace(&new).await.unwrap().id;
        as_before(clone).await;
        client.delete_workspace(id).await.unwrap();
        let kept = eventually("its home is kept", async || {
            let homes = client.volumes().await.unwrap().items;
            homes.into_iter().find(|home| home.workspace_id == id && home.state == VolumeState::Kept)
        })
        .await;
        let again = client.restore_volume(kept.id, &RestoreVolume { wait_ms, ..Default::default() }).await.unwrap().id;
        as_before(again).await;
        for id in [clone, again] {
            client.purge_workspace(id).await.unwrap();
        }
        stage
    })
    .await;
}

/// On a machine with something outside, which is what a remote one has.
#[tokio::test]
async fn what_is_allowed_is_reached() {
    beside(&[], reaches_what_it_may).await;
}

/// And nothing else leads there; what everybody's proxy listens at, another program has.
#[tokio::test]
async fn the_operators_proxy_is_the_way_out() {
    let upstream = format!("http://me:secret@{OUTSIDE}:{UPSTREAM_PORT}");
    beside(&[("REXEC_EGRESS_UPSTREAM", &upstream)], leaves_by_another_proxy).await;
}

async fn beside(variables: &[(&str, &str)], test: impl AsyncFnOnce(&Stage, &mut Dockerd)) {
    on_stage(Backend::Sqlite, variables, async |_, stage| {
        let mut daemon = Dockerd::start_apart(&[]).await;
        let outcome = AssertUnwindSafe(test(&stage, &mut daemon)).catch_unwind().await;
        daemon.remove().await;
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        stage
    })
    .await;
}

/// A server on a machine of its own, for as long as one is let in there, and a workspace.
async fn far(stage: &Stage, daemon: &Dockerd, egress: EgressSettings) -> (Sshd, HostId, WorkspaceId) {
    const IMAGE: &str = "rexec-test-egress:1";
    daemon.engine().import_image(IMAGE, busybox::image().into()).await.unwrap();
    let sshd = Sshd::start("");
    let ssh = SshAccess {
        user: "root".into(),
        port: Some(sshd.port()),
        private_key: sshd.key(),
        host_key: Some(sshd.host_key("ed25519").fingerprint()),
        socket: Some(daemon.socket()),
    };
    let client = &stage.client;
    let new =
        NewServer { name: "far".into(), hostname: Some("127.0.0.1".into()), ssh: Some(ssh), ..NewServer::default() };
    let server = client.add_server(&new).await.unwrap();
    let workspace = NewWorkspace {
        image: Some(IMAGE.into()),
        memory_mb: Some(64),
        cpu: Some(0.5),
        host: Some("far".into()),
        wait_ms: Some(PATIENCE.as_millis() as u64),
        egress: Some(egress),
        ..Default::default()
    };
    (sshd, server.id, client.create_workspace(&workspace).await.unwrap().id)
}

async fn away(stage: &Stage, server: HostId, id: WorkspaceId) {
    stage.client.purge_workspace(id).await.unwrap();
    eventually("the server to be empty", async || stage.client.remove_server(server).await.ok()).await;
}

async fn reaches_what_it_may(stage: &Stage, daemon: &mut Dockerd) {
    let (_sshd, server, id) = far(stage, daemon, locked()).await;
    let (client, rule) = (&stage.client, format!("{OUTSIDE}/32:{PLAIN_PORT}"));
    assert!(!tunnel(stage, id, OUTSIDE, PLAIN_PORT).await.contains(GREETING));
    let direct = stage.run(id, &format!("nc -w 2 {OUTSIDE} {PLAIN_PORT} </dev/null")).await.stdout;
    assert_eq!(direct, "", "not past the gateway");
    client.set_egress(id, &settings(EgressPreset::Locked, &[&rule], &[])).await.unwrap();
    let reached = tunnel(stage, id, OUTSIDE, PLAIN_PORT).await;
    assert!(reached.contains(GREETING), "{reached}");
    let log = eventually("its bytes to be counted", async || {
        let log = client.egress_log(id, false).await.unwrap().items;
        log.into_iter().find(|entry| entry.allowed && entry.bytes_down > 0)
    })
    .await;
    assert_eq!(
        (log.host.as_str(), log.port, log.why.as_str(), log.count),
        (OUTSIDE, PLAIN_PORT, format!("{OUTSIDE}:{PLAIN_PORT}").as_str(), 1)
    );
    away(stage, server, id).await;
}

async fn leaves_by_another_proxy(stage: &Stage, daemon: &mut Dockerd) {
    let upstream = daemon.apart().serve(UPSTREAM_PORT);
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = upstream.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let (mut head, mut line) = (String::new(), String::new());
            while line != "\r\n" {
                line.clear();
                assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "{head}");
                head.push_str(&line);
            }
            let is_let = head.to_lowercase().contains("proxy-authorization: basic bwu6c2vjcmv0\r\n");
            let answer = match head.strip_prefix("CONNECT ").filter(|_| is_let) {
                Some(asked) => format!("HTTP/1.1 200 OK\r\n\r\nby way of {}\n", asked.split(' ').next().unwrap()),
                None => "HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n".into(),
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let _other = daemon.apart().occupy(3128);
    // Even what is open goes that way.
    let (_sshd, server, id) = far(stage, daemon, settings(EgressPreset::Open, &["only.example:22"], &[])).await;
    let view = stage.client.egress(id).await.unwrap();
    assert_eq!((view.network, view.state), (EgressNetwork::Closed, EgressState::InForce));
    let proxy = stage.run(id, "echo $https_proxy").await.stdout;
    assert!(proxy.ends_with(":13128\n"), "{proxy}");
    let reached = tunnel(stage, id, "only.example", 22).await;
    assert!(reached.contains("by way of only.example:22"), "{reached}");
    let direct = stage.run(id, &format!("nc -w 2 {OUTSIDE} {PLAIN_PORT} </dev/null")).await.stdout;
    assert_eq!(direct, "", "not past the gateway");
    serving.abort();
    away(stage, server, id).await;
}
