//! The processes of a workspace: how one is started, and how its end is told to its owner.
//!
//! Owns the environment, identity and signal state that a program starts with ([`Launcher`]) and
//! the reaping of children ([`Reaper`]). Invariants: an exit code reaches its owner exactly once;
//! no signal is sent to a process that has been reaped, because its number may be another's by then.
//! What a program reads and writes is left to the caller, who hands over open descriptors.

mod child;
mod environment;
mod error;
mod identity;
mod launch;
mod reaper;
mod resolve;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use error::LaunchError;
pub(crate) use identity::Credentials;
pub use identity::Identity;
pub use launch::{Launch, Launcher, Stdio, login_shell};
pub use reaper::{End, ProcessGroup, Reaper};

use tokio::sync::oneshot;

/// A started program. Dropping this neither ends the program nor keeps it from being reaped.
#[derive(Debug)]
pub struct Process {
    pub group: ProcessGroup,
    pub exit: oneshot::Receiver<End>,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// Waits for the program's end.
    pub async fn exited(&mut self) -> End {
        // The sender lives in the reaper until the end is told, so an error means that the reaper
        // itself has gone and nobody can tell how the program ended.
        (&mut self.exit).await.unwrap_or(End::Unknown)
    }
}
