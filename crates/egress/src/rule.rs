//! One rule, as people write it: `github.com`, `*.github.com`, `db.example.com:5432`, `10.1.0.0/16:8000-8100`, `*:*`.
//!
//! Without ports a rule is about 80 and 443. `*.suffix` is every name below the suffix and not the suffix itself. A name
//! that has `*` anywhere else is refused. `*` alone is every name (and no address). An address or a range matches addresses
//! that are asked for, or that a name leads to, never names. Parsing, printing and parsing again gives the same.
//!
//! A rule may be about some requests alone ([`crate::asks`]): `GET@api.github.com/repos/acme/*`. Those are about names.
//!
//! ```text
//!   rule  = [methods "@"] to [":" ports] [path]        methods = method *("+" method)      path = "/" ... ["*"]
//!   to    = "*" | name | "*." name | address ["/" bits]     ports = "*" | port ["-" port]
//! ```
//!
//! IPv6 with ports is written `[2001:db8::1]:443` and `[2001:db8::/32]:443`. IPv4-mapped addresses and ranges are read as
//! the IPv4 ones that they mean.

use crate::address::canonical;
use crate::asks::Asks;
use crate::host::{Host, HostName, port};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The longest rule: a name of 253 bytes with `*.` and ports fits. Longer ones are refused.
pub const RULE_BYTES_MAX: usize = 300;
/// Bits in front of the IPv4 address in an IPv4-mapped one.
const MAPPED_BITS: u8 = 96;
/// What a rule without ports is about.
const WEB: [u16; 2] = [80, 443];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub to: To,
    pub ports: Ports,
    /// Which requests alone.
    pub asks: Option<Asks>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    AnyName,
    Name(HostName),
    /// Names below it.
    Below(HostName),
    Range(Range),
}

/// Addresses that begin with the same bits; no bit after them is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub base: IpAddr,
    pub bits: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// 80 and 443.
    Web,
    Any,
    /// Both ends belong to it.
    Between(u16, u16),
}

/// Which rule, and what is wrong with it, in words for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule:?}: {why}")]
pub struct BadRule {
    pub rule: String,
    pub why: &'static str,
}

impl Rule {
    /// Whether it is about this name at this port; ranges are about no name.
    pub fn matches_name(&self, name: &HostName, port: u16) -> bool {
        self.is_about(name) && self.ports.contain(port)
    }

    /// The same at some port.
    pub fn is_about(&self, name: &HostName) -> bool {
        match &self.to {
            To::AnyName => true,
            To::Name(one) => one == name,
            To::Below(suffix) => name.above().any(|above| above == suffix.as_str()),
            To::Range(_) => false,
        }
    }

    /// Whether it is about this address at this port; names are about no address. IPv4-mapped addresses are IPv4.
    pub fn matches_address(&self, address: IpAddr, port: u16) -> bool {
        matches!(self.to, To::Range(range) if range.contains(address)) && self.ports.contain(port)
    }
}

impl Ports {
    pub fn contain(self, port: u16) -> bool {
        match self {
            Self::Web => WEB.contains(&port),
            Self::Any => true,
            Self::Between(first, last) => (first..=last).contains(&port),
        }
    }
}

impl Range {
    /// IPv4 ranges hold IPv4-mapped addresses, too; IPv6 ranges hold none of them.
    pub fn contains(self, address: IpAddr) -> bool {
        let Self { base, bits } = self.canonical();
        let (differing, width) = match (base, canonical(address)) {
            (IpAddr::V4(base), IpAddr::V4(address)) => (u128::from(base.to_bits() ^ address.to_bits()), u32::BITS),
            (IpAddr::V6(base), IpAddr::V6(address)) => (base.to_bits() ^ address.to_bits(), u128::BITS),
            _ => return false,
        };
        // What differs must lie behind the prefix. `None`: the prefix is empty.
        let behind = width.saturating_sub(u32::from(bits));
        differing.checked_shr(behind).unwrap_or(0) == 0
    }

    fn canonical(self) -> Self {
        match canonical(self.base) {
            base @ IpAddr::V4(_) if self.base.is_ipv6() && self.bits >= MAPPED_BITS => {
                Self { base, bits: self.bits - MAPPED_BITS }
            }
            _ => self,
        }
    }

    fn one(address: IpAddr) -> Self {
        Self { base: address, bits: width(address) }.canonical()
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (methods, path) = self.asks.as_ref().map(Asks::written).unwrap_or_default();
        out.write_str(&methods)?;
        match (&self.to, self.ports) {
            (To::AnyName, _) => out.write_str("*")?,
            (To::Name(name), _) => name.fmt(out)?,
            (To::Below(suffix), _) => write!(out, "*.{suffix}")?,
            (To::Range(range), ports) if range.base.is_ipv6() && ports != Ports::Web => write!(out, "[{range}]")?,
            (To::Range(range), _) => range.fmt(out)?,
        }
        match self.ports {
            Ports::Web => Ok(()),
            Ports::Any => out.write_str(":*"),
            Ports::Between(first, last) if first == last => write!(out, ":{first}"),
            Ports::Between(first, last) => write!(out, ":{first}-{last}"),
        }?;
        out.write_str(&path)
    }
}

