//! A command without a terminal: a guest's exec, with its standard error apart. SFTP is one, too.
//!
//! Invariant: it ends with its channel; the guest ends its process group.

use crate::config::Use;
use crate::error::{Error, Result};
use crate::workspaces::{Reach, Waker};
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use rexec_api::error::ErrorCode;
use rexec_api::guest::{ExecSpec, PROGRAM, exec_frame};
use rexec_channel::{FrameReceiver, FrameSender};
use rexec_ssh::{Control, Event, Exit, Input, Output, Running, Work};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// Longest command; the kernel takes no longer argument (MAX_ARG_STRLEN).
const COMMAND_BYTES_MAX: usize = 128 * 1024 - 1;
/// Bytes of standard input in one frame.
const PIECE_BYTES: usize = 32 * 1024;
/// What is told when the link to the workspace broke under a command.
const EXIT_LOST: u32 = 255;
/// The user's own shell, which the guest names, for what the client wrote.
const BY_SHELL: &str = "exec \"${SHELL:-/bin/sh}\" -c \"$0\"";
/// The same as a login shell that reads its standard input.
const LOGIN_SHELL: &str = "exec \"${SHELL:-/bin/sh}\" -l";

/// The command of a request as text; none for a shell.
pub(super) fn line(work: &Work) -> Result<Option<String>> {
    let Work::Command(bytes) = work else { return Ok(None) };
    let fault = |message: &str| Error::new(ErrorCode::InvalidRequest, message.to_owned());
    if bytes.len() > COMMAND_BYTES_MAX {
        return Err(fault("The command is too long. Send it on standard input: ssh <workspace> sh < file"));
    }
    let line = std::str::from_utf8(bytes).ok().filter(|line| !line.contains('\0'));
    line.map(|line| Some(line.to_owned())).ok_or_else(|| fault("The command must be UTF-8, without NUL bytes."))
}

/// What has the user's shell run a line.
pub(super) fn by_shell(line: String) -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-c".to_owned(), BY_SHELL.to_owned(), line]
}

/// What the client may set, and where it comes from, as programs look for it.
pub(super) fn environment(env: Vec<(String, String)>, client: SocketAddr) -> BTreeMap<String, String> {
    let mut env: BTreeMap<_, _> = env.into_iter().collect();
    let (address, port) = (client.ip().to_canonical(), client.port());
    // The workspace's own side has neither an address nor a port that would mean anything there.
    env.insert("SSH_CLIENT".to_owned(), format!("{address} {port} 22"));
    env.insert("SSH_CONNECTION".to_owned(), format!("{address} {port} 127.0.0.1 22"));
    env
}

/// Starts what was asked for.
pub(super) async fn start(reach: Reach, work: Work, env: Vec<(String, String)>, client: SocketAddr) -> Result<Running> {
    let command = match (&work, line(&work)?) {
        (Work::Sftp, _) => vec![PROGRAM.to_owned(), "sftp".to_owned()],
        (_, Some(line)) => by_shell(line),
        (_, None) => vec!["/bin/sh".to_owned(), "-c".to_owned(), LOGIN_SHELL.to_owned()],
    };
    let spec = ExecSpec { command, cwd: None, env: environment(env, client), user: None };
    let (to_guest, from_guest) = reach.guest.exec(&spec).await?;
    let pipe = Pipe(Arc::new(Mutex::new(to_guest)));
    Ok(Running {
        input: Box::new(Stdin { pipe: pipe.clone(), waker: reach.waker }),
        control: Box::new(Signals(pipe.clone())),
        output: Box::new(Streams { from_guest, _pipe: pipe, over: false }),
    })
}

/// The way to the guest, which input and signals share; both are of one task, as [`Running`] says, so that one waker is
/// enough. Kept to the end: without it the guest would end the command.
#[derive(Clone)]
struct Pipe(Arc<Mutex<FrameSender>>);

impl Pipe {
    fn with<T>(&self, act: impl FnOnce(&mut FrameSender) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|sender| sender.poll_ready(cx)).map_err(broken)
    }

    async fn send(&self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await?;
        let mut frame = BytesMut::with_capacity(1 + bytes.len());
        frame.put_u8(kind);
        frame.put_slice(bytes);
        self.with(|sender| sender.start_send(frame.freeze())).map_err(broken)
    }
}

pub(super) fn broken(error: rexec_channel::ChannelError) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

struct Stdin {
    pipe: Pipe,
    waker: Waker,
}

#[async_trait]
impl Input for Stdin {
    async fn write(&mut self, mut bytes: Bytes) -> io::Result<()> {
        self.waker.used(Use::Ssh).await;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            self.pipe.send(exec_frame::STDIN, &piece).await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.pipe.send(exec_frame::STDIN_END, &[]).await
    }
}

struct Signals(Pipe);

#[async_trait]
impl Control for Signals {
    /// Without a terminal there is no size.
    async fn resize(&mut self, _size: rexec_ssh::Size) {}

    async fn signal(&mut self, name: &str) {
        if let Some(number) = number_of(name) {
            // What is broken is told by the output.
            let _ = self.0.send(exec_frame::SIGNAL, &[number]).await;
        }
    }
}

/// The signals that RFC 4254, section 6.10 names, by their numbers on Linux.
const SIGNALS: [(&str, u8); 13] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("ABRT", 6),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
];

fn number_of(name: &str) -> Option<u8> {
    SIGNALS.iter().find(|(of, _)| *of == name).map(|(_, number)| *number)
}

/// A signal that has no name in SSH is told by the code, as shells do.
fn ended((code, signal): (i32, Option<u8>)) -> Event {
    let name = signal.and_then(|signal| SIGNALS.iter().find(|(_, number)| *number == signal));
    Event::Exit(name.map_or(Exit::Code(code as u32), |(name, _)| Exit::Signal((*name).to_owned())))
}

struct Streams {
    from_guest: FrameReceiver,
    _pipe: Pipe,
    /// Its last words are said.
    over: bool,
}

#[async_trait]
impl Output for Streams {
    async fn next(&mut self) -> Event {
        if self.over {
            return Event::Exit(Exit::Code(EXIT_LOST));
        }
        let Ok(Some(frame)) = self.from_guest.recv().await else { return self.lost() };
        match frame.split_first() {
            Some((&exec_frame::STDOUT, _)) => Event::Out(frame.slice(1..)),
            Some((&exec_frame::STDERR, _)) => Event::Err(frame.slice(1..)),
            Some((&exec_frame::EXIT, rest)) => exec_frame::read_exit(rest).map_or_else(|| self.lost(), ended),
            _ => self.lost(),
        }
    }
}

impl Streams {
    fn lost(&mut self) -> Event {
        self.over = true;
        Event::Err("rexec: the link to the workspace broke\n".into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_text_that_an_argument_can_be() {
        assert_eq!(line(&Work::Shell).unwrap(), None);
        assert_eq!(line(&Work::Command(b"echo \xc3\xa9".to_vec())).unwrap().as_deref(), Some("echo \u{e9}"));
        for bad in [b"\xff".to_vec(), b"a\0b".to_vec(), vec![b'x'; COMMAND_BYTES_MAX + 1]] {
            assert!(line(&Work::Command(bad)).is_err());
        }
    }
}
