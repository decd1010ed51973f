//! A host under its lease: one replica tends it, the others see it through what that one tells of it.
//!
//! A host that one replica alone reaches is bound to it: no other takes its lease, and all that is there waits for that
//! one. Of the others anyone may have the lease, and gives it up when it has long not reached what others may.

use super::{Hold, Replicas, Whose, of_host};
use crate::hosts::{Host, HostFacts, HostState};
use futures_util::future::join;
use rexec_api::ids::HostId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long a host may be out of reach before another replica may try.
const OUT_OF_REACH_MAX: Duration = Duration::from_secs(20);
/// How long whoever gave it up leaves it to the others.
const LEFT_TO_OTHERS: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const TELL_EVERY: Duration = Duration::from_secs(30);
/// A tale of more is none.
const LATENCY_MS_MAX: f64 = 600_000.0;

pub(crate) const NOBODY: &str = "No server looks after it at the moment. One takes it within seconds.";
const OF_ANOTHER: &str =
    "Only the server that it belongs to reaches it, and that server does not run now. Start that one again.";

/// What its holder tells of a host.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Ready {
        facts: Box<HostFacts>,
        #[serde(default)]
        latency_ms: Option<f64>,
    },
    Away(String),
}

/// Has the host tended while this replica has its lease: `begin` is done first, `work` for as long.
pub async fn keep<B, W>(
    replicas: Replicas,
    host: Arc<Host>,
    begin: impl Fn(HostId, Hold) -> B,
    work: impl Fn(Arc<Host>) -> W,
) where
    B: Future<Output = ()>,
    W: Future<Output = ()>,
{
    if replicas.is_alone() {
        return work(host).await;
    }
    let name = of_host(host.id);
    let mut rests_until = Instant::now();
    loop {
        let hold = wait_for(&replicas, &host, &name, rests_until).await;
        host.set_ours(true);
        if !replicas.is_open(&name) {
            if hold.run_while(begin(host.id, hold.clone())).await.is_none() {
                host.set_ours(false);
                continue;
            }
            replicas.open(&name);
        }
        tokio::select! {
            _ = hold.run_while(join(work(host.clone()), tell(&replicas, &host, &name))) => {}
            () = out_of_reach(&replicas, &host) => {
                tracing::warn!(host = host.name, "a host is left to other servers, which may reach it");
                replicas.release(&name).await;
                rests_until = Instant::now() + LEFT_TO_OTHERS;
            }
        }
        host.set_ours(false);
    }
}

async fn wait_for(replicas: &Replicas, host: &Host, name: &str, rests_until: Instant) -> Hold {
    let mut table = replicas.table();
    let mut told = None;
    loop {
        let known = table.borrow_and_update().clone();
        if host.is_bound_elsewhere() && replicas.hold_of(name).is_some() {
            // It was made another's own while this one tended it.
            replicas.release(name).await;
        }
        if let Some(hold) = replicas.hold_of(name) {
            return hold;
        }
        if let Whose::Theirs(_) = replicas.whose(name) {
            host.set_ours(false);
            let now = known.told(name);
            if now != told || now.is_none() {
                mirror(host, now.as_deref());
                told = now;
            }
        } else if host.is_bound_elsewhere() {
            told = None;
            host.set_ours(false);
            host.seen_elsewhere(Err(OF_ANOTHER.into()));
        } else if rests_until <= Instant::now()
            && let Some(hold) = replicas.acquire(name).await
        {
            return hold;
        } else {
            told = None;
            host.set_ours(false);
            host.seen_elsewhere(Err(NOBODY.into()));
        }
        let _ = timeout(LOOK_EVERY, table.changed()).await;
    }
}

fn mirror(host: &Host, told: Option<&str>) {
    match told.map(serde_json::from_str) {
        Some(Ok(Told::Ready { facts, latency_ms })) => {
            host.seen_elsewhere(Ok(*facts));
            if let Some(ms) = latency_ms.filter(|ms| (0.0..LATENCY_MS_MAX).contains(ms)) {
                host.round_trip.tell(Duration::from_secs_f64(ms / 1000.0));
            }
        }
        Some(Ok(Told::Away(reason))) => host.seen_elsewhere(Err(reason)),
        // A server of another version may tell what this one does not understand.
        Some(Err(_)) | None => {
            host.seen_elsewhere(Err("The server that looks after it has not told of it yet.".into()))
        }
    }
}

/// Lets the others know how the host is, for as long as it is held.
async fn tell(replicas: &Replicas, host: &Host, name: &str) {
    let mut states = host.watch();
    let mut last = String::new();
    loop {
        let told = match &*states.borrow_and_update() {
            HostState::Ready(facts) => {
                Told::Ready { facts: Box::new(HostFacts::clone(facts)), latency_ms: host.round_trip.ms() }
            }
            HostState::Connecting { reason } | HostState::Offline { reason } => Told::Away(reason.clone()),
        };
        let text = serde_json::to_string(&told).unwrap_or_default();
        if text != last {
            replicas.tell(name, &text).await;
            last = text;
        }
        // How far it is changes without its state.
        if let Ok(Err(_)) = timeout(TELL_EVERY, states.changed()).await {
            return std::future::pending().await;
        }
    }
}

/// Resolves when a host that others may reach has not been reached from here for long.
async fn out_of_reach(replicas: &Replicas, host: &Host) {
    if host.is_bound() {
        return std::future::pending().await;
    }
    let mut states = host.watch();
    loop {
        let is_ready = |state: &HostState| state.facts().is_some();
        // The sender lives as long as the host.
        let _ = states.wait_for(|state| !is_ready(state)).await;
        let again = timeout_at(Instant::now() + OUT_OF_REACH_MAX, states.wait_for(is_ready)).await.is_ok();
        if !again && replicas.count() > 1 && replicas.is_firm() {
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}
