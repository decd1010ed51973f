//! A terminal that streams as fast as it can: its speed, its cost, and what its neighbour feels.

use super::{Stage, echo};
use crate::ours::{self, Terminal};
use crate::peer::Exec;
use crate::procs;
use crate::report::{Bound, Report};
use anyhow::Result;
use std::time::{Duration, Instant};
use tokio::sync::oneshot::error::TryRecvError;

const MIB: f64 = 1024.0 * 1024.0;
/// What one measured stretch reads.
const STRETCH_BYTES: usize = 256 * 1024 * 1024;
const STRETCHES: usize = 3;
/// Long lines as fast as one process can write them, by a program that has its terminal raw: what the
/// kernel spends on turning LF into CR LF would else be most of what is measured, on either side.
const FLOOD: [&str; 3] = [
    "/bin/sh",
    "-c",
    "stty raw; exec python3 -c \"import os\nb = (b'x' * 98 + b'\\r\\n') * 655\nwhile 1: os.write(1, b)\"",
];
/// Keys that the neighbour types while the flood runs.
const NEIGHBOUR_KEYS: usize = 600;
/// How often a typist is compared with itself.
const ROUNDS: usize = 7;

pub async fn run(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let guest = stage.model["State"]["Pid"].as_u64().unwrap_or(0) as u32;
    let ours_pids = [stage.ours.pid(), guest];
    let peer_pids = daemon_pids(stage);

    let mut flood = stage.ours.terminal(stage.workspace, &FLOOD).await?;
    let mut exec = stage.peer.exec(&stage.container, &FLOOD).await?;
    read_ours(&mut flood, STRETCH_BYTES / 8).await?;
    let (mut ours_speed, mut peer_speed) = (Vec::new(), Vec::new());
    let (mut ours_cpu, mut peer_cpu) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..STRETCHES {
        // While one side is read, the other is stopped by its own flow control.
        let before = procs::cpu_of(&ours_pids);
        ours_speed.push(read_ours(&mut flood, STRETCH_BYTES).await?);
        ours_cpu += procs::cpu_of(&ours_pids) - before;
        let before = procs::cpu_of(&peer_pids);
        peer_speed.push(read_peer(&mut exec, STRETCH_BYTES).await?);
        peer_cpu += procs::cpu_of(&peer_pids) - before;
    }
    let mib = (STRETCHES * STRETCH_BYTES) as f64 / MIB;
    let (ours_alone, peer_alone) = (middle(&mut ours_speed), middle(&mut peer_speed));
    report.note(format!("stream alone: ours {ours_alone:.0} MiB/s, engine {peer_alone:.0} MiB/s"));
    let per_mib = |cpu: Duration| cpu.as_secs_f64() * 1e3 / mib;
    report.figure(
        "server and guest CPU per MiB",
        &format!("ours {:.2} ms/MiB  daemon and shim {:.2} ms/MiB", per_mib(ours_cpu), per_mib(peer_cpu)),
        per_mib(ours_cpu) / per_mib(peer_cpu).max(1e-9),
        "x",
        Bound::AtMost(0.6),
    );
    stage.ours.client.delete_terminal(stage.workspace, flood.id).await?;
    drop(flood);
    beside(stage, exec, report).await
}

/// A typist, first beside nothing and then beside the flood, and the flood against the engine's, several times in turn:
/// a machine that is slower for a moment then spoils a round and not the figure.
async fn beside(stage: &Stage<'_>, mut exec: Exec, report: &mut Report) -> Result<()> {
    let mut typist = stage.ours.terminal(stage.workspace, &["cat"]).await?;
    let (mut waits, mut speeds, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut idle = echo::keys_on_ours(&mut typist, NEIGHBOUR_KEYS).await?;
        let peer = read_peer(&mut exec, STRETCH_BYTES / 4).await?;
        let (mut beside, ours) = typed_beside(stage, &mut typist).await?;
        waits.push(echo::p99(&mut beside).as_secs_f64() / echo::p99(&mut idle).as_secs_f64());
        speeds.push(ours / peer);
        told.push(format!(
            "{:.1}x (idle {}, beside {}) and {:.2}x ({ours:.0} and {peer:.0} MiB/s)",
            waits[waits.len() - 1],
            echo::told(&mut idle),
            echo::told(&mut beside),
            ours / peer,
        ));
    }
    stage.ours.client.delete_terminal(stage.workspace, typist.id).await?;
    told.into_iter().for_each(|round| report.note(round));
    let sides = format!("median of {ROUNDS} rounds");
    report.figure("typist's p99 beside a stream, to its own idle", &sides, middle(&mut waits), "x", Bound::AtMost(3.0));
    report.figure("that stream against an exec's", &sides, middle(&mut speeds), "x", Bound::AtLeast(1.2));
    Ok(())
}

/// What a typist waits while the flood runs, and how many MiB per second that brings meanwhile.
async fn typed_beside(stage: &Stage<'_>, typist: &mut Terminal) -> Result<(Vec<Duration>, f64)> {
    let client = stage.ours.client.clone();
    let workspace = stage.workspace;
    let (ready, started) = tokio::sync::oneshot::channel();
    let (enough, mut over) = tokio::sync::oneshot::channel::<()>();
    let reading = async move {
        let mut flood = ours::open(&client, workspace, &FLOOD).await?;
        read_ours(&mut flood, STRETCH_BYTES / 8).await?;
        let _ = ready.send(());
        let (began, mut bytes) = (Instant::now(), 0usize);
        while over.try_recv() == Err(TryRecvError::Empty) {
            bytes += flood.read().await?;
        }
        let speed = bytes as f64 / MIB / began.elapsed().as_secs_f64();
        client.delete_terminal(workspace, flood.id).await?;
        anyhow::Ok(speed)
    };
    // On a thread of its own: the reader of a flood must not slow the typist's clock.
    let reader = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(reading)
    });
    started.await?;
    let typed = echo::keys_on_ours(typist, NEIGHBOUR_KEYS).await;
    drop(enough);
    // Not joined right here: the client that both share is driven by this thread.
    let joined = tokio::task::spawn_blocking(move || reader.join()).await?;
    let speed = joined.map_err(|_| anyhow::anyhow!("the flood's reader panicked"))??;
    Ok((typed?, speed))
}

/// MiB per second.
async fn read_ours(terminal: &mut Terminal, bytes: usize) -> Result<f64> {
    let (began, mut read) = (Instant::now(), 0);
    while read < bytes {
        read += terminal.read().await?;
    }
    Ok(read as f64 / MIB / began.elapsed().as_secs_f64())
}

async fn read_peer(exec: &mut Exec, bytes: usize) -> Result<f64> {
    let mut buffer = vec![0; 64 * 1024];
    let (began, mut read) = (Instant::now(), 0);
    while read < bytes {
        read += exec.read(&mut buffer).await?;
    }
    Ok(read as f64 / MIB / began.elapsed().as_secs_f64())
}

fn middle(speeds: &mut [f64]) -> f64 {
    speeds.sort_by(f64::total_cmp);
    speeds[speeds.len() / 2]
}

/// The daemon, containerd, and the shim of the peer's container.
fn daemon_pids(stage: &Stage<'_>) -> Vec<u32> {
    let mut pids = procs::named("dockerd", &[]);
    pids.extend(procs::named("containerd", &[]));
    pids.extend(procs::named("containerd-shim-runc-v2", &[&stage.container]));
    pids
}
