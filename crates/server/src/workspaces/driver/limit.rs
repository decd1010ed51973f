//! The step that gives a workspace other limits, or says why it cannot have them.

use super::{Driver, Progress, StepError};
use crate::events::{self, NewEvent};
use crate::hosts::placement::Amount;
use crate::hosts::reserve::{self, Hold};
use crate::workspaces::change;
use crate::workspaces::container::container_name;
use crate::workspaces::lifecycle::Seen;
use crate::workspaces::limits::{Refusal, Wish};
use crate::workspaces::store::{self, Workspace};
use rexec_engine::{EngineError, Stats};
use serde_json::json;

impl Driver {
    /// A container that is there is changed where it stands, frozen or not; one that is still to be
    /// made is made with what is wished for.
    pub(super) async fn limit(&mut self, row: &Workspace, seen: Seen) -> Result<Progress, StepError> {
        let wish = row.wish.unwrap_or_else(|| Wish::of(row));
        let is_up = matches!(seen, Seen::Running | Seen::Paused);
        let in_force = Wish::of(row);
        // What more it wants is taken before the engine gives it, and what less it wants given back after.
        let refusal = match seen {
            Seen::Missing => None,
            _ if is_up && !self.holds(row, &wish.most(&in_force)).await? => Some(Refusal::no_room()),
            _ => self.try_limits(row, &wish, is_up).await?,
        };
        if is_up {
            self.holds(row, if refusal.is_some() { &in_force } else { &wish }).await?;
        }
        match refusal {
            Some(refusal) => {
                tracing::info!(workspace.id = %self.id, why = refusal.message, "other limits are refused");
                self.slot.refuse_limits(row.limits_seq, refusal);
                let tx = self.lease.begin(&self.deps.db).await?;
                store::refuse_limits(&tx, row).await?;
                tx.commit().await?;
            }
            None => self.grant(row, &wish).await?,
        }
        Ok(Progress::Again(Some(seen)))
    }

    /// Has it hold these of its host; `false`: there is not as much left.
    async fn holds(&self, row: &Workspace, limits: &Wish) -> Result<bool, StepError> {
        let amount = Amount { cpu_milli: limits.cpu_milli, memory_mb: limits.memory_mb, disk_mb: row.disk_mb };
        let tx = self.lease.begin(&self.deps.db).await?;
        let has = reserve::hold(&tx, row.id, Hold::Exactly(amount)).await?;
        if has {
            tx.commit().await?;
        }
        Ok(has)
    }

    async fn grant(&mut self, row: &Workspace, wish: &Wish) -> Result<(), StepError> {
        let tx = self.lease.begin(&self.deps.db).await?;
        store::grant_limits(&tx, row, wish).await?;
        // Only its owner may wish for anything.
        let resized = NewEvent::of_user(row.owner, "workspace.resized").workspace(row.id);
        let mut happened = Vec::new();
        if *wish != Wish::of(row) {
            let data = json!({ "from": Wish::of(row), "to": wish });
            happened.push(events::append(&tx, &resized.data(data)).await?);
        }
        happened.extend(change::apply(&tx, row, &row.rest).await?.unwrap_or_default());
        tx.commit().await?;
        happened.into_iter().for_each(|logged| self.deps.bus.publish_logged(row.owner, logged));
        Ok(())
    }

    async fn try_limits(&mut self, row: &Workspace, wish: &Wish, is_up: bool) -> Result<Option<Refusal>, StepError> {
        let (engine, name) = (self.host.engine.clone(), container_name(row));
        let in_force = Wish::of(row);
        let used = match is_up && wish.takes_from(&in_force) {
            true => engine.stats_once(&name).await?,
            false => Stats::default(),
        };
        if let Some(refusal) = wish.below_use(&in_force, &used) {
            return Ok(Some(refusal));
        }
        match engine.update(&name, &wish.limits()).await {
            Ok(()) => Ok(None),
            Err(EngineError::Refused(why) | EngineError::Conflict(why)) => {
                // Some of it may hold by now.
                match engine.update(&name, &in_force.limits()).await {
                    Ok(()) | Err(EngineError::Refused(_) | EngineError::Conflict(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(Some(wish.refused(&in_force, &used, &why)))
            }
            Err(error) => Err(error.into()),
        }
    }
}
