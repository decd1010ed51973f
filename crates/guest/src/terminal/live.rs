//! One terminal's PTY joined to its core: reading, writing, sizes, and the end of its program.
//!
//! One task reads and one writes what could not be written at once; everything else happens in the
//! callers' own tasks through [`Live::with_core`], which carries out the effects. Invariant: the core
//! is borrowed only between awaits, and the exit is told after the last byte that was written before
//! it.

use super::core::{AttachmentId, Core};
use super::flow::Verdict;
use super::frames::CATCH_UP_BYTES;
use super::pty::{self, Transfer};
use super::session;
use super::turns::Turns;
use crate::process::{Process, ProcessGroup};
use rexec_api::guest::TerminalInfo;
use rexec_api::ids::TerminalId;
use rustix::process::Signal;
use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until, timeout};

/// Output counts as quiet, and the emulator catches up, after this long without a byte.
const QUIET: Duration = Duration::from_millis(50);
/// How long the end of a synchronized update is waited for; terminals wait 150 ms to 1 s.
const UPDATE_PATIENCE: Duration = Duration::from_millis(200);
/// A read shorter than this has most likely emptied the PTY: sent at once, for the echo's sake.
const SHORT_READ_BYTES: usize = 1024;
/// A program that lives on with its terminal closed may open it again; looked at this often.
const REOPENED: Duration = Duration::from_millis(200);
/// Read after the program's end at most: background processes may keep writing for ever.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;
/// What a program gets to end by itself when its terminal is deleted, and then to be killed.
const HANG_UP_GRACE: Duration = Duration::from_secs(1);
const KILL_GRACE: Duration = Duration::from_secs(2);

pub(super) struct Live {
    pub id: TerminalId,
    pub command: Vec<String>,
    pub created_ms: i64,
    /// Tells terminals apart in [`Turns`].
    pub number: u64,
    pub turns: Rc<Turns>,
    core: RefCell<Core>,
    /// Absent once the program has ended.
    pty: RefCell<Option<Rc<AsyncFd<OwnedFd>>>>,
    group: ProcessGroup,
    last_input_ms: Cell<i64>,
    last_output_ms: Cell<i64>,
    attachments: RefCell<Vec<(AttachmentId, Rc<Notify>)>>,
    /// The verdict may be another now.
    reader: Notify,
    writer: Notify,
    /// Input was written: there may be room for more.
    pub room: Notify,
    is_write_blocked: Cell<bool>,
    /// The terminal is being deleted: nobody is waited for.
    is_closing: Cell<bool>,
    is_finished: Cell<bool>,
    finished: Notify,
}

/// What a new terminal consists of.
pub(super) struct Parts {
    pub id: TerminalId,
    pub number: u64,
    pub command: Vec<String>,
    pub core: Core,
    pub master: AsyncFd<OwnedFd>,
    pub group: ProcessGroup,
    pub turns: Rc<Turns>,
}

/// What ended the reader's wait.
enum Event {
    Readable,
    Exited(i32),
    Timer,
    Changed,
}

impl Live {
    pub fn new(parts: Parts) -> Self {
        Self {
            id: parts.id,
            command: parts.command,
            created_ms: unix_ms(),
            number: parts.number,
            turns: parts.turns,
            core: RefCell::new(parts.core),
            pty: RefCell::new(Some(Rc::new(parts.master))),
            group: parts.group,
            last_input_ms: Cell::new(0),
            last_output_ms: Cell::new(0),
            attachments: RefCell::default(),
            reader: Notify::new(),
            writer: Notify::new(),
            room: Notify::new(),
            is_write_blocked: Cell::new(false),
            is_closing: Cell::new(false),
            is_finished: Cell::new(false),
            finished: Notify::new(),
        }
    }

    pub fn info(&self) -> TerminalInfo {
        let core = self.core.borrow();
        let size = core.size();
        TerminalInfo {
            id: self.id,
            command: self.command.clone(),
            title: core.title().map(str::to_owned),
            cols: size.cols,
            rows: size.rows,
            viewers: core.viewer_count(),
            end: core.end(),
            created_ms: self.created_ms,
            last_input_ms: self.last_input_ms.get(),
            last_output_ms: self.last_output_ms.get(),
            exit_code: core.exit_code(),
        }
    }

    pub fn is_finished(&self) -> bool {
        self.is_finished.get()
    }

    /// Whether another program than the first has the terminal, such as one that a shell waits for.
    pub fn has_foreground_job(&self) -> bool {
        // Its number is its own only as long as it has not been reaped.
        self.group.is_alive()
            && self.pty().and_then(|pty| pty::foreground(&pty)).is_some_and(|group| group != self.group.pid())
    }

