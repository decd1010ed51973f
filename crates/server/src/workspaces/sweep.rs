//! The sweep of a host: every container in one call, compared with what was last reported of it.
//!
//! Events tell drivers of nearly everything, and an engine can be killed between two of them. So at
//! a slow pace, and whenever the events were interrupted, one listing is taken and those drivers
//! are nudged whose container is not as they said. A thousand quiet workspaces cost one request.

use super::Workspaces;
use crate::hosts::{Host, LABEL_WORKSPACE};
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_api::workspaces::WorkspaceStatus;
use rexec_engine::{Summary, SummaryState};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::MissedTickBehavior;

/// What a sweep took, on `/metrics`.
const DURATION: &str = "rexec_sweep_duration_seconds";

impl Workspaces {
    /// Sweeps one host for ever.
    pub async fn keep_sweeping(self, host: Arc<Host>) {
        let mut period = tokio::time::interval(self.config.sweep_every);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = period.tick() => {}
                () = host.gap.notified() => {}
            }
            // A host that comes back nudges every driver by itself.
            if host.ready().is_err() {
                continue;
            }
            let began = Instant::now();
            match host.engine.summaries(&host.labels()).await {
                Ok(containers) => {
                    let nudged = self.compare(host.id, &containers);
                    metrics::histogram!(DURATION).record(began.elapsed().as_secs_f64());
                    tracing::debug!(containers = containers.len(), nudged, "swept");
                }
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "could not sweep"),
            }
        }
    }

    /// Nudges the drivers that have something to look at; how many these were.
    fn compare(&self, host: HostId, containers: &[Summary]) -> usize {
        let mut states: HashMap<WorkspaceId, Vec<SummaryState>> = HashMap::new();
        for container in containers {
            if let Some(id) = container.labels.get(LABEL_WORKSPACE).and_then(|id| id.parse().ok()) {
                states.entry(id).or_default().push(container.state);
            }
        }
        let mut nudged = 0;
        for (id, slot) in self.lock().iter().filter(|(_, slot)| slot.is_driven() && slot.host() == Some(host)) {
            let reports = slot.reports();
            let report = reports.borrow();
            // A driver that is not done looks again by itself.
            if report.done && !is_as_reported(report.status, states.get(id).map_or(&[], Vec::as_slice)) {
                slot.nudge();
                nudged += 1;
            }
        }
        nudged
    }
}

/// Whether a workspace's containers can be what a driver saw that reported this and was done.
fn is_as_reported(status: WorkspaceStatus, containers: &[SummaryState]) -> bool {
    match status {
        WorkspaceStatus::Running => containers.contains(&SummaryState::Running),
        WorkspaceStatus::Paused => containers.contains(&SummaryState::Paused),
        WorkspaceStatus::Stopped => {
            !containers.iter().any(|state| matches!(state, SummaryState::Running | SummaryState::Paused))
        }
        // Left alone until someone asks.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_reported_is_noticed() {
        use SummaryState as C;
        use WorkspaceStatus as W;
        for (status, containers, fits) in [
            (W::Running, &[C::Running][..], true),
            (W::Running, &[], false),
            (W::Running, &[C::Exited], false),
            (W::Running, &[C::Paused], false),
            (W::Running, &[C::Exited, C::Running], true),
            (W::Paused, &[C::Paused], true),
            (W::Paused, &[C::Running], false),
            (W::Stopped, &[], true),
            (W::Stopped, &[C::Created], true),
            (W::Stopped, &[C::Exited], true),
            (W::Stopped, &[C::Running], false),
            (W::Error, &[C::Running], true),
        ] {
            assert_eq!(is_as_reported(status, containers), fits, "{status:?} {containers:?}");
        }
    }
}
