//! The listening socket: accepts connections, bounds what a slow client can hold, and ends in
//! good order.
//!
//! Each connection is a task. At shutdown no further one is accepted, requests under way are
//! answered, and what is left after [`DRAIN_PATIENCE`] is cut. An upgraded connection (WebSocket)
//! belongs to its handler, which watches [`Tasks::stopping`] itself.

use crate::http::origin::Peer;
use crate::tasks::Tasks;
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

/// How long a client may take to send the head of a request, and to begin with its first.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
/// How long, in milliseconds, a client may take nothing of what was sent: each keeps up to a megabyte of a file or preview in
/// memory. The kernel then ends the connection (TCP_USER_TIMEOUT, tcp(7)).
const READER_PATIENCE_MS: u32 = 120_000;
/// The kernel takes no more of what a client does not take, besides what is on its way (TCP_NOTSENT_LOWAT, tcp(7)); by
/// itself it would keep megabytes for each.
const UNSENT_BYTES_MAX: u32 = 256 * 1024;
/// How long requests under way may take once the server stops.
const DRAIN_PATIENCE: Duration = Duration::from_secs(8);
/// The pause after `accept` failed: without free descriptors it would fail in a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 20_000;

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", explain(source, port_variable))]
pub struct ListenError {
    pub address: SocketAddr,
    /// What sets the port.
    pub port_variable: &'static str,
    #[source]
    pub source: std::io::Error,
}

fn explain(error: &std::io::Error, port_variable: &str) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("another program listens there; stop it, or choose another {port_variable}")
        }
        std::io::ErrorKind::PermissionDenied => format!("this user may not; choose a {port_variable} above 1023"),
        std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address; check HOST".to_owned(),
        _ => error.to_string(),
    }
}

pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind_as(address, "PORT").await
}

/// The same for a port that another variable sets.
pub async fn bind_as(address: SocketAddr, port_variable: &'static str) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, port_variable, source })
}

/// Serves until the server stops.
pub async fn serve(listener: TcpListener, router: Router, tasks: Tasks) {
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = tasks.stopping() => return,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let router = router.clone();
                let stop = tasks.clone();
                tasks.spawn("connection", async move {
                    let _place = place;
                    connection(stream, peer, router, stop, HEAD_PATIENCE).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    room: &Arc<tokio::sync::Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, Place)> {
    let place = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // A keystroke's echo must not wait for more bytes to come.
    stream.set_nodelay(true)?;
    // What goes without a word, and is asked for nothing, is seen to have gone.
    SockRef::from(&stream).set_keepalive(true)?;
    rustix::net::sockopt::set_tcp_user_timeout(&stream, READER_PATIENCE_MS)?;
    SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    Ok((stream, peer, place))
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, tasks: Tasks, patience: Duration) {
    let begun = Arc::new(AtomicBool::new(false));
    let asked = begun.clone();
    let service = tower::service_fn(move |mut request: http::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(Peer(peer.ip()));
        router.clone().oneshot(request.map(axum::body::Body::new) as Request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20));
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(serving);
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = silence(&begun, patience) => return,
        () = tasks.stopping() => {
            serving.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN_PATIENCE, serving).await {
                Ok(outcome) => outcome,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, error, "a connection ended badly");
    }
}

/// Resolves when no request has come in time. The HTTP library's own clocks start only once it
/// knows the version of HTTP, which a client that says nothing never lets it know.
async fn silence(begun: &AtomicBool, patience: Duration) {
    tokio::time::sleep(patience).await;
    if begun.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// What a client reads that says this and then nothing.
    async fn told(said: &[u8]) -> Vec<u8> {
        let listener = bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        client.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        let patience = Duration::from_millis(50);
        let serving = connection(stream, peer, Router::new(), Tasks::new(), patience);
        let (_, read) = tokio::join!(serving, client.read_to_end(&mut answer));
        // A reset is an end too.
        let _ = read;
        answer
    }

    #[tokio::test]
    async fn a_client_that_asks_for_nothing_is_let_go() {
        for said in [b"".as_slice(), b"G", b"PRI * HTTP/2.0", PREFACE] {
            let answer = told(said).await;
            assert!(!answer.starts_with(b"HTTP/1.1 2"), "{said:?}");
        }
    }
}
