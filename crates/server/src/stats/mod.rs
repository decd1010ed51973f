//! What workspaces use: one sampler for each workspace that somebody watches, shared by all who do, and
//! a slow round over all that run, for the last day and for `/metrics`.
//!
//! Both go through [`Series::sample`], which asks the engine once. A workspace that does not run is not
//! asked about: paused, its last sample stands; stopped, there is a gap. The history is in memory; its coarse
//! spans are stored in batches, and once more when the server ends.
//!
//! Invariant: memory and load are bounded by the number of workspaces, not of viewers.

mod history;
pub mod http;
mod meter;
mod prometheus;
mod recorder;
mod series;
mod store;

use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::tasks::Tasks;
use crate::time::{now_ms, rfc3339};
use crate::workspaces::{Deps, Workspaces};
use futures_util::{Stream, stream};
use history::Point;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::stats::{StatsHistory, StatsPoint};
use rexec_api::tokens::Scope;
use rexec_api::workspaces::WorkspaceStatus;
use series::{Latest, Sampled, Series};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The pace of samples for viewers.
const WATCHED_EVERY: Duration = Duration::from_secs(2);
/// The first sample takes two looks, this far apart.
const FIRST_SPAN: Duration = Duration::from_millis(500);
/// Viewers of one workspace: they cost a connection each.
const VIEWERS_MAX: usize = 64;

#[derive(Clone)]
pub struct WorkspaceStats {
    deps: Arc<Deps>,
    workspaces: Workspaces,
    tasks: Tasks,
    series: Arc<Mutex<HashMap<WorkspaceId, Arc<Series>>>>,
}

impl WorkspaceStats {
    pub fn new(workspaces: Workspaces, tasks: Tasks) -> Self {
        Self { deps: workspaces.deps(), workspaces, tasks, series: Arc::default() }
    }

    /// Samples as they are taken, until the workspace is gone.
    pub async fn watch(
        &self,
        actor: &Actor,
        id: WorkspaceId,
    ) -> Result<impl Stream<Item = Arc<Sampled>> + Send + use<>> {
        let row = self.workspaces.owned_container(actor, Scope::WorkspacesRead, id, "statistics").await?;
        let series = self.series(id);
        if series.latest.receiver_count() >= VIEWERS_MAX {
            return Err(Error::new(
                ErrorCode::RateLimited,
                format!("{VIEWERS_MAX} watch this workspace already. Close a page or a program first."),
            )
            .retry_after(Duration::from_secs(10)));
        }
        let mut latest = series.latest.subscribe();
        self.keep_watched(&series);
        let known = latest.borrow_and_update().sample.clone();
        let stands = |sample: &Arc<Sampled>| row.status == WorkspaceStatus::Paused || sample.is_fresh(now_ms());
        let first = known.filter(stands);
        // The series is held as long as anybody watches, so its sender lives.
        Ok(stream::unfold((first, latest, series), |(first, mut latest, series)| async move {
            let sample = match first {
                Some(sample) => sample,
                None => next(&mut latest).await?,
            };
            Some((sample, (None, latest, series)))
        }))
    }

    /// What is known of the last 24 hours, from a time on.
    pub async fn history(&self, actor: &Actor, id: WorkspaceId, since_ms: Option<i64>) -> Result<StatsHistory> {
        self.workspaces.owned_container(actor, Scope::WorkspacesRead, id, "statistics").await?;
        let points = self.series(id).points(&self.deps.db, since_ms.unwrap_or(i64::MIN)).await?;
        Ok(StatsHistory { points: points.iter().map(point).collect() })
    }

    /// Figures of workspaces in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        let now = now_ms();
        let each = self.all().into_iter().filter_map(|series| {
            let sampled = series.latest.borrow().sample.clone()?;
            Some((series.id, sampled)).filter(|(_, sampled)| sampled.is_current(now))
        });
        prometheus::text(
            &self.workspaces.counts(),
            &each.collect::<Vec<_>>(),
            self.workspaces.config().metrics_workspaces,
        )
    }

    fn series(&self, id: WorkspaceId) -> Arc<Series> {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(id).or_insert_with(|| Arc::new(Series::new(id))).clone()
    }

    fn all(&self) -> Vec<Arc<Series>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Has a task sample it for as long as anybody watches.
    fn keep_watched(&self, series: &Arc<Series>) {
        if series.watched.swap(true, Ordering::SeqCst) {
            return;
        }
        let (deps, series) = (self.deps.clone(), series.clone());
        self.tasks.spawn_abortable("stats", async move {
            loop {
                sample_for_viewers(&deps, &series).await;
                series.watched.store(false, Ordering::SeqCst);
                // One who came after the last look at the viewers and before this found it watched.
                if !series.has_viewers() || series.latest.borrow().over || series.watched.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
        });
    }
}

async fn sample_for_viewers(deps: &Deps, series: &Series) {
    while series.has_viewers() {
        let pause = match store::subject(deps.db.read(), series.id).await {
            Ok(None) => return series.latest.send_modify(|latest| latest.over = true),
            Ok(Some(subject)) if subject.status == WorkspaceStatus::Running => {
                let sampled = series
                    .sample(&deps.db, &*deps.fleet.of(subject.host).engine, &subject, deps.disk.of(subject.id))
                    .await;
                if sampled { WATCHED_EVERY } else { FIRST_SPAN }
            }
            Ok(Some(_)) | Err(_) => WATCHED_EVERY,
        };
        tokio::time::sleep(pause).await;
    }
}

async fn next(latest: &mut watch::Receiver<Latest>) -> Option<Arc<Sampled>> {
    loop {
        if latest.borrow().over {
            return None;
        }
        latest.changed().await.ok()?;
        let latest = latest.borrow_and_update();
        if let Some(sample) = latest.sample.clone().filter(|_| !latest.over) {
            return Some(sample);
        }
    }
}

fn point(point: &Point) -> StatsPoint {
    let bucket = &point.bucket;
    StatsPoint {
        at: rfc3339(bucket.at_ms),
        seconds: u32::try_from(point.step_ms / 1000).unwrap_or(u32::MAX),
        cpu: bucket.cpu(),
        memory_bytes: bucket.memory_bytes,
        disk_bytes: bucket.disk_bytes,
        network_rx_bytes: bucket.rx_bytes,
        network_tx_bytes: bucket.tx_bytes,
        pids: bucket.pids,
    }
}
