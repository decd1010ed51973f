//! The fleet: every host that this server knows, by its id, each kept by a task of its own.
//!
//! What is about a row asks [`Fleet::of`] for the row's host at the moment it needs it, and keeps that for one
//! piece of work. Today the local host is the only member; the seam for those that come and go later is here.
//!
//! Invariant: there is always an answer. A row whose host is not in the fleet gets one that is never ready and whose
//! engine refuses every connection: its workspaces are `unreachable`, with the reason, and nothing of theirs is touched.

use super::Host;
use super::elastic::missed::Missed;
use super::placement::Candidate;
use super::store::HostRow;
use crate::tasks::Tasks;
use crate::workspaces::Capacity;
use futures_util::future::BoxFuture;
use rexec_api::ids::HostId;
use rexec_api::servers::ServerState;
use rexec_engine::docker::DockerEngine;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use tokio_util::sync::CancellationToken;

/// Nothing listens there, and nothing can.
const NOWHERE: &str = "unix:///dev/null";
const ABSENT: &str =
    "Its host is not one of this server's now. It comes back when an administrator has added that host again.";
const REPLACED: &str = "The host's settings have just been changed. Try again in a moment.";
const TAKEN_OUT: &str = "The host has just been taken out of the fleet.";

/// All hosts. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    local: HostId,
    /// Stands for every host that is not there.
    absent: Arc<Host>,
    members: RwLock<HashMap<HostId, Member>>,
    keeping: OnceLock<Keeping>,
    missed: Missed,
}

struct Member {
    host: Arc<Host>,
    /// Ends what keeps it.
    stop: CancellationToken,
}

/// How hosts are kept, from the moment on at which the server runs.
struct Keeping {
    tasks: Tasks,
    keep: Box<dyn Fn(Arc<Host>) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Fleet {
    pub fn new(local: Arc<Host>) -> rexec_engine::Result<Self> {
        let absent = local.stand_in(None, Arc::new(DockerEngine::connect(NOWHERE)?), ABSENT.into());
        let (id, stop) = (local.id, CancellationToken::new());
        let members = HashMap::from([(id, Member { host: local, stop })]);
        let members = RwLock::new(members);
        Ok(Self(Arc::new(Inner { local: id, absent, members, keeping: OnceLock::new(), missed: Missed::default() })))
    }

    /// The engine of `DOCKER_HOST` or of a usual socket.
    pub fn local(&self) -> Arc<Host> {
        self.of(Some(self.0.local))
    }

    /// The host of a row; a row without one, such as a joined machine's, is looked after here.
    pub fn of(&self, id: Option<HostId>) -> Arc<Host> {
        let members = self.0.members.read().unwrap_or_else(PoisonError::into_inner);
        members.get(&id.unwrap_or(self.0.local)).map_or_else(|| self.0.absent.clone(), |member| member.host.clone())
    }

    /// By name.
    pub fn all(&self) -> Vec<Arc<Host>> {
        let members = self.0.members.read().unwrap_or_else(PoisonError::into_inner);
        let mut hosts: Vec<_> = members.values().map(|member| member.host.clone()).collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts
    }

    /// From now on every host, those that come later too, is kept by a task of its own: one that hangs delays no other.
    pub fn keep<F>(&self, tasks: Tasks, keep: impl Fn(Arc<Host>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let keep = Box::new(move |host| Box::pin(keep(host)) as BoxFuture<'static, ()>);
        if self.0.keeping.set(Keeping { tasks, keep }).is_ok() {
            let members = self.0.members.read().unwrap_or_else(PoisonError::into_inner);
            members.values().for_each(|member| self.begin(member));
        }
    }

    /// Who found no room of late.
    pub fn missed(&self) -> &Missed {
        &self.0.missed
    }

    /// A host that is new, or takes the place of the one that it was.
    pub fn put(&self, host: Arc<Host>) {
        let id = host.id;
        let member = Member { host, stop: CancellationToken::new() };
        self.begin(&member);
        let before = self.0.members.write().unwrap_or_else(PoisonError::into_inner).insert(id, member);
        match before {
            Some(before) => end(&before, REPLACED),
            None => self.0.absent.state.send_modify(|_| {}),
        }
    }

    /// A row whose host cannot even be spoken to, as its access cannot be read: it is there and says why it is away.
    pub fn put_unusable(&self, row: &HostRow, reason: String) {
        self.put(self.0.absent.stand_in(Some(row), self.0.absent.engine.clone(), reason));
    }

    /// It is called so now; its engine is the same, and nothing that goes on there hears of it.
    pub fn rename(&self, row: &HostRow) {
        let host = self.of(Some(row.id));
        if host.id == row.id && (host.name != row.name || host.region != row.region) {
            self.put(host.renamed(row));
        }
    }

    pub fn take_out(&self, id: HostId) {
        let gone = self.0.members.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(gone) = gone {
            end(&gone, TAKEN_OUT);
        }
    }

    /// Those of `rows`, as placement sees them.
    pub fn candidates(&self, rows: &[HostRow]) -> Vec<Candidate> {
        rows.iter().map(|row| candidate(row, &self.of(Some(row.id)))).collect()
    }

    fn begin(&self, member: &Member) {
        let Some(keeping) = self.0.keeping.get() else { return };
        let (stop, work) = (member.stop.clone(), (keeping.keep)(member.host.clone()));
        keeping.tasks.spawn_abortable("host", async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }
}

fn end(member: &Member, reason: &str) {
    member.stop.cancel();
    member.host.retire(reason);
}

fn candidate(row: &HostRow, host: &Host) -> Candidate {
    let (facts, away) = match host.ready() {
        Ok(facts) => (Some(facts), None),
        Err(reason) => (None, Some(reason)),
    };
    let engine = facts.as_ref().map(|facts| &facts.engine);
    let there = engine.map(|engine| engine.runtimes.clone()).unwrap_or_default();
    let allowed = |name: &String| row.runtimes.as_ref().is_none_or(|allowed| allowed.contains(name));
    let (capacity, unfit) = (engine.map(Capacity::of), host.unfit());
    Candidate {
        id: row.id,
        name: row.name.clone(),
        region: row.region.clone(),
        region_is_full: false,
        is_active: row.state == ServerState::Active,
        away,
        labels: row.labels.clone(),
        runtimes: there.into_iter().filter(allowed).filter(|name| !unfit.contains_key(name)).collect(),
        architecture: engine.map(|engine| engine.architecture.clone()).unwrap_or_default(),
        cores_milli: capacity.and_then(Capacity::cores_milli),
        memory_mb: capacity.and_then(Capacity::memory_mb),
        total: row.total,
        used: row.used,
        workspaces: row.workspaces,
        workspaces_max: row.workspaces_max,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    fn host(name: &str) -> Arc<Host> {
        let config = Config::from_sources(&Sources::from_env([("REXEC_DATA_DIR", "/nonexistent")])).unwrap();
        let engine = Arc::new(DockerEngine::connect(NOWHERE).unwrap());
        Host::new(HostId::new(), name.into(), "test".into(), engine, true, &config)
    }

    #[tokio::test]
    async fn a_host_that_is_not_there_is_away_and_does_nothing() {
        let local = host("local");
        let fleet = Fleet::new(local.clone()).unwrap();
        assert!(Arc::ptr_eq(&fleet.of(None), &local) && Arc::ptr_eq(&fleet.of(Some(local.id)), &local));
        let absent = fleet.of(Some(HostId::new()));
        assert!(absent.ready().unwrap_err().contains("not one of this server's"));
        assert!(absent.engine.remove_volume("anything").await.is_err());
    }
}