/// A single address is printed without its bits.
impl fmt::Display for Range {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, bits } = self;
        if *bits == width(*base) { base.fmt(out) } else { write!(out, "{base}/{bits}") }
    }
}

impl FromStr for Rule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        // What is repeated to its writer is as bounded as what is taken.
        let bad = |why| BadRule { rule: text.chars().take(RULE_BYTES_MAX).collect(), why };
        if text.len() > RULE_BYTES_MAX {
            return Err(bad("a rule is at most 300 characters long"));
        }
        refuse_what_looks_otherwise(text).map_err(bad)?;
        let (methods, rest) = text.split_once('@').map_or((None, text), |(methods, rest)| (Some(methods), rest));
        let (place, path) = split_path(rest);
        let asks = Asks::read(methods, path).map_err(bad)?;
        let (to, after) = split(place).map_err(bad)?;
        let ports = after.map_or(Ok(Ports::Web), ports).map_err(bad)?;
        let to = target(to).map_err(bad)?;
        if path.or(methods).is_some() && !matches!(to, To::Name(_) | To::Below(_)) {
            return Err(bad("methods and paths are for names, such as GET@api.example.com or *.example.com/v1/*"));
        }
        Ok(Self { to, ports, asks })
    }
}

/// What people paste instead of a rule, before a part of it gives a reason that helps less.
fn refuse_what_looks_otherwise(text: &str) -> Result<(), &'static str> {
    Err(match text {
        "" => "the rule is empty",
        _ if text.contains("://") => {
            "this is a URL: write the host alone, such as github.com, or with ports github.com:8443"
        }
        _ if text.contains(char::is_whitespace) => "a rule has no spaces: write one rule for each line",
        _ if text.contains(',') => "one rule is about one host and one range of ports: write a rule for each",
        _ => return Ok(()),
    })
}

/// Host and ports, and the path behind them. Behind an address the slash begins its bits.
fn split_path(text: &str) -> (&str, Option<&str>) {
    let Some(slash) = text.find('/') else { return (text, None) };
    let (place, path) = text.split_at(slash);
    let is_address = place.starts_with('[') || place.parse::<IpAddr>().is_ok();
    if is_address { (text, None) } else { (place, Some(path)) }
}

/// What it is about, without brackets, and its ports.
fn split(text: &str) -> Result<(String, Option<&str>), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, after) = rest.split_once(']').ok_or("the bracket around the IPv6 address is not closed")?;
        if !inner.contains(':') {
            return Err("brackets belong around IPv6 addresses only");
        }
        // `[2001:db8::]/32` is the same as `[2001:db8::/32]`.
        let (bits, ports) = after.split_once(':').map_or((after, None), |(bits, ports)| (bits, Some(ports)));
        if !bits.is_empty() && !bits.starts_with('/') {
            return Err("after the bracket come ports only, such as [2001:db8::1]:443");
        }
        return Ok((format!("{inner}{bits}"), ports));
    }
    // Bits have no colon, so that one after them begins the ports, also in IPv6.
    let end = match text.find('/') {
        Some(slash) => text[slash..].find(':').map(|colon| slash + colon),
        None if text.matches(':').nth(1).is_some() => None,
        None => text.find(':'),
    };
    Ok(match end {
        Some(end) => (text[..end].to_owned(), Some(&text[end + 1..])),
        None => (text.to_owned(), None),
    })
}

fn target(text: String) -> Result<To, &'static str> {
    if let Some((base, bits)) = text.split_once('/') {
        return range(base, bits).map(To::Range);
    }
    if text == "*" {
        return Ok(To::AnyName);
    }
    let (below, name) = text.strip_prefix("*.").map_or((false, text.as_str()), |suffix| (true, suffix));
    if name.contains('*') {
        return Err("* stands alone or in front, as in *.example.com: it is no part of a name");
    }
    match name.parse::<Host>() {
        Ok(Host::Name(suffix)) if below => Ok(To::Below(suffix)),
        Ok(Host::Address(_)) if below => Err("* has no place before an address: write a range, such as 10.1.0.0/16"),
        Ok(Host::Name(name)) => Ok(To::Name(name)),
        Ok(Host::Address(address)) => Ok(To::Range(Range::one(address))),
        Err(_) if name.contains(':') && !name.contains('%') => {
            Err("this is not an IPv6 address; with ports it is written [2001:db8::1]:443")
        }
        Err(bad) => Err(bad.0),
    }
}

