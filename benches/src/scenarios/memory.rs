//! Resident memory: of the server, of a guest, and of an attached terminal that idles.

use crate::ours::Ours;
use crate::peer::Peer;
use crate::procs;
use crate::report::{Bound, Report};
use anyhow::{Context, Result};
use std::time::Duration;

/// Idle terminals that are attached for the figure per terminal.
const TERMINALS: usize = 200;
/// Longer than the guest waits after the last output before it gives memory back.
const SETTLE: Duration = Duration::from_secs(13);

pub async fn run(ours: &Ours, peer: &Peer, report: &mut Report) -> Result<()> {
    let workspace = ours.workspace().await?.id;
    let server_alone = procs::resident_kib(ours.pid())?;
    report.figure("server resident, no terminals", "", server_alone as f64 / 1024.0, "MB", Bound::AtMost(60.0));

    let guest = peer.workspace(workspace).await?["State"]["Pid"].as_u64().context("a pid")?;
    let guest = u32::try_from(guest)?;
    let mut first = ours.terminal(workspace, &["cat"]).await?;
    first.write(b"\n").await?;
    first.read().await?;
    tokio::time::sleep(SETTLE).await;
    let idle = procs::resident_kib(guest)?;
    report.figure("guest resident, one idle terminal", "", idle as f64 / 1024.0, "MB", Bound::AtMost(3.0));
    ours.client.delete_terminal(workspace, first.id).await?;

    let scroll = "i=0; while [ $i -lt 5000 ]; do echo line $i of a build that says what it does; i=$((i+1)); done; echo END; exec cat";
    let mut scrolled = ours.terminal(workspace, &["/bin/sh", "-c", scroll]).await?;
    let mut seen = Vec::new();
    while !seen.windows(3).any(|window| window == b"END") {
        seen = scrolled.receive().await?.to_vec();
        scrolled.acknowledge().await?;
    }
    tokio::time::sleep(SETTLE).await;
    let after = procs::resident_kib(guest)?;
    report.figure("guest resident, one terminal scrolled through", "", after as f64 / 1024.0, "MB", Bound::AtMost(5.0));
    ours.client.delete_terminal(workspace, scrolled.id).await?;

    // A first round takes what the allocator and the pools keep for good.
    let mut attached = Vec::new();
    for _ in 0..10 {
        attached.push(ours.terminal(workspace, &["cat"]).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let before = procs::resident_kib(ours.pid())?;
    for _ in 0..TERMINALS {
        attached.push(ours.terminal(workspace, &["cat"]).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let with = procs::resident_kib(ours.pid())?;
    let each = with.saturating_sub(before) as f64 / TERMINALS as f64;
    report.figure("server resident per idle attached terminal", "", each, "KiB", Bound::AtMost(64.0));
    drop(attached);
    ours.client.purge_workspace(workspace).await?;
    Ok(())
}
