//! A session channel: what is asked for before it starts, and what runs then.

use crate::backend::{Event, Exit, Input, Notices, Output, Place, Pty, Refusal, Request, Running, Size, Target, Work};
use crate::flow::Inbound;
use crate::forward::{self, Reception};
use crate::outbound::{Gone, Outbound};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Variables that a client may set. All else could change what programs do before they ask the user.
const ENV_NAMES: &[&str] = &["LANG", "COLORTERM", "NO_COLOR", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "GIT_PROTOCOL"];
const ENV_PREFIXES: &[&str] = &["LC_"];
const ENV_MAX: usize = 32;
const ENV_BYTES_MAX: usize = 1024;
/// Signals that wait to be passed on. More are lost: the first have not been looked at.
const SIGNALS_MAX: usize = 8;
/// Lines that a target may be ahead of the client. More are lost.
const NOTICES_MAX: usize = 16;
/// The exit code of what never started; 255 would be read as a failed connection.
const NOT_STARTED: u32 = 254;
/// For clients that ask for a terminal and have no size.
const SIZE_DEFAULT: Size = Size { cols: 80, rows: 24 };

/// A session channel, from its opening on.
pub(crate) struct Prepared {
    /// Until it starts.
    ways: Option<(Inbound, Outbound)>,
    closed: CancellationToken,
    pty: Option<Pty>,
    env: Vec<(String, String)>,
    agent: bool,
    size: watch::Sender<Size>,
    signals: (mpsc::Sender<String>, Option<mpsc::Receiver<String>>),
}

/// All that a session has when it starts.
pub(crate) struct Start {
    request: Request,
    agent: bool,
    inbound: Inbound,
    outbound: Outbound,
    size: watch::Receiver<Size>,
    signals: mpsc::Receiver<String>,
}

