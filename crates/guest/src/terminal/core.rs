//! One terminal without its PTY, its transports or a clock.
//!
//! Time is passed in, effects are returned as data ([`Effects`], [`Core::pending_input`]), and
//! frames are taken by [`Core::pull`](super::frames) when the transport has room, so nothing here
//! waits or queues. The wire is specified in `rexec_api::frames`.
//!
//! **The controller's seat.** One control attachment at a time sizes the terminal, holds its program
//! and answers its queries:
//!
//! ```text
//!          a control attachment comes               closes, and no other is there
//!   Empty ---------------------------> Taken(id) ------------------------------> Empty
//!                                       |  ^ another types; it closes and another is there
//!              its connection is cut    |  |
//!                                       v  | a control attachment comes or types
//!                                      Kept -- 3 s --> Taken(another) or Empty
//! ```
//!
//! Invariants: while the seat is not taken the emulator answers queries itself, and is brought up to
//! date by every piece of output that could hold one; while it is taken the emulator's answers are
//! thrown away. The emulator trails the ring by half of it at most, so what it has not consumed is
//! always still remembered.

use super::budget::Share;
use super::clients::InputAccounts;
use super::emulation::Emulation;
use super::flow::{Flow, Pace, Verdict};
use super::ring::Ring;
use super::sizes::{Size, SizeLog};
use super::viewer::{Intake, Sight, Stage, Start, Viewer};
use rexec_api::error::ErrorCode;
use rexec_api::guest::{AttachMode, AttachSpec};
use rexec_api::terminals::{COLS_MAX, ROWS_MAX};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long the seat of a controller whose connection was cut is kept, and the program with it.
const KEPT: Duration = Duration::from_secs(3);
/// Input that waits for the program to read. Beyond it no more is taken from attachments.
const INPUT_BYTES_MAX: usize = 256 * 1024;
/// The emulator's answers to a program that asks and never reads are dropped beyond this.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Names an attachment within its terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttachmentId(u64);

/// How an attachment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// The client said so.
    Closed,
    /// The connection went; the client may be back in a moment.
    Cut,
}

/// What the owner of the PTY has to do after a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Give the PTY this size.
    pub resize: Option<Size>,
    /// Attachments may have something to send.
    pub wake: bool,
}

enum Seat {
    Empty,
    Taken(AttachmentId),
    Kept(Kept),
}

/// A controller whose connection was cut.
struct Kept {
    until: Duration,
    /// Absent when it did not hold the program: hidden, or given up as too slow.
    flow: Option<Flow>,
}

pub struct Core {
    pub(super) ring: Ring,
    pub(super) sizes: SizeLog,
    pub(super) emulation: Emulation,
    pub(super) accounts: InputAccounts,
    pub(super) viewers: BTreeMap<AttachmentId, Viewer>,
    pub(super) exit_code: Option<i32>,
    share: Option<Share>,
    seat: Seat,
    attachments_ever: u64,
    input: VecDeque<u8>,
    effects: Effects,
}

impl Core {
    pub fn new(size: Size, ring_bytes: u64, scrollback_lines: u32) -> Self {
        Self {
            ring: Ring::new(ring_bytes),
            sizes: SizeLog::new(size),
            emulation: Emulation::new(size, scrollback_lines),
            accounts: InputAccounts::default(),
            viewers: BTreeMap::new(),
            exit_code: None,
            share: None,
            seat: Seat::Empty,
            attachments_ever: 0,
            input: VecDeque::new(),
            effects: Effects::default(),
        }
    }

    /// Holds the terminal's size to its share of the guest's memory.
    pub fn held_to(self, share: Share) -> Self {
        Self { share: Some(share), ..self }
    }

    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    pub fn end(&self) -> u64 {
        self.ring.end()
    }

    pub fn size(&self) -> Size {
        self.sizes.latest().size
    }

    pub fn title(&self) -> Option<&str> {
        self.emulation.title()
    }

