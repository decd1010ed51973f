//! SOCKS 5 (RFC 1928): no authentication, since the source address is who it is; CONNECT and nothing else.

use super::tunnel::{self, Target};
use super::{GREETING_MAX, Visit, http};
use crate::gateway::Way;
use crate::host::Host;
use crate::record::How;
use crate::refusal::Refusal;
use bytes::Bytes;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

const DONE: u8 = 0;
const FAILED: u8 = 1;
const NOT_ALLOWED: u8 = 2;
const UNREACHABLE: u8 = 4;
const REFUSED: u8 = 5;
const EXPIRED: u8 = 6;
const NO_SUCH_COMMAND: u8 = 7;
const NO_SUCH_ADDRESS: u8 = 8;

pub async fn serve(visit: Arc<Visit>, mut stream: TcpStream) {
    let asked = tokio::time::timeout(GREETING_MAX, ask(&mut stream)).await;
    // Whoever breaks off, or speaks otherwise, is not waited for.
    let Ok(Ok(Some((host, port)))) = asked else { return };
    let target = Target { how: How::Socks, host: &host, port };
    if visit.reads(&host, port) {
        // What is asked there is judged request by request, and dialled then; but what is refused is refused now.
        if http::refused(&visit, &target).is_some() {
            let _ = reply(&mut stream, NOT_ALLOWED).await;
        } else if reply(&mut stream, DONE).await.is_ok() {
            http::serve_tunnelled(visit, &target, stream, Bytes::new()).await;
        }
        return;
    }
    match visit.open(How::Socks, Way::Tunnel, &host, port).await {
        Ok((opened, flow)) => {
            if reply(&mut stream, DONE).await.is_ok() {
                tunnel::run(&visit, &target, opened, &flow, stream, Bytes::new()).await;
            }
        }
        Err(refusal) => {
            let code = match refusal {
                Refusal::Denied(_) | Refusal::Gone | Refusal::Unreadable | Refusal::Github(_) => NOT_ALLOWED,
                Refusal::NoSuchName | Refusal::Unreachable => UNREACHABLE,
                Refusal::ConnectionRefused => REFUSED,
                Refusal::TimedOut => EXPIRED,
                Refusal::NoAnswer
                | Refusal::TooMany
                | Refusal::Untrusted(_)
                | Refusal::NoUpstream
                | Refusal::NoGithub(_)
                | Refusal::Upstream(_) => FAILED,
            };
            // It is over either way.
            let _ = reply(&mut stream, code).await;
        }
    }
}

/// What is asked for; `None` once it was refused.
async fn ask(stream: &mut TcpStream) -> io::Result<Option<(Host, u16)>> {
    let _version = stream.read_u8().await?;
    let mut methods = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        stream.write_all(&[VERSION, NO_METHOD]).await?;
        return Ok(None);
    }
    stream.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version, command, reserved, kind] = head;
    if version != VERSION || reserved != 0 {
        return Ok(None);
    }
    let host = match kind {
        IPV4 => Some(Host::Address(IpAddr::V4(Ipv4Addr::from_bits(stream.read_u32().await?)))),
        IPV6 => Some(Host::Address(IpAddr::V6(Ipv6Addr::from_bits(stream.read_u128().await?)))),
        NAME => {
            let mut name = vec![0; usize::from(stream.read_u8().await?)];
            stream.read_exact(&mut name).await?;
            std::str::from_utf8(&name).ok().and_then(|name| name.parse().ok())
        }
        _ => None,
    };
    let refused = match &host {
        // How long another kind of address is, nobody knows: what follows is not read.
        None if !matches!(kind, IPV4 | IPV6 | NAME) => Some(NO_SUCH_ADDRESS),
        None => Some(NOT_ALLOWED),
        Some(_) if command != CONNECT => Some(NO_SUCH_COMMAND),
        Some(_) => None,
    };
    if let Some(code) = refused {
        reply(stream, code).await?;
        return Ok(None);
    }
    let port = stream.read_u16().await?;
    if port == 0 {
        reply(stream, NOT_ALLOWED).await?;
        return Ok(None);
    }
    Ok(host.map(|host| (host, port)))
}

/// The address that it would tell is ours, and of no use to anybody.
async fn reply(stream: &mut TcpStream, code: u8) -> io::Result<()> {
    stream.write_all(&[VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]).await
}
