//! Finding a peer that has gone silent without closing.

use crate::{PING_PERIOD, PING_TIMEOUT};
use h2::{Ping, PingPong};
use std::future::poll_fn;
use std::time::Duration;
use tokio::time::{sleep, timeout};

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

/// Pings for as long as the peer answers; returns when it is to be given up.
///
/// One missed answer is forgiven: a workspace that was frozen finds its own clock far ahead when
/// it thaws, and the answer unread in the socket.
pub(crate) async fn watch(pings: Option<PingPong>, pace: Pace) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        sleep(pace.period).await;
        if pings.send_ping(Ping::opaque()).is_err() {
            return;
        }
        let mut answered = false;
        for _ in 0..2 {
            match timeout(pace.timeout, poll_fn(|cx| pings.poll_pong(cx))).await {
                Ok(Ok(_)) => {
                    answered = true;
                    break;
                }
                Ok(Err(_)) => return,
                Err(_) => {}
            }
        }
        if !answered {
            return;
        }
    }
}
