//! SSH on russh, which lives only here: the server as a library (the protocol, its bounds and its channels), and a
//! [`client`] that keeps one connection.
//!
//! What stands behind a login is a [`Backend`]: it says who may enter, and gives a [`Target`] that runs
//! commands, dials and listens. This crate knows no user, no workspace and no database, and does nothing
//! that its target did not do for it.
//!
//! **Invariants.** Nothing but the key exchange and authentication happens before a backend has accepted a
//! proof. Every refusal before that is the same packet after the same time, whoever asked for whatever.
//! What a connection can have stored here is bounded by [`flow`]; how many there are, by [`door`].

mod backend;
pub mod client;
mod door;
mod flow;
mod forward;
mod handler;
mod keys;
mod outbound;
mod server;
mod session;
mod settings;

pub use backend::{
    Backend, Control, Destination, Duplex, Event, Exit, Incoming, Input, Listener, Notices, Output, Peer, Place, Proof,
    Pty, Refusal, Request, Running, Size, Target, Work,
};
pub use keys::{Certificate, HostKey, KeyError, PublicKey};
pub use server::Server;
pub use settings::{Bounds, Settings};
