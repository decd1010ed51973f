//! OpenSSH's programs, set up for a test's gateway and its user.

use super::workspaces::{PATIENCE, Stage, on_stage_as};
use super::{Answer, Backend, Place};
use reqwest::Method;
use rexec_api::ids::WorkspaceId;
use rexec_server::config::SshListen;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// A client's machine: keys, and what it knows of the gateway.
pub struct Desk {
    pub dir: TempDir,
    pub port: u16,
}

/// What a program left.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Done {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{} {}", String::from_utf8_lossy(&self.out), self.err);
        self
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("text")
    }
}

/// Runs a test on a stage with a gateway, and a desk whose key `id` is the user's.
pub async fn with_gateway(backend: Backend, test: impl AsyncFnOnce(&Place, Stage, &Desk) -> Stage) {
    with_gateway_as(backend, &[], test).await;
}

/// The same with these variables besides.
pub async fn with_gateway_as(
    backend: Backend,
    extra: &[(&str, &str)],
    test: impl AsyncFnOnce(&Place, Stage, &Desk) -> Stage,
) {
    let change = |config: &mut rexec_server::config::Config| config.ssh.listen = SshListen::At(0);
    on_stage_as(backend, extra, change, async |place, stage| {
        let desk = Desk::new(&stage).await;
        let key = desk.key("id").await;
        let added = post(&stage, stage.client.token().unwrap(), "/api/ssh/keys", json!({ "public_key": key })).await;
        assert_eq!(added.status, 201, "{added:?}");
        test(place, stage, &desk).await
    })
    .await;
}

pub async fn post(stage: &Stage, by: &str, path: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {by}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    stage.server.send(Method::POST, path, &headers, Some(body.to_string().into_bytes())).await
}

impl Desk {
    pub async fn new(stage: &Stage) -> Self {
        let port = stage.server.running.app.ssh.port().expect("a gateway");
        let desk = Self { dir: tempfile::tempdir().unwrap(), port };
        desk.trust(stage).await;
        desk
    }

    /// Believes from now on in the keys that the API tells, and in no others.
    pub async fn trust(&self, stage: &Stage) -> String {
        let told = stage.server.by(stage.client.token().unwrap(), Method::GET, "/api/ssh/host-keys").await.json();
        let key = told["items"][0]["public_key"].as_str().expect("a host key").to_owned();
        std::fs::write(self.path("known_hosts"), format!("[127.0.0.1]:{} {key}\n", self.port)).unwrap();
        told["items"][0]["fingerprint"].as_str().unwrap().to_owned()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a key pair; the line of its public half.
    pub async fn key(&self, name: &str) -> String {
        make_key(&self.path(name)).await
    }

    /// Options for any of OpenSSH's programs, with the key `name`.
    pub fn options(&self, name: &str) -> Vec<String> {
        let mut options = vec!["-F".to_owned(), "/dev/null".to_owned()];
        for option in [
            "StrictHostKeyChecking=yes".to_owned(),
            format!("UserKnownHostsFile={}", self.path("known_hosts").display()),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            format!("IdentityFile={}", self.path(name).display()),
            "UpdateHostKeys=no".to_owned(),
            "LogLevel=ERROR".to_owned(),
            "ConnectTimeout=60".to_owned(),
            format!("Port={}", self.port),
        ] {
            options.extend(["-o".to_owned(), option]);
        }
        options
    }

    /// `ssh`, up to its destination, that asks nobody anything.
    pub fn ssh(&self) -> Command {
        self.ssh_as("id")
    }

    pub fn ssh_as(&self, key: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options(key)).args(["-o", "BatchMode=yes"]);
        ssh
    }

    /// Runs a command in a workspace.
    pub async fn run(&self, login: &str, command: &str) -> Done {
        finish(self.ssh().args(["-l", login, "127.0.0.1", command]), b"").await
    }

    /// The same for programs that take the way to the other side as one text.
    pub fn as_shell_words(&self) -> String {
        let words: Vec<_> = self.options("id").into_iter().map(|word| format!("'{word}'")).collect();
        format!("ssh -o BatchMode=yes {}", words.join(" "))
    }

    /// A program that OpenSSH asks for a password.
    pub fn answer_with(&self, command: &mut Command, secret: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let program = self.path("askpass");
        std::fs::write(&program, format!("#!/bin/sh\necho '{secret}'\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        command.env("SSH_ASKPASS", program).env("SSH_ASKPASS_REQUIRE", "force").env("DISPLAY", ":0");
    }
}

/// Makes a key pair, with its file's name for a comment; the line of its public half.
pub async fn make_key(path: &Path) -> String {
    let mut keygen = Command::new("ssh-keygen");
    let comment = path.file_name().unwrap();
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C"]).arg(comment).arg("-f").arg(path);
    finish(&mut keygen, b"").await.ok();
    std::fs::read_to_string(path.with_extension("pub")).unwrap()
}

/// What the audit log has of a workspace's SSH channels.
pub async fn logged(stage: &Stage, id: WorkspaceId) -> Vec<(String, Value)> {
    #[derive(sea_orm::FromQueryResult)]
    struct Row {
        kind: String,
        data_json: String,
    }
    let text = "SELECT kind, data_json FROM events WHERE workspace_id = $1 AND kind LIKE 'ssh.%' ORDER BY id";
    let db = &stage.server.running.app.db;
    let rows = rexec_server::db::fetch_all::<Row, _>(db.read(), text, [id.to_string().into()]).await.unwrap();
    rows.into_iter().map(|row| (row.kind, serde_json::from_str(&row.data_json).unwrap())).collect()
}

/// Runs a program to its end with this on its standard input.
pub async fn finish(command: &mut Command, stdin: &[u8]) -> Done {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.env_remove("SSH_AUTH_SOCK");
    let mut child = command.spawn().expect("a program");
    let mut input = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    tokio::spawn(async move {
        // The program may have ended before it took all.
        let _ = input.write_all(&stdin).await;
    });
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{command:?} hangs")).unwrap();
    Done { code: output.status.code(), out: output.stdout, err: String::from_utf8_lossy(&output.stderr).into_owned() }
}
