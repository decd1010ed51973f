//! What may pass between a visitor and a workspace, header by header: pure.
//!
//! Invariants. Nothing that signs anyone in to this server reaches a workspace: neither our cookies
//! nor our tokens. Nothing a workspace answers sets a cookie of ours or of a parent domain, or speaks
//! to the proxies before us. Headers that are about one connection stay on it (RFC 9110, section 7.6.1).

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use rexec_api::frames::TOKEN_SUBPROTOCOL_PREFIX;
use std::net::IpAddr;

/// About one connection, or settled by us with each side.
const HOP_BY_HOP: [&str; 12] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Whom a request comes from, which is ours to say.
const CLIENT_ADDRESSES: [&str; 6] =
    ["cf-connecting-ip", "client-ip", "forwarded", "true-client-ip", "x-client-ip", "x-real-ip"];
/// Orders to a proxy before us, promises for the whole host, and hints to go around us.
const NOT_A_WORKSPACES: [&str; 13] = [
    "alt-svc",
    // It reaches sites beside the preview's.
    "clear-site-data",
    "public-key-pins",
    "strict-transport-security",
    "x-accel-buffering",
    "x-accel-charset",
    "x-accel-expires",
    "x-accel-limit-rate",
    "x-accel-redirect",
    "x-lighttpd-send-file",
    "x-reproxy-url",
    "x-sendfile",
    "x-sendfile2",
];
/// What else is of no use, or of bad use, behind a body.
const NEVER_TRAILERS: [&str; 6] =
    ["authorization", "clear-site-data", "content-length", "cookie", "host", "set-cookie"];

/// The visitor's side of a request.
#[derive(Debug, Clone)]
pub struct Visitor {
    pub address: IpAddr,
    pub https: bool,
    /// As the visitor's `Host` said it.
    pub host: String,
}

/// Whether the workspace's origin shares its host name with the application's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostSharing {
    Own,
    /// Only the port differs, which cookies ignore.
    Shared,
}

