//! How a host's gateway is kept: met when a workspace needs it, told whose addresses are whose, met again when it is lost,
//! and listened to.
//!
//! What it is to know is in the database and nowhere else: whoever meets it reads there which workspaces are up on the closed
//! network, has it forget all others, and tells it these. So a server that dies, or hands the host over, leaves nothing to
//! be passed on. A change of one workspace its driver tells by itself.
//!
//! Invariants: it is met after the closed network's rules are in force, which are looked at again in rounds. What is
//! decided and cannot be written down is dropped, never the decision.

use super::Host;
use super::gateway::{Gateway, NoGateway};
use crate::config::EgressConfig;
use crate::db::Db;
use crate::egress;
use crate::egress::log::Pending;
use crate::time::now_ms;
use crate::workspaces::store as workspaces;
use futures_util::future::try_join_all;
use rexec_api::gateway::{BoundAddress, KeptAddress};
use rexec_api::ids::WorkspaceId;
use rexec_channel::ChannelError;
use rexec_engine::EngineInfo;
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

/// How long records are gathered before they are written.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Workspaces of which it is told at once.
const TOLD_AT_ONCE: usize = 32;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// The gateway of one host, as far as there is one.
#[derive(Default)]
pub struct Guard {
    met: RwLock<Option<Arc<Gateway>>>,
    /// One meets it at a time.
    meeting: Mutex<()>,
    /// Somebody has met it, or wants it met.
    bell: Notify,
}

impl Guard {
    fn living(&self) -> Option<Arc<Gateway>> {
        let met = self.met.read().unwrap_or_else(PoisonError::into_inner);
        met.clone().filter(|gateway| !gateway.client.is_closed())
    }

    /// It is to be met again by whoever needs it next.
    pub fn forget(&self) {
        self.met.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Has it forget an address, where it is there to be told. One that is not knows nobody.
    pub async fn unbind(&self, address: Ipv4Addr) {
        if let Some(gateway) = self.living()
            && let Err(error) = gateway.client.unbind_address(address).await
        {
            tracing::debug!(%address, error = &error as &dyn std::error::Error, "an address is not unbound yet");
        }
    }
}

impl Host {
    /// The gateway, met and told all that it is to know; else why there is none.
    pub async fn guarded(&self, db: &Db, info: &EngineInfo) -> Result<Arc<Gateway>, NoGateway> {
        if let Some(gateway) = self.guard.living() {
            return Ok(gateway);
        }
        let _one = self.guard.meeting.lock().await;
        if let Some(gateway) = self.guard.living() {
            return Ok(gateway);
        }
        let gateway = Arc::new(self.open_gateway(info, self.egress.resolvers.clone()).await?);
        tell_all(db, self, &gateway).await?;
        *self.guard.met.write().unwrap_or_else(PoisonError::into_inner) = Some(gateway.clone());
        self.guard.bell.notify_one();
        Ok(gateway)
    }

