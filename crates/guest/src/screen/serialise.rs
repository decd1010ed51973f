//! The bytes that draw a terminal anew.
//!
//! Order: reset; scrollback and primary screen; what belongs to that screen (margins, tab stops, saved
//! cursor, keyboard flags); the same for the alternate screen if it is shown, entered through mode 47
//! because that one saves nothing; then what is global, the cursor last but for the modes that change
//! how text is drawn. Nothing here asks a question, rings or touches a clipboard.
//!
//! Traps: a line that scrolls in takes the pen's background, so the pen is plain before every line
//! break, and after a wrap the rest of the new line is erased plainly. A line that continues in the next
//! is printed to its end and on, so that the terminal wraps it itself.

use super::emulator::{Buffer, Charsets, Cursor, Emulator};
use super::line::Line as Text;
use super::pen::Pen;
use alacritty_terminal::index::Line;
use alacritty_terminal::term::cell::Flags;
use alacritty_terminal::vte::ansi::{CursorShape, StandardCharset};
use std::io::Write;

/// Cancels what a viewer may be in the middle of, then resets it.
const RESET: &[u8] = b"\x18\x1bc";
/// A string terminator of nothing: what follows neither joins nor repeats the last character drawn.
const END: &[u8] = b"\x1b\\";

/// Everything about `emulator`, as output for a viewer of the same size.
pub(super) fn serialise(emulator: &Emulator) -> Vec<u8> {
    let mut painter = Painter {
        out: Vec::with_capacity(64 * 1024),
        pen: Pen::default(),
        charsets: Charsets::default(),
        cols: emulator.cols,
    };
    painter.out.extend_from_slice(RESET);
    emulator.palette.write(&mut painter.out);
    let primary = emulator.primary.as_deref().unwrap_or(&emulator.shown);
    painter.lines(emulator.history.iter().cloned(), primary);
    painter.belongings(primary);
    if emulator.primary.is_some() {
        painter.cursor(primary, primary.parked, 0);
        painter.pen(&Pen::default());
        painter.out.extend_from_slice(b"\x1b[?47h\x1b[H");
        painter.lines(std::iter::empty(), &emulator.shown);
        painter.belongings(&emulator.shown);
    }
    painter.titles(emulator);
    painter.globals(emulator);
    painter.out.extend_from_slice(END);
    painter.out.shrink_to_fit();
    painter.out
}

struct Painter {
    out: Vec<u8>,
    /// What the viewer's pen and charsets are at this point.
    pen: Pen,
    charsets: Charsets,
    cols: usize,
}

impl Painter {
    fn pen(&mut self, pen: &Pen) {
        pen.write(&self.pen, &mut self.out);
        if self.pen != *pen {
            self.pen = pen.clone();
        }
    }

    fn number(&mut self, before: &str, number: usize, after: &str) {
        // Writing to a vector cannot fail.
        let _ = write!(self.out, "{before}{number}{after}");
    }

    fn goto(&mut self, line: usize, col: usize) {
        let _ = write!(self.out, "\x1b[{};{}H", line + 1, col + 1);
    }

    fn lines(&mut self, history: impl Iterator<Item = Text>, buffer: &Buffer) {
        let rows = buffer.rows();
        let screen = (0..rows).map(|line| Text::of(&buffer.grid[Line(line as i32)][..]));
        let mut lines = history.chain(screen).peekable();
        let mut continues = false;
        let mut first = true;
        while let Some(line) = lines.next() {
            if !first && !continues {
                self.pen(&Pen::default());
                self.out.extend_from_slice(b"\r\n");
            }
            let makes_room = lines.peek().is_some_and(|next| line.makes_room_for(next));
            self.line(&line, continues, makes_room);
            continues = line.wrapped();
            first = false;
        }
        self.pen(&Pen::default());
    }

    /// `continues`: the first character makes the line before wrap. `makes_room`: the last cell is left
    /// to the viewer, which empties it when the wide character that follows does not fit.
    fn line(&mut self, line: &Text, continues: bool, makes_room: bool) {
        let cells = line.cells();
        let mut left = continues;
        if left && cells == 0 {
            self.pen(&Pen::default());
            self.out.push(b' ');
            left = false;
        }
        let mut spans = line.spans().peekable();
        while let Some(span) = spans.next() {
            let mut text = span.text;
            let last = spans.peek().is_none();
            if last && makes_room {
                text = &text[..text.len() - 1];
            }
            if left && !text.is_empty() {
                let end = first_cell_end(text);
                self.pen(&span.pen);
                self.out.extend_from_slice(&text.as_bytes()[..end]);
                self.clear_rest();
                text = &text[end..];
                left = false;
            }
            if text.is_empty() {
                continue;
            }
            self.pen(&span.pen);
            let to_the_end = last && !line.wrapped() && cells == self.cols;
            if to_the_end && span.pen.is_erased() && text.bytes().all(|byte| byte == b' ') {
                self.out.extend_from_slice(b"\x1b[K");
            } else {
                self.out.extend_from_slice(text.as_bytes());
            }
        }
    }

