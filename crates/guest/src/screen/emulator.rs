//! The state of the terminal and what changes it, cell by cell.
//!
//! The cells, their storage and their reflow are `alacritty_terminal`'s grid; what a sequence does is
//! decided here, because everything must be visible to a snapshot: the emulator's own `Term` hides its
//! other screen, margins, tab stops and charsets. Where terminals differ this follows xterm.js, which
//! draws our snapshots: whoever attaches must see what a viewer that was there all along sees.
//!
//! Invariants, on which snapshots rely:
//! - a wide character is always followed by its spacer, and a spacer never stands alone;
//! - `WRAPLINE` is only in a last column, never in the last row, never where a wrap is pending;
//! - a wrap is pending only in the last column; in origin mode the cursor is within the margins;
//! - the grids keep no history: lines that leave the primary screen are in `history`, compactly.

use super::keyboard::Keyboard;
use super::line::Line as Text;
use super::modes::Modes;
use super::palette::Palette;
use super::pen::Pen;
use super::tabs::Tabs;
use super::width::width;
use alacritty_terminal::grid::{Dimensions, Grid, Row};
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::vte::ansi::{CursorStyle, StandardCharset};
use std::collections::VecDeque;
use std::ops::Range;

/// Zero-width characters kept in one cell; more are dropped.
const JOINED_CHARS_MAX: usize = 8;
/// Answers that nobody takes; beyond this, new ones are dropped.
const ANSWERS_BYTES_MAX: usize = 64 * 1024;

