//! Requests to GitHub of a workspace that may use repositories there: each is judged by what was granted, and sent with a token
//! that the workspace has not, or without any of ours.
//!
//! A push begins with what it is to move, which is read and judged before a byte of it is passed on; one that is refused is
//! answered as GitHub would, so that git shows why beside each branch.

use super::Visit;
use super::fault::{CODE_HEADER, Fault};
use super::http::{Outward, full};
use crate::github::{AtGithub, Push, RESULT_TYPE, Token, Tokens, Verdict, reply};
use crate::host::{Host, HostName};
use crate::record::How;
use crate::refusal::Refusal;
use crate::secrets::in_basic;
use crate::table::Bound;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// For a token that is being asked for.
const TOKEN_MAX: Duration = Duration::from_secs(15);
/// For the commands of a push, and between two pieces of one that is refused.
const COMMANDS_MAX: Duration = Duration::from_secs(30);
/// How much of a refused push is taken, so that its answer is heard: git reads none before it has sent all.
const REFUSED_BYTES_MAX: u64 = 1 << 30;
/// Where git asks.
const GIT_PATHS: [&str; 3] = ["/info/refs", "/git-upload-pack", "/git-receive-pack"];
/// GitHub takes any name beside a token.
const NAME: &str = "x-access-token";

/// What becomes of a request.
pub enum Judged {
    /// It is passed on.
    Passed { body: Outward, with_token: bool },
    /// This is its answer.
    Refused(Box<Response<Outward>>),
}

/// What is not for GitHub is passed on as it is; what is refused is told.
pub async fn judge(
    visit: &Visit,
    bound: Option<&Bound>,
    (how, host, port): (How, &Host, u16),
    head: &mut Parts,
    body: Incoming,
) -> Result<Judged, Refusal> {
    let Some((at, name)) = bound.and_then(|bound| bound.at_github(host, port)) else {
        return Ok(Judged::Passed { body: body.boxed_unsync(), with_token: false });
    };
    let judged = judge_at(at, name, head, body).await;
    match &judged {
        Ok(Judged::Passed { .. }) => {}
        Ok(Judged::Refused(_)) => visit.deny(how, host, port, Refusal::GITHUB),
        Err(refusal) => visit.deny(how, host, port, refusal.code()),
    }
    let is_gits = || GIT_PATHS.iter().any(|end| head.uri.path().ends_with(end));
    match judged {
        Err(refusal) if is_gits() => Ok(Judged::Refused(Box::new(told(&refusal, host, port)))),
        judged => judged,
    }
}

/// What is refused whatever rules say, which could not help.
pub fn refuses(bound: Option<&Bound>, host: &Host, port: u16, asked: &Request<Incoming>) -> bool {
    bound.and_then(|bound| bound.at_github(host, port)).is_some_and(|(at, name)| {
        let (method, path) = (asked.method().as_str(), asked.uri().path());
        matches!(at.grant.judge(name, method, path, asked.uri().query()), Verdict::Refused(_))
    })
}

