//! The end of what a program printed to a terminal, as plain text: pure.
//!
//! Escape sequences are left out, and of a line that was written over and over, as progress is, only what was
//! last written is kept. What remains is bounded: a step may print for hours.

/// What is kept of a step's output.
const TAIL_BYTES_MAX: usize = 16 * 1024;
/// A longer line is cut: it is the beginning that tells what it is.
const LINE_BYTES_MAX: usize = 2048;

#[derive(Debug, Default)]
pub struct Tail {
    lines: std::collections::VecDeque<String>,
    lines_bytes: usize,
    /// The line that is being written.
    line: Vec<u8>,
    /// The next character goes over the line from its beginning.
    returned: bool,
    escape: Escape,
}

/// Where in an escape sequence the stream stands (ECMA-48, section 5).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    /// A control sequence, to its final byte.
    Control,
    /// A string such as a title, to BEL or ST.
    Text,
    TextEnding,
    /// One more byte, such as a character set's.
    One,
}

impl Tail {
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.escape = match (self.escape, byte) {
                (Escape::None, 0x1b) => Escape::Begun,
                (Escape::None, byte) => {
                    self.print(byte);
                    Escape::None
                }
                (Escape::Begun, b'[') => Escape::Control,
                (Escape::Begun, b']' | b'P' | b'X' | b'^' | b'_') => Escape::Text,
                (Escape::Begun, b'(' | b')' | b'*' | b'+' | b'#' | b' ' | b'%') => Escape::One,
                (Escape::Control, 0x40..=0x7e) | (Escape::Begun | Escape::One, _) => Escape::None,
                (Escape::Control, 0x1b) => Escape::Begun,
                (Escape::Text, 0x07) | (Escape::TextEnding, b'\\') => Escape::None,
                (Escape::Text, 0x1b) => Escape::TextEnding,
                (Escape::TextEnding, _) => Escape::Text,
                (state, _) => state,
            };
        }
    }

    /// Forgets everything: what comes next is the whole.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn print(&mut self, byte: u8) {
        match byte {
            b'\n' => self.end_line(),
            b'\r' => self.returned = true,
            0x08 => drop(self.line.pop()),
            b'\t' | 0x20..=0x7e | 0x80..=0xff => {
                if std::mem::take(&mut self.returned) {
                    self.line.clear();
                }
                if self.line.len() < LINE_BYTES_MAX {
                    self.line.push(byte);
                }
            }
            _ => {}
        }
    }

    fn end_line(&mut self) {
        self.returned = false;
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).trim_end().to_owned();
        self.lines_bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.lines_bytes > TAIL_BYTES_MAX {
            let Some(gone) = self.lines.pop_front() else { break };
            self.lines_bytes -= gone.len() + 1;
        }
    }

    /// The last line that says anything.
    pub fn last_line(&self) -> String {
        let line = String::from_utf8_lossy(&self.line).trim().to_owned();
        if !line.is_empty() {
            return line;
        }
        self.lines.iter().rev().find(|line| !line.trim().is_empty()).cloned().unwrap_or_default()
    }

    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.lines_bytes + self.line.len());
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(&String::from_utf8_lossy(&self.line));
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(output: &[u8]) -> String {
        let mut tail = Tail::default();
        tail.push(output);
        tail.text()
    }

    #[test]
    fn what_a_terminal_would_not_show_is_left_out() {
        assert_eq!(text(b"\x1b]0;title\x07\x1b[1mbold\x1b[0m\r\n\x1b(Bplain\x1b]2;x\x1b\\.\r\n"), "bold\nplain.");
        assert_eq!(text(b"Receiving: 1%\rReceiving: 100%\r\ndone\r\n"), "Receiving: 100%\ndone");
        assert_eq!(text("caf\u{e9} ok\u{7}".as_bytes()), "caf\u{e9} ok");
        assert_eq!(text(b"abd\x08c"), "abc");
    }

    #[test]
    fn it_is_the_same_however_it_is_cut() {
        let output = b"\x1b]0;title\x1b\\one\x1b[31m\r\ntw\xc3\xb6\r\n\x1b[2Kthree";
        for cut in 0..output.len() {
            let mut tail = Tail::default();
            tail.push(&output[..cut]);
            tail.push(&output[cut..]);
            assert_eq!(tail.text(), text(output), "{cut}");
            assert_eq!(tail.last_line(), "three");
        }
    }

    #[test]
    fn it_is_bounded() {
        let mut tail = Tail::default();
        for n in 0..100_000 {
            tail.push(format!("line {n}\n").as_bytes());
        }
        tail.push(&vec![b'x'; 1 << 20]);
        assert!(tail.text().len() <= TAIL_BYTES_MAX + LINE_BYTES_MAX);
        assert!(tail.text().contains("line 99999\n"));
        assert!(text(b"\n\n\n\n").is_empty());
    }
}
