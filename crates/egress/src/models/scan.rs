//! Values at some paths of a JSON text, found as its bytes arrive.
//!
//! Of text that is JSON it finds what a parser would; of other text, something or nothing. Invariant: it keeps no more than
//! [`VALUE_BYTES_MAX`] and [`NAME_BYTES_MAX`], and its work is one pass: how long a text is, or how deep, costs no memory.

use std::borrow::Cow;

/// The longest value that is found; what is wanted has some hundred bytes. A longer one is passed over.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;
/// As a name is written, with quotes and escapes. A longer one is none that is wanted.
const NAME_BYTES_MAX: usize = 128;
/// The most names in a path.
const LEVELS_MAX: usize = 2;

/// Names from the root to a value. No wanted path leads through another.
pub type Path = &'static [&'static str];

/// A set of paths: the first is the lowest bit.
type Paths = u8;
const ALL: Paths = Paths::MAX;
const NONE: Paths = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    InString,
    /// After a backslash.
    Escaped,
}

#[derive(Debug)]
pub struct Scanner {
    paths: &'static [Path],
    texts: &'static [&'static str],
    place: Place,
    /// How many objects and lists are open.
    depth: usize,
    /// Which paths lead into each of the first that are open.
    along: [Paths; LEVELS_MAX],
    /// Which paths lead into the value that comes.
    ahead: Paths,
    /// The string that was last, with its quotes: it becomes a name if a colon follows.
    string: Vec<u8>,
    /// A string that comes is text to count.
    is_text: bool,
    text_bytes: u64,
    found: Option<Finding>,
}

/// A wanted value that is not whole yet.
#[derive(Debug)]
struct Finding {
    path: usize,
    /// Of the object that it is in.
    depth: usize,
    value: Vec<u8>,
    too_long: bool,
}

impl Scanner {
    /// `texts`: names, at any depth, of fields whose text is counted.
    pub fn new(paths: &'static [Path], texts: &'static [&'static str]) -> Self {
        Self {
            paths,
            texts,
            place: Place::Outside,
            depth: 0,
            along: [NONE; LEVELS_MAX],
            ahead: ALL,
            string: Vec::new(),
            is_text: false,
            text_bytes: 0,
            found: None,
        }
    }

    /// Another text begins.
    pub fn restart(&mut self) {
        let text_bytes = self.text_bytes;
        *self = Self { text_bytes, string: std::mem::take(&mut self.string), ..Self::new(self.paths, self.texts) };
        self.string.clear();
    }

    /// How much text there was under the counted names, of all texts: what is escaped counts about as long as it is.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Tells of each wanted value that becomes whole: which path it is at, by its place among the paths, and the value.
    pub fn take(&mut self, mut bytes: &[u8], tell: &mut impl FnMut(usize, &[u8])) {
        while let Some(&first) = bytes.first() {
            let taken = match self.place {
                Place::Outside => {
                    self.outside(first, tell);
                    1
                }
                Place::Escaped => {
                    self.in_string(&bytes[..1]);
                    self.place = Place::InString;
                    1
                }
                Place::InString => match bytes.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
                    Some(0) if first == b'\\' => {
                        self.keep(b"\\");
                        self.string_more(b"\\");
                        self.place = Place::Escaped;
                        1
                    }
                    Some(0) => {
                        self.keep(b"\"");
                        self.string_more(b"\"");
                        self.place = Place::Outside;
                        self.end_value(tell);
                        1
                    }
                    end => {
                        let end = end.unwrap_or(bytes.len());
                        self.in_string(&bytes[..end]);
                        end
                    }
                },
            };
            bytes = &bytes[taken..];
        }
    }

    fn in_string(&mut self, part: &[u8]) {
        self.keep(part);
        self.string_more(part);
        if self.is_text {
            self.text_bytes = self.text_bytes.saturating_add(part.len() as u64);
        }
    }

