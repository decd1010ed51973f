//! The connection of a client's last request, kept for its next: where one is open, none is made.
//!
//! ```text
//!   kept --it had ended before anything was sent------> anew
//!        --sent, and it ends without an answer: anew, if the request may be asked again by itself; else refused
//! ```
//!
//! Invariant: what may not be asked twice is sent once. That a host ends a connection at the very moment at which it is used,
//! clients that keep their own have to expect as well (RFC 9112, section 9.3.1).

use super::Flow;
use super::http::{ANSWER_MAX, Outward};
use crate::github::Grant;
use crate::host::Host;
use crate::record::How;
use crate::refusal::Refusal;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

/// Shorter than hosts wait as a rule, so that few end at the moment at which they are used.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// A request that was judged, on its way.
pub struct Going<'a> {
    pub how: How,
    pub host: &'a Host,
    pub port: u16,
    pub asked: (Method, String),
    /// By which a token of GitHub is in it.
    pub grant: Option<Grant>,
    /// Whose values it was given.
    pub secrets: Vec<String>,
    pub head_bytes: usize,
}

/// What came back, on which connection.
pub struct Sent {
    pub answer: Response<Incoming>,
    pub kept: Kept,
    pub flow: Arc<Flow>,
}

pub struct Kept {
    pub host: Host,
    pub port: u16,
    pub address: Option<IpAddr>,
    pub sender: SendRequest<Outward>,
    /// Carries it, and ends with it: an end that does not read would keep it for ever.
    pub carrying: AbortOnDropHandle<()>,
    pub used: Used,
}

/// When something was last heard on it.
#[derive(Clone)]
pub struct Used(Arc<Mutex<Instant>>);

/// What came of a request on a kept connection.
pub enum Asked {
    Answered(Response<Incoming>, Kept),
    /// To be sent on another one.
    Anew(Request<Outward>),
}

impl Kept {
    /// Whether a request for this may be sent on it.
    pub fn is_for(&self, host: &Host, port: u16) -> bool {
        self.host == *host && self.port == port && self.sender.is_ready() && self.used.elapsed() < KEPT_FOR
    }

    /// `again` is the same request, where it may be asked again by itself.
    pub async fn ask(mut self, request: Request<Outward>, again: Option<Request<Outward>>) -> Result<Asked, Refusal> {
        let answer = tokio::time::timeout(ANSWER_MAX, self.sender.try_send_request(request)).await;
        match answer.map_err(|_| Refusal::TimedOut)? {
            Ok(answer) => {
                self.used.now();
                Ok(Asked::Answered(answer, self))
            }
            Err(mut error) => error.take_message().or(again).map(Asked::Anew).ok_or(Refusal::Unreachable),
        }
    }
}

impl Used {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn elapsed(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// By which connection a body goes up: it may be another than was first meant.
#[derive(Clone, Default)]
pub struct Upward(Arc<Mutex<Option<Arc<Flow>>>>);

impl Upward {
    /// A request that counts what of its body goes.
    pub fn counting(head: Parts, body: Outward) -> (Request<Outward>, Self) {
        let upward = Self::default();
        let counted = upward.clone();
        let body = body.map_frame(move |frame| {
            counted.went(frame.data_ref().map_or(0, Bytes::len));
            frame
        });
        (Request::from_parts(head, body.boxed_unsync()), upward)
    }

    /// It goes by this one from now on, its head first.
    pub fn goes_by(&self, flow: &Arc<Flow>, head_bytes: usize) {
        flow.went_up(head_bytes);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(flow.clone());
    }

    fn went(&self, bytes: usize) {
        if let Some(flow) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            flow.went_up(bytes);
        }
    }
}
