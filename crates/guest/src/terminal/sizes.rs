//! The sizes that a terminal has had, each at its place in the output.
//!
//! Invariant: entries are ordered by offset and numbered without gaps, the first one is in force
//! where the ring begins, and none is merged with another: an emulator that is resized twice at one
//! place may end up different from one that is resized once.

use std::collections::VecDeque;
use std::ops::Range;

/// Most sizes remembered. Beyond it the oldest go, and the output between them with them.
const SIZES_MAX: usize = 1024;
/// Most snapshots remembered that are ahead of their offset; bounded in the same way.
const AHEAD_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub cols: u16,
    pub rows: u16,
}

/// A size in force from `offset` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SizeChange {
    pub offset: u64,
    pub size: Size,
    pub serial: u64,
}

#[derive(Debug)]
pub(super) struct SizeLog {
    changes: VecDeque<SizeChange>,
    /// Snapshots taken after size changes that lie behind their offset, because the emulator held
    /// something back: from their offset to the last such change. A client that stopped in between
    /// has the later size if it had the snapshot, and the earlier one if it had the output.
    ahead: VecDeque<Range<u64>>,
}

impl SizeLog {
    pub fn new(size: Size) -> Self {
        let first = SizeChange { offset: 0, size, serial: 0 };
        Self { changes: VecDeque::from([first]), ahead: VecDeque::new() }
    }

    /// There is always an entry: `new` makes one and `forget_before` keeps the last.
    pub fn latest(&self) -> SizeChange {
        self.changes[self.changes.len() - 1]
    }

    /// Whether the next change makes the oldest one go.
    pub fn is_full(&self) -> bool {
        self.changes.len() >= SIZES_MAX
    }

    /// Records a change. When there are too many, returns the offset before which the output must
    /// be forgotten too, since its sizes are no longer known.
    pub fn record(&mut self, offset: u64, size: Size) -> Option<u64> {
        let serial = self.latest().serial + 1;
        self.changes.push_back(SizeChange { offset, size, serial });
        if self.changes.len() <= SIZES_MAX {
            return None;
        }
        self.changes.pop_front();
        Some(self.changes[0].offset)
    }

    /// The change that follows the one with this serial.
    pub fn after(&self, serial: u64) -> Option<SizeChange> {
        let index = (serial + 1).checked_sub(self.changes[0].serial)?;
        self.changes.get(usize::try_from(index).ok()?).copied()
    }

    /// The change in force at `offset`, those made exactly there included.
    pub fn at(&self, offset: u64) -> SizeChange {
        let past = self.changes.partition_point(|c| c.offset <= offset);
        self.changes[past.saturating_sub(1)]
    }

    /// Notes that a snapshot of the present continues at `offset`. Returns, like `record`, the offset
    /// before which the output must be forgotten.
    pub fn note_snapshot(&mut self, offset: u64) -> Option<u64> {
        let ahead = offset..self.latest().offset;
        if ahead.is_empty() || self.ahead.contains(&ahead) {
            return None;
        }
        self.ahead.push_back(ahead);
        if self.ahead.len() <= AHEAD_MAX {
            return None;
        }
        self.ahead.pop_front().map(|oldest| oldest.end)
    }

    /// Whether it cannot be told which size a client has that stopped at `offset`.
    pub fn is_ambiguous_at(&self, offset: u64) -> bool {
        let here = self.changes.iter().filter(|c| c.offset == offset);
        here.count() > 1 || self.ahead.iter().any(|ahead| ahead.contains(&offset))
    }

    /// Forgets what no offset from `start` on can need. Changes at `start` itself stay.
    pub fn forget_before(&mut self, start: u64) {
        while self.changes.len() > 1 && self.changes[1].offset < start {
            self.changes.pop_front();
        }
        self.ahead.retain(|ahead| ahead.end > start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(cols: u16) -> Size {
        Size { cols, rows: 24 }
    }

    #[test]
    fn finds_what_is_in_force_and_what_follows() {
        let mut log = SizeLog::new(size(80));
        assert_eq!(log.record(10, size(90)), None);
        assert_eq!(log.record(10, size(91)), None);
        assert_eq!(log.record(20, size(100)), None);
        assert_eq!(log.at(9).size, size(80));
        assert_eq!(log.at(10).size, size(91));
        assert_eq!(log.at(19).serial, 2);
        assert_eq!(log.after(0).map(|c| c.size), Some(size(90)));
        assert_eq!(log.after(3), None);
        assert!(log.is_ambiguous_at(10) && !log.is_ambiguous_at(20));
        log.forget_before(10);
        assert_eq!(log.after(0).map(|c| c.offset), Some(10));
        log.forget_before(11);
        assert_eq!((log.at(15).size, log.after(2)), (size(91), Some(log.latest())));
    }

    #[test]
    fn is_bounded_and_says_what_must_be_forgotten() {
        let mut log = SizeLog::new(size(1));
        let forgotten: Vec<u64> = (1..=SIZES_MAX as u64).filter_map(|offset| log.record(offset, size(2))).collect();
        assert_eq!(forgotten, [1]);
        assert_eq!(log.changes.len(), SIZES_MAX);
    }

    #[test]
    fn a_snapshot_ahead_of_its_offset_makes_that_offset_ambiguous() {
        let mut log = SizeLog::new(size(80));
        log.record(20, size(90));
        assert_eq!(log.note_snapshot(20), None);
        assert_eq!(log.note_snapshot(17), None);
        assert!(log.is_ambiguous_at(17) && log.is_ambiguous_at(19));
        assert!(!log.is_ambiguous_at(16) && !log.is_ambiguous_at(20));
        log.forget_before(20);
        assert!(!log.is_ambiguous_at(19));
        log.record(1000, size(91));
        let forgotten: Vec<u64> =
            (100..=100 + AHEAD_MAX as u64).filter_map(|offset| log.note_snapshot(offset)).collect();
        assert_eq!(forgotten, [1000]);
    }
}
