//! The control socket: how a process of root inside the workspace brings a byte stream to PID 1.
//!
//! It is an abstract unix socket, so it needs nothing from the image's file system. Only a peer of
//! uid 0 is listened to. Of a gateway, which shares its host's network and with it all abstract names, it is one in the
//! container's own memory.
//!
//! ```text
//! peer  -> PID 1   one byte CONNECT, with two descriptors: what to read from and what to write to
//! PID 1 -> peer    TAKEN: PID 1 uses the descriptors; the peer waits for the end of this socket
//!                  RELAY: PID 1 cannot use them; the peer carries the bytes over this socket
//! ```
//!
//! Descriptors spare a copy through a third process on every byte. They are used when both are
//! pipes, which is what engines give to an exec without a terminal.

use crate::descriptors::{self, Received};
use rexec_channel::Call;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdUnixListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, join};
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub const NAME: &str = "rexec/control";
/// Of a gateway; every container has a `/dev/shm` of its own.
pub const GATEWAY_PATH: &str = "/dev/shm/rexec-control";
pub const CONNECT: u8 = b'C';
pub const TAKEN: u8 = b'T';
pub const RELAY: u8 = b'R';

/// A peer says what it wants within this.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// Peers that have not said yet who they are; one more is turned away. Anyone in the workspace may
/// connect, and a descriptor of PID 1 is not theirs to use up.
pub const STRANGERS_MAX: usize = 128;
/// Waiting after a failed accept: only a lack of descriptors makes one fail.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds an abstract socket. Fails when somebody has the name already.
pub fn bind(name: &str) -> io::Result<UnixListener> {
    let address = SocketAddr::from_abstract_name(name)?;
    ready(StdUnixListener::bind_addr(&address)?)
}

/// Binds a socket at a path, in the place of one that is there.
pub fn bind_at(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    ready(StdUnixListener::bind(path)?)
}

fn ready(listener: StdUnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    descriptors::ask_for_senders(&listener)?;
    UnixListener::from_std(listener)
}

pub async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Accepts for ever; requests are for `handler`.
pub async fn listen<H, F>(handler: H, listener: UnixListener)
where
    H: Fn(Call) -> F + Clone + 'static,
    F: Future<Output = ()> + 'static,
{
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    loop {
        let stream = accept(&listener).await;
        if let Ok(place) = strangers.clone().try_acquire_owned() {
            tokio::task::spawn_local(greet(handler.clone(), stream, place));
        }
    }
}

/// A peer that breaks off or breaks the protocol is left alone: nobody waits for a word from us.
async fn greet<H, F>(handler: H, mut stream: UnixStream, place: OwnedSemaphorePermit)
where
    H: Fn(Call) -> F,
    F: Future<Output = ()> + 'static,
{
    let mut greeting = [0];
    let received = timeout(GREETING_TIMEOUT, receive(&stream, &mut greeting)).await;
    let Ok(Ok(received)) = received else {
        return;
    };
    let author = descriptors::author(&stream, received.sender);
    let is_root = author.is_ok_and(|author| author.uid.is_root());
    if !is_root || received.count != 1 || greeting != [CONNECT] {
        return;
    }
    drop(place);
    let mut given = received.descriptors;
    let pipes = match (given.pop(), given.pop(), given.pop()) {
        (Some(write), Some(read), None) => open_pipes(read, write),
        _ => None,
    };
    match pipes {
        Some((read, write)) => {
            if stream.write_all(&[TAKEN]).await.is_err() {
                return;
            }
            // The peer's end means that whoever ran it wants this over.
            tokio::select! {
                _ = rexec_channel::serve(join(read, write), handler) => {}
                _ = stream.read_u8() => {}
            }
        }
        None => {
            if stream.write_all(&[RELAY]).await.is_ok() {
                // A broken connection is the server's to notice and to make again.
                let _ = rexec_channel::serve(stream, handler).await;
            }
        }
    }
}

fn open_pipes(read: OwnedFd, write: OwnedFd) -> Option<(pipe::Receiver, pipe::Sender)> {
    Some((pipe::Receiver::from_owned_fd(read).ok()?, pipe::Sender::from_owned_fd(write).ok()?))
}

/// Receives bytes, waiting for them, with descriptors and the sender's name if there are any.
pub async fn receive(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<Received> {
    descriptors::ask_for_senders(stream)?;
    loop {
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, || descriptors::receive(stream, bytes)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}
