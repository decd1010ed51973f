//! Keystrokes: from sending one byte to having it back from the kernel's terminal.

use super::Stage;
use crate::ours::Terminal;
use crate::peer::Exec;
use crate::report::{Bound, Report, percentile, show};
use anyhow::Result;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Keystrokes of one turn; turns alternate between the sides.
const KEYS_PER_TURN: usize = 100;
const TURNS: usize = 8;
/// A machine that is slower for a moment spoils a round and not the figure, which is the median of theirs.
const ROUNDS: usize = 7;
/// Others that type at the same time, and how often each of them does.
const CROWD: usize = 100;
const CROWD_KEY_EVERY: Duration = Duration::from_millis(200);
/// A pause between measured keys, so that they are keystrokes and no stream.
const KEY_GAP: Duration = Duration::from_millis(2);
/// Echoes what is typed by the terminal itself; prints nothing of its own.
const PROGRAM: [&str; 1] = ["cat"];

pub async fn alone(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    tell(report, "echo alone", measure(stage).await?);
    Ok(())
}

/// The same with a hundred others typing on the same side.
pub async fn crowd(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let mut typists = JoinSet::new();
    for _ in 0..CROWD {
        let terminal = stage.ours.terminal(stage.workspace, &PROGRAM).await?;
        typists.spawn(type_on_ours(terminal));
    }
    for _ in 0..CROWD {
        typists.spawn(type_on_peer(stage.peer.exec(&stage.container, &PROGRAM).await?));
    }
    let rounds = measure(stage).await?;
    typists.shutdown().await;
    tell(report, "echo beside 100 others", rounds);
    for terminal in stage.ours.client.terminals(stage.workspace).await?.items {
        stage.ours.client.delete_terminal(stage.workspace, terminal.id).await?;
    }
    Ok(())
}

/// Samples of either side, by round.
type Rounds = Vec<(Vec<Duration>, Vec<Duration>)>;

fn tell(report: &mut Report, name: &str, mut rounds: Rounds) {
    for (percent, bound) in [(50.0, 0.95), (99.0, 1.0)] {
        let mut at: Vec<_> = rounds
            .iter_mut()
            .map(|(ours, peer)| (percentile(ours, percent), percentile(peer, percent)))
            .map(|(ours, peer)| (ours.as_secs_f64() / peer.as_secs_f64(), ours, peer))
            .collect();
        at.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, ours, peer) = at[at.len() / 2];
        let all: Vec<_> = at.iter().map(|(ratio, ..)| format!("{ratio:.2}")).collect();
        let sides = format!("ours {}  engine {}; median of {}", show(ours), show(peer), all.join(" "));
        report.figure(&format!("{name}, p{percent:.0}"), &sides, ratio, "x", Bound::AtMost(bound));
    }
}

async fn measure(stage: &Stage<'_>) -> Result<Rounds> {
    let mut terminal = stage.ours.terminal(stage.workspace, &PROGRAM).await?;
    let mut exec = stage.peer.exec(&stage.container, &PROGRAM).await?;
    keys_on_ours(&mut terminal, 50).await?;
    keys_on_peer(&mut exec, 50).await?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            ours.extend(keys_on_ours(&mut terminal, KEYS_PER_TURN).await?);
            peer.extend(keys_on_peer(&mut exec, KEYS_PER_TURN).await?);
        }
        rounds.push((ours, peer));
    }
    stage.ours.client.delete_terminal(stage.workspace, terminal.id).await?;
    exec.write(b"\n\x04").await?;
    Ok(rounds)
}

/// A key that is never more than a line's length away from a newline (the kernel keeps 4095).
fn key(i: usize) -> &'static [u8] {
    if i % 64 == 63 { b"\n" } else { b"k" }
}

pub async fn keys_on_ours(terminal: &mut Terminal, keys: usize) -> Result<Vec<Duration>> {
    let mut samples = Vec::with_capacity(keys);
    for i in 0..keys {
        tokio::time::sleep(KEY_GAP).await;
        let began = Instant::now();
        terminal.write(key(i)).await?;
        terminal.receive().await?;
        samples.push(began.elapsed());
        terminal.acknowledge().await?;
        if key(i) == b"\n" {
            // `cat` repeats the line; it may come in one piece with the echo or behind it.
            samples.pop();
            drain(async || terminal.read().await.map(drop)).await;
        }
    }
    Ok(samples)
}

pub async fn keys_on_peer(exec: &mut Exec, keys: usize) -> Result<Vec<Duration>> {
    let mut samples = Vec::with_capacity(keys);
    let mut buffer = [0; 4096];
    for i in 0..keys {
        tokio::time::sleep(KEY_GAP).await;
        let began = Instant::now();
        exec.write(key(i)).await?;
        exec.read(&mut buffer).await?;
        samples.push(began.elapsed());
        if key(i) == b"\n" {
            samples.pop();
            drain(async || exec.read(&mut buffer).await.map(drop)).await;
        }
    }
    Ok(samples)
}

/// Reads until nothing has come for a while.
async fn drain(mut read: impl AsyncFnMut() -> Result<()>) {
    const QUIET: Duration = Duration::from_millis(20);
    while matches!(tokio::time::timeout(QUIET, read()).await, Ok(Ok(()))) {}
}

async fn type_on_ours(mut terminal: Terminal) {
    let mut i = 0;
    loop {
        tokio::time::sleep(CROWD_KEY_EVERY).await;
        if terminal.write(key(i)).await.is_err() || terminal.read().await.is_err() {
            return;
        }
        i += 1;
    }
}

async fn type_on_peer(mut exec: Exec) {
    let mut i = 0;
    let mut buffer = [0; 4096];
    loop {
        tokio::time::sleep(CROWD_KEY_EVERY).await;
        if exec.write(key(i)).await.is_err() || exec.read(&mut buffer).await.is_err() {
            return;
        }
        i += 1;
    }
}

/// The 99th percentile of a typist's keys, for figures that compare it under load.
pub fn p99(samples: &mut [Duration]) -> Duration {
    percentile(samples, 99.0)
}

pub fn told(samples: &mut [Duration]) -> String {
    format!("p50 {} p99 {}", show(percentile(samples, 50.0)), show(percentile(samples, 99.0)))
}