    /// Calls into the core and carries out what it asks for.
    pub fn with_core<T>(&self, call: impl FnOnce(&mut Core, Duration) -> T) -> T {
        let (result, effects) = {
            let mut core = self.core.borrow_mut();
            let result = call(&mut core, self.turns.now());
            (result, core.take_effects())
        };
        if let (Some(size), Some(pty)) = (effects.resize, self.pty()) {
            // Only a program that has just ended makes this fail, and then nobody needs it.
            let _ = pty::resize(&pty, size);
        }
        if !self.is_write_blocked.get() && !self.write_pending() {
            self.is_write_blocked.set(true);
            self.writer.notify_one();
        }
        if effects.wake {
            for (_, wake) in self.attachments.borrow().iter() {
                wake.notify_one();
            }
        }
        result
    }

    pub fn add_attachment(&self, id: AttachmentId, wake: Rc<Notify>) {
        self.attachments.borrow_mut().push((id, wake));
    }

    pub fn remove_attachment(&self, id: AttachmentId) {
        self.attachments.borrow_mut().retain(|(known, _)| *known != id);
        self.reader.notify_one();
    }

    /// Something was acknowledged, hidden or taken over: the reader asks for a verdict again.
    pub fn reconsider(&self) {
        self.reader.notify_one();
    }

    pub fn note_input(&self) {
        self.last_input_ms.set(unix_ms());
        self.turns.typed(self.number, self.turns.now());
    }

    fn pty(&self) -> Option<Rc<AsyncFd<OwnedFd>>> {
        self.pty.borrow().clone()
    }

    // --- output

    /// Reads until the program has ended and its output is complete.
    pub async fn read(&self, mut process: Process) {
        let Some(pty) = self.pty() else { return };
        let mut is_catching_up = false;
        loop {
            match self.wait(&pty, &mut process, is_catching_up).await {
                Event::Exited(code) => {
                    self.drain(&pty).await;
                    return self.finish(code);
                }
                Event::Timer => {
                    is_catching_up = self.with_core(|core, _| {
                        if core.lag() == 0 && core.is_in_update() {
                            core.finish_update();
                        }
                        core.catch_up(CATCH_UP_BYTES)
                    });
                }
                Event::Changed => {}
                Event::Readable => {
                    is_catching_up = false;
                    if self.gather(&pty) == Transfer::HungUp {
                        // Nothing to read until somebody opens the terminal again.
                        if let Ok(end) = timeout(REOPENED, process.exited()).await {
                            return self.finish(end.code());
                        }
                    }
                }
            }
            yield_now().await;
        }
    }

    /// Waits for something to do. Returns `Readable` only when the program may write on.
    async fn wait(&self, pty: &AsyncFd<OwnedFd>, process: &mut Process, is_catching_up: bool) -> Event {
        let pace = self.turns.pace(self.number, self.turns.now());
        let (verdict, deadline, lag, is_in_update) =
            self.with_core(|core, now| (core.verdict(now, pace), core.deadline(), core.lag(), core.is_in_update()));
        let (may_read, mut timer) = match verdict {
            Verdict::HoldUntil(until) if !self.is_closing.get() => (false, Some(until)),
            _ => (true, deadline),
        };
        let quiet = match lag {
            0 if is_in_update => Some(UPDATE_PATIENCE),
            0 => None,
            _ if is_catching_up => Some(Duration::ZERO),
            _ => Some(QUIET),
        };
        if let Some(quiet) = quiet {
            let quiet = self.turns.now() + quiet;
            timer = Some(timer.map_or(quiet, |timer| timer.min(quiet)));
        }
        let timer = timer.map(|timer| self.turns.instant(timer));
        tokio::select! {
            biased;
            // First, because background processes may keep the PTY readable for ever.
            end = process.exited() => Event::Exited(end.code()),
            _ = pty.readable(), if may_read => Event::Readable,
            () = self.reader.notified() => Event::Changed,
            () = sleep_until(timer.unwrap_or_else(tokio::time::Instant::now)), if timer.is_some() => Event::Timer,
        }
    }

