//! Telling which ports come and go, for as long as a server listens.
//!
//! The kernel announces no listening socket, so its tables are looked at: often while somebody is
//! at work, since it is then that ports open, else seldom. Only what has changed is told.

use super::{listeners, listening};
use crate::guest::Guest;
use crate::refusal::invalid;
use crate::terminal::unix_ms;
use rexec_channel::Call;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Watches at once, one to a server; more are refused.
const WATCHES_MAX: usize = 16;
/// How often the tables are looked at while somebody is at work, and otherwise.
const PERIOD_BUSY: Duration = Duration::from_secs(1);
const PERIOD_QUIET: Duration = Duration::from_secs(5);
/// For this long after the last output, input or command somebody is at work.
const BUSY_MS: i64 = 30_000;

static WATCHES: Semaphore = Semaphore::const_new(WATCHES_MAX);

/// Answers with what listens now, and again whenever that has changed.
pub async fn send(guest: &Guest, call: Call) {
    let Ok(_watch) = WATCHES.try_acquire() else {
        let message = format!("{WATCHES_MAX} servers watch the ports already.");
        return call.answer::<()>(Err(invalid(message))).await;
    };
    let Ok((mut sender, _)) = call.frames() else {
        return;
    };
    let mut known = None;
    loop {
        let found = listeners();
        if known.as_ref() != Some(&found) {
            let told = listening(guest).await.ok().and_then(|ports| serde_json::to_vec(&ports).ok());
            let Some(told) = told else { return };
            if sender.send(told.into()).await.is_err() {
                return;
            }
            known = Some(found);
        }
        let busy = unix_ms() - guest.last_busy_ms() < BUSY_MS;
        tokio::select! {
            () = tokio::time::sleep(if busy { PERIOD_BUSY } else { PERIOD_QUIET }) => {}
            () = sender.closed() => return,
        }
    }
}
