//! The background work of one server: every task is named, tracked, and ends at shutdown.

use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// A handle to start tasks with and to stop them by. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    /// Those of them that may be dropped.
    abortable: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task that watches [`Tasks::stopping`] itself and then ends in good order.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        // A root of its own: a task outlives whatever happened to start it.
        let span = tracing::info_span!(parent: None, "task", task = name);
        self.tracker.spawn(work.instrument(span));
    }

    /// Runs a task that may be dropped at any await when the server stops.
    pub fn spawn_abortable(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let ended = self.abortable.token();
        self.spawn(name, async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
            drop(ended);
        });
    }

    /// Resolves once the server is to stop.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Asks every task to stop and waits for those that may be dropped: nothing is driven any more then.
    pub async fn let_go(&self, patience: Duration) -> bool {
        self.stop.cancel();
        self.abortable.close();
        tokio::time::timeout(patience, self.abortable.wait()).await.is_ok()
    }

    /// Asks every task to stop and waits for them; `false` when some were still at it at the end.
    pub async fn shutdown(&self, patience: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}
