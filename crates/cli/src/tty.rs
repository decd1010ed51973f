//! The terminal that the command runs in: raw while something else has it, and as it was whatever happens.

use crate::failure::{Failure, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// What a program may have left on: other screen, hidden cursor, mouse, focus, paste, keypad, colours (xterm's
/// control sequences, DECRST). Leaving the other screen and DECSTBM move the cursor, so its place is kept (DECSC, DECRC).
const RESET: &[u8] =
    b"\x1b7\x1b[?1049l\x1b[?25h\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\
\x1b[?1015l\x1b[?2004l\x1b[?2026l\x1b[?1l\x1b>\x1b[>4;0m\x1b7\x1b[r\x1b8\x1b(B\x1b[0m";

/// Gives the terminal back when dropped.
pub struct Raw {
    before: Termios,
}

impl Raw {
    pub fn enter() -> Result<Self> {
        let before = tcgetattr(std::io::stdin()).map_err(|error| Failure::io("the terminal")(error.into()))?;
        let mut raw = before.clone();
        raw.make_raw();
        set(&raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        reset();
        let _ = set(&self.before);
    }
}

/// Switches off what a program may have left on.
pub fn reset() {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(RESET).and_then(|()| out.flush());
}

fn set(termios: &Termios) -> Result<()> {
    tcsetattr(std::io::stdin(), OptionalActions::Drain, termios).map_err(|e| Failure::io("the terminal")(e.into()))
}

/// Whether a person sits at both ends.
pub fn is_interactive() -> bool {
    isatty(std::io::stdin()) && isatty(std::io::stdout())
}

/// Columns and rows of the terminal; those of a VT100 where it does not say.
pub fn size() -> (u16, u16) {
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => (80, 24),
    }
}

/// Asks a question; the answer's line without its end.
pub fn ask(question: &str) -> Result<String> {
    eprint!("{question}");
    line()
}

/// Asks without showing what is typed.
pub fn ask_secret(question: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("There is no terminal to ask on. Use --password-stdin or --token-stdin.".into()));
    }
    struct Shown(Termios);
    impl Drop for Shown {
        fn drop(&mut self) {
            let _ = set(&self.0);
            eprintln!();
        }
    }
    let before = tcgetattr(std::io::stdin()).map_err(|error| Failure::io("the terminal")(error.into()))?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    eprint!("{question}");
    set(&hidden)?;
    let _shown = Shown(before);
    line()
}

/// A line of standard input.
pub fn line() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().read_line(&mut text).map_err(Failure::io("standard input"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// `true` once the person has said yes.
pub fn confirm(question: &str) -> Result<bool> {
    let answer = ask(&format!("{question} [y/N] "))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
