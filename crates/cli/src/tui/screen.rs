//! The terminal while the dashboard has it: the other screen, raw; as it was when dropped, whatever ended it.

use crate::failure::{Failure, Result};
use crate::tty::{self, Raw};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};
use std::io::{Stdout, Write as _};
use std::sync::Once;

/// The other screen, empty and without a cursor (xterm's control sequences, DECSET; ED, CUP).
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[2J\x1b[H";

pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    /// Leaves the other screen, too.
    _raw: Raw,
}

impl Screen {
    pub fn enter() -> Result<Self> {
        tell_panics_to_the_usual_screen();
        let raw = Raw::enter()?;
        let mut out = std::io::stdout();
        out.write_all(ENTER).and_then(|()| out.flush()).map_err(Failure::io("the terminal"))?;
        let terminal = Terminal::new(CrosstermBackend::new(out)).map_err(Failure::io("the terminal"))?;
        Ok(Self { terminal, _raw: raw })
    }

    pub fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        self.terminal.draw(render).map(drop).map_err(Failure::io("the terminal"))
    }
}

/// What a panic says would go with the other screen.
fn tell_panics_to_the_usual_screen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            tty::reset();
            before(info);
        }));
    });
}
