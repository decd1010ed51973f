//! Hosts as requests name them: pure.
//!
//! Invariant: what is a name here is an address to no resolver, and the other way round. Whatever could be read in two ways
//! is refused, with the reason; nothing is guessed, decoded or cut off, but for upper case and one closing dot.
use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Longest name without its closing dot, and longest label (RFC 1035).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A name in lower case without a closing dot: LDH and underscore labels, 63 bytes each, 253 in all, ASCII (IDNs as
/// punycode). Never something that a resolver could read as an address (`127.1`, `0x7f.1`, `2130706433`): whose last label
/// is a number (decimal, octal or hexadecimal) is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    Name(HostName),
    /// Canonical dotted quad, or IPv6 with or without brackets; no zone.
    Address(IpAddr),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadHost(pub &'static str);

impl HostName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names above it, the nearest first: of `a.b.c`, `b.c` and `c`.
    pub fn above(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(parent(&self.0), |name| parent(name))
    }
}

fn parent(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, rest)| rest)
}

/// So that maps with names as keys are asked with parts of names. Equality, order and hash are those of the text.
impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// As in an authority: IPv6 in brackets.
impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(out),
            Self::Address(IpAddr::V4(address)) => address.fmt(out),
            Self::Address(IpAddr::V6(address)) => write!(out, "[{address}]"),
        }
    }
}

impl FromStr for Host {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').ok_or(BadHost("the bracket around the IPv6 address is not closed"))?;
            return v6(inner);
        }
        // Whatever has two colons can only have been meant as IPv6; one colon is a port, refused as a character.
        if text.matches(':').nth(1).is_some() {
            return v6(text);
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        text.parse().map(Self::Name)
    }
}

fn v6(text: &str) -> Result<Host, BadHost> {
    if text.contains('%') {
        return Err(BadHost("an IPv6 zone (after %) has no meaning here"));
    }
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Ok(Host::Address(address.into())),
        Err(_) => Err(BadHost("this is not an IPv6 address")),
    }
}

impl FromStr for HostName {
    type Err = BadHost;

