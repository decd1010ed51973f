//! What stands for a secret inside of a workspace: a text of the same shape, so that programs that look at a key's form are
//! content, and that is none. Pure.
//!
//! The beginning that says whose key it is stays (`ghp_`, `sk-ant-api03-`); of the rest each letter and digit becomes another
//! of its kind. Which one follows from the workspace, the secret's name and a key of the installation's: it is the same after
//! every start and for every later value that begins alike, another in every workspace, and tells nothing of the value but
//! its shape.

use aws_lc_rs::hmac;

/// A beginning that is kept is words like these at most, each with `-` or `_` behind it: longer ones are part of a key.
const WORD_BYTES_MAX: usize = 7;
/// Letters and digits that are exchanged, at the least: 40 bits of what nobody guesses, were all of them digits.
pub const EXCHANGED_MIN: usize = 12;
const DIGITS: &[u8] = b"0123456789";
const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const HEX_LOWER: &[u8] = b"0123456789abcdef";
const HEX_UPPER: &[u8] = b"0123456789ABCDEF";

/// A value's shape, as it is kept: its beginning, a line feed, and the kind of each character after that. `None`: too little
/// of it can be exchanged.
pub fn of(value: &str) -> Option<String> {
    let (prefix, rest) = split(value)?;
    let all = |alphabet: &[u8]| rest.bytes().filter(u8::is_ascii_alphanumeric).all(|one| alphabet.contains(&one));
    let whole = [(DIGITS, 'd'), (HEX_LOWER, 'h'), (HEX_UPPER, 'H')].into_iter().find(|(alphabet, _)| all(alphabet));
    let kind = |c: char| match (c, whole) {
        _ if !c.is_ascii_alphanumeric() => c,
        (_, Some((_, kind))) => kind,
        ('0'..='9', _) => 'd',
        ('a'..='z', _) => 'l',
        _ => 'u',
    };
    Some(format!("{prefix}\n{}", rest.chars().map(kind).collect::<String>()))
}

/// Whether a value of the one shape may have a placeholder of the other: programs that look at it see the same.
pub fn is_alike(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one.split_once('\n').map(|(prefix, _)| prefix) == other.split_once('\n').map(|(prefix, _)| prefix)
}

/// A text of this shape.
pub fn placeholder(shape: &str, key: &hmac::Key, what: &str) -> String {
    let (prefix, kinds) = shape.split_once('\n').unwrap_or(("", shape));
    let mut random = Stream::new(key, what);
    let mut one_of = |alphabet| char::from(random.one_of(alphabet));
    let exchanged = kinds.chars().map(|kind| match kind {
        'd' => one_of(DIGITS),
        'h' => one_of(HEX_LOWER),
        'H' => one_of(HEX_UPPER),
        'l' => one_of(LOWER),
        'u' => one_of(UPPER),
        other => other,
    });
    prefix.chars().chain(exchanged).collect()
}

/// What is kept, and what is exchanged.
fn split(value: &str) -> Option<(&str, &str)> {
    let exchanged = |rest: &str| rest.bytes().filter(u8::is_ascii_alphanumeric).count() >= EXCHANGED_MIN;
    let mut ends = vec![0];
    for word in value.split_inclusive(['-', '_']) {
        // As vendors begin their keys, and hardly ever chance does.
        let name = word.strip_suffix(['-', '_']).unwrap_or_default();
        let is_word = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.len() <= WORD_BYTES_MAX
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        match (is_word, ends.last()) {
            (true, Some(end)) => ends.push(end + word.len()),
            _ => break,
        }
    }
    ends.into_iter().rev().filter_map(|at| value.split_at_checked(at)).find(|(_, rest)| exchanged(rest))
}

/// Bytes without an end that follow from a key and a text.
struct Stream<'a> {
    key: &'a hmac::Key,
    what: &'a str,
    block: u32,
    left: Vec<u8>,
}

impl<'a> Stream<'a> {
    fn new(key: &'a hmac::Key, what: &'a str) -> Self {
        Self { key, what, block: 0, left: Vec::new() }
    }

    fn next(&mut self) -> u8 {
        loop {
            if let Some(byte) = self.left.pop() {
                return byte;
            }
            let text = format!("{}\0{}", self.block, self.what);
            self.left = hmac::sign(self.key, text.as_bytes()).as_ref().to_vec();
            self.block += 1;
        }
    }

    /// Each as likely as any other.
    fn one_of(&mut self, alphabet: &[u8]) -> u8 {
        let fair = 256 - 256 % alphabet.len();
        loop {
            let byte = usize::from(self.next());
            if byte < fair {
                return alphabet[byte % alphabet.len()];
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[7; 32])
    }

    fn made(value: &str, what: &str) -> Option<String> {
        of(value).map(|shape| placeholder(&shape, &key(), what))
    }

    #[test]
    fn the_beginning_stays_and_the_shape() {
        for (value, kept) in [
            ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "ghp_"),
            ("sk-ant-api03-AbCdEf0123456789-xyz_AA", "sk-ant-api03-"),
            ("AKIAIOSFODNN7EXAMPLE", ""),
            ("0123-4567-8901-2345", ""),
            ("550e8400-e29b-41d4-a716-446655440000", ""),
            ("deadbeef-e29b-41d4-a716-446655440000", ""),
            ("aB3_0123456789abcdef", ""),
            ("github_pat_11ABCDEFG0123456789_abcdefghijkl", "github_pat_"),
        ] {
            let made = made(value, "one").unwrap();
            assert!(made.starts_with(kept), "{made}");
            assert_ne!(made, value);
            assert_eq!(made.len(), value.len());
        }
        let hexadecimal = made("deadbeefdeadbeef", "one").unwrap();
        assert!(hexadecimal.bytes().all(|byte| HEX_LOWER.contains(&byte)), "{hexadecimal}");
        let unlike = made("550e8400-e29b-41d4-a716-446655440000", "one").unwrap();
        assert!(!unlike.starts_with("550e8400"), "{unlike}");
        for short in ["", "short", "sk-1234567", "------------------"] {
            assert_eq!(of(short), None, "{short}");
        }
    }

    #[test]
    fn another_workspace_has_another() {
        let value = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
        let [one, again, other] = ["one", "one", "other"].map(|what| made(value, what).unwrap());
        assert_eq!(one, again);
        assert_ne!(one, other);
        let [before, alike, unlike] =
            [value, "ghp_0000000000000000000000000000000000AA", "gho_16C7e42F292c6912E7710c838347Ae178B4a"].map(of);
        assert!(is_alike(&before.clone().unwrap(), &alike.unwrap()) && !is_alike(&before.unwrap(), &unlike.unwrap()));
        assert!(!is_alike(&of("ghp_0123456789abcdef").unwrap(), &of("ghp_0123456789abcdef0").unwrap()), "as long");
    }

    proptest! {
        #[test]
        fn each_becomes_one_of_its_kind(value in "[!-~]{12,80}") {
            if let Some(made) = made(&value, "one") {
                prop_assert_eq!(made.len(), value.len());
                for (from, to) in value.bytes().zip(made.bytes()) {
                    prop_assert_eq!(from.is_ascii_alphanumeric(), to.is_ascii_alphanumeric());
                    prop_assert!(from.is_ascii_alphanumeric() || from == to);
                }
            }
        }
    }
}