    pub fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    pub fn viewer_count(&self) -> u32 {
        self.viewers.values().filter(|v| v.is_present()).count() as u32
    }

    pub(super) fn is_controller(&self, id: AttachmentId) -> bool {
        matches!(self.seat, Seat::Taken(taken) if taken == id)
    }

    // --- the program's side

    /// The program has written.
    pub fn output(&mut self, bytes: &[u8]) {
        let half = self.ring.capacity() / 2;
        for piece in bytes.chunks((half as usize).max(1)) {
            self.ring.append(piece);
            self.sizes.forget_before(self.ring.start());
            if self.guest_answers() && (self.emulation.is_holding() || piece.iter().any(|b| may_ask(*b))) {
                self.emulate(u64::MAX);
            }
            if self.emulation.lag(&self.ring) > half {
                self.emulation.leave_out(&self.ring, &self.sizes);
                let lag = self.emulation.lag(&self.ring);
                self.emulate(lag.saturating_sub(half));
            }
        }
        self.effects.wake = true;
    }

    /// The program has ended and everything it wrote has been given to `output`.
    pub fn exited(&mut self, code: i32) {
        self.exit_code = Some(code);
        self.input.clear();
        self.effects.wake = true;
    }

    /// Has the emulator consume up to `bytes` of what it lags behind; true when more is left.
    pub fn catch_up(&mut self, bytes: u64) -> bool {
        self.emulate(bytes);
        self.emulation.lag(&self.ring) > 0
    }

    pub fn lag(&self) -> u64 {
        self.emulation.lag(&self.ring)
    }

    /// Whether the emulator waits for the end of a synchronized update.
    pub fn is_in_update(&self) -> bool {
        self.emulation.is_in_update()
    }

    /// The end of a synchronized update has not come for too long: what there is of it counts.
    pub fn finish_update(&mut self) {
        self.emulation.finish_update();
        self.emulate(0);
    }

    /// Input that the program has not been given yet.
    pub fn pending_input(&self) -> &[u8] {
        self.input.as_slices().0
    }

    /// The PTY has taken this much of `pending_input`.
    pub fn input_written(&mut self, bytes: usize) {
        self.input.drain(..bytes.min(self.input.len()));
        if self.input.is_empty() && self.input.capacity() > ANSWER_BYTES_MAX {
            self.input.shrink_to(0);
        }
    }

    /// Whether a further input frame may be taken.
    pub fn has_input_room(&self) -> bool {
        self.input.len() < INPUT_BYTES_MAX
    }

    /// Whether the program may write on. Ends the wait for a cut controller when its time is over.
    pub fn verdict(&mut self, now: Duration, pace: Pace) -> Verdict {
        let end = self.ring.end();
        let free = Verdict::Run { room: u64::MAX };
        match &mut self.seat {
            Seat::Empty => free,
            Seat::Taken(id) => match self.viewers.get_mut(id) {
                Some(viewer) if viewer.sight == Sight::Visible && viewer.intake == Intake::Open => {
                    viewer.flow.judge(end, now, pace)
                }
                _ => free,
            },
            Seat::Kept(kept) if now >= kept.until => {
                self.vacate();
                self.verdict(now, pace)
            }
            Seat::Kept(kept) => match &mut kept.flow {
                None => free,
                Some(flow) => match flow.room(end, now, pace) {
                    Some(room) => Verdict::Run { room },
                    None => Verdict::HoldUntil(kept.until),
                },
            },
        }
    }

