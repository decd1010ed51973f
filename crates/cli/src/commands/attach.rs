//! `attach`: a terminal of a workspace in the one that the command runs in.
//!
//! It outlives the network: a cut is followed by attaching again where the output ended, and input that the guest
//! has not taken is sent again. `Ctrl-]` lets go; the terminal goes on.

use super::workspaces::awake;
use crate::connection::Connection;
use crate::failure::{EXIT_OF_OURS, Failure, Result};
use crate::tty::{self, Raw};
use rexec_api::frames::{CLIENT_FRAME_BYTES_MAX, ServerControl, close};
use rexec_api::ids::{TerminalId, WorkspaceId};
use rexec_api::terminals::{COLS_MAX, NewTerminal, ROWS_MAX, TerminalView};
use rexec_client::{AttachOptions, Attachment, Client, ClientError, Received};
use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// `Ctrl-]`, as telnet(1) has it.
const LET_GO: u8 = 0x1d;
/// Input kept for sending again; beyond it nothing more is read.
const INPUT_BYTES_MAX: usize = 1024 * 1024;
/// Pieces of input between the thread that reads and the one that sends.
const INPUT_PIECES_MAX: usize = 16;
/// How long a cut may last.
const AWAY_MAX: Duration = Duration::from_secs(600);
/// Between attempts: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// A snapshot begins with CAN and RIS, which would clear what was scrolled away here.
const SNAPSHOT_HEAD: &[u8] = b"\x18\x1bc";
/// Instead: soft reset, all of the screen, its corner (DECSTR, ED, CUP).
const CLEAR: &[u8] = b"\x1b[!p\x1b[2J\x1b[H";

#[derive(Debug, clap::Args)]
pub struct AttachArguments {
    workspace: String,
    /// A terminal that there is, by its id or its beginning; else the one last made, or a new one.
    #[arg(long, short)]
    terminal: Option<String>,
    /// A new one in any case.
    #[arg(long, short, conflicts_with = "terminal")]
    new: bool,
    /// List the terminals instead.
    #[arg(long, short, conflicts_with_all = ["terminal", "new"])]
    list: bool,
}

pub async fn run(connection: &Connection, arguments: AttachArguments) -> Result<ExitCode> {
    let client = connection.client()?;
    if arguments.list {
        let id = crate::connection::workspace(&client, &arguments.workspace).await?.id;
        return list(connection, client.terminals(id).await?.items).map(|()| ExitCode::SUCCESS);
    }
    if !tty::is_interactive() {
        return Err(Failure::Usage("attach needs a terminal. For programs there is `rexec exec`.".into()));
    }
    let id = awake(&client, &arguments.workspace).await?.id;
    let there = if arguments.new { None } else { pick(client.terminals(id).await?.items, arguments.terminal)? };
    match there {
        Some(terminal) => hold(&client, id, terminal, None).await,
        None => {
            let (cols, rows) = bounded(tty::size());
            let made = client.create_terminal(id, &NewTerminal { cols, rows, ..Default::default() }).await?;
            hold(&client, id, made.id, Some(0)).await
        }
    }
}

fn pick(all: Vec<TerminalView>, named: Option<String>) -> Result<Option<TerminalId>> {
    let alive = all.into_iter().filter(|terminal| terminal.exit_code.is_none());
    let Some(named) = named else {
        return Ok(alive.max_by(|a, b| a.created_at.cmp(&b.created_at)).map(|terminal| terminal.id));
    };
    let found: Vec<_> = alive.map(|t| t.id).filter(|id| id.to_string().starts_with(&named)).collect();
    match found.as_slice() {
        [one] => Ok(Some(*one)),
        [] => {
            Err(Failure::NotFound(format!("No terminal {named:?} is alive there. `rexec attach --list` lists them.")))
        }
        _ => Err(Failure::NotFound(format!("Several terminals begin with {named:?}."))),
    }
}

fn list(connection: &Connection, all: Vec<TerminalView>) -> Result<()> {
    if connection.json {
        return crate::show::json(&all);
    }
    let mut table = crate::show::Table::new(&["ID", "COMMAND", "TITLE", "SIZE", "VIEWERS", "AGE"]);
    for one in all {
        let state = one.exit_code.map_or(String::new(), |code| format!(" (ended with {code})"));
        table.row(vec![
            one.id.to_string().into(),
            format!("{}{state}", one.command.join(" ")).into(),
            one.title.unwrap_or_default().into(),
            format!("{}x{}", one.cols, one.rows).into(),
            one.viewers.to_string().into(),
            crate::show::age(&one.created_at).into(),
        ]);
    }
    table.print()
}

