//! From a request to the first byte of a prompt.

use super::Stage;
use crate::report::{Bound, Report, median};
use anyhow::Result;
use std::time::{Duration, Instant};

/// The same on both sides: the user's login shell.
const SHELL: [&str; 2] = ["/bin/bash", "-l"];

/// Nothing there -> container made, started, a shell's first byte.
pub async fn create(stage: &mut Stage<'_>, pairs: usize, report: &mut Report) -> Result<()> {
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..=pairs {
        let began = Instant::now();
        let workspace = stage.ours.workspace().await?.id;
        let mut terminal = stage.ours.terminal(workspace, &[]).await?;
        terminal.read().await?;
        ours.push(began.elapsed());
        stage.ours.client.purge_workspace(workspace).await?;

        let name = stage.fresh_name();
        let began = Instant::now();
        let container = stage.peer.container_like(&stage.model, &name, &name).await?;
        let mut exec = stage.peer.exec(&container, &SHELL).await?;
        exec.read(&mut [0; 4096]).await?;
        peer.push(began.elapsed());
        stage.peer.remove(&container, &name).await?;
    }
    // The first pair warms caches.
    report.times("cold create to first prompt byte", warm(&mut ours), warm(&mut peer), Bound::AtMost(1.05));
    Ok(())
}

/// In a running workspace: a new terminal against a new exec.
pub async fn terminal(stage: &Stage<'_>, pairs: usize, report: &mut Report) -> Result<()> {
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..=pairs {
        let began = Instant::now();
        let mut terminal = stage.ours.terminal(stage.workspace, &[]).await?;
        terminal.read().await?;
        ours.push(began.elapsed());
        stage.ours.client.delete_terminal(stage.workspace, terminal.id).await?;

        let began = Instant::now();
        let mut exec = stage.peer.exec(&stage.container, &SHELL).await?;
        exec.read(&mut [0; 4096]).await?;
        peer.push(began.elapsed());
        exec.write(b"exit\n").await?;
    }
    report.times("new terminal to first prompt byte", warm(&mut ours), warm(&mut peer), Bound::AtMost(0.25));
    Ok(())
}

fn warm(samples: &mut Vec<Duration>) -> Duration {
    samples.remove(0);
    median(samples)
}
