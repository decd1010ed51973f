//! A workspace's way out: which of its host's networks it starts on, its address there, and its gateway told of it.
//!
//! Invariants: an address is taken by its record before its container has it, and stays the record's own until another
//! network, another host or its burial takes it away; the gateway knows it from before the container starts until before
//! it stops. What is to be on the closed network does not run on the open one, nor where the closed one leaks.

use super::{Driver, StepError};
use crate::db::is_duplicate;
use crate::egress::{network_of, rules, settings_of, store as egress};
use crate::hosts::HostFacts;
use crate::hosts::gateway::{Gateway, NoGateway};
use crate::hosts::guard::bound_of;
use crate::secrets::inside::Inside;
use crate::time::now_ms;
use crate::workspaces::container::{self, container_name};
use crate::workspaces::store::Workspace;
use rexec_api::egress::EgressNetwork;
use rexec_api::guest::{ADDRESSES, WayOut};
use rexec_engine::EngineError;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Others that take an address at the same moment.
const ADDRESS_TRIES: usize = 16;
/// Ways that must not lead anywhere: one to the internet that answers, and clouds' metadata.
const SHUT: [(SocketAddrV4, &str); 2] = [
    (SocketAddrV4::new(Ipv4Addr::new(1, 1, 1, 1), 443), "the internet"),
    (SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80), "the metadata service of its server's cloud"),
];
/// A port that hosts listen at, and one that answers that nobody does.
const SSH_PORT: u16 = 22;
/// For a guest to hear of its secrets.
const TOLD_MAX: Duration = Duration::from_secs(5);
const UNKNOWN_NAME: &str = "example.com";
const HOST_PORTS: &str = "its server's own ports";
const SIBLING: &str = "another workspace";

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
        let no_gateway = |no: NoGateway| match no {
            NoGateway::Never(reason) => StepError::Unguarded(reason),
            NoGateway::Unknown(reason) => EngineError::Unavailable(reason.into()).into(),
        };
        let mut gateway = self.host.guarded(&self.deps.vault, &facts.engine).await.map_err(no_gateway)?;
        // Engines remove networks that no container is on when they are asked to tidy up.
        let there = self.host.engine.network(&gateway.network).await?.and_then(|there| there.subnet);
        if there != Some(gateway.subnet) {
            self.host.guard.forget(&gateway);
            gateway = self.host.guarded(&self.deps.vault, &facts.engine).await.map_err(no_gateway)?;
        }
        let is_there = |address: &Ipv4Addr| gateway.subnet.contains(*address) && row.gateway == Some(gateway.proxy());
        let address = match row.address.filter(is_there) {
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
        let mut free = free.peekable();
        let is_full = free.peek().is_none();
        for address in free.take(ADDRESS_TRIES) {
            let tx = self.lease.begin(&self.deps.db).await?;
            match egress::take(&tx, self.id, Some((address, gateway.proxy()))).await {
                Ok(true) => {
                    tx.commit().await?;
                    return Ok(address);
                }
                Ok(false) => {}
                // Of two that take it at once the index lets one.
                Err(error) if is_duplicate(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !is_full {
            return Err(EngineError::Unavailable("others take addresses at the same moment".into()).into());
        }
        // One that rests takes another when it starts.
        let tx = self.lease.begin(&self.deps.db).await?;
        let is_given = egress::take_from_resting(&tx, self.host.id).await?;
        tx.commit().await?;
        match is_given {
            true => Err(EngineError::Unavailable("an address is freed for it".into()).into()),
            false => Err(StepError::Unguarded("All addresses of its closed network are taken.".into())),
        }
    }

    /// Before it starts: the container is on the network that it is to be on, and its gateway knows it.
    pub(super) async fn lead_out(&mut self, row: &Workspace, facts: &HostFacts) -> Result<(), StepError> {
        let door = self.door(row, facts).await?;
        let (network, address) = match &door {
            Some(door) => (door.gateway.network.as_str(), Some(door.address)),
            None => (self.host.network.as_str(), None),
        };
        // One that was made a moment ago was made there, unless something else is wanted by now.
        if self.made.take() != Some((row.generation, network.to_owned(), address)) {
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
            self.lent_until = None;
            return Ok(());
        }
        let ended = self.end_lent(row).await?;
        let row = ended.as_ref().unwrap_or(row);
        let gateway = match self.host.guard.living() {
            Some(gateway) => gateway,
            // Whoever meets it again tells it all that is written down.
            None if row.egress_applied_seq >= row.egress_seq => return Ok(()),
            None => {
                let facts = self.host.ready().map_err(|reason| EngineError::Unavailable(reason.into()))?;
                let met = self.host.guarded(&self.deps.vault, &facts.engine).await;
                met.map_err(|no| EngineError::Unavailable(no.why().to_owned().into()))?
            }
        };
        if self.told == Some((gateway.life, row.egress_seq)) {
            return Ok(());
        }
        // Before: once the gateway is told, nobody asks again.
        let inside = self.deps.vault.inside(row).await?;
        self.tell_gateway(row, &gateway).await?;
        self.tell_of_secrets(row, inside).await;
        Ok(())
    }

    /// Programs that are started from now on have other placeholders than its guest was told of.
    async fn tell_of_secrets(&mut self, row: &Workspace, inside: Inside) {
        let Some(link) = self.link.as_ref().filter(|_| !self.link_is_warm && inside != self.inside) else {
            return;
        };
        let configuration = container::configuration(row, inside.clone());
        match tokio::time::timeout(TOLD_MAX, link.client.configure(&configuration)).await {
            Ok(Ok(_)) => self.inside = inside,
            _ => {
                tracing::debug!(workspace.id = %self.id, "a guest does not hear of its secrets; it is told again");
                self.told = None;
            }
        }
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
        if let Some(bound) = bound_of(row, &self.deps.vault, &self.host.egress).await? {
            let told = gateway.client.bind_address(&bound).await;
            told.map_err(|error| EngineError::Unavailable(format!("the gateway: {error}").into()))?;
            self.told = Some((gateway.life, row.egress_seq));
        }
        if row.egress_applied_seq < row.egress_seq {
            let tx = self.lease.begin(&self.deps.db).await?;
            egress::applied(&tx, self.id, row.egress_seq).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Before it stops, and once it has: its address means nobody.
    pub(super) async fn shut_out(&mut self, row: &Workspace) {
        self.told = None;
        if let Some(address) = row.address {
            self.host.guard.unbind(address).await;
        }
        self.deps.vault.github().forget(row.id);
    }

    /// What its guest is to try once in its life, before anything of it runs.
    pub(super) async fn ways(&self, row: &Workspace) -> Result<Option<WayOut>, StepError> {
        let (Some(own), Some(gateway)) = (row.address, row.gateway) else { return Ok(None) };
        let host = (SocketAddrV4::new(*gateway.ip(), SSH_PORT), HOST_PORTS);
        let taken = egress::taken(self.deps.db.read(), self.host.id).await?;
        let sibling = taken.into_iter().find(|other| *other != own);
        let sibling = sibling.map(|address| (SocketAddrV4::new(address, SSH_PORT), SIBLING));
        let shut = SHUT.into_iter().chain([host]).chain(sibling).map(|(to, what)| (to, what.to_owned())).collect();
        // Whether a name is told is the host's way, and not the workspace's: it is waited for once.
        let unknown_ms = if self.host.guard.names_proven.load(Ordering::Relaxed) { 300 } else { 3_000 };
        Ok(Some(WayOut { gateway, own, shut, unknown: UNKNOWN_NAME.into(), unknown_ms }))
    }

    /// Stops what reaches something that it must not; why.
    pub(super) async fn leaks(&mut self, row: &Workspace, reached: &[String]) -> Result<StepError, StepError> {
        tracing::error!(workspace.id = %self.id, host = self.host.name, ?reached, "a closed network leaks");
        self.shut_out(row).await;
        self.host.engine.stop(&container_name(row), 0).await?;
        // In our own words: what a guest says is the tenant's.
        let all = SHUT.iter().map(|(_, what)| *what).chain([HOST_PORTS, SIBLING, ADDRESSES]);
        let what: Vec<&str> = all.filter(|what| reached.iter().any(|reached| reached == what)).collect();
        let what = if what.is_empty() { "servers of names".to_owned() } else { what.join(", ") };
        Ok(StepError::Unguarded(format!("From its closed network it reached {what}.")))
    }
}
