//! The warm pool: workspaces that run before anyone asks, so that whoever asks waits for a transaction and a message to a
//! guest, and for no engine.
//!
//! ```text
//!   a round of each host: targets by recent demand -> let go what is not wanted -> make one that is missing -> rest
//!   create: key of what was asked -> UPDATE the oldest warm row of that key -> its driver tells the guest
//! ```
//!
//! A warm workspace is a row like any other, with the pool's own user as its owner: the same driver makes it, the same
//! reservation holds its room, and a crash at any line is repaired in the same way. Its container, home and host name are
//! called by its id, which stays when it becomes somebody's.
//!
//! Invariants: of two who want the same one, one gets it (one statement decides). What was somebody's never comes back to a
//! pool. Room that warm ones hold is anyone's who asks for it. Nothing is made on the way of a request.

mod key;
mod pace;
mod store;
mod target;

pub(crate) use store::held;

use super::creation::home_of;
use super::slot::{Report, Slot};
use super::store::{self as workspaces, Pooled, Workspace};
use super::{Capacity, Workspaces, settled};
use crate::error::Result;
use crate::hosts::placement::Amount;
use crate::hosts::reserve::{self, Hold};
use crate::hosts::store as hosts;
use crate::hosts::{Host, HostFacts};
use crate::time::now_ms;
use crate::volumes;
use key::Key;
use rexec_api::egress::{EgressPreset, EgressSettings};
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_api::servers::{PoolView, ServerState};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use sea_orm::DatabaseTransaction;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Warm;

/// How often a pool is looked at that nobody takes from.
const ROUND: Duration = Duration::from_secs(15);
/// How long one may take to come up.
const MAKE_PATIENCE: Duration = Duration::from_secs(60);
/// After one could not be made.
const TROUBLE_PAUSE: Duration = Duration::from_secs(30);
const CLAIMS: &str = "rexec_pool_claims_total";
const AGE: &str = "rexec_pool_age_seconds";
const READY: &str = "rexec_pool_ready";
const TARGET: &str = "rexec_pool_target";
const TYPED: &str = "Somebody types there: it is filled slowly, so that they do not feel it.";
const NO_IMAGE: &str = "The image of what is asked for most is not on this server yet.";

/// What a round found to do.
enum Next {
    /// Another is missing: when this is over.
    Rest(Duration),
    /// Nothing, unless somebody rings.
    Wait(Duration),
}

impl Workspaces {
    /// A warm workspace that becomes what `row` is, if the host has one: it is its owner's when the transaction ends.
    pub(super) async fn claim(
        &self,
        tx: &DatabaseTransaction,
        host: &Host,
        row: &Workspace,
    ) -> Result<Option<Workspace>> {
        if self.config.pool.size == 0 || row.source_snapshot.is_some() {
            return Ok(None);
        }
        let key = Key::of(row, &self.config.egress);
        let mut ready = store::ready(tx, host.id, &key).await?;
        if !ready.is_empty() {
            // Those who come at once do not all wait for the same one.
            let first = rand::random_range(0..ready.len());
            ready.rotate_left(first);
        }
        for id in ready {
            // One whose guest is not there is none to be had at once. That of another server's is seen there: it is told
            // as soon as this one asks, and made in the usual way should it be gone.
            if host.is_ours() && !self.slot_if_any(id).is_some_and(|slot| has_guest(&slot)) {
                continue;
            }
            let Some(before) = workspaces::find(tx, id).await? else { continue };
            if !store::claim(tx, id, &key, row).await? {
                continue;
            }
            let age = Duration::from_millis(u64::try_from(row.created_ms - before.created_ms).unwrap_or(0));
            metrics::counter!(CLAIMS, "result" => "hit").increment(1);
            metrics::histogram!(AGE).record(age.as_secs_f64());
            host.pool.take();
            return Ok(Some(Workspace {
                id,
                volume: before.volume,
                guest_key: before.guest_key,
                generation: before.generation,
                intent: before.intent,
                ..row.clone()
            }));
        }
        metrics::counter!(CLAIMS, "result" => "miss").increment(1);
        Ok(None)
    }

    /// Has a warm workspace give up what it holds there. `false`: there is none.
    pub(super) async fn yield_room(&self, tx: &DatabaseTransaction, host: &Host) -> Result<bool> {
        let Some(id) = store::any(tx, host.id).await? else { return Ok(false) };
        let is_gone = store::let_go(tx, id, now_ms()).await? && reserve::hold(tx, id, Hold::Nothing).await?;
        // Its driver is told by the next round, once this has been committed.
        host.pool.bell.notify_one();
        Ok(is_gone)
    }

