//! Our side: a `rexec serve` of its own, spoken to through its public API only.

use crate::wire::Wire;
use anyhow::{Context, Result, bail};
use rexec_api::ids::{TerminalId, WorkspaceId};
use rexec_api::terminals::NewTerminal;
use rexec_api::workspaces::{NewWorkspace, WorkspaceView};
use rexec_client::{Client, Method};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Kinds of frames (`rexec_api::frames`).
const INPUT: u8 = 0x00;
const ACKNOWLEDGE: u8 = 0x02;
const OUTPUT: u8 = 0x00;
const SNAPSHOT: u8 = 0x01;
const EXIT: u8 = 0x02;
const EMAIL: &str = "bench@example.com";
const PASSWORD: &str = "correct horse battery";
const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(15);

pub struct Ours {
    pub client: Client,
    child: Child,
    data: tempfile::TempDir,
}

/// A terminal's wire with what a reader needs: where it stands.
pub struct Terminal {
    pub id: TerminalId,
    wire: Wire,
    end: u64,
}

impl Ours {
    pub async fn start(binary: &Path, socket: &Path) -> Result<Self> {
        Self::start_with(binary, socket, &[]).await
    }

    /// With these variables besides.
    pub async fn start_with(binary: &Path, socket: &Path, variables: &[(&str, &str)]) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let (child, base) = serve(binary, socket, data.path(), variables).await?;
        let (client, _) = Client::new(base)?.register(EMAIL, PASSWORD).await?;
        let ours = Self { client, child, data };
        ours.until_ready().await?;
        Ok(ours)
    }

    /// Ends the server and starts another on the same data; nobody is signed in to it yet.
    pub async fn restart(mut self, binary: &Path, socket: &Path) -> Result<Self> {
        self.end().await?;
        let (child, base) = serve(binary, socket, self.data.path(), &[]).await?;
        Ok(Self { client: Client::new(base)?, child, data: self.data })
    }

    pub async fn log_in(&mut self) -> Result<()> {
        self.client = self.client.log_in(EMAIL, PASSWORD).await?.0;
        Ok(())
    }

    /// Where the server keeps its database.
    pub fn database(&self) -> std::path::PathBuf {
        self.data.path().join("rexec.db")
    }

    async fn until_ready(&self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + START_PATIENCE;
        while !self.client.request(Method::GET, "/ready").send().await?.status().is_success() {
            if tokio::time::Instant::now() > deadline {
                bail!("the server does not become ready; is the engine set up (`make setup`)?");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    pub async fn workspace(&self) -> Result<WorkspaceView> {
        let new = NewWorkspace { wait_ms: Some(60_000), ..Default::default() };
        Ok(self.client.create_workspace(&new).await?)
    }

    /// Opens a terminal and attaches to it.
    pub async fn terminal(&self, workspace: WorkspaceId, command: &[&str]) -> Result<Terminal> {
        open(&self.client, workspace, command).await
    }

    pub async fn stop(mut self) -> Result<()> {
        for workspace in self.client.workspaces().await?.items {
            self.client.purge_workspace(workspace.id).await?;
        }
        self.end().await
    }

    /// Ends the server and leaves what there is at the engine.
    pub async fn end(&mut self) -> Result<()> {
        let pid = self.pid();
        if pid != 0 {
            // SIGTERM, as an operator would.
            Command::new("kill").arg(pid.to_string()).status().await?;
        }
        tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await.context("the server did not end")??;
        Ok(())
    }
}

/// Runs a server and gives the address that it says.
async fn serve(binary: &Path, socket: &Path, data: &Path, variables: &[(&str, &str)]) -> Result<(Child, String)> {
    let mut child = Command::new(binary)
        .arg("serve")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOST", "127.0.0.1")
        .env("PORT", "0")
        .env("REXEC_SSH_PORT", free_port()?.to_string())
        .env("REXEC_DATA_DIR", data)
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .env("REXEC_REQUESTS_PER_SECOND", "0")
        .env("REXEC_SIGN_INS_PER_MINUTE", "0")
        .env("REXEC_PREPULL", "false")
        // Should this process be killed, `scripts/leftovers.sh` knows by it what to take away.
        .env("REXEC_ENGINE_LABELS", "rexec.test=bench")
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", binary.display()))?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
    let base = tokio::time::timeout(START_PATIENCE, async {
        while let Some(line) = lines.next_line().await? {
            if let Some(at) = line.find("http://") {
                return Ok(line[at..].split_whitespace().next().unwrap_or_default().to_owned());
            }
        }
        bail!("the server ended before it was ready")
    })
    .await
    .context("the server did not become ready")??;
    Ok((child, base))
}

/// A port that was free a moment ago; the gateway's cannot be left to the kernel.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub async fn open(client: &Client, workspace: WorkspaceId, command: &[&str]) -> Result<Terminal> {
    let command = (!command.is_empty()).then(|| command.iter().map(|arg| (*arg).to_owned()).collect());
    let new = NewTerminal { cols: 80, rows: 24, command, ..Default::default() };
    let id = client.create_terminal(workspace, &new).await?.id;
    attach(client, workspace, id).await
}

/// Attaches to a terminal that is there.
pub async fn attach(client: &Client, workspace: WorkspaceId, id: TerminalId) -> Result<Terminal> {
    let wire = Wire::attach(client, workspace, id).await?;
    Ok(Terminal { id, wire, end: 0 })
}

impl Terminal {
    /// The next output, acknowledged; returns its length.
    pub async fn read(&mut self) -> Result<usize> {
        let bytes = self.receive().await?.len();
        self.acknowledge().await?;
        Ok(bytes)
    }

    /// Acknowledges what was received, as a page does once it has drawn it.
    pub async fn acknowledge(&mut self) -> Result<()> {
        self.wire.send(ACKNOWLEDGE, &self.end.to_be_bytes()).await
    }

    /// The next output.
    pub async fn receive(&mut self) -> Result<&[u8]> {
        let length = loop {
            let (kind, payload) = self.wire.next().await?;
            let offset = payload.first_chunk().map(|offset| u64::from_be_bytes(*offset));
            match (kind, offset) {
                (OUTPUT, Some(offset)) => {
                    let length = payload.len() - size_of::<u64>();
                    self.end = offset + length as u64;
                    break length;
                }
                // A snapshot of a screen with something on it counts as output.
                (SNAPSHOT, Some(offset)) => {
                    self.end = offset;
                    if offset > 0 {
                        break payload.len() - size_of::<u64>();
                    }
                }
                (EXIT, _) => bail!("the program ended"),
                _ => {}
            }
        };
        Ok(self.wire.last(length))
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.send(INPUT, bytes).await
    }
}
