//! One workspace's statistics in memory: what is known, and who watches.

use super::history::{self, Bucket, History, Point};
use super::meter::{self, Reading, Usage};
use super::store::{self, Subject};
use crate::db::Db;
use crate::time::{now_ms, rfc3339};
use crate::workspaces::container_name;
use rexec_api::ids::WorkspaceId;
use rexec_api::stats::StatsSample;
use rexec_engine::{Engine, Stats};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex, watch};

/// A sample younger than this is news to one who begins to watch.
const FRESH_MS: i64 = 5000;
/// An older one says nothing of now: the slow round comes more often.
const CURRENT_MS: i64 = 150_000;

/// What viewers see.
#[derive(Debug, Clone, Default)]
pub struct Latest {
    pub sample: Option<Arc<Sampled>>,
    /// The workspace is gone: nothing more will come.
    pub over: bool,
}

#[derive(Debug)]
pub struct Sampled {
    pub at_ms: i64,
    pub view: StatsSample,
}

impl Sampled {
    pub fn is_fresh(&self, now_ms: i64) -> bool {
        now_ms - self.at_ms < FRESH_MS
    }

    pub fn is_current(&self, now_ms: i64) -> bool {
        now_ms - self.at_ms < CURRENT_MS
    }
}

#[derive(Default)]
struct State {
    history: History,
    last: Option<Reading>,
    /// What an earlier server stored has been read.
    recalled: bool,
}

pub struct Series {
    pub id: WorkspaceId,
    /// Held while the engine is asked, so that of two who sample at once one has the other's reading.
    state: Mutex<State>,
    pub latest: watch::Sender<Latest>,
    /// A task samples it at the pace of viewers.
    pub watched: AtomicBool,
}

impl Series {
    pub fn new(id: WorkspaceId) -> Self {
        Self { id, state: Mutex::default(), latest: watch::Sender::default(), watched: AtomicBool::new(false) }
    }

    pub fn has_viewers(&self) -> bool {
        self.latest.receiver_count() > 0
    }

    /// Looks once. `true`: there was something to compare with, so there is a sample.
    pub async fn sample(&self, db: &Db, engine: &dyn Engine, subject: &Subject, disk_bytes: Option<u64>) -> bool {
        let mut state = self.state.lock().await;
        if let Err(error) = self.recall(db, &mut state).await {
            // It is read before anything is added: what is stored later would else hide what was stored before.
            tracing::warn!(workspace.id = %self.id, %error, "cannot read stored statistics");
            return false;
        }
        let name = container_name(self.id, subject.generation);
        let stats = match engine.stats_once(&name).await {
            // Zeros of every kind: it does not run.
            Ok(stats) if stats.cpu_total_ns > 0 => stats,
            Ok(_) => {
                state.last = None;
                return false;
            }
            Err(error) => {
                tracing::debug!(workspace.id = %self.id, %error, "no statistics");
                return false;
            }
        };
        let now = Reading { at_ms: now_ms(), generation: subject.generation, stats };
        let used = state.last.as_ref().and_then(|before| meter::usage(before, &now, disk_bytes));
        if let Some(used) = &used {
            state.history.add(used);
            let sampled = Sampled { at_ms: now.at_ms, view: view(used, &now.stats, subject) };
            self.latest.send_modify(|latest| latest.sample = Some(Arc::new(sampled)));
        }
        state.last = Some(now);
        used.is_some()
    }

    /// When the engine was last asked.
    pub async fn last_ms(&self) -> Option<i64> {
        self.state.lock().await.last.as_ref().map(|reading| reading.at_ms)
    }

    pub async fn points(&self, db: &Db, since_ms: i64) -> Result<Vec<Point>, sea_orm::DbErr> {
        let mut state = self.state.lock().await;
        self.recall(db, &mut state).await?;
        Ok(state.history.points(since_ms, now_ms()))
    }

    pub async fn take_unsaved(&self) -> Vec<Bucket> {
        self.state.lock().await.history.take_unsaved()
    }

    pub async fn unsaved_again(&self, from_ms: i64) {
        self.state.lock().await.history.unsaved_again(from_ms);
    }

    /// Whether nobody would miss it: what was last read is the beginning of the next span.
    pub fn is_idle(&self, now_ms: i64) -> bool {
        let begun = |state: &State| state.last.as_ref().is_some_and(|reading| now_ms - reading.at_ms < CURRENT_MS);
        let over = || self.state.try_lock().is_ok_and(|state| !begun(&state) && state.history.is_over(now_ms));
        !self.has_viewers() && !self.watched.load(Ordering::SeqCst) && over()
    }

    async fn recall(&self, db: &Db, state: &mut State) -> Result<(), sea_orm::DbErr> {
        if !state.recalled {
            let stored = store::load(db.read(), self.id, now_ms() - history::KEPT_MS).await?;
            state.history.recall(stored);
            state.recalled = true;
        }
        Ok(())
    }
}

fn view(used: &Usage, stats: &Stats, subject: &Subject) -> StatsSample {
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    StatsSample {
        at: rfc3339(used.at_ms),
        cpu: used.cpu,
        cpu_percent: used.cpu * 100_000.0 / (subject.cpu_milli.max(1)) as f64,
        memory_bytes: used.memory_bytes,
        memory_limit_bytes: stats.memory_limit_bytes,
        disk_bytes: used.disk_bytes,
        disk_limit_bytes: Some(unsigned(subject.disk_mb) << 20).filter(|bytes| *bytes > 0),
        network_rx_bytes: stats.network_rx_bytes,
        network_tx_bytes: stats.network_tx_bytes,
        network_rx_rate: used.per_second(used.rx_bytes),
        network_tx_rate: used.per_second(used.tx_bytes),
        pids: used.pids,
        pids_limit: unsigned(subject.pids),
    }
}
