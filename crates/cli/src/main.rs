//! The `rexec` command: one binary that serves, describes its API and tells its version.

mod serve;

use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::process::ExitCode;

/// Long-lived buffers of many sizes fragment the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Instant, isolated Linux machines on hardware that you own.
#[derive(Parser)]
#[command(name = "rexec", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server. It is configured by the environment, `.env` and rexec.toml.
    Serve,
    /// Print the description of the API (OpenAPI 3.1) and exit.
    Openapi,
    /// Print the version and exit.
    Version,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve => serve::run(),
        Command::Openapi => print(rexec_server::http::openapi::document()),
        Command::Version => print(concat!("rexec ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

/// Writes to standard output; a reader that went away is no fault of ours.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