/// A size that a terminal may have.
pub fn bounded((cols, rows): (u16, u16)) -> (u16, u16) {
    (cols.min(COLS_MAX), rows.min(ROWS_MAX))
}

/// Holds a terminal until it ends, is let go of, or cannot be reached any more. Its exit code is ours.
pub async fn hold(
    client: &Client,
    workspace: WorkspaceId,
    terminal: TerminalId,
    from: Option<u64>,
) -> Result<ExitCode> {
    let mut session = Session {
        client,
        workspace,
        terminal,
        id: uuid::Uuid::new_v4(),
        offset: from,
        pending: Pending::default(),
        resized: signal(SignalKind::window_change()).map_err(Failure::io("signals"))?,
        ended: signal(SignalKind::terminate()).map_err(Failure::io("signals"))?,
    };
    // The first attempt still speaks to a usual terminal, where an error is read.
    let first = session.attach().await?;
    let raw = Raw::enter()?;
    let outcome = session.run(first, read_input()).await;
    drop(raw);
    let end = outcome?;
    match end {
        End::Exit(code) => Ok(ExitCode::from(code as u8)),
        End::LetGo => {
            eprintln!("\nLet go of {terminal}; it goes on.");
            Ok(ExitCode::SUCCESS)
        }
        End::Closed(why) => {
            eprintln!("\nrexec: {why}");
            Ok(ExitCode::from(EXIT_OF_OURS))
        }
    }
}

enum End {
    Exit(i32),
    LetGo,
    Closed(String),
}

/// Input on its way, by what the guest says it has taken.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    /// Bytes taken before those.
    taken: u64,
    /// How many of them are on this connection.
    sent: usize,
    /// Nothing is sent before the guest has said where it stands.
    open: bool,
}

impl Pending {
    fn accept(&mut self, total: u64) {
        let gone = usize::try_from(total.saturating_sub(self.taken)).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.drain(..gone);
        self.taken = total;
        self.sent = if self.open { self.sent.saturating_sub(gone) } else { 0 };
        self.open = true;
    }

    fn cut(&mut self) {
        (self.sent, self.open) = (0, false);
    }

    /// What to send next.
    fn next(&mut self) -> Option<&[u8]> {
        if !self.open || self.sent == self.bytes.len() {
            return None;
        }
        let from = self.sent;
        self.sent = self.bytes.len().min(from + CLIENT_FRAME_BYTES_MAX / 2);
        Some(&self.bytes[from..self.sent])
    }
}

struct Session<'a> {
    client: &'a Client,
    workspace: WorkspaceId,
    terminal: TerminalId,
    /// By which the guest knows us across cuts.
    id: uuid::Uuid,
    offset: Option<u64>,
    pending: Pending,
    resized: Signal,
    /// Whoever ends us finds the terminal as it was.
    ended: Signal,
}

