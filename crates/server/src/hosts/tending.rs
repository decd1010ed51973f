//! How a host is tended: it is connected, prepared, and watched until it is lost; and again.
//!
//! Invariant: what has not been prepared since it was lost is not `ready`.

use super::{Heard, Host, HostFacts, HostState, LABEL_WORKSPACE, LOCAL, access, delivery, explain, helper, mark};
use crate::db::Db;
use crate::secrets::inside::Vault;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use rexec_engine::{DiskLimits, EngineError, EngineInfo};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// The engine's word for a process that was ended because its container's memory was full.
const OUT_OF_MEMORY: &str = "oom";
const PING_EVERY: Duration = Duration::from_secs(5);
const PINGS_LOST_MAX: u32 = 2;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

impl Host {
    /// Tends the host until dropped. `on_event` hears of every change to a workspace's container.
    pub async fn tend(&self, vault: &Vault, on_event: impl Fn(Heard)) {
        let (db, mut retry) = (vault.db(), RETRY_FIRST);
        loop {
            match self.prove(db).await {
                Ok(facts) => {
                    retry = RETRY_FIRST;
                    // At the start the server's own last line says enough; news is a host that comes back.
                    if matches!(*self.state.borrow(), HostState::Offline { .. }) {
                        tracing::info!(host = self.name, "host is back");
                    }
                    tracing::debug!(
                        host = self.name, engine = facts.engine.version, dials = facts.dials,
                        runtimes = ?facts.engine.runtimes, "host is ready"
                    );
                    for what in &facts.weaker {
                        tracing::warn!(
                            host = self.name,
                            what,
                            "workspaces are less isolated here, as the operator allows"
                        );
                    }
                    let facts = Arc::new(facts);
                    self.state.send_replace(HostState::Ready(facts.clone()));
                    let reason = {
                        let besides = async {
                            tokio::join!(self.try_usual_runtime(&facts), self.keep_gateway(vault, &facts.engine));
                        };
                        let watching = pin!(self.watch_over(db, &facts.engine, &on_event));
                        match select(watching, pin!(besides)).await {
                            Either::Left((reason, _)) => reason,
                            Either::Right(((), watching)) => watching.await,
                        }
                    };
                    tracing::warn!(host = self.name, reason, "host went offline");
                    self.state.send_replace(HostState::Offline { reason });
                }
                Err(reason) => {
                    self.say_why_not(reason);
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    fn say_why_not(&self, reason: String) {
        self.state.send_if_modified(|state| match state {
            HostState::Connecting { reason: before } | HostState::Offline { reason: before } if *before == reason => {
                false
            }
            HostState::Connecting { .. } => {
                tracing::warn!(host = self.name, reason, "host is not ready");
                *state = HostState::Connecting { reason };
                true
            }
            _ => {
                *state = HostState::Offline { reason };
                true
            }
        });
    }

    /// As [`explain`]; how servers besides the first are reached no variable says.
    pub(super) fn why(&self, error: &EngineError) -> String {
        if self.name == LOCAL { explain(error) } else { access::Fault::of(error).message }
    }

    pub(super) async fn prepare(&self, db: &Db) -> Result<HostFacts, String> {
        let info = self.engine.info().await.map_err(|e| self.why(&e))?;
        if self.marked {
            // First of all: what is done to an engine is done under one name.
            mark::claim(self, db).await.map_err(|claim| match claim {
                mark::Claim::Engine(error) => self.why(&error),
                other => other.to_string(),
            })?;
        }
        let dial_root = self.make_dial_root();
        let delivered = delivery::deliver(self, dial_root).await.map_err(|e| self.why(&e))?;
        for container in helper::Helper::leftovers(self).await.map_err(|e| self.why(&e))? {
            if let Err(error) = self.end_orphans(&info, &container).await {
                tracing::debug!(host = self.name, container, %error, "what a helper has left is not ended");
            }
        }
        self.ensure_network().await.map_err(|e| self.why(&e))?;
        let weaker = self.shortfalls(&info).await;
        if !weaker.is_empty() && !self.allow_weaker {
            return Err(format!(
                "{} Mend that, or set REXEC_ALLOW_WEAKER_ISOLATION=true to run workspaces all the same.",
                weaker.join(" ")
            ));
        }
        self.trials.forget();
        self.fitness.forget();
        let disk = self.disk_limits().await.map_err(|e| self.why(&e))?;
        Ok(HostFacts { engine: info, dials: delivered.sees_dial_dir, disk, weaker })
    }

    /// Found by trying, once for each time that the host comes: its file system may be another then.
    async fn disk_limits(&self) -> Result<DiskLimits, EngineError> {
        let name = format!("rexec-disk-probe-{}", self.instance);
        self.engine.disk_limits(&name, delivery::EMPTY_IMAGE, &self.labels_to_give()).await
    }

    /// Not for another machine: it may have a directory of that name.
    fn make_dial_root(&self) -> Option<&Path> {
        if !self.is_here {
            return None;
        }
        match std::fs::create_dir_all(&self.dial_root) {
            Ok(()) => Some(&self.dial_root),
            Err(error) => {
                tracing::warn!(%error, path = %self.dial_root.display(), "no dial directory; using exec streams");
                None
            }
        }
    }

    /// What the profile promises and this host does not keep, in sentences.
    async fn shortfalls(&self, info: &EngineInfo) -> Vec<String> {
        let mut weaker = self.close_network(info).await.all();
        for (holds, what) in [
            (info.memory_limit, "memory limits"),
            (info.cpu_limit, "CPU limits"),
            (info.pids_limit, "process limits"),
            (info.seccomp, "the default seccomp profile"),
        ] {
            if !holds {
                weaker.push(format!("The engine does not enforce {what}."));
            }
        }
        weaker
    }

    /// Pings, passes events on, keeps the rules; returns why the host counts as lost.
    async fn watch_over(&self, db: &Db, info: &EngineInfo, on_event: &impl Fn(Heard)) -> String {
        let mut events = self.engine.events(&self.labels());
        let mut ping = tokio::time::interval(PING_EVERY);
        let mut rules = tokio::time::interval(self.rules_every());
        rules.tick().await;
        let mut lost = 0;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        if let Some(id) = event.labels.get(LABEL_WORKSPACE).and_then(|id| id.parse().ok()) {
                            on_event(if event.action == OUT_OF_MEMORY {
                                Heard::OutOfMemory(id)
                            } else {
                                Heard::Container(id)
                            });
                        }
                    }
                    // The stream ends with the daemon: ask it at once.
                    Some(Err(_)) | None => match self.engine.ping().await {
                        Ok(()) => {
                            tokio::time::sleep(RETRY_FIRST).await;
                            events = self.engine.events(&self.labels());
                            self.gap.notify_one();
                            // Whatever had the engine started anew may have emptied the tables.
                            rules.reset_immediately();
                        }
                        Err(error) => return self.why(&error),
                    },
                },
                asked = ping.tick() => match self.engine.ping().await {
                    Ok(()) => {
                        lost = 0;
                        self.is_seen();
                        self.round_trip.tell(asked.elapsed());
                    }
                    Err(error) => {
                        lost += 1;
                        if lost >= PINGS_LOST_MAX {
                            return self.why(&error);
                        }
                    }
                },
                _ = rules.tick() => {
                    let closing = self.close_network(info).await;
                    if !closing.open.is_empty() && !self.allow_weaker {
                        return closing.open.join(" ");
                    }
                    if self.marked
                        && let Err(claim @ (mark::Claim::Another(_) | mark::Claim::Orphaned(_))) = mark::claim(self, db).await
                    {
                        return claim.to_string();
                    }
                    if let Some(why) = closing.unseen {
                        tracing::warn!(host = self.name, why, "the host's rules cannot be looked at");
                    }
                }
            }
        }
    }
}
