//! Running one command for the server: standard input, split output, signals, exit code.
//!
//! **Order.** Output frames come as the program wrote them, per stream. How it ended is the last frame,
//! after everything that the program itself had written by then. Something it left in the background
//! may keep the pipes open; that output is no longer waited for.
//!
//! **Bounds.** Input waits in a queue of [`INPUT_BYTES_MAX`] for a program that does not read; then
//! nothing more is taken from the server. Output waits in the pipes for a server that does not
//! read, and so holds the program.

use crate::guest::Guest;
use crate::process::{End, Launch, Process, ProcessGroup, Stdio};
use crate::refusal::internal;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rexec_api::guest::{ExecSpec, exec_frame};
use rexec_channel::{Call, ChannelError, FrameReceiver, FrameSender};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::net::unix::pipe;

/// Output bytes in one frame at most.
const PIECE_BYTES: usize = 32 * 1024;
/// Input that waits for the program.
const INPUT_BYTES_MAX: usize = 256 * 1024;
/// What is read of each stream after the program's end: the largest pipe that a user may have.
const REST_BYTES_MAX: usize = 1024 * 1024;

/// Our ends of a program's standard streams.
struct Pipes {
    stdin: pipe::Sender,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

pub async fn run(guest: &Rc<Guest>, call: Call) {
    let started = call.header::<ExecSpec>("x-rexec-exec").and_then(|spec| {
        let count = guest.count_exec()?;
        let workspace = guest.workspace()?;
        let identity = workspace.identity(spec.user.as_deref())?;
        let (pipes, stdio) = pipes().map_err(|e| internal("could not make pipes", e))?;
        let process = workspace.launcher.launch(Launch {
            identity,
            command: spec.command,
            arg0: None,
            cwd: spec.cwd,
            env: spec.env,
            stdio,
        })?;
        Ok((count, process, pipes))
    });
    let (_count, process, pipes) = match started {
        Ok(started) => started,
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    let group = KillOnDrop(process.group.clone());
    if let Ok((sender, receiver)) = call.frames() {
        // Failing means that the server has gone: then the group goes too.
        let _ = carry(process, pipes, sender, receiver).await;
    }
    drop(group);
}

/// Ends what is left of the group. Does nothing after its leader was reaped.
struct KillOnDrop(ProcessGroup);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.signal(Signal::KILL);
    }
}

async fn carry(
    mut process: Process,
    pipes: Pipes,
    mut sender: FrameSender,
    receiver: FrameReceiver,
) -> Result<(), ChannelError> {
    let mut output = Output { stdout: Some(pipes.stdout), stderr: Some(pipes.stderr) };
    let group = process.group.clone();
    let mut input = std::pin::pin!(take_input(pipes.stdin, group, receiver));
    let end = {
        let mut ended = std::pin::pin!(process.exited());
        loop {
            tokio::select! {
                // Input first, so that an interrupt is not behind a flood of output.
                biased;
                cut = &mut input => return Err(cut),
                () = sender.closed() => return Err(ChannelError::Closed),
                end = &mut ended => break end,
                piece = output.next() => sender.send(piece).await?,
            }
        }
    };
    for piece in output.rest() {
        sender.send(piece).await?;
    }
    let mut exit = BytesMut::with_capacity(6);
    exit.put_u8(exec_frame::EXIT);
    exit.put_i32(end.code());
    if let End::Signal(signal) = end {
        exit.put_u8(signal as u8);
    }
    sender.send(exit.freeze()).await?;
    sender.finish()
}

/// Carries input to the program until the stream is cut, which it returns.
async fn take_input(stdin: pipe::Sender, group: ProcessGroup, mut receiver: FrameReceiver) -> ChannelError {
    let mut input = Input { pipe: Some(stdin), queue: VecDeque::new(), queued_bytes: 0, ended: false };
    let mut receiving = true;
    loop {
        let room = receiving && input.queued_bytes < INPUT_BYTES_MAX;
        tokio::select! {
            frame = receiver.recv(), if room => match frame {
                Ok(Some(frame)) => {
                    if let Err(error) = input.take(frame, &group) {
                        return error;
                    }
                }
                // The server has nothing more to say, and still listens.
                Ok(None) => {
                    receiving = false;
                    input.end();
                }
                Err(error) => return error,
            },
            () = input.write(), if input.is_waiting() => {}
            () = std::future::pending() => {}
        }
    }
}

struct Input {
    /// `None` once closed, by us or by the program.
    pipe: Option<pipe::Sender>,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    ended: bool,
}

