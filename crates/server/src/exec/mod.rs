//! Exec: one command in a workspace, its output taken whole or as it comes.
//!
//! Invariant: the command lives no longer than its request: when the caller goes or the time is
//! up, the guest is told by the end of the stream and ends the command's process group.

mod budget;
pub mod http;
mod socket;

use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::terminals;
use crate::workspaces::{Workspaces, validate};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use budget::{Budget, Share};
use bytes::{BufMut, Bytes, BytesMut};
use rexec_api::error::ErrorCode;
use rexec_api::exec::{
    ExecRequest, ExecResult, OUTPUT_BYTES_MAX, OutputEncoding, PIECE_BYTES_MAX, STDIN_BYTES_MAX, TIMEOUT_MS_DEFAULT,
    TIMEOUT_MS_MAX,
};
use rexec_api::guest::{ExecSpec, exec_frame};
use rexec_api::ids::WorkspaceId;
use rexec_api::tokens::Scope;
use rexec_channel::{FrameReceiver, FrameSender};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How much of each output an error repeats.
const TAIL_BYTES: usize = 64 * 1024;

#[derive(Clone)]
pub struct Execs {
    workspaces: Workspaces,
    budget: Budget,
}

/// What a command left, and its part of the memory that answers may take.
pub struct Answer {
    pub result: ExecResult,
    pub share: Share,
}

/// Something that a running command did.
#[derive(Debug)]
pub enum Happening {
    Stdout(Bytes),
    Stderr(Bytes),
    Exit { code: i32, duration: Duration },
}

/// A running command.
pub struct Running {
    /// Kept to the end: without it the guest would end the command.
    to_guest: FrameSender,
    from_guest: FrameReceiver,
    /// What is still to be given; `None` once its end has been said.
    stdin: Option<Bytes>,
    began: Instant,
    deadline: tokio::time::Instant,
}

impl Execs {
    pub fn new(workspaces: Workspaces) -> Self {
        Self { workspaces, budget: Budget::default() }
    }

    /// Starts a command.
    pub async fn start(&self, actor: &Actor, workspace: WorkspaceId, request: ExecRequest) -> Result<Running> {
        actor.authorise_in(Scope::Exec, workspace)?;
        check(&request.command, request.cwd.as_deref(), &request.env, request.user.as_deref())?;
        check_timeout(request.timeout_ms)?;
        let stdin = stdin_of(request.stdin, request.stdin_base64)?;
        let reach = self.workspaces.reach(actor, Scope::Exec, workspace).await?;
        let spec = ExecSpec { command: request.command, cwd: request.cwd, env: request.env, user: request.user };
        let began = Instant::now();
        let (to_guest, from_guest) = reach.guest.exec(&spec).await?;
        let limit = Duration::from_millis(request.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT));
        Ok(Running { to_guest, from_guest, stdin: Some(stdin), began, deadline: tokio::time::Instant::now() + limit })
    }

    /// Runs a command to its end and gives its whole output.
    pub async fn run(&self, actor: &Actor, workspace: WorkspaceId, request: ExecRequest) -> Result<Answer> {
        let encoding = request.encoding;
        let mut share = self.budget.share(actor.user);
        let mut running = self.start(actor, workspace, request).await?;
        let (mut stdout, mut stderr) = (BytesMut::new(), BytesMut::new());
        loop {
            let (to, bytes) = match running.next().await {
                Ok(Happening::Stdout(bytes)) => (&mut stdout, bytes),
                Ok(Happening::Stderr(bytes)) => (&mut stderr, bytes),
                Ok(Happening::Exit { code, duration }) => {
                    let (stdout, stderr) = (text(&stdout, encoding), text(&stderr, encoding));
                    let duration_ms = duration.as_millis() as u64;
                    let result = ExecResult { exit_code: code, stdout, stderr, duration_ms };
                    return Ok(Answer { result, share });
                }
                Err(error) => {
                    let tail = |bytes: &[u8]| text(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..], encoding);
                    return Err(error.details(json!({ "stdout": tail(&stdout), "stderr": tail(&stderr) })));
                }
            };
            share.grow(bytes.len())?;
            to.extend_from_slice(&bytes);
            if to.len() > OUTPUT_BYTES_MAX {
                return Err(Error::new(
                    ErrorCode::OutputTooLarge,
                    format!(
                        "The output is larger than {OUTPUT_BYTES_MAX} bytes. Ask with `Accept: text/event-stream`, or write it to a file and read that."
                    ),
                ));
            }
        }
    }
}

