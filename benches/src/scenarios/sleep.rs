//! Pausing and waking: what it costs beyond the engine's own, and how soon a sleeper answers.

use super::Stage;
use crate::ours::attach;
use crate::report::{Bound, Report, median, show};
use anyhow::Result;
use rexec_api::idle::IdleSettings;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::Lifecycle;
use std::time::{Duration, Instant};

/// What a sleeper may take to its first byte.
const WAKE_MS_MAX: f64 = 40.0;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After a pause the engine tells of it, and our server looks: so long and that is over.
const CALM: Duration = Duration::from_millis(100);

pub async fn run(stage: &Stage<'_>, pairs: usize, report: &mut Report) -> Result<()> {
    pause_and_resume(stage, pairs, report).await?;
    wake(stage, pairs, report).await
}

async fn pause_and_resume(stage: &Stage<'_>, pairs: usize, report: &mut Report) -> Result<()> {
    let (mut ours, mut peer) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for pair in 0..=pairs {
        for (step, (request, word)) in
            [(Lifecycle::Pause, "pause"), (Lifecycle::Resume, "unpause")].into_iter().enumerate()
        {
            tokio::time::sleep(CALM).await;
            let began = Instant::now();
            stage.ours.client.lifecycle(stage.workspace, request).await?;
            let took = began.elapsed();
            tokio::time::sleep(CALM).await;
            let began = Instant::now();
            stage.peer.call("POST", &format!("/containers/{}/{word}", stage.container), None).await?;
            // The first pair warms caches.
            if pair > 0 {
                ours[step].push(took);
                peer[step].push(began.elapsed());
            }
        }
    }
    for (step, name) in ["pause", "resume"].into_iter().enumerate() {
        report.times(name, median(&mut ours[step]), median(&mut peer[step]), Bound::AtMost(1.5));
    }
    Ok(())
}

/// A workspace that fell asleep by itself -> somebody attaches -> the first byte of its screen.
async fn wake(stage: &Stage<'_>, times: usize, report: &mut Report) -> Result<()> {
    let client = &stage.ours.client;
    let idle = IdleSettings { pause_after_s: Some(1), ..Default::default() };
    let new = NewWorkspace { idle: Some(idle), wait_ms: Some(60_000), ..Default::default() };
    let workspace = client.create_workspace(&new).await?.id;
    let mut terminal = stage.ours.terminal(workspace, &[]).await?;
    terminal.read().await?;
    let id = terminal.id;
    drop(terminal);
    let mut samples = Vec::new();
    for _ in 0..times {
        until_asleep(stage, workspace).await?;
        let began = Instant::now();
        attach(client, workspace, id).await?.receive().await?;
        samples.push(began.elapsed());
    }
    let p50 = median(&mut samples);
    let (least, most) = (samples.first().copied().unwrap_or_default(), samples.last().copied().unwrap_or_default());
    let sides = format!("of {times}, {} to {}", show(least), show(most));
    let millis = p50.as_secs_f64() * 1e3;
    report.figure("wake on attach to first byte, p50", &sides, millis, "ms", Bound::AtMost(WAKE_MS_MAX));
    client.purge_workspace(workspace).await?;
    Ok(())
}

async fn until_asleep(stage: &Stage<'_>, workspace: WorkspaceId) -> Result<()> {
    while stage.ours.client.workspace(workspace).await?.status != WorkspaceStatus::Paused {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tokio::time::sleep(CALM).await;
    Ok(())
}
