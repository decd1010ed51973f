//! The two sides: our gateway with a workspace behind it, and OpenSSH's `sshd` on the same machine; both spoken to by
//! OpenSSH's own programs with one key.

use crate::ours::Ours;
use anyhow::{Context, Result, ensure};
use rexec_api::ids::WorkspaceId;
use rexec_api::ssh::NewSshKey;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// Where Debian and others keep it; it wants to be called by its whole path.
const SSHD: &str = "/usr/sbin/sshd";
/// `sshd` refuses to start without it.
const PRIVILEGE_DIRECTORY: &str = "/run/sshd";
const PATIENCE: Duration = Duration::from_secs(30);

/// One server to connect to.
pub struct Side {
    pub name: &'static str,
    pub login: String,
    /// Where files are put.
    pub directory: String,
    options: Vec<String>,
}

/// Both sides, and what they need as long as they are used.
pub struct Sides {
    pub ours: Side,
    pub peer: Side,
    pub dir: tempfile::TempDir,
    sshd: Child,
}

impl Sides {
    pub async fn open(server: &Ours, workspace: WorkspaceId) -> Result<Self> {
        ensure!(Path::new(SSHD).exists(), "{SSHD} is missing: apt-get install openssh-server");
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        for key in ["client", "host"] {
            keygen(&at(key)).await?;
        }
        let public_key = std::fs::read_to_string(at("client.pub"))?;
        server.client.add_ssh_key(&NewSshKey { name: None, public_key }).await?;
        let known = at("known_hosts");
        let ours_port = server.client.ssh_connect(workspace).await?.target.context("no gateway runs")?.port;
        let (sshd, peer_port) = sshd(dir.path()).await?;
        let side = |name, login: String, port: u16, directory: String| Side {
            name,
            login,
            directory,
            options: options(&at("client"), &known, port),
        };
        let user = std::env::var("USER").unwrap_or_else(|_| "root".into());
        let far = at("far");
        std::fs::create_dir(&far)?;
        Ok(Self {
            ours: side("ours", workspace.to_string(), ours_port, "/home/user".into()),
            peer: side("sshd", user, peer_port, far.display().to_string()),
            dir,
            sshd,
        })
    }

    pub async fn close(mut self) -> Result<()> {
        self.sshd.kill().await?;
        Ok(())
    }
}

impl Side {
    /// One of OpenSSH's programs, set up for this side, up to what it is to do.
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        command.env_remove("SSH_AUTH_SOCK");
        command
    }

    pub fn ssh(&self) -> Command {
        let mut ssh = self.program("ssh");
        ssh.args(["-l", &self.login]).stdout(Stdio::piped());
        ssh
    }

    /// The other side as `sftp` and `scp` name it.
    pub fn place(&self, path: &str) -> String {
        format!("{}@127.0.0.1:{path}", self.login)
    }

    /// The key exchange that the client and this side agree on.
    pub async fn key_exchange(&self) -> Result<String> {
        let mut ssh = self.ssh();
        let output = ssh.args(["-v", "127.0.0.1", "true"]).output().await?;
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find_map(|line| line.split_once("kex: algorithm: "));
        Ok(line.context("ssh -v names no key exchange")?.1.trim().to_owned())
    }
}

/// Runs a program to its end, which must be a good one.
pub async fn finish(command: &mut Command) -> Result<()> {
    let output = command.output().await?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Reads until `end` has come.
pub async fn until(from: &mut (impl AsyncReadExt + Unpin), end: &[u8]) -> Result<()> {
    let mut seen = Vec::new();
    while !seen.windows(end.len()).any(|part| part == end) {
        ensure!(from.read_buf(&mut seen).await? > 0, "it ended: {}", String::from_utf8_lossy(&seen));
    }
    Ok(())
}

fn options(key: &Path, known: &Path, port: u16) -> Vec<String> {
    let mut options = vec!["-F".to_owned(), "/dev/null".to_owned()];
    for option in [
        "BatchMode=yes".to_owned(),
        "StrictHostKeyChecking=accept-new".to_owned(),
        format!("UserKnownHostsFile={}", known.display()),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "UpdateHostKeys=no".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "IdentityAgent=none".to_owned(),
        format!("IdentityFile={}", key.display()),
        "PreferredAuthentications=publickey".to_owned(),
        format!("Port={port}"),
    ] {
        options.extend(["-o".to_owned(), option]);
    }
    options
}

pub async fn keygen(path: &PathBuf) -> Result<()> {
    finish(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path)).await
}

/// An `sshd` with nothing but what these figures need. Bash reads `~/.bashrc` for one that has no shell above it; whatever
/// this machine's says would be counted as the server's.
pub async fn sshd(dir: &Path) -> Result<(Child, u16)> {
    std::fs::create_dir_all(PRIVILEGE_DIRECTORY)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let keys = dir.join("authorized_keys");
    std::fs::copy(dir.join("client.pub"), &keys)?;
    let config = dir.join("sshd_config");
    let text = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
         PermitRootLogin yes\nPasswordAuthentication no\nPrintMotd no\nPrintLastLog no\nMaxStartups 1000\n\
         Subsystem sftp internal-sftp\nSetEnv SHLVL=1\n",
        dir.join("host").display(),
        keys.display()
    );
    std::fs::write(&config, text)?;
    let mut child = Command::new(SSHD)
        .args(["-D", "-f"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        ensure!(child.try_wait()?.is_none() && tokio::time::Instant::now() < deadline, "sshd does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok((child, port))
}
