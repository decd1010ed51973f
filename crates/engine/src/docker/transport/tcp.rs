//! TCP connections that are made in time, and noticed when they die.

use super::endpoint::{is_loopback, place};
use super::unreachable::Unreachable;
use rustix::net::sockopt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};

/// For the name and all of its addresses together.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A connection that has been silent this long is tried...
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// ... after this time again...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// ... and after so many tries without an answer given up.
const KEEPALIVES_MAX: u32 = 3;

pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, Unreachable> {
    connect_to(host, port, |_| true).await
}

/// To this machine, whatever its name leads to.
pub(super) async fn connect_here(host: &str, port: u16) -> Result<TcpStream, Unreachable> {
    if !is_loopback(host) {
        return Err(Unreachable::NotLoopback { host: host.into() });
    }
    connect_to(host, port, |address| address.ip().is_loopback()).await
}

async fn connect_to(host: &str, port: u16, fits: impl Fn(&SocketAddr) -> bool) -> Result<TcpStream, Unreachable> {
    let at = place(host, port);
    let connecting = async {
        let unresolved = |why: String| Unreachable::NameNotResolved { host: host.into(), why };
        let addresses = lookup_host((host, port)).await.map_err(|error| unresolved(error.to_string()))?;
        let mut last = unresolved("it has no address".into());
        for address in addresses {
            if !fits(&address) {
                last = Unreachable::NotLoopback { host: host.into() };
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    last = Unreachable::Refused { at: at.clone() };
                }
                Err(error) => last = Unreachable::NotReached { at: at.clone(), why: error.to_string() },
            }
        }
        Err(last)
    };
    let timed_out = || Unreachable::TimedOut { at: at.clone(), seconds: CONNECT_TIME.as_secs() };
    let stream = tokio::time::timeout(CONNECT_TIME, connecting).await.map_err(|_| timed_out())??;
    keep_alive(&stream).map_err(|error| Unreachable::NotReached { at: at.clone(), why: error.to_string() })?;
    Ok(stream)
}

fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVES_MAX)?;
    Ok(())
}
