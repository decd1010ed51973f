//! Addresses of engines as people write them, in the words of Docker's own tools.

use std::fmt;
use std::path::PathBuf;

/// Where an engine's socket lies if its address does not say.
const SOCKET: &str = "/var/run/docker.sock";
const SSH_PORT: u16 = 22;

/// Where an engine listens; what it takes to be let in is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    /// Without a port: the one that is usual for what is spoken.
    Tcp {
        host: String,
        port: Option<u16>,
    },
    Ssh {
        user: String,
        host: String,
        port: u16,
        socket: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("it has no scheme; write unix:///path/to/docker.sock, tcp://host:port or ssh://user@host")]
    NoScheme,
    #[error("the scheme {0:?} is not supported, only unix://, tcp:// and ssh://")]
    Scheme(String),
    #[error("a unix socket needs an absolute path, such as unix:///var/run/docker.sock")]
    RelativePath,
    #[error("the host is missing or has signs in it that no host has")]
    Host,
    #[error("the port must be a number from 1 to 65535")]
    Port,
    #[error("nothing may follow the port")]
    TcpPath,
    #[error("the user is missing; write ssh://USER@HOST")]
    NoUser,
    #[error("the user has signs in it that no user has")]
    User,
    #[error("a password must not be in it; users log in with SSH_PRIVATE_KEY")]
    Password,
    #[error("the path of the socket has signs in it that do not belong there")]
    Socket,
}

impl Endpoint {
    pub fn parse(address: &str) -> Result<Endpoint, EndpointError> {
        let (scheme, rest) = address.trim().split_once("://").ok_or(EndpointError::NoScheme)?;
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Endpoint::Unix(rest.into())),
            "unix" => Err(EndpointError::RelativePath),
            "tcp" => {
                let rest = rest.strip_suffix('/').unwrap_or(rest);
                if rest.contains('/') {
                    return Err(EndpointError::TcpPath);
                }
                let (host, port) = host_and_port(rest)?;
                Ok(Endpoint::Tcp { host, port })
            }
            "ssh" => ssh(rest),
            other => Err(EndpointError::Scheme(other.chars().take(32).collect())),
        }
    }

    /// Whether it is this machine's, by its address alone.
    pub fn is_local(&self) -> bool {
        match self {
            Endpoint::Unix(_) => true,
            Endpoint::Tcp { host, .. } => is_loopback(host),
            Endpoint::Ssh { .. } => false,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp { host, port: Some(port) } => write!(f, "tcp://{}", place(host, *port)),
            Endpoint::Tcp { host, port: None } if host.contains(':') => write!(f, "tcp://[{host}]"),
            Endpoint::Tcp { host, port: None } => write!(f, "tcp://{host}"),
            Endpoint::Ssh { user, host, port, socket } => {
                write!(f, "ssh://{user}@{}", place(host, *port))?;
                if socket == SOCKET { Ok(()) } else { f.write_str(socket) }
            }
        }
    }
}

/// `host:port`, with the brackets that an IPv6 address needs.
pub(super) fn place(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn ssh(rest: &str) -> Result<Endpoint, EndpointError> {
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (user, place) = authority.rsplit_once('@').ok_or(EndpointError::NoUser)?;
    if user.contains(':') {
        return Err(EndpointError::Password);
    }
    if user.is_empty() {
        return Err(EndpointError::NoUser);
    }
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
    if user.starts_with('-') || !user.chars().all(is_plain) {
        return Err(EndpointError::User);
    }
    let (host, port) = host_and_port(place)?;
    let socket = if matches!(path, "" | "/") { SOCKET } else { path };
    // It also becomes part of a command line there.
    if !socket.chars().all(|char| is_plain(char) || "/@+,".contains(char)) {
        return Err(EndpointError::Socket);
    }
    Ok(Endpoint::Ssh { user: user.into(), host, port: port.unwrap_or(SSH_PORT), socket: socket.into() })
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), EndpointError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(EndpointError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| EndpointError::Host)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(EndpointError::Host),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let fits = |char: char| char.is_ascii_alphanumeric() || "._-:".contains(char);
    if host.is_empty() || host.starts_with('-') || !host.chars().all(fits) {
        return Err(EndpointError::Host);
    }
    let number = |text: &str| text.parse().ok().filter(|port| *port > 0).ok_or(EndpointError::Port);
    Ok((host.to_owned(), port.map(number).transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let tcp = |host: &str, port| Endpoint::Tcp { host: host.into(), port };
        let ssh = |user: &str, host: &str, port, socket: &str| Endpoint::Ssh {
            user: user.into(),
            host: host.into(),
            port,
            socket: socket.into(),
        };
        for (text, wanted, written) in [
            ("unix:///run/x.sock", Endpoint::Unix("/run/x.sock".into()), "unix:///run/x.sock"),
            ("tcp://10.0.0.7:2376", tcp("10.0.0.7", Some(2376)), "tcp://10.0.0.7:2376"),
            ("tcp://engine.example/", tcp("engine.example", None), "tcp://engine.example"),
            ("tcp://[::1]:2376", tcp("::1", Some(2376)), "tcp://[::1]:2376"),
            ("tcp://[::1]", tcp("::1", None), "tcp://[::1]"),
            ("ssh://rexec@vps", ssh("rexec", "vps", 22, SOCKET), "ssh://rexec@vps:22"),
            ("ssh://me@vps:2222/", ssh("me", "vps", 2222, SOCKET), "ssh://me@vps:2222"),
            (
                "ssh://me@[fe80::1]:22/run/user/1000/docker.sock",
                ssh("me", "fe80::1", 22, "/run/user/1000/docker.sock"),
                "ssh://me@[fe80::1]:22/run/user/1000/docker.sock",
            ),
        ] {
            let read = Endpoint::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((&read, read.to_string().as_str()), (&wanted, written), "{text}");
            assert_eq!(Endpoint::parse(written).as_ref(), Ok(&wanted));
        }
    }

    #[test]
    fn bad_addresses_are_told_apart() {
        for (text, wanted) in [
            ("", EndpointError::NoScheme),
            ("/var/run/docker.sock", EndpointError::NoScheme),
            ("unix://relative", EndpointError::RelativePath),
            ("http://1.2.3.4:2376", EndpointError::Scheme("http".into())),
            ("tcp://", EndpointError::Host),
            ("tcp://:2376", EndpointError::Host),
            ("tcp://-x:2376", EndpointError::Host),
            ("tcp://a b:2376", EndpointError::Host),
            ("tcp://[nothing]:1", EndpointError::Host),
            ("tcp://[::1]x", EndpointError::Host),
            ("tcp://host:0", EndpointError::Port),
            ("tcp://host:65536", EndpointError::Port),
            ("tcp://host:1/path", EndpointError::TcpPath),
            ("ssh://vps", EndpointError::NoUser),
            ("ssh://@vps", EndpointError::NoUser),
            ("ssh://me:secret@vps", EndpointError::Password),
            ("ssh://-oProxyCommand=x@vps", EndpointError::User),
            ("ssh://me@vps/run/$(id)", EndpointError::Socket),
        ] {
            assert_eq!(Endpoint::parse(text), Err(wanted), "{text}");
        }
    }
}
