//! From the request to the exit code: `sudo` beside the program that PID 1 runs for it.

use super::NAME;
use super::wire::{self, LENGTH_BYTES, Reply, Request};
use crate::connect::dial;
use crate::control::receive;
use crate::descriptors::{self, Sender, watched};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Bytes carried at once between the two terminals.
const PIECE_BYTES: usize = 32 * 1024;
/// The exit code of a program whose terminal has gone: 128 + SIGHUP.
const HUNG_UP: i32 = 129;

/// The size of the terminal to imitate. `None` when the program is to have our own descriptors:
/// a stream is no terminal, or we are in the background, where a terminal must not be touched.
pub fn terminal_size() -> Option<(u16, u16)> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let foreground = rustix::termios::tcgetpgrp(&stdin).ok()? == rustix::process::getpgrp();
    if !stdin.is_terminal() || !stdout.is_terminal() || !foreground {
        return None;
    }
    let size = tcgetwinsize(&stdout).ok()?;
    Some((size.ws_col, size.ws_row))
}

/// Has the program run, and returns its exit code.
pub fn perform(request: Request) -> io::Result<i32> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(converse(request))
}

async fn converse(request: Request) -> io::Result<i32> {
    // Listening begins before the program does, so that no signal is lost between.
    let mut signals = Signals::listen()?;
    let socket = dial(NAME)?;
    let bytes = wire::encode(&request)?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let own = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let sent = descriptors::send(&socket, &bytes, &own, Sender::Named)?;
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    socket.write_all(&bytes[sent..]).await?;

    let mut pty = None;
    loop {
        let reply = tokio::select! {
            reply = next_reply(&mut socket, &mut pty) => reply?,
            signal = signals.next() => {
                socket.write_u8(signal).await?;
                continue;
            }
        };
        match reply {
            Reply::Refused { message } => return Err(io::Error::other(message)),
            Reply::Exited { code } => return Ok(code),
            Reply::Started => {
                if let Some(pty) = pty.take() {
                    return Terminals::join(pty)?.carry(socket, signals).await;
                }
            }
        }
    }
}

/// The next reply. Not to be dropped half-way, except by giving the conversation up.
async fn next_reply(socket: &mut UnixStream, pty: &mut Option<OwnedFd>) -> io::Result<Reply> {
    let mut prefix = [0; LENGTH_BYTES];
    let mut received = receive(socket, &mut prefix).await?;
    let have = received.count;
    if have == 0 {
        return Err(io::Error::other("the workspace is stopping"));
    }
    *pty = received.descriptors.pop().or(pty.take());
    socket.read_exact(&mut prefix[have..]).await?;
    let mut json = vec![0; wire::length(prefix)?];
    socket.read_exact(&mut json).await?;
    Ok(serde_json::from_slice(&json)?)
}

/// Signals that are passed on.
struct Signals(Vec<(Signal, u8)>);

impl Signals {
    fn listen() -> io::Result<Self> {
        let numbers = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];
        let listen = |number: i32| {
            let byte = u8::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
            Ok((signal(SignalKind::from_raw(number))?, byte))
        };
        numbers.into_iter().map(listen).collect::<io::Result<_>>().map(Self)
    }

    async fn next(&mut self) -> u8 {
        std::future::poll_fn(|cx| {
            for (signal, number) in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Our terminal in raw mode, joined to the program's.
struct Terminals {
    /// Opened anew, because the flags of the descriptors that we were given are shared with the
    /// shell that gave them.
    input: AsyncFd<OwnedFd>,
    output: AsyncFd<OwnedFd>,
    pty: AsyncFd<OwnedFd>,
    before: Termios,
}

impl Terminals {
    fn join(pty: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pty, true)?;
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let before = tcgetattr(&stdin)?;
        let joined = Self {
            input: watched(reopen(stdin.as_fd())?)?,
            output: watched(reopen(stdout.as_fd())?)?,
            pty: watched(pty)?,
            before,
        };
        let mut raw = joined.before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(joined)
    }

    async fn carry(self, mut socket: UnixStream, mut signals: Signals) -> io::Result<i32> {
        let mut resized = signal(SignalKind::window_change())?;
        let mut none = None;
        let mut reply = Box::pin(async move {
            loop {
                tokio::select! {
                    biased;
                    signal = signals.next() => socket.write_u8(signal).await?,
                    reply = next_reply(&mut socket, &mut none) => return reply,
                }
            }
        });
        let (mut inward, mut outward) = (Pump::new(), Pump::new());
        let exited = |reply| match reply {
            Reply::Exited { code } => Ok(code),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        };
        let code = loop {
            tokio::select! {
                reply = &mut reply => break exited(reply?)?,
                _ = resized.recv() => self.resize(),
                // Our own terminal has gone: closing the program's hangs it up.
                ended = inward.run(&self.input, &self.pty) => {
                    ended?;
                    return Ok(HUNG_UP);
                }
                // All ends of the program's terminal are closed; its exit code is still to come.
                ended = outward.run(&self.pty, &self.output) => {
                    ended?;
                    break exited((&mut reply).await?)?;
                }
            }
        };
        outward.flush(&self.output).await?;
        self.drain().await?;
        Ok(code)
    }

    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(self.output.get_ref()) {
            // The program has ended meanwhile, or goes on with the old size.
            let _ = rustix::termios::tcsetwinsize(self.pty.get_ref(), size);
        }
    }

    /// What the program had written before it ended.
    async fn drain(&self) -> io::Result<()> {
        let mut rest = Pump::new();
        while let Ok(count @ 1..) = rustix::io::read(self.pty.get_ref(), &mut rest.piece) {
            (rest.start, rest.end) = (0, count);
            rest.flush(&self.output).await?;
        }
        Ok(())
    }
}

impl Drop for Terminals {
    fn drop(&mut self) {
        // A terminal that has gone needs no restoring.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

fn reopen(terminal: impl AsFd) -> io::Result<OwnedFd> {
    if !isatty(&terminal) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let path = rustix::termios::ttyname(&terminal, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Carries bytes one way. What it has read and not written yet is kept in it, so that its futures
/// can be dropped at any time.
struct Pump {
    piece: Vec<u8>,
    start: usize,
    end: usize,
}

impl Pump {
    fn new() -> Self {
        Self { piece: vec![0; PIECE_BYTES], start: 0, end: 0 }
    }

    /// Ends when `from` has ended.
    async fn run(&mut self, from: &AsyncFd<OwnedFd>, to: &AsyncFd<OwnedFd>) -> io::Result<()> {
        loop {
            self.flush(to).await?;
            let mut ready = from.readable().await?;
            match rustix::io::read(from.get_ref(), &mut self.piece) {
                Ok(0) | Err(Errno::IO) => return Ok(()),
                Ok(count) => (self.start, self.end) = (0, count),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn flush(&mut self, to: &AsyncFd<OwnedFd>) -> io::Result<()> {
        while self.start < self.end {
            let mut ready = to.writable().await?;
            match rustix::io::write(to.get_ref(), &self.piece[self.start..self.end]) {
                Ok(count) => self.start += count,
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
