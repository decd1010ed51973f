//! The terminals of a workspace.
//!
//! Owns every PTY from its opening to the day it is forgotten. The decisions are in [`core`] (pure,
//! tested by properties); [`live`] joins a core to its PTY and [`attachment`] to a transport, which
//! is the caller's. Invariant: at most [`TERMINALS_MAX`] programs run and at most
//! [`EXITED_MAX`] ended ones are remembered, so that a late viewer still sees the last screen.
//!
//! Everything runs on the guest's one thread and needs its `LocalSet`.

mod attachment;
mod budget;
mod clients;
mod core;
mod emulation;
mod flow;
mod frames;
mod live;
pub(crate) mod pty;
mod ring;
mod session;
mod sizes;
mod skip;
mod turns;
mod viewer;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod core_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod live_tests;

pub use attachment::{Attachment, Cut, FrameSink, FrameSource};

use self::budget::{Budget, Share};
use self::core::Core;
pub(crate) use self::live::unix_ms;
use self::live::{Live, Parts};
pub(crate) use self::sizes::Size;
use self::turns::Turns;
use crate::descriptors::watched;
use crate::process::{Identity, Launch, Launcher, Stdio, login_shell};
use rexec_api::error::ErrorCode;
use rexec_api::guest::{AttachSpec, GuestError, TerminalInfo, TerminalSpec, UserSpec};
use rexec_api::ids::TerminalId;
use rexec_api::terminals::{COLS_MAX, ROWS_MAX, TERMINALS_MAX};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Ended terminals that are remembered; the oldest go first.
const EXITED_MAX: usize = 16;
/// The ring must hold more than any window, with room for a cut controller to come back, and all
/// that the emulator may hold back.
const RING_BYTES_MIN: u32 = 512 * 1024;
const _: () = assert!(RING_BYTES_MIN as usize / 2 >= crate::screen::SEQUENCE_BYTES_MAX + crate::screen::SYNC_BYTES_MAX);
const RING_BYTES_MAX: u32 = 64 * 1024 * 1024;
const RING_BYTES_DEFAULT: u32 = 1024 * 1024;
const SCROLLBACK_LINES_MAX: u32 = 100_000;
const SCROLLBACK_LINES_DEFAULT: u32 = 1000;

/// How much a terminal remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub ring_bytes: u32,
    pub scrollback_lines: u32,
}

impl Memory {
    /// What was configured, within bounds.
    pub fn new(ring_bytes: Option<u32>, scrollback_lines: Option<u32>) -> Self {
        Self {
            ring_bytes: ring_bytes.unwrap_or(RING_BYTES_DEFAULT).clamp(RING_BYTES_MIN, RING_BYTES_MAX),
            scrollback_lines: scrollback_lines.unwrap_or(SCROLLBACK_LINES_DEFAULT).min(SCROLLBACK_LINES_MAX),
        }
    }
}

/// Every terminal of this workspace; cheap to clone.
#[derive(Clone)]
pub struct Terminals(Rc<Registry>);

struct Registry {
    memory: Memory,
    budget: Rc<Budget>,
    turns: Rc<Turns>,
    opened: Cell<u64>,
    terminals: RefCell<BTreeMap<TerminalId, Rc<Live>>>,
    /// Ended terminals, oldest first.
    exited: RefCell<Vec<TerminalId>>,
}

impl Terminals {
    pub fn new(memory: Memory) -> Self {
        Self::within(memory, budget::of_workspace)
    }

    /// Terminals of a workspace with this much memory, in bytes.
    fn within(memory: Memory, workspace_bytes: fn() -> u64) -> Self {
        Self(Rc::new(Registry {
            memory,
            budget: Budget::new(workspace_bytes),
            turns: Rc::new(Turns::new()),
            opened: Cell::new(0),
            terminals: RefCell::default(),
            exited: RefCell::default(),
        }))
    }

    /// Opens a terminal and starts its program. Asked again for the same id, it answers the same, so
    /// that a request may be repeated after a cut.
    pub fn create(
        &self,
        launcher: &Launcher,
        identity: Identity,
        spec: &TerminalSpec,
    ) -> Result<TerminalInfo, GuestError> {
        if let Some(live) = self.get(spec.id) {
            return Ok(live.info());
        }
        if self.alive() >= TERMINALS_MAX {
            return Err(refusal(
                ErrorCode::TerminalLimit,
                format!("{TERMINALS_MAX} terminals are open; close one first"),
            ));
        }
        let size = valid_size(spec)?;
        let share = self.0.share(size)?;
        let account = launcher.account(&identity);
        let (command, arg0) = command_of(&account, spec);
        let pty = pty::open(size, account.uid).map_err(no_pty)?;
        let master = watched(pty.master).map_err(|_| no_pty(rustix::io::Errno::MFILE))?;
        let process = launcher.launch(Launch {
            identity,
            command: command.clone(),
            arg0,
            cwd: spec.cwd.clone(),
            env: spec.env.clone(),
            stdio: Stdio::Terminal(pty.slave),
        })?;
        let Memory { ring_bytes, scrollback_lines } = self.0.memory;
        let number = self.0.opened.get() + 1;
        self.0.opened.set(number);
        let live = Rc::new(Live::new(Parts {
            id: spec.id,
            number,
            command,
            core: Core::new(size, u64::from(ring_bytes), scrollback_lines).held_to(share),
            master,
            group: process.group.clone(),
            turns: self.0.turns.clone(),
        }));
        self.0.terminals.borrow_mut().insert(spec.id, live.clone());
        self.serve(live.clone(), process);
        Ok(live.info())
    }

