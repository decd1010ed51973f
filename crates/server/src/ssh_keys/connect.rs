//! Ready commands for one workspace, pure: what a person pastes into a shell, an editor or a file.
//!
//! Invariant: a workspace is named by its name only where that is one word of harmless characters and no
//! other of the owner's has it, else by its id; so nothing here needs quoting.

use super::public_key::PublicKey;
use rexec_api::ids::WorkspaceId;
use rexec_api::ssh::{SshHostKey, SshTarget};

/// The port that clients use when none is named.
const SSH_PORT: u16 = 22;

/// A gateway that takes connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The port that clients reach it at.
    pub port: u16,
    pub host_keys: Vec<PublicKey>,
}

/// What a workspace is called as a user name of SSH; `namesakes` are others of its owner.
pub fn user_of(id: WorkspaceId, name: &str, namesakes: u64) -> String {
    let harmless = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let plain = name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(harmless);
    // A name that reads as an id could be another's.
    let is_id = name.parse::<WorkspaceId>().is_ok();
    if plain && !is_id && namesakes == 0 { name.to_owned() } else { id.to_string() }
}

/// A host without its port, as a command has it: no brackets around an IPv6 address.
pub fn host_of(authority: &str) -> &str {
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// `home` is where an editor opens.
pub fn target(gateway: &Gateway, host: &str, user: &str, home: &str) -> SshTarget {
    let port = gateway.port;
    let usual = port == SSH_PORT;
    let option = |letter: char| if usual { String::new() } else { format!("-{letter} {port} ") };
    let is_v6 = host.contains(':');
    // Where a path follows the host, the colons of an address need brackets.
    let bracketed = if is_v6 { format!("[{host}]") } else { host.to_owned() };
    let (login, place) = (format!("{user}@{host}"), format!("{user}@{bracketed}"));
    let authority = if usual { place.clone() } else { format!("{place}:{port}") };
    let alias = format!("rexec-{user}");
    let shell = if usual { String::new() } else { format!("-e 'ssh -p {port}' ") };
    SshTarget {
        ssh: format!("ssh {}{login}", option('p')),
        scp: format!("scp {}file.txt {place}:", option('P')),
        sftp: format!("sftp {}{place}", option('P')),
        rsync: format!("rsync -av {shell}./ {place}:work/"),
        vscode: format!("vscode://vscode-remote/ssh-remote+{authority}{}", harmless(home)),
        config: format!(
            "Host {alias}\n    HostName {host}\n    Port {port}\n    User {user}\n    ServerAliveInterval 30\n"
        ),
        alias,
        host_keys: gateway.host_keys.iter().map(|key| host_key(key, host, port)).collect(),
        host: host.to_owned(),
        port,
        user: user.to_owned(),
    }
}

/// A joined machine says itself where its home is.
fn harmless(path: &str) -> &str {
    let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
    if path.bytes().all(is_harmless) { path } else { "/" }
}

fn host_key(key: &PublicKey, host: &str, port: u16) -> SshHostKey {
    let place = if port == SSH_PORT { host.to_owned() } else { format!("[{host}]:{port}") };
    SshHostKey {
        kind: key.kind.to_owned(),
        fingerprint: key.fingerprint(),
        known_hosts: format!("{place} {}", key.line()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_is_called_by_what_needs_no_quotes() {
        let id = WorkspaceId::new();
        assert_eq!(user_of(id, "quiet-otter", 0), "quiet-otter");
        let other = WorkspaceId::new().to_string();
        for name in ["", "My work", "-oProxyCommand=x", "a@b", "ünter", "$(id)", "A", &other, &"x".repeat(64)] {
            assert_eq!(user_of(id, name, 0), id.to_string(), "{name}");
        }
        assert_eq!(user_of(id, "twice", 1), id.to_string());
    }

    #[test]
    fn a_host_stands_without_its_port() {
        for (authority, host) in
            [("a.example:8080", "a.example"), ("a.example", "a.example"), ("[::1]:80", "::1"), ("::1", "::1")]
        {
            assert_eq!(host_of(authority), host);
        }
    }

    #[test]
    fn commands_name_the_port_where_it_is_not_the_usual() {
        let told = target(&Gateway { port: 2222, host_keys: vec![] }, "a.example", "w", "/home/user");
        assert_eq!(told.ssh, "ssh -p 2222 w@a.example");
        assert_eq!(told.scp, "scp -P 2222 file.txt w@a.example:");
        assert_eq!(told.sftp, "sftp -P 2222 w@a.example");
        assert_eq!(told.rsync, "rsync -av -e 'ssh -p 2222' ./ w@a.example:work/");
        assert_eq!(told.vscode, "vscode://vscode-remote/ssh-remote+w@a.example:2222/home/user");
        assert!(told.config.starts_with("Host rexec-w\n    HostName a.example\n    Port 2222\n"), "{}", told.config);
        let told = target(&Gateway { port: 22, host_keys: vec![] }, "::1", "w", "/root/$(id)");
        assert_eq!((told.ssh.as_str(), told.scp.as_str()), ("ssh w@::1", "scp file.txt w@[::1]:"));
        assert_eq!(told.vscode, "vscode://vscode-remote/ssh-remote+w@[::1]/");
    }
}
