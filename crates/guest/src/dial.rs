//! Connecting to a port or socket inside the workspace, for the server.
//!
//! Only the workspace's loopback and unix sockets can be reached: the server's word does not make
//! the guest a way into other networks. Unix sockets are opened with the user's rights.

use crate::refusal::{internal, invalid, refuse};
use crate::rights::Rights;
use rexec_api::error::ErrorCode;
use rexec_api::guest::{DialSpec, GuestError};
use rexec_channel::{BodyReceiver, BodySender, Call};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Bytes read from the inside at once.
const PIECE_BYTES: usize = 32 * 1024;
/// Loopback answers at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects, then carries bytes both ways; each direction ends by itself.
pub async fn dial(rights: &Rights, call: Call) {
    match call.header("x-rexec-dial") {
        Ok(DialSpec::Tcp { port }) => match connect_tcp(port).await {
            Ok(stream) => carry(call, stream).await,
            Err(error) => call.answer::<()>(Err(error)).await,
        },
        Ok(DialSpec::Unix { path }) => match connect_unix(rights, path).await {
            Ok(stream) => carry(call, stream).await,
            Err(error) => call.answer::<()>(Err(error)).await,
        },
        Err(error) => call.answer::<()>(Err(error)).await,
    }
}

async fn connect_tcp(port: u16) -> Result<TcpStream, GuestError> {
    if port == 0 {
        return Err(invalid("port must be from 1 to 65535"));
    }
    let addresses: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()];
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(&addresses[..]))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|e| refused(&format!("port {port}"), &e))?;
    // Without it a small answer may wait for an acknowledgement; failing is only slower.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn connect_unix(rights: &Rights, path: String) -> Result<UnixStream, GuestError> {
    let connected = rights.run(move || {
        let address = SocketAddrUnix::new(path.as_str()).map_err(|_| invalid("path must be shorter than 108 bytes"))?;
        let connect = || -> rustix::io::Result<_> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            rustix::net::connect(&socket, &address)?;
            Ok(socket)
        };
        connect().map(StdUnixStream::from).map_err(|e| refused(&path, &e.into()))
    });
    UnixStream::from_std(connected.await?).map_err(|e| internal("could not watch a socket", e))
}

fn refused(what: &str, error: &io::Error) -> GuestError {
    match Errno::from_io_error(error) {
        // The last is said of the loopback of IPv6 where there is none, after that of IPv4 has refused.
        Some(Errno::CONNREFUSED | Errno::NOENT | Errno::ADDRNOTAVAIL) => {
            refuse(ErrorCode::NotFound, format!("Nothing listens on {what} in the workspace."))
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            refuse(ErrorCode::FileDenied, format!("The workspace's user may not connect to {what}."))
        }
        _ => refuse(ErrorCode::NotFound, format!("{what} does not answer: {error}")),
    }
}

pub(crate) async fn carry<S: AsyncRead + AsyncWrite>(call: Call, stream: S) {
    let Ok((tx, rx)) = call.bytes() else {
        return;
    };
    let (read, write) = tokio::io::split(stream);
    // Either failing resets the stream by dropping its sender.
    let _ = tokio::try_join!(outward(read, tx), inward(rx, write));
}

async fn outward(mut read: impl AsyncRead + Unpin, mut tx: BodySender) -> Result<(), Box<dyn std::error::Error>> {
    loop {
        let mut piece = bytes::BytesMut::with_capacity(PIECE_BYTES);
        if read.read_buf(&mut piece).await? == 0 {
            return Ok(tx.finish()?);
        }
        tx.send(piece.freeze()).await?;
    }
}

async fn inward(mut rx: BodyReceiver, mut write: impl AsyncWrite + Unpin) -> Result<(), Box<dyn std::error::Error>> {
    while let Some(bytes) = rx.recv().await? {
        write.write_all(&bytes).await?;
    }
    Ok(write.shutdown().await?)
}
