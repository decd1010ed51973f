//! How far one attachment may fall behind before the program has to wait for it.
//!
//! ```text
//!            more than a window behind            2 s without an acknowledgement
//!  following ------------------------> holding ------------------------------> released
//!      ^  ^------- acknowledged --------'  |                                        |
//!      '------------------------- acknowledged -------------------------------------'
//! ```
//!
//! Pure: time is passed in. The window is what was acknowledged in the last 100 ms, within bounds,
//! so that on a slow link little is under way and Ctrl-C shows at once, and a fast link is not
//! slowed; beside a typist a fast stream gets [`BESIDE_TYPIST_BYTES`]. Whether this attachment may hold at all (it is the controller, it is in sight) is decided
//! by the core.

use std::time::Duration;

pub(super) const WINDOW_BYTES_MIN: u64 = 16 * 1024;
pub(super) const WINDOW_BYTES_MAX: u64 = 256 * 1024;
/// The window of a stream that is fast beside somebody who types: enough for pieces to follow each
/// other, too little to keep two processors busy all the time.
const BESIDE_TYPIST_BYTES: u64 = 32 * 1024;
/// More than this in 100 ms (10 MiB/s) is bounded by processors and not by a line, on which a small window
/// would cost speed and bring the typist nothing.
const FAST_BYTES: u64 = 1024 * 1024;
/// An attachment that acknowledges at all is never sent more than this beyond it: a browser queues
/// what it cannot draw, without a bound of its own.
const UNACKNOWLEDGED_BYTES_MAX: u64 = 512 * 1024;
/// How long the program waits for an attachment that is behind and says nothing.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// The rate is measured over [`SLOTS`] slots of this length: 100 ms.
const SLOT: Duration = Duration::from_millis(10);
const SLOTS: usize = 10;

/// What the program has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Run; this many bytes are left in the window.
    Run { room: u64 },
    /// Wait for an acknowledgement, at the latest until this time.
    HoldUntil(Duration),
}

/// Who else has need of the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Alone,
    /// Another terminal is being typed on.
    BesideTypist,
}

#[derive(Debug)]
pub(super) struct Flow {
    acknowledged: u64,
    speaks: Speaks,
    /// Bytes acknowledged in each slot, by slot number modulo [`SLOTS`].
    slots: [u64; SLOTS],
    slot_latest: u64,
    progress_at: Duration,
    behind_since: Option<Duration>,
    released: bool,
    unacknowledged: u64,
}

/// Whether this client has ever acknowledged anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    NotYet,
    Acknowledgements,
}

impl Flow {
    /// An attachment whose stream begins at `offset`.
    pub fn new(offset: u64, now: Duration) -> Self {
        Self {
            acknowledged: offset,
            speaks: Speaks::NotYet,
            slots: [0; SLOTS],
            slot_latest: slot_of(now),
            progress_at: now,
            behind_since: None,
            released: false,
            unacknowledged: 0,
        }
    }

    /// Everything before `offset` is drawn; `sent` is where this attachment's stream stands.
    pub fn acknowledge(&mut self, offset: u64, sent: u64, now: Duration) {
        let offset = offset.min(sent);
        self.speaks = Speaks::Acknowledgements;
        self.unacknowledged = self.unacknowledged.min(sent - offset);
        self.turn_to(now);
        // Naming the same place again is a sign of life from one given up, and otherwise nothing:
        // a client that repeats itself must not hold the program for ever.
        let is_progress = offset > self.acknowledged;
        if offset == self.acknowledged && self.released || is_progress {
            self.progress_at = now;
            self.released = false;
        }
        if !is_progress {
            return;
        }
        self.slots[slot_index(slot_of(now))] += offset - self.acknowledged;
        self.acknowledged = offset;
        self.behind_since = None;
    }

    /// A snapshot takes the place of everything before `offset`: nobody waits for that to be drawn.
    pub fn skip_to(&mut self, offset: u64) {
        self.acknowledged = self.acknowledged.max(offset);
        self.behind_since = None;
    }

    pub fn sent(&mut self, bytes: u64) {
        self.unacknowledged = self.unacknowledged.saturating_add(bytes);
    }

    /// How much more may be sent before an acknowledgement.
    pub fn may_send(&self) -> u64 {
        match self.speaks {
            Speaks::NotYet => u64::MAX,
            Speaks::Acknowledgements => UNACKNOWLEDGED_BYTES_MAX.saturating_sub(self.unacknowledged),
        }
    }

    pub fn window(&mut self, now: Duration, pace: Pace) -> u64 {
        self.turn_to(now);
        let recent: u64 = self.slots.iter().sum();
        match pace {
            Pace::BesideTypist if recent > FAST_BYTES => BESIDE_TYPIST_BYTES,
            _ => recent.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX),
        }
    }

    /// Back in sight: the patience starts anew.
    pub fn forgive(&mut self, now: Duration) {
        self.released = false;
        self.behind_since = None;
        self.progress_at = now;
    }

    /// What is left in the window, or nothing when `end` lies beyond it.
    pub fn room(&mut self, end: u64, now: Duration, pace: Pace) -> Option<u64> {
        let behind = end.saturating_sub(self.acknowledged);
        self.window(now, pace).checked_sub(behind)
    }

    pub fn is_released(&self) -> bool {
        self.released
    }

    /// Judges the output's `end` at the time `now`.
    pub fn judge(&mut self, end: u64, now: Duration, pace: Pace) -> Verdict {
        if let Some(room) = self.room(end, now, pace) {
            self.behind_since = None;
            return Verdict::Run { room };
        }
        let since = *self.behind_since.get_or_insert(now);
        let until = since.max(self.progress_at) + PATIENCE;
        if now >= until {
            self.released = true;
        }
        if self.released {
            return Verdict::Run { room: u64::MAX };
        }
        Verdict::HoldUntil(until)
    }

    /// Empties the slots that have become older than the window's 100 ms.
    fn turn_to(&mut self, now: Duration) {
        let slot = slot_of(now);
        let passed = slot.saturating_sub(self.slot_latest).min(SLOTS as u64);
        for step in 1..=passed {
            self.slots[slot_index(self.slot_latest + step)] = 0;
        }
        if passed == SLOTS as u64 {
            self.slots = [0; SLOTS];
        }
        self.slot_latest = self.slot_latest.max(slot);
    }
}

