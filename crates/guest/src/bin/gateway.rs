//! The gateway of a host, a program of its own beside the guest, which becomes it (`guest egress`): what it takes to speak TLS
//! is in no workspace's memory.

use std::process::ExitCode;

fn main() -> ExitCode {
    match rexec_guest::egress::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rexec-gateway: {error}");
            ExitCode::FAILURE
        }
    }
}
