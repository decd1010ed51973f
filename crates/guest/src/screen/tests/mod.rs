//! Properties of snapshots, checked on the whole state, and examples of what each part means.

mod boundaries;
mod examples;
mod properties;
mod streams;

use super::Screen;
use super::emulator::{Buffer, Emulator};
use super::line::Line as Text;
use super::pen::Pen;
use alacritty_terminal::index::Line;

/// Everything that a program or a viewer could ever find out about a screen.
#[derive(Debug, PartialEq)]
pub(super) struct View {
    history: Vec<Text>,
    shown: Vec<Text>,
    shown_rest: String,
    primary: Vec<Text>,
    primary_rest: String,
    cursor: String,
    pen: Pen,
    globals: String,
    title: String,
}

pub(super) fn view(screen: &Screen) -> View {
    let emulator = &screen.emulator;
    let primary = emulator.primary.as_deref();
    View {
        history: emulator.history.iter().cloned().collect(),
        shown: lines(&emulator.shown),
        shown_rest: rest(&emulator.shown),
        primary: primary.map(lines).unwrap_or_default(),
        primary_rest: primary.map(rest).unwrap_or_default(),
        cursor: format!("{:?}", emulator.cursor),
        pen: Pen::of(&emulator.pen),
        globals: globals(emulator),
        title: format!("{:?} {:?}", emulator.title, emulator.titles),
    }
}

fn lines(buffer: &Buffer) -> Vec<Text> {
    (0..buffer.rows()).map(|line| Text::of(&buffer.grid[Line(line as i32)][..])).collect()
}

fn rest(buffer: &Buffer) -> String {
    format!(
        "{} {} {:?} {:?} {:?} {:?}",
        buffer.top, buffer.bottom, buffer.tabs, buffer.saved, buffer.keyboard, buffer.parked
    )
}

fn globals(emulator: &Emulator) -> String {
    format!(
        "{}x{} {:?} {:?} {:?} {:?}",
        emulator.cols, emulator.rows, emulator.charsets, emulator.modes, emulator.style, emulator.palette
    )
}

pub(super) fn fed(cols: u16, rows: u16, output: &[u8]) -> Screen {
    let mut screen = Screen::new(cols, rows, SCROLLBACK_LINES);
    screen.feed(output);
    screen
}

pub(super) const SCROLLBACK_LINES: u32 = 12;
