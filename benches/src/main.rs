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

use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Measures Rexec against the bare container engine and OpenSSH's server")]
struct Arguments {
    /// The `rexec` binary to measure.
    #[arg(long)]
    rexec: PathBuf,
    /// The engine's socket.
    #[arg(long, default_value = "/var/run/docker.sock")]
    socket: PathBuf,
    /// Interleaved pairs of the figures that start something.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Only these: create, terminal, sleep, echo, crowd, bulk, memory, scale, files, snapshot, preview, ssh, transport, pool, placement, many, gvisor, egress.
    scenarios: Vec<String>,
    /// Be the gateway of the scenario `egress`, and nothing else.
    #[arg(long, hide = true, requires = "names")]
    gateway: Option<SocketAddr>,
    #[arg(long, hide = true)]
    names: Option<SocketAddr>,
}

// One thread: a wake-up of another would be most of a keystroke's time, on either side.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let (Some(proxy), Some(names)) = (arguments.gateway, arguments.names) {
        return scenarios::egress::serve(proxy, names).await;
    }
    let wants = |name: &str| arguments.scenarios.is_empty() || arguments.scenarios.iter().any(|s| s == name);
    let ours = ours::Ours::start(&arguments.rexec, &arguments.socket).await?;
    let outcome = async {
        let mut report = report::Report::default();
        let mut stage = scenarios::Stage::open(&ours, &arguments.socket).await?;
        let outcome = async {
            if wants("memory") {
                scenarios::memory::run(&ours, &stage.peer, &mut report).await?;
            }
            if wants("create") {
                scenarios::starting::create(&mut stage, arguments.pairs, &mut report).await?;
            }
            if wants("terminal") {
                scenarios::starting::terminal(&stage, arguments.pairs * 3, &mut report).await?;
            }
            if wants("sleep") {
                scenarios::sleep::run(&stage, arguments.pairs * 3, &mut report).await?;
            }
            if wants("echo") {
                scenarios::echo::alone(&stage, &mut report).await?;
            }
            if wants("crowd") {
                scenarios::echo::crowd(&stage, &mut report).await?;
            }
            if wants("bulk") {
                scenarios::bulk::run(&stage, &mut report).await?;
            }
            if wants("scale") {
                scenarios::scale::run(&arguments.rexec, &arguments.socket, &mut report).await?;
            }
            if wants("files") {
                scenarios::files::large(&stage, &mut report).await?;
                scenarios::files::many(&stage, &mut report).await?;
            }
            if wants("snapshot") {
                scenarios::snapshot::run(&mut stage, &mut report).await?;
            }
            if wants("preview") {
                scenarios::preview::run(&mut stage, &mut report).await?;
            }
            if wants("transport") {
                let (binary, socket) = (&arguments.rexec, &arguments.socket);
                scenarios::transport::run(&ours, stage.workspace, binary, socket, &mut report).await?;
            }
            if wants("pool") {
                scenarios::pool::run(&mut stage, &arguments.rexec, &arguments.socket, &mut report).await?;
            }
            if wants("egress") {
                scenarios::egress::run(&mut report).await?;
            }
            if wants("placement") {
                scenarios::placement::run(&mut report);
            }
            if wants("many") {
                scenarios::many::run(&mut stage, &mut report).await?;
            }
            if wants("gvisor") {
                scenarios::gvisor::run(&arguments.rexec, &arguments.socket, arguments.pairs, &mut report).await?;
            }
            if wants("ssh") {
                scenarios::ssh::run(&ours, stage.workspace, &mut report).await?;
            }
            anyhow::Ok(())
        }
        .await;
        stage.close().await?;
        report.print();
        outcome
    }
    .await;
    ours.stop().await?;
    outcome
}
