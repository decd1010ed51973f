//! The dashboard's list: which workspace is chosen, what keys mean, and how it is drawn, all pure.

use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{WorkspaceStatus, WorkspaceView};
use rexec_ssh::Size;

/// Goes to a screen of our own, without a cursor; what was on the terminal comes back by [`LEAVE`].
pub(super) const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
pub(super) const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Lines that are not the list's: a title, a message, the keys, and what is between them.
const LINES_AROUND: usize = 6;
const HELP: &str = "Enter open   n new   s start or stop   q quit";
/// Most characters of a name in its column.
const NAME_CHARS_MAX: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    Open,
    New,
    /// Starts what does not run, stops what does.
    Toggle,
    Quit,
}

/// The keys in what came at once; what they do not know is left out.
pub(super) fn keys(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let Some((&first, rest)) = bytes.split_first() {
        bytes = rest;
        keys.extend(match (first, rest) {
            (0x1b, [b'[' | b'O', last, rest @ ..]) => {
                bytes = rest;
                match last {
                    b'A' => Some(Key::Up),
                    b'B' => Some(Key::Down),
                    _ => None,
                }
            }
            (b'k', _) => Some(Key::Up),
            (b'j', _) => Some(Key::Down),
            (b'\r' | b'\n', _) => Some(Key::Open),
            (b'n', _) => Some(Key::New),
            (b's', _) => Some(Key::Toggle),
            (b'q' | 0x03 | 0x04, _) => Some(Key::Quit),
            _ => None,
        });
    }
    keys
}

pub(super) struct List {
    items: Vec<WorkspaceView>,
    chosen: Option<WorkspaceId>,
    /// A sentence below the list.
    pub message: String,
}

impl List {
    pub fn new(items: Vec<WorkspaceView>) -> Self {
        let mut list = Self { items: Vec::new(), chosen: None, message: String::new() };
        list.update(items);
        list
    }

    /// Shows these; the chosen one stays chosen, or the first is.
    pub fn update(&mut self, items: Vec<WorkspaceView>) {
        self.items = items;
        if self.index().is_none() {
            self.chosen = self.items.first().map(|view| view.id);
        }
    }

    fn index(&self) -> Option<usize> {
        self.items.iter().position(|view| Some(view.id) == self.chosen)
    }

    pub fn chosen(&self) -> Option<&WorkspaceView> {
        self.index().map(|index| &self.items[index])
    }

    pub fn step(&mut self, by: isize) {
        let Some(index) = self.index() else { return };
        let next = index.saturating_add_signed(by).min(self.items.len() - 1);
        self.chosen = Some(self.items[next].id);
    }

    /// The whole screen.
    pub fn draw(&self, size: Size) -> String {
        let (cols, rows) = (usize::from(size.cols), usize::from(size.rows));
        let room = rows.saturating_sub(LINES_AROUND).max(1);
        let first = self.index().map_or(0, |index| (index + 1).saturating_sub(room));
        let mut lines = vec![styled("1", &cut("Rexec: your workspaces", cols)), String::new()];
        if self.items.is_empty() {
            lines.push(cut("  None yet. Press n for one.", cols));
        }
        for view in self.items.iter().skip(first).take(room) {
            let mark = if Some(view.id) == self.chosen { '>' } else { ' ' };
            let name: String = view.name.chars().take(NAME_CHARS_MAX).collect();
            let made_from = view.machine.as_ref().map_or(&view.image, |machine| &machine.os);
            let line = cut(&format!("{mark} {name:NAME_CHARS_MAX$}  {:12}{made_from}", view.status.as_str()), cols);
            lines.push(styled(style(view.status, mark == '>'), &line));
        }
        lines.extend([String::new(), cut(&self.message, cols), String::new(), styled("2", &cut(HELP, cols))]);
        let mut screen = "\x1b[H".to_owned();
        screen.push_str(&lines.join("\x1b[K\r\n"));
        screen.push_str("\x1b[K\x1b[J");
        screen
    }
}

/// Colours of status as SGR numbers: green, yellow, red, faint.
fn style(status: WorkspaceStatus, is_chosen: bool) -> &'static str {
    match (status, is_chosen) {
        (WorkspaceStatus::Running, false) => "32",
        (WorkspaceStatus::Running, true) => "1;32",
        (WorkspaceStatus::Error | WorkspaceStatus::Unreachable, _) => "31",
        (WorkspaceStatus::Stopped, false) => "2",
        (_, true) => "1",
        _ => "33",
    }
}

fn styled(style: &str, text: &str) -> String {
    format!("\x1b[{style}m{text}\x1b[0m")
}

/// One line of it, without anything that could move the cursor.
fn cut(text: &str, cols: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(cols).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_however_they_come() {
        assert_eq!(keys(b"j\x1b[Bk\x1bOA"), [Key::Down, Key::Down, Key::Up, Key::Up]);
        assert_eq!(keys(b"\x1b[C?\r"), [Key::Open]);
        for quit in [b"q", b"\x03", b"\x04"] {
            assert_eq!(keys(quit), [Key::Quit]);
        }
        assert_eq!(keys(b"\x1b"), []);
    }

    #[test]
    fn a_line_moves_no_cursor_and_fits() {
        assert_eq!(cut("a\x1b[2Jb\n", 80), "a [2Jb ");
        assert_eq!(cut("abcdef", 3), "abc");
        let list = List::new(Vec::new());
        let drawn = list.draw(Size { cols: 10, rows: 5 });
        assert!(drawn.contains("  None yet") && !drawn.contains("Press"), "{drawn:?}");
    }
}