    fn clear_rest(&mut self) {
        if self.pen.has_background() {
            let plain = Pen { link: self.pen.link.clone(), ..Pen::default() };
            self.pen(&plain);
            self.out.extend_from_slice(b"\x1b[K");
        }
    }

    /// What a screen has of its own besides its cells. Leaves the pen and charsets as they come.
    fn belongings(&mut self, buffer: &Buffer) {
        if !buffer.tabs.is_default() {
            self.out.extend_from_slice(b"\x1b[3g");
            for stop in buffer.tabs.stops() {
                self.number("\x1b[", stop + 1, "G\x1bH");
            }
        }
        if (buffer.top, buffer.bottom) != (0, buffer.rows()) {
            let _ = write!(self.out, "\x1b[{};{}r", buffer.top + 1, buffer.bottom);
        }
        let saved = &buffer.saved;
        if *saved != Default::default() {
            self.charsets(saved.charsets);
            self.goto(saved.line, saved.col);
            self.pen(&saved.pen);
            self.out.extend_from_slice(b"\x1b7");
            self.charsets(Charsets::default());
            self.pen(&Pen::default());
        }
        buffer.keyboard.write(&mut self.out);
    }

    fn charsets(&mut self, wanted: Charsets) {
        for (index, designate) in [b'(', b')', b'*', b'+'].into_iter().enumerate() {
            let set = wanted.sets[index];
            if set != self.charsets.sets[index] {
                let name = match set {
                    StandardCharset::Ascii => b'B',
                    StandardCharset::SpecialCharacterAndLineDrawing => b'0',
                };
                self.out.extend_from_slice(&[0x1b, designate, name]);
            }
        }
        if wanted.active != self.charsets.active {
            // SO and SI; no other set can be made active.
            self.out.push(if wanted.active == 0 { 0x0f } else { 0x0e });
        }
        self.charsets = wanted;
    }

    /// Puts the cursor where it is; `origin` is the line that addresses count from. A pending wrap comes
    /// about as it did: by printing the last cell.
    fn cursor(&mut self, buffer: &Buffer, cursor: Cursor, origin: usize) {
        let line = cursor.line - origin;
        if !cursor.pending {
            self.goto(line, cursor.col);
            return;
        }
        let row = &buffer.grid[Line(cursor.line as i32)][..];
        let spacer = row[cursor.col].flags.contains(Flags::WIDE_CHAR_SPACER);
        let col = cursor.col - usize::from(spacer);
        self.goto(line, col);
        self.pen(&Pen::of(&row[col]));
        let text: String =
            [row[col].c].into_iter().chain(row[col].zerowidth().into_iter().flatten().copied()).collect();
        self.out.extend_from_slice(text.as_bytes());
    }

    fn titles(&mut self, emulator: &Emulator) {
        let mut title = None;
        for saved in &emulator.titles {
            self.title(&mut title, saved);
            self.out.extend_from_slice(b"\x1b[22;0t");
        }
        self.title(&mut title, &emulator.title);
    }

    fn title<'a>(&mut self, shown: &mut Option<&'a String>, wanted: &'a Option<String>) {
        if let Some(title) = wanted
            && *shown != Some(title)
        {
            let _ = write!(self.out, "\x1b]2;{title}\x1b\\");
            *shown = Some(title);
        }
    }

    fn globals(&mut self, emulator: &Emulator) {
        let modes = &emulator.modes;
        if let Some(style) = emulator.style {
            let shape = match style.shape {
                CursorShape::Underline => 4,
                CursorShape::Beam => 6,
                _ => 2,
            };
            self.number("\x1b[", shape - usize::from(style.blinking), " q");
        }
        for (mode, on) in modes.changed() {
            self.number("\x1b[?", usize::from(mode), if on { "h" } else { "l" });
        }
        if modes.keypad {
            self.out.extend_from_slice(b"\x1b=");
        }
        if modes.newline {
            self.out.extend_from_slice(b"\x1b[20h");
        }
        if modes.origin {
            self.out.extend_from_slice(b"\x1b[?6h");
        }
        let origin = if modes.origin { emulator.shown.top } else { 0 };
        self.cursor(&emulator.shown, emulator.cursor, origin);
        self.pen(&Pen::of(&emulator.pen));
        self.charsets(emulator.charsets);
        if !modes.autowrap {
            self.out.extend_from_slice(b"\x1b[?7l");
        }
        if modes.insert {
            self.out.extend_from_slice(b"\x1b[4h");
        }
    }
}

/// Where the first character with its zero-width followers ends.
fn first_cell_end(text: &str) -> usize {
    text.char_indices().skip(1).find(|(_, c)| super::width::width(*c) > 0).map_or(text.len(), |(at, _)| at)
}
