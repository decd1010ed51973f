//! What a rule says of requests: `GET+HEAD@api.example.com/repos/acme/*`. Pure.
//!
//! A rule with a method or a path is about requests that are read, by HTTP or within TLS that the gateway ends. `GET` is `HEAD`,
//! too. A path that ends in `*` is every path that begins so; one without is itself alone. Queries are no part of it.
//!
//! Invariant: two paths that a host could take for the same are the same here, or refused: see [`plain`].

use std::fmt;

/// Most methods of one rule.
const METHODS_MAX: usize = 10;
const METHOD_BYTES_MAX: usize = 20;

/// At least one of both is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asks {
    /// In upper case; none: all.
    methods: Vec<String>,
    path: Option<Path>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Path {
    One(String),
    Beginning(String),
}

impl Asks {
    /// `methods` stands before the `@`, `path` begins with its slash. `None`: they say nothing.
    pub fn read(methods: Option<&str>, path: Option<&str>) -> Result<Option<Self>, &'static str> {
        let methods = methods.map_or(Ok(Vec::new()), read_methods)?;
        let path = match path {
            Some("/*") | None => None,
            Some(path) => Some(read_path(path)?),
        };
        Ok((!methods.is_empty() || path.is_some()).then_some(Self { methods, path }))
    }

    /// `path` is one that [`plain`] gave.
    pub fn fit(&self, method: &str, path: &str) -> bool {
        let is_method =
            |one: &String| one.eq_ignore_ascii_case(method) || (one == "GET" && method.eq_ignore_ascii_case("HEAD"));
        let fits = self.methods.is_empty() || self.methods.iter().any(is_method);
        fits && match &self.path {
            None => true,
            Some(Path::One(one)) => one == path,
            Some(Path::Beginning(beginning)) => path.starts_with(beginning.as_str()),
        }
    }

    /// What stands before the host, and behind its ports.
    pub fn written(&self) -> (String, String) {
        let before = match self.methods.is_empty() {
            true => String::new(),
            false => format!("{}@", self.methods.join("+")),
        };
        (before, self.path.as_ref().map_or_else(String::new, Path::to_string))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(one) => out.write_str(one),
            Self::Beginning(beginning) => write!(out, "{beginning}*"),
        }
    }
}

fn read_methods(text: &str) -> Result<Vec<String>, &'static str> {
    let mut all = Vec::new();
    for one in text.split('+') {
        let plain = (1..=METHOD_BYTES_MAX).contains(&one.len()) && one.bytes().all(|byte| byte.is_ascii_uppercase());
        if !plain {
            return Err("before the @ stand methods, such as GET+POST@api.example.com; a rule has no user");
        }
        if !all.iter().any(|known| known == one) {
            all.push(one.to_owned());
        }
    }
    if all.len() > METHODS_MAX {
        return Err("it names more methods than there are");
    }
    Ok(all)
}

fn read_path(text: &str) -> Result<Path, &'static str> {
    let (path, is_beginning) = text.strip_suffix('*').map_or((text, false), |beginning| (beginning, true));
    if path.contains('*') {
        return Err("* stands at the end of a path alone, as in /repos/acme/*");
    }
    match plain(path) {
        Some(path) if is_beginning => Ok(Path::Beginning(path)),
        Some(path) => Ok(Path::One(path)),
        None => Err(
            "the path must be plain: no query, no empty parts, no `.` or `..`, and no encoded slashes or percent signs",
        ),
    }
}

/// A path with nothing encoded that need not be; `None` when hosts could take it for another: with `.`, `..` or empty parts,
/// backslashes, and encoded slashes, percent signs or control characters (RFC 3986, sections 2.4 and 6.2.2).
pub fn plain(path: &str) -> Option<String> {
    let mut whole = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let byte = hex(bytes.next()?)? << 4 | hex(bytes.next()?)?;
                match byte {
                    b'/' | b'\\' | b'%' | 0..0x20 | 0x7f => return None,
                    byte if is_unreserved(byte) => whole.push(byte.into()),
                    byte => whole.push_str(&format!("%{byte:02X}")),
                }
            }
            b'\\' | b'?' | b'#' => return None,
            byte if byte.is_ascii_graphic() => whole.push(byte.into()),
            _ => return None,
        }
    }
    let mut parts = whole.strip_prefix('/')?.split('/').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        if matches!(part, "." | "..") || (part.is_empty() && !is_last) {
            return None;
        }
    }
    Some(whole)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| value.try_into().ok())
}

/// Means the same encoded and not (RFC 3986, section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asks(methods: &str, path: &str) -> Asks {
        let some = |text: &'static str| Some(text).filter(|text| !text.is_empty());
        let (methods, path) = (methods.to_owned().leak(), path.to_owned().leak());
        Asks::read(some(methods), some(path)).unwrap().unwrap()
    }

    #[test]
    fn methods_and_paths_fit() {
        for (methods, rule, method, path, fits) in [
            ("GET", "", "GET", "/x", true),
            ("GET", "", "HEAD", "/x", true),
            ("GET", "", "get", "/x", true),
            ("GET", "", "POST", "/x", false),
            ("HEAD", "", "GET", "/x", false),
            ("GET+DELETE", "", "delete", "/", true),
            ("", "/repos/acme/*", "PUT", "/repos/acme/a", true),
            ("", "/repos/acme/*", "PUT", "/repos/acme/", true),
            ("", "/repos/acme/*", "PUT", "/repos/acme", false),
            ("", "/repos/acme*", "PUT", "/repos/acme-other", true),
            ("", "/user", "GET", "/user", true),
            ("", "/user", "GET", "/user/", false),
            ("", "/user", "GET", "/User", false),
            ("POST", "/v1/chat/completions", "POST", "/v1/chat/completions", true),
        ] {
            assert_eq!(asks(methods, rule).fit(method, path), fits, "{methods}@{rule}: {method} {path}");
        }
    }

    #[test]
    fn what_hosts_could_take_for_the_same_is_the_same_or_refused() {
        for (path, same) in [
            ("/a/b", Some("/a/b")),
            ("/a/", Some("/a/")),
            ("/", Some("/")),
            ("/%61/%7Eb", Some("/a/~b")),
            ("/a%20b%c3%a9", Some("/a%20b%C3%A9")),
            ("/a;b=c,d:e@f", Some("/a;b=c,d:e@f")),
            ("/a/../b", None),
            ("/a/%2e%2E/b", None),
            ("/a/.", None),
            ("/a//b", None),
            ("//a", None),
            ("/a%2fb", None),
            ("/a%5Cb", None),
            ("/a\\b", None),
            ("/a%2561", None),
            ("/a%", None),
            ("/a%6", None),
            ("/a%zz", None),
            ("/a%00", None),
            ("/a?b", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(plain(path).as_deref(), same, "{path}");
        }
    }

    #[test]
    fn what_says_nothing_is_nothing() {
        assert_eq!(Asks::read(None, Some("/*")), Ok(None));
        assert_eq!(Asks::read(None, None), Ok(None));
        for (methods, path) in [("git", "/a"), ("GET+", "/a"), ("GET", "/a/*/b"), ("GET", "/a/../b"), ("", "/a")] {
            assert!(Asks::read(Some(methods), Some(path)).is_err(), "{methods}@{path}");
        }
    }

    proptest! {
        #[test]
        fn plain_stays_plain(path in "/[a-c/%.*26e~]{0,20}") {
            if let Some(once) = plain(&path) {
                prop_assert_eq!(plain(&once), Some(once.clone()));
            }
        }
    }
}
