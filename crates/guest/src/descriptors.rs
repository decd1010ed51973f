//! Open descriptors: passing them over unix sockets (`SCM_RIGHTS`), who is at the other end of one,
//! and waiting for one to be ready.

use rustix::net::sockopt::{set_socket_passcred, socket_peercred};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, UCred,
    recvmsg, sendmsg,
};
use rustix::process::{getgid, getpid, getuid};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// Most descriptors in one message.
pub const DESCRIPTORS_MAX: usize = 3;

/// Whether a message says who sends it, vouched for by the kernel (`SCM_CREDENTIALS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    Unnamed,
    Named,
}

/// Sends some of `bytes`, with the descriptors beside the first of them.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>], sender: Sender) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX), ScmCredentials(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let mut fits = descriptors.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    if sender == Sender::Named {
        let own = UCred { pid: getpid(), uid: getuid(), gid: getgid() };
        fits &= ancillary.push(SendAncillaryMessage::ScmCredentials(own));
    }
    if !fits {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(sent)
}

/// One message's beginning, and what came beside it.
#[derive(Debug)]
pub struct Received {
    /// Bytes received; 0 at the end of the stream.
    pub count: usize,
    /// At most [`DESCRIPTORS_MAX`].
    pub descriptors: Vec<OwnedFd>,
    pub sender: Option<UCred>,
}

pub fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX), ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = Received { count: message.bytes, descriptors: Vec::new(), sender: None };
    for message in ancillary.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(rights) => received.descriptors.extend(rights),
            RecvAncillaryMessage::ScmCredentials(sender) => received.sender = Some(sender),
            _ => {}
        }
    }
    Ok(received)
}

/// Has a socket's messages say who sent them.
pub fn ask_for_senders(socket: impl AsFd) -> io::Result<()> {
    Ok(set_socket_passcred(socket, true)?)
}

/// Whose request this is: of the one who connected and the one who sent, whoever may less.
///
/// Linux vouches for both. Under gVisor the question who connected is answered with the caller's
/// own numbers, which for PID 1 are root's: there the sender alone decides. On Linux the first
/// keeps a descriptor from being lent to a program of root, to have it speak for us.
pub fn author(socket: impl AsFd, sender: Option<UCred>) -> io::Result<UCred> {
    let connected = socket_peercred(socket)?;
    let sender = sender.ok_or(io::ErrorKind::PermissionDenied)?;
    if connected.uid.is_root() || connected.uid == sender.uid {
        return Ok(sender);
    }
    Err(io::ErrorKind::PermissionDenied.into())
}

/// Whether PID 1 is at the other end. Under gVisor the answer is always ourselves, who cannot be
/// the other end: there the name of the socket, which PID 1 took first and keeps, must do.
pub fn is_init(socket: impl AsFd) -> io::Result<bool> {
    let peer = socket_peercred(socket)?;
    Ok((peer.uid.is_root() && peer.pid.is_init()) || peer.pid == getpid())
}

/// Waits on a descriptor by the runtime. It must not block (`O_NONBLOCK`).
pub fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor for as long as it lives, and the
    // `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}
