//! Who fills a slot: the driver where this replica has the lease, else a follower of the one that has it. The slot stays
//! when that changes, and so does all that waits at it.

use super::Workspaces;
use super::driver::{Driver, End, lease_of};
use super::follower::{Ended, UNUSED_MAX};
use super::slot::{Report, Slot};
use super::store::{self, Workspace};
use crate::events::bus::News;
use crate::replicas::tenure::NOBODY;
use crate::replicas::{Hold, Whose};
use crate::time::now_ms;
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_api::workspaces::WorkspaceStatus;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const RETRY: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const ITS_SERVER: &str =
    "Only one server reaches it, and that one does not run now. It is here again when that one is.";

impl Workspaces {
    /// Fills a slot until its workspace is gone, or nobody needs the slot of one that is driven elsewhere.
    pub(super) async fn occupy(&self, id: WorkspaceId, slot: Arc<Slot>) {
        if self.deps.replicas.is_alone() {
            slot.set_driven(true);
            Driver::new(id, self.deps.clone(), slot, Hold::alone()).run().await;
            self.lock().remove(&id);
            return;
        }
        let mut table = self.deps.replicas.table();
        let mut needed = Instant::now();
        loop {
            table.borrow_and_update();
            let row = match store::find(self.deps.db.read(), id).await {
                Ok(Some(row)) => row,
                Ok(None) => {
                    slot.report(Report {
                        ticket: Report::LAST,
                        status: WorkspaceStatus::Deleted,
                        error: None,
                        reason: None,
                        done: true,
                    });
                    break;
                }
                Err(_) => {
                    sleep(RETRY).await;
                    continue;
                }
            };
            let name = lease_of(&row, &self.deps.fleet);
            let whose = match self.deps.replicas.whose(&name) {
                // Whoever is there looks after a machine that is not.
                Whose::Nobodys if row.is_machine() => match self.deps.replicas.acquire_open(&name).await {
                    Some(lease) => Whose::Ours(lease),
                    None => Whose::Nobodys,
                },
                whose => whose,
            };
            match whose {
                Whose::Ours(lease) => {
                    slot.set_driven(true);
                    // Whoever keeps and sets up looks at it from here on.
                    self.deps.setup_wanted.notify_one();
                    self.deps.bus.publish_here(standing(&row));
                    let driver = Driver::new(id, self.deps.clone(), slot.clone(), lease.clone());
                    let ended = lease.run_while(driver.run()).await;
                    slot.set_driven(false);
                    slot.publish_link(None);
                    if ended == Some(End::Gone) {
                        break;
                    }
                }
                Whose::Theirs(peer) => {
                    let followed = tokio::select! {
                        ended = self.follow(&row, &slot, &peer) => Some(ended),
                        () = async { while table.changed().await.is_ok() && self.is_theirs(&name, &peer.id) {} } => None,
                        () = unneeded(&slot, &mut needed) => None,
                    };
                    slot.publish_link(None);
                    match followed {
                        Some(Ended::Gone) => break,
                        Some(Ended::Turned) => sleep(RETRY).await,
                        None => {}
                    }
                }
                Whose::Nobodys => {
                    let host = self.deps.fleet.of(row.host);
                    let why = if !row.is_machine() && host.is_bound_elsewhere() { ITS_SERVER } else { NOBODY };
                    self.not_here(&slot, row.status, why.into());
                    let _ = timeout(LOOK_EVERY, table.changed()).await;
                }
            }
            if needed.elapsed() >= UNUSED_MAX && !slot.is_driven() && self.leave_slot(id, &slot) {
                return;
            }
            if !is_unneeded(&slot) {
                needed = Instant::now();
            }
        }
        self.lock().remove(&id);
    }

    fn is_theirs(&self, name: &str, peer: &crate::replicas::ReplicaId) -> bool {
        matches!(self.deps.replicas.whose(name), Whose::Theirs(now) if now.id == *peer)
    }

    /// Takes the slot away if nobody has come for it.
    fn leave_slot(&self, id: WorkspaceId, slot: &Arc<Slot>) -> bool {
        let mut slots = self.lock();
        let unneeded = is_unneeded(slot);
        if unneeded {
            slots.remove(&id);
        }
        unneeded
    }

    /// Gives every workspace of a host that this replica tends from now on its driver.
    pub(crate) async fn adopt_on(&self, host: HostId) {
        loop {
            match store::living_on(self.deps.db.read(), host).await {
                Ok(ids) => return ids.into_iter().for_each(|id| drop(self.slot(id))),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot read which workspaces live there");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Sees to it that joined machines whose server is gone are looked after by one that is there.
    pub(crate) async fn keep_machines(self) {
        let mut period = tokio::time::interval(UNUSED_MAX);
        loop {
            period.tick().await;
            match store::machines(self.deps.db.read()).await {
                Ok(ids) => {
                    let nobodys = |id: &WorkspaceId| {
                        matches!(self.deps.replicas.whose(&crate::replicas::of_machine(*id)), Whose::Nobodys)
                    };
                    ids.into_iter().filter(nobodys).for_each(|id| drop(self.slot(id)));
                }
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "cannot look for machines"),
            }
        }
    }
}

/// How it stands, as news to this server's own.
fn standing(row: &Workspace) -> News {
    let data = json!({ "status": row.status, "reason": row.status_reason, "error": row.error_code });
    let (user, workspace) = (row.owner, row.id);
    News { id: None, at_ms: now_ms(), user, workspace, kind: "workspace.status".into(), data }
}

/// Held by the map and by whoever fills it, twice, and watched by nobody.
fn is_unneeded(slot: &Arc<Slot>) -> bool {
    Arc::strong_count(slot) <= 2 && slot.is_unwatched()
}

async fn unneeded(slot: &Arc<Slot>, needed: &mut Instant) {
    loop {
        if !is_unneeded(slot) {
            *needed = Instant::now();
        } else if needed.elapsed() >= UNUSED_MAX {
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}