const WIDE: Flags = Flags::WIDE_CHAR.union(Flags::WIDE_CHAR_SPACER);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Charsets {
    pub sets: [StandardCharset; 4],
    pub active: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub line: usize,
    pub col: usize,
    /// The last column has been written: the next character wraps first.
    pub pending: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Saved {
    pub line: usize,
    pub col: usize,
    pub pen: Pen,
    pub charsets: Charsets,
}

/// One of the two screens.
pub(super) struct Buffer {
    pub grid: Grid<Cell>,
    pub top: usize,
    /// First line below the margins.
    pub bottom: usize,
    pub tabs: Tabs,
    pub saved: Saved,
    pub keyboard: Keyboard,
    /// Where the cursor was when the other screen was chosen; only a resize asks.
    pub parked: Cursor,
}

impl Buffer {
    pub fn new(cols: usize, rows: usize) -> Self {
        Self {
            grid: Grid::new(rows, cols, 0),
            top: 0,
            bottom: rows,
            tabs: Tabs::new(cols),
            saved: Saved::default(),
            keyboard: Keyboard::default(),
            parked: Cursor::default(),
        }
    }

    pub fn rows(&self) -> usize {
        self.grid.screen_lines()
    }
}

pub(super) struct Emulator {
    pub cols: usize,
    pub rows: usize,
    /// The screen that is shown.
    pub shown: Buffer,
    /// The primary screen while the alternate one is shown.
    pub primary: Option<Box<Buffer>>,
    pub history: VecDeque<Text>,
    pub history_lines_max: usize,
    pub cursor: Cursor,
    /// What new cells look like.
    pub pen: Cell,
    pub charsets: Charsets,
    pub modes: Modes,
    pub style: Option<CursorStyle>,
    pub palette: Palette,
    pub title: Option<String>,
    pub titles: Vec<Option<String>>,
    pub answers: Vec<u8>,
}

impl Emulator {
    pub fn new(cols: usize, rows: usize, history_lines_max: usize) -> Self {
        Self {
            cols,
            rows,
            shown: Buffer::new(cols, rows),
            primary: None,
            history: VecDeque::new(),
            history_lines_max,
            cursor: Cursor::default(),
            pen: Cell::default(),
            charsets: Charsets::default(),
            modes: Modes::default(),
            style: None,
            palette: Palette::default(),
            title: None,
            titles: Vec::new(),
            answers: Vec::new(),
        }
    }

    pub fn answer(&mut self, answer: &str) {
        if self.answers.len() + answer.len() <= ANSWERS_BYTES_MAX {
            self.answers.extend_from_slice(answer.as_bytes());
        }
    }

    pub fn row(&mut self, line: usize) -> &mut Row<Cell> {
        &mut self.shown.grid[Line(line as i32)]
    }

    fn blank(&self) -> Cell {
        Cell::from(self.pen.bg)
    }

    // Printing.

    pub fn print(&mut self, c: char) {
        let cells = usize::from(width(c));
        if cells == 0 {
            self.join(c);
            return;
        }
        if self.cursor.pending && self.modes.autowrap {
            self.wrap();
        }
        if cells == 2 && self.cursor.col + 1 >= self.cols {
            if !self.modes.autowrap {
                self.cursor.pending = false;
                return;
            }
            self.put(' ', Flags::empty());
            self.wrap();
        }
        if self.modes.insert {
            self.insert_cells(cells);
        }
        let c = self.charsets.sets[self.charsets.active].map(c);
        if cells == 2 {
            self.put(c, Flags::WIDE_CHAR);
            self.cursor.col += 1;
            self.put(' ', Flags::WIDE_CHAR_SPACER);
        } else {
            self.put(c, Flags::empty());
        }
        if self.cursor.col + 1 < self.cols {
            self.cursor.col += 1;
        } else {
            self.cursor.pending = true;
        }
    }

    fn put(&mut self, c: char, kind: Flags) {
        let col = self.cursor.col;
        let row = &mut self.shown.grid[Line(self.cursor.line as i32)];
        // Only a cell that is half of a wide character has a neighbour to look after.
        if row[Column(col)].flags.intersects(WIDE) {
            if kind != Flags::WIDE_CHAR_SPACER {
                sever(row, col);
            }
            if kind != Flags::WIDE_CHAR {
                sever(row, col + 1);
            }
        }
        let cell = &mut row[Column(col)];
        cell.c = c;
        cell.fg = self.pen.fg;
        cell.bg = self.pen.bg;
        cell.flags = self.pen.flags.union(kind);
        if cell.extra.is_some() || self.pen.extra.is_some() {
            cell.extra.clone_from(&self.pen.extra);
        }
    }

    /// Adds a zero-width character to the cell before the cursor.
    fn join(&mut self, c: char) {
        if c.is_control() {
            return;
        }
        let back = usize::from(!self.cursor.pending);
        let mut col = self.cursor.col.saturating_sub(back);
        let row = self.row(self.cursor.line);
        if row[Column(col)].flags.contains(Flags::WIDE_CHAR_SPACER) {
            col -= 1;
        }
        let cell = &mut row[Column(col)];
        if cell.zerowidth().map_or(0, <[char]>::len) < JOINED_CHARS_MAX {
            cell.push_zerowidth(c);
        }
    }

    /// Goes on in the next line, which becomes a continuation of this one.
    fn wrap(&mut self) {
        let (line, last) = (self.cursor.line, Column(self.cols - 1));
        if line + 1 == self.shown.bottom {
            self.row(line)[last].flags.insert(Flags::WRAPLINE);
            self.scroll_into_history();
        } else if line + 1 < self.rows {
            self.row(line)[last].flags.insert(Flags::WRAPLINE);
            self.cursor.line += 1;
        }
        self.cursor.col = 0;
        self.cursor.pending = false;
    }

    // Lines.

    pub fn line_feed(&mut self) {
        let line = self.cursor.line;
        if line + 1 == self.shown.bottom {
            self.unlink(line);
            self.scroll_into_history();
        } else if line + 1 < self.rows {
            self.unlink(line);
            self.cursor.line += 1;
        }
        self.cursor.pending = false;
        if self.modes.newline {
            self.cursor.col = 0;
        }
    }

    pub fn reverse_line_feed(&mut self) {
        self.cursor.pending = false;
        if self.cursor.line == self.shown.top {
            self.scroll_down(self.shown.top, 1);
        } else {
            self.cursor.line = self.cursor.line.saturating_sub(1);
        }
    }

    /// Scrolls by one line, as output does: what leaves the primary screen at its top is history.
    fn scroll_into_history(&mut self) {
        if self.shown.top == 0 && self.primary.is_none() && self.history_lines_max > 0 {
            if self.history.len() == self.history_lines_max {
                self.history.pop_front();
            }
            self.history.push_back(Text::of(&self.shown.grid[Line(0)][..]));
        }
        self.scroll_up(self.shown.top, 1);
    }

    /// Scrolls the lines from `top` to the lower margin up; what leaves is lost.
    pub fn scroll_up(&mut self, top: usize, count: usize) {
        let region = self.region(top);
        let count = count.min(self.shown.bottom - top);
        self.shown.grid.cursor.template.bg = self.pen.bg;
        self.shown.grid.scroll_up(&region, count);
        self.settle();
    }

    pub fn scroll_down(&mut self, top: usize, count: usize) {
        let region = self.region(top);
        let count = count.min(self.shown.bottom - top);
        self.shown.grid.cursor.template.bg = self.pen.bg;
        self.shown.grid.scroll_down(&region, count);
        self.settle();
    }

    fn region(&self, top: usize) -> Range<Line> {
        Line(top as i32)..Line(self.shown.bottom as i32)
    }

    /// Restores the invariants about `WRAPLINE` after lines have moved.
    pub fn settle(&mut self) {
        self.unlink(self.rows - 1);
        if self.cursor.pending {
            self.unlink(self.cursor.line);
        }
    }

    pub fn in_margins(&self) -> bool {
        (self.shown.top..self.shown.bottom).contains(&self.cursor.line)
    }

    /// The line after this one is no longer its continuation.
    fn unlink(&mut self, line: usize) {
        let last = Column(self.cols - 1);
        let linked = self.shown.grid[Line(line as i32)][last].flags.contains(Flags::WRAPLINE);
        if linked {
            self.row(line)[last].flags.remove(Flags::WRAPLINE);
        }
    }

    fn unlink_above(&mut self, line: usize) {
        if line > 0 {
            self.unlink(line - 1);
        } else if self.primary.is_none()
            && let Some(above) = self.history.back_mut()
        {
            above.end(self.cols);
        }
    }

    // Erasing and shifting.

    /// Erases cells of a line; from the first on, it is no longer a continuation.
    pub fn erase(&mut self, line: usize, cols: Range<usize>) {
        if cols.is_empty() {
            return;
        }
        let blank = self.blank();
        let row = self.row(line);
        sever(row, cols.start);
        sever(row, cols.end);
        row[Column(cols.start)..Column(cols.end)].fill(blank);
    }

    pub fn erase_line_part(&mut self, cols: Range<usize>) {
        if cols.start == 0 && cols.end == self.cols {
            self.unlink_above(self.cursor.line);
        }
        self.erase(self.cursor.line, cols);
    }

    pub fn erase_lines(&mut self, lines: Range<usize>) {
        for line in lines {
            self.unlink_above(line);
            self.erase(line, 0..self.cols);
        }
    }

    /// First column that erasing to the right takes: none when the cursor is past the last.
    pub fn erase_from(&self) -> usize {
        self.cursor.col + usize::from(self.cursor.pending)
    }

    pub fn insert_cells(&mut self, count: usize) {
        let (line, col, cols) = (self.cursor.line, self.cursor.col, self.cols);
        let count = count.min(cols - col);
        let blank = self.blank();
        self.cursor.pending = false;
        self.unlink(line);
        let row = self.row(line);
        sever(row, col);
        sever(row, cols - count);
        let cells = &mut row[Column(col)..];
        cells.rotate_right(count);
        cells[..count].fill(blank);
    }

    pub fn delete_cells(&mut self, count: usize) {
        let (line, col, cols) = (self.cursor.line, self.cursor.col, self.cols);
        let count = count.min(cols - col);
        let blank = self.blank();
        self.cursor.pending = false;
        self.unlink(line);
        let row = self.row(line);
        sever(row, col);
        sever(row, col + count);
        let cells = &mut row[Column(col)..];
        cells.rotate_left(count);
        let kept = cells.len() - count;
        cells[kept..].fill(blank);
    }

    // The cursor.

    /// Moves within the margins if origin mode is on.
    pub fn place(&mut self, line: usize, col: usize) {
        let (first, last) = match self.modes.origin {
            true => (self.shown.top, self.shown.bottom - 1),
            false => (0, self.rows - 1),
        };
        self.cursor = Cursor { line: line.clamp(first, last), col: col.min(self.cols - 1), pending: false };
    }

    /// As `place`, with lines counted from the upper margin in origin mode.
    pub fn address(&mut self, line: usize, col: usize) {
        let origin = if self.modes.origin { self.shown.top } else { 0 };
        self.place(line.saturating_add(origin), col);
    }

    /// Up, but not out of the margins.
    pub fn up(&mut self, count: usize) {
        let line = self.cursor.line;
        let stop = if line >= self.shown.top { self.shown.top } else { 0 };
        self.place(line.saturating_sub(count).max(stop), self.cursor.col);
    }

    /// Down, but not out of the margins.
    pub fn down(&mut self, count: usize) {
        let line = self.cursor.line;
        let bottom = self.shown.bottom;
        let stop = if line < bottom { bottom } else { self.rows };
        self.place((line + count).min(stop - 1), self.cursor.col);
    }

    pub fn save_cursor(&mut self) {
        self.shown.saved =
            Saved { line: self.cursor.line, col: self.cursor.col, pen: Pen::of(&self.pen), charsets: self.charsets };
    }

    pub fn restore_cursor(&mut self) {
        let saved = self.shown.saved.clone();
        self.pen = saved.pen.cell();
        self.charsets = saved.charsets;
        self.place(saved.line, saved.col);
    }

    // The two screens.

    /// Shows an empty alternate screen; the cursor stays where it is.
    pub fn show_alternate(&mut self) {
        if self.primary.is_some() {
            return;
        }
        let mut primary = std::mem::replace(&mut self.shown, Buffer::new(self.cols, self.rows));
        primary.parked = self.cursor;
        self.primary = Some(Box::new(primary));
        if self.blank() != Cell::default() {
            self.erase_lines(0..self.rows);
        }
    }

    pub fn show_primary(&mut self) {
        if let Some(primary) = self.primary.take() {
            self.shown = *primary;
            self.shown.parked = Cursor::default();
            self.place(self.cursor.line, self.cursor.col);
        }
    }

    /// As after the start, but for the palette, which no terminal's reset touches.
    pub fn reset(&mut self) {
        let fresh = Self::new(self.cols, self.rows, self.history_lines_max);
        let old = std::mem::replace(self, fresh);
        self.palette = old.palette;
        self.answers = old.answers;
    }
}

/// Makes a cut before column `at` clean: a wide character across it becomes blank.
fn sever(row: &mut Row<Cell>, at: usize) {
    if at == 0 || at >= row.len() || !row[Column(at)].flags.contains(Flags::WIDE_CHAR_SPACER) {
        return;
    }
    row[Column(at)].flags.remove(Flags::WIDE_CHAR_SPACER);
    blank_out(&mut row[Column(at - 1)]);
}

/// Takes the wide character out of its first cell and leaves how the cell looks.
pub(super) fn blank_out(cell: &mut Cell) {
    cell.flags.remove(Flags::WIDE_CHAR);
    cell.c = ' ';
    if cell.zerowidth().is_some_and(|joined| !joined.is_empty()) {
        let pen = Pen::of(cell);
        let kept = cell.flags;
        *cell = pen.cell();
        cell.flags = kept;
    }
}
