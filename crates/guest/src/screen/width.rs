//! How many cells a character takes. The page registers a table generated from this function, so that
//! the browser and the guest agree on every column.

use unicode_width::UnicodeWidthChar;

/// Cells of `c`: 0 (joins the cell before it), 1 or 2. Controls take none.
pub fn width(c: char) -> u8 {
    match c {
        ' '..='~' => 1,
        _ => c.width().map_or(0, |cells| cells.min(2) as u8),
    }
}
