//! A workspace that another replica drives, as it is here: the same slot, filled from that one.
//!
//! ```text
//!   asks and nudges --> the holder's slot, which gives a ticket    report, doing, refusals <-- the holder's slot
//!   use that is noted here --> the holder's presence               link: HTTP/2 through the holder's own link to the guest
//! ```
//!
//! So all that works with a slot works here as there, and nothing is decided here: a follower writes nothing. It is begun
//! when somebody needs the slot, and goes some time after nobody does.

use super::Workspaces;
use super::limits::Refusal;
use super::link::Link;
use super::slot::{Doing, Report, Slot};
use super::store::{self, Workspace};
use super::waker::InUse;
use crate::config::Use;
use crate::replicas::peers::PeerError;
use crate::replicas::{Replica, Whose};
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_channel::GuestClient;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// After something did not work.
const RETRY: Duration = Duration::from_millis(300);
/// How long it stays when nobody needs it.
pub(super) const UNUSED_MAX: Duration = Duration::from_secs(30);

/// What is asked of a driver from afar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wants {
    #[default]
    Nothing,
    Nudge,
    Ask,
}

/// A follower's request.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Follow {
    wants: Wants,
    /// The answer comes once something else is so, or at once when something is asked.
    known: Option<Told>,
    /// Of each way to use it, when it was last used at the follower's replica; milliseconds since 1970.
    uses: [Option<i64>; Use::COUNT],
    /// Something is on its way in or out there.
    held: bool,
}

/// The answer to it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Followed {
    /// Of what was asked.
    ticket: Option<u64>,
    told: Told,
}

/// What a driver says, to those who follow it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    report: Report,
    doing: Doing,
    refused_limits: Option<(i64, Refusal)>,
    /// Its guest is within reach.
    linked: bool,
}

/// Why following has ended.
pub(super) enum Ended {
    /// Somebody else has it now, or it is to be seen who.
    Turned,
    /// The record is buried.
    Gone,
}

/// What somebody asks is not forgotten before it has been taken, however following ends.
struct Asking<'a> {
    slot: &'a Slot,
    until_taken: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.until_taken {
            self.slot.set_asked();
        }
    }
}

fn is_open(link: &Option<GuestClient>) -> bool {
    link.as_ref().is_some_and(|guest| !guest.is_closed())
}

impl Workspaces {
    /// Answers a follower elsewhere; `None`: it is not driven here.
    pub(crate) async fn followed(&self, id: WorkspaceId, follow: Follow, wait: Duration) -> Option<Followed> {
        let slot = self.driven(id).await?;
        for (using, at_ms) in Use::ALL.into_iter().zip(follow.uses) {
            if let Some(at_ms) = at_ms {
                slot.presence.note(using, at_ms.min(crate::time::now_ms()));
            }
        }
        // Said again with each request, for as long as it is so.
        let _using = follow.held.then(|| InUse::new(slot.clone()));
        let ticket = match follow.wants {
            Wants::Nothing => None,
            Wants::Nudge => Some(slot.nudge()),
            Wants::Ask => Some(slot.ask()),
        };
        if ticket.is_some() {
            // What was recorded elsewhere may have a set-up to be run here.
            self.deps.setup_wanted.notify_one();
        }
        let (mut reports, mut doings, mut links) = (slot.reports(), slot.doing(), slot.link());
        let deadline = Instant::now() + wait;
        loop {
            let told = Told {
                report: reports.borrow_and_update().clone(),
                doing: doings.borrow_and_update().clone(),
                refused_limits: slot.refused_limits(),
                linked: is_open(&links.borrow_and_update()),
            };
            if ticket.is_some() || follow.known.as_ref() != Some(&told) || Instant::now() >= deadline {
                return Some(Followed { ticket, told });
            }
            let changed = async {
                tokio::select! {
                    _ = reports.changed() => {}
                    _ = doings.changed() => {}
                    _ = links.changed() => {}
                }
            };
            let _ = tokio::time::timeout_at(deadline, changed).await;
        }
    }

    /// The guest of a workspace that is driven here, if it is within reach.
    pub(crate) fn own_guest(&self, id: WorkspaceId) -> Option<GuestClient> {
        let slot = self.slot_if_any(id).filter(|slot| slot.is_driven())?;
        let link = slot.link().borrow().clone();
        link.filter(|guest| !guest.is_closed())
    }

