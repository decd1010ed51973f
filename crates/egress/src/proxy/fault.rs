//! What is answered instead of what was asked for: a status, a code for programs and a sentence for people.

use super::http::{Outward, full};
use crate::host::Host;
use crate::refusal::Refusal;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};

/// Of those that say what went wrong.
pub const CODE_HEADER: HeaderName = HeaderName::from_static("x-rexec-egress");

/// What is answered instead.
pub struct Fault {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
}

pub fn bad(code: &'static str, message: &str) -> Fault {
    Fault { status: StatusCode::BAD_REQUEST, code, message: message.into() }
}

pub fn mismatch() -> Fault {
    bad("egress_host_mismatch", "The request and its Host header name different hosts.")
}

impl Fault {
    pub fn of(refusal: &Refusal, host: &Host, port: u16) -> Self {
        let status = match refusal {
            Refusal::Denied(_) | Refusal::Gone | Refusal::Unreadable | Refusal::Github(_) => StatusCode::FORBIDDEN,
            Refusal::NoGithub(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Refusal::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Refusal::NoSuchName
            | Refusal::NoAnswer
            | Refusal::Unreachable
            | Refusal::ConnectionRefused
            | Refusal::Untrusted(_)
            | Refusal::NoUpstream
            | Refusal::Upstream(_) => StatusCode::BAD_GATEWAY,
        };
        Self { status, code: refusal.code(), message: refusal.sentence(host, port) }
    }

    pub fn answer(self) -> Response<Outward> {
        let body = format!("{{\"error\":{{\"code\":\"{}\",\"message\":{}}}}}\n", self.code, quoted(&self.message));
        let mut answer = Response::new(full(body.into()));
        *answer.status_mut() = self.status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.headers_mut().insert(CODE_HEADER, HeaderValue::from_static(self.code));
        answer
    }
}

/// Of hosts and sentences of ours: there is nothing else in it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