fn may_set(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain && (ENV_NAMES.contains(&name) || ENV_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

impl Prepared {
    pub(crate) fn new(inbound: Inbound, outbound: Outbound) -> Self {
        let (signals, signalled) = mpsc::channel(SIGNALS_MAX);
        Self {
            closed: inbound.closed.clone(),
            ways: Some((inbound, outbound)),
            pty: None,
            env: Vec::new(),
            agent: false,
            size: watch::Sender::new(SIZE_DEFAULT),
            signals: (signals, Some(signalled)),
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.closed.is_cancelled()
    }

    pub(crate) fn set_pty(&mut self, mut pty: Pty) -> bool {
        let plain = pty.term.len() <= ENV_BYTES_MAX && !pty.term.contains('\0');
        if self.ways.is_none() || !plain {
            return false;
        }
        if pty.size.cols == 0 || pty.size.rows == 0 {
            pty.size = SIZE_DEFAULT;
        }
        self.pty = Some(pty);
        true
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) -> bool {
        let fits = name.len() + value.len() <= ENV_BYTES_MAX && !value.contains('\0') && self.env.len() < ENV_MAX;
        if self.ways.is_none() || !fits || !may_set(name) {
            return false;
        }
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        true
    }

    pub(crate) fn set_agent(&mut self) -> bool {
        self.agent = true;
        self.ways.is_some()
    }

    pub(crate) fn resize(&mut self, size: Size) {
        if size.cols > 0 && size.rows > 0 {
            self.size.send_replace(size);
        }
    }

    pub(crate) fn signal(&mut self, name: String) {
        let _ = self.signals.0.try_send(name);
    }

    /// Everything for the one thing that a session may run.
    pub(crate) fn start(&mut self, work: Work) -> Option<Start> {
        let (inbound, outbound) = self.ways.take()?;
        let pty = self.pty.take().filter(|_| work != Work::Sftp);
        let env = std::mem::take(&mut self.env);
        let mut size = self.size.subscribe();
        size.mark_unchanged();
        let request = Request { work, pty, env };
        Some(Start { request, agent: self.agent, inbound, outbound, size, signals: self.signals.1.take()? })
    }
}

/// Runs what was asked for, from beginning to end: its own, or the channel's, with which it is dropped.
pub(crate) async fn run(target: Arc<dyn Target>, start: Start, reception: Reception) {
    let closed = start.inbound.closed.clone();
    let _ = tokio::select! {
        () = closed.cancelled() => Err(Gone),
        ended = converse(target, start, reception) => ended,
    };
}

async fn converse(target: Arc<dyn Target>, mut start: Start, reception: Reception) -> Result<(), Gone> {
    let line_end = if start.request.pty.is_some() { "\r\n" } else { "\n" };
    let outbound = &start.outbound;
    let mut _agent = None;
    if start.agent {
        match target.listen(Place::Agent).await {
            Ok(listener) => {
                let path = listener.path().unwrap_or_default().to_owned();
                start.request.env.push(("SSH_AUTH_SOCK".to_owned(), path));
                _agent = Some(forward::receive(listener, forward::Kind::Agent, reception));
            }
            Err(refusal) => say(outbound, &format!("Your agent is not forwarded: {refusal}"), line_end).await?,
        }
    }
    let exit = match begin(&target, start.request, outbound, line_end).await? {
        Ok(running) => carry(running, &start.inbound, outbound, start.size, start.signals).await?,
        Err(refusal) => {
            say(outbound, &refusal.message, line_end).await?;
            Exit::Code(NOT_STARTED)
        }
    };
    // Not after the end of output: a client that has ended too may close at once, and would not hear of it.
    outbound.exit(exit).await?;
    outbound.end().await?;
    outbound.close().await
}

async fn say(outbound: &Outbound, line: &str, line_end: &str) -> Result<(), Gone> {
    outbound.error(Bytes::from(format!("{}{line_end}", line.replace('\n', line_end)))).await
}

/// Has the target begin, and passes on what it says meanwhile.
async fn begin(
    target: &Arc<dyn Target>,
    request: Request,
    outbound: &Outbound,
    line_end: &str,
) -> Result<Result<Running, Refusal>, Gone> {
    let (notices, mut lines) = mpsc::channel(NOTICES_MAX);
    let begun = target.run(request, Notices(notices));
    tokio::pin!(begun);
    let begun = loop {
        tokio::select! {
            biased;
            Some(line) = lines.recv() => say(outbound, &line, line_end).await?,
            begun = &mut begun => break begun,
        }
    };
    while let Ok(line) = lines.try_recv() {
        say(outbound, &line, line_end).await?;
    }
    Ok(begun)
}

async fn carry(
    running: Running,
    inbound: &Inbound,
    outbound: &Outbound,
    mut size: watch::Receiver<Size>,
    mut signals: mpsc::Receiver<String>,
) -> Result<Exit, Gone> {
    let Running { mut input, mut control, mut output } = running;
    let feed = async {
        feed(input.as_mut(), inbound).await;
        std::future::pending::<()>().await;
    };
    let steer = async {
        loop {
            tokio::select! {
                Ok(()) = size.changed() => {
                    let size = *size.borrow_and_update();
                    control.resize(size).await;
                }
                Some(name) = signals.recv() => control.signal(&name).await,
                else => std::future::pending::<()>().await,
            }
        }
    };
    tokio::select! {
        exit = drain(output.as_mut(), outbound) => exit,
        () = feed => Err(Gone),
        () = steer => Err(Gone),
    }
}

/// What the client sends, until its end. What nobody wants any more is taken from the way nevertheless.
async fn feed(input: &mut dyn Input, inbound: &Inbound) {
    let mut wanted = true;
    while let Some(bytes) = inbound.next().await {
        if wanted {
            wanted = input.write(bytes).await.is_ok();
        }
    }
    if wanted {
        let _ = input.finish().await;
    }
}

async fn drain(output: &mut dyn Output, outbound: &Outbound) -> Result<Exit, Gone> {
    loop {
        match output.next().await {
            Event::Out(bytes) => outbound.data(bytes).await?,
            Event::Err(bytes) => outbound.error(bytes).await?,
            Event::Exit(exit) => return Ok(exit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::may_set;

    #[test]
    fn only_harmless_variables_may_be_set() {
        for name in ["LANG", "LC_ALL", "COLORTERM", "GIT_PROTOCOL"] {
            assert!(may_set(name), "{name}");
        }
        for name in ["LD_PRELOAD", "PATH", "BASH_ENV", "LC_ALL=x", "LC_\n", "", "SSH_AUTH_SOCK", "lang"] {
            assert!(!may_set(name), "{name}");
        }
    }
}
