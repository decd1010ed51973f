//! What each sequence means: the parser's calls, each turned into a change of the [`Emulator`].

use super::emulator::Emulator;
use super::keyboard::Keyboard;
use super::pen::BLINK;
use alacritty_terminal::term::cell::{Cell, Flags, Hyperlink as Link};
use alacritty_terminal::vte::ansi::{
    Attr, CharsetIndex, ClearMode, Color, CursorShape, CursorStyle, Handler, Hyperlink, KeyboardModes,
    KeyboardModesApplyBehavior, LineClearMode, Mode, NamedColor, PrivateMode, Rgb, StandardCharset,
    TabulationClearMode,
};

/// Longest title that is kept, in characters.
const TITLE_CHARS_MAX: usize = 1024;
/// Titles that a program can save; the oldest goes first.
const TITLES_MAX: usize = 10;
/// Longest address of a hyperlink; a longer one is text without a link.
const LINK_BYTES_MAX: usize = 2048;
/// Longest identifier of a hyperlink.
const LINK_ID_BYTES_MAX: usize = 256;

/// VT100 with advanced video, as xterm.js says.
const PRIMARY_ATTRIBUTES: &str = "\x1b[?1;2c";
const SECONDARY_ATTRIBUTES: &str = "\x1b[>0;276;0c";

impl Emulator {
    fn switch_private(&mut self, mode: u16, on: bool) {
        match mode {
            6 => {
                self.modes.origin = on;
                self.address(0, 0);
            }
            47 | 1047 | 1049 => {
                if on {
                    if mode == 1049 {
                        self.save_cursor();
                    }
                    self.show_alternate();
                } else {
                    self.show_primary();
                    if mode == 1049 {
                        self.restore_cursor();
                    }
                }
            }
            1048 if on => self.save_cursor(),
            1048 => self.restore_cursor(),
            _ => self.modes.set_private(mode, on),
        }
    }

    fn switch(&mut self, mode: u16, on: bool) {
        match mode {
            4 => self.modes.insert = on,
            20 => self.modes.newline = on,
            _ => {}
        }
    }

    fn underline_as(&mut self, kind: Flags) {
        self.pen.flags.remove(Flags::ALL_UNDERLINES);
        self.pen.flags.insert(kind);
    }
}

