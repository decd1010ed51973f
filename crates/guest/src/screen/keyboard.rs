//! The kitty keyboard protocol's flags of one screen: current ones, and those saved by pushing.
//!
//! Queries are not answered: the page's terminal does not speak the protocol, and a program that got an
//! answer would wait for keys that never come. What a program sets unasked is kept for viewers that do.

use std::io::Write;

/// Most saved flags; the oldest goes first.
const SAVED_MAX: usize = 16;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keyboard {
    pub current: u8,
    saved: Vec<u8>,
}

impl Keyboard {
    pub fn push(&mut self, flags: u8) {
        if self.saved.len() == SAVED_MAX {
            self.saved.remove(0);
        }
        self.saved.push(self.current);
        self.current = flags;
    }

    pub fn pop(&mut self, count: u16) {
        for _ in 0..usize::from(count).min(SAVED_MAX + 1) {
            self.current = self.saved.pop().unwrap_or(0);
        }
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let mut flags = self.saved.iter().copied().chain([self.current]);
        if let Some(first) = flags.next().filter(|first| *first != 0) {
            let _ = write!(out, "\x1b[={first};1u");
        }
        for pushed in flags {
            let _ = write!(out, "\x1b[>{pushed}u");
        }
    }
}
