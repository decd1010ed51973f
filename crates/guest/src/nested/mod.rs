//! What a container engine inside a workspace needs of the guest: numbers for its users, and, before any
//! workspace gets one, the proof that a nested container can be made on this host at all.
//!
//! ```text
//! guest idmap uid|gid PID (INSIDE OUTSIDE COUNT)...   as root: maps the users of a namespace that another made
//! guest nested trial                                  as root in a helper container: makes a nested container
//! ```
//!
//! **Trust.** Both run with the rights of whoever calls them and gain none. `idmap` stands in for shadow's
//! set-uid `newuidmap`, which does nothing under no-new-privileges: root of the workspace calls it by `sudo`.

mod idmap;
mod trial;

use std::ffi::OsString;
use std::io;

pub use idmap::run as idmap;

/// Carries out `guest nested ...`.
pub fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let words: Option<Vec<String>> = arguments.map(|word| word.into_string().ok()).collect();
    let words = words.unwrap_or_default();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["trial"] => trial::run(),
        [trial::OWN] => trial::own(),
        [trial::JOIN, pid] => trial::join(pid),
        [trial::INSIDE] => trial::inside(),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: guest nested trial")),
    }
}
