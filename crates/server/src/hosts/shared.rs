//! The fleet where there are several servers: what one changes in it, the others take in.

use super::Host;
use super::admin::{Proven, Servers};
use super::fleet::NOWHERE;
use super::store::{self, HostRow};
use crate::error::{Error, Result};
use rexec_engine::docker::DockerEngine;
use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::Duration;

/// The fleet is read so often, whatever was not heard of.
const READ_EVERY: Duration = Duration::from_secs(30);

impl Proven {
    /// Its engine is reached from this machine alone.
    pub(super) fn is_here(&self) -> bool {
        self.host.address.as_ref().is_some_and(|address| address.is_local())
    }
}

impl Servers {
    /// Remembers how a server is reached now.
    pub(super) fn know(&self, row: &HostRow) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(row.id, row.access_sealed.clone());
    }

    /// Takes a recorded server into the fleet, in place of what was there; one that cannot be spoken to says why.
    pub(super) fn take_in(&self, row: &HostRow) -> Result<()> {
        let me = self.replicas.id();
        self.know(row);
        if row.replica.is_some() && row.replica != me {
            // Nothing is asked of it from here.
            let engine = DockerEngine::connect(NOWHERE).map_err(Error::internal)?;
            let host = Host::of_row(row, self.instance(), engine, &self.config).bound_to(row.replica, me);
            self.fleet.put(host);
            return Ok(());
        }
        match self.engine_of(row) {
            Ok(engine) => {
                self.fleet.put(Host::of_row(row, self.instance(), engine, &self.config).bound_to(row.replica, me));
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
        let rows = store::all(self.db().read()).await?;
        let local = self.fleet.local().id;
        let ids: HashSet<_> = rows.iter().map(|row| row.id).collect();
        for row in &rows {
            let before = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&row.id).cloned();
            if row.id != local && before.as_ref() != Some(&row.access_sealed) {
                self.take_in(row)?;
            }
            self.fleet.rename(row);
            self.fleet.of(Some(row.id)).pool.bell.notify_one();
        }
        for host in self.fleet.all().into_iter().filter(|host| host.id != local && !ids.contains(&host.id)) {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&host.id);
            self.fleet.take_out(host.id);
        }
        Ok(())
    }
}
