//! Warm workspaces: a claim alone and in a burst against a cold container, and what filling the pool costs those who type.

use super::Stage;
use super::echo::{keys_on_ours, p99, told};
use crate::ours::{Ours, Terminal};
use crate::report::{Bound, Report, percentile};
use anyhow::{Context as _, Result, bail};
use futures_util::future::try_join_all;
use rexec_api::ids::WorkspaceId;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SIZE: u32 = 50;
const CLAIMS: usize = 20;
const COLD: usize = 15;
/// Between two claims of one person: nothing else goes on then.
const GAP: Duration = Duration::from_millis(300);
/// Typed where nothing is made.
const KEYS: usize = 10_000;
/// Typed between two looks at what has been made.
const KEYS_AT_ONCE: usize = 200;
/// Made while keys are typed.
const MADE: u32 = 6;
const PATIENCE: Duration = Duration::from_secs(600);
/// As our own pool rests after each while somebody types, on one core.
const REST_TIMES: u32 = 120;
const SHELL: [&str; 2] = ["/bin/bash", "-l"];

pub async fn run(stage: &mut Stage<'_>, binary: &Path, socket: &Path, report: &mut Report) -> Result<()> {
    let size = SIZE.to_string();
    let variables = [("REXEC_POOL_SIZE", size.as_str()), ("REXEC_POOL_MAX", size.as_str())];
    let mut ours = Ours::start_with(binary, socket, &variables).await?;
    let outcome = measure(stage, &ours, report).await;
    for workspace in ours.client.workspaces().await?.items {
        ours.client.purge_workspace(workspace.id).await?;
    }
    ours.end().await?;
    // One without a pool takes what is left of it away.
    let mut ours = ours.restart(binary, socket).await?;
    ours.log_in().await?;
    until_warm(&ours, 0).await?;
    ours.end().await?;
    outcome
}

async fn measure(stage: &mut Stage<'_>, ours: &Ours, report: &mut Report) -> Result<()> {
    let typist = ours.workspace().await?.id;
    until_warm(ours, SIZE).await?;
    let mut cold = Vec::new();
    for _ in 0..COLD {
        let name = stage.fresh_name();
        let began = Instant::now();
        let container = stage.peer.container_like(&stage.model, &name, &name).await?;
        stage.peer.exec(&container, &SHELL).await?.read(&mut [0; 4096]).await?;
        cold.push(began.elapsed());
        stage.peer.remove(&container, &name).await?;
    }
    let cold = percentile(&mut cold, 50.0);
    let (mut claims, mut made) = (Vec::new(), Vec::new());
    for _ in 0..CLAIMS {
        tokio::time::sleep(GAP).await;
        let (took, id) = claim(ours).await?;
        claims.push(took);
        made.push(id);
    }
    let p50 = percentile(&mut claims, 50.0);
    report.figure("warm claim to first prompt byte, p50", &told(&mut claims), ms(p50), "ms", Bound::AtMost(20.0));
    report.times("the same against a cold container", p50, cold, Bound::AtMost(0.10));
    remove(ours, made).await?;

    until_warm(ours, SIZE).await?;
    let mut terminal = ours.terminal(typist, &["cat"]).await?;
    keys_on_ours(&mut terminal, 50).await?;
    let quiet = keys_on_ours(&mut terminal, KEYS).await?;
    let mut beside = Beside { quiet, all: beside_the_engine(stage, &mut terminal).await? };
    let burst = try_join_all((0..SIZE).map(|_| claim(ours))).await?;
    let (mut times, made): (Vec<_>, Vec<_>) = burst.into_iter().unzip();
    report.note(format!("burst of {SIZE}: {} of {SIZE} made, {}", made.len(), told(&mut times)));
    report.times("burst of 50 from a pool of 50, p99", p99(&mut times), cold, Bound::AtMost(1.0));
    filling(&mut terminal, &mut beside, ours, report).await?;
    remove(ours, made).await
}

