//! A server whose engine is another machine's, through SSH and through mutual TLS: a workspace's whole life.

use crate::support::workspaces::{Follower, PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, in_place, on_both};
use rexec_api::snapshots::{NewSnapshot, SnapshotState};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::{AttachOptions, Client, Lifecycle};
use rexec_engine::contract::remote::{Authority, Sshd, TlsFront, When};
use serde_json::Value;

on_both!(a_life_behind_ssh, a_host_key_is_kept_over_restarts);

const FILE_BYTES: usize = 4 << 20;

fn wait_ms() -> Option<u64> {
    Some(PATIENCE.as_millis() as u64)
}

/// Everything that takes its own way to a guest or an engine.
async fn live(stage: &Stage) {
    let facts = stage.server.running.app.fleet.local().ready().unwrap();
    assert!(!facts.dials, "a guest of another machine cannot dial");
    assert_eq!(facts.weaker, [""; 0], "its machine is closed from here");
    let client = &stage.client;
    let id = stage.workspace().await.id;

    let terminal = stage.terminal(id, &["/bin/sh"]).await;
    let mut typist = Follower::new(stage.attach(id, terminal, AttachOptions::default()).await, None);
    typist.attachment.input(b"echo typed-$((40+2))\n").await.unwrap();
    typist.until("typed-42").await;
    let told = stage.run(id, "echo out; echo err >&2; exit 3").await;
    assert_eq!((told.exit_code, told.stdout.as_str(), told.stderr.as_str()), (3, "out\n", "err\n"));

    let content: Vec<u8> =
        (0..FILE_BYTES / 4).flat_map(|n| (n as u32).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    client.write_file(id, "/home/user/bulk", content.clone()).await.unwrap();
    assert!(client.read_file(id, "/home/user/bulk").await.unwrap() == content, "it comes back as it went");
    let measured = eventually("it is measured", async || {
        let stats =
            stage.server.running.app.fleet.local().engine.stats_once(&stage.containers(id).await[0].id).await.unwrap();
        (stats.memory_bytes > 0).then_some(stats)
    });
    measured.await;

    let new = NewSnapshot { wait_ms: wait_ms(), ..Default::default() };
    let snapshot = client.take_snapshot(id, &new).await.unwrap();
    assert_eq!(snapshot.state, SnapshotState::Ready, "{snapshot:?}");

    client.lifecycle(id, Lifecycle::Stop).await.unwrap();
    stage.until(id, "it to stop", |view| view.status == WorkspaceStatus::Stopped).await;
    client.lifecycle(id, Lifecycle::Start).await.unwrap();
    stage.until(id, "it to start", |view| view.status == WorkspaceStatus::Running).await;
    assert_eq!(stage.run(id, "wc -c < ~/bulk").await.stdout.trim(), FILE_BYTES.to_string());

    let new = NewWorkspace { snapshot: Some(snapshot.id), wait_ms: wait_ms(), ..Default::default() };
    let clone = client.create_workspace(&new).await.unwrap();
    assert_eq!(clone.status, WorkspaceStatus::Running, "{clone:?}");
    assert_eq!(stage.run(clone.id, "wc -c < ~/bulk").await.stdout.trim(), FILE_BYTES.to_string());
    for id in [id, clone.id] {
        client.purge_workspace(id).await.unwrap();
    }
    client.delete_snapshot(snapshot.id).await.unwrap();
    for id in [id, clone.id] {
        eventually("nothing of it is left", async || {
            (stage.containers(id).await.is_empty() && stage.volumes(id).await.is_empty()).then_some(())
        })
        .await;
    }
}

async fn readiness(base: &str) -> Value {
    reqwest::get(format!("{base}/ready")).await.unwrap().json().await.unwrap()
}

async fn a_life_behind_ssh(backend: Backend) {
    let sshd = Sshd::start("");
    let (address, key) = (sshd.address(), sshd.key().replace('\n', "\\n"));
    on_stage(backend, &[("DOCKER_HOST", &address), ("SSH_PRIVATE_KEY", &key)], async |_, stage| {
        live(&stage).await;
        let ready = readiness(&stage.server.base).await;
        assert_eq!(ready["engine_host_key"], sshd.host_key("ed25519").fingerprint(), "{ready}");
        stage
    })
    .await;
}

#[tokio::test]
async fn a_life_behind_tls() {
    let (engines, clients) = (Authority::new("engines"), Authority::new("clients"));
    let front = TlsFront::start(&engines.issue(&["127.0.0.1"], When::Now), &clients);
    let client = clients.issue(&[], When::Now);
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [("ca.pem", engines.pem()), ("cert.pem", &client.certificate), ("key.pem", &client.key)] {
        std::fs::write(dir.path().join(file), text).unwrap();
    }
    let (address, path) = (front.address(), dir.path().to_str().unwrap().to_owned());
    let variables = [("DOCKER_HOST", address.as_str()), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &path)];
    on_stage(Backend::Sqlite, &variables, async |_, stage| {
        live(&stage).await;
        assert_eq!(readiness(&stage.server.base).await["engine_host_key"], Value::Null);
        stage
    })
    .await;
}

async fn a_host_key_is_kept_over_restarts(backend: Backend) {
    let mut sshd = Sshd::start("");
    let (address, key) = (sshd.address(), sshd.key());
    let variables = [("DOCKER_HOST", address.as_str()), ("SSH_PRIVATE_KEY", key.as_str())];
    in_place(backend, async |place| {
        let reason = async |server: &crate::support::Server, wanted: &str| {
            eventually(wanted, async || {
                let ready = readiness(&server.base).await;
                ready["checks"]["engine"].as_str().is_some_and(|why| why.contains(wanted)).then_some(ready)
            })
            .await
        };
        let server = place.start(&variables).await;
        let first = sshd.host_key("ed25519").fingerprint();
        eventually("the key is kept", async || {
            (readiness(&server.base).await["engine_host_key"] == first.as_str()).then_some(())
        })
        .await;
        assert!(server.stop().await);

        sshd.change_host_keys();
        let second = sshd.host_key("ed25519").fingerprint();
        let server = place.start(&variables).await;
        let ready = reason(&server, "DOCKER_SSH_HOST_KEY").await;
        let why = ready["checks"]["engine"].as_str().unwrap();
        assert!(why.contains(&first) && why.contains(&second), "{why}");
        assert!(Client::new(&server.base).unwrap().readiness().await.is_ok_and(|told| !told.ready));
        assert!(server.stop().await);

        // The operator's word counts, and is kept in its turn.
        let named = [&variables[..], &[("DOCKER_SSH_HOST_KEY", second.as_str())]].concat();
        for variables in [&named[..], &variables] {
            let server = place.start(variables).await;
            eventually("the engine and its key are there", async || {
                let told = readiness(&server.base).await;
                (told["checks"]["engine"] == "ok" && told["engine_host_key"] == second.as_str()).then_some(())
            })
            .await;
            assert!(server.stop().await);
        }
    })
    .await;
}
