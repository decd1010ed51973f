//! A shell, or anything else on a terminal: a terminal that the guest keeps, attached to by this connection.
//!
//! It outlives the connection: cut off, it goes on and is found in the browser, or by `ssh -t <workspace> attach`.
//!
//! Invariant: a new terminal is attached from its first byte, so that nothing is drawn over; one that there was, by a
//! snapshot. What has been written to the client is acknowledged, so that a client that is slow holds the program no
//! longer than any viewer may.

use super::command::broken;
use crate::config::Use;
use crate::error::{Error, Result};
use crate::workspaces::{Reach, Report, Waker};
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use rexec_api::error::ErrorCode;
use rexec_api::frames::{CLIENT_FRAME_BYTES_MAX, ClientFrame, ServerControl, ServerFrame};
use rexec_api::guest::{AttachMode, AttachSpec, TerminalInfo, TerminalSpec};
use rexec_api::ids::TerminalId;
use rexec_api::terminals::{COLS_MAX, ROWS_MAX};
use rexec_api::workspaces::WorkspaceStatus;
use rexec_channel::{FrameReceiver, FrameSender, GuestClient};
use rexec_ssh::{Control, Event, Exit, Input, Output, Pty, Running, Size, Work};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::sync::watch;

/// The command that attaches to a terminal that there is.
const ATTACH: &str = "attach";
/// First byte of what is typed.
const KIND_INPUT: u8 = 0x00;
/// Bytes of input in one frame.
const PIECE_BYTES: usize = CLIENT_FRAME_BYTES_MAX - 1;
/// The kind and offset before the bytes of an output or snapshot frame.
const OUTPUT_HEAD_BYTES: usize = 9;
/// What is told when an attachment ends and the terminal has not.
const EXIT_DETACHED: u32 = 255;

/// Opens or attaches to a terminal.
pub(super) async fn open(
    reach: Reach,
    work: Work,
    pty: Pty,
    env: Vec<(String, String)>,
    client: SocketAddr,
) -> Result<Running> {
    let size = within_bounds(pty.size);
    let command = super::command::line(&work)?;
    if let Some(wanted) = command.as_deref().and_then(attach_to) {
        let id = find(&reach.guest, wanted).await?;
        return attach(reach, id, None, size).await;
    }
    let mut env = super::command::environment(env, client);
    // A client without one of its own names none.
    if !pty.term.is_empty() {
        env.insert("TERM".to_owned(), pty.term);
    }
    let spec = TerminalSpec {
        id: TerminalId::new(),
        cols: size.cols,
        rows: size.rows,
        command: command.map(super::command::by_shell),
        cwd: None,
        env,
        user: None,
    };
    let id = reach.guest.create_terminal(&spec).await?.id;
    attach(reach, id, Some(0), size).await
}

fn within_bounds(size: Size) -> Size {
    Size { cols: size.cols.clamp(1, COLS_MAX), rows: size.rows.clamp(1, ROWS_MAX) }
}

/// Which terminal a command asks to be attached to, as its id or the beginning of it; empty: the last used.
fn attach_to(command: &str) -> Option<&str> {
    let rest = command.trim().strip_prefix(ATTACH)?;
    (rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim()).filter(|id| !id.contains(' '))
}

async fn find(guest: &GuestClient, wanted: &str) -> Result<TerminalId> {
    let terminals = guest.terminals().await?;
    let living = terminals.into_iter().filter(|info| info.exit_code.is_none());
    let fitting = living.filter(|info| info.id.to_string().starts_with(wanted));
    let last_used = |info: &TerminalInfo| info.last_input_ms.max(info.created_ms);
    fitting.max_by_key(last_used).map(|info| info.id).ok_or_else(|| {
        let message = "There is no such terminal. Without `attach` you get a new one.";
        Error::new(ErrorCode::TerminalGone, message)
    })
}

async fn attach(reach: Reach, id: TerminalId, offset: Option<u64>, size: Size) -> Result<Running> {
    let spec = AttachSpec { offset, mode: AttachMode::Control, client: None };
    let (mut to_guest, from_guest) = reach.guest.attach(id, &spec).await?;
    // A program that has ended already takes no size; what it said is still to be read.
    let _ = to_guest.send(ClientFrame::Resize { cols: size.cols, rows: size.rows }.to_vec().into()).await;
    let line = Arc::new(Line(Mutex::new(Some(to_guest))));
    Ok(Running {
        input: Box::new(Keyboard { line: line.clone(), waker: reach.waker }),
        control: Box::new(Window(line.clone())),
        output: Box::new(Screen {
            line,
            from_guest,
            reports: reach.reports,
            drawn: None,
            is_flushed: true,
            over: false,
        }),
    })
}

/// The way to the guest, which what is typed, sizes and acknowledgements share. Its users are of one task, as
/// [`Running`] says, so that one waker is enough for all of them.
struct Line(Mutex<Option<FrameSender>>);

