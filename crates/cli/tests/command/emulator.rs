//! A terminal's screen, as it is after what was drawn on it.

use alacritty_terminal::Term;
use alacritty_terminal::event::VoidListener;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::test::TermSize;
use alacritty_terminal::term::{Config, TermMode};
use alacritty_terminal::vte::ansi::Processor;

pub struct Picture {
    pub lines: Vec<String>,
    /// Whether the other screen is shown.
    pub is_alternate: bool,
    pub has_cursor: bool,
}

impl Picture {
    pub fn of(drawn: &[u8], (cols, rows): (u16, u16)) -> Self {
        let (cols, rows) = (usize::from(cols), usize::from(rows));
        let mut term = Term::new(Config::default(), &TermSize::new(cols, rows), VoidListener);
        Processor::<alacritty_terminal::vte::ansi::StdSyncHandler>::new().advance(&mut term, drawn);
        let line = |y: usize| {
            let row = &term.grid()[Line(y as i32)];
            (0..cols).map(|x| row[Column(x)].c).collect::<String>().trim_end().to_owned()
        };
        let lines = (0..rows).map(line).collect();
        let mode = term.mode();
        Self {
            lines,
            is_alternate: mode.contains(TermMode::ALT_SCREEN),
            has_cursor: mode.contains(TermMode::SHOW_CURSOR),
        }
    }

    pub fn has(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }
}