    /// What warm workspaces hold is to be had.
    pub(super) async fn held_by_pools(&self) -> Result<HashMap<HostId, (Amount, i64)>> {
        match self.config.pool.size {
            0 => Ok(HashMap::new()),
            _ => Ok(store::held(self.deps.db.read()).await?),
        }
    }

    /// Keeps one host's pool for ever.
    pub async fn keep_pool(self, host: Arc<Host>) {
        let mut state = host.watch();
        loop {
            // The sender lives in the host.
            let _ = state.wait_for(|state| state.facts().is_some()).await;
            let next = self.pool_round(&host).await.unwrap_or_else(|error| {
                tracing::warn!(
                    host = host.name,
                    error = &error as &dyn std::error::Error,
                    "cannot look after the pool"
                );
                Next::Wait(ROUND)
            });
            match next {
                Next::Rest(pause) => tokio::time::sleep(pause).await,
                Next::Wait(pause) => {
                    let rung = tokio::time::timeout(pause, host.pool.bell.notified()).await.is_ok();
                    if rung {
                        // Those who come at once come first.
                        tokio::time::sleep(self.config.pool.quiet).await;
                    }
                }
            }
        }
    }

    async fn pool_round(&self, host: &Arc<Host>) -> Result<Next> {
        let Ok(facts) = host.ready() else { return Ok(Next::Wait(ROUND)) };
        let warm = store::of_host(self.deps.db.read(), host.id).await?;
        self.look_for_claimed(host.id, &warm);
        if self.config.pool.size == 0 && warm.is_empty() {
            return Ok(Next::Wait(ROUND));
        }
        let targets = self.targets(host, &facts).await?;
        let images = images_of(host, &targets).await;
        let kept = self.let_go_unwanted(&warm, &targets, &images).await?;
        let missing = most_missing(&targets, &kept);
        let (ready, target) = (self.count_ready(&warm, &kept), targets.values().sum());
        let mut view = PoolView { ready, target, reason: None };
        let next = match missing {
            None => Next::Wait(ROUND),
            Some(key) => match images.get(&key.image) {
                Some(image) => {
                    let began = Instant::now();
                    match self.make_warm(host, &facts, &key, image).await? {
                        Ok(()) => {
                            view.ready += 1;
                            let is_typed = self.is_typed_on(host.id);
                            if is_typed && view.ready < view.target {
                                view.reason = Some(TYPED.into());
                            }
                            Next::Rest(pace::rest(&self.config.pool, began.elapsed(), facts.engine.cpus, is_typed))
                        }
                        Err(reason) => {
                            view.reason = Some(reason);
                            Next::Wait(TROUBLE_PAUSE)
                        }
                    }
                }
                None => {
                    view.reason = Some(NO_IMAGE.into());
                    Next::Wait(ROUND)
                }
            },
        };
        // Names are for administrators; figures are for whoever may read them.
        metrics::gauge!(READY, "host" => host.id.to_string()).set(view.ready);
        metrics::gauge!(TARGET, "host" => host.id.to_string()).set(view.target);
        host.pool.tell(view);
        Ok(next)
    }

    /// Somebody types into a workspace there, as far as this server hears of it.
    fn is_typed_on(&self, host: HostId) -> bool {
        let since = now_ms() - pace::TYPED_MS;
        self.lock().values().any(|slot| slot.host() == Some(host) && slot.presence.is_typed_since(since))
    }

    /// A claim whose request went away before it could say so.
    fn look_for_claimed(&self, host: HostId, warm: &[Warm]) {
        let is_claimed = |id: &WorkspaceId, slot: &Slot| {
            slot.is_warm() && slot.host() == Some(host) && !warm.iter().any(|warm| warm.id == *id)
        };
        let slots = self.lock();
        for (_, slot) in slots.iter().filter(|(id, slot)| is_claimed(id, slot)) {
            slot.nudge();
        }
    }

    async fn targets(&self, host: &Host, facts: &HostFacts) -> Result<BTreeMap<Key, u32>> {
        let pool = &self.config.pool;
        let is_active =
            hosts::find(self.deps.db.read(), host.id).await?.is_some_and(|row| row.state == ServerState::Active);
        if pool.size == 0 || !is_active {
            return Ok(BTreeMap::new());
        }
        let now = now_ms();
        let usual = Capacity::of(&facts.engine).fit(self.record(store::OWNER, &NewWorkspace::default(), host));
        let made = store::made_since(self.deps.db.read(), host.id, now - target::WINDOW_MS).await?;
        Ok(target::targets(pool.size, pool.max, &Key::of(&usual, &self.config.egress), &made, now))
    }

