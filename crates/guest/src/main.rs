//! The one binary inside a workspace: PID 1, the server's way to it, SFTP, `sudo` and tunnels
//! through the gateway; what becomes the gateway of a host; and in a helper
//! container of the server's own: PID 1 there, the work on volumes, the trial of nested containers, the rules of its host, and the end of
//! what its engine has left behind.

use rexec_guest::{connect, firewall, helper, init, nested, orphan, sftp, sudo, tunnel, volume};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let called_as_sudo = std::path::Path::new(&name).file_name().is_some_and(|name| name == "sudo");
    if called_as_sudo {
        return sudo::run(arguments.collect());
    }
    let done = match arguments.next().as_ref().and_then(|verb| verb.to_str()) {
        Some("init") => init::run(),
        Some("connect") => connect::run(arguments),
        Some("egress") => become_gateway(),
        Some("helper") => helper::run(),
        Some("volume") => volume::run(arguments),
        Some("firewall") => firewall::run(arguments),
        Some("idmap") => nested::idmap(arguments),
        Some("nested") => nested::run(arguments),
        Some("orphan") => orphan::run(arguments),
        Some("sftp") => sftp::run(),
        Some("tunnel") => tunnel::run(arguments),
        Some("sudo") => return sudo::run(arguments.collect()),
        Some("version") => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        _ => {
            eprintln!(
                "usage: guest init | connect | egress | helper | volume ... | firewall ... | idmap ... | nested ... | orphan ... | sftp | sudo ... | tunnel ... | version"
            );
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rexec-guest: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns only if there is none beside this program.
fn become_gateway() -> io::Result<()> {
    let own = std::env::current_exe()?;
    Err(Command::new(own.with_file_name("gateway")).exec())
}
