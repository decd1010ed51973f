//! Whom models are had of, with the operator's keys, and connections to them that wait for the next request.

use crate::models::{Api, Base, Models};
use crate::proxy::Outward;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::client::conn::http1::SendRequest;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

/// Connections to one vendor that wait.
const IDLE_MAX: usize = 8;
/// Shorter than vendors wait, so that few end at the moment at which they are used.
const IDLE_FOR: Duration = Duration::from_secs(30);
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// All of them; none offers nothing.
#[derive(Debug, Default)]
pub struct Vendors {
    pub openai: Option<Vendor>,
    pub anthropic: Option<Vendor>,
    /// Which models may be asked for; `None`: any.
    pub allow: Option<Models>,
    /// Whether they may reach hosts of their own for whoever asks.
    pub outward: bool,
}

pub struct Vendor {
    pub base: Base,
    key: Option<(HeaderName, HeaderValue)>,
    idle: Mutex<Vec<(Connection, Instant)>>,
}

/// One on which a request may be sent, and after its answer's end the next.
pub struct Connection {
    pub sender: SendRequest<Outward>,
    /// Carries it, and ends with it: an answer that nobody wants any more ends at the vendor, too.
    pub carrying: AbortOnDropHandle<()>,
}

/// Without what is secret.
impl fmt::Debug for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vendor({})", self.base)
    }
}

/// What is no header's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key has characters that no header has")]
pub struct BadKey;

impl Vendors {
    pub fn of(&self, api: Api) -> Option<&Vendor> {
        match api {
            Api::OpenAi => self.openai.as_ref(),
            Api::Anthropic => self.anthropic.as_ref(),
        }
    }

    pub fn allows(&self, model: &str) -> bool {
        self.allow.as_ref().is_none_or(|models| models.allows(model))
    }
}

impl Vendor {
    pub fn new(api: Api, base: Base, key: Option<&str>) -> Result<Self, BadKey> {
        let header = |key: &str| {
            let (name, text) = match api {
                Api::OpenAi => (AUTHORIZATION, format!("Bearer {key}")),
                Api::Anthropic => (API_KEY, key.to_owned()),
            };
            let mut value = HeaderValue::from_str(&text).map_err(|_| BadKey)?;
            value.set_sensitive(true);
            Ok((name, value))
        };
        Ok(Self { base, key: key.map(header).transpose()?, idle: Mutex::default() })
    }

    /// Has a request be the operator's.
    pub fn sign(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = &self.key {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// One that waited for this.
    pub fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(connection, since)| !connection.sender.is_closed() && since.elapsed() < IDLE_FOR);
        let at = idle.iter().rposition(|(connection, _)| connection.sender.is_ready())?;
        Some(idle.swap_remove(at).0)
    }

    /// One whose answer has ended.
    pub fn put_idle(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !connection.sender.is_closed() {
            idle.push((connection, Instant::now()));
        }
    }
}
