//! Answers that go on for as long as somebody reads them: events, downloads, tunnels and commands over WebSockets. Each
//! holds a connection, and what is on its way, whether it is read or not; so each user has so many of them.

use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::turns::{Turn, Turns};
use rexec_api::error::ErrorCode;
use serde_json::json;
use std::time::Duration;

/// Open at once for one user: a page has about four for each of its tabs, a program one for each download.
pub const USER_STREAMS_MAX: usize = 128;
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Cheap to clone.
#[derive(Clone)]
pub struct Streams(Turns);

impl Default for Streams {
    fn default() -> Self {
        Self(Turns::new(usize::MAX, USER_STREAMS_MAX))
    }
}

impl Streams {
    /// One more, until the turn is dropped. Asked for before what it tells is begun.
    pub fn open(&self, actor: &Actor) -> Result<Turn> {
        self.0.take(actor.user).map_err(|_| {
            let message = format!(
                "{USER_STREAMS_MAX} downloads, tunnels, commands and streams of events are open for you, as many as there may \
                 be. Read or close some first."
            );
            let details = json!({ "max": USER_STREAMS_MAX });
            Error::new(ErrorCode::TooManyStreams, message).details(details).retry_after(RETRY_AFTER)
        })
    }
}
