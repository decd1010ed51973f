//! Finding a peer that has gone silent without closing.

use crate::{PING_PERIOD, PING_TIMEOUT};
use h2::{Ping, PingPong};
use std::future::poll_fn;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// How often to ask, and how long to wait for each answer.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub period: Duration,
    pub timeout: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { period: PING_PERIOD, timeout: PING_TIMEOUT }
    }
}

/// Answers that may be missed in a row.
///
/// One is forgiven: a workspace that was frozen finds its own clock far ahead when it thaws, and
/// the answer unread in the socket.
const MISSED_MAX: u32 = 1;

/// Pings for as long as the peer answers; returns when it is to be given up.
///
/// While they are held (the peer is known to be frozen) no ping is sent and no silence counted. After that
/// the next answer may take a period longer: a thawed peer has more to do first.
pub(crate) async fn watch(pings: Option<PingPong>, pace: Pace, mut held: watch::Receiver<bool>) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        let was_held = next_is_due(&mut held, pace.period).await;
        if pings.send_ping(Ping::opaque()).is_err() || !answered(&mut pings, pace, &mut held, was_held).await {
            return;
        }
    }
}

/// Waits for a period in which nobody held the pings. True when somebody had.
async fn next_is_due(held: &mut watch::Receiver<bool>, period: Duration) -> bool {
    let mut was_held = false;
    loop {
        tokio::select! {
            biased;
            () = hold_begins(held) => {
                hold_ends(held).await;
                was_held = true;
            }
            () = sleep(period) => return was_held,
        }
    }
}

async fn answered(pings: &mut PingPong, pace: Pace, held: &mut watch::Receiver<bool>, was_held: bool) -> bool {
    let (mut grace, mut missed) = (was_held, 0);
    loop {
        tokio::select! {
            biased;
            pong = poll_fn(|cx| pings.poll_pong(cx)) => return pong.is_ok(),
            () = hold_begins(held) => {
                hold_ends(held).await;
                (grace, missed) = (true, 0);
            }
            () = sleep(patience(pace, grace)) => {
                missed += 1;
                grace = false;
                if missed > MISSED_MAX {
                    return false;
                }
            }
        }
    }
}

fn patience(pace: Pace, grace: bool) -> Duration {
    if grace { pace.period + pace.timeout } else { pace.timeout }
}

async fn hold_begins(held: &mut watch::Receiver<bool>) {
    if held.wait_for(|&is_held| is_held).await.is_err() {
        // Nobody is left who could.
        std::future::pending().await
    }
}

async fn hold_ends(held: &mut watch::Receiver<bool>) {
    // When all who could hold have gone, nobody holds.
    let _ = held.wait_for(|&is_held| !is_held).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_peer_has_a_period_more() {
        let pace = Pace::default();
        assert_eq!(patience(pace, false), PING_TIMEOUT);
        assert_eq!(patience(pace, true), PING_PERIOD + PING_TIMEOUT);
    }
}