    /// Refuses addresses.
    fn from_str(text: &str) -> Result<Self, BadHost> {
        if text.is_empty() {
            return Err(BadHost("the host is empty"));
        }
        text.chars().try_for_each(allowed)?;
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() > NAME_BYTES_MAX {
            return Err(BadHost("the host is longer than 253 characters"));
        }
        name.split('.').try_for_each(label)?;
        if name.rsplit('.').next().is_some_and(is_number) {
            return Err(BadHost(
                "the last part is a number, so this could be read as an address; write an IPv4 address as four decimal \
                 numbers, such as 192.0.2.1",
            ));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

fn allowed(character: char) -> Result<(), BadHost> {
    Err(BadHost(match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => return Ok(()),
        '%' => "a host has no %: neither encoded characters nor a zone",
        '@' => "a host has no @: leave out the user",
        '/' | '\\' | '?' | '#' => "a host has no path, query or fragment: leave it out",
        ':' => "a port has no place in a host",
        '[' | ']' => "brackets belong around a whole IPv6 address only",
        '*' => "a host has no *",
        _ if character.is_whitespace() => "a host has no spaces",
        _ if character.is_control() => "a host has no control characters",
        _ if !character.is_ascii() => "only ASCII: write an international name in punycode (xn--...)",
        _ => "a host has letters, digits, hyphens, underscores and dots only",
    }))
}

fn label(label: &str) -> Result<(), BadHost> {
    if label.is_empty() {
        return Err(BadHost("a part between the dots is empty"));
    }
    if label.len() > LABEL_BYTES_MAX {
        return Err(BadHost("a part between the dots is longer than 63 characters"));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(BadHost("a part between the dots begins or ends with a hyphen"));
    }
    Ok(())
}

/// What `inet_aton` and URL parsers take for a number: digits (decimal, or octal with a zero in front), or `0x` with any
/// hexadecimal digits, none included.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// `host:port`, as in a CONNECT request and a `Host` header: the port is required when `default` is `None`. IPv6 only in
/// brackets, since a port could not be told from its end. Ports from 1 on, without zeros in front.
pub fn authority(text: &str, default: Option<u16>) -> Result<(Host, u16), BadHost> {
    let end = match text.strip_prefix('[') {
        Some(_) => text.find(']').ok_or(BadHost("the bracket around the IPv6 address is not closed"))? + 1,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, after) = text.split_at(end);
    let port = match after.strip_prefix(':') {
        // Before the port is looked at: `fe80::1` is no bad port but an address without brackets.
        Some(rest) if rest.contains(':') && !host.starts_with('[') => {
            return Err(BadHost("an IPv6 address needs brackets here, such as [2001:db8::1]:443"));
        }
        Some(digits) => port(digits).ok_or(BadHost("the port is not a number from 1 to 65535"))?,
        None if after.is_empty() => default.ok_or(BadHost("the port is missing"))?,
        None => return Err(BadHost("after the brackets there is something that is not a port")),
    };
    Ok((host.parse()?, port))
}

/// 1 to 65535 in decimal digits, without zeros in front.
pub(crate) fn port(digits: &str) -> Option<u16> {
    // `parse` takes a plus sign, too.
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> &'static str {
        text.parse::<Host>().map(|host| panic!("{text:?} was read as {host}")).unwrap_err().0
    }

    #[test]
    fn names_are_folded() {
        for (text, name) in [
            ("GitHub.COM", "github.com"),
            ("github.com.", "github.com"),
            ("localhost", "localhost"),
            ("_dmarc.a-b.example", "_dmarc.a-b.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("1.2.3.example", "1.2.3.example"),
            ("0x7f.example", "0x7f.example"),
            ("127.0.0.1.nip.io", "127.0.0.1.nip.io"),
            ("0xg", "0xg"),
            ("3com", "3com"),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn addresses_are_addresses() {
        for (text, printed) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("::ffff:1.2.3.4", "[::ffff:1.2.3.4]"),
        ] {
            let host: Host = text.parse().unwrap();
            assert!(matches!(host, Host::Address(_)));
            assert_eq!(host.to_string(), printed);
        }
        assert!("127.0.0.1".parse::<HostName>().is_err());
    }

    #[test]
    fn what_a_resolver_reads_as_an_address_is_refused() {
        for text in
            "127.1 127.0.1 2130706433 0177.0.0.1 017700000001 0x7f.1 0x7f000001 0X7F.0.0.1 0x 0X a.0x 127.0.0.0x1 \
                     1.2.3.4. 01.2.3.4 1.2.3.04 256.1.1.1 1.2.3.4.5 example.1 0 00 08 example.0xff. 127.0.0.1.0"
                .split_whitespace()
        {
            assert!(refused(text).contains("read as an address"), "{text}");
        }
    }

    #[test]
    fn the_reason_is_said() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long = format!("{}a", "a.".repeat(127));
        for (text, reason) in [
            ("", "empty"),
            (".", "part between the dots is empty"),
            ("a..b", "part between the dots is empty"),
            (".a", "part between the dots is empty"),
            ("a..", "part between the dots is empty"),
            ("a b", "spaces"),
            (" a", "spaces"),
            ("a\t", "spaces"),
            ("a\0b", "control"),
            ("a%2eb", "%"),
            ("user@a", "user"),
            ("a/b", "path"),
            ("a\\b", "path"),
            ("a#b", "fragment"),
            ("b\u{fc}cher.example", "punycode"),
            ("a\u{3002}b", "punycode"),
            ("*.a", "*"),
            ("a:80", "port"),
            ("-a.b", "hyphen"),
            ("a-.b", "hyphen"),
            ("a!b", "letters"),
            ("[::1", "closed"),
            ("[::1]x", "closed"),
            ("[1.2.3.4]", "IPv6"),
            ("[a]", "IPv6"),
            ("a]", "brackets"),
            ("fe80::1%eth0", "zone"),
            ("[fe80::1%25eth0]", "zone"),
            ("1:2:3", "IPv6"),
            (&long_label, "63"),
            (&long, "253"),
        ] {
            assert!(refused(text).contains(reason), "{text:?}: {}", refused(text));
        }
        assert!(format!("{}.", &long[2..]).parse::<Host>().is_ok(), "253 and a closing dot");
    }

    #[test]
    fn authorities() {
        let read = |text: &str, default| authority(text, default).map(|(host, port)| (host.to_string(), port));
        for (text, default, host, port) in [
            ("github.com:22", None, "github.com", 22),
            ("github.com", Some(80), "github.com", 80),
            ("GitHub.com.:443", Some(80), "github.com", 443),
            ("1.2.3.4:65535", None, "1.2.3.4", 65535),
            ("[::1]:1", None, "[::1]", 1),
            ("[::1]", Some(443), "[::1]", 443),
        ] {
            assert_eq!(read(text, default), Ok((host.to_owned(), port)));
        }
        for (text, reason) in [
            ("github.com", "missing"),
            ("", "missing"),
            ("[::1]", "missing"),
            (":80", "empty"),
            ("a:", "65535"),
            ("a:0", "65535"),
            ("a:080", "65535"),
            ("a:+80", "65535"),
            ("a:-1", "65535"),
            ("a:65536", "65535"),
            ("a:80 ", "65535"),
            ("[::1]:80:80", "65535"),
            ("::1", "brackets"),
            ("a:80:80", "brackets"),
            ("[::1]80", "brackets"),
            ("[::1", "closed"),
            ("u@a:80", "user"),
            ("http://a", "65535"),
            ("127.1:80", "address"),
        ] {
            let bad = authority(text, None).unwrap_err().0;
            assert!(bad.contains(reason), "{text:?}: {bad}");
        }
    }

    #[test]
    fn names_above() {
        let name: HostName = "a.b.c".parse().unwrap();
        assert_eq!(name.above().collect::<Vec<_>>(), ["b.c", "c"]);
        assert_eq!("c".parse::<HostName>().unwrap().above().count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn printing_and_reading_gives_the_same(text in "\\PC{0,12}|[a-zA-Z0-9_.:x\\[\\]-]{0,24}", default: Option<u16>) {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.to_string().parse::<Host>(), Ok(host));
            }
            if let Ok((host, port)) = authority(&text, default) {
                prop_assert_eq!(authority(&format!("{host}:{port}"), None).is_ok(), port != 0);
            }
        }

        #[test]
        fn a_name_is_never_what_a_resolver_reads_as_numbers(
            parts in prop::collection::vec("[0-9]{1,10}|0[xX][0-9a-fA-F]{0,8}", 1..6), dot in "\\.?"
        ) {
            let text = format!("{}{dot}", parts.join("."));
            prop_assert!(!matches!(text.parse::<Host>(), Ok(Host::Name(_))), "{}", text);
        }

        #[test]
        fn all_addresses_survive(address: IpAddr) {
            prop_assert_eq!(address.to_string().parse::<Host>(), Ok(Host::Address(address)));
        }
    }
}
