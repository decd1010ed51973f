//! An SFTP server on standard input and output. A server runs it by exec as the workspace's user, whose rights are
//! then all that it has; it ends with its input, or with its exec.

use std::fs::File;
use std::io;
use std::path::PathBuf;

/// Where relative paths begin when nobody says.
const ROOT: &str = "/";

/// Serves until the input ends; relative paths begin in `HOME`.
pub fn run() -> io::Result<()> {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from(ROOT), PathBuf::from);
    // Not by `std::io`, which would look for ends of lines in what is sent.
    let input = File::from(rustix::io::dup(rustix::stdio::stdin())?);
    let output = File::from(rustix::io::dup(rustix::stdio::stdout())?);
    rexec_sftp::serve(input, output, &home)
}
