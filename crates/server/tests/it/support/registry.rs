//! A registry of a test's own (Debian's `docker-registry`) on loopback, which engines trust without TLS, and
//! small images to put into it.

use super::workspaces::engine_address;
use rexec_engine::{Engine as _, docker::DockerEngine};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::Digest as _;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(60);
/// One user of a private registry: a line of its password file (bcrypt), the password, and both as an engine
/// takes them in a header.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuuVIlDdaopluOW9LEBdkc7f96EKkdzyq\n";
pub const USERNAME: &str = "user";
pub const PASSWORD: &str = "???~~~";
const CREDENTIALS: &str = "eyJ1c2VybmFtZSI6InVzZXIiLCJwYXNzd29yZCI6Ij8_P35-fiJ9";

/// It ends with its test, and so does every image that it gave out.
pub struct Registry {
    pub host: String,
    process: Child,
    _dir: tempfile::TempDir,
}

impl Registry {
    pub async fn start() -> Registry {
        Registry::start_with("").await
    }

    /// One that lets in [`USERNAME`] with [`PASSWORD`] only.
    pub async fn start_private() -> Registry {
        Registry::start_with("auth:\n  htpasswd:\n    realm: test\n    path: DIR/htpasswd\n").await
    }

    async fn start_with(more: &str) -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().display().to_string();
        std::fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {root}/data\nhttp:\n  addr: 127.0.0.1:0\n{}",
            more.replace("DIR", &root)
        );
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("docker-registry is installed (Debian's package of that name)");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let listening = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it runs until it is ended");
                if let Some((_, rest)) = line.split_once("listening on ") {
                    return rest.split(['"', ' ', ',']).next().unwrap().to_owned();
                }
            }
        };
        let host = tokio::time::timeout(PATIENCE, listening).await.expect("it listens");
        // Its log goes on; nobody reading would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Registry { host, process, _dir: dir }
    }

    /// It takes requests and answers none until what this gives is dropped.
    pub fn hold(&self) -> Held {
        let held = Held(Pid::from_raw(self.process.id().expect("it runs") as i32).expect("a process"));
        kill_process(held.0, Signal::STOP).expect("it is ours");
        held
    }

    /// Puts a small image with a shell there, and leaves the engine without it. Gives its reference.
    pub async fn offer(&self, engine: &DockerEngine, name: &str) -> String {
        self.offer_for(engine, name, "amd64").await
    }

    /// The same, made for another processor.
    pub async fn offer_for(&self, engine: &DockerEngine, name: &str, architecture: &str) -> String {
        let repository = format!("{}/{name}", self.host);
        post("/images/load", "e30=", &archive(&format!("{repository}:1"), architecture, json!({}))).await;
        post(&format!("/images/{repository}/push?tag=1"), CREDENTIALS, &[]).await;
        let reference = format!("{repository}:1");
        engine.remove_image(&reference).await.unwrap();
        reference
    }
}

/// A registry that stands still.
pub struct Held(Pid);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Gives the engine a small image with a shell that is configured like this.
pub async fn load(reference: &str, config: Value) {
    post("/images/load", "e30=", &archive(reference, "amd64", config)).await;
}

/// A small image as an engine loads it: a layer, a configuration, and a manifest that names both.
fn archive(reference: &str, architecture: &str, config: Value) -> Vec<u8> {
    let layer = layer();
    let digest = hex::encode(sha2::Sha256::digest(&layer));
    let config = json!({
        "architecture": architecture, "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"] }]);
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "layer.tar", &layer, 0o644);
    add(&mut tar, "config.json", config.to_string().as_bytes(), 0o644);
    add(&mut tar, "manifest.json", manifest.to_string().as_bytes(), 0o644);
    tar.into_inner().unwrap()
}

/// busybox under the names that tests use, and bytes that no other image has.
fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let busybox = std::fs::read("/bin/busybox").expect("busybox is installed (Debian's busybox-static)");
    add(&mut tar, "bin/busybox", &busybox, 0o755);
    add(&mut tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644);
    add(&mut tar, "unique", uuid::Uuid::new_v4().as_bytes(), 0o644);
    for name in ["sh", "cat", "echo", "id", "ls", "sleep", "test", "touch", "true", "false", "mkdir", "mv", "rm"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap()
}

fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, path, bytes).unwrap();
}

/// Asks Docker itself for what the engine's trait has no word for.
async fn post(path: &str, credentials: &str, body: &[u8]) {
    let address = engine_address();
    let mut stream = tokio::net::UnixStream::connect(address.strip_prefix("unix://").unwrap()).await.unwrap();
    let length = body.len();
    let head =
        format!("POST /v1.41{path} HTTP/1.0\r\nX-Registry-Auth: {credentials}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 20") && !answer.contains("errorDetail"), "{path}: {answer}");
}
