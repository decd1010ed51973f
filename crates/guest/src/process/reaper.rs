//! Collecting the ends of processes.
//!
//! As PID 1 every orphan of the workspace lands here and must be collected, or it stays a zombie and
//! uses up the process limit; elsewhere (tests) only registered children are touched, since others
//! belong to somebody else. Nothing else in the guest may wait for a child.
//!
//! Invariant: a child's number is used for signals only while its `alive` flag is set, and the flag
//! is cleared in the same step that reaps it, on the one thread that also sends signals.

use super::Process;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::rc::Rc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Told when it cannot be known how a program ended.
const CODE_UNKNOWN: i32 = 255;
/// Shells report the end by signal n as 128 + n.
const CODE_SIGNAL_BASE: i32 = 128;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Code(i32),
    Signal(i32),
    Unknown,
}

impl End {
    /// As shells tell it: 128 + n when signal n ended the program.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => CODE_SIGNAL_BASE + signal,
            Self::Unknown => CODE_UNKNOWN,
        }
    }

    fn of(status: WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

/// Hands each registered child's exit code to its owner; cheap to clone, bound to one thread.
#[derive(Debug, Clone)]
pub struct Reaper(Rc<Children>);

#[derive(Debug)]
struct Children {
    owners: RefCell<HashMap<i32, Owner>>,
    scope: Scope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// PID 1: whatever has ended.
    Everything,
    /// Registered children only.
    Registered,
}

#[derive(Debug)]
struct Owner {
    exit: oneshot::Sender<End>,
    alive: Rc<Cell<bool>>,
}

impl Default for Reaper {
    fn default() -> Self {
        Self::new()
    }
}

impl Reaper {
    pub fn new() -> Self {
        let scope = if std::process::id() == 1 { Scope::Everything } else { Scope::Registered };
        Self(Rc::new(Children { owners: RefCell::default(), scope }))
    }

    /// Listens for ended children from this call on; the returned future collects them and never
    /// ends. Call inside the runtime and spawn the future on its `LocalSet`.
    pub fn watch(&self) -> io::Result<impl Future<Output = ()> + 'static> {
        let mut ended = signal(SignalKind::child())?;
        let reaper = self.clone();
        Ok(async move {
            loop {
                // Before the first wait too: a child may have ended before the listening began.
                reaper.reap();
                if ended.recv().await.is_none() {
                    return;
                }
            }
        })
    }

    /// Children that were registered and have not ended.
    pub fn count(&self) -> usize {
        self.0.owners.borrow().len()
    }

    /// Signals the groups of all that are still registered.
    pub fn signal_all(&self, signal: Signal) {
        for pid in self.0.owners.borrow().keys().filter_map(|pid| Pid::from_raw(*pid)) {
            // The group may be gone while its leader waits to be reaped.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }

    pub(super) fn register(&self, pid: u32) -> Process {
        let pid = pid.cast_signed();
        let (sender, exit) = oneshot::channel();
        let alive = Rc::new(Cell::new(true));
        let owner = Owner { exit: sender, alive: alive.clone() };
        self.0.owners.borrow_mut().insert(pid, owner);
        Process { group: ProcessGroup { pid, alive }, exit }
    }

    fn reap(&self) {
        match self.0.scope {
            Scope::Everything => {
                // Ends with `None` when the rest still run, with an error when there is no child.
                while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                    self.settle(pid.as_raw_pid(), status);
                }
            }
            Scope::Registered => {
                let pids: Vec<i32> = self.0.owners.borrow().keys().copied().collect();
                for pid in pids {
                    let waited = rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
                    if let Ok(Some((pid, status))) = waited {
                        self.settle(pid.as_raw_pid(), status);
                    }
                }
            }
        }
    }

    fn settle(&self, pid: i32, status: WaitStatus) {
        if !status.exited() && !status.signaled() {
            return;
        }
        if let Some(owner) = self.0.owners.borrow_mut().remove(&pid) {
            owner.alive.set(false);
            // An owner that no longer cares is no fault.
            let _ = owner.exit.send(End::of(status));
        }
    }
}

/// A launched program together with the processes that stayed in its group. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ProcessGroup {
    pid: i32,
    alive: Rc<Cell<bool>>,
}

impl ProcessGroup {
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Whether the program that leads the group has not been reaped.
    pub fn is_alive(&self) -> bool {
        self.alive.get()
    }

    /// Signals the group; does nothing once its leader has been reaped.
    pub fn signal(&self, signal: Signal) {
        if let (true, Some(pid)) = (self.alive.get(), Pid::from_raw(self.pid)) {
            // The group may be gone while its leader still waits to be reaped: nothing to do then.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }

    /// Signals the group by number, for a request that came over the wire. False when the number
    /// is no signal that may be sent.
    pub fn signal_raw(&self, signal: i32) -> bool {
        match Signal::from_named_raw(signal) {
            Some(signal) => {
                self.signal(signal);
                true
            }
            None => false,
        }
    }
}
