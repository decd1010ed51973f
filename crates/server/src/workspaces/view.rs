//! A workspace's record as its owner sees it.

use super::idle::{self, Up};
use super::limits::Wish;
use super::outlook::{Rules, Standing, outlook};
use super::plan::Plan;
use super::store::Workspace;
use super::{Workspaces, keeper};
use crate::actor::Actor;
use crate::time::{now_ms, rfc3339};
use rexec_api::idle::IdleView;
use rexec_api::workspaces::{WorkspaceStatus, WorkspaceView};

impl Workspaces {
    /// How far a pull is, and a place in a queue, change too often to be written down.
    fn status_reason(&self, row: &Workspace) -> Option<String> {
        let told = self.slot_if_any(row.id).and_then(|slot| {
            let waits = slot.doing().borrow().waits();
            let report = slot.reports().borrow().clone();
            let is_pulled = row.status == WorkspaceStatus::Pulling && report.status == row.status;
            waits.or_else(|| report.reason.filter(|_| is_pulled))
        });
        told.or_else(|| row.status_reason.clone())
    }

    pub(super) fn view(&self, actor: &Actor, row: &Workspace) -> WorkspaceView {
        let host = self.deps.fleet.of(row.host);
        let facts = host.ready().ok();
        let runtime = if row.is_machine() {
            String::new()
        } else if row.runtime.is_empty() {
            facts.map_or_else(|| "default".into(), |facts| facts.engine.default_runtime.clone())
        } else {
            row.runtime.clone()
        };
        let limits = Wish::of(row).view();
        WorkspaceView {
            id: row.id,
            name: row.name.clone(),
            owner_id: row.owner,
            status: row.status,
            status_reason: self.status_reason(row),
            image: row.made_from.as_ref().unwrap_or(&row.image).clone(),
            template: row.template.clone(),
            git_url: row.git_url.clone(),
            branch: row.git_branch.clone(),
            forward_ports: Plan::of_row(row).ports,
            snapshot: row.source_snapshot.as_ref().and_then(|id| id.parse().ok()),
            region: host.region.clone(),
            host: (actor.is_admin() && !row.is_machine()).then(|| host.name.clone()),
            runtime,
            cpu: limits.cpu,
            memory_mb: limits.memory_mb,
            pids: limits.pids,
            disk_gb: u32::try_from(row.disk_mb >> 10).ok().filter(|gb| *gb > 0),
            disk_enforced: (row.disk_mb > 0).then(|| self.disk_enforced(row)),
            created_at: rfc3339(row.created_ms),
            started_at: row.started_ms.map(rfc3339),
            limits_wanted: row.wish.map(|wish| wish.view()),
            idle: self.idle_view(row),
            machine: row.machine.clone(),
            moving: row.moving.as_ref().map(|moving| self.move_view(actor, row, moving)),
        }
    }

    fn idle_view(&self, row: &Workspace) -> IdleView {
        let cleanup = &self.config.cleanup;
        let rules =
            Rules { thresholds: self.thresholds(row), counts: cleanup.counts, delete_grace: cleanup.delete_grace };
        let slot = self.slot_if_any(row.id);
        let recorded = keeper::recorded_ms(row);
        let last_ms =
            slot.as_ref().map_or(recorded, |slot| slot.presence.activity(recorded).last_ms(cleanup.counts, now_ms()));
        let up = |how| Standing::Up {
            how,
            last_ms,
            is_busy: slot.as_ref().is_some_and(|slot| slot.presence.is_busy()),
            started_ms: row.started_ms,
        };
        let standing = match row.status {
            WorkspaceStatus::Running => up(Up::Running),
            WorkspaceStatus::Paused => up(keeper::paused(row)),
            WorkspaceStatus::Stopped => keeper::stopped(row).map_or(Standing::Elsewhere, Standing::Stopped),
            _ => Standing::Elsewhere,
        };
        let outlook = outlook(standing, &rules);
        IdleView {
            last_active_at: row.started_ms.map(|_| rfc3339(last_ms)),
            pauses_at: outlook.pauses_ms.map(rfc3339),
            stops_at: outlook.stops_ms.map(rfc3339),
            deletes_at: outlook.deletes_ms.map(rfc3339),
            deletion_announced: outlook.announced,
            sentence: outlook.sentence,
            in_force: idle::told(&rules.thresholds),
            own: row.idle,
        }
    }
}
