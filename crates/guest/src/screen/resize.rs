//! A new size: the primary screen and its history reflow, the alternate screen is cut or padded.
//!
//! The grid reflows only what it holds, so the history is put back above the primary screen for that
//! moment. Which last cell was left empty for a wide character is derived from what is visible before,
//! and everything irregular that the reflow leaves is repaired after: so the result depends on nothing
//! that a snapshot does not carry.

use super::emulator::{Buffer, Cursor, Emulator, blank_out};
use super::line::Line as Text;
use alacritty_terminal::grid::{Dimensions, Grid, Row};
use alacritty_terminal::index::{Column, Line, Point};
use alacritty_terminal::term::cell::{Cell, Flags};

impl Emulator {
    pub fn resize(&mut self, cols: usize, rows: usize) {
        if (cols, rows) == (self.cols, self.rows) {
            return;
        }
        let old_rows = std::mem::replace(&mut self.rows, rows);
        let old_cols = std::mem::replace(&mut self.cols, cols);
        let limit = self.history_lines_max;
        if let Some(primary) = &mut self.primary {
            let alternate = &mut self.shown;
            self.cursor = fit(alternate, self.cursor, cols, rows);
            let history = std::mem::take(&mut self.history);
            let mut grid = joined(primary, &history, limit, old_cols, old_rows);
            primary.parked = reflow(primary, &mut grid, primary.parked, cols, rows);
            self.history = split(primary, &mut grid);
        } else {
            let history = std::mem::take(&mut self.history);
            let mut grid = joined(&mut self.shown, &history, limit, old_cols, old_rows);
            self.cursor = reflow(&mut self.shown, &mut grid, self.cursor, cols, rows);
            self.history = split(&mut self.shown, &mut grid);
        }
        self.settle();
        if let Some(primary) = &mut self.primary {
            settle_parked(primary);
        }
    }
}

/// The primary screen with its history above it.
fn joined<'a>(
    buffer: &mut Buffer,
    history: impl IntoIterator<Item = &'a Text, IntoIter: ExactSizeIterator>,
    limit: usize,
    cols: usize,
    rows: usize,
) -> Grid<Cell> {
    let mut grid: Grid<Cell> = Grid::new(rows, cols, limit);
    let whole = Line(0)..Line(rows as i32);
    let history = history.into_iter();
    let above = history.len();
    let target = |grid: &mut Grid<Cell>, at: usize| {
        if at >= rows {
            grid.scroll_up(&whole, 1);
        }
        Line(at.min(rows - 1) as i32)
    };
    for (at, text) in history.enumerate() {
        let line = target(&mut grid, at);
        text.fill(&mut grid[line][..]);
    }
    for at in 0..rows {
        let line = target(&mut grid, above + at);
        grid[line] = std::mem::take(&mut buffer.grid[Line(at as i32)]);
    }
    mark_leading_spacers(&mut grid, above, rows);
    grid
}

/// A last cell that is empty because a wide character moved to the next line vanishes in a reflow.
fn mark_leading_spacers(grid: &mut Grid<Cell>, above: usize, rows: usize) {
    let lines = -(above as i32)..rows as i32;
    let last = grid.columns() - 1;
    let texts: Vec<bool> = lines
        .clone()
        .zip(lines.clone().skip(1))
        .map(|(line, next)| {
            let linked = grid[Line(line)][Column(last)].flags.contains(Flags::WRAPLINE);
            let wide = grid[Line(next)][Column(0)].flags.contains(Flags::WIDE_CHAR);
            linked && wide && {
                let text = Text::of(&grid[Line(line)][..]);
                text.makes_room_for(&Text::of(&grid[Line(next)][..]))
            }
        })
        .chain([false])
        .collect();
    for (line, leading) in lines.zip(texts) {
        let flags = &mut grid[Line(line)][Column(last)].flags;
        flags.set(Flags::LEADING_WIDE_CHAR_SPACER, leading);
    }
}

