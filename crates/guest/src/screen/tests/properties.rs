//! The promise of a snapshot, for any output, any cut and any sizes.

use super::super::Screen;
use super::streams::{Step, output, size, steps};
use super::{SCROLLBACK_LINES, fed, view};
use proptest::collection::vec;
use proptest::prelude::*;

/// Ends whatever the stream is in the middle of, so that nothing is held back any more.
const END: &[u8] = b"\x18\x1b[?2026l\x1b\\";

/// What a viewer shows that gets a snapshot now and the output after it.
fn restored(screen: &mut Screen, output: &[u8]) -> Screen {
    let snapshot = screen.snapshot();
    let mut other = Screen::new(snapshot.cols, snapshot.rows, SCROLLBACK_LINES);
    other.feed(&snapshot.bytes);
    assert_eq!(other.take_answers(), b"", "a snapshot asks nothing");
    other.feed(&output[snapshot.offset as usize..]);
    other
}

fn check(size: (u16, u16), steps: &[Step], cut: proptest::sample::Index) {
    let mut whole = Screen::new(size.0, size.1, SCROLLBACK_LINES);
    let mut output: Vec<u8> = Vec::new();
    let mut other: Option<Screen> = None;
    let total: usize = steps.iter().map(step_bytes).sum();
    let cut = cut.index(total + 1);
    for step in steps.iter().chain([&Step::Output(END.to_vec())]) {
        match step {
            Step::Resize(cols, rows) => {
                whole.resize(*cols, *rows);
                if let Some(other) = &mut other {
                    other.resize(*cols, *rows);
                }
            }
            Step::Output(bytes) => {
                let at = cut.saturating_sub(output.len()).min(bytes.len());
                let (before, after) = bytes.split_at(at);
                output.extend_from_slice(before);
                whole.feed(before);
                if other.is_none() && output.len() >= cut {
                    whole.take_answers();
                    other = Some(restored(&mut whole, &output));
                } else if let Some(other) = &mut other {
                    other.feed(before);
                }
                output.extend_from_slice(after);
                whole.feed(after);
                if let Some(other) = &mut other {
                    other.feed(after);
                }
            }
        }
    }
    let mut other = other.expect("the cut is in the output");
    assert_eq!(view(&other), view(&whole));
    assert_eq!(other.take_answers(), whole.take_answers());
    assert_eq!(other.snapshot().bytes, whole.snapshot().bytes);
}

fn step_bytes(step: &Step) -> usize {
    match step {
        Step::Output(bytes) => bytes.len(),
        Step::Resize(..) => 0,
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_restored_viewer_shows_what_an_uninterrupted_one_does(
        size in size(), steps in steps(), cut in any::<proptest::sample::Index>(),
    ) {
        check(size, &steps, cut);
    }

    #[test]
    fn what_has_scrolled_away_need_not_be_drawn(
        size in size(), before in output(), left_out in "[ -~\r\n]{0,400}", lines in vec("[ -~]{0,50}(\r)?", 200..201),
    ) {
        let before = [&before, END, b"\n"].concat();
        let mut whole = fed(size.0, size.1, &before);
        let mut lazy = fed(size.0, size.1, &before);
        let line_feeds = lazy.line_feeds_to_forget();
        let after: String = lines.iter().cycle().take(line_feeds).map(|line| format!("{line}\n")).collect();
        whole.feed(left_out.as_bytes());
        whole.feed(b"\r");
        whole.feed(after.as_bytes());
        if !lazy.leave_out(left_out.len() as u64) {
            lazy.feed(left_out.as_bytes());
        }
        lazy.feed(b"\r");
        lazy.feed(after.as_bytes());
        prop_assert_eq!(view(&lazy), view(&whole));
        prop_assert_eq!(lazy.take_answers(), whole.take_answers());
        prop_assert_eq!(lazy.snapshot(), whole.snapshot());
    }

    #[test]
    fn how_output_is_cut_does_not_matter(size in size(), output in output()) {
        let mut whole = fed(size.0, size.1, &output);
        let mut single = Screen::new(size.0, size.1, SCROLLBACK_LINES);
        for byte in &output {
            single.feed(&[*byte]);
        }
        prop_assert_eq!(view(&single), view(&whole));
        prop_assert_eq!(single.snapshot(), whole.snapshot());
        prop_assert_eq!(single.take_answers(), whole.take_answers());
    }

    #[test]
    fn a_snapshot_of_a_snapshot_is_the_same(size in size(), output in output()) {
        let first = fed(size.0, size.1, &output).snapshot();
        let second = fed(first.cols, first.rows, &first.bytes).snapshot();
        prop_assert_eq!(&second.bytes, &first.bytes);
        prop_assert_eq!(second.offset, first.bytes.len() as u64);
    }

    #[test]
    fn a_snapshot_does_not_depend_on_what_the_viewer_showed(
        size in size(), before in output(), output in output(),
    ) {
        let snapshot = fed(size.0, size.1, &output).snapshot();
        let mut viewer = fed(size.0, size.1, &before);
        // A viewer acts on a synchronized update at once or lets go of it in time.
        viewer.flush_sync();
        viewer.feed(b"\x1b[?2026l");
        viewer.feed(&snapshot.bytes);
        prop_assert_eq!(viewer.snapshot().bytes, snapshot.bytes);
    }

    #[test]
    fn any_bytes_and_sizes_are_survived(
        sizes in proptest::collection::vec((any::<u8>(), 0_u16..40), 1..5),
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut screen = Screen::new(1, 1, 3);
        for (cols, rows) in sizes {
            screen.feed(&garbage);
            screen.resize(u16::from(cols), rows);
            screen.flush_sync();
            prop_assert!(screen.snapshot().offset <= screen.fed());
        }
    }
}