impl Input {
    fn take(&mut self, mut frame: Bytes, group: &ProcessGroup) -> Result<(), ChannelError> {
        let fault = |what: &str| Err(ChannelError::Protocol(what.into()));
        if frame.is_empty() {
            return fault("an empty exec frame");
        }
        match (frame.get_u8(), frame.len()) {
            (exec_frame::STDIN, _) if self.ended => fault("input after its end"),
            (exec_frame::STDIN, bytes) => {
                if self.pipe.is_some() && bytes > 0 {
                    self.queued_bytes += bytes;
                    self.queue.push_back(frame);
                }
                Ok(())
            }
            (exec_frame::STDIN_END, 0) => {
                self.end();
                Ok(())
            }
            (exec_frame::SIGNAL, 1) if group.signal_raw(i32::from(frame[0])) => Ok(()),
            _ => fault("an exec frame of no known kind"),
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.close_if_done();
    }

    fn close_if_done(&mut self) {
        if self.ended && self.queue.is_empty() {
            self.pipe = None;
        }
    }

    fn is_waiting(&self) -> bool {
        self.pipe.is_some() && !self.queue.is_empty()
    }

    /// Writes what fits. A program that has closed its input wants no more of it.
    async fn write(&mut self) {
        let (Some(pipe), Some(front)) = (&mut self.pipe, self.queue.front_mut()) else {
            return;
        };
        if pipe.writable().await.is_err() {
            return self.discard();
        }
        match pipe.try_write(front) {
            Ok(count) => {
                front.advance(count);
                self.queued_bytes -= count;
                if front.is_empty() {
                    self.queue.pop_front();
                }
                self.close_if_done();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.discard(),
        }
    }

    fn discard(&mut self) {
        self.pipe = None;
        self.queue.clear();
        self.queued_bytes = 0;
    }
}

/// The streams that are still open.
struct Output {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

impl Output {
    /// The next frame; waits for ever when both streams have ended.
    async fn next(&mut self) -> Bytes {
        loop {
            tokio::select! {
                piece = read(&mut self.stdout, exec_frame::STDOUT) => {
                    if let Some(piece) = piece {
                        return piece;
                    }
                }
                piece = read(&mut self.stderr, exec_frame::STDERR) => {
                    if let Some(piece) = piece {
                        return piece;
                    }
                }
            }
        }
    }

    /// What is in the pipes at this moment. The program has ended, so all it wrote is there.
    fn rest(self) -> impl Iterator<Item = Bytes> {
        let stdout = drain(self.stdout, exec_frame::STDOUT);
        stdout.chain(drain(self.stderr, exec_frame::STDERR))
    }
}

/// `None` when the stream has just ended; one that had ended before is never ready.
async fn read(pipe: &mut Option<pipe::Receiver>, kind: u8) -> Option<Bytes> {
    let Some(open) = pipe else {
        return std::future::pending().await;
    };
    loop {
        if open.readable().await.is_err() {
            break;
        }
        let mut piece = framed(kind);
        match open.try_read_buf(&mut piece) {
            Ok(0) => break,
            Ok(_) => return Some(piece.freeze()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    *pipe = None;
    None
}

/// Reads past the runtime's idea of readiness, which may be older than the program's end.
fn drain(pipe: Option<pipe::Receiver>, kind: u8) -> impl Iterator<Item = Bytes> {
    let mut pipe = pipe.and_then(|pipe| pipe.into_nonblocking_fd().ok());
    let mut left = REST_BYTES_MAX;
    std::iter::from_fn(move || {
        let mut piece = framed(kind);
        piece.resize(PIECE_BYTES, 0);
        let count = match &pipe {
            Some(pipe) if left > 0 => rustix::io::read(pipe, &mut piece[1..]).unwrap_or(0),
            _ => 0,
        };
        if count == 0 {
            pipe = None;
            return None;
        }
        left = left.saturating_sub(count);
        piece.truncate(1 + count);
        Some(piece.freeze())
    })
}

fn framed(kind: u8) -> BytesMut {
    let mut piece = BytesMut::with_capacity(PIECE_BYTES);
    piece.put_u8(kind);
    piece
}

fn pipes() -> io::Result<(Pipes, Stdio)> {
    let pair = || pipe_with(PipeFlags::CLOEXEC);
    let ((stdin, stdin_ours), (stdout_ours, stdout), (stderr_ours, stderr)) = (pair()?, pair()?, pair()?);
    let receiver = |fd: OwnedFd| pipe::Receiver::from_owned_fd(fd);
    let ours = Pipes {
        stdin: pipe::Sender::from_owned_fd(stdin_ours)?,
        stdout: receiver(stdout_ours)?,
        stderr: receiver(stderr_ours)?,
    };
    let theirs = Stdio::Descriptors { stdin, stdout, stderr };
    Ok((ours, theirs))
}