/// The answer to DECRQM: unknown, set or reset.
fn mode_state(on: Option<bool>) -> u8 {
    match on {
        None => 0,
        Some(true) => 1,
        Some(false) => 2,
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

impl Handler for Emulator {
    fn input(&mut self, c: char) {
        self.print(c);
    }

    fn linefeed(&mut self) {
        self.line_feed();
    }

    fn reverse_index(&mut self) {
        self.reverse_line_feed();
    }

    fn carriage_return(&mut self) {
        self.cursor.col = 0;
        self.cursor.pending = false;
    }

    fn backspace(&mut self) {
        self.cursor.col = self.cursor.col.saturating_sub(1);
        self.cursor.pending = false;
    }

    fn put_tab(&mut self, count: u16) {
        self.move_forward_tabs(count);
    }

    fn move_forward_tabs(&mut self, count: u16) {
        if self.cursor.pending {
            return;
        }
        for _ in 0..usize::from(count).min(self.cols) {
            self.cursor.col = self.shown.tabs.after(self.cursor.col);
        }
    }

    fn move_backward_tabs(&mut self, count: u16) {
        if self.cursor.pending {
            return;
        }
        for _ in 0..usize::from(count).min(self.cols) {
            self.cursor.col = self.shown.tabs.before(self.cursor.col);
        }
    }

    fn set_horizontal_tabstop(&mut self) {
        self.shown.tabs.set(self.cursor.col, true);
    }

    fn clear_tabs(&mut self, mode: TabulationClearMode) {
        match mode {
            TabulationClearMode::Current => self.shown.tabs.set(self.cursor.col, false),
            TabulationClearMode::All => self.shown.tabs.clear(),
        }
    }

    fn goto(&mut self, line: i32, col: usize) {
        self.address(usize::try_from(line).unwrap_or(0), col);
    }

    fn goto_line(&mut self, line: i32) {
        self.address(usize::try_from(line).unwrap_or(0), self.cursor.col);
    }

    fn goto_col(&mut self, col: usize) {
        self.place(self.cursor.line, col);
    }

    fn move_up(&mut self, count: usize) {
        self.up(count);
    }

    fn move_down(&mut self, count: usize) {
        self.down(count);
    }

    fn move_up_and_cr(&mut self, count: usize) {
        self.up(count);
        self.cursor.col = 0;
    }

    fn move_down_and_cr(&mut self, count: usize) {
        self.down(count);
        self.cursor.col = 0;
    }

    fn move_forward(&mut self, count: usize) {
        self.place(self.cursor.line, self.cursor.col + count);
    }

    fn move_backward(&mut self, count: usize) {
        self.place(self.cursor.line, self.cursor.col.saturating_sub(count));
    }

    fn insert_blank(&mut self, count: usize) {
        self.insert_cells(count);
    }

    fn delete_chars(&mut self, count: usize) {
        self.delete_cells(count);
    }

    fn erase_chars(&mut self, count: usize) {
        self.cursor.pending = false;
        let col = self.cursor.col;
        self.erase(self.cursor.line, col..(col + count).min(self.cols));
    }

    fn scroll_up(&mut self, count: usize) {
        Emulator::scroll_up(self, self.shown.top, count);
    }

    fn scroll_down(&mut self, count: usize) {
        // Lines that scroll in from above are plain, as xterm.js has it.
        let bg = std::mem::replace(&mut self.pen.bg, Color::Named(NamedColor::Background));
        Emulator::scroll_down(self, self.shown.top, count);
        self.pen.bg = bg;
    }

    fn insert_blank_lines(&mut self, count: usize) {
        if self.in_margins() {
            Emulator::scroll_down(self, self.cursor.line, count);
            self.carriage_return();
        }
    }

    fn delete_lines(&mut self, count: usize) {
        if self.in_margins() {
            Emulator::scroll_up(self, self.cursor.line, count);
            self.carriage_return();
        }
    }

    fn clear_line(&mut self, mode: LineClearMode) {
        let cols = self.cols;
        match mode {
            LineClearMode::Right => self.erase_line_part(self.erase_from()..cols),
            LineClearMode::Left => self.erase_line_part(0..(self.cursor.col + 1).min(cols)),
            LineClearMode::All => self.erase_line_part(0..cols),
        }
    }

    fn clear_screen(&mut self, mode: ClearMode) {
        let line = self.cursor.line;
        match mode {
            ClearMode::Below => {
                self.erase_line_part(self.erase_from()..self.cols);
                self.erase_lines(line + 1..self.rows);
            }
            ClearMode::Above => {
                self.erase_lines(0..line);
                self.erase_line_part(0..self.cursor.col + 1);
            }
            ClearMode::All => self.erase_lines(0..self.rows),
            ClearMode::Saved if self.primary.is_none() => self.history.clear(),
            ClearMode::Saved => {}
        }
    }

    fn decaln(&mut self) {
        for line in 0..self.rows {
            let cell = Cell { c: 'E', ..Cell::default() };
            self.row(line)[..].fill(cell);
        }
        self.place(0, 0);
    }

    fn save_cursor_position(&mut self) {
        self.save_cursor();
    }

    fn restore_cursor_position(&mut self) {
        self.restore_cursor();
    }

    fn reset_state(&mut self) {
        self.reset();
    }

    fn set_scrolling_region(&mut self, top: usize, bottom: Option<usize>) {
        let bottom = bottom.map_or(self.rows, |bottom| bottom.min(self.rows));
        if top < bottom {
            self.shown.top = top - 1;
            self.shown.bottom = bottom;
            self.address(0, 0);
        }
    }

    fn terminal_attribute(&mut self, attr: Attr) {
        let flags = &mut self.pen.flags;
        match attr {
            Attr::Reset => {
                let plain = Cell::default();
                (self.pen.fg, self.pen.bg, self.pen.flags) = (plain.fg, plain.bg, plain.flags);
                self.pen.set_underline_color(None);
            }
            Attr::Foreground(color) => self.pen.fg = color,
            Attr::Background(color) => self.pen.bg = color,
            Attr::UnderlineColor(color) => self.pen.set_underline_color(color),
            Attr::Bold => flags.insert(Flags::BOLD),
            Attr::Dim => flags.insert(Flags::DIM),
            Attr::Italic => flags.insert(Flags::ITALIC),
            Attr::BlinkSlow | Attr::BlinkFast => flags.insert(BLINK),
            Attr::Reverse => flags.insert(Flags::INVERSE),
            Attr::Hidden => flags.insert(Flags::HIDDEN),
            Attr::Strike => flags.insert(Flags::STRIKEOUT),
            Attr::Underline => self.underline_as(Flags::UNDERLINE),
            // SGR 21, which the parser takes for the end of bold, underlines twice in xterm.
            Attr::DoubleUnderline | Attr::CancelBold => self.underline_as(Flags::DOUBLE_UNDERLINE),
            Attr::Undercurl => self.underline_as(Flags::UNDERCURL),
            Attr::DottedUnderline => self.underline_as(Flags::DOTTED_UNDERLINE),
            Attr::DashedUnderline => self.underline_as(Flags::DASHED_UNDERLINE),
            Attr::CancelBoldDim => flags.remove(Flags::BOLD | Flags::DIM),
            Attr::CancelItalic => flags.remove(Flags::ITALIC),
            Attr::CancelUnderline => flags.remove(Flags::ALL_UNDERLINES),
            Attr::CancelBlink => flags.remove(BLINK),
            Attr::CancelReverse => flags.remove(Flags::INVERSE),
            Attr::CancelHidden => flags.remove(Flags::HIDDEN),
            Attr::CancelStrike => flags.remove(Flags::STRIKEOUT),
        }
    }

    /// A link without an identifier gets the empty one: two such links to one address are the same.
    fn set_hyperlink(&mut self, link: Option<Hyperlink>) {
        let link = link.and_then(|link| {
            let id = link.id.filter(|id| id.len() <= LINK_ID_BYTES_MAX);
            let id = printable(&id.unwrap_or_default());
            let uri = printable(&link.uri);
            let fits = !uri.is_empty() && uri.len() <= LINK_BYTES_MAX;
            fits.then(|| Link::new(Some(id), uri))
        });
        self.pen.set_hyperlink(link);
    }

    fn set_mode(&mut self, mode: Mode) {
        self.switch(mode.raw(), true);
    }

    fn unset_mode(&mut self, mode: Mode) {
        self.switch(mode.raw(), false);
    }

    fn set_private_mode(&mut self, mode: PrivateMode) {
        self.switch_private(mode.raw(), true);
    }

    fn unset_private_mode(&mut self, mode: PrivateMode) {
        self.switch_private(mode.raw(), false);
    }

    fn set_keypad_application_mode(&mut self) {
        self.modes.keypad = true;
    }

    fn unset_keypad_application_mode(&mut self) {
        self.modes.keypad = false;
    }

    fn set_active_charset(&mut self, index: CharsetIndex) {
        self.charsets.active = index as usize;
    }

    fn configure_charset(&mut self, index: CharsetIndex, charset: StandardCharset) {
        self.charsets.sets[index as usize] = charset;
    }

    fn set_cursor_style(&mut self, style: Option<CursorStyle>) {
        self.style = style;
    }

    fn set_cursor_shape(&mut self, shape: CursorShape) {
        self.style.get_or_insert_default().shape = shape;
    }

    fn set_title(&mut self, title: Option<String>) {
        self.title = title.map(|title| {
            let title: String = printable(&title).chars().take(TITLE_CHARS_MAX).collect();
            title.trim().to_owned()
        });
    }

    fn push_title(&mut self) {
        if self.titles.len() == TITLES_MAX {
            self.titles.remove(0);
        }
        self.titles.push(self.title.clone());
    }

    fn pop_title(&mut self) {
        if let Some(title) = self.titles.pop() {
            self.title = title;
        }
    }

    fn set_color(&mut self, index: usize, color: Rgb) {
        self.palette.set(index, color);
    }

    fn reset_color(&mut self, index: usize) {
        self.palette.reset(index);
    }

    fn push_keyboard_mode(&mut self, mode: KeyboardModes) {
        self.shown.keyboard.push(mode.bits());
    }

    fn pop_keyboard_modes(&mut self, count: u16) {
        self.shown.keyboard.pop(count);
    }

    fn set_keyboard_mode(&mut self, mode: KeyboardModes, apply: KeyboardModesApplyBehavior) {
        let Keyboard { current, .. } = &mut self.shown.keyboard;
        *current = match apply {
            KeyboardModesApplyBehavior::Replace => mode.bits(),
            KeyboardModesApplyBehavior::Union => *current | mode.bits(),
            KeyboardModesApplyBehavior::Difference => *current & !mode.bits(),
        };
    }

    fn identify_terminal(&mut self, kind: Option<char>) {
        match kind {
            None => self.answer(PRIMARY_ATTRIBUTES),
            Some('>') => self.answer(SECONDARY_ATTRIBUTES),
            Some(_) => {}
        }
    }

    fn device_status(&mut self, what: usize) {
        match what {
            5 => self.answer("\x1b[0n"),
            6 => {
                let answer = format!("\x1b[{};{}R", self.cursor.line + 1, self.cursor.col + 1);
                self.answer(&answer);
            }
            _ => {}
        }
    }

    fn report_mode(&mut self, mode: Mode) {
        let on = match mode.raw() {
            4 => Some(self.modes.insert),
            20 => Some(self.modes.newline),
            _ => None,
        };
        self.answer(&format!("\x1b[{};{}$y", mode.raw(), mode_state(on)));
    }

    fn report_private_mode(&mut self, mode: PrivateMode) {
        let on = match mode.raw() {
            47 | 1047 | 1049 => Some(self.primary.is_some()),
            raw => self.modes.private(raw),
        };
        self.answer(&format!("\x1b[?{};{}$y", mode.raw(), mode_state(on)));
    }

    fn dynamic_color_sequence(&mut self, prefix: String, index: usize, terminator: &str) {
        let [r, g, b] = self.palette.get(index);
        let answer = format!("\x1b]{prefix};rgb:{r:02x}{r:02x}/{g:02x}{g:02x}/{b:02x}{b:02x}{terminator}");
        self.answer(&answer);
    }

    fn text_area_size_chars(&mut self) {
        let answer = format!("\x1b[8;{};{}t", self.rows, self.cols);
        self.answer(&answer);
    }
}