    /// When `verdict` is to be asked again although nothing happens.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.seat {
            Seat::Kept(kept) => Some(kept.until),
            _ => None,
        }
    }

    // --- the viewers' side

    /// Lets a viewer in; what it is to be sent comes from `pull`.
    pub fn attach(&mut self, spec: &AttachSpec, now: Duration) -> AttachmentId {
        let succeeds = self.supersede(spec.client);
        let id = AttachmentId(self.attachments_ever);
        self.attachments_ever += 1;
        let stage = self.first_stage(spec.offset);
        let begin = match stage {
            Stage::Opening(Start::At(offset)) => offset,
            _ => self.ring.end(),
        };
        let mut viewer = Viewer::new(spec.mode, spec.client, stage, self.sizes.at(begin));
        viewer.cursor = begin;
        viewer.flow = Flow::new(begin, now);
        let may_control = viewer.is_present() && spec.mode == AttachMode::Control;
        self.viewers.insert(id, viewer);
        self.effects.wake = true;
        if may_control && (succeeds || !matches!(self.seat, Seat::Taken(_))) {
            self.sit(Seat::Taken(id));
        } else if succeeds {
            self.vacate();
        }
        id
    }

    /// An attachment has gone.
    pub fn detach(&mut self, id: AttachmentId, how: Departure, now: Duration) {
        let Some(viewer) = self.viewers.remove(&id) else {
            return;
        };
        self.effects.wake = true;
        if !self.is_controller(id) {
            return;
        }
        match how {
            Departure::Closed => self.vacate(),
            Departure::Cut => {
                let holds = viewer.sight == Sight::Visible && !viewer.flow.is_released();
                self.sit(Seat::Kept(Kept { until: now + KEPT, flow: holds.then_some(viewer.flow) }));
            }
        }
    }

    /// Input of a client. The caller has asked `has_input_room`.
    pub fn input(&mut self, id: AttachmentId, bytes: &[u8]) {
        let Some(viewer) = self.controlling(id) else {
            return;
        };
        viewer.accepted_due = viewer.client.is_some();
        if let Some(client) = viewer.client {
            self.accounts.take(client, bytes.len() as u64);
        }
        if !self.is_controller(id) {
            self.sit(Seat::Taken(id));
        }
        // Nobody reads what is typed to a program that has ended.
        if self.exit_code.is_none() {
            self.input.extend(bytes);
        }
    }

    /// A client's window has this size; it becomes the terminal's if the client controls it.
    pub fn resize(&mut self, id: AttachmentId, cols: u16, rows: u16) {
        let Some(viewer) = self.controlling(id) else {
            return;
        };
        if !(1..=COLS_MAX).contains(&cols) || !(1..=ROWS_MAX).contains(&rows) {
            viewer.notice = Some((
                ErrorCode::InvalidRequest,
                format!("a terminal has 1 to {COLS_MAX} columns and 1 to {ROWS_MAX} rows"),
            ));
            return;
        }
        let size = Size { cols, rows };
        viewer.wanted = Some(size);
        if self.is_controller(id) {
            self.apply_size(id, size);
        }
    }

    /// A client has drawn everything before `offset`.
    pub fn acknowledge(&mut self, id: AttachmentId, offset: u64, now: Duration) {
        if let Some(viewer) = self.viewers.get_mut(&id) {
            viewer.flow.acknowledge(offset, viewer.cursor, now);
        }
    }

    pub fn hide(&mut self, id: AttachmentId) {
        if let Some(viewer) = self.viewers.get_mut(&id) {
            viewer.sight = Sight::Hidden;
        }
    }

    pub fn show(&mut self, id: AttachmentId, now: Duration) {
        if let Some(viewer) = self.viewers.get_mut(&id) {
            viewer.sight = Sight::Visible;
            viewer.flow.forgive(now);
        }
    }

    pub fn set_intake(&mut self, id: AttachmentId, intake: Intake, now: Duration) {
        if let Some(viewer) = self.viewers.get_mut(&id) {
            viewer.intake = intake;
            viewer.flow.forgive(now);
        }
    }

    /// Ends an attachment whose client broke the protocol, with a last message to it.
    pub fn fail(&mut self, id: AttachmentId, code: ErrorCode, message: String) {
        if let Some(viewer) = self.viewers.get_mut(&id) {
            viewer.stage = Stage::Failing(code, message);
        }
        if self.is_controller(id) {
            self.vacate();
        }
    }

    // --- inside

    fn first_stage(&self, offset: Option<u64>) -> Stage {
        match offset {
            Some(offset) if offset > self.ring.end() => Stage::Failing(
                ErrorCode::OffsetAhead,
                format!(
                    "offset {offset} lies ahead of the output, which ends at {}; attach without an offset",
                    self.ring.end()
                ),
            ),
            Some(offset) if offset >= self.ring.start() && !self.sizes.is_ambiguous_at(offset) => {
                Stage::Opening(Start::At(offset))
            }
            _ => Stage::Opening(Start::Snapshot),
        }
    }

    /// Ends the older attachment of a client that is back before its old connection was noticed to
    /// be dead, so that nothing still under way there is typed twice. True if it was the controller.
    fn supersede(&mut self, client: Option<uuid::Uuid>) -> bool {
        let Some(client) = client else { return false };
        let mut older = self.viewers.iter().filter(|(_, v)| v.client == Some(client));
        let Some((&id, _)) = older.next() else {
            return false;
        };
        self.viewers.remove(&id);
        self.is_controller(id)
    }

    /// A live control attachment; all others have no say.
    fn controlling(&mut self, id: AttachmentId) -> Option<&mut Viewer> {
        let viewer = self.viewers.get_mut(&id)?;
        (viewer.is_present() && viewer.mode == AttachMode::Control).then_some(viewer)
    }

    pub(super) fn guest_answers(&self) -> bool {
        !matches!(self.seat, Seat::Taken(_))
    }

    /// The one place where the seat changes: what was written under the old rule is emulated under
    /// it, and a new controller brings its size.
    fn sit(&mut self, seat: Seat) {
        if self.guest_answers() == matches!(seat, Seat::Taken(_)) {
            self.emulate(u64::MAX);
        }
        self.seat = seat;
        self.effects.wake = true;
        let Seat::Taken(id) = self.seat else { return };
        if let Some(size) = self.viewers.get(&id).and_then(|v| v.wanted) {
            self.apply_size(id, size);
        }
    }

    /// The controller is gone for good: the control attachment that came first takes over.
    fn vacate(&mut self) {
        let next =
            self.viewers.iter().find(|(_, v)| v.is_present() && v.mode == AttachMode::Control).map(|(id, _)| *id);
        self.sit(next.map_or(Seat::Empty, Seat::Taken));
    }

    /// Gives the terminal the size that this attachment wants, or tells it why not.
    fn apply_size(&mut self, id: AttachmentId, size: Size) {
        if size == self.size() || self.exit_code.is_some() {
            return;
        }
        if let Some(Err(refused)) = self.share.as_mut().map(|share| share.resize(size)) {
            if let Some(viewer) = self.viewers.get_mut(&id) {
                viewer.notice = Some((refused.code, refused.message));
                self.effects.wake = true;
            }
            return;
        }
        if self.sizes.is_full() {
            self.emulate(u64::MAX);
        }
        if let Some(start) = self.sizes.record(self.ring.end(), size) {
            self.ring.forget_before(start);
        }
        self.effects.resize = Some(size);
        self.effects.wake = true;
    }

    pub(super) fn emulate(&mut self, bytes: u64) {
        let title = self.emulation.title_serial();
        self.emulation.advance(&self.ring, &self.sizes, bytes);
        let answers = self.emulation.take_answers();
        if self.guest_answers() && self.exit_code.is_none() && self.input.len() + answers.len() <= ANSWER_BYTES_MAX {
            self.input.extend(answers);
        }
        self.effects.wake |= title != self.emulation.title_serial();
    }
}

/// Whether a byte can begin a query that a program waits to have answered: ENQ, or an escape sequence.
const fn may_ask(byte: u8) -> bool {
    matches!(byte, 0x05 | 0x1b)
}
