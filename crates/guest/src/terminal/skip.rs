//! Which output need not be emulated, because what it shows will have scrolled away: pure.
//!
//! A flood of plain lines costs an emulator as much as the kernel and the transport together, and
//! all but the last screenfuls of it are never seen in a snapshot. Plain means printable ASCII, CR
//! and LF: bytes that change nothing but cells, the cursor, and what has scrolled away. When enough
//! line feeds follow, none of the cells written before is left, and a CR says which column the
//! cursor is in. So the emulator may go on at such a CR as if it had seen everything before it.
//!
//! ```text
//!   fed                                                             end
//!   |--anything--|------------------ plain ---------------------------|
//!                    |-lead-|.......... left out ..........|CR---------|
//!                    first LF                               at least `lines` line feeds
//! ```
//!
//! Invariant: leaving out is only right together with everything up to `end`: the screen in between
//! is not what a terminal would show.

/// Less is not worth the search.
const GAIN_BYTES_MIN: usize = 16 * 1024;
/// What may have to be emulated first, so that one turn stays short.
const BEFORE_BYTES_MAX: usize = 16 * 1024;

/// Judged at once, which the compiler does in vectors.
const BLOCK_BYTES: usize = 64;

/// What to do with a stretch of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Emulate up to `from`, leave out up to `to`, both counted from the stretch's beginning.
    LeaveOut { from: usize, to: usize },
    /// Nothing can be left out before the output at `barrier` has been emulated.
    Not { barrier: usize },
}

/// Plans for a stretch, given as its pieces in order. `lines`: how many line feeds push out all that
/// a screen keeps.
pub(super) fn plan(pieces: &[&[u8]], lines: usize) -> Plan {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut search = Search { lines, line_feeds: 0 };
    let (mut to, mut base) = (None, length);
    for piece in pieces.iter().rev() {
        base -= piece.len();
        let mut end = piece.len();
        if to.is_none() {
            match search.backwards(piece) {
                Found::Return(index) => {
                    to = Some(base + index);
                    end = index;
                }
                Found::Odd(index) => return Plan::Not { barrier: base + index + 1 },
                Found::Nothing => continue,
            }
        }
        if let Some(plain_from) = last_odd(&piece[..end]) {
            return judge(pieces, base + plain_from + 1, to);
        }
    }
    judge(pieces, 0, to)
}

/// The search for a CR with enough line feeds behind it, from the end.
struct Search {
    lines: usize,
    line_feeds: usize,
}

enum Found {
    /// Such a CR stands here.
    Return(usize),
    /// Something that is not plain stands behind any such CR.
    Odd(usize),
    Nothing,
}

impl Search {
    /// Blocks that cannot hold the end of the search are counted at once.
    fn backwards(&mut self, piece: &[u8]) -> Found {
        let mut start = piece.len();
        for block in piece.rchunks(BLOCK_BYTES) {
            start -= block.len();
            let line_feeds = block.iter().filter(|&&byte| byte == b'\n').count();
            if is_all_plain(block) && self.line_feeds + line_feeds < self.lines {
                self.line_feeds += line_feeds;
                continue;
            }
            for (index, &byte) in block.iter().enumerate().rev() {
                match byte {
                    b'\n' => self.line_feeds += 1,
                    b'\r' if self.line_feeds >= self.lines => return Found::Return(start + index),
                    _ if is_plain(byte) => {}
                    _ => return Found::Odd(start + index),
                }
            }
        }
        Found::Nothing
    }
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r' | 0x20..=0x7e)
}

fn is_all_plain(block: &[u8]) -> bool {
    !block.iter().fold(false, |odd, &byte| odd | !is_plain(byte))
}

/// The last byte that is not plain.
fn last_odd(bytes: &[u8]) -> Option<usize> {
    let mut end = bytes.len();
    for block in bytes.rchunks(BLOCK_BYTES) {
        if !is_all_plain(block) {
            break;
        }
        end -= block.len();
    }
    bytes[..end].iter().rposition(|&byte| !is_plain(byte))
}

/// Where the first line feed at or behind `from` stands.
fn line_feed_from(pieces: &[&[u8]], from: usize) -> Option<usize> {
    let mut base = 0;
    for piece in pieces {
        let start = from.saturating_sub(base).min(piece.len());
        if let Some(index) = piece[start..].iter().position(|&byte| byte == b'\n') {
            return Some(base + start + index);
        }
        base += piece.len();
    }
    None
}

fn judge(pieces: &[&[u8]], plain_from: usize, to: Option<usize>) -> Plan {
    let not = Plan::Not { barrier: plain_from };
    if plain_from > BEFORE_BYTES_MAX {
        return not;
    }
    match (to, line_feed_from(pieces, plain_from)) {
        (Some(to), Some(line_feed)) if line_feed + 1 + GAIN_BYTES_MIN <= to => {
            Plan::LeaveOut { from: line_feed + 1, to }
        }
        _ => not,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<u8> {
        (0..count).flat_map(|i| format!("line {i} of a build\r\n").into_bytes()).collect()
    }

    #[test]
    fn all_but_the_last_lines_are_left_out() {
        let output = lines(5000);
        let Plan::LeaveOut { from, to } = plan(&[&output[..7777], &output[7777..]], 100) else { panic!("a plan") };
        assert_eq!(output[from - 1], b'\n');
        assert_eq!(output[to], b'\r');
        let line_feeds = |bytes: &[u8]| bytes.iter().filter(|b| **b == b'\n').count();
        assert!((100..=102).contains(&line_feeds(&output[to..])));
        assert_eq!(line_feeds(&output[..from]), 1);
    }

    #[test]
    fn what_is_not_plain_stands_in_the_way() {
        let coloured = [lines(3000), b"\x1b[31mred".to_vec(), lines(10)].concat();
        assert_eq!(plan(&[&coloured], 100), Plan::Not { barrier: lines(3000).len() + 1 });
        let early = [b"\x1b[31m".to_vec(), lines(3000)].concat();
        assert!(matches!(plan(&[&early], 100), Plan::LeaveOut { .. }));
        assert!(matches!(plan(&[&lines(300)], 1000), Plan::Not { .. }), "too few lines");
        let no_return = lines(5000).into_iter().filter(|b| *b != b'\r').collect::<Vec<_>>();
        assert!(matches!(plan(&[&no_return], 100), Plan::Not { .. }), "the column is not known");
    }
}