    fn string_more(&mut self, part: &[u8]) {
        let room = NAME_BYTES_MAX - self.string.len();
        self.string.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn outside(&mut self, byte: u8, tell: &mut impl FnMut(usize, &[u8])) {
        match byte {
            b'"' => {
                self.keep(b"\"");
                self.string.clear();
                self.string_more(b"\"");
                self.place = Place::InString;
            }
            b':' => {
                self.keep(b":");
                self.name();
            }
            b'{' | b'[' => {
                self.keep(&[byte]);
                if let Some(along) = self.along.get_mut(self.depth) {
                    *along = if byte == b'{' { self.ahead } else { NONE };
                }
                self.depth = self.depth.saturating_add(1);
                self.ahead = NONE;
                self.is_text = false;
            }
            b'}' | b']' => {
                self.end_value(tell);
                self.keep(&[byte]);
                self.depth = self.depth.saturating_sub(1);
                self.end_value(tell);
                self.ahead = NONE;
                self.is_text = false;
            }
            b',' => {
                self.end_value(tell);
                self.keep(b",");
                self.ahead = NONE;
                self.is_text = false;
            }
            b' ' | b'\t' | b'\r' | b'\n' => {
                if !self.is_awaited() {
                    self.end_value(tell);
                }
            }
            _ => self.keep(&[byte]),
        }
    }

    /// The last string is a name, and its value comes.
    fn name(&mut self) {
        let string = std::mem::take(&mut self.string);
        (self.ahead, self.is_text) = (NONE, false);
        if let Some(name) = unescaped(&string) {
            self.is_text = self.texts.contains(&&*name);
            self.follow(&name);
        }
        self.string = string;
        self.string.clear();
    }

    fn follow(&mut self, name: &str) {
        let level = self.depth.wrapping_sub(1);
        let along = self.along.get(level).copied().unwrap_or(NONE);
        for (at, path) in self.paths.iter().enumerate() {
            let bit = 1 << at;
            if along & bit == NONE || path.get(level) != Some(&name) {
                continue;
            }
            self.ahead |= bit;
            if path.len() == self.depth {
                self.found = Some(Finding { path: at, depth: self.depth, value: Vec::new(), too_long: false });
            }
        }
    }

    /// A wanted value is next, and has not begun.
    fn is_awaited(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.value.is_empty())
    }

    fn keep(&mut self, part: &[u8]) {
        let Some(found) = &mut self.found else { return };
        found.too_long |= found.value.len() + part.len() > VALUE_BYTES_MAX;
        if !found.too_long {
            found.value.extend_from_slice(part);
        }
    }

    /// If what ends here, or has ended, is a wanted value.
    fn end_value(&mut self, tell: &mut impl FnMut(usize, &[u8])) {
        if let Some(found) = self.found.take_if(|found| found.depth == self.depth)
            && !found.too_long
            && !found.value.is_empty()
        {
            tell(found.path, &found.value);
        }
    }
}

