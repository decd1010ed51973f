//! A host that is to be deleted: what rests there is moved, what is left is named.
//!
//! Each call looks at all of it anew, begins what can be begun, and says what is still there: whoever wants the host gone
//! calls again. Nothing that runs is stopped, and what was moved is kept there until it has run at its new place, unless
//! the administrator lets go of that.

use super::super::store as workspaces;
use super::store;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::hosts::store::load;
use crate::time::now_ms;
use crate::workspaces::Workspaces;
use crate::workspaces::lifecycle::Desired;
use crate::workspaces::store::Workspace;
use rexec_api::error::ErrorCode;
use rexec_api::ids::HostId;
use rexec_api::servers::{LeftWorkspace, ServerLeft};
use rexec_api::tokens::Scope;
use rexec_api::workspaces::{MoveState, MoveWorkspace, WorkspaceStatus};
use std::time::Duration;

/// One that could not be moved is tried again no sooner.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// What becomes of what moved workspaces have left there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sources {
    /// It is kept until they have run at their new places.
    Keep,
    Drop,
}

impl Workspaces {
    /// Moves what rests on a host, and says what is there still. The host takes no more already.
    pub async fn clear(&self, actor: &Actor, host: HostId, sources: Sources) -> Result<ServerLeft> {
        actor.authorise(Scope::Admin)?;
        if !actor.is_admin() {
            return Err(Error::new(ErrorCode::Forbidden, "Only administrators may do that."));
        }
        let mut left = ServerLeft::default();
        for row in workspaces::on_host(self.deps.db.read(), host).await? {
            if row.pool.is_some() || row.intent.desired == Desired::Deleted {
                left.going += 1;
            } else if row.is_moving() {
                left.moving.push(named(&row));
            } else if row.status != WorkspaceStatus::Stopped || row.intent.desired != Desired::Stopped {
                left.running.push(named(&row));
            } else {
                self.move_away(actor, &row, &mut left).await;
            }
        }
        if sources == Sources::Drop {
            let tx = self.deps.db.begin().await?;
            store::drop_sources(&tx, host).await?;
            tx.commit().await?;
        }
        for kept in store::unproven_at(self.deps.db.read(), host).await? {
            left.unproven.push(LeftWorkspace { id: kept.workspace, name: kept.name, reason: None, error_code: None });
        }
        let load = load(self.deps.db.read(), host).await?;
        let going = store::going(self.deps.db.read(), host).await?;
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        left.going += count(going.homes + going.snapshots);
        left.homes = count(load.homes - going.homes - going.moving_homes);
        left.snapshots = count(load.snapshots - going.snapshots - going.moving_images);
        self.deps.fleet.of(Some(host)).upkeep.notify_one();
        Ok(left)
    }

    async fn move_away(&self, actor: &Actor, row: &Workspace, left: &mut ServerLeft) {
        if let Some(failed) = row.moving.as_ref().filter(|moving| moving.state == MoveState::Failed)
            && now_ms() - failed.asked_ms < i64::try_from(RETRY_AFTER.as_millis()).unwrap_or(i64::MAX)
        {
            left.stuck.push(LeftWorkspace { reason: failed.reason.clone(), error_code: failed.error, ..named(row) });
            return;
        }
        match self.begin_move(actor, row, &MoveWorkspace::default()).await {
            Ok(()) => left.moving.push(named(row)),
            Err(error) => left.stuck.push(LeftWorkspace {
                reason: Some(error.message.into_owned()),
                error_code: Some(error.code),
                ..named(row)
            }),
        }
    }
}

fn named(row: &Workspace) -> LeftWorkspace {
    LeftWorkspace { id: row.id, name: row.name.clone(), reason: None, error_code: None }
}
