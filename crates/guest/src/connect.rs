//! `guest connect [gateway]`: joins its standard input and output to PID 1's control socket.
//!
//! The engine runs it as root to reach the guest where no faster way exists. It hands the two
//! descriptors over and waits; where that cannot be, it carries the bytes itself.

use crate::control::{CONNECT, GATEWAY_PATH, NAME, RELAY, TAKEN};
use crate::descriptors::{self, Sender};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

const PIECE_BYTES: usize = 64 * 1024;

pub fn run(mut arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let mut socket = match arguments.next() {
        None => dial(NAME)?,
        Some(word) if word == "gateway" => checked(UnixStream::connect(GATEWAY_PATH)?)?,
        Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: guest connect [gateway]")),
    };
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let own = [stdin.as_fd(), stdout.as_fd()];
    descriptors::send(&socket, &[CONNECT], &own, Sender::Named)?;
    let mut answer = [0];
    socket.read_exact(&mut answer)?;
    match answer[0] {
        TAKEN => {
            // Ends when PID 1 is done with the descriptors.
            let _ = socket.read(&mut answer)?;
            Ok(())
        }
        RELAY => relay(socket),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Connects to PID 1. An abstract name belongs to whoever binds it first, so the peer is checked.
pub fn dial(name: &str) -> io::Result<UnixStream> {
    checked(UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?)
}

fn checked(socket: UnixStream) -> io::Result<UnixStream> {
    if descriptors::is_init(&socket)? { Ok(socket) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

fn relay(socket: UnixStream) -> io::Result<()> {
    let inward = socket.try_clone()?;
    // Not joined: a blocked read of standard input must not outlive the guest's end.
    std::thread::Builder::new().spawn(move || {
        // A failure shows as the end of the stream on the other side.
        let _ = copy(io::stdin().lock(), &inward);
        let _ = inward.shutdown(Shutdown::Write);
    })?;
    copy(&socket, io::stdout().lock())
}

/// Flushes every piece: frames must not wait for more.
pub(crate) fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = from.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&piece[..count])?;
        to.flush()?;
    }
}
