//! What people read: tables, ages and sizes, with colour where a person is looking; and JSON for programs.

use crate::failure::{Failure, Result};
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};
use unicode_width::UnicodeWidthStr as _;

/// Between the columns of a table.
const GAP: &str = "  ";

/// Prints to standard output; a reader that went away is no fault of ours.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::io("standard output")(error)),
        _ => Ok(()),
    }
}

pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Other(error.to_string()))?;
    print(&format!("{text}\n"))
}

/// Colours of what a cell tells (ECMA-48, SGR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tint {
    Plain,
    Faint,
    Good,
    Warm,
    Bad,
}

impl Tint {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Faint => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Warm => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// A cell's text, on one line whatever it says, and its colour.
pub struct Cell(String, Tint);

impl Cell {
    pub fn new(text: impl Into<String>, tint: Tint) -> Self {
        Self(plain(&text.into()), tint)
    }
}

/// Anybody's text, without what would move the cursor or colour the rest.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A name as a shell reads it, where a person may copy it.
pub fn word(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '@');
    let dashes = if name.starts_with('-') { "-- " } else { "" };
    let quoted =
        if name.chars().all(is_plain) { name.to_owned() } else { format!("'{}'", name.replace('\'', "'\\''")) };
    format!("{dashes}{}", plain(&quoted))
}

/// Anybody's text in a colour, where a person is looking.
pub fn tinted(text: &str, tint: Tint) -> String {
    let code = if is_coloured() { tint.code() } else { "" };
    let end = if code.is_empty() { "" } else { "\x1b[0m" };
    format!("{code}{}{end}", plain(text))
}

/// On a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
fn is_coloured() -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !no_colour
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tint::Plain)
    }
}

/// Columns as wide as they need to be.
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| Cell::new(*head, Tint::Faint)).collect()] }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub fn print(&self) -> Result<()> {
        print(&self.text(is_coloured()))
    }

    fn text(&self, coloured: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.0.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            for (at, Cell(content, tint)) in row.iter().enumerate() {
                let code = if coloured { tint.code() } else { "" };
                let end = if code.is_empty() { "" } else { "\x1b[0m" };
                text.push_str(&format!("{code}{content}{end}"));
                if at + 1 < row.len() {
                    text.push_str(&" ".repeat(widths[at] - content.width()));
                    text.push_str(GAP);
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Such as `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Such as `1.2 M`, in powers of 1000.
pub fn count(of: u64) -> String {
    const UNITS: [&str; 5] = ["", " k", " M", " G", " T"];
    let (mut value, mut unit) = (of as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 99.95);
    format!("{value:.digits$}{}", UNITS[unit])
}

/// How long ago an RFC 3339 time was, such as `3 h`; as it stands if it is none.
pub fn age(time: &str) -> String {
    let Ok(then) = time.parse::<jiff::Timestamp>() else { return time.to_owned() };
    let seconds = (jiff::Timestamp::now().as_second() - then.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(&["NAME", "AGE"]);
        table.row(vec!["a\x1b[31mb\n".into(), "1 s".into()]);
        table.row(vec!["日本".into(), Cell::new("x", Tint::Bad)]);
        let plain = "NAME      AGE\na\u{fffd}[31mb\u{fffd}  1 s\n日本      x\n";
        assert_eq!(table.text(false), plain);
        assert!(table.text(true).ends_with("日本      \x1b[31mx\x1b[0m\n"), "{:?}", table.text(true));
    }

    #[test]
    fn sizes_have_few_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1023, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (200 << 20, "200 MiB"),
            (5 << 40, "5.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn counts_have_few_digits() {
        for (of, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0 k"),
            (99_960, "100 k"),
            (999_500, "1.0 M"),
            (5_000_000_000_000_000, "5000 T"),
        ] {
            assert_eq!(count(of), text);
        }
    }

    #[test]
    fn ages_are_of_the_unit_that_fits() {
        let ago = |seconds: i64| age(&(jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds)).to_string());
        assert_eq!([ago(90), ago(7300), ago(200_000)], ["1 min", "2 h", "2 d"]);
        assert_eq!(age("soon"), "soon");
    }
}
