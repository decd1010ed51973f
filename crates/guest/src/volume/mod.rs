//! `guest volume ...`: work on whole volumes, by a helper container of ours. Never in a workspace.
//!
//! ```text
//! guest volume copy [--twice] FROM TO     says {"files":..,"bytes":..} when done
//! ```
//!
//! With `--twice` it copies, says `ready`, waits for a line, and copies once more what has changed
//! meanwhile: the owner of FROM is frozen for the second pass only.
//!
//! **Trust.** FROM is a tenant's and may change under our hands; TO is nobody's but ours. So nothing
//! is ever reached through a link of FROM, and only its regular content is opened for reading.

mod content;
mod copy;
mod tree;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use self::copy::{Copy, Pass, Summary};
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;

const USAGE: &str = "usage: guest volume copy [--twice] FROM TO";
/// What the first of two passes ends with.
const READY: &str = "ready";

/// Carries out one command; its result goes to standard output.
pub fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let mut arguments: Vec<OsString> = arguments.collect();
    if arguments.first().is_none_or(|verb| verb != "copy") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, USAGE));
    }
    arguments.remove(0);
    let is_twice = arguments.first().is_some_and(|flag| flag == "--twice");
    let paths: Vec<PathBuf> = arguments.into_iter().skip(usize::from(is_twice)).map(PathBuf::from).collect();
    let [from, to] = paths.as_slice() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, USAGE));
    };
    let mut copy = Copy::open(from, to)?;
    let mut output = io::stdout().lock();
    if is_twice {
        copy.pass(Pass::First)?;
        writeln!(output, "{READY}")?;
        output.flush()?;
        if io::stdin().lock().read_until(b'\n', &mut Vec::new())? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "nobody asked for the second pass"));
        }
    }
    let summary: Summary = copy.pass(Pass::Last)?;
    writeln!(output, "{}", serde_json::to_string(&summary)?)?;
    output.flush()
}
