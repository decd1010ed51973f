//! The slow round over a host: every workspace that runs is sampled for its history. What is to outlive the server is
//! stored for all of them together.

use super::WorkspaceStats;
use super::history::{self, Bucket};
use super::store::{self, Subject};
use crate::hosts::Host;
use crate::time::now_ms;
use futures_util::{StreamExt as _, stream};
use rexec_api::ids::WorkspaceId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Engines asked at once: one that answers slowly must not hold up the others.
const ROUND_WIDTH: usize = 8;
/// Rounds from one batch of stored spans to the next.
const ROUNDS_UNSAVED_MAX: u32 = 10;

impl WorkspaceStats {
    /// Stores what is recorded until the server stops, and then what is not stored yet.
    pub async fn keep_storing(self) {
        let mut period = tokio::time::interval(self.round_every() * ROUNDS_UNSAVED_MAX);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        period.tick().await;
        let tasks = self.tasks.clone();
        loop {
            tokio::select! {
                () = tasks.stopping() => break,
                _ = period.tick() => self.save().await,
            }
        }
        self.save().await;
    }

    /// Records what runs on a host, until dropped.
    pub async fn keep_recording(self, host: Arc<Host>) {
        let mut period = tokio::time::interval(self.round_every());
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            if host.ready().is_ok() {
                self.round(&host).await;
            }
        }
    }

    fn round_every(&self) -> Duration {
        self.workspaces.config().stats_every
    }

    async fn round(&self, host: &Host) {
        match store::running(self.deps.db.read(), host.id).await {
            Ok(running) => {
                stream::iter(running).for_each_concurrent(ROUND_WIDTH, |subject| self.look(host, subject)).await;
            }
            Err(error) => tracing::warn!(%error, "cannot read which workspaces run"),
        }
        let now = now_ms();
        self.series.lock().unwrap_or_else(std::sync::PoisonError::into_inner).retain(|_, series| !series.is_idle(now));
    }

    async fn look(&self, host: &Host, subject: Subject) {
        let series = self.series(subject.id);
        // One that was looked at much later than in the last round is being watched.
        let fresh_ms = i64::try_from(self.round_every().as_millis() / 2).unwrap_or(i64::MAX);
        let is_watched = series.last_ms().await.is_some_and(|last| (0..fresh_ms).contains(&(now_ms() - last)));
        if !is_watched {
            series.sample(&self.deps.db, &*host.engine, &subject, self.deps.disk.of(subject.id)).await;
        }
    }

    async fn save(&self) {
        let mut unsaved: Vec<(WorkspaceId, Bucket)> = Vec::new();
        for series in self.all() {
            unsaved.extend(series.take_unsaved().await.into_iter().map(|bucket| (series.id, bucket)));
        }
        let stored = async {
            let tx = self.deps.db.begin().await?;
            store::save(&tx, &unsaved).await?;
            store::forget(&tx, now_ms() - history::KEPT_MS).await?;
            tx.commit().await
        };
        if let Err(error) = stored.await {
            tracing::warn!(%error, "cannot store statistics; they are kept for the next time");
            for (id, bucket) in unsaved {
                self.series(id).unsaved_again(bucket.at_ms).await;
            }
        }
    }
}
