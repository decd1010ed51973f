//! Which host a workspace is made on: what a request says of it, and what is said when there is none.

use super::Workspaces;
use super::capacity::Capacity;
use super::chosen::Chosen;
use super::creation::{CPU_MILLI_DEFAULT, MEMORY_MB_DEFAULT};
use super::disk::disk_mb;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::hosts::Host;
use crate::hosts::placement::{Amount, Candidate, Rejection, Wanted};
use crate::hosts::{regions, store};
use crate::snapshots::plan::SnapshotPlan;
use crate::snapshots::store::Snapshot;
use crate::time::now_ms;
use rexec_api::error::ErrorCode;
use rexec_api::workspaces::NewWorkspace;
use serde_json::{Value, json};
use std::sync::Arc;

impl Workspaces {
    pub(super) fn wanted(&self, actor: &Actor, new: &NewWorkspace, snapshot: Option<&Snapshot>) -> Result<Wanted> {
        if new.host.is_some() && !actor.is_admin() {
            return Err(Error::new(ErrorCode::Forbidden, "Only administrators choose the server. Leave `host` out.")
                .details(json!({ "field": "host" })));
        }
        let (engine, is_new) = (&self.config.engine, snapshot.is_none());
        let had = snapshot
            .and_then(|snapshot| serde_json::from_str::<SnapshotPlan>(&snapshot.plan_json).ok())
            .unwrap_or_default();
        Ok(Wanted {
            region: new.region.clone(),
            host: new.host.clone(),
            // A clone is made where its snapshot lies.
            near: snapshot.and_then(|snapshot| snapshot.host),
            not: None,
            runtime: new.runtime.clone().or_else(|| engine.runtime.clone().filter(|_| is_new)),
            architecture: new.architecture.clone(),
            labels: new.host_labels.clone(),
            amount: Amount {
                cpu_milli: new
                    .cpu
                    .map(|cpu| (cpu * 1000.0).round() as i64)
                    .or(had.cpu_milli)
                    .unwrap_or(CPU_MILLI_DEFAULT),
                memory_mb: new.memory_mb.map(i64::from).or(had.memory_mb).unwrap_or(i64::from(MEMORY_MB_DEFAULT)),
                disk_mb: match had.disk_mb {
                    mb if mb > 0 && new.disk_gb.is_none() => mb,
                    _ => disk_mb(new.disk_gb.or(self.config.disk.gb_default)),
                },
            },
            names_cpu: new.cpu.is_some(),
            names_memory: new.memory_mb.is_some(),
        })
    }

    /// Those that could take it, the best first, and one at the least.
    pub(super) async fn hosts_for(&self, actor: &Actor, wanted: &Wanted) -> Result<Vec<Arc<Host>>> {
        Ok(self.choose(actor, wanted).await?.0)
    }

    /// The same, and the first of them counts as chosen for as long as what is told besides is kept.
    pub(super) async fn choose(&self, actor: &Actor, wanted: &Wanted) -> Result<(Vec<Arc<Host>>, Option<Chosen>)> {
        let fleet = &self.deps.fleet;
        // Right after the server's start each is waited for as one alone would be.
        futures_util::future::join_all(fleet.all().iter().map(|host| host.ready_or_tried())).await;
        let mut rows = store::all(self.deps.db.read()).await?;
        let warm = self.held_by_pools().await?;
        for row in &mut rows {
            if let Some((held, places)) = warm.get(&row.id) {
                row.used = row.used.less(*held);
                row.workspaces -= places;
            }
        }
        let full = regions::full(self.deps.db.read()).await?;
        let mut hosts = fleet.candidates(&rows);
        // What moves within a region is there already.
        let own = rows.iter().find(|row| Some(row.id) == wanted.not).map(|row| row.region.clone());
        for host in &mut hosts {
            host.region_is_full = full.contains(&host.region) && own.as_ref() != Some(&host.region);
        }
        match self.choices.choose(self.config.engine.placement, wanted, &hosts) {
            Ok((fit, chosen)) => Ok((fit.into_iter().map(|host| fleet.of(Some(host.id))).collect(), chosen)),
            Err(rejected) => Err(self.nowhere(actor, wanted, rejected).await),
        }
    }

