//! What is held back, for how long, and that the states are the parser's own.

use super::super::Screen;
use super::super::boundary::{Boundary, SEQUENCE_BYTES_MAX, SYNC_BYTES_MAX};
use super::{fed, view};
use alacritty_terminal::vte::{Params, Parser, Perform};
use proptest::prelude::*;

/// Notes whether a probe byte was printed.
#[derive(Default)]
struct Printed(Option<char>);

impl Perform for Printed {
    fn print(&mut self, c: char) {
        self.0 = Some(c);
    }

    fn csi_dispatch(&mut self, _: &Params, _: &[u8], _: bool, _: char) {}
}

/// A character that would be an escape sequence's end, a parameter or text, depending on the state.
const PROBE: u8 = b'x';

fn byte() -> impl Strategy<Value = u8> {
    proptest::sample::select(b"\x1b\x1b[]PX^_;?:<0127 !$\x07\x18\x1a\\\x9cmqb\x7f\n".to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_states_are_the_parsers(output in proptest::collection::vec(byte(), 0..24)) {
        let mut parser = Parser::new();
        let mut printed = Printed::default();
        parser.advance(&mut printed, &output);
        printed.0 = None;
        parser.advance(&mut printed, &[PROBE]);
        let ground = printed.0 == Some(PROBE as char);

        let mut boundary = Boundary::new();
        boundary.feed(&output, &mut |_| {});
        // In the ground state a control lets go of everything that is held.
        boundary.feed(b"\r", &mut |_| {});
        prop_assert_eq!(boundary.held() == 0, ground);
    }
}

fn offset(output: &[u8]) -> u64 {
    let mut screen = fed(20, 4, output);
    screen.snapshot().offset
}

#[test]
fn a_private_marker_behind_a_parameter_makes_the_parser_ignore_the_string() {
    // Found by the property above: then 0x9c does not end it.
    assert_eq!(offset(b"\r\n\x1bP;<[\x9c"), 2);
}

#[test]
fn incomplete_sequences_and_characters_are_held() {
    assert_eq!(offset(b"ab\r\n\x1b[31"), 4);
    assert_eq!(offset(b"ab\r\n\x1b]0;title"), 4);
    assert_eq!(offset(b"ab\r\n\x1b]0;title\x1b"), 4);
    assert_eq!(offset(b"\r\n\xe6\xbc"), 2);
    assert_eq!(offset(b"ab\r\n\x1b[3\n"), 4);
}

#[test]
fn the_last_character_is_held_with_what_joins_it() {
    assert_eq!(offset(b"abc"), 2);
    assert_eq!(offset("ae\u{301}".as_bytes()), 1);
    assert_eq!(offset(b"abc\x1b["), 2);
    assert_eq!(offset(b"abc\x1b[m"), 6);
}

#[test]
fn a_synchronized_update_is_held_whole() {
    let mut screen = fed(20, 4, b"a\r\n\x1b[?2026hdrawing\x1b[m");
    assert!(screen.in_sync());
    assert_eq!(screen.snapshot().offset, 3);
    screen.feed(b" more\x1b[?2026l");
    assert!(!screen.in_sync());
    assert_eq!(screen.snapshot().offset, screen.fed());
    assert_eq!(view(&screen), view(&fed(20, 4, b"a\r\ndrawing more\x1b[m")));
}

#[test]
fn an_update_that_lasts_is_drawn_when_the_caller_says_so() {
    let mut screen = fed(20, 4, b"\x1b[?2026hdrawing\x1b[m");
    screen.flush_sync();
    assert_eq!(view(&screen), view(&fed(20, 4, b"drawing\x1b[m")));
    screen.feed(b" on\x1b[?2026l");
    assert_eq!(view(&screen), view(&fed(20, 4, b"drawing on\x1b[m")));
}

#[test]
fn an_update_that_never_ends_is_drawn_as_it_comes() {
    let mut screen = fed(20, 4, b"\x1b[?2026h");
    let line = b"line\r\n";
    for _ in 0..SYNC_BYTES_MAX / line.len() + 2 {
        screen.feed(line);
    }
    assert!(!screen.in_sync());
    assert_eq!(screen.snapshot().offset, screen.fed());
}

#[test]
fn a_string_that_never_ends_is_ignored_by_us_and_by_viewers() {
    for start in ["\x1b]0;", "\x1bPq", "\x1b_", "\x1b[1;"] {
        let mut screen = fed(20, 4, format!("text\r\n{start}").as_bytes());
        screen.feed(&vec![b'1'; SEQUENCE_BYTES_MAX + 10]);
        let snapshot = screen.snapshot();
        assert_eq!(snapshot.offset, screen.fed(), "nothing is held any more");
        let mut viewer = fed(20, 4, &snapshot.bytes);
        let rest = if start == "\x1b[1;" { "11m\r\nend\r\n" } else { "11\x1b\\\r\nend\r\n" };
        screen.feed(rest.as_bytes());
        viewer.feed(rest.as_bytes());
        assert_eq!(view(&viewer), view(&screen));
        assert_eq!(view(&screen), view(&fed(20, 4, b"text\r\n\r\nend\r\n")));
    }
}

#[test]
fn repetition_repeats_only_what_directly_precedes_it() {
    assert_eq!(view(&fed(20, 2, b"ab\x1b[3b\r")), view(&fed(20, 2, b"abbbb\r")));
    assert_eq!(view(&fed(20, 2, b"ab\x1b[m\x1b[3b\r")), view(&fed(20, 2, b"ab\r")));
    let mut screen = Screen::new(20, 2, 0);
    for byte in b"ab\x1b[3b\r" {
        screen.feed(&[*byte]);
    }
    assert_eq!(view(&screen), view(&fed(20, 2, b"abbbb\r")));
}