    /// Takes one turn's worth of output to the core.
    fn gather(&self, pty: &AsyncFd<OwnedFd>) -> Transfer {
        let now = self.turns.now();
        let room = match self.core.borrow_mut().verdict(now, self.turns.pace(self.number, now)) {
            Verdict::Run { room } => usize::try_from(room).unwrap_or(usize::MAX),
            Verdict::HoldUntil(_) => 0,
        };
        let limit = self.turns.bytes(self.number, now).min(room.max(SHORT_READ_BYTES));
        let mut scratch = self.turns.scratch.borrow_mut();
        let mut count = 0;
        let last = loop {
            match pty::read(pty, &mut scratch[count..limit]) {
                Transfer::Bytes(bytes) => {
                    count += bytes;
                    if bytes < SHORT_READ_BYTES || count == limit {
                        break Transfer::Bytes(count);
                    }
                }
                other => break other,
            }
        };
        if last == Transfer::Blocked {
            self.clear_readable(pty);
        }
        if count == 0 {
            return last;
        }
        self.turns.touch(self.number, now);
        self.turns.gathered(count, now);
        self.last_output_ms.set(unix_ms());
        self.with_core(|core, _| core.output(&scratch[..count]));
        Transfer::Bytes(count)
    }

    /// Makes the next `readable` wait for news from the kernel.
    fn clear_readable(&self, pty: &AsyncFd<OwnedFd>) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(Ok(mut guard)) = pty.poll_read_ready(&mut context) {
            guard.clear_ready();
        }
    }

    /// Reads what was written before the program ended. The kernel hands over everything written so
    /// far before it says that there is nothing, so the first such answer is the end.
    async fn drain(&self, pty: &AsyncFd<OwnedFd>) {
        let mut drained = 0;
        while drained < DRAIN_BYTES_MAX {
            let verdict = self.with_core(|core, now| core.verdict(now, self.turns.pace(self.number, now)));
            if let (Verdict::HoldUntil(until), false) = (verdict, self.is_closing.get()) {
                tokio::select! {
                    () = self.reader.notified() => {}
                    () = sleep_until(self.turns.instant(until)) => {}
                }
                continue;
            }
            match self.gather(pty) {
                Transfer::Bytes(bytes) => drained += bytes,
                Transfer::Blocked | Transfer::HungUp => return,
            }
            yield_now().await;
        }
    }

    fn finish(&self, code: i32) {
        *self.pty.borrow_mut() = None;
        self.is_finished.set(true);
        self.with_core(|core, _| core.exited(code));
        self.room.notify_waiters();
        self.finished.notify_waiters();
    }

    // --- input

    /// Writes the input that the program had no room for. Ends only by being aborted.
    pub async fn write(&self) {
        loop {
            self.writer.notified().await;
            while let Some(pty) = self.pty() {
                if self.write_pending() {
                    break;
                }
                let Ok(mut ready) = pty.writable().await else {
                    break;
                };
                if !self.write_pending() {
                    ready.clear_ready();
                }
            }
            self.is_write_blocked.set(false);
        }
    }

    /// Writes what the program has room for; false when some is left.
    fn write_pending(&self) -> bool {
        let mut core = self.core.borrow_mut();
        if core.pending_input().is_empty() {
            return true;
        }
        let Some(pty) = self.pty() else { return true };
        let mut is_all = true;
        while !core.pending_input().is_empty() {
            match pty::write(&pty, core.pending_input()) {
                Transfer::Bytes(bytes) => core.input_written(bytes),
                Transfer::Blocked => {
                    is_all = false;
                    break;
                }
                // Nobody can ever read it.
                Transfer::HungUp => {
                    let all = core.pending_input().len();
                    core.input_written(all);
                }
            }
        }
        drop(core);
        self.room.notify_waiters();
        is_all
    }

    // --- the end

    /// Ends the terminal's programs: asked to first, then made to.
    pub async fn hang_up(&self) {
        self.is_closing.set(true);
        self.reader.notify_one();
        self.signal(&[Signal::HUP, Signal::CONT]);
        if self.finishes_within(HANG_UP_GRACE).await {
            return;
        }
        self.signal(&[Signal::KILL]);
        if self.group.is_alive() {
            session::kill(self.group.pid());
        }
        self.finishes_within(KILL_GRACE).await;
    }

    fn signal(&self, signals: &[Signal]) {
        let foreground = match self.group.is_alive() {
            true => session::foreground(self.group.pid()),
            false => None,
        };
        for &signal in signals {
            if let Some(group) = foreground {
                // It may have ended since it was asked for.
                let _ = rustix::process::kill_process_group(group, signal);
            }
            self.group.signal(signal);
        }
    }

    async fn finishes_within(&self, grace: Duration) -> bool {
        let finished = self.finished.notified();
        if self.is_finished() {
            return true;
        }
        tokio::select! {
            () = finished => true,
            () = sleep(grace) => false,
        }
    }
}

pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
