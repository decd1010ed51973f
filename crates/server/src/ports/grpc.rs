//! Which requests are gRPC, how one is put to the program, and how one is refused: pure.
//!
//! The format is that of "gRPC over HTTP/2" (`PROTOCOL-HTTP2.md` of the gRPC project). A call is told by its
//! content type. gRPC-Web is none: it was made for what HTTP/1.1 can carry, and passes like any request.

use crate::error::{Error, Result};
use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Uri, Version, header};
use rexec_api::error::ErrorCode;
use std::fmt::Write as _;

const CONTENT_TYPE: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The stable code of a refusal, as metadata.
const ERROR_CODE: HeaderName = HeaderName::from_static("x-rexec-error");

/// Whether this is a call that can go on. One that comes by an older HTTP, which cannot carry what a call
/// ends with, is an error.
pub fn is_call(parts: &Parts) -> Result<bool> {
    if parts.method != Method::POST || !has_type(parts) {
        return Ok(false);
    }
    if parts.version != Version::HTTP_2 {
        return Err(Error::new(
            ErrorCode::Http2Required,
            "gRPC needs HTTP/2 all the way, and this call came by HTTP/1. Use a client that speaks HTTP/2; a proxy \
             before Rexec must pass HTTP/2 on (h2c).",
        ));
    }
    Ok(true)
}

/// `application/grpc`, alone or with the name of a format such as `+proto`; not `application/grpc-web`.
fn has_type(parts: &Parts) -> bool {
    let value = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (start, rest) = value.split_at_checked(CONTENT_TYPE.len()).unwrap_or_default();
    start.eq_ignore_ascii_case(CONTENT_TYPE) && matches!(rest.trim_start().bytes().next(), None | Some(b'+' | b';'))
}

/// Makes a request that [`super::headers::toward_workspace`] has judged one of HTTP/2. That we take trailers
/// is ours to say: we pass them on.
pub fn toward_program(parts: &mut Parts, host: &str) {
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(host.parse().unwrap_or_else(|_| Authority::from_static("localhost")));
    let path = parts.uri.path_and_query().cloned();
    uri.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    parts.version = Version::HTTP_2;
    parts.headers.remove(header::HOST);
    parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
}

/// A refusal as a client of gRPC tells it to its program: the answer is all head, and its HTTP status good,
/// because some clients read no further than a bad one.
pub fn refusal(error: &Error) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(STATUS, HeaderValue::from(status(error.code)));
    if let Ok(message) = HeaderValue::from_str(&encoded(&error.message)) {
        headers.insert(MESSAGE, message);
    }
    headers.insert(ERROR_CODE, HeaderValue::from_static(error.code.as_str()));
    response
}

/// The gRPC status for a code, by its HTTP status.
fn status(code: ErrorCode) -> u16 {
    match code.http_status() {
        400 | 422 => 3,
        401 => 16,
        403 => 7,
        404 | 410 => 5,
        409 => 9,
        429 => 8,
        502..=504 => 14,
        500 => 13,
        _ => 2,
    }
}

/// Percent-encodes what may not stand in `grpc-message`.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(method: Method, version: Version, kind: &str) -> Parts {
        let request = Request::builder().method(method).version(version).uri("http://h/a.B/C?d=e");
        request.header("content-type", kind).header("host", "h").body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_call_is_told_by_its_type() {
        for kind in ["application/grpc", "Application/gRPC+proto", "application/grpc ; charset=utf-8"] {
            assert!(is_call(&parts(Method::POST, Version::HTTP_2, kind)).unwrap(), "{kind}");
            let refused = is_call(&parts(Method::POST, Version::HTTP_11, kind)).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Http2Required, "{kind}");
            assert!(!is_call(&parts(Method::GET, Version::HTTP_11, kind)).unwrap(), "{kind}");
        }
        for kind in
            ["application/grpc-web", "application/grpc-web-text+proto", "application/grpcx", "text/html", "é", ""]
        {
            assert!(!is_call(&parts(Method::POST, Version::HTTP_11, kind)).unwrap(), "{kind}");
            assert!(!is_call(&parts(Method::POST, Version::HTTP_2, kind)).unwrap(), "{kind}");
        }
    }

    #[test]
    fn the_program_is_asked_by_http_2() {
        for (host, authority) in
            [("80-x.localhost:8080", "80-x.localhost:8080"), ("", "localhost"), ("a b", "localhost")]
        {
            let mut parts = parts(Method::POST, Version::HTTP_11, CONTENT_TYPE);
            toward_program(&mut parts, host);
            assert_eq!(parts.uri.to_string(), format!("http://{authority}/a.B/C?d=e"));
            assert_eq!((parts.version, parts.headers["te"].as_bytes()), (Version::HTTP_2, b"trailers".as_slice()));
            assert!(!parts.headers.contains_key("host"));
        }
    }

    #[test]
    fn a_refusal_speaks_grpc() {
        let refused = refusal(&Error::new(ErrorCode::PortClosed, "100 % zu, é\n"));
        let told = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(
            (refused.status().as_u16(), told("grpc-status"), told("x-rexec-error")),
            (200, "14".into(), "port_closed".into())
        );
        assert_eq!(told("grpc-message"), "100 %25 zu, %C3%A9%0A");
        assert!(hyper::body::Body::is_end_stream(refused.body()));
    }
}
