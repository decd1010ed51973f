//! Workspaces by gVisor against bare containers by gVisor: what we add to its price.

use super::Stage;
use super::echo::{keys_on_ours, keys_on_peer, told};
use crate::ours::Ours;
use crate::peer::Peer;
use crate::report::{Bound, Report, median};
use anyhow::Result;
use rexec_api::workspaces::NewWorkspace;
use std::path::Path;
use std::time::Instant;

const RUNTIME: &str = "runsc";
const SHELL: [&str; 2] = ["/bin/bash", "-l"];
/// The least program that holds a terminal for another.
const KEPT: [&str; 4] = ["script", "-qfc", "cat", "/dev/null"];
const KEYS: usize = 500;

/// Nothing where the engine has no such runtime.
pub async fn run(binary: &Path, socket: &Path, pairs: usize, report: &mut Report) -> Result<()> {
    let info = Peer::new(socket).call("GET", "/info", None).await?;
    if info["Runtimes"][RUNTIME].is_null() {
        report.note(format!("this engine has no runtime {RUNTIME}: nothing to measure"));
        return Ok(());
    }
    let ours = Ours::start_with(binary, socket, &[("REXEC_RUNTIMES", RUNTIME)]).await?;
    let outcome = measure(&ours, socket, pairs, report).await;
    ours.stop().await?;
    outcome
}

async fn measure(ours: &Ours, socket: &Path, pairs: usize, report: &mut Report) -> Result<()> {
    let new = NewWorkspace { runtime: Some(RUNTIME.into()), wait_ms: Some(60_000), ..Default::default() };
    let first = ours.client.create_workspace(&new).await?.id;
    let mut stage = Stage::around(ours, socket, first).await?;
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        let began = Instant::now();
        let workspace = ours.client.create_workspace(&new).await?.id;
        ours.terminal(workspace, &[]).await?.read().await?;
        mine.push(began.elapsed());
        ours.client.purge_workspace(workspace).await?;

        let name = stage.fresh_name();
        let began = Instant::now();
        let container = stage.peer.container_like(&stage.model, &name, &name).await?;
        stage.peer.exec(&container, &SHELL).await?.read(&mut [0; 4096]).await?;
        theirs.push(began.elapsed());
        stage.peer.remove(&container, &name).await?;
    }
    report.times(
        "gVisor: cold create to first prompt byte",
        median(&mut mine),
        median(&mut theirs),
        Bound::AtMost(1.1),
    );

    let mut terminal = ours.terminal(first, &["cat"]).await?;
    let mut keys = keys_on_ours(&mut terminal, KEYS).await?;
    let mut exec = stage.peer.exec(&stage.container, &["cat"]).await?;
    let mut theirs = keys_on_peer(&mut exec, KEYS).await?;
    report.note(format!("gVisor: echo ours {}  engine {}", told(&mut keys), told(&mut theirs)));
    report.times("gVisor: echo p50", median(&mut keys), median(&mut theirs), Bound::AtMost(1.1));
    // What a terminal costs there that outlives its connection: one more program, between two pairs of descriptors.
    let mut kept = stage.peer.exec(&stage.container, &KEPT).await?;
    let mut kept = keys_on_peer(&mut kept, KEYS).await?;
    report.times("gVisor: echo p50 against script(1)", median(&mut keys), median(&mut kept), Bound::AtMost(1.1));
    stage.close().await
}