fn reflow(buffer: &mut Buffer, grid: &mut Grid<Cell>, cursor: Cursor, cols: usize, rows: usize) -> Cursor {
    grid.cursor.point = Point::new(Line(cursor.line as i32), Column(cursor.col));
    grid.cursor.input_needs_wrap = cursor.pending;
    grid.saved_cursor.point = Point::new(Line(buffer.saved.line as i32), Column(buffer.saved.col));
    grid.resize(true, rows, cols);
    adopt(buffer, grid, cols, rows)
}

/// Resizes a screen that does not reflow.
fn fit(buffer: &mut Buffer, cursor: Cursor, cols: usize, rows: usize) -> Cursor {
    let mut grid = std::mem::replace(&mut buffer.grid, Grid::new(1, 1, 0));
    grid.cursor.point = Point::new(Line(cursor.line as i32), Column(cursor.col));
    grid.cursor.input_needs_wrap = cursor.pending;
    grid.saved_cursor.point = Point::new(Line(buffer.saved.line as i32), Column(buffer.saved.col));
    grid.resize(false, rows, cols);
    let cursor = adopt(buffer, &grid, cols, rows);
    buffer.grid = Grid::new(rows, cols, 0);
    take_rows(buffer, &mut grid);
    cursor
}

/// Takes over what a resize did besides moving cells.
fn adopt(buffer: &mut Buffer, grid: &Grid<Cell>, cols: usize, rows: usize) -> Cursor {
    let clamped = |point: Point| {
        let line = usize::try_from(point.line.0).unwrap_or(0).min(rows - 1);
        (line, point.column.0.min(cols - 1))
    };
    (buffer.saved.line, buffer.saved.col) = clamped(grid.saved_cursor.point);
    buffer.tabs.resize(cols);
    (buffer.top, buffer.bottom) = (0, rows);
    let (line, col) = clamped(grid.cursor.point);
    Cursor { line, col, pending: grid.cursor.input_needs_wrap && col == cols - 1 }
}

/// Separates the history from the screen again.
fn split(buffer: &mut Buffer, grid: &mut Grid<Cell>) -> std::collections::VecDeque<Text> {
    let (cols, above) = (grid.columns(), grid.history_size() as i32);
    let mut history = std::collections::VecDeque::with_capacity(above as usize);
    for line in (1..=above).rev() {
        let row = regular(std::mem::take(&mut grid[Line(-line)]), cols);
        history.push_back(Text::of(&row[..]));
    }
    buffer.grid = Grid::new(grid.screen_lines(), cols, 0);
    take_rows(buffer, grid);
    history
}

fn take_rows(buffer: &mut Buffer, grid: &mut Grid<Cell>) {
    for line in (0..grid.screen_lines() as i32).map(Line) {
        buffer.grid[line] = regular(std::mem::take(&mut grid[line]), grid.columns());
    }
}

/// A row of `cols` cells in which every wide character is whole and only the last cell wraps.
fn regular(row: Row<Cell>, cols: usize) -> Row<Cell> {
    let mut cells: Vec<Cell> = row.into_iter().cloned().collect();
    cells.resize_with(cols, Cell::default);
    for at in 0..cols {
        cells[at].flags.remove(Flags::LEADING_WIDE_CHAR_SPACER);
        if at + 1 < cols {
            cells[at].flags.remove(Flags::WRAPLINE);
        }
        let wide = cells[at].flags.contains(Flags::WIDE_CHAR);
        let followed = cells.get(at + 1).is_some_and(|next| next.flags.contains(Flags::WIDE_CHAR_SPACER));
        let alone = at == 0 || !cells[at - 1].flags.contains(Flags::WIDE_CHAR);
        if wide && !followed {
            blank_out(&mut cells[at]);
        } else if cells[at].flags.contains(Flags::WIDE_CHAR_SPACER) && alone {
            cells[at].flags.remove(Flags::WIDE_CHAR_SPACER);
        }
    }
    Row::from_vec(cells, cols)
}

fn settle_parked(primary: &mut Buffer) {
    let last = Column(primary.grid.columns() - 1);
    let bottom = Line(primary.grid.screen_lines() as i32 - 1);
    primary.grid[bottom][last].flags.remove(Flags::WRAPLINE);
    if primary.parked.pending {
        let line = Line(primary.parked.line as i32);
        primary.grid[line][last].flags.remove(Flags::WRAPLINE);
    }
}