    /// Keeps it for as long as the host is tended, from when there is anybody to guard.
    pub(super) async fn keep_gateway(&self, db: &Db, info: &EngineInfo) {
        let mut retry = RETRY_FIRST;
        loop {
            let is_wanted = self.guard.living().is_some()
                // A database that does not answer tells nothing.
                || egress::store::bound(db.read(), self.id).await.map_or(true, |bound| !bound.is_empty());
            if !is_wanted {
                self.guard.bell.notified().await;
                continue;
            }
            match self.guarded(db, info).await {
                Ok(gateway) => {
                    retry = RETRY_FIRST;
                    self.listen(db, info, &gateway).await;
                    drop(gateway);
                    self.guard.forget();
                    tracing::warn!(host = self.name, "its gateway is lost; until it is there again nothing is reached");
                    tokio::time::sleep(RETRY_FIRST).await;
                }
                Err(error) => {
                    tracing::warn!(host = self.name, why = error.why(), "its gateway cannot be had");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Writes down what it decides until it is lost, and sees to the rules around it.
    async fn listen(&self, db: &Db, info: &EngineInfo, gateway: &Gateway) {
        let Ok(mut news) = gateway.client.egress_records().await else { return };
        let mut rules = tokio::time::interval(self.rules_every());
        rules.tick().await;
        let mut pending = Pending::default();
        let mut due = Instant::now();
        loop {
            tokio::select! {
                told = news.next() => match told {
                    Ok(Some(records)) => {
                        if pending.is_empty() {
                            due = Instant::now() + WRITE_EVERY;
                        }
                        records.into_iter().for_each(|record| pending.add(record));
                    }
                    Ok(None) | Err(_) => {
                        write(db, &mut pending).await;
                        // Somebody else may be told by now, as another server does that took the host over.
                        if gateway.client.is_closed() {
                            return;
                        }
                        tokio::time::sleep(WRITE_EVERY).await;
                        match gateway.client.egress_records().await {
                            Ok(again) => news = again,
                            Err(_) => return,
                        }
                    }
                },
                () = tokio::time::sleep_until(due), if !pending.is_empty() => write(db, &mut pending).await,
                _ = rules.tick() => {
                    match self.close_again(info, gateway).await {
                        Ok(()) => {}
                        Err(NoGateway::Unknown(why)) => {
                            tracing::warn!(host = self.name, why, "the closed network's rules cannot be looked at");
                        }
                        Err(NoGateway::Never(why)) => {
                            tracing::error!(host = self.name, why, "the closed network is open; nobody on it reaches anything");
                            // What is told to nobody is let through for nobody.
                            let _ = gateway.client.keep_addresses(&[]).await;
                            write(db, &mut pending).await;
                            return;
                        }
                    }
                }
            }
        }
    }
}

async fn write(db: &Db, pending: &mut Pending) {
    if !pending.is_empty()
        && let Err(error) = pending.write(db, now_ms()).await
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "what a gateway decided is not written down");
    }
}

async fn tell_all(db: &Db, host: &Host, gateway: &Gateway) -> Result<(), NoGateway> {
    let lost = |error: ChannelError| NoGateway::Unknown(format!("Its gateway does not answer: {error}."));
    let read = |error: sea_orm::DbErr| NoGateway::Unknown(format!("The database does not answer: {error}."));
    let mut all = Vec::new();
    for id in egress::store::bound(db.read(), host.id).await.map_err(read)? {
        all.extend(told(db, host, id).await.map_err(read)?);
    }
    let kept: Vec<KeptAddress> = all
        .iter()
        .map(|one| KeptAddress { address: one.address, workspace: one.workspace, version: one.version })
        .collect();
    gateway.client.keep_addresses(&kept).await.map_err(lost)?;
    // The operator's rules may be others than those that it has by the same version.
    for some in all.chunks(TOLD_AT_ONCE) {
        let mut tells = Vec::with_capacity(some.len());
        for one in some {
            tells.push(tell(gateway, one));
        }
        try_join_all(tells).await.map_err(lost)?;
    }
    Ok(())
}

/// One that it does not understand reaches nothing, and keeps nobody else from anything.
async fn tell(gateway: &Gateway, one: &BoundAddress) -> Result<(), ChannelError> {
    match gateway.client.bind_address(one).await {
        Err(ChannelError::Guest(error)) => {
            tracing::error!(workspace.id = %one.workspace, why = error.message, "a gateway refuses a policy");
            gateway.client.unbind_address(one.address).await
        }
        told => told,
    }
}

async fn told(db: &Db, host: &Host, id: WorkspaceId) -> Result<Option<BoundAddress>, sea_orm::DbErr> {
    let row = workspaces::find(db.read(), id).await?;
    Ok(row.and_then(|row| bound_of(&row, &host.egress)))
}

/// What the gateway is told of a workspace that has an address.
pub fn bound_of(row: &workspaces::Workspace, operator: &EgressConfig) -> Option<BoundAddress> {
    Some(BoundAddress {
        address: row.address?,
        workspace: row.id,
        version: u64::try_from(row.egress_seq).unwrap_or(0),
        policy: egress::policy_of(row, operator),
    })
}
