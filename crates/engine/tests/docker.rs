//! The contract, kept by the Docker engine at `DOCKER_HOST` or the usual socket; and what only
//! Docker's own records can show of the container profile.

use rexec_engine::contract::World;
use rexec_engine::docker::DockerEngine;
use rexec_engine::{Engine, engine_contract};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

fn address() -> String {
    std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()).unwrap_or_else(|| DEFAULT_HOST.into())
}

fn make() -> Arc<dyn Engine> {
    Arc::new(DockerEngine::connect(&address()).expect("DOCKER_HOST names an engine that can be reached"))
}

engine_contract!(make);

/// Asks Docker itself, past everything under test.
async fn raw_inspect(id: &str) -> Value {
    let address = address();
    let path = address.strip_prefix("unix://").expect("a unix socket");
    let mut socket = tokio::net::UnixStream::connect(path).await.expect("connects");
    let request = format!("GET /v1.41/containers/{id}/json HTTP/1.0\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("reads");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_records_the_whole_profile() {
    let world = World::new(make).await;
    if world.engine.info().await.expect("tells").kind != "docker" {
        // Others record it in words of their own; `isolation::profile_holds` sees it from inside.
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("may be entered");
    std::fs::write(dir.path().join("socket"), "dial me").expect("writes");
    let mut spec = world.spec("a");
    spec.dial_dir = Some((dir.path().to_str().expect("text").into(), "/dial".into()));
    let id = world.run(&spec).await;

    let seen = raw_inspect(&id).await;
    let host = &seen["HostConfig"];
    let capabilities = json!(["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"]);
    assert_eq!((&host["CapDrop"], &host["CapAdd"]), (&json!(["ALL"]), &capabilities));
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges:true"]));
    assert_eq!(host["Privileged"], json!(false));
    assert_eq!((&host["Memory"], &host["MemorySwap"]), (&json!(64 << 20), &json!(64 << 20)), "no swap");
    assert_eq!((&host["NanoCpus"], &host["PidsLimit"]), (&json!(1_000_000_000), &json!(64)));
    assert_eq!(host["RestartPolicy"]["Name"], json!("no"));
    assert_eq!(host["LogConfig"]["Type"], json!("none"));
    assert_eq!((&host["Init"], &host["AutoRemove"]), (&json!(false), &json!(false)));
    assert!(host["MaskedPaths"].as_array().is_some_and(|paths| paths.len() > 5), "{}", host["MaskedPaths"]);
    assert!(host["ReadonlyPaths"].as_array().is_some_and(|paths| !paths.is_empty()));
    for nothing in ["Binds", "Devices", "Sysctls", "PidMode", "UTSMode", "UsernsMode", "PortBindings", "VolumesFrom"] {
        let value = &host[nothing];
        let empty = value.is_null()
            || value == ""
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty);
        assert!(empty, "{nothing}: {value}");
    }
    assert!(host["OomScoreAdj"].as_i64().is_none_or(|adjust| adjust >= 0));
    let mounts = seen["Mounts"].as_array().expect("a list");
    assert_eq!((mounts.len(), &mounts[0]["Destination"], &mounts[0]["RW"]), (1, &json!("/dial"), &json!(false)));
    assert_eq!(seen["Config"]["User"], json!("0:0"));

    assert_eq!(world.sh(&id, "cat /dial/socket").await, "dial me");
    assert!(!world.succeeds(&id, "touch /dial/mine").await, "the dial directory is read-only");
}
