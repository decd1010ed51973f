//! Byte streams between the client and the workspace: those that the client opens, those that come to what it
//! had listen, and those to its agent.

use crate::backend::{Destination, Duplex, Incoming, Listener, Place, Target};
use crate::flow::{Flow, Inbound, Opening};
use crate::outbound::{Gone, Outbound};
use bytes::BytesMut;
use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelOpenFailure};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Bytes read from a workspace at once; as much as an idle stream keeps.
const READ_BYTES: usize = 16 * 1024;
/// What a client sent before it closed the channel is delivered within this time, or lost.
const DELIVERY_TIME: Duration = Duration::from_secs(30);
/// Listeners of one connection.
const LISTENERS_MAX: usize = 16;
/// A workspace has this long to be woken and to listen; the connection waits for it.
const LISTEN_TIME: Duration = Duration::from_secs(30);

/// A stream that the client asks for: dialled first, accepted then.
pub(crate) async fn dial(
    target: Arc<dyn Target>,
    to: Destination,
    reply: ChannelOpenHandle,
    inbound: Inbound,
    outbound: Outbound,
) {
    let closed = inbound.closed.clone();
    let dialled = tokio::select! {
        () = closed.cancelled() => return,
        dialled = target.dial(to) => dialled,
    };
    match dialled {
        Ok(stream) => {
            reply.accept().await;
            carry(stream, inbound, outbound).await;
        }
        Err(refusal) => {
            let code = match refusal.forbidden {
                true => ChannelOpenFailure::AdministrativelyProhibited.code(),
                false => ChannelOpenFailure::ConnectFailed.code(),
            };
            reply.reject(ChannelOpenFailure::Other { code, reason: refusal.message }).await;
        }
    }
}

async fn carry(stream: Box<dyn Duplex>, inbound: Inbound, outbound: Outbound) {
    let (gone, closed) = (inbound.connection_gone(), inbound.closed.clone());
    let (read, write) = split(stream);
    let delivered = CancellationToken::new();
    let both = async {
        let inward = async {
            inward(write, &inbound).await;
            delivered.cancel();
        };
        let _ = tokio::join!(inward, outward(read, &outbound));
        let _ = outbound.close().await;
    };
    // A client may close as soon as it has sent all: the workspace still gets it.
    let parting = async {
        closed.cancelled().await;
        let _ = timeout(DELIVERY_TIME, delivered.cancelled()).await;
    };
    tokio::select! {
        () = gone.cancelled() => {}
        () = parting => {}
        () = both => {}
    }
}

/// To the workspace. What it does not want any more is taken from the way nevertheless.
async fn inward(mut write: WriteHalf<Box<dyn Duplex>>, inbound: &Inbound) {
    let mut wanted = true;
    while let Some(bytes) = inbound.next().await {
        if wanted {
            wanted = write.write_all(&bytes).await.is_ok() && write.flush().await.is_ok();
        }
    }
    let _ = write.shutdown().await;
}

async fn outward(mut read: ReadHalf<Box<dyn Duplex>>, outbound: &Outbound) -> Result<(), Gone> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match read.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return outbound.end().await,
            Ok(_) => outbound.data(buffer.split().freeze()).await?,
        }
    }
}

/// What a connection needs in order to have streams come in.
#[derive(Clone)]
pub(crate) struct Reception {
    pub(crate) handle: Handle,
    pub(crate) flow: Flow,
    pub(crate) tasks: TaskTracker,
}

/// Where a stream that comes in is said to come from.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Tcp { address: String, port: u16 },
    Unix { path: String },
    Agent,
}

/// The listeners of one connection. Each ends when it is removed, or with the connection.
#[derive(Default)]
pub(crate) struct Forwards {
    listeners: HashMap<String, DropGuard>,
}

/// One name for one place; a place is listened at once.
fn name(at: &Place) -> String {
    match at {
        Place::Tcp { address, port } => format!("tcp {address} {port}"),
        Place::Unix { path } => format!("unix {path}"),
        Place::Agent => "agent".to_owned(),
    }
}

impl Forwards {
    /// Listens. The port that it became, or nothing if it could not be had.
    pub(crate) async fn add(&mut self, target: Arc<dyn Target>, at: Place, reception: Reception) -> Option<u16> {
        if self.listeners.len() >= LISTENERS_MAX || self.listeners.contains_key(&name(&at)) {
            return None;
        }
        let listener = match timeout(LISTEN_TIME, target.listen(at.clone())).await {
            Ok(Ok(listener)) => listener,
            Ok(Err(refusal)) => {
                tracing::debug!(%refusal, "a forward was refused");
                return None;
            }
            Err(_) => return None,
        };
        let port = listener.port();
        let (at, kind) = match at {
            Place::Tcp { address, .. } => (Place::Tcp { address: address.clone(), port }, Kind::Tcp { address, port }),
            Place::Unix { path } => (Place::Unix { path: path.clone() }, Kind::Unix { path }),
            Place::Agent => (Place::Agent, Kind::Agent),
        };
        self.listeners.insert(name(&at), receive(listener, kind, reception));
        Some(port)
    }

    pub(crate) fn remove(&mut self, at: &Place) -> bool {
        self.listeners.remove(&name(at)).is_some()
    }
}

/// Passes on what connects, until what it returns is dropped or the connection ends.
pub(crate) fn receive(mut listener: Box<dyn Listener>, kind: Kind, reception: Reception) -> DropGuard {
    let stop = reception.flow.gone.child_token();
    let stopped = stop.clone();
    reception.tasks.clone().spawn(async move {
        loop {
            let incoming = tokio::select! {
                () = stopped.cancelled() => return,
                incoming = listener.accept() => incoming,
            };
            let Some(incoming) = incoming else { return };
            if let Some(opening) = reception.flow.reserve() {
                reception.tasks.spawn(pass_on(incoming, kind.clone(), reception.clone(), opening));
            }
        }
    });
    stop.drop_guard()
}

async fn pass_on(incoming: Incoming, kind: Kind, reception: Reception, opening: Opening) {
    let Incoming { stream, from: (address, port) } = incoming;
    // Without a time limit: a client that accepts later would have a channel that nobody serves.
    let opened = tokio::select! {
        () = reception.flow.gone.cancelled() => return,
        opened = open(&reception.handle, kind, address, port) => opened,
    };
    let Ok(channel) = opened else { return };
    let inbound = reception.flow.open(channel.id(), reception.handle.clone());
    drop(opening);
    let (_, write) = channel.split();
    let outbound = Outbound::new(write, reception.handle, inbound.closed.clone());
    carry(stream, inbound, outbound).await;
}

async fn open(handle: &Handle, kind: Kind, from: String, from_port: u16) -> Result<Channel<Msg>, russh::Error> {
    match kind {
        Kind::Tcp { address, port } => {
            handle.channel_open_forwarded_tcpip(address, port.into(), from, from_port.into()).await
        }
        Kind::Unix { path } => handle.channel_open_forwarded_streamlocal(path).await,
        Kind::Agent => handle.channel_open_agent().await,
    }
}