/// As git shows it, beside `remote:`.
fn told(refusal: &Refusal, host: &Host, port: u16) -> Response<Outward> {
    let Fault { status, code, message } = Fault::of(refusal, host, port);
    let mut answer = Response::new(full(format!("{message}\n").into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer.headers_mut().insert(CODE_HEADER, HeaderValue::from_static(code));
    answer
}

async fn judge_at(at: &AtGithub, host: &HostName, head: &mut Parts, body: Incoming) -> Result<Judged, Refusal> {
    let headers = &mut head.headers;
    let which = match at.grant.judge(host, head.method.as_str(), head.uri.path(), head.uri.query()) {
        Verdict::With(token) => token,
        // All refs are granted.
        Verdict::Push if at.grant.branches.is_empty() => Token::Git,
        Verdict::Push => return push(at, headers, body).await,
        Verdict::Without => {
            forget(at, headers);
            return Ok(Judged::Passed { body: body.boxed_unsync(), with_token: false });
        }
        Verdict::Refused(why) => return Err(Refusal::Github(why.to_string())),
    };
    put_in(at, which, headers).await?;
    Ok(Judged::Passed { body: body.boxed_unsync(), with_token: true })
}

async fn push(at: &AtGithub, headers: &mut HeaderMap, mut body: Incoming) -> Result<Judged, Refusal> {
    let unread = |why: &str| Refusal::Github(why.to_owned());
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(unread("a push that is compressed as a whole cannot be judged"));
    }
    let (mut reading, mut first) = (Push::new(), Vec::new());
    let reading = async {
        loop {
            let Some(frame) = body.frame().await else {
                return reading.end().map_err(|bad| Refusal::Github(bad.to_string()));
            };
            let frame = frame.map_err(|_| unread("it ended before what it is to move"))?;
            let Some(piece) = frame.data_ref() else { continue };
            first.extend_from_slice(piece);
            if let Some(commands) = reading.feed(piece).map_err(|bad| Refusal::Github(bad.to_string()))? {
                return Ok(commands);
            }
        }
    };
    let commands = tokio::time::timeout(COMMANDS_MAX, reading).await;
    let commands = commands.map_err(|_| unread("it does not say in time what it is to move"))??;
    let Err(why) = at.grant.judge_push(&commands) else {
        put_in(at, Token::Git, headers).await?;
        let body = Whole { first: Some(first.into()), rest: body }.boxed_unsync();
        return Ok(Judged::Passed { body, with_token: true });
    };
    let Some(answer) = reply(&commands, why.as_str()) else { return Err(Refusal::Github(why.to_string())) };
    let mut left = REFUSED_BYTES_MAX;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(COMMANDS_MAX, body.frame()).await {
        let taken = frame.data_ref().map_or(0, |piece| piece.len() as u64);
        left = match left.checked_sub(taken) {
            Some(left) => left,
            None => return Err(Refusal::Github(why.to_string())),
        };
    }
    let mut answer = Response::new(full(answer.into()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(RESULT_TYPE));
    Ok(Judged::Refused(Box::new(answer)))
}

/// In the place of whatever else says who asks.
async fn put_in(at: &AtGithub, which: Token, headers: &mut HeaderMap) -> Result<(), Refusal> {
    let mut told = at.tokens.subscribe();
    let told = match tokio::time::timeout(TOKEN_MAX, told.wait_for(|told| !matches!(told, Tokens::Awaited))).await {
        Ok(Ok(told)) => told.clone(),
        _ => Tokens::None("the server has not told one in time; try again.".into()),
    };
    let pair = match told {
        Tokens::Had(pair) => pair,
        Tokens::None(why) => return Err(Refusal::NoGithub(why.to_string())),
        Tokens::Awaited => return Err(Refusal::Gone),
    };
    let text = match which {
        Token::Git => format!("Basic {}", STANDARD.encode(format!("{NAME}:{}", pair.git))),
        Token::Api => format!("Bearer {}", pair.api),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| Refusal::Gone)?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    headers.remove(COOKIE);
    Ok(())
}

/// What stands for a token is none: with it GitHub would refuse what it shows to everybody.
fn forget(at: &AtGithub, headers: &mut HeaderMap) {
    let is_ours = |value: &HeaderValue| {
        let (text, placeholder) = (value.as_bytes(), at.placeholder.as_bytes());
        let holds = |text: &[u8]| text.windows(placeholder.len()).any(|part| part == placeholder);
        holds(text) || in_basic(text, &at.placeholder, "").is_some()
    };
    if headers.get_all(AUTHORIZATION).iter().any(is_ours) {
        headers.remove(AUTHORIZATION);
    }
}

/// A body of which some was read.
struct Whole {
    first: Option<Bytes>,
    rest: Incoming,
}

impl Body for Whole {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let (rest, mut whole) = (self.rest.size_hint(), SizeHint::new());
        if let Some(upper) = rest.upper() {
            whole.set_upper(first + upper);
        }
        whole.set_lower(first + rest.lower());
        whole
    }
}
