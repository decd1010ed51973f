//! A container that its engine was starting when it died: it can never start as it is. What is left of that start is ended
//! first, and then it can, with all that it holds; where that does not help, one that never ran is made anew.
//!
//! Invariant: a container that has run is not removed for it: its root file system is its owner's.

use super::boot::dials;
use super::{Driver, StepError};
use crate::hosts::HostFacts;
use crate::hosts::dial::GuestKey;
use crate::workspaces::container::container_name;
use crate::workspaces::store::{self, Workspace};
use rexec_engine::EngineError;
use std::time::Duration;

/// Times that it is made anew before it is given up.
const REMADE_MAX: u32 = 3;
/// How long the engine may take to notice that what was in the way is gone.
const CLEARED_MAX: Duration = Duration::from_secs(5);
const CLEARED_POLL: Duration = Duration::from_millis(100);

/// How a half started container is to go on.
pub(super) enum Mended {
    /// It has started.
    Started,
    /// It is no more.
    Removed,
}

impl Driver {
    pub(super) async fn mend_start(
        &mut self,
        row: &Workspace,
        facts: &HostFacts,
        why: &str,
    ) -> Result<Mended, StepError> {
        let (engine, name) = (self.host.engine.clone(), container_name(row));
        let Some(container) = engine.inspect(&name).await? else { return Ok(Mended::Removed) };
        tracing::warn!(workspace.id = %self.id, why, "an earlier start is in the way of this one");
        let patience = match self.end_orphans(facts, &container.id).await? {
            0 => Duration::ZERO,
            _ => CLEARED_MAX,
        };
        // Whoever waits there to be met has ended.
        self.desk = None;
        if dials(facts, row) {
            self.open_desk(row)?;
        }
        let deadline = tokio::time::Instant::now() + patience;
        let why = loop {
            match engine.start(&name).await {
                Ok(()) => return Ok(Mended::Started),
                // Whatever else it says of it now.
                Err(EngineError::HalfStarted(why) | EngineError::Refused(why))
                    if tokio::time::Instant::now() >= deadline =>
                {
                    break why;
                }
                Err(EngineError::HalfStarted(_) | EngineError::Refused(_)) => {
                    tokio::time::sleep(CLEARED_POLL).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        if !container.started_at.is_empty() || self.remade >= REMADE_MAX {
            return Err(StepError::HalfStarted(why));
        }
        self.remade += 1;
        tracing::warn!(workspace.id = %self.id, why, "a container that cannot start is made anew");
        // Should anything run there all the same, it is not taken for the next one's guest.
        let tx = self.lease.begin(&self.deps.db).await?;
        store::set_guest_key(&tx, self.id, &GuestKey::generate().to_hex()).await?;
        tx.commit().await?;
        self.desk = None;
        match engine.remove(&container.id).await {
            Ok(()) | Err(EngineError::NotFound(_)) => Ok(Mended::Removed),
            Err(error @ EngineError::Unavailable(_)) => Err(error.into()),
            Err(error) => Err(StepError::HalfStarted(error.to_string())),
        }
    }

    /// How many were ended. Where it cannot be done, that is for the next start, and the log, to tell.
    pub(super) async fn end_orphans(&mut self, facts: &HostFacts, container: &str) -> Result<u32, StepError> {
        match self.host.clone().end_orphans(&facts.engine, container).await {
            Ok(ended) => Ok(ended),
            Err(error @ EngineError::Unavailable(_)) => Err(error.into()),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(workspace.id = %self.id, error, "what is left of a start cannot be ended");
                Ok(0)
            }
        }
    }
}
