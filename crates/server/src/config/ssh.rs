//! Where the SSH gateway listens.

use super::sources::Reader;

/// The port when none is named.
const PORT_DEFAULT: u16 = 2222;

/// Whether there is an SSH gateway, on the address that HTTP listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshListen {
    Off,
    /// Nobody named the port: where another program has it, the server runs without a gateway and says so.
    IfFree(u16),
    /// A port that was asked for; the server does not start without it. 0, which no variable gives, takes any.
    At(u16),
}

pub(super) fn take(reader: &mut Reader) -> SshListen {
    match reader.number(&["REXEC_SSH_PORT"], 0, u64::from(u16::MAX)) {
        None => SshListen::IfFree(PORT_DEFAULT),
        Some(0) => SshListen::Off,
        Some(port) => SshListen::At(port as u16),
    }
}
