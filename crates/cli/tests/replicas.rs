//! Two real servers on one database: one has the engine, the other is used. The first is killed, and started again.
#![allow(clippy::unwrap_used)]

use futures_util::FutureExt as _;
use rexec_api::ids::{TerminalId, WorkspaceId};
use rexec_api::terminals::NewTerminal;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::{AttachOptions, Attachment, Client, Received};
use rexec_engine::{Engine as _, Labels, docker::DockerEngine};
use sqlx::{Connection as _, Executor as _};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const LINES: u32 = 300;

struct Served {
    child: Child,
    client: Client,
}

fn engine_address() -> String {
    let usual = || format!("unix://{}", rexec_server::hosts::usual_socket().display());
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| usual())
}

async fn serve(dir: &Path, database: &str, port: u16, engine: &str) -> Served {
    std::fs::create_dir_all(dir).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rexec"));
    command
        .arg("serve")
        .current_dir(dir)
        .env("HOST", "127.0.0.1")
        .env("PORT", port.to_string())
        .env("REXEC_ADVERTISE_URL", format!("http://127.0.0.1:{port}"))
        .env("REXEC_SSH_PORT", "0")
        .env("REXEC_DATA_DIR", dir)
        .env("REXEC_PREPULL", "false")
        // Should this process be killed, `scripts/leftovers.sh` knows by the label what to take away.
        .env("REXEC_ENGINE_LABELS", "rexec.test=replicas")
        .env("DOCKER_HOST", engine)
        .env("DATABASE_URL", database)
        .env("JWT_SECRET", "a secret of the tests alone")
        .env("RUST_LOG", "error")
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it does not start").unwrap();
    let address = line.as_deref().and_then(|line| line.strip_prefix("Rexec is ready: ")).expect("its address");
    Served { client: Client::new(address).unwrap(), child }
}

async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "in vain waited for: {what}");
        tokio::time::sleep(POLL).await;
    }
}

async fn execute(url: &str, statement: String) {
    let mut admin = sqlx::PgConnection::connect(url).await.unwrap();
    admin.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    admin.close().await.unwrap();
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A terminal that is followed over as many connections as it takes; each byte comes once.
struct Terminal<'a> {
    client: &'a Client,
    at: (WorkspaceId, TerminalId),
    attachment: Attachment,
    end: Option<u64>,
    seen: Vec<u8>,
}

impl Terminal<'_> {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    async fn until(&mut self, text: &str) {
        while !self.text().contains(text) {
            match tokio::time::timeout(PATIENCE, self.attachment.next()).await.expect("nothing came") {
                Ok(Received::Output { offset, bytes }) => {
                    assert!(self.end.is_none_or(|end| end == offset), "bytes were lost or doubled");
                    self.end = Some(offset + bytes.len() as u64);
                    self.seen.extend_from_slice(&bytes);
                }
                Ok(Received::Snapshot { offset, bytes }) => {
                    assert!(self.end.is_none(), "what was missed is not there any more");
                    (self.end, self.seen) = (Some(offset), bytes.to_vec());
                }
                Ok(Received::Closed(_)) | Err(_) => {
                    let options = AttachOptions { offset: self.end, ..AttachOptions::default() };
                    let attach = async || self.client.attach(self.at.0, self.at.1, options).await.ok();
                    self.attachment = eventually("the terminal is there again", attach).await;
                }
                Ok(_) => {}
            }
            if let Some(end) = self.end {
                // The connection may be gone already; what comes next says so.
                let _ = self.attachment.acknowledge(end).await;
            }
        }
    }
}

async fn life(dir: &Path, database: &str) {
    let (one_port, two_port) = (free_port(), free_port());
    let mut one = serve(&dir.join("one"), database, one_port, &engine_address()).await;
    let nowhere = format!("unix://{}/no-engine.sock", dir.display());
    let two = serve(&dir.join("two"), database, two_port, &nowhere).await;
    let (admin, _) = one.client.clone().register("ada@example.com", "correct horse battery").await.unwrap();
    let there = two.client.clone().with_token(admin.token().unwrap());
    let made = eventually("it is made through the other", async || {
        let new = NewWorkspace { memory_mb: Some(256), wait_ms: Some(60_000), ..Default::default() };
        there.create_workspace(&new).await.ok()
    })
    .await;
    let id = made.id;
    let outcome = AssertUnwindSafe(async {
        assert_eq!(made.status, WorkspaceStatus::Running, "{made:?}");
        let command = Some(vec!["/bin/sh".to_owned()]);
        let new = NewTerminal { cols: 80, rows: 24, command, ..Default::default() };
        let terminal = there.create_terminal(id, &new).await.unwrap().id;
        let attachment = there.attach(id, terminal, AttachOptions::default()).await.unwrap();
        let mut terminal = Terminal { client: &there, at: (id, terminal), attachment, end: None, seen: Vec::new() };
        let typed = format!("for n in $(seq 1 {LINES}); do echo line-$n; sleep 0.05; done; echo o''ver\n");
        terminal.attachment.input(typed.as_bytes()).await.unwrap();
        terminal.until("line-3\r").await;

        // SIGKILL, and nothing is said to anybody.
        one.child.kill().await.unwrap();
        let again = serve(&dir.join("one"), database, one_port, &engine_address()).await;
        terminal.until("over\r").await;
        let text = terminal.text();
        for n in 1..=LINES {
            assert_eq!(text.matches(&format!("line-{n}\r")).count(), 1, "line {n}");
        }
        there.purge_workspace(id).await.unwrap();
        eventually("nothing of it is left", async || remains(id).await.is_empty().then_some(())).await;
        drop(again);
    });
    let outcome = outcome.catch_unwind().await;
    let engine = DockerEngine::connect(&engine_address()).unwrap();
    for name in remains(id).await {
        engine.remove(&name).await.unwrap();
    }
    if let Err(panic) = outcome {
        let labels = Labels::from([("rexec.workspace".to_owned(), id.to_string())]);
        for volume in engine.volumes(&labels).await.unwrap() {
            engine.remove_volume(&volume.name).await.unwrap();
        }
        resume_unwind(panic);
    }
}

async fn remains(id: WorkspaceId) -> Vec<String> {
    let labels = Labels::from([("rexec.workspace".to_owned(), id.to_string())]);
    let engine = DockerEngine::connect(&engine_address()).unwrap();
    engine.containers(&labels).await.unwrap().into_iter().map(|container| container.id).collect()
}

#[tokio::test]
async fn a_terminal_at_one_server_outlives_the_death_of_the_one_that_has_the_engine() {
    let admin = std::env::var("REXEC_TEST_POSTGRES_URL")
        .expect("REXEC_TEST_POSTGRES_URL is not set: run `make test`, which starts a PostgreSQL for the tests");
    let name = format!("rexec_test_{}", uuid::Uuid::new_v4().simple());
    let (server, query) = admin.split_once('?').unwrap_or((&admin, ""));
    let url = format!("{}/{name}?{query}", server.rsplit_once('/').unwrap().0);
    execute(&admin, format!("CREATE DATABASE {name}")).await;
    let dir = tempfile::tempdir().unwrap();
    let outcome = AssertUnwindSafe(life(dir.path(), url.trim_end_matches('?'))).catch_unwind().await;
    execute(&admin, format!("DROP DATABASE {name} WITH (FORCE)")).await;
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}
