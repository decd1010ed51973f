//! A hundred workspaces asked for at once, against a hundred containers at the engine's own best rate.

use super::Stage;
use crate::report::{Bound, Report};
use anyhow::{Context as _, Result};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use futures_util::{TryFutureExt as _, future::try_join_all};
use rexec_api::workspaces::NewWorkspace;
use std::time::{Duration, Instant};

const COUNT: usize = 100;
/// How many calls of the engine's go on at once; the best of them is the peer.
const WIDTHS: [usize; 5] = [1, 2, 4, 8, 16];
const TRIAL: usize = 16;
/// Of a creation, while a hundred go on.
const WAIT_MS: u64 = 120_000;

pub async fn run(stage: &mut Stage<'_>, report: &mut Report) -> Result<()> {
    let mut rates = Vec::new();
    for width in WIDTHS {
        rates.push((width, per_second(TRIAL, containers(stage, TRIAL, width).await?)));
    }
    let told: Vec<String> = rates.iter().map(|(width, rate)| format!("{width}: {rate:.2}/s")).collect();
    report.note(format!("the engine's rate by how many calls go on at once: {}", told.join("  ")));
    let (width, _) = rates.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).context("a rate")?;
    let before = containers(stage, COUNT, width).await?;
    let (ours, longest) = workspaces(stage).await?;
    let after = containers(stage, COUNT, width).await?;
    report.note(format!("the longest queue that somebody was told of: {longest}"));
    report.speed("creating 100 cold, rate", ours, (before + after) / 2, Bound::AtLeast(0.95));
    Ok(())
}

/// The time until all run; they are removed after it.
async fn containers(stage: &mut Stage<'_>, count: usize, width: usize) -> Result<Duration> {
    let names: Vec<String> = (0..count).map(|_| stage.fresh_name()).collect();
    let (peer, model) = (&stage.peer, &stage.model);
    let began = Instant::now();
    let made: Vec<(String, &String)> = stream::iter(&names)
        .map(|name| peer.container_like(model, name, name).map_ok(move |id| (id, name)))
        .buffer_unordered(width)
        .try_collect()
        .await?;
    let took = began.elapsed();
    for (container, home) in made {
        peer.remove(&container, home).await?;
    }
    Ok(took)
}

/// The time until the guests of all have answered, and the longest queue that was told meanwhile.
async fn workspaces(stage: &Stage<'_>) -> Result<(Duration, u64)> {
    let client = &stage.ours.client;
    let began = Instant::now();
    let new = NewWorkspace { wait_ms: Some(WAIT_MS), ..Default::default() };
    let all = try_join_all((0..COUNT).map(|_| client.create_workspace(&new)));
    let mut all = std::pin::pin!(all);
    let mut longest = 0;
    let made = loop {
        tokio::select! {
            made = &mut all => break made?,
            () = tokio::time::sleep(Duration::from_millis(500)) => longest = longest.max(longest_queue(stage).await?),
        }
    };
    let took = began.elapsed();
    for workspace in made {
        client.purge_workspace(workspace.id).await?;
    }
    Ok((took, longest))
}

async fn longest_queue(stage: &Stage<'_>) -> Result<u64> {
    let items = stage.ours.client.workspaces().await?.items;
    let place = |reason: &str| reason.split_whitespace().find_map(|word| word.parse().ok());
    Ok(items.iter().filter_map(|view| view.status_reason.as_deref().and_then(place)).max().unwrap_or_default())
}

fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