impl Session<'_> {
    async fn attach(&self) -> Result<Attachment> {
        let options = AttachOptions { offset: self.offset, client: Some(self.id), ..Default::default() };
        Ok(self.client.attach(self.workspace, self.terminal, options).await?)
    }

    async fn run(&mut self, first: Attachment, mut typed: mpsc::Receiver<Vec<u8>>) -> Result<End> {
        let mut attached = Some(first);
        loop {
            let attachment = match attached.take() {
                Some(attachment) => attachment,
                None => match self.again(&mut typed).await? {
                    Ok(attachment) => attachment,
                    Err(end) => return Ok(end),
                },
            };
            self.pending.cut();
            match self.serve(attachment, &mut typed).await {
                Err(Failure::Client(ClientError::WebSocket(_))) => {}
                done => return done,
            }
        }
    }

    /// After a cut: until the server answers, the person lets go, or it has been too long.
    async fn again(&mut self, typed: &mut mpsc::Receiver<Vec<u8>>) -> Result<std::result::Result<Attachment, End>> {
        let (began, mut pause) = (Instant::now(), RETRY_FIRST);
        loop {
            match self.attach().await {
                Ok(attachment) => return Ok(Ok(attachment)),
                Err(failure) if began.elapsed() > AWAY_MAX => return Err(failure),
                Err(_) => {}
            }
            let wait = tokio::time::sleep(pause);
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    _ = self.ended.recv() => return Ok(Err(End::LetGo)),
                    piece = typed.recv() => if self.keep(piece) { return Ok(Err(End::LetGo)); },
                }
            }
            pause = (pause * 2).min(RETRY_LAST);
        }
    }

    /// Keeps what was typed; `true` when the person lets go.
    fn keep(&mut self, piece: Option<Vec<u8>>) -> bool {
        let Some(piece) = piece else { return true };
        let end = piece.iter().position(|&byte| byte == LET_GO);
        self.pending.bytes.extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
        end.is_some()
    }

    /// One connection's life; a cut is an error.
    async fn serve(&mut self, mut attachment: Attachment, typed: &mut mpsc::Receiver<Vec<u8>>) -> Result<End> {
        let (cols, rows) = bounded(tty::size());
        attachment.resize(cols, rows).await?;
        loop {
            while let Some(piece) = self.pending.next() {
                let piece = piece.to_vec();
                attachment.input(&piece).await?;
            }
            let has_room = self.pending.bytes.len() < INPUT_BYTES_MAX;
            tokio::select! {
                received = attachment.next() => {
                    if let Some(end) = self.received(received?, &mut attachment).await? {
                        return Ok(end);
                    }
                }
                piece = typed.recv(), if has_room => if self.keep(piece) {
                    while let Some(piece) = self.pending.next() {
                        let piece = piece.to_vec();
                        attachment.input(&piece).await?;
                    }
                    let _ = attachment.close().await;
                    return Ok(End::LetGo);
                },
                _ = self.ended.recv() => return Ok(End::LetGo),
                _ = self.resized.recv() => {
                    let (cols, rows) = bounded(tty::size());
                    attachment.resize(cols, rows).await?;
                }
            }
        }
    }

    async fn received(&mut self, received: Received, attachment: &mut Attachment) -> Result<Option<End>> {
        match received {
            Received::Output { offset, bytes } => {
                draw(&bytes)?;
                self.drawn(offset + bytes.len() as u64, attachment).await?;
            }
            Received::Snapshot { offset, bytes } => {
                draw(CLEAR)?;
                draw(bytes.strip_prefix(SNAPSHOT_HEAD).unwrap_or(&bytes))?;
                self.drawn(offset, attachment).await?;
            }
            Received::InputAccepted(total) => self.pending.accept(total),
            Received::Exit(code) => return Ok(Some(End::Exit(code))),
            Received::Control(ServerControl::Error { message, .. }) => return Ok(Some(End::Closed(message))),
            Received::Control(_) => {}
            Received::Closed(close::SIGN_IN) => {
                return Ok(Some(End::Closed("You are no longer signed in. Sign in with `rexec login`.".into())));
            }
            Received::Closed(close::FORBIDDEN) => return Ok(Some(End::Closed("You may not use it any more.".into()))),
            Received::Closed(close::ENDED) => return Ok(Some(End::Closed("The terminal has ended.".into()))),
            Received::Closed(_) => {
                let cut = tokio_tungstenite::tungstenite::Error::ConnectionClosed;
                return Err(ClientError::WebSocket(Box::new(cut)).into());
            }
        }
        Ok(None)
    }

    async fn drawn(&mut self, offset: u64, attachment: &mut Attachment) -> Result<()> {
        self.offset = Some(offset);
        Ok(attachment.acknowledge(offset).await?)
    }
}

fn draw(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::io("the terminal"))
}

/// A thread that ends with the process: nothing wakes it from a read.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(INPUT_PIECES_MAX);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_sent_again_from_where_the_guest_stands() {
        let mut pending = Pending::default();
        pending.bytes.extend_from_slice(b"abcdef");
        assert_eq!(pending.next(), None, "not before the guest has spoken");
        pending.accept(0);
        assert_eq!(pending.next(), Some(&b"abcdef"[..]));
        assert_eq!(pending.next(), None);
        pending.accept(2);
        pending.bytes.extend_from_slice(b"gh");
        assert_eq!(pending.next(), Some(&b"gh"[..]));
        pending.cut();
        assert_eq!(pending.next(), None);
        pending.accept(5);
        assert_eq!(pending.next(), Some(&b"fgh"[..]));
        pending.accept(8);
        assert!(pending.bytes.is_empty() && pending.next().is_none());
    }
}
