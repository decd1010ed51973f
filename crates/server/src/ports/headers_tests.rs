#![allow(clippy::unwrap_used)]

use super::*;
use http::Request;
use proptest::prelude::*;

fn visitor() -> Visitor {
    Visitor { address: "203.0.113.7".parse().unwrap(), https: true, host: "80-x.preview.example.com:8443".into() }
}

/// What becomes of a request with these headers.
fn passed(headers: &[(&str, &str)]) -> HeaderMap {
    let mut request = Request::builder().uri("https://80-x.preview.example.com:8443/a?b=c");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    toward_workspace(&mut parts, &visitor(), |token| token == "ours");
    assert_eq!(parts.uri.to_string(), "/a?b=c");
    parts.headers
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn who_asks_is_ours_to_say() {
    let headers = passed(&[
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("X_Forwarded_For", "8.8.8.8"),
        ("x-forwarded-prefix", "/evil"),
        ("x-real-ip", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
        ("host", "evil.example"),
    ]);
    assert_eq!(text(&headers, "x-forwarded-for"), ["203.0.113.7"]);
    assert_eq!(text(&headers, "host"), ["80-x.preview.example.com:8443"]);
    assert_eq!(text(&headers, "x-forwarded-proto"), ["https"]);
    assert_eq!(text(&headers, "x-forwarded-port"), ["8443"]);
    assert_eq!(text(&headers, "forwarded"), ["for=203.0.113.7;host=\"80-x.preview.example.com:8443\";proto=https"]);
    for gone in ["x_forwarded_for", "x-forwarded-prefix", "x-real-ip"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
}

#[test]
fn what_is_about_a_connection_stays_on_it() {
    let headers = passed(&[
        ("connection", "close, X-Private , cookie"),
        ("x-private", "1"),
        ("cookie", "theirs=1"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("te", "trailers"),
        ("expect", "100-continue"),
        ("proxy-authorization", "Basic x"),
        ("upgrade", "websocket"),
    ]);
    for gone in [
        "connection",
        "x-private",
        "transfer-encoding",
        "content-length",
        "te",
        "expect",
        "proxy-authorization",
        "upgrade",
    ] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(text(&headers, "cookie"), ["theirs=1"]);
    let socket = passed(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
    assert_eq!((text(&socket, "connection"), text(&socket, "upgrade")), (vec!["upgrade"], vec!["websocket"]));
}

#[test]
fn what_signs_in_to_this_server_goes_no_further() {
    let headers = passed(&[
        ("cookie", "a=1; __Host-rexec=secret;rexec=secret"),
        ("cookie", "rexec-preview-20000=secret; b=2; __host-REXEC=x; rexecs=mine"),
        ("authorization", "bearer ours"),
        ("sec-websocket-protocol", "chat, rexec.token.secret"),
        ("sec-websocket-protocol", "rexec.token.other"),
    ]);
    assert_eq!(text(&headers, "cookie"), ["a=1; b=2; rexecs=mine"]);
    assert!(!headers.contains_key("authorization"));
    assert_eq!(text(&headers, "sec-websocket-protocol"), ["chat"]);
    let theirs = passed(&[("authorization", "Bearer theirs"), ("cookie", "rexec=1")]);
    assert_eq!(text(&theirs, "authorization"), ["Bearer theirs"]);
    let second = passed(&[("authorization", "Bearer theirs"), ("authorization", "Bearer ours")]);
    assert!(!second.contains_key("authorization"), "ours is looked for in every line");
    assert!(!theirs.contains_key("cookie"));
}

#[test]
fn a_workspace_sets_cookies_for_itself_alone() {
    let host = "80-x.preview.example.com:8443";
    let mut headers = HeaderMap::new();
    let good = ["a=1", "b=2; Path=/; Domain=80-x.preview.example.com", "c=3; domain=", "d=\u{e9}"];
    let bad = [
        "rexec=1",
        " __Host-Rexec =1; Secure",
        "rexec-preview=1",
        "=rexec=1",
        "rexec",
        "e=1; Domain=preview.example.com",
        "e=1; domain = .EXAMPLE.com; Path=/",
        "e=1; Domain=80-x.preview.example.com; Domain=example.com",
    ];
    for value in good.iter().chain(&bad) {
        headers.append("set-cookie", HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    for name in ["strict-transport-security", "x-accel-redirect", "alt-svc", "connection", "clear-site-data"] {
        headers.insert(name, HeaderValue::from_static("x"));
    }
    headers.insert("content-length", HeaderValue::from_static("5"));
    headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
    toward_visitor(&mut headers, host);
    let kept: Vec<_> = headers.get_all("set-cookie").iter().map(|value| value.as_bytes().to_vec()).collect();
    assert_eq!(kept, good.map(|value| value.as_bytes().to_vec()));
    let left: Vec<_> = headers.keys().map(|name| name.as_str()).filter(|name| *name != "set-cookie").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn trailers_say_nothing_that_headers_may_not() {
    let mut trailers = HeaderMap::new();
    let gone = ["set-cookie", "cookie", "authorization", "x_forwarded_for", "alt-svc", "connection", "content-length"];
    for name in ["grpc-status", "grpc-message", "x-their-own"].iter().chain(&gone) {
        trailers.append(*name, HeaderValue::from_static("x"));
    }
    strip_trailers(&mut trailers);
    let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["grpc-message", "grpc-status", "x-their-own"]);
}

proptest! {
    #[test]
    fn no_cookie_of_ours_gets_through(
        cookie in "[ ;=a-z]{0,12}(__Host-)?rexec(-preview(-[0-9]{1,5})?)?=[a-z]{1,4}[ ;=a-z]{0,12}",
    ) {
        let headers = passed(&[("cookie", cookie.as_str())]);
        for pair in text(&headers, "cookie").iter().flat_map(|line| line.split(';')) {
            prop_assert!(!is_our_cookie(pair.split_once('=').map_or(pair, |(name, _)| name)), "{pair}");
        }
    }

    #[test]
    fn whatever_is_set_is_judged(value in proptest::collection::vec(any::<u8>(), 0..60)) {
        may_set(&value, "a.example");
    }
}