fn slot_of(now: Duration) -> u64 {
    (now.as_millis() / SLOT.as_millis()) as u64
}

fn slot_index(slot: u64) -> usize {
    (slot % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_window_is_what_was_acknowledged_lately() {
        let mut flow = Flow::new(0, at(0));
        assert_eq!(flow.window(at(0), Pace::Alone), WINDOW_BYTES_MIN);
        flow.acknowledge(40 * KIB, 1024 * KIB, at(5));
        flow.acknowledge(60 * KIB, 1024 * KIB, at(50));
        assert_eq!(flow.window(at(95), Pace::Alone), 60 * KIB);
        assert_eq!(flow.window(at(105), Pace::Alone), 20 * KIB);
        assert_eq!(flow.window(at(160), Pace::Alone), WINDOW_BYTES_MIN);
        flow.acknowledge(1000 * KIB, 1024 * KIB, at(5000));
        assert_eq!(flow.window(at(5000), Pace::Alone), WINDOW_BYTES_MAX);
        assert_eq!(flow.window(at(60_000), Pace::Alone), WINDOW_BYTES_MIN);
    }

    #[test]
    fn holds_when_behind_and_runs_when_acknowledged() {
        let mut flow = Flow::new(100, at(0));
        assert_eq!(flow.judge(100 + 10, at(1), Pace::Alone), Verdict::Run { room: WINDOW_BYTES_MIN - 10 });
        let end = 100 + WINDOW_BYTES_MIN;
        assert_eq!(flow.judge(end, at(1), Pace::Alone), Verdict::Run { room: 0 });
        assert_eq!(flow.judge(end + 1, at(10), Pace::Alone), Verdict::HoldUntil(at(2010)));
        assert_eq!(flow.judge(end + 1, at(500), Pace::Alone), Verdict::HoldUntil(at(2010)));
        flow.acknowledge(101, end + 1, at(1000));
        assert!(matches!(flow.judge(end + 1, at(1000), Pace::Alone), Verdict::Run { .. }));
    }

    #[test]
    fn patience_ends_two_seconds_after_the_last_sign() {
        let mut flow = Flow::new(0, at(0));
        let end = 200 * KIB;
        assert_eq!(flow.judge(end, at(0), Pace::Alone), Verdict::HoldUntil(at(2000)));
        flow.acknowledge(KIB, end, at(1500));
        assert_eq!(flow.judge(end, at(1600), Pace::Alone), Verdict::HoldUntil(at(3600)));
        assert!(matches!(flow.judge(end, at(3599), Pace::Alone), Verdict::HoldUntil(_)));
        assert_eq!(flow.judge(end, at(3600), Pace::Alone), Verdict::Run { room: u64::MAX });
        assert_eq!(flow.judge(end * 2, at(9000), Pace::Alone), Verdict::Run { room: u64::MAX });
        // It draws again: the program waits for it again.
        flow.acknowledge(2 * KIB, end, at(10_000));
        assert!(matches!(flow.judge(end * 2, at(10_000), Pace::Alone), Verdict::HoldUntil(_)));
        // A snapshot brings it up to date without drawing the rest.
        flow.skip_to(end * 2);
        assert_eq!(flow.judge(end * 2, at(10_001), Pace::Alone), Verdict::Run { room: WINDOW_BYTES_MIN });
    }

    #[test]
    fn what_is_under_way_is_bounded_for_those_who_acknowledge() {
        let mut flow = Flow::new(0, at(0));
        flow.sent(10 * UNACKNOWLEDGED_BYTES_MAX);
        assert_eq!(flow.may_send(), u64::MAX);
        let sent = 10 * UNACKNOWLEDGED_BYTES_MAX;
        flow.acknowledge(sent - 5, sent, at(1));
        assert_eq!(flow.may_send(), UNACKNOWLEDGED_BYTES_MAX - 5);
        flow.sent(UNACKNOWLEDGED_BYTES_MAX);
        assert_eq!(flow.may_send(), 0);
        // An acknowledgement ahead of what was sent counts as all of it.
        flow.acknowledge(u64::MAX, sent + UNACKNOWLEDGED_BYTES_MAX, at(2));
        assert_eq!(flow.may_send(), UNACKNOWLEDGED_BYTES_MAX);
    }

    #[test]
    fn a_fast_stream_makes_room_for_a_typist() {
        let mut flow = Flow::new(0, at(0));
        flow.acknowledge(FAST_BYTES, u64::MAX, at(5));
        assert_eq!(flow.window(at(5), Pace::BesideTypist), WINDOW_BYTES_MAX, "slow enough");
        flow.acknowledge(FAST_BYTES + 1, u64::MAX, at(6));
        assert_eq!(flow.window(at(6), Pace::BesideTypist), BESIDE_TYPIST_BYTES);
        assert_eq!(flow.window(at(6), Pace::Alone), WINDOW_BYTES_MAX);
        assert_eq!(flow.window(at(500), Pace::BesideTypist), WINDOW_BYTES_MIN, "nothing comes any more");
    }
}
