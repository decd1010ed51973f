//! A workspace's way out: which of its host's networks it starts on, its address there, and its gateway told of it.
//!
//! Invariants: an address is taken by its record before its container has it, and stays the record's own until another
//! network, another host or its burial takes it away; the gateway knows it from before the container starts until before
//! it stops. What is to be on the closed network does not run on the open one, nor where the closed one leaks.

use super::{Driver, StepError};
use crate::egress::{network_of, rules, settings_of, store as egress};
use crate::hosts::HostFacts;
use crate::hosts::gateway::{Gateway, NoGateway};
use crate::hosts::guard::bound_of;
use crate::time::now_ms;
use crate::workspaces::container::container_name;
use crate::workspaces::link::Link;
use crate::workspaces::store::Workspace;
use rexec_api::egress::EgressNetwork;
use rexec_api::guest::WayOut;
use rexec_engine::EngineError;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

/// Others that take an address at the same moment.
const ADDRESS_TRIES: u32 = 16;
/// A guest tries all ways at once, and gives each a third of a second.
const TRIAL_MAX: Duration = Duration::from_secs(5);
/// Ways that must not lead anywhere: one to the internet that answers, and clouds' metadata.
const SHUT: [(SocketAddrV4, &str); 2] = [
    (SocketAddrV4::new(Ipv4Addr::new(1, 1, 1, 1), 443), "the internet"),
    (SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80), "the metadata service of its server's cloud"),
];
/// A port that hosts listen at, and one that answers that nobody does.
const SSH_PORT: u16 = 22;
const UNKNOWN_NAME: &str = "example.com";

/// Behind its gateway.
pub(super) struct Door {
    pub gateway: Arc<Gateway>,
    pub address: Ipv4Addr,
}

impl Driver {
    /// Of one that is to be on the closed network; an address is its own from here on.
    pub(super) async fn door(&self, row: &Workspace, facts: &HostFacts) -> Result<Option<Door>, StepError> {
        if network_of(row, &self.host.egress) == EgressNetwork::Open {
            return Ok(None);
        }
        let gateway = self.host.guarded(&self.deps.db, &facts.engine).await.map_err(|no| match no {
            NoGateway::Never(reason) => StepError::Unguarded(reason),
            NoGateway::Unknown(reason) => EngineError::Unavailable(reason.into()).into(),
        })?;
        let address = match row.address.filter(|address| gateway.subnet.contains(*address)) {
            Some(address) => address,
            None => self.take_address(&gateway).await?,
        };
        Ok(Some(Door { gateway, address }))
    }

    /// Anywhere in the range: one that has just been given back is not had again at once.
    async fn take_address(&self, gateway: &Gateway) -> Result<Ipv4Addr, StepError> {
        let taken = egress::taken(self.deps.db.read(), self.host.id).await?;
        let room = gateway.subnet.room();
        let first = rand::random_range(0..room);
        let places = (0..room).map(|place| (first + place) % room);
        let free = places.filter_map(|place| gateway.subnet.address(place)).filter(|address| !taken.contains(address));
        for address in free.take(ADDRESS_TRIES as usize) {
            let tx = self.lease.begin(&self.deps.db).await?;
            // Of two that take it at once the index lets one.
            if matches!(egress::take(&tx, self.id, Some((address, gateway.proxy()))).await, Ok(true)) {
                tx.commit().await?;
                return Ok(address);
            }
        }
        Err(StepError::Unguarded("All addresses of its closed network are taken.".into()))
    }

    /// Before it starts: the container is on the network that it is to be on, and its gateway knows it.
    pub(super) async fn lead_out(&mut self, row: &Workspace, facts: &HostFacts) -> Result<(), StepError> {
        let door = self.door(row, facts).await?;
        let (network, address) = match &door {
            Some(door) => (door.gateway.network.as_str(), Some(door.address)),
            None => (self.host.network.as_str(), None),
        };
        // One that was made a moment ago was made there.
        if self.made.take() != Some(row.generation) {
            self.host.engine.put_on_network(&container_name(row), network, address).await?;
        }
        match door {
            Some(door) => self.tell_gateway(&Workspace { address, ..row.clone() }, &door.gateway).await,
            None if row.address.is_some() => {
                self.shut_out(row).await;
                let tx = self.lease.begin(&self.deps.db).await?;
                egress::take(&tx, self.id, None).await?;
                Ok(tx.commit().await?)
            }
            None => Ok(()),
        }
    }