    /// The slot of a workspace that is driven here, once its driver has begun.
    async fn driven(&self, id: WorkspaceId) -> Option<std::sync::Arc<Slot>> {
        if let Some(slot) = self.slot_if_any(id).filter(|slot| slot.is_driven()) {
            return Some(slot);
        }
        let row = store::find(self.deps.db.read(), id).await.ok()??;
        if !self.drives(&row) {
            return None;
        }
        let slot = self.slot(id);
        timeout(RETRY, slot.until_driven()).await.ok()?;
        Some(slot)
    }

    /// Whether a workspace is driven by this replica.
    pub(crate) fn drives(&self, row: &Workspace) -> bool {
        matches!(self.deps.replicas.whose(&super::driver::lease_of(row, &self.deps.fleet)), Whose::Ours(_))
    }

    /// The same of one of which only the id is known.
    pub(crate) async fn drives_one(&self, id: WorkspaceId) -> bool {
        if self.deps.replicas.is_alone() {
            return true;
        }
        matches!(store::find(self.deps.db.read(), id).await, Ok(Some(row)) if self.drives(&row))
    }

    /// Follows another replica's driver for as long as that one has the lease.
    pub(super) async fn follow(&self, row: &Workspace, slot: &Slot, peer: &Replica) -> Ended {
        let (replicas, id) = (&self.deps.replicas, row.id);
        let mut link: Option<Link> = None;
        let (mut known, mut seen, mut theirs) = (None, 0, 0);
        let ended = loop {
            let local = slot.ticket();
            let wants = match slot.take_asked() {
                true => Wants::Ask,
                false if local > seen => Wants::Nudge,
                false => Wants::Nothing,
            };
            let mut asking = Asking { slot, until_taken: wants == Wants::Ask };
            let activity = slot.presence.activity(0);
            let follow = Follow { wants, known: known.clone(), uses: activity.at, held: slot.presence.is_held() };
            let client = link.as_ref().map(|link| link.client.clone());
            let answer = tokio::select! {
                answer = replicas.follow(peer, id, &follow) => answer,
                () = slot.nudged(local) => {
                    continue;
                }
                () = super::driver::closed(client) => {
                    link = None;
                    slot.publish_link(None);
                    known = None;
                    continue;
                }
            };
            let Followed { ticket, told } = match answer {
                Ok(followed) => followed,
                Err(error) => {
                    if let PeerError::Unreached(why) = error {
                        self.not_here(slot, row.status, why);
                    }
                    break Ended::Turned;
                }
            };
            asking.until_taken = false;
            if let Some(ticket) = ticket {
                (seen, theirs) = (local, ticket);
            }
            if told.report.status == WorkspaceStatus::Deleted && told.report.done {
                slot.report(Report { ticket: Report::LAST, ..told.report });
                break Ended::Gone;
            }
            // Their ticket is not ours: it counts as the one that was last taken there, once that is answered.
            let answered = if told.report.ticket >= theirs { seen } else { 0 };
            slot.say(Report { ticket: answered, ..told.report.clone() }, &told.doing, told.refused_limits.clone());
            if !told.linked {
                link = None;
                slot.publish_link(None);
            } else if link.is_none() {
                link = self.link_through(row, peer).await;
                if let Some(link) = &link {
                    slot.publish_link(Some(link.client.clone()));
                } else {
                    sleep(RETRY).await;
                }
            }
            // A link that did not come about is tried again soon.
            known = (told.linked == link.is_some()).then_some(told);
        };
        slot.publish_link(None);
        ended
    }

    async fn link_through(&self, row: &Workspace, peer: &Replica) -> Option<Link> {
        let made = async {
            let stream = self.deps.replicas.guest_stream(peer, row.id).await.map_err(|error| error.to_string())?;
            Link::over_peer(stream, self.deps.budgets.of(row.owner)).await.map_err(|error| error.to_string())
        };
        match made.await {
            Ok(link) => Some(link),
            Err(why) => {
                tracing::debug!(workspace.id = %row.id, why, "no link through another server");
                None
            }
        }
    }

    /// Nobody who is reached from here drives it.
    pub(super) fn not_here(&self, slot: &Slot, status: WorkspaceStatus, why: String) {
        slot.report(Report { ticket: 0, status, error: Some(ErrorCode::NotHere), reason: Some(why), done: false });
    }
}
