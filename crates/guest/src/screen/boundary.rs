//! Where the output may be cut: what is complete goes to the emulator, the rest is held.
//!
//! Mirrors the states of the `vte` parser, byte for byte, so that the emulator only ever sees whole
//! sequences. A C0 control inside a CSI acts at once, so "fed up to the last ground state" would not do:
//! half a sequence would take effect and be replayed. Held back are
//!
//! - an escape sequence or control string until it ends,
//! - an incomplete UTF-8 character,
//! - the last printed character with the zero-width ones behind it: what follows may join or repeat it
//!   (`REP`), and a viewer can only do so if it got that character live too,
//! - a synchronized update (DEC 2026) from its beginning to its end.
//!
//! `REP` that does not directly follow a character is left out: the parser would repeat an older
//! character, which a snapshot cannot carry (and xterm.js ignores it).
//!
//! Bounds. A sequence longer than [`SEQUENCE_BYTES_MAX`] is dropped, its rest ignored until its end;
//! a snapshot taken meanwhile ends with an [opener](Boundary::opener) that makes a viewer ignore the rest
//! as well. A synchronized update longer than [`SYNC_BYTES_MAX`] is no longer held: it is drawn as it
//! comes. Time is the caller's: it ends an update that lasts too long with [`Boundary::release_sync`].

use super::width::width;

/// Longest escape sequence or control string that is interpreted.
pub const SEQUENCE_BYTES_MAX: usize = 64 * 1024;
/// Most output that a synchronized update holds back. Far below the smallest useful ring of output,
/// since live bytes must be available from the beginning of the update.
pub const SYNC_BYTES_MAX: usize = 128 * 1024;
/// Longest run of a character and its zero-width followers that is kept together.
const CLUSTER_BYTES_MAX: usize = 64;
/// A held buffer larger than this is given back to the allocator when it empties.
const TAIL_CAPACITY_KEPT: usize = 4 * 1024;

const ESC: u8 = 0x1b;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
const BEL: u8 = 0x07;
const SYNC_MODE: &[u8] = b"2026";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ground,
    Escape,
    EscapeIntermediate,
    /// `plain`: only digits and separators so far, as `REP` has them.
    Csi {
        plain: bool,
    },
    DcsEntry,
    DcsParam,
    DcsIntermediate,
    DcsIgnore,
    DcsBody,
    Osc,
    /// SOS, PM and APC.
    Text,
}

/// The cutter of one stream.
pub(super) struct Boundary {
    state: State,
    tail: Vec<u8>,
    /// Start of the sequence that `state` is in, in `tail`.
    item: usize,
    /// What must be held if the sequence stays incomplete: it may repeat the character before it.
    hold: usize,
    /// Where the text since the last sequence begins.
    text: usize,
    /// Whether a character directly precedes the sequence.
    printed: bool,
    /// Start of the synchronized update that is being held.
    sync: Option<usize>,
    /// Completed sequences that the emulator must not see.
    skips: Vec<(usize, usize)>,
    /// The sequence that `state` is in was too long and has been dropped.
    dropped: bool,
}

impl Boundary {
    pub fn new() -> Self {
        Self {
            state: State::Ground,
            tail: Vec::new(),
            item: 0,
            hold: 0,
            text: 0,
            printed: false,
            sync: None,
            skips: Vec::new(),
            dropped: false,
        }
    }

    /// Bytes that were consumed and are not in the emulator yet.
    pub fn held(&self) -> u64 {
        self.tail.len() as u64
    }

    /// Whether nothing is held and no sequence is under way, not even one that has been dropped.
    pub fn is_at_rest(&self) -> bool {
        self.state == State::Ground && self.tail.is_empty() && self.sync.is_none() && !self.dropped
    }

    /// Whether a synchronized update is being held.
    pub fn in_sync(&self) -> bool {
        self.sync.is_some()
    }

    /// Consumes `input`; `sink` gets everything that is complete, in order.
    pub fn feed(&mut self, input: &[u8], sink: &mut impl FnMut(&[u8])) {
        if self.tail.is_empty() {
            let cut = self.scan(input, 0, sink);
            self.deliver(&input[..cut], sink);
            self.tail.extend_from_slice(&input[cut..]);
            self.forget(cut);
        } else {
            let mut tail = std::mem::take(&mut self.tail);
            let scanned = tail.len();
            tail.extend_from_slice(input);
            let cut = self.scan(&tail, scanned, sink);
            self.deliver(&tail[..cut], sink);
            tail.drain(..cut);
            if tail.is_empty() && tail.capacity() > TAIL_CAPACITY_KEPT {
                tail = Vec::new();
            }
            self.tail = tail;
            self.forget(cut);
        }
        self.bound(sink);
    }

