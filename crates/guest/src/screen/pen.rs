//! What a cell looks like apart from its character, and the SGR and OSC 8 that say so.
//!
//! Invariant: [`Pen::write`] starts from SGR 0, so it needs no knowledge of the pen before it, except
//! for the hyperlink, which SGR does not touch.

use alacritty_terminal::term::cell::{Cell, Flags, Hyperlink};
use alacritty_terminal::vte::ansi::{Color, NamedColor};
use std::io::Write;

/// Blinking text, which the emulator's cells have no flag for: their sixteenth bit, unused.
pub(super) const BLINK: Flags = Flags::from_bits_retain(0x8000);

/// Flags that say what a cell is rather than how it looks.
const STRUCTURE: Flags =
    Flags::WRAPLINE.union(Flags::WIDE_CHAR).union(Flags::WIDE_CHAR_SPACER).union(Flags::LEADING_WIDE_CHAR_SPACER);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pen {
    pub fg: Color,
    pub bg: Color,
    pub flags: Flags,
    pub underline: Option<Color>,
    pub link: Option<Hyperlink>,
}

impl Default for Pen {
    fn default() -> Self {
        Self::of(&Cell::default())
    }
}

impl Pen {
    pub fn of(cell: &Cell) -> Self {
        Self {
            fg: cell.fg,
            bg: cell.bg,
            flags: cell.flags.difference(STRUCTURE),
            underline: cell.underline_color(),
            link: cell.hyperlink(),
        }
    }

    /// Whether `cell` looks like this.
    pub fn is(&self, cell: &Cell) -> bool {
        self.fg == cell.fg
            && self.bg == cell.bg
            && self.flags == cell.flags.difference(STRUCTURE)
            && match &cell.extra {
                None => self.underline.is_none() && self.link.is_none(),
                Some(_) => self.underline == cell.underline_color() && self.link == cell.hyperlink(),
            }
    }

    /// An empty cell that looks like this.
    pub fn cell(&self) -> Cell {
        let mut cell = Cell { fg: self.fg, bg: self.bg, flags: self.flags, ..Cell::default() };
        if self.underline.is_some() {
            cell.set_underline_color(self.underline);
        }
        if self.link.is_some() {
            cell.set_hyperlink(self.link.clone());
        }
        cell
    }

    pub fn has_background(&self) -> bool {
        self.bg != Color::Named(NamedColor::Background)
    }

    /// Whether an erased cell may look like this.
    pub fn is_erased(&self) -> bool {
        *self == Self { bg: self.bg, ..Self::default() }
    }

    /// Appends what turns `before` into this pen.
    pub fn write(&self, before: &Self, out: &mut Vec<u8>) {
        if self.link != before.link {
            write_link(self.link.as_ref(), out);
        }
        let plain = Self::default();
        let same = self.fg == before.fg
            && self.bg == before.bg
            && self.flags == before.flags
            && self.underline == before.underline;
        if same {
            return;
        }
        out.extend_from_slice(b"\x1b[");
        let unset = before.flags.difference(self.flags).is_empty()
            && (self.fg != plain.fg || before.fg == plain.fg)
            && (self.bg != plain.bg || before.bg == plain.bg)
            && (self.underline.is_some() || before.underline.is_none())
            && self.flags.intersection(Flags::ALL_UNDERLINES) == before.flags.intersection(Flags::ALL_UNDERLINES);
        let base = if unset {
            before
        } else {
            // An absent parameter is 0: everything off.
            &plain
        };
        let mut first = unset;
        let mut codes: Vec<u8> = Vec::new();
        self.codes(base, &mut codes);
        for code in codes.split(|&byte| byte == b';').filter(|code| !code.is_empty()) {
            if !first {
                out.push(b';');
            }
            first = false;
            out.extend_from_slice(code);
        }
        out.push(b'm');
    }

    /// The SGR parameters, separated by semicolons, that `base` lacks. Colours use colons inside only
    /// where older terminals would misread semicolons.
    fn codes(&self, base: &Self, out: &mut Vec<u8>) {
        const FLAGS: [(Flags, &[u8]); 12] = [
            (Flags::BOLD, b"1;"),
            (Flags::DIM, b"2;"),
            (Flags::ITALIC, b"3;"),
            (Flags::UNDERLINE, b"4;"),
            (Flags::DOUBLE_UNDERLINE, b"4:2;"),
            (Flags::UNDERCURL, b"4:3;"),
            (Flags::DOTTED_UNDERLINE, b"4:4;"),
            (Flags::DASHED_UNDERLINE, b"4:5;"),
            (BLINK, b"5;"),
            (Flags::INVERSE, b"7;"),
            (Flags::HIDDEN, b"8;"),
            (Flags::STRIKEOUT, b"9;"),
        ];
        for (flag, code) in FLAGS {
            if self.flags.contains(flag) && !base.flags.contains(flag) {
                out.extend_from_slice(code);
            }
        }
        if self.fg != base.fg {
            write_color(self.fg, 30, out);
        }
        if self.bg != base.bg {
            write_color(self.bg, 40, out);
        }
        if self.underline != base.underline {
            // Writing to a vector cannot fail.
            let _ = match self.underline {
                Some(Color::Spec(rgb)) => write!(out, "58:2::{}:{}:{};", rgb.r, rgb.g, rgb.b),
                Some(Color::Indexed(index)) => write!(out, "58:5:{index};"),
                _ => Ok(()),
            };
        }
    }
}

fn write_color(color: Color, base: u16, out: &mut Vec<u8>) {
    let _ = match color {
        Color::Spec(rgb) => write!(out, "{};2;{};{};{};", base + 8, rgb.r, rgb.g, rgb.b),
        Color::Indexed(index) => write!(out, "{};5;{index};", base + 8),
        Color::Named(named) => match named as u16 {
            dim @ 0..=7 => write!(out, "{};", base + dim),
            bright @ 8..=15 => write!(out, "{};", base + 60 + bright - 8),
            _ => Ok(()),
        },
    };
}

fn write_link(link: Option<&Hyperlink>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\x1b]8;");
    if let Some(link) = link {
        if !link.id().is_empty() {
            out.extend_from_slice(b"id=");
            out.extend_from_slice(link.id().as_bytes());
        }
        out.push(b';');
        out.extend_from_slice(link.uri().as_bytes());
    } else {
        out.push(b';');
    }
    out.extend_from_slice(b"\x1b\\");
}
