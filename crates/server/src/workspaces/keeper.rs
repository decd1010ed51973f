//! The keeper: one task that looks at each workspace when something may be due, and wants it paused,
//! stopped or deleted.
//!
//! ```text
//!   news of a workspace, or its time has come -> ask its guest what it sees -> idle / retention decide
//!     -> write what is wanted, and an event -> the driver is nudged
//! ```
//!
//! Each look says when the next is worth while, so a workspace that sleeps or is stopped costs nothing
//! until then, and one that nobody uses is not asked more often than its owner could notice.
//!
//! Invariant: the keeper writes wants only by `want_if`: of two that decide at once, one does, and
//! never against what a person asked for meanwhile. A workspace that was used while it was being
//! frozen is woken again. All that decides is recorded or in the guest: a restart of the server
//! loses no more than the last look knew.

use super::idle::{self, Up};
use super::lifecycle::Desired;
use super::retention::{self, Stopped, Warning};
use super::store::{self, Want, WantBy, Workspace};
use super::{Workspaces, settled};
use crate::config::Thresholds;
use crate::error::Result;
use crate::events::bus::News;
use crate::events::{self, NewEvent};
use crate::snapshots;
use crate::time::{now_ms, rfc3339};
use futures_util::stream::{self, StreamExt as _};
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::WorkspaceStatus;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior};

/// Looks at once.
const LOOKS_MAX: usize = 16;
/// News comes in bursts: so long after the first of them the workspace is looked at.
const BURST: Duration = Duration::from_millis(200);
/// How long a guest may take to say how it is used.
const ASK_PATIENCE: Duration = Duration::from_secs(5);
/// How long a pause is waited for, to see whether somebody came meanwhile.
const PAUSE_PATIENCE: Duration = Duration::from_secs(10);
/// When a look could not be taken, or something else goes on: so long until the next.
const AGAIN: Duration = Duration::from_secs(10);
/// Everything is looked at so often, whatever was missed or however the clock was set.
const REVIEW_EVERY: Duration = Duration::from_secs(600);