    /// Stops holding a synchronized update: what is complete of it is drawn now.
    pub fn release_sync(&mut self, sink: &mut impl FnMut(&[u8])) {
        if self.sync.take().is_none() {
            return;
        }
        let tail = std::mem::take(&mut self.tail);
        let cut = self.cut(&tail);
        self.deliver(&tail[..cut], sink);
        self.tail = tail[cut..].to_vec();
        self.forget(cut);
    }

    /// What a snapshot must end with, so that a viewer ignores the rest of a dropped sequence as we do.
    pub fn opener(&self) -> &'static [u8] {
        match self.state {
            _ if !self.dropped => b"",
            State::Ground | State::Escape | State::EscapeIntermediate => b"",
            // A parameter, then a private marker in the wrong place: ignored up to the final byte.
            State::Csi { .. } => b"\x1b[0<",
            State::DcsEntry | State::DcsParam | State::DcsIntermediate | State::DcsIgnore | State::DcsBody => {
                b"\x1bP!~"
            }
            State::Osc => b"\x1b]9999;",
            State::Text => b"\x1b^",
        }
    }

    /// Follows the states over `buffer[from..]` and returns where it may be cut.
    fn scan(&mut self, buffer: &[u8], from: usize, sink: &mut impl FnMut(&[u8])) -> usize {
        let mut at = from;
        while at < buffer.len() {
            if self.state == State::Ground {
                let rest = &buffer[at..];
                let Some(found) = rest.iter().position(|&byte| byte == ESC) else {
                    break;
                };
                at += found;
                self.begin(buffer, at);
            } else {
                self.step(buffer, at, sink);
            }
            at += 1;
        }
        self.cut(buffer)
    }

    fn begin(&mut self, buffer: &[u8], at: usize) {
        self.item = at;
        self.hold = self.text + cluster_start(&buffer[self.text..at]);
        self.printed = self.hold < at;
        self.state = State::Escape;
    }

    fn step(&mut self, buffer: &[u8], at: usize, sink: &mut impl FnMut(&[u8])) {
        let byte = buffer[at];
        let next = next(self.state, byte);
        if self.dropped {
            if next != State::Escape {
                self.skip(at, at + 1);
            }
            // A terminal goes on acting on controls inside a CSI that it ignores.
            if matches!(self.state, State::Csi { .. }) && byte < b' ' && byte != ESC {
                sink(&[byte]);
            }
            self.item = at + usize::from(next == State::Ground);
            self.hold = self.item;
            self.printed = false;
            self.dropped = next != State::Ground && next != State::Escape;
            self.text = at + 1;
        } else if next == State::Ground {
            self.complete(buffer, at);
        }
        self.state = next;
    }

    fn skip(&mut self, start: usize, end: usize) {
        match self.skips.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => self.skips.push((start, end)),
        }
    }

    /// A sequence is complete: is it one of those that matter here?
    fn complete(&mut self, buffer: &[u8], at: usize) {
        self.text = at + 1;
        let State::Csi { plain } = self.state else {
            return;
        };
        match buffer[at] {
            b'b' if plain && !self.printed => self.skip(self.item, at + 1),
            b'h' if self.sync.is_none() && is_sync(&buffer[self.item..at]) => {
                self.sync = Some(self.item);
            }
            b'l' if self.sync.is_some() && is_sync(&buffer[self.item..at]) => self.sync = None,
            _ => {}
        }
    }

    fn cut(&self, buffer: &[u8]) -> usize {
        match (self.sync, self.state) {
            (Some(start), _) => start,
            (None, _) if self.dropped => buffer.len(),
            (None, State::Ground) => self.text + cluster_start(&buffer[self.text..]),
            (None, _) => self.hold,
        }
    }

    fn deliver(&mut self, complete: &[u8], sink: &mut impl FnMut(&[u8])) {
        let mut from = 0;
        let delivered = self.skips.partition_point(|(_, end)| *end <= complete.len());
        for (start, end) in self.skips.drain(..delivered) {
            pass(&complete[from..start], sink);
            from = end;
        }
        pass(&complete[from..], sink);
    }

    /// Positions are in the tail again after its first `cut` bytes have gone.
    fn forget(&mut self, cut: usize) {
        self.item = self.item.saturating_sub(cut);
        self.hold = self.hold.saturating_sub(cut);
        self.text = self.text.saturating_sub(cut);
        self.sync = self.sync.map(|start| start.saturating_sub(cut));
        for (start, end) in &mut self.skips {
            (*start, *end) = (start.saturating_sub(cut), end.saturating_sub(cut));
        }
    }

    fn bound(&mut self, sink: &mut impl FnMut(&[u8])) {
        if self.sync.is_some() && self.tail.len() > SYNC_BYTES_MAX {
            self.release_sync(sink);
        }
        let in_sequence = self.state != State::Ground && !self.dropped;
        if !in_sequence || self.tail.len() - self.item <= SEQUENCE_BYTES_MAX {
            return;
        }
        self.sync = None;
        let mut tail = std::mem::take(&mut self.tail);
        let sequence = tail.split_off(self.item);
        self.deliver(&tail, sink);
        if matches!(self.state, State::Csi { .. }) {
            for byte in sequence.iter().filter(|byte| **byte < b' ' && **byte != ESC) {
                sink(&[*byte]);
            }
        }
        self.dropped = true;
        (self.item, self.hold, self.text, self.printed) = (0, 0, 0, false);
    }
}

