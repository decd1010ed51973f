//! WebSockets (RFC 6455): a request that both ends agree to make a connection of, which is carried as bytes from then on.
//!
//! Nothing else is agreed to: what any other protocol would ask for could not be judged.

use super::{Flow, Visit};
use crate::host::Host;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const BUFFER_BYTES: usize = 16 * 1024;

/// Whether a request asks for one.
pub fn is_asked<B>(request: &Request<B>) -> bool {
    let says = |name, word: &str| {
        let mut values = request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(word)))
    };
    request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && says(CONNECTION, "upgrade")
        && says(UPGRADE, "websocket")
}

/// Whether an answer agrees to it.
pub fn is_agreed(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()))
}

/// What says so at one hop, in a request and in an answer.
pub fn say(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}

/// The workspace's half, taken before its request is passed on. One with a body asks for none.
pub fn of(request: &mut Request<Incoming>) -> Option<OnUpgrade> {
    (is_asked(request) && request.body().is_end_stream()).then(|| hyper::upgrade::on(request))
}

/// Whose bytes they are, and how far they may go.
pub struct Carried {
    pub visit: Arc<Visit>,
    pub flow: Arc<Flow>,
    pub host: Host,
    pub port: u16,
    pub address: Option<IpAddr>,
    /// Of the connection with the host, until it is ours.
    pub carrying: AbortOnDropHandle<()>,
}

/// Carries bytes both ways until either end is through, or may not any more.
pub async fn carry(ours: OnUpgrade, theirs: OnUpgrade, carried: Carried) {
    let Carried { visit, flow, host, port, address, carrying } = carried;
    let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else { return };
    drop(carrying);
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(ours));
    let (mut from_host, mut to_host) = tokio::io::split(TokioIo::new(theirs));
    let upward = copy(&mut from_client, &mut to_host, |bytes| flow.went_up(bytes));
    let downward = copy(&mut from_host, &mut to_client, |bytes| flow.went_down(bytes));
    tokio::select! {
        _ = async { tokio::try_join!(upward, downward) } => {}
        () = super::tunnel::idle(|| flow.bytes()) => {}
        // Also once the address is nobody's.
        () = visit.revoked(&host, port, address) => {}
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    went: impl Fn(usize),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer).await? {
            0 => return to.shutdown().await,
            count => {
                to.write_all(&buffer[..count]).await?;
                to.flush().await?;
                went(count);
            }
        }
    }
}
