//! What lay on a server that is lost: an administrator has said that it does not come back.
//!
//! All of it goes from the records in the transaction that takes the server out, so that nothing waits for ever for an
//! engine that is not there. One that had moved there and not run since has its home at its old place still: that is kept.

use super::lifecycle::Desired;
use super::moving;
use super::store::{self, WantBy, Workspace};
use super::{Deps, Workspaces};
use crate::egress;
use crate::events::{self, Logged, NewEvent};
use crate::hosts::reserve::{self, Hold};
use crate::setups;
use crate::snapshots;
use crate::snapshots::store::Failure;
use crate::time::now_ms;
use crate::volumes;
use rexec_api::ids::{HostId, UserId, WorkspaceId};
use rexec_api::servers::ServerLost;
use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::json;

const REASON: &str = "The server is lost.";

/// What there is to tell once it is so.
#[derive(Default)]
pub struct WrittenOff {
    pub lost: ServerLost,
    /// Whose drivers have to hear of it.
    ids: Vec<WorkspaceId>,
    told: Vec<(UserId, Logged)>,
}

impl Workspaces {
    /// Has the owners hear of it, and whatever waits for these workspaces end.
    pub fn tell_lost(&self, off: WrittenOff) {
        for (owner, logged) in off.told {
            self.deps.bus.publish_logged(owner, logged);
        }
        off.ids.into_iter().for_each(|id| {
            self.slot(id).ask();
        });
        self.deps.snapshot_news.send_modify(|count| *count += 1);
    }
}

/// Writes off all that lies on a host, which takes nothing any more.
pub async fn write_off(tx: &DatabaseTransaction, deps: &Deps, host: HostId) -> Result<WrittenOff, DbErr> {
    let ids = moving::store::write_off(tx, host, REASON).await?;
    let mut off = WrittenOff { ids, ..WrittenOff::default() };
    for row in store::on_host(tx, host).await? {
        let saved = bury(tx, deps, &row).await?;
        off.ids.push(row.id);
        if row.pool.is_some() || row.intent.desired == Desired::Deleted {
            continue;
        }
        off.lost.workspaces += 1;
        off.lost.saved += u64::from(saved);
        let event = NewEvent::of_user(row.owner, "workspace.lost").workspace(row.id);
        let event = event.data(json!({ "name": row.name, "home_kept": saved }));
        off.told.push((row.owner, events::append(tx, &event).await?));
    }
    off.lost.homes = volumes::store::write_off(tx, host).await?;
    off.lost.snapshots = snapshots::store::write_off(tx, host).await?;
    store::forget_envs(tx, host).await?;
    Ok(off)
}

/// `true`: its home at the place that it came from is kept.
async fn bury(tx: &DatabaseTransaction, deps: &Deps, row: &Workspace) -> Result<bool, DbErr> {
    let now = now_ms();
    snapshots::store::fail(tx, row.id, &Failure::given_up(REASON)).await?;
    setups::store::remove(tx, row.id).await?;
    egress::store::forget(tx, row.id).await?;
    let kept = i64::try_from(deps.home_kept.as_millis()).unwrap_or(i64::MAX);
    let saved = match row.want.by {
        WantBy::Purge if row.intent.desired == Desired::Deleted => None,
        _ => moving::store::keep_source(tx, row.id, &row.name, now, now.saturating_add(kept)).await?,
    };
    moving::store::prove(tx, row.id).await?;
    reserve::hold(tx, row.id, Hold::Nothing).await?;
    if let Some(host) = saved {
        // As any kept home, it holds its disk where it lies.
        store::lies_on(tx, row.id, host).await?;
        reserve::hold(tx, row.id, Hold::Home).await?;
    }
    store::bury(tx, row.id, now).await?;
    Ok(saved.is_some())
}
