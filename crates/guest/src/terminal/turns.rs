//! Taking turns on the one thread: how much a terminal may do before the others get theirs.
//!
//! A stream of bulk output is always ready and would keep a neighbour's keystroke waiting for tens
//! of milliseconds. So output is gathered in small pieces while another terminal is in use, in large
//! ones otherwise, and every piece ends with a yield. While another is typed on, less of a fast
//! stream is under way too ([`Pace`]): what is under way keeps every processor between here and its
//! viewer busy.

use super::flow::Pace;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// Output gathered in one turn beside others, and alone. The latter is the longest output frame.
pub(super) const SHARED_BYTES: usize = 8 * 1024;
pub(super) const ALONE_BYTES: usize = rexec_api::frames::OUTPUT_BYTES_MAX;
/// More than a screen's worth in one turn is a stream.
pub(super) const BULK_BYTES: usize = SHARED_BYTES / 2;
/// A terminal counts as in use for this long after its last byte either way.
const IN_USE: Duration = Duration::from_secs(1);
/// Terminals used closer together than this are a crowd.
const CROWDED: Duration = Duration::from_millis(5);

/// The two terminals that something happened to last, the later one first, and when.
#[derive(Clone, Copy)]
struct Latest([(u64, Duration); 2]);

impl Latest {
    /// Nobody is number 0.
    const NEVER: Self = Self([(0, Duration::ZERO); 2]);

    fn with(self, who: u64, now: Duration) -> Self {
        let [latest, before] = self.0;
        let before = if latest.0 == who { before } else { latest };
        Self([(who, now), before])
    }

    /// When it last happened to another than this.
    fn beside(self, who: u64) -> Duration {
        let [latest, before] = self.0;
        if latest.0 == who { before.1 } else { latest.1 }
    }
}

/// Shared by the terminals of one guest.
pub(super) struct Turns {
    epoch: Instant,
    /// Bytes either way.
    used: Cell<Latest>,
    /// Input.
    typed: Cell<Latest>,
    /// When a terminal last filled a turn.
    bulk: Cell<Duration>,
    /// Where output is read to; never borrowed across an await.
    pub scratch: RefCell<Box<[u8]>>,
}

impl Turns {
    pub fn new() -> Self {
        // The clock starts late enough for "long ago" to be expressible.
        let now = Instant::now();
        Self {
            epoch: now.checked_sub(2 * IN_USE).unwrap_or(now),
            used: Cell::new(Latest::NEVER),
            typed: Cell::new(Latest::NEVER),
            bulk: Cell::new(Duration::ZERO),
            scratch: RefCell::new(vec![0; ALONE_BYTES].into()),
        }
    }

    /// The time that the cores are told.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The moment at which `now` will be `time`.
    pub fn instant(&self, time: Duration) -> tokio::time::Instant {
        (self.epoch + time).into()
    }

    /// A byte has passed through this terminal.
    pub fn touch(&self, who: u64, now: Duration) {
        self.used.set(self.used.get().with(who, now));
    }

    /// Somebody has typed on this terminal.
    pub fn typed(&self, who: u64, now: Duration) {
        self.touch(who, now);
        self.typed.set(self.typed.get().with(who, now));
    }

    /// A turn has ended with this much output.
    pub fn gathered(&self, bytes: usize, now: Duration) {
        if bytes >= BULK_BYTES {
            self.bulk.set(now);
        }
    }

    /// Whether the processor has better to do than to wait for this terminal: another streams, or
    /// was typed on a moment ago, and more of that is likely to come.
    pub fn is_busy(&self, who: u64, now: Duration) -> bool {
        let since = |time: Duration| now.saturating_sub(time);
        since(self.bulk.get()) < IN_USE || since(self.used.get().beside(who)) < CROWDED
    }

    /// How much this terminal may gather now.
    pub fn bytes(&self, who: u64, now: Duration) -> usize {
        if now.saturating_sub(self.used.get().beside(who)) < IN_USE { SHARED_BYTES } else { ALONE_BYTES }
    }

    /// How much of this terminal's output may be under way.
    pub fn pace(&self, who: u64, now: Duration) -> Pace {
        if now.saturating_sub(self.typed.get().beside(who)) < IN_USE { Pace::BesideTypist } else { Pace::Alone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_small_only_beside_another() {
        let turns = Turns::new();
        let second = Duration::from_secs;
        turns.touch(1, second(10));
        assert_eq!(turns.bytes(1, second(10)), ALONE_BYTES);
        turns.touch(2, second(11));
        turns.touch(1, second(11));
        turns.touch(1, second(11));
        assert_eq!(turns.bytes(1, second(11)), SHARED_BYTES);
        assert_eq!(turns.bytes(1, second(12)), ALONE_BYTES);
        assert_eq!(turns.bytes(2, second(11)), SHARED_BYTES);
    }

    #[test]
    fn a_typist_slows_others_down_for_a_while() {
        let turns = Turns::new();
        let second = Duration::from_secs;
        turns.touch(1, second(10));
        turns.touch(2, second(10));
        assert_eq!(turns.pace(2, second(10)), Pace::Alone, "only output");
        turns.typed(1, second(10));
        turns.typed(1, second(10));
        assert_eq!((turns.pace(1, second(10)), turns.pace(2, second(10))), (Pace::Alone, Pace::BesideTypist));
        assert_eq!(turns.pace(2, second(11)), Pace::Alone);
    }

    #[test]
    fn a_stream_makes_the_guest_busy_for_a_while() {
        let turns = Turns::new();
        let second = Duration::from_secs;
        turns.gathered(BULK_BYTES - 1, second(10));
        assert!(!turns.is_busy(1, second(10)));
        turns.gathered(BULK_BYTES, second(10));
        assert!(turns.is_busy(1, second(10)));
        assert!(!turns.is_busy(1, second(11)));
    }

    #[test]
    fn a_crowd_is_others_a_moment_ago() {
        let turns = Turns::new();
        let now = Duration::from_secs(10);
        turns.touch(1, now);
        assert!(!turns.is_busy(1, now));
        assert!(turns.is_busy(2, now));
        turns.touch(2, now);
        assert!(turns.is_busy(1, now) && turns.is_busy(2, now));
        assert!(!turns.is_busy(1, now + CROWDED));
    }
}