impl Workspaces {
    /// Keeps for ever.
    pub async fn keep_idle(self) {
        let mut news = self.deps.bus.subscribe();
        let mut due: HashMap<WorkspaceId, Instant> = HashMap::new();
        let mut review = tokio::time::interval(REVIEW_EVERY);
        review.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = due.values().min().copied();
            tokio::select! {
                _ = review.tick() => self.review(&mut due).await,
                heard = news.recv() => match heard {
                    Ok(news) if concerns(&news) => sooner(&mut due, news.workspace, Instant::now() + BURST),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.review(&mut due).await,
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.look_at_due(&mut due).await;
                }
            }
        }
    }

    /// Has everything looked at now.
    async fn review(&self, due: &mut HashMap<WorkspaceId, Instant>) {
        match store::living(self.deps.db.read()).await {
            Ok(ids) => ids.into_iter().for_each(|id| sooner(due, id, Instant::now())),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "cannot read which workspaces live"),
        }
    }

    async fn look_at_due(&self, due: &mut HashMap<WorkspaceId, Instant>) {
        let now = Instant::now();
        let ids: Vec<WorkspaceId> = due.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        let looks = ids.into_iter().map(|id| async move { (id, self.look(id).await) });
        let mut looks = stream::iter(looks).buffer_unordered(LOOKS_MAX);
        while let Some((id, looked)) = looks.next().await {
            let next = looked.unwrap_or_else(|error| {
                tracing::warn!(
                    workspace.id = %id, error = &error as &dyn std::error::Error,
                    "cannot judge whether a workspace is idle"
                );
                Some(AGAIN)
            });
            match next {
                Some(pause) => due.insert(id, Instant::now() + pause),
                None => due.remove(&id),
            };
        }
    }

    /// Does what is due; how long until the next look, unless something happens before.
    async fn look(&self, id: WorkspaceId) -> Result<Option<Duration>> {
        let Some(row) = store::find(self.deps.db.read(), id).await? else { return Ok(None) };
        if !self.drives(&row) {
            // Whoever drives it keeps it, too.
            return Ok(None);
        }
        let thresholds = self.thresholds(&row);
        match (row.intent.desired, row.status) {
            (Desired::Running, WorkspaceStatus::Running) => self.look_at_up(&row, Up::Running, &thresholds).await,
            (Desired::Paused, WorkspaceStatus::Paused) => self.look_at_up(&row, paused(&row), &thresholds).await,
            (Desired::Stopped, WorkspaceStatus::Stopped) => self.look_at_stopped(&row, &thresholds).await,
            // On its way, or out of reach: there will be news.
            _ => Ok(None),
        }
    }

    async fn look_at_up(&self, row: &Workspace, up: Up, thresholds: &Thresholds) -> Result<Option<Duration>> {
        let ends = retention::lifetime_ends(row.started_ms, thresholds.lifetime);
        let now = now_ms();
        if let (Some(lifetime), true) = (thresholds.lifetime, ends.is_some_and(|at| at <= now)) {
            let want = Want { by: WantBy::Lifetime, reason: Some(retention::lifetime_reason(lifetime)) };
            return self.put_down(row, Desired::Stopped, &want).await;
        }
        let pace = idle::pace(thresholds).filter(|_| up == Up::Running);
        let slot = self.slot(row.id);
        let is_known = match pace {
            Some(_) => self.ask_guest(row).await?,
            None => true,
        };
        let (now, counts) = (now_ms(), self.config.cleanup.counts);
        let activity = slot.presence.activity(recorded_ms(row));
        let last = activity.last_ms(counts, now);
        if row.last_active_ms.is_none_or(|recorded| recorded < last) {
            store::note_use(self.deps.db.write(), row.id, last).await?;
        }
        if !is_known {
            // What is not known to be idle is not taken to be.
            return Ok(Some(AGAIN));
        }
        let until = match idle::judge(up, &activity, thresholds, counts, now) {
            idle::Verdict::Leave(until) => until,
            idle::Verdict::Pause(reason) => {
                let want = Want { by: WantBy::Idle, reason: Some(reason) };
                let next = self.put_down(row, Desired::Paused, &want).await?;
                if next.is_none() {
                    self.wake_if_used_since(row.id, &activity).await?;
                }
                return Ok(next);
            }
            idle::Verdict::Stop(reason) => {
                let want = Want { by: WantBy::Idle, reason: Some(reason) };
                return self.put_down(row, Desired::Stopped, &want).await;
            }
        };
        let next = [until, ends].into_iter().flatten().min().map(|at| after(at, now));
        Ok([next, pace].into_iter().flatten().min())
    }

    async fn look_at_stopped(&self, row: &Workspace, thresholds: &Thresholds) -> Result<Option<Duration>> {
        let Some(stopped) = stopped(row) else { return Ok(None) };
        let now = now_ms();
        match retention::judge(&stopped, thresholds.delete_after, self.config.cleanup.delete_grace, now) {
            retention::Verdict::Keep(until) => Ok(until.map(|at| after(at, now))),
            retention::Verdict::Warn { deletes_ms } => {
                self.announce(row, Some(Warning { at_ms: now, deletes_ms })).await?;
                Ok(Some(Duration::ZERO))
            }
            retention::Verdict::Withdraw => {
                self.announce(row, None).await?;
                Ok(Some(Duration::ZERO))
            }
            retention::Verdict::Delete(reason) => {
                let want = Want { by: WantBy::Delete, reason: Some(reason) };
                self.want_of_itself(row, Desired::Deleted, &want, "workspace.deleted").await?;
                Ok(None)
            }
        }
    }

    /// Takes in how the workspace is used; `false` when that is not to be had.
    async fn ask_guest(&self, row: &Workspace) -> Result<bool> {
        let slot = self.slot(row.id);
        let Some(guest) = slot.link().borrow().clone() else { return Ok(false) };
        match tokio::time::timeout(ASK_PATIENCE, guest.usage()).await {
            Ok(Ok(usage)) => {
                slot.presence.hear(&usage, self.config.cleanup.counts, now_ms());
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Wants it paused or stopped, but not while a snapshot of it is taken: that would come to nothing.
    async fn put_down(&self, row: &Workspace, desired: Desired, want: &Want) -> Result<Option<Duration>> {
        if snapshots::store::taking(self.deps.db.read(), row.id).await?.is_some() {
            return Ok(Some(AGAIN));
        }
        let event = if desired == Desired::Paused { "workspace.paused" } else { "workspace.stopped" };
        self.want_of_itself(row, desired, want, event).await?;
        Ok(None)
    }

    /// Whoever came between the decision and the frost finds the workspace awake.
    async fn wake_if_used_since(&self, id: WorkspaceId, decided_by: &idle::Activity) -> Result<()> {
        let slot = self.slot(id);
        settled(&slot, slot.nudge(), PAUSE_PATIENCE).await;
        let since = slot.presence.activity(decided_by.recorded_ms);
        let counts = self.config.cleanup.counts;
        if since.last_ms(counts, i64::MAX) > decided_by.last_ms(counts, i64::MAX)
            && let Some(row) = store::find(self.deps.db.read(), id).await?
        {
            self.want_awake(None, &row).await?;
        }
        Ok(())
    }

    /// Wants it so where nobody has wanted anything else since the row was read, and says so.
    async fn want_of_itself(&self, row: &Workspace, desired: Desired, want: &Want, event: &'static str) -> Result<()> {
        let tx = self.deps.db.begin().await?;
        if !store::want_if(&tx, row, desired, want, now_ms()).await? {
            return Ok(());
        }
        let event = NewEvent::of_server(event).workspace(row.id);
        let data = json!({ "by": want.by.as_str(), "reason": want.reason });
        let logged = events::append(&tx, &event.data(data)).await?;
        tx.commit().await?;
        self.deps.bus.publish_logged(row.owner, logged);
        self.slot(row.id).nudge();
        Ok(())
    }

    /// Has its owner hear when it will be deleted, or that it will not after all.
    async fn announce(&self, row: &Workspace, warning: Option<Warning>) -> Result<()> {
        let kind = match warning {
            Some(_) => "workspace.deletion_announced",
            None => "workspace.deletion_withdrawn",
        };
        let tx = self.deps.db.begin().await?;
        if store::tell_of_deletion(&tx, row, warning).await? {
            let event = NewEvent::of_server(kind).workspace(row.id);
            let data = json!({ "name": row.name, "deletes_at": warning.map(|told| rfc3339(told.deletes_ms)) });
            let logged = events::append(&tx, &event.data(data)).await?;
            tx.commit().await?;
            self.deps.bus.publish_logged(row.owner, logged);
        }
        Ok(())
    }

    /// Whether its host can hold a workspace still, as far as that is known.
    pub(super) fn pauses(&self, row: &Workspace) -> bool {
        self.deps.fleet.of(row.host).ready().map_or(true, |facts| facts.engine.control_groups)
    }

    /// When what happens to this workspace: as the server says, where it does not say itself; where nothing can be
    /// paused, nothing is told to be.
    pub(super) fn thresholds(&self, row: &Workspace) -> Thresholds {
        if row.is_machine() || row.pool.is_some() {
            // Not ours to put down, or the pool's alone.
            return Thresholds { pause_after: None, stop_after: None, lifetime: None, delete_after: None };
        }
        let own = idle::with_own(&self.config.cleanup.thresholds, &row.idle);
        if self.pauses(row) { own } else { Thresholds { pause_after: None, ..own } }
    }
}

/// A status that has changed, or a wish of its owner.
fn concerns(news: &Arc<News>) -> bool {
    news.kind.starts_with("workspace.")
}

fn sooner(due: &mut HashMap<WorkspaceId, Instant>, id: WorkspaceId, at: Instant) {
    let planned = due.entry(id).or_insert(at);
    *planned = (*planned).min(at);
}

fn after(at_ms: i64, now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0))
}

/// How one is paused.
pub(super) fn paused(row: &Workspace) -> Up {
    if row.want.by == WantBy::Idle { Up::Asleep } else { Up::Held }
}

pub(super) fn stopped(row: &Workspace) -> Option<Stopped> {
    // A warning of which is not known what it said is none.
    let warned = row.delete_warned_ms.zip(row.delete_told_ms);
    let warned = warned.map(|(at_ms, deletes_ms)| Warning { at_ms, deletes_ms });
    Some(Stopped { since_ms: row.stopped_ms?, warned })
}

/// What is recorded of its use.
pub(super) fn recorded_ms(row: &Workspace) -> i64 {
    row.last_active_ms.or(row.started_ms).unwrap_or(row.created_ms)
}
