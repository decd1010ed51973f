//! Pulling from a real registry (Debian's `docker-registry`) on loopback, which engines trust
//! without TLS. The engine must be on this machine.

use futures_util::StreamExt;
use rexec_engine::contract::{TarBuilder, World};
use rexec_engine::docker::DockerEngine;
use rexec_engine::{Engine, EngineError, PullProgress, RegistryAuth};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(60);
const LAYER_BYTES: usize = 2 * 1024 * 1024;

fn address() -> String {
    let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    host.unwrap_or_else(|| "unix:///var/run/docker.sock".into())
}

fn make() -> Arc<dyn Engine> {
    Arc::new(DockerEngine::connect(&address()).expect("DOCKER_HOST names an engine that can be reached"))
}

/// One user of a private registry: a line of its password file (bcrypt), the password, and both as an engine
/// takes them in a header. The password is one that the two alphabets of base64 write differently.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuuVIlDdaopluOW9LEBdkc7f96EKkdzyq\n";
const PASSWORD: &str = "???~~~";
const CREDENTIALS: &str = "eyJ1c2VybmFtZSI6InVzZXIiLCJwYXNzd29yZCI6Ij8_P35-fiJ9";
/// No credentials at all: `{}`.
const NOBODY: &str = "e30=";

/// A registry of this test's own; it ends with it.
struct Registry {
    host: String,
    process: Child,
    _dir: tempfile::TempDir,
}

impl Registry {
    async fn start() -> Registry {
        Registry::start_with("").await
    }

    /// One that lets in the user of [`HTPASSWD`] only.
    async fn start_private() -> Registry {
        Registry::start_with("auth:\n  htpasswd:\n    realm: test\n    path: DIR/htpasswd\n").await
    }

    async fn start_with(more: &str) -> Registry {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().display().to_string();
        std::fs::write(dir.path().join("htpasswd"), HTPASSWD).expect("writes");
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {root}/data\nhttp:\n  addr: 127.0.0.1:0\n{}",
            more.replace("DIR", &root)
        );
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).expect("writes");
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("docker-registry is installed (Debian's package of that name)");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let listening = async {
            loop {
                let line = lines.next_line().await.expect("reads").expect("it runs until it is ended");
                if let Some((_, rest)) = line.split_once("listening on ") {
                    return rest.split(['"', ' ', ',']).next().expect("an address").to_owned();
                }
            }
        };
        let host = tokio::time::timeout(PATIENCE, listening).await.expect("it listens");
        // Its log goes on; nobody reading would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Registry { host, process, _dir: dir }
    }
}

/// Asks Docker itself for what the trait has no word for.
async fn post(path: &str, credentials: &str) {
    let address = address();
    let socket = address.strip_prefix("unix://").expect("a unix socket");
    let mut stream = tokio::net::UnixStream::connect(socket).await.expect("connects");
    let request = format!("POST /v1.41{path} HTTP/1.0\r\nX-Registry-Auth: {credentials}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("reads");
    let good = answer.starts_with("HTTP/1.0 20") && !answer.contains("errorDetail");
    assert!(good, "{path}: {answer}");
}

/// The progress until the end, or the failure.
async fn pull(world: &World, reference: &str) -> Result<Vec<PullProgress>, EngineError> {
    pull_as(world, reference, None).await
}

async fn pull_as(
    world: &World,
    reference: &str,
    auth: Option<&RegistryAuth>,
) -> Result<Vec<PullProgress>, EngineError> {
    let mut stream = world.engine.pull(reference, auth);
    let all = async {
        let mut seen = Vec::new();
        while let Some(item) = stream.next().await {
            seen.push(item?);
        }
        Ok(seen)
    };
    tokio::time::timeout(PATIENCE, all).await.expect("it ends")
}

/// The next byte without a pattern (xorshift64).
fn next(x: &mut u64) -> u8 {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    *x as u8
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pulled_layer_by_layer() {
    let world = World::new(make).await;
    let mut registry = Registry::start().await;
    let name = format!("{}/contract-{}", registry.host, world.id);
    let reference = format!("{name}:1");
    world.owns_image(&reference);
    // A layer that no other test's image has, and that does not pack: it has to come from the registry.
    let seed = u64::from_str_radix(&world.id, 16).expect("hexadecimal") | 1;
    let noise: Vec<u8> = (0..LAYER_BYTES).scan(seed, |x, _| Some(next(x))).collect();
    let layer = TarBuilder::default().file("noise", 0o644, &noise).bytes();
    world.engine.import_image(&reference, layer).await.expect("is imported");
    post(&format!("/images/{name}/push?tag=1"), NOBODY).await;
    world.engine.remove_image(&reference).await.expect("is removed");
    assert!(world.engine.image(&reference).await.expect("looks").is_none());

    let progress = pull(&world, &reference).await.expect("pulls");
    assert!(progress.iter().any(|p| p.total_bytes > 0 && p.current_bytes <= p.total_bytes), "{progress:?}");
    assert!(progress.iter().all(|p| !p.layer.is_empty() && p.layer != "1"), "layers only: {progress:?}");
    assert!(world.engine.image(&reference).await.expect("looks").is_some());
    pull(&world, &reference).await.expect("what is there already is no failure");

    for missing in [format!("{name}:no-such-tag"), format!("{}/no-such-image:1", registry.host)] {
        let failed = pull(&world, &missing).await;
        assert!(matches!(&failed, Err(EngineError::ImageNotFound(why)) if why.contains(&missing)), "{failed:?}");
    }
    registry.process.kill().await.expect("ends");
    let failed = pull(&world, &reference).await;
    assert!(matches!(&failed, Err(EngineError::PullFailed(why)) if why.contains(&reference)), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn private_images_are_pulled_with_credentials() {
    let world = World::new(make).await;
    let registry = Registry::start_private().await;
    let name = format!("{}/contract-{}", registry.host, world.id);
    let reference = format!("{name}:1");
    world.owns_image(&reference);
    world.engine.tag_image(&world.image, &reference).await.expect("is tagged");
    post(&format!("/images/{name}/push?tag=1"), CREDENTIALS).await;
    world.engine.remove_image(&reference).await.expect("is removed");
    world.engine.remove_image(&world.image).await.expect("is removed");

    let auth = |password: &str| RegistryAuth {
        server: registry.host.clone(),
        username: "user".into(),
        password: password.into(),
    };
    assert!(!format!("{:?}", auth(PASSWORD)).contains(PASSWORD));
    for refused in [None, Some(auth("wrong"))] {
        assert!(pull_as(&world, &reference, refused.as_ref()).await.is_err());
        assert!(world.engine.image(&reference).await.expect("looks").is_none());
    }
    pull_as(&world, &reference, Some(&auth(PASSWORD))).await.expect("pulls");
    assert!(world.engine.image(&reference).await.expect("looks").is_some());
}
