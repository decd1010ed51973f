//! The public keys that GitHub tells of a user: `<base>/<user>.keys`, one line each.
//!
//! What comes back is a stranger's: bounded in time and size, never redirected, and read as keys only.

use crate::error::{Error, Result};
use futures_util::StreamExt as _;
use rexec_api::error::ErrorCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// All that a fetch may take, and the part of it in which the connection must stand.
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// A hundred of the largest keys.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Fetches at once; more are asked to come back.
const FETCHES_MAX: usize = 4;
/// GitHub's own bound for user names.
const USERNAME_CHARS_MAX: usize = 39;

pub struct Github {
    base: String,
    turns: Arc<Semaphore>,
}

impl Github {
    /// `base` is such as `https://github.com`.
    pub fn new(base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), turns: Arc::new(Semaphore::new(FETCHES_MAX)) }
    }

    /// The lines of a user's keys.
    pub async fn keys_of(&self, username: &str) -> Result<String> {
        let username = checked(username)?;
        let _turn = self.turns.try_acquire().map_err(|_| {
            Error::new(ErrorCode::RateLimited, "Too many ask GitHub at the moment. Try again shortly.")
                .retry_after(Duration::from_secs(2))
        })?;
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .connect_timeout(CONNECT_PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("rexec/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| unreachable().source(source))?;
        let address = format!("{}/{username}.keys", self.base);
        let response = client.get(address).send().await.map_err(|source| unreachable().source(source))?;
        match response.status().as_u16() {
            200 => {}
            404 => return Err(Error::field("username", format!("GitHub knows no user `{username}`."))),
            status => {
                let message = format!("GitHub answered with status {status} instead of keys. Paste the key instead.");
                return Err(Error::new(ErrorCode::GithubUnavailable, message));
            }
        }
        let mut text = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            text.extend_from_slice(&piece.map_err(|source| unreachable().source(source))?);
            if text.len() > ANSWER_BYTES_MAX {
                let message = "GitHub answered with more than keys can be. Paste the key instead.";
                return Err(Error::new(ErrorCode::GithubUnavailable, message));
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn unreachable() -> Error {
    let message = "This server cannot reach GitHub: it has no way to that network. Paste the key instead.";
    Error::new(ErrorCode::GithubUnavailable, message)
}

fn checked(username: &str) -> Result<&str> {
    let username = username.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let fits = (1..=USERNAME_CHARS_MAX).contains(&username.len()) && username.bytes().all(plain);
    if fits && !username.starts_with('-') {
        return Ok(username);
    }
    let message =
        format!("`username` must be a GitHub user's: letters, digits and dashes, {USERNAME_CHARS_MAX} at most.");
    Err(Error::field("username", message))
}
