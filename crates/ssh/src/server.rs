//! Connections, from their acceptance to their end. Each is one task, which owns what belongs to it.

use crate::backend::{Backend, Peer};
use crate::door::{Door, Failure, Visit};
use crate::flow::{Ended, Flow};
use crate::handler::Connection;
use crate::keys::{HostKey, PublicKey};
use crate::settings::{self, Bounds, Settings};
use russh::Disconnect;
use russh::server::run_stream;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// When no connection can be accepted, such as for want of descriptors, it is tried again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Told in place of an identification to who is not let in at all (RFC 4253, section 4.2 allows lines before it).
const SHUT: &[u8] = b"Not now. Try again later.\r\n";
/// What a connection gets to say good-bye, and to be gone after it.
const FAREWELL_TIME: Duration = Duration::from_secs(3);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) authorities: Vec<PublicKey>,
    /// For the next connection.
    config: RwLock<Arc<russh::server::Config>>,
    bounds: Bounds,
    door: Arc<Door>,
    pub(crate) tasks: TaskTracker,
}

/// An SSH server. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    pub fn new(backend: Arc<dyn Backend>, settings: Settings) -> Self {
        let shared = Shared {
            backend,
            config: RwLock::new(Arc::new(settings::config(&settings.host_keys, &settings.bounds))),
            door: Arc::new(Door::new(settings.bounds.clone())),
            bounds: settings.bounds,
            authorities: settings.authorities,
            tasks: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Proves itself with these to whoever connects from now on. Connections that there are go on as they began.
    pub fn replace_host_keys(&self, host_keys: &[HostKey]) {
        let config = Arc::new(settings::config(host_keys, &self.shared.bounds));
        *self.shared.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn config(&self) -> Arc<russh::server::Config> {
        self.shared.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Accepts connections until `stop`, then ends those there are, and returns when they are gone.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((io, address)) => {
                    // A keystroke is a packet.
                    let _ = io.set_nodelay(true);
                    let (server, stop) = (self.clone(), stop.clone());
                    self.shared.tasks.spawn(async move { server.carry(io, address, stop).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "no SSH connection could be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Serves one connection over any byte stream, until it ends or `stop`. Bounds hold as for all others.
    pub async fn carry<IO>(&self, mut io: IO, address: SocketAddr, stop: CancellationToken)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(visit) = self.shared.door.admit(address.ip()) else {
            tracing::debug!(peer = %address, "an SSH connection was turned away");
            let _ = timeout(FAREWELL_TIME, io.write_all(SHUT)).await;
            return;
        };
        let gone = CancellationToken::new();
        // Whatever follows, what belongs to this connection ends with it.
        let _ends = gone.clone().drop_guard();
        self.converse(io, Peer { address }, Arc::new(visit), gone, stop).await;
    }

    async fn converse<IO>(
        &self,
        io: IO,
        peer: Peer,
        visit: Arc<Visit>,
        gone: CancellationToken,
        stop: CancellationToken,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let flow = Flow::new(gone.clone());
        let entered = CancellationToken::new();
        let io = Ended::by(gone.clone(), io);
        let connection = Connection::new(self.shared.clone(), peer, visit.clone(), entered.clone(), flow);
        let deadline = sleep(self.shared.bounds.authentication_time);
        tokio::pin!(deadline);
        let begun = tokio::select! {
            () = stop.cancelled() => return,
            () = &mut deadline => return visit.failed(Failure::Slow),
            begun = run_stream(self.config(), io, connection) => begun,
        };
        let mut session = match begun {
            Ok(session) => session,
            Err(error) => return tracing::debug!(peer = %peer.address, %error, "an SSH connection did not begin"),
        };
        let handle = session.handle();
        let ended = tokio::select! {
            ended = &mut session => ended,
            () = async { tokio::select! {
                biased;
                () = entered.cancelled() => std::future::pending().await,
                () = &mut deadline => {}
            } } => return visit.failed(Failure::Slow),
            () = stop.cancelled() => {
                let farewell = handle.disconnect(
                    Disconnect::ByApplication,
                    "The server is stopping.".into(),
                    "en".into(),
                );
                let _ = timeout(FAREWELL_TIME, farewell).await;
                match timeout(FAREWELL_TIME, &mut session).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %peer.address, %error, "an SSH connection ended");
        }
    }
}
