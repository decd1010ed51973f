//! What a DNS server for workspaces needs of the format: one question read strictly, answers written (RFC 1035, RFC 6891).
//!
//! Pure: a message in, a [`Query`] or a [`Fault`] out; a query and what is known in, a message out. Sockets, the two bytes
//! of length before a message over TCP, and what a name leads to belong to the caller.
//!
//! Invariants: what is not exactly one question is no query, so that nobody behind this reads a message otherwise. A
//! response is never answered. Every answer repeats the question as it was sent (its case may be the asker's proof that it
//! is not forged), and is no longer than the asker takes.

mod read;
mod write;

#[cfg(test)]
mod tests;

pub use read::parse;
pub use write::{answer_a, format_error, name_error, no_data, not_implemented, refused, server_failure};

use std::time::Duration;

/// Over UDP without EDNS (RFC 1035, 4.2.1).
pub const UDP_BYTES_MIN: u16 = 512;
/// Over UDP with EDNS: what fits everywhere without fragments (the DNS flag day of 2020).
pub const UDP_BYTES_MAX: u16 = 1232;
/// Over TCP: what its length can say.
pub const TCP_BYTES_MAX: u16 = u16::MAX;

/// How long a resolver may believe that there is nothing: short, as a rule may be changed meanwhile.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(5);

const HEADER_BYTES: usize = 12;

/// In the second word of the header (RFC 1035, 4.1.1).
const FLAG_RESPONSE: u16 = 1 << 15;
const FLAGS_OPCODE: u16 = 0b1111 << 11;
const FLAG_TRUNCATED: u16 = 1 << 9;
const FLAG_RECURSION_DESIRED: u16 = 1 << 8;
const FLAG_RECURSION_AVAILABLE: u16 = 1 << 7;

const CLASS_IN: u16 = 1;

const KIND_A: u16 = 1;
const KIND_SOA: u16 = 6;
const KIND_AAAA: u16 = 28;
const KIND_OPT: u16 = 41;
const KIND_SVCB: u16 = 64;
const KIND_HTTPS: u16 = 65;

/// "DNSSEC answer OK", in the second half of the OPT record's TTL (RFC 3225).
const EDNS_DNSSEC_OK: u16 = 1 << 15;

/// One question, and how its answer may look. Comes from [`parse`] only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub id: u16,
    /// `None`: the root, or a name that no rule can name, to be answered by [`name_error`].
    pub name: Option<HostNameText>,
    pub kind: Kind,
    /// Of the class of the internet: there is no other here.
    pub class_in: bool,
    pub recursion_desired: bool,
    /// The longest answer over UDP: [`UDP_BYTES_MIN`] to [`UDP_BYTES_MAX`].
    pub udp_size: u16,
    edns: Option<Edns>,
    /// Name, type and class as sent: without pointers, so 5 to 259 bytes.
    question: Vec<u8>,
}

/// What an OPT record of a query says that an answer repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edns {
    dnssec_ok: bool,
}

/// One or more labels of letters, digits, hyphens and underscores, in lower case, with dots between and none at the end:
/// 253 bytes at most. Still to be judged as a host: its last label may be a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostNameText(String);

impl HostNameText {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is asked for about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    A,
    Aaaa,
    /// Service bindings (RFC 9460).
    Svcb,
    Https,
    Other(u16),
}

impl From<u16> for Kind {
    fn from(number: u16) -> Self {
        match number {
            KIND_A => Self::A,
            KIND_AAAA => Self::Aaaa,
            KIND_SVCB => Self::Svcb,
            KIND_HTTPS => Self::Https,
            other => Self::Other(other),
        }
    }
}

/// How the query came, and its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Why a message is no query; [`Fault::answer`] is what is sent back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Too short for a header, or a response: any answer could be one to an answer.
    #[error("it is no query, and not answered")]
    Drop,
    /// FORMERR.
    #[error("it is not exactly one well-formed question")]
    Format(Head),
    /// NOTIMP: something other than a standard query.
    #[error("it asks for another operation than a query")]
    NotImplemented(Head),
    /// BADVERS (RFC 6891, 6.1.3).
    #[error("it is of an unknown version of EDNS")]
    Version(Box<Query>),
}

/// What an answer repeats of a message whose question is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    id: u16,
    /// Operation and "recursion desired".
    flags: u16,
}