/// The same keys while the engine alone makes containers, at the pace at which a pool is filled: what of a pool's cost is the
/// engine's.
async fn beside_the_engine(stage: &mut Stage<'_>, terminal: &mut Terminal) -> Result<Vec<Duration>> {
    let cores = u32::try_from(std::thread::available_parallelism()?.get())?;
    let count = AtomicU32::new(0);
    let keys = keys_until(terminal, async || Ok(count.load(Ordering::Relaxed) > MADE));
    let making = async {
        let mut made = Vec::new();
        for _ in 0..=MADE {
            let name = stage.fresh_name();
            let began = Instant::now();
            made.push((stage.peer.container_like(&stage.model, &name, &name).await?, name));
            tokio::time::sleep(began.elapsed() * REST_TIMES / cores).await;
            count.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(made)
    };
    let (keys, made) = tokio::join!(keys, making);
    for (container, home) in made? {
        stage.peer.remove(&container, &home).await?;
    }
    keys
}

/// Right after the burst the pool is being filled: all keys of that time against those of its rests, when as many workspaces run
/// and nothing is made.
async fn filling(terminal: &mut Terminal, beside: &mut Beside, ours: &Ours, report: &mut Report) -> Result<()> {
    keys_until(terminal, async || Ok(warm(ours).await? > 0.0)).await?;
    let (first, mut counts, mut chunks) = (warm(ours).await?, Vec::new(), Vec::new());
    while counts.last().is_none_or(|count| *count < first + f64::from(MADE)) {
        chunks.push(keys_on_ours(terminal, KEYS_AT_ONCE).await?);
        counts.push(warm(ours).await?);
    }
    // It is counted once it runs: it was made in that chunk, or in the one before.
    let grows = |i: usize| counts.get(i).is_some_and(|count| *count > if i == 0 { first } else { counts[i - 1] });
    let rests = chunks.iter().enumerate().filter(|(i, _)| !grows(*i) && !grows(i + 1));
    let mut rest: Vec<Duration> = rests.flat_map(|(_, chunk)| chunk.clone()).collect();
    let mut busy = chunks.concat();
    let sides = format!("resting {}  all of it {}", told(&mut rest), told(&mut busy));
    let ratio = p99(&mut busy).as_secs_f64() / p99(&mut rest).as_secs_f64();
    report.figure("echo p99 while the pool is filled", &sides, ratio, "x", Bound::AtMost(1.5));
    let ratio = p99(&mut beside.all).as_secs_f64() / p99(&mut beside.quiet).as_secs_f64();
    let sides = format!("quiet {}  making {}", told(&mut beside.quiet), told(&mut beside.all));
    report
        .note(format!("before the burst, while the engine alone makes containers at that pace: {ratio:.2}x, {sides}"));
    Ok(())
}

/// Keys of the same terminal before the burst.
struct Beside {
    /// While nothing was made.
    quiet: Vec<Duration>,
    /// While the engine made containers.
    all: Vec<Duration>,
}

async fn keys_until(terminal: &mut Terminal, is_over: impl AsyncFn() -> Result<bool>) -> Result<Vec<Duration>> {
    let mut keys = Vec::new();
    while !is_over().await? {
        keys.extend(keys_on_ours(terminal, KEYS_AT_ONCE).await?);
    }
    Ok(keys)
}

async fn claim(ours: &Ours) -> Result<(Duration, WorkspaceId)> {
    let began = Instant::now();
    let workspace = ours.workspace().await?.id;
    let mut terminal = ours.terminal(workspace, &[]).await?;
    terminal.read().await?;
    Ok((began.elapsed(), workspace))
}

async fn remove(ours: &Ours, made: Vec<WorkspaceId>) -> Result<()> {
    for id in made {
        ours.client.purge_workspace(id).await?;
    }
    Ok(())
}

async fn until_warm(ours: &Ours, count: u32) -> Result<()> {
    until(ours, |ready| ready == f64::from(count)).await
}

async fn until(ours: &Ours, fits: impl Fn(f64) -> bool) -> Result<()> {
    let began = Instant::now();
    while !fits(warm(ours).await?) {
        if began.elapsed() > PATIENCE {
            bail!("the pool does not get there");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Of the one server there is.
async fn warm(ours: &Ours) -> Result<f64> {
    let server = ours.client.servers().await?.items.into_iter().next().context("a server")?;
    Ok(server.pool.map_or(0.0, |pool| f64::from(pool.ready)))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
