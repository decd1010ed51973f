//! A root file system and a home as one archive, out and in.
//!
//! ```text
//! one frame of Zstandard with a checksum, around a tar (POSIX.1-2001, `pax`):
//!   manifest.json       what the server says of it, and what follows: {..., "root": Told, "home": Told}
//!   root/ ...           the root file system, a directory before all that is in it
//!   home/ ...           the home, likewise
//! ```
//!
//! Owners, modes, times to the nanosecond, extended attributes (`SCHILY.xattr.*`), hard links and holes
//! (GNU's sparse format 1.0) are in it, so that any tar reads it. Sockets and devices are left out, as a copy
//! of a volume leaves them out (an overlay's whiteout is neither), and what the engine mounts into every container: the kernel's file systems
//! and files such as `/etc/hosts`. Left out, too, is what an image has where a workspace mounts its guest and its home,
//! and the directory in which the packing helper has both.
//!
//! **Trust.** What is packed is a tenant's, and at rest. What is unpacked is anybody's: read in this order and
//! no other, counted against its own manifest before a byte is written, reached step by step without a link
//! being followed, and whole only if the frame's checksum holds.

mod digest;
mod make;
mod mounts;
mod read;
mod sparse;
mod stream;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod walk;
mod write;

pub use digest::Digest;
pub use read::{Refused, unpack};
pub use write::pack;

use serde::{Deserialize, Serialize};

const MANIFEST: &str = "manifest.json";
/// The trees of an archive, in their order.
const TREES: [&str; 2] = ["root", "home"];
/// The environment may have 8 MiB; the rest is short.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// Names of a tree.
const ENTRIES_MAX: u64 = 10_000_000;
const MODE_BITS: u32 = 0o7777;

/// What a tree comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Names in the archive, that of the tree itself among them.
    pub entries: u64,
    /// Content in the archive: without holes, and each file once.
    pub bytes: u64,
    /// The same with its holes: what an image takes up, in which engines keep none.
    pub size: u64,
}
