//! Secrets that a workspace uses and never has: inside stands a placeholder, and its value takes the placeholder's place in
//! requests to the hosts that it is bound to.
//!
//! ```text
//!   request   authorization: Bearer <placeholder>  -> Secrets::put_in   -> Bearer <value>       bound headers alone
//!   answer    x-echo: <value>                      -> Secrets::take_out -> x-echo: <placeholder>     every header
//! ```
//!
//! Invariants: a value is put into nothing but a header that it is bound to, of a request to a host that it is bound to;
//! what it is bound to is a name, never an address. Bodies are not touched, in neither direction.

use crate::asks;
use crate::host::Host;
use crate::rule::{Rule, To};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

/// Where requests are not encrypted, nothing is put in.
const HTTP_PORT: u16 = 80;
/// How credentials of a name and a password begin (RFC 7617).
const BASIC: &[u8] = b"Basic ";

/// One of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// What its keeper calls it; only passed on.
    pub id: String,
    pub placeholder: String,
    pub value: String,
    /// Names and what is below names, perhaps for some requests alone.
    pub hosts: Vec<Rule>,
    pub headers: Vec<HeaderName>,
}

/// Without what is secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.id)
    }
}

/// All of one workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// Those whose placeholder is not as long as the value are none: what is put in makes nothing longer, however often.
    pub fn new(mut all: Vec<Secret>) -> Self {
        all.retain(|secret| !secret.value.is_empty() && secret.placeholder.len() == secret.value.len());
        Self(all)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any of them is for this host, so that its requests are read.
    pub fn are_for(&self, host: &Host, port: u16) -> bool {
        self.of(host, port).next().is_some()
    }

    /// Whether any of them is for some requests there alone.
    pub fn judge(&self, host: &Host, port: u16) -> bool {
        self.0.iter().flat_map(|secret| secret.bound_to(host, port)).any(|rule| rule.asks.is_some())
    }

    fn of<'a>(&'a self, host: &'a Host, port: u16) -> impl Iterator<Item = &'a Secret> {
        self.0.iter().filter(move |secret| secret.is_for(host, port))
    }

    /// Puts values in the place of placeholders; which ones it was. `asked` are method and path.
    pub fn put_in(&self, host: &Host, port: u16, asked: (&str, &str), headers: &mut HeaderMap) -> Vec<String> {
        let mut used = Vec::new();
        for secret in self.of(host, port).filter(|secret| secret.is_for_request(host, port, asked)) {
            let mut is_used = false;
            for (_, value) in headers.iter_mut().filter(|(name, _)| secret.headers.contains(name)) {
                is_used |= exchange(value, &secret.placeholder, &secret.value);
            }
            if is_used {
                used.push(secret.id.clone());
            }
        }
        used
    }

    /// Puts placeholders in the place of values, wherever the host says them again.
    pub fn take_out(&self, host: &Host, port: u16, headers: &mut HeaderMap) {
        for secret in self.of(host, port) {
            for value in headers.values_mut() {
                exchange(value, &secret.value, &secret.placeholder);
            }
        }
    }
}

impl Secret {
    fn is_for(&self, host: &Host, port: u16) -> bool {
        self.bound_to(host, port).next().is_some()
    }

    /// A path that could be taken for another fits no rule that names one.
    fn is_for_request(&self, host: &Host, port: u16, (method, path): (&str, &str)) -> bool {
        let path = asks::plain(path);
        self.bound_to(host, port).any(|rule| match (&rule.asks, &path) {
            (None, _) => true,
            (Some(asks), Some(path)) => asks.fit(method, path),
            (Some(_), None) => false,
        })
    }

    fn bound_to<'a>(&'a self, host: &'a Host, port: u16) -> impl Iterator<Item = &'a Rule> {
        let is_it = move |rule: &&Rule| match (host, &rule.to) {
            (Host::Name(name), To::Name(_) | To::Below(_)) => port != HTTP_PORT && rule.matches_name(name, port),
            _ => false,
        };
        self.hosts.iter().filter(is_it)
    }
}

/// One text for another in a header's value, also in what it says in base64. `false`: it is not there.
pub fn exchange(value: &mut HeaderValue, from: &str, to: &str) -> bool {
    let text = value.as_bytes();
    let changed = replaced(text, from.as_bytes(), to.as_bytes()).or_else(|| in_basic(text, from, to));
    let Some(mut changed) = changed.and_then(|text| HeaderValue::from_bytes(&text).ok()) else { return false };
    changed.set_sensitive(true);
    *value = changed;
    true
}

/// Within a name and a password.
pub fn in_basic(text: &[u8], from: &str, to: &str) -> Option<Vec<u8>> {
    let (scheme, pair) = text.split_at_checked(BASIC.len())?;
    if !scheme.eq_ignore_ascii_case(BASIC) {
        return None;
    }
    let pair = STANDARD.decode(pair.trim_ascii()).ok()?;
    let pair = replaced(&pair, from.as_bytes(), to.as_bytes())?;
    Some([BASIC, STANDARD.encode(pair).as_bytes()].concat())
}

