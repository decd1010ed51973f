//! The heads of requests and answers: what each hop takes away, and what is put in and taken out.

use super::fault::{CODE_HEADER, Fault, mismatch};
use crate::host::{Host, authority};
use crate::table::Bound;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::{Body as _, Incoming};
use std::sync::Arc;

const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// What is about one hop (RFC 9110, section 7.6.1).
const ONE_HOP: [HeaderName; 7] = [CONNECTION, PROXY_CONNECTION, KEEP_ALIVE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
/// By which some hosts take a request for another than it is.
const ANOTHER_METHOD: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
/// What only a proxy is told.
const FOR_PROXIES: [&str; 2] = ["proxy-authorization", "proxy-authenticate"];

/// The `Host` header, of which there is one at most.
pub fn told_host(headers: &HeaderMap, usual: u16) -> Result<Option<(Host, u16)>, Fault> {
    let mut told = headers.get_all(HOST).iter();
    let Some(first) = told.next() else { return Ok(None) };
    if told.next().is_some() {
        return Err(mismatch());
    }
    let text = first.to_str().map_err(|_| mismatch())?;
    authority(text, Some(usual)).map(Some).map_err(|_| mismatch())
}

/// The request that we make: to the host itself, with nothing that was for us.
pub fn anew(request: Request<Incoming>, host: &Host, port: u16, usual: u16) -> (Parts, Incoming) {
    let (mut head, body) = request.into_parts();
    clean(&mut head.headers);
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    head.uri = Uri::from(path);
    head.version = Version::HTTP_11;
    let told = if port == usual { host.to_string() } else { format!("{host}:{port}") };
    if let Ok(told) = HeaderValue::from_str(&told) {
        head.headers.insert(HOST, told);
    }
    // Where nothing says how long it is, some requests would lose it.
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    // Some hosts do not look for a body here, and would take it for the next request: there is none on that connection, nor a
    // token or a secret in what would become the rest of this one's.
    if matches!(head.method, Method::GET | Method::HEAD) && !body.is_end_stream() {
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    (head, body)
}

/// Takes away what says another method than was judged.
pub fn by_its_method(headers: &mut HeaderMap) {
    ANOTHER_METHOD.iter().for_each(|name| drop(headers.remove(*name)));
}

/// Puts placeholders back where a host says secrets again.
pub fn taking_out(reader: Option<Arc<Bound>>, host: Host, port: u16) -> impl Fn(&mut HeaderMap) {
    move |headers| {
        if let Some(reading) = reader.as_deref().and_then(|bound| bound.reads(&host, port)) {
            reading.secrets.take_out(&host, port, headers);
        }
        if let Some((at, _)) = reader.as_deref().and_then(|bound| bound.at_github(&host, port)) {
            at.take_out(headers);
        }
    }
}

/// An answer as it is passed on, and what is still to come of it.
pub fn back(answer: Response<Incoming>, take_out: &impl Fn(&mut HeaderMap)) -> (http::response::Parts, Incoming) {
    let (mut head, body) = answer.into_parts();
    clean(&mut head.headers);
    // That one is ours.
    head.headers.remove(CODE_HEADER);
    // Nobody reads it, and it may say anything (RFC 9112, section 4).
    head.extensions.remove::<hyper::ext::ReasonPhrase>();
    take_out(&mut head.headers);
    (head, body)
}

/// As it is sent, nearly: what leaves in a head has left, too.
pub fn bytes_of(head: &Parts) -> usize {
    let headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    head.method.as_str().len()
        + head.uri.path_and_query().map_or(1, |path| path.as_str().len())
        + headers.sum::<usize>()
}

/// Takes away what is about one hop, and what `Connection` says is.
fn clean(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Whoever names these would have others read the request otherwise than we do.
        .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH))
        .collect();
    // Where both are, the one counts that is taken away here: the other would be wrong.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    named.iter().chain(&ONE_HOP).for_each(|name| drop(headers.remove(name)));
    FOR_PROXIES.iter().for_each(|name| drop(headers.remove(*name)));
}
