//! Bytes both ways, once it is known that they are for whom they were asked for.
//!
//! ```text
//!   server -> workspace   from the first byte on: some servers speak first
//!   workspace -> server   held until it is judged:  TLS that names the host   -> on
//!                                                   TLS for another, or broken -> cut
//!                                                   no TLS at a web port       -> cut (at 80: requests, see `http.rs`)
//!                                                   no TLS elsewhere           -> on
//! ```
//!
//! Ends when both ways have, when either fails, when nothing went for [`IDLE_MAX`], and when the policy no longer allows it.

use super::{Flow, HTTP_PORT, HTTPS_PORT, Visit};
use crate::gateway::Opened;
use crate::hello::{self, Hello};
use crate::host::Host;
use crate::policy::Decision;
use crate::record::How;
use bytes::Bytes;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// From the first byte of a ClientHello to its last.
const HELLO_MAX: Duration = Duration::from_secs(10);
/// Nothing went either way.
pub const IDLE_MAX: Duration = Duration::from_secs(3600);
/// Had by each way only while bytes go.
const BUFFER_BYTES: usize = 32 * 1024;
/// Had by a tunnel whose workspace has not said anything yet.
const HELLO_USUAL_BYTES: usize = 2048;

/// What a workspace asked for, and how.
pub struct Target<'a> {
    pub how: How,
    pub host: &'a Host,
    pub port: u16,
}

/// What the first bytes of a workspace are.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// TLS with the host that was asked for.
    Tls,
    Plain,
    /// It has said all that it will.
    End,
    /// Not what was asked for: the code of why not.
    Wrong(&'static str),
}

/// Carries bytes until it is over. `early` was read already.
pub async fn run(visit: &Visit, target: &Target<'_>, opened: Opened, flow: &Flow, client: TcpStream, early: Bytes) {
    let (mut client, mut server, address, said) = (client, opened.stream, opened.address, opened.early);
    // What may be had is asked anew, and nothing of an old policy is kept for as long as this goes on.
    drop(opened.bound);
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let upward = async {
        let mut first = early.to_vec();
        match judge(&mut from_client, &mut first, visit, target).await? {
            First::Wrong(code) => {
                visit.deny(target.how, target.host, target.port, code);
                return Err(io::Error::from(io::ErrorKind::PermissionDenied));
            }
            First::Plain if is_web(target.port) => {
                visit.deny(target.how, target.host, target.port, "egress_not_tls");
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            First::Tls | First::Plain | First::End => {}
        }
        to_server.write_all(&first).await?;
        flow.went_up(first.len());
        drop(first);
        copy(&mut from_client, &mut to_server, |bytes| flow.went_up(bytes)).await
    };
    let downward = async {
        to_client.write_all(&said).await?;
        flow.went_down(said.len());
        copy(&mut from_server, &mut to_client, |bytes| flow.went_down(bytes)).await
    };
    tokio::select! {
        // Whichever way fails ends the other.
        _ = async { tokio::try_join!(upward, downward) } => {}
        () = idle(|| flow.bytes()) => {}
        () = visit.revoked(target.host, target.port, address) => {}
    }
}

/// Reads as much as tells what they are, behind what `first` holds already.
pub async fn judge(
    from: &mut ReadHalf<'_>,
    first: &mut Vec<u8>,
    visit: &Visit,
    target: &Target<'_>,
) -> io::Result<First> {
    Ok(match hello(from, first).await? {
        None => First::End,
        Some(Hello::NotTls) => First::Plain,
        Some(Hello::Client { name, .. }) => named(name.as_deref(), visit, target),
        Some(Hello::Broken(_) | Hello::More) => First::Wrong("egress_broken_tls"),
    })
}

/// Reads behind what `first` holds until it is known what that is; [`Hello::More`] when too little comes for it. `None`:
/// nothing at all.
pub async fn hello(from: &mut ReadHalf<'_>, first: &mut Vec<u8>) -> io::Result<Option<Hello>> {
    if first.is_empty() {
        first.reserve(HELLO_USUAL_BYTES);
        // As long as it likes: the server may be the one who speaks.
        if from.read_buf(first).await? == 0 {
            return Ok(None);
        }
    }
    let read = async {
        loop {
            match hello::read(first) {
                Hello::More if from.read_buf(first).await? == 0 => return Ok(Hello::More),
                Hello::More => {}
                known => return Ok(known),
            }
        }
    };
    tokio::time::timeout(HELLO_MAX, read).await.unwrap_or(Ok(Hello::More)).map(Some)
}

/// Whether the name in a ClientHello is of the host that was asked for.
fn named(name: Option<&str>, visit: &Visit, target: &Target<'_>) -> First {
    let name = name.map(str::parse::<Host>);
    let fits = match (target.host, name) {
        (Host::Name(_), Some(Ok(name))) => name == *target.host,
        (Host::Name(_), _) => false,
        (Host::Address(_), None) => true,
        // Who asked for an address and names a host asks for both.
        (Host::Address(_), Some(Ok(name))) => visit
            .tenant
            .bound()
            .is_some_and(|bound| matches!(bound.policy.decide(&name, target.port), Decision::Allow { .. })),
        (Host::Address(_), Some(Err(_))) => false,
    };
    if fits { First::Tls } else { First::Wrong("egress_sni_mismatch") }
}

pub fn is_web(port: u16) -> bool {
    matches!(port, HTTP_PORT | HTTPS_PORT)
}

/// Until the end of what comes, which is passed on.
async fn copy(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, went: impl Fn(usize)) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        loop {
            match from.try_read_buf(&mut buffer) {
                Ok(0) => return to.shutdown().await,
                Ok(count) => {
                    to.write_all(&buffer).await?;
                    went(count);
                    buffer.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            // Whoever streams does not keep others waiting.
            tokio::task::consume_budget().await;
        }
    }
}

/// Waits until what has moved is for long what it was.
pub async fn idle<T: PartialEq>(moved: impl Fn() -> T) {
    let mut known = moved();
    loop {
        tokio::time::sleep(IDLE_MAX).await;
        let now = moved();
        if now == known {
            return;
        }
        known = now;
    }
}
