//! `rexec serve`: configuration, logs, the server, and a good end on a signal.
//!
//! Standard output carries one line, when the server is ready; logs go to standard error. Exit
//! codes: 0 after a signal, 1 when the server cannot start, 2 when its configuration is wrong.

use rexec_server::config::{Config, Mode};
use rexec_server::{Running, start};
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

const EXIT_CONFIG: u8 = 2;
/// What is logged unless `RUST_LOG` says otherwise.
const LOG_RELEASE: &str = "info,sea_orm_migration=warn";
const LOG_DEBUG: &str = "info,sea_orm_migration=warn,rexec_server=debug,rexec_engine=debug,rexec_channel=debug";

pub fn run() -> ExitCode {
    let config = match Config::load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("rexec: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    log_as(config.mode);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("rexec: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rexec: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Text for people, on a terminal and in debug mode; JSON for machines.
fn log_as(mode: Mode) {
    let default = match mode {
        Mode::Debug => LOG_DEBUG,
        Mode::Release => LOG_RELEASE,
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let on_terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if mode == Mode::Debug || on_terminal {
        log.with_ansi(on_terminal).init();
    } else {
        log.json().flatten_event(true).with_span_list(false).init();
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // Registered before anything is started, so that a signal during start-up is not lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let public_url = config.public_url.as_ref().map(|url| url.origin.clone());
    let running = tokio::select! {
        running = start(config) => running?,
        () = asked(&mut interrupt, &mut terminate) => return Ok(()),
    };
    announce(&running, public_url);
    asked(&mut interrupt, &mut terminate).await;
    tracing::info!("stopping");
    tokio::select! {
        orderly = running.shutdown() => {
            if !orderly {
                tracing::warn!("some work did not end in time and was left behind");
            }
        }
        () = asked(&mut interrupt, &mut terminate) => {
            tracing::warn!("asked twice to stop: leaving at once");
        }
    }
    Ok(())
}

async fn asked(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn announce(running: &Running, public_url: Option<String>) {
    let address = public_url.unwrap_or_else(|| format!("http://{}", reachable(running.addr)));
    tracing::info!(address = %running.addr, version = env!("CARGO_PKG_VERSION"), "ready");
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; the server serves all the same.
    let _ = writeln!(out, "Rexec is ready: {address}").and_then(|()| out.flush());
}

/// An address to type into a browser on this machine: "every interface" is none.
fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    SocketAddr::from(([127, 0, 0, 1], address.port()))
}
