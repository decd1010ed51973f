//! `guest volume ...`: work on whole volumes, by a helper container of ours. Never in a workspace.
//!
//! ```text
//! guest volume copy [--twice] FROM TO     says {"files":..,"bytes":..} when done
//! guest volume count DIR...               says how many files each has, as [..,..]
//! guest volume pack [--digest] ROOT HOME  reads a manifest, writes the archive of both (see `pack`), and its digest's 32
//!                                         bytes after it
//! guest volume write FILE                 reads a few bytes and makes them the file's, on disk when it ends
//! guest volume read FILE                  says what is in it
//! guest volume unpack [--digest] ROOT HOME
//!                                         reads an archive, says its manifest, then [{..},{..}] of both or why not; and
//!                                         once all of the home is on disk, the digest of what it has made, in hex
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
use self::pack::{Digest, Refused};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

const USAGE: &str = "usage: guest volume copy [--twice] FROM TO | count DIR... | write FILE | read FILE | pack [--digest] ROOT HOME | unpack [--digest] ROOT HOME";
/// A file of `write` is a word.
const WRITTEN_BYTES_MAX: u64 = 4096;
/// What the first of two passes ends with.
const READY: &str = "ready";

/// Carries out one command; its result goes to standard output.
pub fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, USAGE);
    if arguments.first().is_some_and(|verb| verb == "count") {
        return count(arguments.into_iter().skip(1).map(PathBuf::from));
    }
    if let [verb, file] = arguments.as_slice() {
        return match verb.to_str() {
            Some("write") => write(Path::new(file)),
            Some("read") => io::copy(&mut File::open(file)?, &mut io::stdout()).map(drop),
            _ => Err(usage()),
        };
    }
    let flag = arguments.get(1).filter(|flag| *flag == "--twice" || *flag == "--digest").cloned();
    if flag.is_some() {
        arguments.remove(1);
    }
    let flag = flag.as_ref().and_then(|flag| flag.to_str());
    let [verb, one, other] = arguments.as_slice() else { return Err(usage()) };
    let (one, other) = (PathBuf::from(one), PathBuf::from(other));
    match (verb.to_str(), flag) {
        (Some("copy"), None | Some("--twice")) => copy(&one, &other, flag.is_some()),
        (Some("pack"), None | Some("--digest")) => pack(&one, &other, Digest::wanted(flag.is_some())),
        (Some("unpack"), None | Some("--digest")) => unpack(&one, &other, Digest::wanted(flag.is_some())),
        _ => Err(usage()),
    }
}

fn write(file: &Path) -> io::Result<()> {
    let mut file = File::create(file)?;
    io::copy(&mut io::stdin().lock().take(WRITTEN_BYTES_MAX), &mut file)?;
    file.sync_all()
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

fn pack(root: &Path, home: &Path, mut digest: Digest) -> io::Result<()> {
    let mut output = BufWriter::new(io::stdout().lock());
    pack::pack(io::stdin().lock(), root, home, &mut digest, &mut output)?;
    if let Some(digest) = digest.finish() {
        output.write_all(&digest)?;
    }
    output.flush()
}

/// A refusal is a result, too: `{"invalid": why}` or `{"too_large": why}`.
fn unpack(root: &Path, home: &Path, mut digest: Digest) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let unpacked = pack::unpack(io::stdin().lock(), root, home, &mut digest, &mut output);
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
    if is_done && let Some(digest) = digest.finish() {
        rustix::fs::syncfs(File::open(home)?)?;
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(output, "{digest}")?;
        output.flush()?;
    }
    if !is_done {
        // An engine whose writing to us breaks off may throw away what we have said.
        io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    }
    failed.map_or(Ok(()), Err)
}
