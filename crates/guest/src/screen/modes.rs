//! The modes that a program can switch, and what is told about them.
//!
//! Modes without effect on the emulation (mouse, paste, focus and the like) matter to whoever draws the
//! terminal: they are kept and restored, nothing more.

/// Private modes that are only kept, each with its value after a reset.
const KEPT: [(u16, bool); 10] = [
    (1, false),
    (25, true),
    (45, false),
    (1004, false),
    (1005, false),
    (1007, true),
    (1015, false),
    (1042, true),
    (2004, false),
    (2031, false),
];
/// Mouse protocols: at most one is on.
const MOUSE: [u16; 4] = [9, 1000, 1002, 1003];
/// Mouse encodings that exclude each other.
const MOUSE_ENCODINGS: [u16; 2] = [1006, 1016];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Modes {
    pub autowrap: bool,
    pub origin: bool,
    pub insert: bool,
    pub newline: bool,
    pub keypad: bool,
    /// DECSET 12; none until a program says so, because viewers have a preference.
    pub blink: Option<bool>,
    mouse: Option<u16>,
    mouse_encoding: Option<u16>,
    kept: [bool; KEPT.len()],
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            autowrap: true,
            origin: false,
            insert: false,
            newline: false,
            keypad: false,
            blink: None,
            mouse: None,
            mouse_encoding: None,
            kept: KEPT.map(|(_, on)| on),
        }
    }
}

impl Modes {
    /// Switches a private mode that has no effect beyond its value.
    pub fn set_private(&mut self, mode: u16, on: bool) {
        match mode {
            7 => self.autowrap = on,
            12 => self.blink = Some(on),
            66 => self.keypad = on,
            _ if MOUSE.contains(&mode) => self.mouse = on.then_some(mode),
            _ if MOUSE_ENCODINGS.contains(&mode) => self.mouse_encoding = on.then_some(mode),
            _ => {
                if let Some(at) = KEPT.iter().position(|(kept, _)| *kept == mode) {
                    self.kept[at] = on;
                }
            }
        }
    }

    /// Whether a private mode is on; none if it is unknown.
    pub fn private(&self, mode: u16) -> Option<bool> {
        match mode {
            6 => Some(self.origin),
            7 => Some(self.autowrap),
            12 => Some(self.blink.unwrap_or(false)),
            66 => Some(self.keypad),
            2026 => Some(false),
            _ if MOUSE.contains(&mode) => Some(self.mouse == Some(mode)),
            _ if MOUSE_ENCODINGS.contains(&mode) => Some(self.mouse_encoding == Some(mode)),
            _ => KEPT.iter().position(|(kept, _)| *kept == mode).map(|at| self.kept[at]),
        }
    }

    /// The private modes that differ from their value after a reset, except those that move the cursor
    /// or change how text is drawn.
    pub fn changed(&self) -> Vec<(u16, bool)> {
        let kept = KEPT.iter().zip(self.kept);
        kept.filter(|((_, initial), on)| initial != on)
            .map(|((mode, _), on)| (*mode, on))
            .chain(self.blink.map(|on| (12, on)))
            .chain(self.mouse.map(|mode| (mode, true)))
            .chain(self.mouse_encoding.map(|mode| (mode, true)))
            .collect()
    }
}
