//! `guest volume ...`: work on whole volumes, by a helper container of ours. Never in a workspace.
//!
//! ```text
//! guest volume copy [--twice] FROM TO     says {"files":..,"bytes":..} when done
//! guest volume count DIR...               says how many files each has, as [..,..]
//! guest volume pack ROOT HOME             reads a manifest, writes the archive of both (see `pack`)
//! guest volume unpack ROOT HOME           reads an archive, says its manifest, then [{..},{..}] of both or why not
//! ```
//!
//! With `--twice` it copies, says `ready`, waits for a line, and copies once more what has changed
//! meanwhile: the owner of FROM is frozen for the second pass only.
//!
//! **Trust.** FROM is a tenant's and may change under our hands; TO is nobody's but ours. So nothing
//! is ever reached through a link of FROM, and only its regular content is opened for reading.

pub(crate) mod content;
mod copy;
mod count;
mod pack;
mod tree;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use self::copy::{Copy, Pass, Summary};
use self::pack::Refused;
use std::ffi::OsString;
use std::io::{self, BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};

const USAGE: &str = "usage: guest volume copy [--twice] FROM TO | count DIR... | pack ROOT HOME | unpack ROOT HOME";
/// What the first of two passes ends with.
const READY: &str = "ready";

/// Carries out one command; its result goes to standard output.
pub fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, USAGE);
    if arguments.first().is_some_and(|verb| verb == "count") {
        return count(arguments.into_iter().skip(1).map(PathBuf::from));
    }
    let is_twice = arguments.get(1).is_some_and(|flag| flag == "--twice");
    if is_twice {
        arguments.remove(1);
    }
    let [verb, one, other] = arguments.as_slice() else { return Err(usage()) };
    let (one, other) = (PathBuf::from(one), PathBuf::from(other));
    match (verb.to_str(), is_twice) {
        (Some("copy"), is_twice) => copy(&one, &other, is_twice),
        (Some("pack"), false) => pack::pack(io::stdin().lock(), &one, &other, BufWriter::new(io::stdout().lock())),
        (Some("unpack"), false) => unpack(&one, &other),
        _ => Err(usage()),
    }
}

fn copy(from: &Path, to: &Path, is_twice: bool) -> io::Result<()> {
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

/// One that cannot be counted is told as `null`.
fn count(trees: impl Iterator<Item = PathBuf>) -> io::Result<()> {
    let counts: Vec<Option<u64>> = trees.map(|tree| count::files(&tree).ok()).collect();
    writeln!(io::stdout(), "{}", serde_json::to_string(&counts)?)
}

/// A refusal is a result, too: `{"invalid": why}` or `{"too_large": why}`.
fn unpack(root: &Path, home: &Path) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let unpacked = pack::unpack(io::stdin().lock(), root, home, &mut output);
    let is_done = unpacked.is_ok();
    let (told, failed) = match unpacked {
        Ok(told) => (serde_json::json!(told), None),
        Err(Refused::Invalid(why)) => (serde_json::json!({ "invalid": why }), None),
        Err(Refused::TooLarge(why)) => (serde_json::json!({ "too_large": why }), None),
        Err(Refused::Failed(error)) => (serde_json::Value::Null, Some(error)),
    };
    if failed.is_none() {
        writeln!(output, "{told}")?;
        output.flush()?;
    }
    if !is_done {
        // An engine whose writing to us breaks off may throw away what we have said.
        io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    }
    failed.map_or(Ok(()), Err)
}