/// A name as it is meant; `None` when it is none, or too long.
fn unescaped(quoted: &[u8]) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        serde_json::from_slice(quoted).ok().map(Cow::Owned)
    } else {
        std::str::from_utf8(inner).ok().map(Cow::Borrowed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    const PATHS: &[Path] = &[&["usage"], &["message", "usage"], &["response", "usage"]];

    /// What is found, and the bytes of text.
    fn scan(chunks: &[&[u8]]) -> (Vec<(usize, String)>, u64) {
        let mut scanner = Scanner::new(PATHS, &["text"]);
        let mut found = Vec::new();
        for chunk in chunks {
            scanner.take(chunk, &mut |path, value| found.push((path, String::from_utf8_lossy(value).into_owned())));
        }
        (found, scanner.text_bytes())
    }

    #[test]
    fn wanted_values_are_found() {
        for (json, expected) in [
            (r#"{"usage":{"a":1},"x":2}"#, &[(0, r#"{"a":1}"#)][..]),
            (r#" { "usage" : { "a" : [ 1 ] } } "#, &[(0, r#"{"a":[1]}"#)]),
            (r#"{"usage":null}"#, &[(0, "null")]),
            (r#"{"usage": 12 ,"y":1}"#, &[(0, "12")]),
            (r#"{"usage":"a}\"\\"}"#, &[(0, r#""a}\"\\""#)]),
            (r#"{"us\u0061ge":1}"#, &[(0, "1")]),
            (r#"{"\u0075\u0073\u0061\u0067\u0065":[]}"#, &[(0, "[]")]),
            (r#"{"usage":1,"usage":{}}"#, &[(0, "1"), (0, "{}")]),
            (
                r#"{"message":{"usage":{"message":{"usage":1}}},"usage":2}"#,
                &[(1, r#"{"message":{"usage":1}}"#), (0, "2")],
            ),
            (r#"{"response":{"output":[{"usage":1},"usage",{"x":{"usage":3}}],"usage":{}}}"#, &[(2, "{}")]),
            (r#"{"x":{"usage":1},"y":[{"usage":1}],"message":[{"usage":1}],"response":"usage"}"#, &[]),
            (r#"[{"usage":1}]"#, &[]),
            (r#"{"x":"{\"usage\":1}"}"#, &[]),
            (r#"{"x":"usage","usage ":1,"Usage":2}"#, &[]),
            (r#"{"a":{},"usage":{"b":{}}}"#, &[(0, r#"{"b":{}}"#)]),
            ("[DONE]", &[]),
            (r#"{"usage":}{"usage":,"usage""#, &[]),
            ("}}]]{:\":", &[]),
        ] {
            let (found, _) = scan(&[json.as_bytes()]);
            let found: Vec<_> = found.iter().map(|(path, value)| (*path, value.as_str())).collect();
            assert_eq!(found, expected, "{json}");
        }
    }

    #[test]
    fn text_is_counted() {
        for (json, bytes) in [
            (r#"{"text":"four"}"#, 4),
            (r#"{"a":[{"text":"four"},{"b":{"text":"five!"}}]}"#, 9),
            (r#"{"text":"a\nb\"","x":"more"}"#, 4),
            (r#"{"text":["none"],"x":["text","none"],"text":{"y":"none"}}"#, 0),
            (r#"{"text":null,"y":"none"}"#, 0),
        ] {
            assert_eq!(scan(&[json.as_bytes()]).1, bytes, "{json}");
        }
    }

    #[test]
    fn what_is_long_is_passed_over_and_not_kept() {
        let long = format!(r#"{{"usage":{{"a":"{}"}},"usage":2}}"#, "x".repeat(VALUE_BYTES_MAX));
        assert_eq!(scan(&[long.as_bytes()]).0, [(0, "2".to_owned())]);
        let deep = format!(r#"{{"a":{}{},"usage":1}}"#, "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(scan(&[deep.as_bytes()]).0, [(0, "1".to_owned())]);
        let mut scanner = Scanner::new(PATHS, &[]);
        for _ in 0..1000 {
            scanner.take(&[b'\\', b'"'].repeat(1000), &mut |_, _| {});
            scanner.take(b"{\"usage\":", &mut |_, _| {});
        }
        let kept = scanner.string.capacity() + scanner.found.map_or(0, |found| found.value.capacity());
        assert!(kept <= 4 * VALUE_BYTES_MAX, "{kept}");
    }

    #[test]
    fn another_text_begins_anew() {
        let mut scanner = Scanner::new(PATHS, &["text"]);
        let mut found = Vec::new();
        for text in [r#"{"message":{"usage":{"text":"#, r#"{"usage":1,"text":"ab"#, r#"{"usage":3}"#] {
            scanner.take(text.as_bytes(), &mut |path, value| found.push((path, value.to_vec())));
            scanner.restart();
        }
        assert_eq!(found, [(0, b"1".to_vec()), (0, b"3".to_vec())]);
        assert_eq!(scanner.text_bytes(), 2);
    }

    /// Mostly of names that are wanted.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[a-z\"\\\\{}:,\\[\\]]{0,9}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            let name = prop_oneof!["(usage|message|response|text)", any::<String>()];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn it_finds_what_a_parser_finds(value in any_json(), pretty: bool, size in 1..40_usize) {
            let json = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            // A float may be read as its neighbour.
            let value: Value = serde_json::from_slice(&json).unwrap();
            let chunks: Vec<&[u8]> = json.chunks(size).collect();
            let (mut found, text_bytes) = scan(&chunks);
            prop_assert_eq!((&found, text_bytes), (&scan(&[&json]).0, scan(&[&json]).1));
            found.sort();
            let mut expected = Vec::new();
            for (at, path) in PATHS.iter().enumerate() {
                if let Some(value) = path.iter().try_fold(&value, |value, &name| value.as_object()?.get(name)) {
                    expected.push((at, value.clone()));
                }
            }
            let found: Vec<(usize, Value)> =
                found.iter().map(|(at, value)| (*at, serde_json::from_str(value).unwrap())).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn bytes_never_panic(text in r#"([{}\[\]:, "\\]|"usage"|"message"|1|\PC){0,60}"#, bytes: Vec<u8>, size in 1..9_usize) {
            for json in [text.as_bytes(), &bytes] {
                let chunks: Vec<&[u8]> = json.chunks(size).collect();
                prop_assert_eq!(scan(&chunks), scan(&[json]));
            }
        }
    }
}
