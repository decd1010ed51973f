//! Terminal emulation and exact snapshots: what a terminal shows, and the bytes that show it again.
//!
//! Pure: bytes and sizes in; bytes out. Cells and reflow are `alacritty_terminal`'s, parsing is `vte`'s;
//! both live only here.
//!
//! Invariant, tested by properties: for any output cut anywhere, a viewer of the same size that gets a
//! snapshot's `bytes` and then the output from its `offset` shows what one shows that got all of the
//! output. To make that possible the emulator never stops inside a sequence, a character or a
//! synchronized update: `boundary` holds back what is incomplete, and `offset` lies before that.
//!
//! The last printed character is held back too, since the next one may join it. So `title` and the like
//! are current, but a size change acts before what is held.
//!
//! Left to the caller: time (see [`Screen::flush_sync`]), and who answers a program: a viewer must not
//! answer queries itself, because [`Screen::take_answers`] does, once and in order.

mod boundary;
mod emulator;
mod handler;
mod keyboard;
mod line;
mod modes;
mod palette;
mod pen;
mod resize;
mod serialise;
mod tabs;
#[cfg(test)]
mod tests;
mod width;

pub use boundary::{SEQUENCE_BYTES_MAX, SYNC_BYTES_MAX};
pub use width::width;

use alacritty_terminal::vte::ansi::{Processor, Timeout};
use boundary::Boundary;
use emulator::Emulator;
use std::time::Duration;

/// Narrowest screen: a wide character must fit.
pub const COLS_MIN: u16 = 2;
/// Largest screen; a larger size is cut down to it.
pub const COLS_MAX: u16 = 1000;
pub const ROWS_MAX: u16 = 500;
/// Most scrollback, in lines.
pub const SCROLLBACK_LINES_MAX: u32 = 100_000;

/// What redraws a terminal, and where its output goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The output from this offset on must follow `bytes`.
    pub offset: u64,
    pub cols: u16,
    pub rows: u16,
    /// Begins with CAN and RIS, so it can be written to a terminal in any state.
    pub bytes: Vec<u8>,
}

/// One terminal's screen, scrollback and modes.
pub struct Screen {
    boundary: Boundary,
    parser: Processor<NeverBuffer>,
    emulator: Emulator,
    fed: u64,
}

/// Keeps the parser from buffering synchronized updates: [`Boundary`] does.
#[derive(Default)]
struct NeverBuffer;

impl Timeout for NeverBuffer {
    fn set_timeout(&mut self, _: Duration) {}
    fn clear_timeout(&mut self) {}
    fn pending_timeout(&self) -> bool {
        false
    }
}

impl Screen {
    /// An empty screen. Sizes outside the limits are moved to the nearest one.
    pub fn new(cols: u16, rows: u16, scrollback_lines: u32) -> Self {
        let (cols, rows) = limited(cols, rows);
        let scrollback_lines = scrollback_lines.min(SCROLLBACK_LINES_MAX);
        Self {
            boundary: Boundary::new(),
            parser: Processor::new(),
            emulator: Emulator::new(cols, rows, scrollback_lines as usize),
            fed: 0,
        }
    }

    /// Consumes output of the terminal's programs.
    pub fn feed(&mut self, output: &[u8]) {
        self.fed += output.len() as u64;
        let Self { boundary, parser, emulator, .. } = self;
        boundary.feed(output, &mut |complete| parser.advance(emulator, complete));
    }

    /// How many line feeds leave nothing of what is on this screen now: the cursor reaches the last
    /// line, every line scrolls away, and then out of the scrollback.
    pub fn line_feeds_to_forget(&self) -> usize {
        self.emulator.history_lines_max + 2 * self.emulator.rows + 2
    }

    /// Whether nothing is held that later output could complete.
    pub fn is_at_rest(&self) -> bool {
        self.boundary.is_at_rest()
    }

    /// Counts output as consumed that is not emulated: printable ASCII, CR and LF, followed by a CR
    /// and, in the same kind of output, [`Screen::line_feeds_to_forget`] line feeds. `false`, and
    /// nothing is counted, where that would make a difference (margins, an incomplete sequence).
    pub fn leave_out(&mut self, bytes: u64) -> bool {
        let all_lines = self.emulator.shown.top == 0 && self.emulator.shown.bottom == self.emulator.rows;
        if !all_lines || !self.is_at_rest() {
            return false;
        }
        self.fed += bytes;
        true
    }

    /// Output consumed so far, in bytes.
    pub fn fed(&self) -> u64 {
        self.fed
    }

    pub fn resize(&mut self, cols: u16, rows: u16) {
        let (cols, rows) = limited(cols, rows);
        self.emulator.resize(cols, rows);
    }

    /// What redraws this screen in any terminal of its size.
    pub fn snapshot(&mut self) -> Snapshot {
        let mut bytes = serialise::serialise(&self.emulator);
        bytes.extend_from_slice(self.boundary.opener());
        Snapshot {
            offset: self.fed - self.boundary.held(),
            cols: self.emulator.cols as u16,
            rows: self.emulator.rows as u16,
            bytes,
        }
    }

    /// Answers to the queries in the output, for the terminal's input; each is given once.
    pub fn take_answers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.emulator.answers)
    }

    pub fn title(&self) -> Option<&str> {
        self.emulator.title.as_deref()
    }

    /// Whether a synchronized update has begun and not ended.
    pub fn in_sync(&self) -> bool {
        self.boundary.in_sync()
    }

    /// Draws what there is of a synchronized update. The caller does this when one lasts longer than its
    /// patience (terminals wait 150 ms to a second): there is no clock in here.
    pub fn flush_sync(&mut self) {
        let Self { boundary, parser, emulator, .. } = self;
        boundary.release_sync(&mut |complete| parser.advance(emulator, complete));
    }
}

fn limited(cols: u16, rows: u16) -> (usize, usize) {
    (usize::from(cols.clamp(COLS_MIN, COLS_MAX)), usize::from(rows.clamp(1, ROWS_MAX)))
}