impl Running {
    /// What the command does next. After an exit or an error, nothing follows.
    pub async fn next(&mut self) -> Result<Happening> {
        let happening = async {
            loop {
                let feeding = feed(&mut self.to_guest, &mut self.stdin);
                tokio::select! {
                    biased;
                    frame = self.from_guest.recv() => {
                        let frame = frame?.ok_or(rexec_channel::ChannelError::Closed)?;
                        return read(frame, self.began);
                    }
                    () = feeding => {}
                }
            }
        };
        tokio::time::timeout_at(self.deadline, happening).await.map_err(|_| {
            Error::new(
                ErrorCode::ExecTimeout,
                "The command did not end in time and was ended. Give it a larger `timeout_ms`, or run it in a terminal.",
            )
        })?
    }
}

/// Sends one piece of what is left of standard input, then its end; then waits for ever.
async fn feed(to_guest: &mut FrameSender, stdin: &mut Option<Bytes>) {
    let Some(rest) = stdin else { return std::future::pending().await };
    let piece = rest.slice(..rest.len().min(PIECE_BYTES_MAX));
    let mut frame = BytesMut::with_capacity(1 + piece.len());
    frame.put_u8(if piece.is_empty() { exec_frame::STDIN_END } else { exec_frame::STDIN });
    frame.put_slice(&piece);
    let sent = to_guest.send(frame.freeze()).await.is_ok();
    // A command that has ended takes no more; what it said is still to be read.
    *stdin = (sent && !piece.is_empty()).then(|| rest.slice(piece.len()..));
}

fn read(frame: Bytes, began: Instant) -> Result<Happening> {
    let strange = || Error::from(rexec_channel::ChannelError::Protocol("a strange exec frame".into()));
    match frame.first() {
        Some(&exec_frame::STDOUT) => Ok(Happening::Stdout(frame.slice(1..))),
        Some(&exec_frame::STDERR) => Ok(Happening::Stderr(frame.slice(1..))),
        Some(&exec_frame::EXIT) => {
            let (code, _) = exec_frame::read_exit(&frame[1..]).ok_or_else(strange)?;
            Ok(Happening::Exit { code, duration: began.elapsed() })
        }
        _ => Err(strange()),
    }
}

fn check(command: &[String], cwd: Option<&str>, env: &BTreeMap<String, String>, user: Option<&str>) -> Result<()> {
    terminals::command(Some(command))?;
    terminals::cwd(cwd)?;
    validate::env(env)?;
    terminals::user(user)
}

fn check_timeout(timeout_ms: Option<u64>) -> Result<()> {
    match timeout_ms {
        Some(ms) if !(1..=TIMEOUT_MS_MAX).contains(&ms) => {
            Err(Error::field("timeout_ms", format!("`timeout_ms` must be from 1 to {TIMEOUT_MS_MAX}.")))
        }
        _ => Ok(()),
    }
}

fn text(bytes: &[u8], encoding: OutputEncoding) -> String {
    match encoding {
        OutputEncoding::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
        OutputEncoding::Base64 => BASE64_STANDARD.encode(bytes),
    }
}

/// What is given to standard input, which a request may say in one of two ways.
fn stdin_of(text: Option<String>, base64: Option<String>) -> Result<Bytes> {
    let stdin: Bytes = match (text, base64) {
        (Some(_), Some(_)) => return Err(Error::field("stdin_base64", "Give `stdin` or `stdin_base64`, not both.")),
        (text, None) => text.unwrap_or_default().into(),
        (None, Some(base64)) => {
            let decoded = BASE64_STANDARD.decode(base64);
            decoded.map_err(|_| Error::field("stdin_base64", "`stdin_base64` must be base64 with padding."))?.into()
        }
    };
    if stdin.len() > STDIN_BYTES_MAX {
        return Err(Error::field(
            "stdin",
            format!("Standard input may hold {STDIN_BYTES_MAX} bytes at most; upload a file instead."),
        ));
    }
    Ok(stdin)
}
