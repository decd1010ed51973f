//! An SFTP server, version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions, on a byte stream.
//!
//! It owns the protocol alone. Whose files it may touch is decided by the kernel: it runs as the user's process,
//! with the user's rights, and therefore needs no rules about paths. Requests are
//! answered in order, one at a time; a client keeps many on their way, and answers are gathered until no further
//! request is at hand.
//!
//! **Trust.** Everything that comes in is hostile: a packet is at most [`PACKET_BYTES_MAX`] long, a read at most
//! [`READ_BYTES_MAX`], and at most [`HANDLES_MAX`] files are open. A packet that cannot be understood is answered
//! by a status; one that is too long, or a stream that ends within one, ends the conversation.

mod attributes;
mod files;
mod listing;
mod server;
#[cfg(test)]
mod tests;
mod wire;

pub use server::serve;
pub use wire::{HANDLES_MAX, PACKET_BYTES_MAX, READ_BYTES_MAX};