    async fn nowhere(&self, actor: &Actor, wanted: &Wanted, rejected: Vec<(&Candidate, Rejection)>) -> Error {
        let is_any = wanted.near.is_none() && wanted.host.is_none() && wanted.labels.is_empty();
        let is_limited = rejected.iter().any(|(_, why)| *why == Rejection::RegionFull);
        if is_any && !is_limited && wanted.architecture.is_none() {
            // Another machine would take it.
            let region = || wanted.region.clone();
            if self.deps.fleet.missed().tell(region(), wanted.amount, now_ms()) {
                self.deps.replicas.tell_missed(region(), wanted.amount);
            }
        }
        let rejected: Vec<_> = rejected.into_iter().filter(|(_, why)| *why != Rejection::Other).collect();
        if rejected.is_empty() {
            let message = match &wanted.host {
                Some(name) if wanted.near.is_none() => format!("There is no server `{name}`."),
                Some(name) => format!("What it is to be made of does not lie on a server `{name}`. Leave `host` out."),
                None => "The server that it lies on is not there any more.".into(),
            };
            return Error::new(ErrorCode::NoHost, message).details(json!({ "field": "host" }));
        }
        if let Some(region) =
            wanted.region.as_deref().filter(|region| rejected.iter().all(|(host, _)| host.region != *region))
        {
            let known: std::collections::BTreeSet<&str> =
                rejected.iter().map(|(host, _)| host.region.as_str()).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            let message = format!("There is no region `{region}`. There are: {known}.");
            return Error::new(ErrorCode::NoHost, message).details(json!({ "field": "region" }));
        }
        let hosts = told(actor, &rejected);
        // Those that never could do not matter where others could at another time.
        let is_apart = |why: &Rejection| matches!(why, Rejection::Region | Rejection::Labels | Rejection::Architecture);
        let could: Vec<_> = rejected.iter().filter(|(_, why)| !is_apart(why)).cloned().collect();
        let rejected = if could.is_empty() { rejected.clone() } else { could };
        let (first, first_why) = &rejected[0];
        let each = |is: fn(&Rejection) -> bool| rejected.iter().all(|(_, why)| is(why));
        if let (true, Rejection::Away(why)) = (each(|why| matches!(why, Rejection::Away(_))), first_why) {
            let message =
                if rejected.len() == 1 { why.clone() } else { "None of the servers answers at this moment.".into() };
            return Error::new(ErrorCode::EngineUnavailable, message).details(json!({ "hosts": hosts }));
        }
        // What a single host would say of itself is more to the point.
        let host = self.deps.fleet.of(Some(first.id));
        if each(|why| *why == Rejection::Runtime)
            && let Err(error) = self.require_runtime(&host, wanted.runtime.as_deref()).await
        {
            return error;
        }
        if each(|why| *why == Rejection::TooSmall)
            && let Some(error) = largest(wanted, &rejected, self)
        {
            return error;
        }
        let reasons: Vec<String> = match rejected.as_slice() {
            [(_, why)] => vec![format!("The server cannot: {}.", why.sentence())],
            many => vec![format!("None of the {} servers can; `details.hosts` says of each why.", many.len())],
        };
        let is_full = rejected.iter().any(|(_, why)| matches!(why, Rejection::Full(_) | Rejection::RegionFull));
        let (code, begins) = match is_full {
            true => (ErrorCode::HostFull, "There is no room for it now. "),
            false => (ErrorCode::NoHost, "There is no server for it. "),
        };
        Error::new(code, format!("{begins}{}", reasons.concat())).details(json!({ "hosts": hosts }))
    }
}

/// What the largest of hosts that are all too small says.
fn largest(wanted: &Wanted, rejected: &[(&Candidate, Rejection)], of: &Workspaces) -> Option<Error> {
    let (largest, _) = rejected.iter().max_by_key(|(host, _)| (host.cores_milli, host.memory_mb))?;
    let facts = of.deps.fleet.of(Some(largest.id)).ready().ok()?;
    let cpu = wanted.names_cpu.then_some(wanted.amount.cpu_milli as f64 / 1000.0);
    let memory = wanted.names_memory.then(|| u32::try_from(wanted.amount.memory_mb).unwrap_or(u32::MAX));
    Capacity::of(&facts.engine).require(cpu, memory).err()
}

/// Of each host why not; its name is for administrators.
fn told(actor: &Actor, rejected: &[(&Candidate, Rejection)]) -> Vec<Value> {
    let one = |(host, why): &(&Candidate, Rejection)| match actor.is_admin() {
        true => json!({ "host": host.name, "reason": why.code(), "message": why.sentence() }),
        false => json!({ "reason": why.code() }),
    };
    rejected.iter().map(one).collect()
}

/// Whether another host may take what this one refused.
pub(super) fn is_of_one_host(error: &Error) -> bool {
    use ErrorCode as E;
    matches!(
        error.code,
        E::HostFull
            | E::QueueFull
            | E::EngineUnavailable
            | E::EgressUnavailable
            | E::NestedUnavailable
            | E::RuntimeUnavailable
            | E::RuntimeUnfit
    )
}

/// Whether it was refused because its host has not got the image, and cannot get it.
pub(super) fn lacks_image(error: &Error) -> bool {
    matches!(error.code, ErrorCode::ImageNotFound | ErrorCode::ImagePullFailed | ErrorCode::ImageUnauthorised)
}

/// Others were quicker.
pub(super) fn all_full() -> Error {
    Error::new(
        ErrorCode::HostFull,
        "There is no room for it now: others have just taken what was left. Try again later.",
    )
}