/// Passes on what is complete. If it ends with half a character, the rest of that never came: a NUL, which
/// does nothing else, makes the parser say so now instead of remembering it.
fn pass(piece: &[u8], sink: &mut impl FnMut(&[u8])) {
    let Some(last) = piece.last() else {
        return;
    };
    sink(piece);
    if *last >= 0x80 {
        let window = &piece[piece.len().saturating_sub(4)..];
        let lead = window.iter().rposition(|byte| byte & 0xc0 != 0x80);
        let cut = std::str::from_utf8(&window[lead.unwrap_or(0)..]).err();
        if cut.is_some_and(|error| error.error_len().is_none()) {
            sink(b"\0");
        }
    }
}

/// The state after `byte`, as `vte` 0.15 has it.
fn next(state: State, byte: u8) -> State {
    match byte {
        CAN | SUB => return State::Ground,
        ESC => return State::Escape,
        _ => {}
    }
    match (state, byte) {
        (State::Escape, b'P') => State::DcsEntry,
        (State::Escape, b'[') => State::Csi { plain: true },
        (State::Escape, b']') => State::Osc,
        (State::Escape, b'X' | b'^' | b'_') => State::Text,
        (State::Escape, 0x20..=0x2f) => State::EscapeIntermediate,
        (State::Escape | State::EscapeIntermediate, 0x30..=0x7e) => State::Ground,
        (State::Csi { .. }, 0x40..=0x7e) => State::Ground,
        (State::Csi { .. }, 0x20..=0x2f | 0x3c..=0x3f) => State::Csi { plain: false },
        (State::DcsEntry | State::DcsParam | State::DcsIntermediate, 0x40..=0x7e) => State::DcsBody,
        (State::DcsEntry | State::DcsParam | State::DcsIntermediate, 0x20..=0x2f) => State::DcsIntermediate,
        (State::DcsEntry, 0x30..=0x3f) => State::DcsParam,
        (State::DcsParam, 0x3c..=0x3f) | (State::DcsIntermediate, 0x30..=0x3f) => State::DcsIgnore,
        (State::DcsBody, 0x9c) => State::Ground,
        (State::Osc, BEL) => State::Ground,
        _ => state,
    }
}

/// Whether `ESC [ ? ... ` without its final byte names the mode of synchronized updates.
fn is_sync(sequence: &[u8]) -> bool {
    let Some(start) = sequence.iter().rposition(|&byte| byte == b'?') else {
        return false;
    };
    sequence[start + 1..].split(|&byte| byte == b';').any(|mode| mode == SYNC_MODE)
}

/// Where the last printed character and its zero-width followers begin; the end, if the text ends
/// with a control.
fn cluster_start(text: &[u8]) -> usize {
    let floor = text.len().saturating_sub(CLUSTER_BYTES_MAX);
    let mut end = text.len();
    while end > floor {
        let (start, joins) = match last_char(&text[floor..end]) {
            Last::Control => return end,
            Last::Char { bytes, joins } => (end - bytes, joins),
        };
        end = start;
        if !joins {
            break;
        }
    }
    end
}

enum Last {
    Control,
    Char {
        bytes: usize,
        /// It has no width of its own, or is not complete and may turn out to have none.
        joins: bool,
    },
}

fn last_char(text: &[u8]) -> Last {
    let last = text[text.len() - 1];
    if last < 0x80 {
        return match last {
            0..=0x1f => Last::Control,
            _ => Last::Char { bytes: 1, joins: false },
        };
    }
    let window = text.len().saturating_sub(4);
    let lead = text[window..].iter().rposition(|byte| byte & 0xc0 != 0x80);
    let start = lead.map_or(window, |lead| window + lead);
    match std::str::from_utf8(&text[start..]) {
        Ok(valid) => match valid.chars().next_back() {
            Some('\u{80}'..='\u{9f}') | None => Last::Control,
            Some(c) => Last::Char { bytes: c.len_utf8(), joins: width(c) == 0 },
        },
        Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => {
            Last::Char { bytes: text.len() - start, joins: true }
        }
        // The last byte belongs to no character: the parser takes it for a C1 control or replaces it.
        Err(_) if last <= 0x9f => Last::Control,
        Err(_) => Last::Char { bytes: 1, joins: false },
    }
}
