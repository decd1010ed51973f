//! The dashboard in a terminal, its screen read by an emulator.

use crate::emulator::Picture;
use crate::support::{EMAIL, InTerminal, PASSWORD, PATIENCE, Stage};
use serde_json::Value;
use std::time::Instant;

/// A dashboard on a screen of this size.
struct Dashboard {
    terminal: InTerminal,
    size: (u16, u16),
}

impl Dashboard {
    fn start(stage: &Stage, size: (u16, u16)) -> Self {
        Self { terminal: InTerminal::start(stage, size, "tui; code=$?; stty -a; exit $code"), size }
    }

    fn picture(&self) -> Picture {
        Picture::of(&self.terminal.drawn(), self.size)
    }

    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn(&Picture) -> bool) {
        let began = Instant::now();
        loop {
            let picture = self.picture();
            if is_so(&picture) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what} did not come:\n{}", picture.lines.join("\n"));
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// The line of a workspace has these words.
    #[track_caller]
    fn shows(&self, name: &str, words: &str) {
        let fits = |line: &String| line.contains(name) && line.contains(words);
        self.until(&format!("{name}: {words}"), |picture| picture.lines.iter().any(fits));
    }

    fn keys(&mut self, keys: &str) {
        self.terminal.keys(keys.as_bytes());
    }
}

#[test]
fn a_dashboard_shows_and_does_and_gives_the_screen_back() {
    let stage = Stage::start(&[]);
    let password = format!("{PASSWORD}\n");
    stage.ok_with(&["login", &stage.url, "--email", EMAIL, "--password-stdin"], password.as_bytes());
    assert!(stage.fails(&["tui"], 2).contains("terminal"));
    stage.ok(&["new", "atlas"]);

    // As small as it may be.
    let mut small = Dashboard::start(&stage, (40, 12));
    small.shows("atlas", "running");
    small.shows("atlas", "%");
    let picture = small.picture();
    assert!(picture.is_alternate && !picture.has_cursor && picture.has("enter open"), "{:?}", picture.lines);
    small.keys("?");
    small.until("the keys", |picture| picture.has("Ctrl-] comes back"));
    small.keys(" ");
    small.keys("l");
    small.until("the log", |picture| picture.has("atlas: logs") && picture.has("created"));
    small.keys("\x1b");
    small.until("the list", |picture| picture.has("NAME"));

    // Made, stopped, started, paused, resumed and deleted by its keys, and seen by the other one as it happens.
    let mut large = Dashboard::start(&stage, (120, 30));
    large.shows("atlas", "rexec/base");
    large.until("figures", |picture| picture.has("processes"));
    large.keys("nbox\r");
    large.shows("box", "running");
    small.shows("box", "running");
    large.keys("g");
    large.until("the selection", |picture| picture.has("─ box ─") || picture.has(" box ─"));
    for (key, status) in [("x", "stopped"), ("s", "running"), ("p", "paused"), ("p", "running")] {
        large.keys(key);
        large.shows("box", status);
    }
    large.keys("d");
    large.until("the question", |picture| picture.has("Delete box? y"));
    large.keys("n");
    large.until("no question", |picture| !picture.has("Delete box? y"));
    large.keys("d");
    large.until("the question", |picture| picture.has("Delete box? y"));
    large.keys("y");
    large.until("one less", |picture| picture.has("1 of 1 running"));
    small.until("one less", |picture| picture.has("1 of 1 running"));

    // A shell, and back.
    large.keys("\r");
    large.until("the usual screen", |picture| !picture.is_alternate && picture.has("atlas"));
    large.keys("echo in the $((40+2)) shell\r");
    large.until("the shell", |picture| picture.has("in the 42 shell"));
    large.keys("\x1d");
    large.until("the dashboard", |picture| picture.is_alternate && picture.has("Back from atlas"));
    large.keys("q");
    gone(large, Some(0));

    // Whoever ends it from outside gets the terminal back, too.
    let list: Value = serde_json::from_str(&stage.ok(&["ls", "--json"])).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
    small.terminal.terminate();
    gone(small, Some(0));
}

/// It ends, and the terminal is as it was.
#[track_caller]
fn gone(dashboard: Dashboard, code: Option<i32>) {
    let Dashboard { terminal, size } = dashboard;
    let (ended, drawn) = terminal.ended();
    assert_eq!(ended, code);
    let picture = Picture::of(&drawn, size);
    let is_usual = picture.has(" icanon") && picture.has(" echo ") && !picture.has("-icanon");
    assert!(is_usual && !picture.is_alternate && picture.has_cursor, "{}", picture.lines.join("\n"));
}
