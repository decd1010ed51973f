//! Words that people chose, shown to others.

/// Whether a character moves the cursor or turns the line's direction (Unicode's bidirectional controls), and so could
/// make a line say something else than it does.
pub fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
