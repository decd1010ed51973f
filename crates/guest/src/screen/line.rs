//! One line, small: its text, and the pens of its runs.
//!
//! A row of the grid costs 24 bytes for every cell; a line here costs about its text, so a full
//! scrollback stays far below the guest's memory limit. Invariant: text ends with the last cell that is
//! not blank (or covers the row, if it wraps), and no runs means the plain pen throughout. So two rows
//! are equal exactly if their lines are.

use super::pen::Pen;
use super::width::width;
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::vte::ansi::{Color, NamedColor};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    text: Box<str>,
    runs: Box<[Run]>,
    /// Continues in the next line without a line break.
    wrapped: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Run {
    bytes: u32,
    pen: Pen,
}

/// Text of one look.
pub(super) struct Span<'a> {
    pub text: &'a str,
    pub pen: Pen,
}

impl Line {
    pub fn of(row: &[Cell]) -> Self {
        let wrapped = row.last().is_some_and(|cell| cell.flags.contains(Flags::WRAPLINE));
        let used =
            if wrapped { row.len() } else { row.iter().rposition(|cell| !is_blank(cell)).map_or(0, |at| at + 1) };
        let mut text = String::with_capacity(used);
        let mut runs: Vec<Run> = Vec::new();
        let mut pen = Pen::default();
        let mut simple = true;
        let mut start = 0;
        for cell in &row[..used] {
            if is_simple(cell) && simple {
                text.push(cell.c);
                continue;
            }
            if cell.flags.contains(Flags::WIDE_CHAR_SPACER) {
                continue;
            }
            if !pen.is(cell) {
                push_run(&mut runs, text.len() - start, &pen);
                start = text.len();
                pen = Pen::of(cell);
                simple = pen == Pen::default();
            }
            text.push(cell.c);
            text.extend(cell.zerowidth().into_iter().flatten());
        }
        if !runs.is_empty() || pen != Pen::default() {
            push_run(&mut runs, text.len() - start, &pen);
        }
        Self { text: text.into(), runs: runs.into(), wrapped }
    }

    /// Writes the line into `row`, which is blank.
    pub fn fill(&self, row: &mut [Cell]) {
        let mut at = 0_usize;
        for span in self.spans() {
            let template = span.pen.cell();
            for c in span.text.chars() {
                let cells = usize::from(width(c));
                if cells == 0 {
                    let back = at.saturating_sub(1);
                    let spacer = row[back].flags.contains(Flags::WIDE_CHAR_SPACER);
                    row[back - usize::from(spacer)].push_zerowidth(c);
                } else if at + cells <= row.len() {
                    row[at] = template.clone();
                    row[at].c = c;
                    if cells == 2 {
                        row[at].flags.insert(Flags::WIDE_CHAR);
                        row[at + 1] = template.clone();
                        row[at + 1].flags.insert(Flags::WIDE_CHAR_SPACER);
                    }
                    at += cells;
                }
            }
        }
        if self.wrapped
            && let Some(last) = row.last_mut()
        {
            last.flags.insert(Flags::WRAPLINE);
        }
    }

    /// Ends the line: the next one is no longer its continuation.
    pub fn end(&mut self, cols: usize) {
        if self.wrapped {
            let mut row = vec![Cell::default(); cols];
            self.wrapped = false;
            self.fill(&mut row);
            *self = Self::of(&row);
        }
    }

    pub fn wrapped(&self) -> bool {
        self.wrapped
    }

    pub fn spans(&self) -> impl Iterator<Item = Span<'_>> {
        let plain =
            (self.runs.is_empty() && !self.text.is_empty()).then(|| Span { text: &self.text, pen: Pen::default() });
        let mut from = 0;
        let runs = self.runs.iter().map(move |run| {
            let text = &self.text[from..from + run.bytes as usize];
            from += run.bytes as usize;
            Span { text, pen: run.pen.clone() }
        });
        plain.into_iter().chain(runs)
    }

    pub fn cells(&self) -> usize {
        self.text.chars().map(|c| usize::from(width(c))).sum()
    }

    /// The pen of the first cell, if a wide character is there.
    pub fn leading_wide(&self) -> Option<Pen> {
        let wide = self.text.chars().next().is_some_and(|c| width(c) == 2);
        wide.then(|| self.runs.first().map_or_else(Pen::default, |run| run.pen.clone()))
    }

    /// The pen of the last cell, if there is but a space in it.
    pub fn trailing_space(&self) -> Option<Pen> {
        let space = self.text.ends_with(' ');
        space.then(|| self.runs.last().map_or_else(Pen::default, |run| run.pen.clone()))
    }

    /// Whether a wide character moved to the next line and left the last cell of this one empty.
    pub fn makes_room_for(&self, next: &Self) -> bool {
        self.wrapped && self.trailing_space().is_some_and(|pen| next.leading_wide() == Some(pen))
    }
}

fn push_run(runs: &mut Vec<Run>, bytes: usize, pen: &Pen) {
    if bytes > 0 {
        runs.push(Run { bytes: bytes as u32, pen: pen.clone() });
    }
}

/// Whether a cell is a character in the plain pen and nothing else. Nearly all are.
#[inline]
fn is_simple(cell: &Cell) -> bool {
    cell.extra.is_none()
        && cell.flags.is_empty()
        && matches!(cell.fg, Color::Named(NamedColor::Foreground))
        && matches!(cell.bg, Color::Named(NamedColor::Background))
}

fn is_blank(cell: &Cell) -> bool {
    if is_simple(cell) {
        return cell.c == ' ';
    }
    cell.c == ' ' && cell.zerowidth().is_none_or(<[char]>::is_empty) && {
        let plain = Cell::default();
        cell.fg == plain.fg
            && cell.bg == plain.bg
            && cell.flags.difference(Flags::LEADING_WIDE_CHAR_SPACER).is_empty()
            && cell.underline_color().is_none()
            && cell.hyperlink().is_none()
    }
}