/// The protocol that a request asks to switch to, if any.
pub fn upgrade(parts: &Parts) -> Option<HeaderValue> {
    let asked = parts.version == Version::HTTP_11 && parts.method == Method::GET;
    let named = tokens(&parts.headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    parts.headers.get(header::UPGRADE).filter(|_| asked && named).cloned()
}

/// Makes a visitor's request one for the workspace. `is_ours` knows tokens of this server.
pub fn toward_workspace(parts: &mut Parts, visitor: &Visitor, is_ours: impl Fn(&str) -> bool) {
    let upgrade = upgrade(parts);
    let headers = &mut parts.headers;
    strip_hop_by_hop(headers);
    let named: Vec<HeaderName> = headers.keys().filter(|name| says_who(name.as_str())).cloned().collect();
    for name in named {
        headers.remove(name);
    }
    strip_credentials(headers, is_ours);
    headers.remove(header::CONTENT_LENGTH);
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    let scheme = if visitor.https { "https" } else { "http" };
    let (_, port) = super::address::split(&visitor.host);
    let address = visitor.address;
    set("host", visitor.host.clone());
    set("x-forwarded-for", address.to_string());
    set("x-forwarded-host", visitor.host.clone());
    set("x-forwarded-port", port.unwrap_or(if visitor.https { 443 } else { 80 }).to_string());
    set("x-forwarded-proto", scheme.into());
    let node = if address.is_ipv6() { format!("\"[{address}]\"") } else { address.to_string() };
    set("forwarded", format!("for={node};host=\"{}\";proto={scheme}", visitor.host));
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    parts.uri = target.parse().unwrap_or_else(|_| http::Uri::from_static("/"));
    parts.version = Version::HTTP_11;
}

/// Makes a workspace's answer one for the visitor.
pub fn toward_visitor(headers: &mut HeaderMap, host: &str) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    for name in NOT_A_WORKSPACES {
        headers.remove(name);
    }
    let (name, _) = super::address::split(host);
    let kept: Vec<HeaderValue> =
        headers.get_all(header::SET_COOKIE).iter().filter(|value| may_set(value.as_bytes(), name)).cloned().collect();
    headers.remove(header::SET_COOKIE);
    for value in kept {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Takes out of trailers, whichever way they go, what is judged or ours to say as a header: whoever joins
/// trailers to the headers would read it there (RFC 9110, section 6.5.1).
pub fn strip_trailers(trailers: &mut HeaderMap) {
    let judged = |name: &str| {
        NEVER_TRAILERS.contains(&name)
            || HOP_BY_HOP.contains(&name)
            || NOT_A_WORKSPACES.contains(&name)
            || says_who(name)
    };
    let named: Vec<HeaderName> = trailers.keys().filter(|name| judged(name.as_str())).cloned().collect();
    for name in named {
        trailers.remove(name);
    }
}

/// Whether a cookie is one of this server's own: none that a workspace may read or set.
pub fn is_our_cookie(name: &str) -> bool {
    let lower = name.trim().to_ascii_lowercase();
    let plain = lower.strip_prefix("__host-").or_else(|| lower.strip_prefix("__secure-")).unwrap_or(&lower);
    plain == "rexec" || plain.starts_with("rexec-preview")
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        tokens(headers, header::CONNECTION).filter_map(|token| token.parse().ok()).filter(may_be_named).collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// A sender may declare what is for one hop only, but not take away what the request is about.
fn may_be_named(name: &HeaderName) -> bool {
    !matches!(*name, header::HOST | header::COOKIE | header::SET_COOKIE | header::AUTHORIZATION | header::CONTENT_TYPE)
}

/// Servers that pass headers on as variables take `X_Forwarded_For` for `X-Forwarded-For`.
fn says_who(name: &str) -> bool {
    let name = name.replace('_', "-");
    name.starts_with("x-forwarded-") || CLIENT_ADDRESSES.contains(&name.as_str())
}

fn strip_credentials(headers: &mut HeaderMap, is_ours: impl Fn(&str) -> bool) {
    let said = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    if said.filter_map(bearer).any(&is_ours) {
        headers.remove(header::AUTHORIZATION);
    }
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let foreign = lines.flat_map(|line| line.split(';')).map(str::trim).filter(|pair| !pair.is_empty());
    let foreign = foreign.filter(|pair| !is_our_cookie(pair.split_once('=').map_or(*pair, |(name, _)| name)));
    let cookies = foreign.collect::<Vec<_>>().join("; ");
    replace(headers, header::COOKIE, &cookies);
    let offered = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL);
    let protocols = offered.filter(|token| !token.starts_with(TOKEN_SUBPROTOCOL_PREFIX)).collect::<Vec<_>>().join(", ");
    replace(headers, header::SEC_WEBSOCKET_PROTOCOL, &protocols);
}

/// The token of `Bearer <token>`.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn replace(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    headers.remove(&name);
    if let Ok(value) = HeaderValue::from_str(value)
        && !value.is_empty()
    {
        headers.insert(name, value);
    }
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Judges `Set-Cookie` as browsers read it (RFC 6265bis, section 5.6). A cookie without a name is
/// refused: it would come back looking like one with a name.
fn may_set(value: &[u8], host: &str) -> bool {
    let text = String::from_utf8_lossy(value);
    let mut parts = text.split(';');
    let (name, _) = parts.next().unwrap_or_default().split_once('=').unwrap_or_default();
    if name.trim().is_empty() || is_our_cookie(name) {
        return false;
    }
    parts.filter_map(|attribute| attribute.split_once('=')).all(|(attribute, domain)| {
        let domain = domain.trim().trim_start_matches('.').to_ascii_lowercase();
        !attribute.trim().eq_ignore_ascii_case("domain") || domain.is_empty() || domain == host
    })
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
