//! Keystrokes through an engine of another machine, reached by SSH, against the same engine's own socket: what the way costs.
//!
//! The other machine is this one, behind an `sshd` of its own, so that no network's time is in the figure.

use super::echo::{keys_on_ours, told};
use super::ssh::sides::{keygen, sshd};
use crate::ours::Ours;
use crate::report::{Bound, Report, percentile};
use anyhow::Result;
use rexec_api::ids::WorkspaceId;
use std::path::Path;

const KEYS_PER_TURN: usize = 200;
const TURNS: usize = 8;
const PROGRAM: [&str; 1] = ["cat"];

pub async fn run(
    local: &Ours,
    workspace: WorkspaceId,
    binary: &Path,
    socket: &Path,
    report: &mut Report,
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    for key in ["client", "host"] {
        keygen(&dir.path().join(key)).await?;
    }
    let (mut sshd, port) = sshd(dir.path()).await?;
    let user = std::env::var("USER").unwrap_or_else(|_| "root".into());
    let address = format!("ssh://{user}@127.0.0.1:{port}{}", socket.display());
    let key = std::fs::read_to_string(dir.path().join("client"))?;
    let far = Ours::start_with(binary, socket, &[("DOCKER_HOST", &address), ("SSH_PRIVATE_KEY", &key)]).await?;
    let outcome = compare(local, workspace, &far, report).await;
    far.stop().await?;
    sshd.kill().await?;
    outcome
}

async fn compare(local: &Ours, workspace: WorkspaceId, far: &Ours, report: &mut Report) -> Result<()> {
    let distant = far.workspace().await?.id;
    let mut near = local.terminal(workspace, &PROGRAM).await?;
    let mut far = far.terminal(distant, &PROGRAM).await?;
    keys_on_ours(&mut near, 50).await?;
    keys_on_ours(&mut far, 50).await?;
    let (mut on_near, mut on_far) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        on_near.extend(keys_on_ours(&mut near, KEYS_PER_TURN).await?);
        on_far.extend(keys_on_ours(&mut far, KEYS_PER_TURN).await?);
    }
    let (by_socket, by_ssh) = (percentile(&mut on_near, 50.0), percentile(&mut on_far, 50.0));
    let more = (by_ssh.as_secs_f64() - by_socket.as_secs_f64()) * 1e3;
    let sides = format!("socket {}  ssh {}", told(&mut on_near), told(&mut on_far));
    report.figure("echo p50 by SSH above the socket's", &sides, more, "ms", Bound::AtMost(1.0));
    local.client.delete_terminal(workspace, near.id).await?;
    Ok(())
}