impl Line {
    fn lock(&self) -> MutexGuard<'_, Option<FrameSender>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.lock().as_mut() {
            Some(sender) => sender.poll_ready(cx).map_err(broken),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn start_send(&self, frame: Bytes) -> io::Result<()> {
        self.lock().as_mut().map_or(Ok(()), |sender| sender.start_send(frame)).map_err(broken)
    }

    async fn send(&self, frame: Bytes) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await?;
        self.start_send(frame)?;
        std::future::poll_fn(|cx| self.poll_ready(cx)).await
    }
}

impl Drop for Line {
    /// Leaves in good order: the program is not held for one who comes back.
    fn drop(&mut self) {
        if let Some(sender) = self.lock().take() {
            // The link may have gone before.
            let _ = sender.finish();
        }
    }
}

struct Keyboard {
    line: Arc<Line>,
    waker: Waker,
}

#[async_trait]
impl Input for Keyboard {
    async fn write(&mut self, mut bytes: Bytes) -> io::Result<()> {
        self.waker.used(Use::Ssh).await;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            let mut frame = BytesMut::with_capacity(1 + piece.len());
            frame.put_u8(KIND_INPUT);
            frame.put_slice(&piece);
            self.line.send(frame.freeze()).await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Window(Arc<Line>);

#[async_trait]
impl Control for Window {
    async fn resize(&mut self, size: Size) {
        let Size { cols, rows } = within_bounds(size);
        // What is broken is told by the output.
        let _ = self.0.send(ClientFrame::Resize { cols, rows }.to_vec().into()).await;
    }

    /// A terminal's signals are what is typed.
    async fn signal(&mut self, _name: &str) {}
}

struct Screen {
    line: Arc<Line>,
    from_guest: FrameReceiver,
    reports: watch::Receiver<Report>,
    /// Written to the client up to here, and not acknowledged yet.
    drawn: Option<u64>,
    /// Whether the acknowledgement that was given away last has gone out.
    is_flushed: bool,
    /// Its last words are said.
    over: bool,
}

impl Screen {
    fn poll_acknowledge(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.drawn.is_none() && self.is_flushed {
            return Ok(());
        }
        while let Poll::Ready(ready) = self.line.poll_ready(cx) {
            ready?;
            self.is_flushed = true;
            let Some(end) = self.drawn.take() else { return Ok(()) };
            self.line.start_send(ClientFrame::Ack(end).to_vec().into())?;
            self.is_flushed = false;
        }
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        // What is broken one way is broken the other, which tells it.
        let _ = self.poll_acknowledge(cx);
        Poll::Ready(ready!(self.from_guest.poll_recv(cx)).unwrap_or(None))
    }

    /// What to say when the attachment ends before the terminal.
    fn farewell(&self) -> String {
        match self.reports.borrow().status {
            WorkspaceStatus::Running => "the link to the workspace broke; `attach` finds the terminal again".to_owned(),
            status => format!("the workspace is {}", status.as_str()),
        }
    }
}

#[async_trait]
impl Output for Screen {
    async fn next(&mut self) -> Event {
        loop {
            if self.over {
                return Event::Exit(Exit::Code(EXIT_DETACHED));
            }
            let Some(frame) = std::future::poll_fn(|cx| self.poll_next(cx)).await else {
                self.over = true;
                return said(&self.farewell());
            };
            match ServerFrame::parse(&frame) {
                Ok(ServerFrame::Output { offset, bytes }) => {
                    self.drawn = Some(offset + bytes.len() as u64);
                    return Event::Out(frame.slice(OUTPUT_HEAD_BYTES..));
                }
                Ok(ServerFrame::Snapshot { offset, .. }) => {
                    self.drawn = Some(offset);
                    return Event::Out(frame.slice(OUTPUT_HEAD_BYTES..));
                }
                Ok(ServerFrame::Exit(code)) => return Event::Exit(Exit::Code(code as u32)),
                Ok(ServerFrame::Control(ServerControl::Error { message, .. })) => {
                    self.over = true;
                    return said(&crate::guest_error::tame(&message));
                }
                Ok(ServerFrame::Control(_) | ServerFrame::InputAccepted(_)) => {}
                Err(_) => {
                    self.over = true;
                    return said("the workspace's guest said something strange");
                }
            }
        }
    }
}

fn said(what: &str) -> Event {
    Event::Err(format!("\r\nrexec: {what}\r\n").into())
}

#[cfg(test)]
mod tests {
    use super::attach_to;

    #[test]
    fn attach_is_a_word_of_its_own() {
        assert_eq!(attach_to("attach"), Some(""));
        assert_eq!(attach_to(" attach 0190 "), Some("0190"));
        for command in ["attached", "attach a b", "tmux attach", ""] {
            assert_eq!(attach_to(command), None, "{command}");
        }
    }
}