    /// What is of no use any more goes; of what is too much, one at a time, the newest. How many stay of each.
    async fn let_go_unwanted(
        &self,
        warm: &[Warm],
        targets: &BTreeMap<Key, u32>,
        images: &HashMap<String, String>,
    ) -> Result<HashMap<Key, u32>> {
        let mut kept: HashMap<Key, u32> = HashMap::new();
        let mut too_many = None;
        for one in warm {
            if one.leaves {
                self.nudge(one.id);
                continue;
            }
            let of_use = one.key.as_ref().filter(|key| {
                one.status != WorkspaceStatus::Error
                    && targets.contains_key(key)
                    && images.get(&key.image) == one.image.as_ref()
            });
            let Some(key) = of_use else {
                self.let_go(one.id).await?;
                continue;
            };
            let count = kept.entry(key.clone()).or_default();
            *count += 1;
            if *count > targets[key] {
                too_many = Some(one.id);
            }
        }
        if let Some(id) = too_many {
            self.let_go(id).await?;
        }
        Ok(kept)
    }

    async fn let_go(&self, id: WorkspaceId) -> Result<()> {
        if store::let_go(self.deps.db.write(), id, now_ms()).await? {
            self.nudge(id);
        }
        Ok(())
    }

    fn count_ready(&self, warm: &[Warm], kept: &HashMap<Key, u32>) -> u32 {
        let is_ready = |one: &&Warm| {
            one.status == WorkspaceStatus::Running
                && !one.leaves
                && one.key.as_ref().is_some_and(|key| kept.contains_key(key))
                && self.slot_if_any(one.id).is_some_and(|slot| has_guest(&slot))
        };
        u32::try_from(warm.iter().filter(is_ready).count()).unwrap_or(u32::MAX)
    }

    /// Makes one and waits until it runs; `Err`: why it does not.
    async fn make_warm(
        &self,
        host: &Host,
        facts: &HostFacts,
        key: &Key,
        image: &str,
    ) -> Result<std::result::Result<(), String>> {
        let row = self.record_warm(host, facts, key, image);
        let tried = async {
            self.require_space(host).await?;
            self.require_nesting(&row).await?;
            let tx = self.deps.db.begin().await?;
            self.insert_on(&tx, host, &row).await?;
            volumes::store::insert(&tx, &home_of(&row)).await?;
            Ok::<_, crate::error::Error>(tx.commit().await?)
        };
        if let Err(error) = tried.await {
            return Ok(Err(error.message.into_owned()));
        }
        let slot = self.slot(row.id);
        match settled(&slot, slot.ask(), MAKE_PATIENCE).await {
            Some(Report { status: WorkspaceStatus::Running, .. }) => Ok(Ok(())),
            report => {
                self.let_go(row.id).await?;
                let reason = report.and_then(|report| report.reason);
                Ok(Err(reason.unwrap_or_else(|| "It did not come up in time.".into())))
            }
        }
    }

    fn record_warm(&self, host: &Host, facts: &HostFacts, key: &Key, image: &str) -> Workspace {
        let fresh = Capacity::of(&facts.engine).fit(self.record(store::OWNER, &NewWorkspace::default(), host));
        // Whoever has it sees this as the machine's own name: it says nothing of anyone.
        let id = fresh.id.0.simple().to_string();
        Workspace {
            name: format!("ws-{}", &id[id.len() - 12..]),
            image: key.image.clone(),
            runtime: key.runtime.clone(),
            nested: key.nested.clone(),
            cpu_milli: key.cpu_milli,
            memory_mb: key.memory_mb,
            disk_mb: key.disk_mb,
            pids: key.pids,
            // Its gateway knows whose it is and lets nothing through.
            egress: Some(EgressSettings {
                preset: if key.closed { EgressPreset::Locked } else { EgressPreset::Open },
                ..EgressSettings::default()
            }),
            pool: Some(Pooled { key: key.to_json(), image: Some(image.to_owned()) }),
            ..fresh
        }
    }
}

fn has_guest(slot: &Slot) -> bool {
    slot.status() == WorkspaceStatus::Running && slot.link().borrow().as_ref().is_some_and(|guest| !guest.is_closed())
}

/// What the names of images mean there at this moment; those that are not there are left out.
async fn images_of(host: &Host, targets: &BTreeMap<Key, u32>) -> HashMap<String, String> {
    let mut images = HashMap::new();
    for key in targets.keys() {
        if !images.contains_key(&key.image)
            && let Ok(Some(image)) = host.engine.image(&key.image).await
        {
            images.insert(key.image.clone(), image.id);
        }
    }
    images
}

/// The kind that has the least of what it should have.
fn most_missing(targets: &BTreeMap<Key, u32>, kept: &HashMap<Key, u32>) -> Option<Key> {
    let missing = |key: &Key, target: u32| target.saturating_sub(kept.get(key).copied().unwrap_or(0));
    let (key, target) = targets.iter().max_by_key(|(key, target)| missing(key, **target))?;
    (missing(key, *target) > 0).then(|| key.clone())
}