    /// While it runs: what it may reach has changed since its gateway was told.
    pub(super) async fn keep_told(&mut self, row: &Workspace) -> Result<(), StepError> {
        if row.address.is_none() {
            return Ok(());
        }
        let ended = self.end_lent(row).await?;
        let row = ended.as_ref().unwrap_or(row);
        if row.egress_applied_seq >= row.egress_seq {
            return Ok(());
        }
        let facts = self.host.ready().map_err(|reason| EngineError::Unavailable(reason.into()))?;
        let gateway = self.host.guarded(&self.deps.db, &facts.engine).await;
        let gateway = gateway.map_err(|no| EngineError::Unavailable(no.why().to_owned().into()))?;
        self.tell_gateway(row, &gateway).await
    }

    /// What was allowed for a while and has ended is no rule any more; the workspace without it.
    async fn end_lent(&mut self, row: &Workspace) -> Result<Option<Workspace>, StepError> {
        let (own, now) = (settings_of(row), now_ms());
        let left = rules::without_ended(&own, now);
        self.lent_until = rules::next_end_ms(&left);
        if left == own {
            return Ok(None);
        }
        let tx = self.lease.begin(&self.deps.db).await?;
        if !egress::set(&tx, row, &left, now).await? {
            // Its owner was quicker, and its driver is nudged.
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(Workspace { egress: Some(left), egress_seq: row.egress_seq + 1, ..row.clone() }))
    }

    /// How long nothing of what is allowed for a while ends.
    pub(super) fn lent_for(&self) -> Option<Duration> {
        let until = self.lent_until.filter(|_| self.link.is_some())?;
        Some(Duration::from_millis(u64::try_from(until - now_ms()).unwrap_or(0)))
    }

    async fn tell_gateway(&mut self, row: &Workspace, gateway: &Gateway) -> Result<(), StepError> {
        if let Some(bound) = bound_of(row, &self.host.egress) {
            let told = gateway.client.bind_address(&bound).await;
            told.map_err(|error| EngineError::Unavailable(format!("the gateway: {error}").into()))?;
        }
        if row.egress_applied_seq < row.egress_seq {
            let tx = self.lease.begin(&self.deps.db).await?;
            egress::applied(&tx, self.id, row.egress_seq).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Before it stops, and once it has: its address means nobody.
    pub(super) async fn shut_out(&self, row: &Workspace) {
        if let Some(address) = row.address {
            self.host.guard.unbind(address).await;
        }
    }

    /// Has a guest that has just been met try what must not be reached, once in its life.
    pub(super) async fn prove_shut(&mut self, row: &Workspace, link: &Link) -> Result<(), StepError> {
        let (Some(address), Some(gateway)) = (row.address, row.gateway) else { return Ok(()) };
        if self.proven == Some(link.boot_id) {
            return Ok(());
        }
        let host = (SocketAddrV4::new(*gateway.ip(), SSH_PORT), "its server's own ports");
        let taken = egress::taken(self.deps.db.read(), self.host.id).await?;
        let sibling = taken.into_iter().find(|other| *other != address);
        let sibling = sibling.map(|address| (SocketAddrV4::new(address, SSH_PORT), "another workspace"));
        let shut = SHUT.into_iter().chain([host]).chain(sibling).map(|(to, what)| (to, what.to_owned())).collect();
        let way_out = WayOut { gateway, shut, unknown: UNKNOWN_NAME.into() };
        let tried = tokio::time::timeout(TRIAL_MAX, link.client.try_way_out(&way_out)).await;
        let leaks = tried.map_err(|_| crate::workspaces::link::LinkError::Timeout)?;
        let leaks = leaks.map_err(crate::workspaces::link::LinkError::from)?;
        if leaks.reached.is_empty() {
            self.proven = Some(link.boot_id);
            return Ok(());
        }
        tracing::error!(workspace.id = %self.id, host = self.host.name, leaks = ?leaks.reached, "a closed network leaks");
        self.shut_out(row).await;
        self.host.engine.stop(&container_name(row), 0).await?;
        // In its own words: what it says is the tenant's.
        let known = |what: &&str| leaks.reached.iter().any(|reached| reached == what);
        let what: Vec<&str> =
            SHUT.iter().map(|(_, what)| *what).chain([host.1, "another workspace"]).filter(known).collect();
        let what = if what.is_empty() { "servers of names".to_owned() } else { what.join(", ") };
        Err(StepError::Unguarded(format!("From its closed network it reached {what}.")))
    }
}