/// `None`: it is not there.
fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let mut at = find(text, from)?;
    let (mut rest, mut whole) = (text, Vec::with_capacity(text.len() + to.len()));
    loop {
        whole.extend_from_slice(&rest[..at]);
        whole.extend_from_slice(to);
        rest = &rest[at + from.len()..];
        match find(rest, from) {
            Some(next) => at = next,
            None => break,
        }
    }
    whole.extend_from_slice(rest);
    Some(whole)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|part| part == what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::header::AUTHORIZATION;

    const ASKED: (&str, &str) = ("GET", "/v1/models");
    const PLACEHOLDER: &str = "sk-kR2vQ8mZt1LcX4bN";
    const VALUE: &str = "sk-realrealrealreal";

    fn secrets() -> Secrets {
        Secrets::new(vec![Secret {
            id: "one".into(),
            placeholder: PLACEHOLDER.into(),
            value: VALUE.into(),
            hosts: vec!["api.example".parse().unwrap(), "*.models.example:443".parse().unwrap()],
            headers: vec![AUTHORIZATION, HeaderName::from_static("x-api-key")],
        }])
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn host(name: &str) -> Host {
        name.parse().unwrap()
    }

    #[test]
    fn a_value_is_put_in_where_it_is_bound_and_nowhere_else() {
        let bearer = format!("Bearer {PLACEHOLDER}");
        let sent = headers(&[("authorization", &bearer), ("x-api-key", PLACEHOLDER), ("x-request-id", PLACEHOLDER)]);
        let mut to = sent.clone();
        assert_eq!(secrets().put_in(&host("api.example"), 443, ASKED, &mut to), ["one"]);
        let real = format!("Bearer {VALUE}");
        assert_eq!(to, headers(&[("authorization", &real), ("x-api-key", VALUE), ("x-request-id", PLACEHOLDER)]));
        assert!(to[AUTHORIZATION].is_sensitive());
        for (name, port) in [
            ("api.example", 80),
            ("api.example", 8443),
            ("other.example", 443),
            ("models.example", 443),
            ("192.0.2.1", 443),
        ] {
            let mut to = sent.clone();
            assert!(secrets().put_in(&host(name), port, ASKED, &mut to).is_empty(), "{name}:{port}");
            assert_eq!(to, sent);
            assert!(!secrets().are_for(&host(name), port));
        }
        assert!(secrets().are_for(&host("a.b.models.example"), 443));
    }

    #[test]
    fn it_may_be_for_some_requests_alone() {
        let mut all = secrets();
        all.0[0].hosts = vec!["GET@api.example/repos/acme/*".parse().unwrap()];
        assert!(all.are_for(&host("api.example"), 443), "which are read to know them");
        assert!(all.judge(&host("api.example"), 443) && !all.judge(&host("b.example"), 443));
        assert!(!secrets().judge(&host("api.example"), 443));
        for (method, path, is_put_in) in [
            ("GET", "/repos/acme/a", true),
            ("GET", "/repos/%61cme/a", true),
            ("POST", "/repos/acme/a", false),
            ("GET", "/repos/other/a", false),
            ("GET", "/repos/acme/../other/a", false),
            ("GET", "/repos/acme/%2e%2e/other/a", false),
        ] {
            let mut to = headers(&[("x-api-key", PLACEHOLDER)]);
            assert_eq!(all.put_in(&host("api.example"), 443, (method, path), &mut to).len(), usize::from(is_put_in));
            assert_eq!(to["x-api-key"], if is_put_in { VALUE } else { PLACEHOLDER }, "{method} {path}");
        }
    }

    #[test]
    fn a_password_is_found_in_base64() {
        let pair = |password: &str| format!("basic {}", STANDARD.encode(format!("me:{password}")));
        let mut to = headers(&[("authorization", &pair(PLACEHOLDER))]);
        secrets().put_in(&host("api.example"), 443, ASKED, &mut to);
        assert_eq!(to, headers(&[("authorization", &pair(VALUE).replace("basic", "Basic"))]));
        let odd = headers(&[("authorization", "Basic %%%"), ("x-api-key", "none")]);
        let mut to = odd.clone();
        assert!(secrets().put_in(&host("api.example"), 443, ASKED, &mut to).is_empty());
        assert_eq!(to, odd);
    }

    #[test]
    fn what_is_said_again_is_taken_out() {
        let twice = format!("{VALUE}, {VALUE}");
        let mut said = headers(&[("x-echo", &twice), ("location", &format!("/?key={VALUE}")), ("server", "one")]);
        secrets().take_out(&host("api.example"), 443, &mut said);
        let basic = |of: &str| format!("Basic {}", STANDARD.encode(format!("me:{of}")));
        let mut coded = headers(&[("x-echo", &basic(VALUE))]);
        secrets().take_out(&host("api.example"), 443, &mut coded);
        assert_eq!(coded["x-echo"], basic(PLACEHOLDER));
        let expected = format!("{PLACEHOLDER}, {PLACEHOLDER}");
        assert_eq!(said["x-echo"], expected);
        assert_eq!(said["location"], format!("/?key={PLACEHOLDER}"));
        assert_eq!(said["server"], "one");
    }

    #[test]
    fn a_range_and_every_name_bind_nothing() {
        let mut all = secrets();
        all.0[0].hosts = vec!["*".parse().unwrap(), "0.0.0.0/0".parse().unwrap()];
        assert!(!all.are_for(&host("api.example"), 443) && !all.are_for(&host("192.0.2.1"), 443));
        assert!(!format!("{all:?}").contains(VALUE));
    }
}