fn range(base: &str, bits: &str) -> Result<Range, &'static str> {
    let Ok(base) = base.parse::<IpAddr>() else {
        return Err(match base.parse::<Host>() {
            Ok(_) => "a rule has no path: write the host alone, such as github.com",
            Err(_) => "before the / there is no address: a range is written such as 10.1.0.0/16",
        });
    };
    let plain = bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let bits = match bits.parse::<u8>() {
        Ok(bits) if plain && bits <= width(base) => bits,
        _ => return Err("after the / comes the number of bits, at most 32 for IPv4 and 128 for IPv6"),
    };
    let range = Range { base, bits };
    if !range.is_whole() {
        return Err("bits are set after the prefix: write the first address of the range, or the address without /");
    }
    Ok(range.canonical())
}

impl Range {
    fn is_whole(self) -> bool {
        let free = u32::from(width(self.base).saturating_sub(self.bits));
        match self.base {
            IpAddr::V4(base) => base.to_bits().trailing_zeros() >= free,
            IpAddr::V6(base) => base.to_bits().trailing_zeros() >= free,
        }
    }
}

fn ports(text: &str) -> Result<Ports, &'static str> {
    const WRONG: &str = "ports are * or numbers from 1 to 65535, such as 443 or 8000-8100";
    let one = |digits| if digits == "0" { Err("port 0 does not exist") } else { port(digits).ok_or(WRONG) };
    match text.split_once('-') {
        _ if text == "*" => Ok(Ports::Any),
        _ if text.is_empty() => Err("after the : there are no ports: leave it out, or write :* for all"),
        None => one(text).map(|port| Ports::Between(port, port)),
        Some((first, last)) => match (one(first)?, one(last)?) {
            (first, last) if first > last => Err("the first port is above the last: turn them round"),
            (first, last) => Ok(Ports::Between(first, last)),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(text: &str) -> Rule {
        text.parse().unwrap()
    }

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    #[test]
    fn rules_are_printed_as_they_are_best_written() {
        for (text, printed) in [
            ("github.com", "github.com"),
            ("GitHub.com.", "github.com"),
            ("localhost:3000", "localhost:3000"),
            ("*.github.com", "*.github.com"),
            ("*.github.com:*", "*.github.com:*"),
            ("GET+HEAD+GET@API.github.com/repos/acme/*", "GET+HEAD@api.github.com/repos/acme/*"),
            ("api.github.com:8443/%61", "api.github.com:8443/a"),
            ("POST@*.github.com", "POST@*.github.com"),
            ("github.com/*", "github.com"),
            ("github.com/", "github.com/"),
            ("db.example.com:5432", "db.example.com:5432"),
            ("*", "*"),
            ("*:*", "*:*"),
            ("*:25", "*:25"),
            ("a:443-443", "a:443"),
            ("a:1-65535", "a:1-65535"),
            ("10.1.0.0/16:8000-8100", "10.1.0.0/16:8000-8100"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("::/0:25", "[::/0]:25"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
            ("[2001:db8::]/32:443", "[2001:db8::/32]:443"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("[::ffff:10.0.0.1]:22", "10.0.0.1:22"),
        ] {
            assert_eq!(rule(text).to_string(), printed, "{text}");
            assert_eq!(rule(printed), rule(text), "{text}");
        }
    }

    #[test]
    fn the_reason_is_said() {
        for (text, reason) in [
            ("", "empty"),
            ("https://github.com", "URL"),
            ("https://github.com/a/b", "URL"),
            ("github.com/a/../b", "must be plain"),
            ("github.com/a?b", "must be plain"),
            ("10.1.0.0:80/a", "for names"),
            ("GET@10.1.0.0/16", "for names"),
            ("GET@*", "for names"),
            ("*/a", "for names"),
            ("get@github.com", "methods"),
            ("a b", "spaces"),
            ("a.example,b.example", "rule for each"),
            ("a:80,443", "rule for each"),
            ("git@github.com:a/b", "user"),
            ("a.*.b", "* stands alone"),
            ("*a.example", "* stands alone"),
            ("a.*", "* stands alone"),
            ("**", "* stands alone"),
            ("*.*", "* stands alone"),
            ("*.", "empty"),
            ("*.10.0.0.1", "range"),
            ("10.*", "* stands alone"),
            ("10.1/16", "four decimal numbers"),
            ("10.1.0.0/33", "number of bits"),
            ("10.1.0.0/", "number of bits"),
            ("10.1.0.0/016", "number of bits"),
            ("10.1.0.0/+8", "number of bits"),
            ("::/129", "number of bits"),
            ("10.1.0.1/16", "bits are set"),
            ("2001:db8::1/32", "bits are set"),
            ("10.1", "number"),
            ("0x7f.1", "number"),
            ("a:", "no ports"),
            ("a:0", "port 0"),
            ("a:0-80", "port 0"),
            ("a:99999", "65535"),
            ("a:http", "65535"),
            ("a:080", "65535"),
            ("a:1-2-3", "65535"),
            ("a:443-80", "turn them round"),
            (":80", "empty"),
            ("2001:db8::1:443:x", "[2001:db8::1]:443"),
            ("a:1:2", "[2001:db8::1]:443"),
            ("[::1", "closed"),
            ("[10.0.0.1]:80", "IPv6"),
            ("[::1]80", "after the bracket"),
            ("fe80::1%eth0", "zone"),
        ] {
            let bad = text.parse::<Rule>().unwrap_err();
            assert_eq!(bad.rule, text);
            assert!(bad.why.contains(reason), "{text:?}: {}", bad.why);
        }
        let bad = "\u{fc}".repeat(400).parse::<Rule>().unwrap_err();
        assert_eq!((bad.rule.chars().count(), bad.why), (300, "a rule is at most 300 characters long"));
    }

    #[test]
    fn the_longest_rule_fits() {
        let longest =
            format!("*.{}:10000-65535", ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join("."));
        assert_eq!(rule(&longest).to_string(), longest);
    }

    #[test]
    fn names_match() {
        for (text, host, port, matches) in [
            ("github.com", "github.com", 443, true),
            ("github.com", "github.com", 80, true),
            ("github.com", "github.com", 22, false),
            ("github.com", "api.github.com", 443, false),
            ("*.github.com", "api.github.com", 443, true),
            ("*.github.com", "a.b.github.com", 443, true),
            ("*.github.com", "github.com", 443, false),
            ("*.github.com", "evilgithub.com", 443, false),
            ("*.github.com", "github.com.evil.example", 443, false),
            ("*:*", "anything", 1, true),
            ("a:10-12", "a", 12, true),
            ("a:10-12", "a", 13, false),
            ("0.0.0.0/0:*", "a", 80, false),
        ] {
            assert_eq!(rule(text).matches_name(&name(host), port), matches, "{text} {host}:{port}");
        }
    }

    #[test]
    fn addresses_match() {
        for (text, address, matches) in [
            ("10.1.0.0/16", "10.1.255.255", true),
            ("10.1.0.0/16", "10.2.0.0", false),
            ("10.1.0.0/16", "::ffff:10.1.2.3", true),
            ("::ffff:10.1.0.0/112", "10.1.2.3", true),
            ("0.0.0.0/0", "255.0.0.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("::/0", "::ffff:10.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("*", "10.0.0.1", false),
        ] {
            assert_eq!(rule(text).matches_address(address.parse().unwrap(), 443), matches, "{text} {address}");
        }
        assert!(!rule("10.0.0.1").matches_address("10.0.0.1".parse().unwrap(), 22));
    }

    #[test]
    fn what_nobody_could_write_does_no_harm() {
        let base = "::ffff:10.0.0.0".parse().unwrap();
        assert!(Range { base, bits: 104 }.contains("10.9.9.9".parse().unwrap()));
        assert!(Range { base, bits: 255 }.contains("10.0.0.0".parse().unwrap()));
        assert!(!Range { base, bits: 255 }.contains("10.0.0.1".parse().unwrap()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn printing_and_reading_gives_the_same(
            text in r"\PC{0,12}|(\*\.)?[a-z0-9.*-]{1,10}(:[0-9*-]{1,5})?|[0-9a-f:\[\]]{2,9}(/[0-9]{1,3})?(:[1-9]{1,4})?"
        ) {
            if let Ok(rule) = text.parse::<Rule>() {
                prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
            }
        }

        #[test]
        fn ranges_print_and_hold_their_ends(bits: u128, v4: bool, prefix in 0u8..=128, first in 1u16.., last in 1u16..) {
            let (base, prefix, end) = if v4 {
                let (prefix, bits) = (prefix % 33, bits as u32);
                let mask = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                (IpAddr::from((bits & !mask).to_be_bytes()), prefix, IpAddr::from((bits | mask).to_be_bytes()))
            } else {
                let mask = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                (IpAddr::from((bits & !mask).to_be_bytes()), prefix, IpAddr::from((bits | mask).to_be_bytes()))
            };
            let ports = Ports::Between(first.min(last), first.max(last));
            let rule = Rule { to: To::Range(Range { base, bits: prefix }), ports, asks: None };
            prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule.clone()));
            prop_assert!(rule.matches_address(base, first) && rule.matches_address(end, last));
        }
    }
}
