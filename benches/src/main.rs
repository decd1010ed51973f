//! Figures of Rexec as ratios against the bare engine's API, of SSH against OpenSSH's sshd, and of the way out against squid, measured in the same run on the same
//! machine: pairs are interleaved, so that what disturbs one side disturbs the other.
//!
//! Ours goes through the public API of a server of its own; the peer is a client of the engine's
//! socket as small as can be, which makes containers of the same profile, network and mounts.
//! Every figure stands beside its bound; a missed bound is printed and is no error, because a
//! figure on a noisy machine is for people to judge.

mod ours;
mod peer;
mod procs;
mod report;
mod scenarios;
mod wire;

use anyhow::Context;
use clap::Parser;
use std::path::PathBuf;

/// Scenarios that no server takes part in.
const ALONE: [&str; 5] = ["egress", "reading", "change", "models", "placement"];

#[derive(Parser)]
#[command(about = "Measures Rexec against the bare container engine and OpenSSH's server")]
struct Arguments {
    /// The `rexec` binary to measure; none is needed for egress, reading, change, models and placement alone.
    #[arg(long)]
    rexec: Option<PathBuf>,
    /// The gateway's binary, `rexec-gateway`: for egress, reading, change and models.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// The engine's socket.
    #[arg(long, default_value = "/var/run/docker.sock")]
    socket: PathBuf,
    /// Interleaved pairs of the figures that start something.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Only these: create, terminal, sleep, echo, crowd, bulk, memory, scale, files, snapshot, preview, ssh, transport, pool, placement, many, gvisor, egress, reading, change, models.
    scenarios: Vec<String>,
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|scenario| scenario == name)
    }
}

// One thread: a wake-up of another would be most of a keystroke's time, on either side.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut report = report::Report::default();
    let needs_server = |name: &String| !ALONE.contains(&name.as_str());
    let outcome = async {
        if arguments.scenarios.is_empty() || arguments.scenarios.iter().any(needs_server) {
            with_server(&arguments, &mut report).await?;
        }
        alone(&arguments, &mut report).await
    }
    .await;
    report.print();
    outcome
}

async fn alone(arguments: &Arguments, report: &mut report::Report) -> anyhow::Result<()> {
    let gateway = || arguments.gateway.as_deref().context("--gateway is missing: the path of `rexec-gateway`");
    if arguments.wants("egress") {
        scenarios::egress::connect::run(gateway()?, report).await?;
    }
    if arguments.wants("reading") {
        scenarios::egress::reading::run(gateway()?, report).await?;
    }
    if arguments.wants("change") {
        scenarios::egress::change::run(gateway()?, report).await?;
    }
    if arguments.wants("models") {
        scenarios::egress::models::run(gateway()?, report).await?;
    }
    if arguments.wants("placement") {
        scenarios::placement::run(report);
    }
    Ok(())
}

async fn with_server(arguments: &Arguments, report: &mut report::Report) -> anyhow::Result<()> {
    let wants = |name: &str| arguments.wants(name);
    let rexec = arguments.rexec.as_deref().context("--rexec is missing: the path of `rexec`")?;
    let ours = ours::Ours::start(rexec, &arguments.socket).await?;
    let outcome = async {
        let mut stage = scenarios::Stage::open(&ours, &arguments.socket).await?;
        let outcome = async {
            if wants("memory") {
                scenarios::memory::run(&ours, &stage.peer, report).await?;
            }
            if wants("create") {
                scenarios::starting::create(&mut stage, arguments.pairs, report).await?;
            }
            if wants("terminal") {
                scenarios::starting::terminal(&stage, arguments.pairs * 3, report).await?;
            }
            if wants("sleep") {
                scenarios::sleep::run(&stage, arguments.pairs * 3, report).await?;
            }
            if wants("echo") {
                scenarios::echo::alone(&stage, report).await?;
            }
            if wants("crowd") {
                scenarios::echo::crowd(&stage, report).await?;
            }
            if wants("bulk") {
                scenarios::bulk::run(&stage, report).await?;
            }
            if wants("scale") {
                scenarios::scale::run(rexec, &arguments.socket, report).await?;
            }
            if wants("files") {
                scenarios::files::large(&stage, report).await?;
                scenarios::files::many(&stage, report).await?;
            }
            if wants("snapshot") {
                scenarios::snapshot::run(&mut stage, report).await?;
            }
            if wants("preview") {
                scenarios::preview::run(&mut stage, report).await?;
            }
            if wants("transport") {
                let (binary, socket) = (rexec, &arguments.socket);
                scenarios::transport::run(&ours, stage.workspace, binary, socket, report).await?;
            }
            if wants("pool") {
                scenarios::pool::run(&mut stage, rexec, &arguments.socket, report).await?;
            }
            if wants("many") {
                scenarios::many::run(&mut stage, report).await?;
            }
            if wants("gvisor") {
                scenarios::gvisor::run(rexec, &arguments.socket, arguments.pairs, report).await?;
            }
            if wants("ssh") {
                scenarios::ssh::run(&ours, stage.workspace, report).await?;
            }
            anyhow::Ok(())
        }
        .await;
        stage.close().await?;
        outcome
    }
    .await;
    ours.stop().await?;
    outcome
}
