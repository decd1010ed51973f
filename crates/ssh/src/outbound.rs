//! A channel's way out, which ends when the channel does: russh's own writers would wait for ever for the
//! window of a channel that is closed.

use crate::backend::Exit;
use bytes::Bytes;
use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use std::future::Future;
use tokio_util::sync::CancellationToken;

/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254, section 5.2).
const STDERR: u32 = 1;
/// Longest name of a signal that is passed on.
const SIGNAL_NAME_BYTES_MAX: usize = 32;

/// The channel or its connection is gone.
#[derive(Debug)]
pub(crate) struct Gone;

pub(crate) struct Outbound {
    write: ChannelWriteHalf<Msg>,
    handle: Handle,
    closed: CancellationToken,
}

impl Outbound {
    /// `closed` when the peer has closed the channel, or the connection is gone.
    pub(crate) fn new(write: ChannelWriteHalf<Msg>, handle: Handle, closed: CancellationToken) -> Self {
        Self { write, handle, closed }
    }

    pub(crate) async fn data(&self, bytes: Bytes) -> Result<(), Gone> {
        self.unless_gone(self.write.data_bytes(bytes)).await
    }

    pub(crate) async fn error(&self, bytes: Bytes) -> Result<(), Gone> {
        self.unless_gone(self.write.extended_data_bytes(STDERR, bytes)).await
    }

    async fn unless_gone<E>(&self, sent: impl Future<Output = Result<(), E>>) -> Result<(), Gone> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(Gone),
            sent = sent => sent.map_err(|_| Gone),
        }
    }

    pub(crate) async fn end(&self) -> Result<(), Gone> {
        self.unless_gone(self.write.eof()).await
    }

    pub(crate) async fn exit(&self, exit: Exit) -> Result<(), Gone> {
        match exit {
            Exit::Code(code) => self.unless_gone(self.write.exit_status(code)).await,
            Exit::Signal(name) => {
                let sent = self.handle.exit_signal_request(
                    self.write.id(),
                    Sig::Custom(name),
                    false,
                    String::new(),
                    String::new(),
                );
                self.unless_gone(sent).await
            }
        }
    }

    /// Closes our side; the peer's close follows.
    pub(crate) async fn close(&self) -> Result<(), Gone> {
        self.unless_gone(self.write.close()).await
    }
}

/// A signal's name without `SIG`, if it could be one.
pub(crate) fn signal_name(signal: &Sig) -> Option<String> {
    let name = match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    };
    let plain = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    (plain && name.len() <= SIGNAL_NAME_BYTES_MAX).then(|| name.to_owned())
}
