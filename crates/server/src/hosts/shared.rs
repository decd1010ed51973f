//! The fleet where there are several servers: who tends and who reaches a host, and what one changes in the fleet, the
//! others take in.

use super::access::Fault;
use super::admin::{Known, Proven, Servers};
use super::mark::{self, Mark};
use super::store::{self, HostRow};
use super::{Host, HostFacts, HostState};
use crate::error::{Error, Result};
use crate::replicas::{ReplicaId, Replicas};
use futures_util::FutureExt as _;
use rexec_api::error::ErrorCode;
use rexec_api::ids::HostId;
use rexec_engine::ByteStream;
use rexec_engine::docker::{Address, DockerEngine, Unreachable};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The fleet is read so often, whatever was not heard of.
const READ_EVERY: Duration = Duration::from_secs(30);
/// How long a server may take to say what its engine is marked as.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

impl Host {
    /// One server of these alone reaches it, where that is so.
    #[must_use]
    pub fn bound_to(
        mut self: Arc<Self>,
        replicas: &Replicas,
        replica: Option<ReplicaId>,
        elsewhere: bool,
    ) -> Arc<Self> {
        if let Some(host) = Arc::get_mut(&mut self) {
            host.replicas = replicas.clone();
            (host.bound, host.elsewhere) = (replica, elsewhere);
        }
        self
    }

    /// How its engine is reached from here, so that others may through this server.
    #[must_use]
    pub fn reached_at(mut self: Arc<Self>, address: &Address) -> Arc<Self> {
        if let Some(host) = Arc::get_mut(&mut self) {
            host.address = Some(address.clone());
        }
        self
    }

    pub(crate) fn is_bound(&self) -> bool {
        self.bound.is_some()
    }

    /// Only another server reaches its engine.
    pub(crate) fn is_bound_elsewhere(&self) -> bool {
        self.elsewhere
    }

    /// This server tends it; what is asked of its engine is asked here.
    pub fn is_ours(&self) -> bool {
        self.ours.load(Ordering::Acquire)
    }

    pub(crate) fn set_ours(&self, is_ours: bool) {
        self.ours.store(is_ours, Ordering::Release);
    }

    /// What the server that tends it says of it.
    pub(crate) fn seen_elsewhere(&self, seen: std::result::Result<HostFacts, String>) {
        self.state.send_if_modified(|state| match (&seen, &*state) {
            (Err(reason), HostState::Offline { reason: known }) if reason == known => false,
            (Err(reason), _) => {
                *state = HostState::Offline { reason: reason.clone() };
                true
            }
            (Ok(facts), _) => {
                self.is_seen();
                *state = HostState::Ready(Arc::new(facts.clone()));
                true
            }
        });
    }

    /// Refuses what whoever tends it has to do, where that is another of Rexec's servers.
    pub(crate) fn require_ours(&self) -> Result<()> {
        if self.is_ours() && !self.elsewhere {
            return Ok(());
        }
        let message = format!(
            "The server `{}` is looked after by another of Rexec's servers now, which alone does this. Ask at that one.",
            self.name
        );
        Err(Error::new(ErrorCode::NotHere, message))
    }
}

impl Proven {
    /// Its engine is reached from this machine alone.
    pub(super) fn is_here(&self) -> bool {
        self.host.address.as_ref().is_some_and(|address| address.is_local())
    }
}

impl Servers {
    /// Refuses an engine that is marked as another server's, which others of Rexec's servers may reach.
    pub(super) async fn require_unmarked(&self, host: &Host) -> Result<()> {
        if !host.marked {
            return Ok(());
        }
        let marked = mark::read(host.engine.as_ref(), &host.instance).await.map_err(|error| Fault::of(&error))?;
        let is_own = marked.as_ref().is_some_and(|mark| mark.host == Some(host.id));
        if !is_own && host.bound.is_some() && host.bound != self.replicas.id() {
            // Nothing else tells it from any engine behind a socket of that name.
            let message = "That is another engine: it is not marked as this server. Say it to the Rexec server on this one's machine.";
            return Err(Error::new(ErrorCode::ServerInUse, message));
        }
        let Some(marked) = marked.filter(|_| !is_own) else { return Ok(()) };
        let volume = mark::volume(&host.instance);
        let row = match marked.host {
            Some(id) => store::find(self.db().read(), id).await?,
            None => None,
        };
        let Some(row) = row else { return Ok(()) };
        if self.has_another_engine(&row, &marked).await {
            // It was that server's, which has moved to another engine since.
            return Ok(host.engine.remove_volume(&volume).await.map_err(|error| Fault::of(&error))?);
        }
        let message = format!(
            "That engine is the server `{}` already. If it is a copy of that one's machine, remove the volume `{volume}` there first.",
            row.name
        );
        Err(Error::new(ErrorCode::ServerExists, message).details(json!({ "host": row.name })))
    }

