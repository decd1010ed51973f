//! The engine of this machine as if it were another's: behind OpenSSH's `sshd`, or behind mutual TLS. For tests.

mod sshd;
mod tls;

pub use sshd::Sshd;
pub use tls::{Authority, Issued, TlsFront, When};

use std::path::PathBuf;

/// The socket of the engine that tests run on: `DOCKER_HOST` or the usual one.
pub fn local_socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let path = host.as_deref().map_or("/var/run/docker.sock", |host| {
        host.strip_prefix("unix://").expect("the tests need an engine at a unix socket")
    });
    path.into()
}
