//! PID 1 of a helper container: one of our own that works on volumes for the server.
//!
//! It does nothing but wait: what is to be done comes as execs beside it, and ends with it. It knows
//! no key and opens no socket.

use crate::process::Reaper;
use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

/// Waits until asked to stop; collects what has ended meanwhile.
pub fn run() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let reaper = Reaper::new();
        tokio::task::spawn_local(reaper.watch()?);
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