    /// Whether the server can be seen from here to have an engine with another mark.
    async fn has_another_engine(&self, row: &HostRow, marked: &Mark) -> bool {
        let host = self.fleet.of(Some(row.id));
        if host.elsewhere || host.ready().is_err() {
            return false;
        }
        let read = tokio::time::timeout(LOOK_PATIENCE, mark::read(host.engine.as_ref(), &host.instance)).await;
        matches!(read, Ok(Ok(Some(its))) if its != *marked)
    }

    /// Refuses to have an engine named anew that is behind a socket of another server, while that one is there.
    pub(super) fn require_change_here(&self, row: &HostRow) -> Result<()> {
        let table = self.replicas.table();
        let is_there = |id| table.borrow().replicas.get(&id).is_some_and(|replica| replica.alive);
        match row.replica.is_some_and(is_there) || row.access_sealed.is_none() {
            true if self.fleet.of(Some(row.id)).elsewhere => {
                let message = format!(
                    "The server `{}` is reached by another of Rexec's servers alone. Name its engine anew at that one.",
                    row.name
                );
                Err(Error::new(ErrorCode::NotHere, message))
            }
            _ => Ok(()),
        }
    }

    /// The engine of a host that another of Rexec's servers reaches, through that one.
    fn engine_through(&self, id: HostId) -> Result<DockerEngine> {
        let replicas = self.replicas.clone();
        let dial = move || {
            let replicas = replicas.clone();
            async move {
                let stream =
                    replicas.engine_stream(id).await.map_err(|error| Unreachable::Through(error.to_string()))?;
                Ok(Box::new(stream) as Box<dyn ByteStream>)
            }
            .boxed()
        };
        DockerEngine::at(Address::through(Arc::new(dial))).map_err(Error::internal)
    }

    /// Takes a recorded server into the fleet, in place of what was there; one that cannot be spoken to says why.
    pub(super) fn take_in(&self, row: &HostRow, known: &mut Known) -> Result<()> {
        let me = self.replicas.id();
        known.insert(row.id, row.access_sealed.clone());
        // What `DOCKER_HOST` names at others is theirs, too.
        let of_others = me.is_some() && row.access_sealed.is_none();
        if of_others || row.replica.is_some() && row.replica != me {
            let engine = self.engine_through(row.id)?;
            let host =
                Host::of_row(row, self.instance(), engine, &self.config).bound_to(&self.replicas, row.replica, true);
            self.fleet.put(host);
            return Ok(());
        }
        match self.engine_of(row) {
            Ok(engine) => {
                let host = Host::of_row(row, self.instance(), engine, &self.config)
                    .bound_to(&self.replicas, row.replica, false)
                    .in_place_of(&self.fleet.of(Some(row.id)));
                self.fleet.put(host);
            }
            Err(fault) => self.fleet.put_unusable(row, fault.message),
        }
        Ok(())
    }

    /// Takes in what other servers change in the fleet, for as long as this one runs.
    pub(crate) async fn keep_sharing(self) {
        let mut news = self.replicas.fleet_news();
        let mut period = tokio::time::interval(READ_EVERY);
        loop {
            tokio::select! {
                _ = period.tick() => {}
                heard = news.changed() => if heard.is_err() { return },
            }
            if let Err(error) = self.share().await {
                tracing::debug!(error = &error as &dyn std::error::Error, "the fleet could not be read");
            }
        }
    }

    async fn share(&self) -> Result<()> {
        let mut known = self.known.lock().await;
        let rows = store::all(self.db().read()).await?;
        let local = self.fleet.local().id;
        let ids: HashSet<_> = rows.iter().map(|row| row.id).collect();
        for row in &rows {
            if row.id != local && known.get(&row.id) != Some(&row.access_sealed) {
                self.take_in(row, &mut known)?;
            }
            self.fleet.rename(row);
            self.fleet.of(Some(row.id)).pool.bell.notify_one();
        }
        for host in self.fleet.all().into_iter().filter(|host| host.id != local && !ids.contains(&host.id)) {
            known.remove(&host.id);
            self.fleet.take_out(host.id);
        }
        Ok(())
    }
}
