//! What single sequences do, and what a snapshot says about them.

use super::super::Screen;
use super::{fed, lines, view};
use alacritty_terminal::index::{Column, Line};

fn row(screen: &Screen, line: i32) -> String {
    let row = &screen.emulator.shown.grid[Line(line)];
    let text: String = (0..screen.emulator.cols).map(|col| row[Column(col)].c).collect();
    text.trim_end().to_owned()
}

fn snapshot(screen: &mut Screen) -> String {
    String::from_utf8(screen.snapshot().bytes).expect("a snapshot is UTF-8")
}

#[test]
fn a_snapshot_cancels_and_resets_first() {
    assert!(fed(10, 3, b"x").snapshot().bytes.starts_with(b"\x18\x1bc"));
}

#[test]
fn sizes_are_kept_within_limits() {
    let mut screen = Screen::new(0, 0, 10);
    assert_eq!((screen.snapshot().cols, screen.snapshot().rows), (2, 1));
    screen.resize(u16::MAX, u16::MAX);
    assert_eq!((screen.snapshot().cols, screen.snapshot().rows), (1000, 500));
}

#[test]
fn queries_are_answered_once_and_in_order() {
    let mut screen = fed(10, 3, b"\x1b[c\x1b[2;3H\x1b[6n\x1b[5n\x1b[?2004h\x1b[?2004$p\x1b[?9999$p\x1b]11;?\x07");
    let answers = String::from_utf8(screen.take_answers()).expect("answers are UTF-8");
    assert_eq!(answers, "\x1b[?1;2c\x1b[2;3R\x1b[0n\x1b[?2004;1$y\x1b[?9999;0$y\x1b]11;rgb:0c0c/0d0d/1313\x07");
    assert_eq!(screen.take_answers(), b"");
}

#[test]
fn a_title_is_kept_without_controls() {
    let mut screen = fed(10, 3, "\x1b]2; my\u{9c} title \x07".as_bytes());
    assert_eq!(screen.title(), Some("my title"));
    assert!(snapshot(&mut screen).contains("\x1b]2;my title\x1b\\"));
}

#[test]
fn scrolled_lines_are_history_and_erased_ones_are_not() {
    let screen = fed(10, 2, b"1\r\n2\r\n3\x1b[2J\x1b[H\x1b[5S");
    assert_eq!(screen.emulator.history.len(), 1);
    assert_eq!(row(&screen, 0), "");
    let screen = fed(10, 2, b"1\r\n2\r\n3\r\n4\x1b[3J");
    assert_eq!(screen.emulator.history.len(), 0);
    assert_eq!(row(&screen, 1), "4");
}

#[test]
fn the_alternate_screen_leaves_the_primary_alone() {
    let before = fed(10, 3, b"one\r\ntwo\x1b[31m\r");
    let after = fed(10, 3, b"one\r\ntwo\x1b[31m\r\x1b[?1049h\x1b[42mfull\x1b[2;3r\x1b[H\x1b[?1049l");
    assert_eq!(lines(&before.emulator.shown), lines(&after.emulator.shown));
    assert_eq!(before.emulator.cursor, after.emulator.cursor);
    assert_eq!(view(&before).pen, view(&after).pen);
}

#[test]
fn a_wrapped_line_reflows_also_after_a_snapshot() {
    let mut screen = fed(10, 4, b"0123456789abcdef\r\nnext\r\n");
    let snapshot = screen.snapshot();
    let mut other = fed(10, 4, &snapshot.bytes);
    screen.resize(20, 4);
    other.resize(20, 4);
    assert_eq!(row(&screen, 0), "0123456789abcdef");
    assert_eq!(view(&other), view(&screen));
}

#[test]
fn a_pending_wrap_survives() {
    let mut screen = fed(5, 3, b"abcde\x1b[1m");
    let mut other = fed(5, 3, &screen.snapshot().bytes);
    screen.feed(b"f\r");
    other.feed(b"f\r");
    assert_eq!(row(&other, 1), "f");
    assert_eq!(view(&other), view(&screen));
}

#[test]
fn backgrounds_do_not_leak_into_lines_that_scroll_in() {
    let mut screen = fed(6, 2, b"\x1b[41mred\x1b[m\r\nplain\r\n\x1b[44mblueblue\x1b[m\r\nend\r");
    let other = fed(6, 2, &screen.snapshot().bytes);
    assert_eq!(view(&other), view(&screen));
}

#[test]
fn half_a_wide_character_is_none() {
    assert_eq!(row(&fed(10, 1, "漢字\x1b[2Gx\r".as_bytes()), 0), " x字");
    assert_eq!(row(&fed(10, 1, "漢字\x1b[3G\x1b[X\r".as_bytes()), 0), "漢");
}

#[test]
fn links_without_identifier_are_written_without() {
    let mut screen = fed(10, 2, b"\x1b]8;;http://a\x1b\\x\x1b]8;;\x1b\\\r");
    assert!(snapshot(&mut screen).contains("\x1b]8;;http://a\x1b\\x"));
}

#[test]
fn a_snapshot_is_silent() {
    let mut screen = fed(10, 2, b"\x07\x1b]52;c;aGk=\x07\x1b]0;t\x07\x1b[c\x1b[6n\r");
    let bytes = snapshot(&mut screen);
    assert!(!bytes.contains('\x07'));
    assert!(!bytes.contains("\x1b]52"));
}
