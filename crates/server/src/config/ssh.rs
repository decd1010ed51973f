//! Where the SSH gateway listens, and whose certificates it takes.

use super::sources::Reader;
use rexec_ssh::PublicKey;

/// The port when none is named.
const PORT_DEFAULT: u16 = 2222;
/// Authorities that may be named, and bytes of the file that names them.
const AUTHORITIES_MAX: usize = 64;
const AUTHORITIES_BYTES_MAX: u64 = 256 * 1024;

#[derive(Debug, Clone)]
pub struct SshConfig {
    pub listen: SshListen,
    /// The port that people type, where it is mapped to ours.
    pub public_port: Option<u16>,
    /// Whose certificates let users in.
    pub authorities: Vec<PublicKey>,
}

/// Whether there is an SSH gateway, on the address that HTTP listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshListen {
    Off,
    /// Nobody named the port: where another program has it, the server runs without a gateway and says so.
    IfFree(u16),
    /// A port that was asked for; the server does not start without it. 0, which no variable gives, takes any.
    At(u16),
}

pub(super) fn take(reader: &mut Reader) -> SshConfig {
    let listen = match reader.number(&["REXEC_SSH_PORT"], 0, u64::from(u16::MAX)) {
        None => SshListen::IfFree(PORT_DEFAULT),
        Some(0) => SshListen::Off,
        Some(port) => SshListen::At(port as u16),
    };
    let public_port = reader.number(&["REXEC_SSH_PUBLIC_PORT"], 1, u64::from(u16::MAX)).map(|port| port as u16);
    SshConfig { listen, public_port, authorities: authorities(reader) }
}

/// A file as `TrustedUserCAKeys` of `sshd` names one, or its lines.
fn authorities(reader: &mut Reader) -> Vec<PublicKey> {
    let Some((name, text)) = reader.text(&["REXEC_SSH_USER_CA"]) else { return Vec::new() };
    let mut fault = |what: String| {
        reader.fault(&name, &what);
        Vec::new()
    };
    let lines = if text.starts_with('/') {
        let read = std::fs::metadata(&text).and_then(|file| match file.len() {
            ..=AUTHORITIES_BYTES_MAX => std::fs::read_to_string(&text),
            _ => Err(std::io::Error::other("it is too large")),
        });
        match read {
            Ok(lines) => lines,
            Err(error) => return fault(format!("names a file that cannot be read: {error}")),
        }
    } else {
        text
    };
    let said = lines.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let keys = said.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(at, line)| {
        PublicKey::parse(line).map_err(|error| format!("has no public key of an authority in line {at}: {error}"))
    });
    match keys.take(AUTHORITIES_MAX + 1).collect::<Result<Vec<_>, _>>() {
        Ok(keys) if keys.is_empty() => fault("names no authority: give a file of public keys, or their lines".into()),
        Ok(keys) if keys.len() > AUTHORITIES_MAX => fault(format!("may name {AUTHORITIES_MAX} authorities at most")),
        Ok(keys) => keys,
        Err(what) => fault(what),
    }
}
