//! The emulator behind a terminal, fed late on purpose.
//!
//! Emulating every byte as it comes costs a third of the throughput. So the emulator trails the ring
//! and catches up when it is needed; the core decides when. Invariant: it has consumed the output before
//! `screen.fed()` and every size change up to `applied`, each at its place; what [`Emulation::leave_out`]
//! has passed over makes no difference once the emulator has caught up, and nothing looks before that.

use super::ring::Ring;
use super::sizes::{Size, SizeChange, SizeLog};
use super::skip::{self, Plan};
use crate::screen::{Screen, Snapshot};

/// Longest title that is passed on, in characters.
const TITLE_CHARS_MAX: usize = 256;

pub(super) struct Emulation {
    screen: Screen,
    /// The last size change that was applied.
    applied: u64,
    title: Option<String>,
    /// Counts the titles, so that attachments see that there is a new one.
    title_serial: u64,
    /// Before this much has been consumed, looking for something to leave out is in vain.
    barrier: u64,
}

impl Emulation {
    pub fn new(size: Size, scrollback_lines: u32) -> Self {
        Self {
            screen: Screen::new(size.cols, size.rows, scrollback_lines),
            applied: 0,
            title: None,
            title_serial: 0,
            barrier: 0,
        }
    }

    pub fn lag(&self, ring: &Ring) -> u64 {
        ring.end() - self.screen.fed()
    }

    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    pub fn title_serial(&self) -> u64 {
        self.title_serial
    }

    /// Consumes at least `bytes` more, or everything there is, and the size changes on the way.
    pub fn advance(&mut self, ring: &Ring, sizes: &SizeLog, bytes: u64) {
        let target = self.screen.fed().saturating_add(bytes).min(ring.end());
        loop {
            let fed = self.screen.fed();
            let stop = match sizes.after(self.applied) {
                Some(change) if change.offset <= fed => {
                    self.resize(change);
                    continue;
                }
                Some(change) => change.offset.min(target),
                None => target,
            };
            if fed >= stop {
                break;
            }
            for piece in ring.pieces(fed, stop) {
                self.screen.feed(piece);
            }
        }
        self.note_title();
    }

    /// Leaves out what will have scrolled away by the ring's end, if there is much of it. Until the
    /// emulator has consumed everything up to that end, its screen means nothing.
    pub fn leave_out(&mut self, ring: &Ring, sizes: &SizeLog) {
        let fed = self.screen.fed();
        if fed < self.barrier || sizes.after(self.applied).is_some() {
            return;
        }
        let pieces: Vec<&[u8]> = ring.pieces(fed, ring.end()).collect();
        match skip::plan(&pieces, self.screen.line_feeds_to_forget()) {
            Plan::Not { barrier } => self.barrier = fed + barrier as u64,
            Plan::LeaveOut { from, to } => {
                for piece in ring.pieces(fed, fed + from as u64) {
                    self.screen.feed(piece);
                }
                if !self.screen.leave_out((to - from) as u64) {
                    self.barrier = fed + to as u64;
                }
                self.note_title();
            }
        }
    }

    /// Whether a sequence has begun that what comes next may complete.
    pub fn is_holding(&self) -> bool {
        !self.screen.is_at_rest()
    }

    pub fn take_answers(&mut self) -> Vec<u8> {
        self.screen.take_answers()
    }

    pub fn snapshot(&mut self) -> Snapshot {
        self.screen.snapshot()
    }

    /// Whether a synchronized update has begun and its end has not come.
    pub fn is_in_update(&self) -> bool {
        self.screen.in_sync()
    }

    /// Draws what there is of a synchronized update whose end does not come.
    pub fn finish_update(&mut self) {
        self.screen.flush_sync();
        self.note_title();
    }

    fn resize(&mut self, change: SizeChange) {
        self.screen.resize(change.size.cols, change.size.rows);
        self.applied = change.serial;
    }

    fn note_title(&mut self) {
        let title = self.screen.title().map(shortened);
        if title != self.title.as_deref() {
            self.title = title.map(str::to_owned);
            self.title_serial += 1;
        }
    }
}

fn shortened(title: &str) -> &str {
    let end = title.char_indices().nth(TITLE_CHARS_MAX);
    &title[..end.map_or(title.len(), |(index, _)| index)]
}
