//! The connection of a joined machine to its server: made again whenever it breaks, until it is over for good.
//!
//! ```text
//!   connect -> serve -> cut -> wait, longer each time in vain -> connect ...
//!   over for good: asked to stop | removed at the server | replaced by another process with the same credential
//! ```
//!
//! Invariant: what runs on the machine is the guest's and outlives every connection.

use super::state::Known;
use crate::failure::{Failure, Result};
use rexec_api::error::ErrorCode;
use rexec_api::frames::close;
use rexec_client::{Client, ClientError, Closed, Tunnel};
use rexec_guest::machine::Machine;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::LocalSet;
use uuid::Uuid;

/// Bytes on their way between the guest and the WebSocket, each way.
const PIPE_BYTES: usize = 64 * 1024;
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A connection that lived shorter than this was refused rather than lost.
const LIFE_MIN: Duration = Duration::from_secs(5);
/// A server that takes longer to answer is tried again.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);

/// Why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By a signal: it may come back.
    Asked,
    /// The server knows this machine no more.
    Removed,
    /// Another process is this machine now.
    Replaced,
}

/// Is the machine until that is over, and ends what was started on it.
pub async fn stay(known: &Known) -> Result<End> {
    LocalSet::new().run_until(stay_in(known)).await
}

async fn stay_in(known: &Known) -> Result<End> {
    let mut stop = Stop::listen().map_err(Failure::io("signals"))?;
    // After a fork and before it becomes something else, a child is this program: whatever became of its file.
    let program = vec!["/proc/self/exe".to_owned(), "guest".to_owned()];
    let machine = Machine::new(program).map_err(Failure::io("this machine"))?;
    let client = Client::new(&known.server)?.with_token(&known.credential);
    let end = tokio::select! {
        end = keep(&machine, &client) => end,
        () = stop.asked() => Ok(End::Asked),
    };
    machine.end().await;
    end
}

async fn keep(machine: &Machine, client: &Client) -> Result<End> {
    let mut backoff = BACKOFF_MIN;
    let mut lost = false;
    loop {
        let mut began = Instant::now();
        let what = match tokio::time::timeout(CONNECT_PATIENCE, client.machine_tunnel()).await {
            Ok(Ok(tunnel)) => {
                if lost {
                    say("connected again");
                    lost = false;
                }
                began = Instant::now();
                let cut = carry(machine, tunnel).await;
                match Closed::of(&cut).map(|closed| closed.code) {
                    Some(close::ENDED) => return Ok(End::Removed),
                    Some(close::REPLACED) => return Ok(End::Replaced),
                    _ => cut.to_string(),
                }
            }
            Ok(Err(error)) => match error.code() {
                Some(ErrorCode::MachineGone) => return Ok(End::Removed),
                // What is no credential does not become one.
                Some(ErrorCode::InvalidToken) => return Err(error.into()),
                _ => told(&error),
            },
            Err(_) => "it does not answer".to_owned(),
        };
        if !lost {
            say(&format!("not connected to {} ({what}); trying again until it is there", client.base()));
            lost = true;
        }
        if began.elapsed() >= LIFE_MIN {
            backoff = BACKOFF_MIN;
        }
        tokio::time::sleep(jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// On standard error, which may have gone: that is no reason to end what runs here.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "rexec: {what}");
}

/// Serves one connection; why it has ended.
async fn carry(machine: &Machine, tunnel: Tunnel) -> io::Error {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let (from, to) = tokio::io::split(far);
    tokio::select! {
        // First, because a close says why and the end of the stream does not.
        biased;
        carried = tunnel.carry(from, to) => carried.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()),
        () = machine.serve(near) => io::Error::new(io::ErrorKind::ConnectionAborted, "the server is silent"),
    }
}

/// Many machines lose their server at one moment and are not to come back at one: from half to all of it.
fn jittered(backoff: Duration) -> Duration {
    let share = f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
    backoff.mul_f64(0.5 + share / 2.0)
}

fn told(error: &ClientError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The signals by which people, systemd and a closed terminal ask; the last is none where it was ignored before, as
/// nohup(1) has it.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        let hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hangup })
    }

    async fn asked(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// By proc_pid_status(5): a mask in hexadecimal, of which the first bit is the first signal, SIGHUP.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_differ_and_are_bounded() {
        for _ in 0..100 {
            let wait = jittered(BACKOFF_MAX);
            assert!(wait >= BACKOFF_MAX / 2 && wait <= BACKOFF_MAX);
        }
    }
}