    pub fn list(&self) -> Vec<TerminalInfo> {
        let terminals = self.0.terminals.borrow();
        terminals.values().map(|live| live.info()).collect()
    }

    /// Ends a terminal's programs and forgets it. Carried through even if the caller goes away.
    pub async fn remove(&self, id: TerminalId) -> Result<(), GuestError> {
        let removed = self.0.terminals.borrow_mut().remove(&id);
        let live = removed.ok_or_else(|| gone(id))?;
        if !live.is_finished() {
            let ending = tokio::task::spawn_local(async move { live.hang_up().await });
            // It neither panics nor is aborted; a guest that stops needs no answer.
            let _ = ending.await;
        }
        Ok(())
    }

    /// Lets a viewer in; serve it with [`Attachment::run`].
    pub fn attach(&self, id: TerminalId, spec: &AttachSpec) -> Result<Attachment, GuestError> {
        let live = self.get(id).ok_or_else(|| gone(id))?;
        Ok(Attachment::new(live, spec))
    }

    /// Terminals whose program runs.
    pub fn alive(&self) -> usize {
        let terminals = self.0.terminals.borrow();
        terminals.values().filter(|live| !live.is_finished()).count()
    }

    /// Terminals in which another program than the first has the foreground.
    pub fn with_foreground_job(&self) -> usize {
        let terminals = self.0.terminals.borrow();
        terminals.values().filter(|live| live.has_foreground_job()).count()
    }

    /// Milliseconds since 1970 of the last input to any terminal; 0 when there was none.
    pub fn last_input_ms(&self) -> i64 {
        let latest = self.list().iter().map(|info| info.last_input_ms).max();
        latest.unwrap_or(0)
    }

    /// Milliseconds since 1970 of the last output of any terminal; 0 when there was none.
    pub fn last_output_ms(&self) -> i64 {
        let latest = self.list().iter().map(|info| info.last_output_ms).max();
        latest.unwrap_or(0)
    }

    fn get(&self, id: TerminalId) -> Option<Rc<Live>> {
        self.0.terminals.borrow().get(&id).cloned()
    }

    /// Runs the terminal's two tasks; both end with its program.
    fn serve(&self, live: Rc<Live>, process: crate::process::Process) {
        let registry = Rc::downgrade(&self.0);
        let writing = tokio::task::spawn_local({
            let live = live.clone();
            async move { live.write().await }
        });
        tokio::task::spawn_local(async move {
            live.read(process).await;
            writing.abort();
            if let Some(registry) = registry.upgrade() {
                registry.note_exit(live.id);
            }
        });
    }
}

impl Registry {
    /// Room for a terminal; ended ones make way for it, the oldest first.
    fn share(&self, size: Size) -> Result<Share, GuestError> {
        loop {
            let refused = match self.budget.share(self.memory, size) {
                Ok(share) => return Ok(share),
                Err(refused) => refused,
            };
            let mut exited = self.exited.borrow_mut();
            if exited.is_empty() {
                return Err(refused);
            }
            self.terminals.borrow_mut().remove(&exited.remove(0));
        }
    }

    fn note_exit(&self, id: TerminalId) {
        let mut terminals = self.terminals.borrow_mut();
        let mut exited = self.exited.borrow_mut();
        exited.retain(|known| terminals.contains_key(known));
        if terminals.contains_key(&id) {
            exited.push(id);
        }
        if exited.len() > EXITED_MAX {
            terminals.remove(&exited.remove(0));
        }
    }
}

fn valid_size(spec: &TerminalSpec) -> Result<Size, GuestError> {
    let (cols, rows) = (spec.cols, spec.rows);
    if (1..=COLS_MAX).contains(&cols) && (1..=ROWS_MAX).contains(&rows) {
        return Ok(Size { cols, rows });
    }
    Err(refusal(ErrorCode::InvalidRequest, format!("a terminal has 1 to {COLS_MAX} columns and 1 to {ROWS_MAX} rows")))
}

/// The program and the name it is given: a shell whose name begins with a dash is a login shell.
fn command_of(account: &UserSpec, spec: &TerminalSpec) -> (Vec<String>, Option<String>) {
    if let Some(command) = &spec.command {
        return (command.clone(), None);
    }
    let shell = login_shell(account);
    let name = shell.rsplit('/').next().unwrap_or(&shell);
    let arg0 = format!("-{name}");
    (vec![shell], Some(arg0))
}

fn no_pty(error: rustix::io::Errno) -> GuestError {
    refusal(ErrorCode::HostFull, format!("the workspace can open no further terminal ({error}); close one first"))
}

fn gone(id: TerminalId) -> GuestError {
    refusal(ErrorCode::TerminalGone, format!("there is no terminal {id}; it has ended or its workspace was restarted"))
}

fn refusal(code: ErrorCode, message: String) -> GuestError {
    GuestError { code, message, number: None }
}
