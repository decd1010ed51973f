//! One request to the API and its answer: time, size, retries and the rate limit.

use super::wire::{self, Failure};
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, StatusCode};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A whole request; making a machine answers before it is made.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// A page of machines has a few hundred KB.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// What changes nothing, or nothing the second time, is sent so often when no answer comes.
const TRIES: u32 = 3;
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Of a message of the API's.
const MESSAGE_CHARS_MAX: usize = 300;
/// The pause where the API says that there were too many requests and not until when; and the longest that is believed.
const LIMIT_PAUSE: Duration = Duration::from_secs(60);
const LIMIT_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// What lets us in; in no `Debug`.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

#[derive(Debug, Clone)]
pub struct Settings {
    /// Such as `https://api.hetzner.cloud/v1`.
    pub base: String,
    pub token: Token,
}

/// Why something was not done. Foreign text is in `Refused` alone, tamed and bounded, for the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the token cannot be sent: it has characters that no token has")]
    BadToken,
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
    #[error("Hetzner Cloud cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It may have been done or not.
    #[error("no answer came from Hetzner Cloud")]
    Lost(#[source] Option<reqwest::Error>),
    #[error("Hetzner Cloud takes no more requests for {} s", .0.as_secs())]
    TooMany(Duration),
    #[error("Hetzner Cloud refused ({code}): {message}")]
    Refused { status: u16, code: String, message: String },
    #[error("Hetzner Cloud's answer is not as documented: {0}")]
    Strange(&'static str),
    #[error("the machine does not have our labels, and was left alone")]
    NotOurs,
}

impl Error {
    /// The API's own, of what it refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// A word for metrics and events: the API's code, or ours.
    pub fn word(&self) -> &str {
        match self {
            Self::BadToken => "bad_token",
            Self::Client(_) => "client",
            Self::Unreachable(_) => "unreachable",
            Self::Lost(_) => "no_answer",
            Self::TooMany(_) => "rate_limit_exceeded",
            Self::Refused { code, .. } => code,
            Self::Strange(_) => "strange_answer",
            Self::NotOurs => "not_ours",
        }
    }

    /// Whether the same may be answered a moment later.
    fn is_passing(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Unreachable(_) => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether what was asked for may have been done all the same.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Strange(_) => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::BadToken | Self::Client(_) | Self::Unreachable(_) | Self::TooMany(_) | Self::NotOurs => false,
        }
    }
}

pub struct Hetzner {
    http: reqwest::Client,
    base: String,
    /// Nothing is sent before.
    quiet_until: Mutex<Option<SystemTime>>,
}

impl Hetzner {
    /// Contacts nobody.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", settings.token.0)).map_err(|_| Error::BadToken)?;
        bearer.set_sensitive(true);
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .connect_timeout(CONNECT_PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("rexec/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .build()
            .map_err(Error::Client)?;
        Ok(Self { http, base: settings.base.trim_end_matches('/').to_owned(), quiet_until: Mutex::new(None) })
    }

    /// Sent again when no answer comes.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Error> {
        let bytes = self.again(Method::GET, &with_query(path, query)).await?;
        serde_json::from_slice(&bytes).map_err(|_| Error::Strange("the body cannot be read"))
    }

    /// Sent once: what it asks for would be done twice.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|_| Error::Strange("the request cannot be written"))?;
        let bytes = self.once(Method::POST, path, Some(body)).await?;
        serde_json::from_slice(&bytes).map_err(|_| Error::Strange("the body cannot be read"))
    }

    /// Sent again when no answer comes: the second time it finds nothing.
    pub(super) async fn remove(&self, path: &str) -> Result<(), Error> {
        self.again(Method::DELETE, path).await.map(|_| ())
    }

    async fn again(&self, method: Method, path: &str) -> Result<Vec<u8>, Error> {
        let mut pause = RETRY_FIRST;
        for _ in 1..TRIES {
            match self.once(method.clone(), path, None).await {
                Err(error) if error.is_passing() => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                other => return other,
            }
        }
        self.once(method, path, None).await
    }

    async fn once(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Vec<u8>, Error> {
        self.require_welcome()?;
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.header(http::header::CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| match error.is_connect() {
            true => Error::Unreachable(error),
            false => Error::Lost(Some(error)),
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = bounded(response).await?;
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(self.be_quiet(&headers));
        }
        if status.is_success() {
            return Ok(bytes);
        }
        Err(refused(status, &bytes))
    }

    fn require_welcome(&self) -> Result<(), Error> {
        let mut quiet = self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = quiet.and_then(|until| until.duration_since(SystemTime::now()).ok());
        match left.filter(|left| !left.is_zero()) {
            Some(left) => Err(Error::TooMany(left)),
            None => {
                *quiet = None;
                Ok(())
            }
        }
    }

    fn be_quiet(&self, headers: &HeaderMap) -> Error {
        let reset = headers.get("ratelimit-reset").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let now = SystemTime::now();
        let pause = match reset.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)) {
            Some(until) => until.duration_since(now).unwrap_or_default(),
            None => LIMIT_PAUSE,
        };
        let pause = pause.min(LIMIT_PAUSE_MAX);
        *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + pause);
        Error::TooMany(pause)
    }
}

async fn bounded(response: reqwest::Response) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.map_err(|error| Error::Lost(Some(error)))?);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(Error::Strange("the body is longer than any"));
        }
    }
    Ok(bytes)
}

fn refused(status: StatusCode, bytes: &[u8]) -> Error {
    let status = status.as_u16();
    match serde_json::from_slice::<Failure>(bytes) {
        Ok(Failure { error }) => {
            let tame = |c: char| if c.is_control() { ' ' } else { c };
            let message = error.message.chars().map(tame).take(MESSAGE_CHARS_MAX).collect();
            Error::Refused { status, code: wire::word(&error.code), message }
        }
        Err(_) => Error::Refused { status, code: format!("http_{status}"), message: String::new() },
    }
}

/// Everything but letters, digits and `-._~` is escaped.
fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let escaped = |text: &str| {
        text.bytes().fold(String::new(), |out, byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out + &char::from(byte).to_string(),
            byte => out + &format!("%{byte:02X}"),
        })
    };
    let pairs: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}
