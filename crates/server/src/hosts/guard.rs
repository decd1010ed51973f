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
use crate::models;
use crate::secrets::inside::Vault;
use crate::time::now_ms;
use crate::workspaces::store as workspaces;
use futures_util::future::try_join_all;
use rexec_api::gateway::{BoundAddress, KeptAddress, LeftTokens};
use rexec_api::ids::UserId;
use rexec_channel::ChannelError;
use rexec_engine::EngineInfo;
use sea_orm::DbErr;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
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
    met: watch::Sender<Option<Arc<Gateway>>>,
    /// One meets it, or sets the rules around it, at a time.
    meeting: Mutex<()>,
    /// On this host a name that must not be known was not.
    pub names_proven: AtomicBool,
    /// Why there cannot be one, as of the last time that it was wanted.
    never: watch::Sender<Option<String>>,
}

impl Guard {
    pub fn living(&self) -> Option<Arc<Gateway>> {
        self.met.borrow().clone().filter(|gateway| !gateway.client.is_closed())
    }

    /// Why workspaces of its host can only be `open`, as far as that was tried.
    pub fn never(&self) -> Option<String> {
        self.never.borrow().clone()
    }

    /// It is to be met again by whoever needs it next, unless it was.
    pub fn forget(&self, lost: &Arc<Gateway>) {
        self.met.send_if_modified(|met| met.take_if(|met| Arc::ptr_eq(met, lost)).is_some());
    }

    fn is_met(&self, gateway: &Arc<Gateway>) -> bool {
        self.met.borrow().as_ref().is_some_and(|met| Arc::ptr_eq(met, gateway))
    }

    async fn until_forgotten(&self, gateway: &Arc<Gateway>) {
        let is_other = |met: &Option<Arc<Gateway>>| !met.as_ref().is_some_and(|met| Arc::ptr_eq(met, gateway));
        // Its sender is ours.
        let _ = self.met.subscribe().wait_for(is_other).await;
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
    pub async fn guarded(&self, vault: &Vault, info: &EngineInfo) -> Result<Arc<Gateway>, NoGateway> {
        if let Some(gateway) = self.guard.living() {
            return Ok(gateway);
        }
        let _one = self.guard.meeting.lock().await;
        if let Some(gateway) = self.guard.living() {
            return Ok(gateway);
        }
        let opened = self.open_gateway(info).await;
        self.guard.never.send_replace(match &opened {
            Err(NoGateway::Never(why)) => Some(why.clone()),
            _ => None,
        });
        let gateway = Arc::new(opened?);
        tell_all(vault, self, &gateway).await?;
        self.guard.met.send_replace(Some(gateway.clone()));
        Ok(gateway)
    }

    /// Keeps it for as long as the host is tended, from when there is anybody to guard.
    pub(super) async fn keep_gateway(&self, vault: &Vault, info: &EngineInfo) {
        let db = vault.db();
        let mut retry = RETRY_FIRST;
        let mut pending = Pending::default();
        let mut met = self.guard.met.subscribe();
        loop {
            met.mark_unchanged();
            let is_wanted = self.guard.living().is_some()
                // A database that does not answer tells nothing.
                || workspaces::behind_gateway(db.read(), self.id).await.map_or(true, |behind| !behind.is_empty());
            if !is_wanted {
                let _ = met.changed().await;
                continue;
            }
            match self.guarded(vault, info).await {
                Ok(gateway) => {
                    retry = RETRY_FIRST;
                    tokio::select! {
                        () = self.listen(vault, info, &gateway, &mut pending) => {}
                        () = vault.github().keep(self.id, &gateway) => {}
                    }
                    write(db, &mut pending).await;
                    self.guard.forget(&gateway);
                    if self.guard.living().is_some() {
                        continue;
                    }
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

    /// Writes down what it decides until it is lost or forgotten, and sees to the rules around it.
    async fn listen(&self, vault: &Vault, info: &EngineInfo, gateway: &Arc<Gateway>, pending: &mut Pending) {
        let db = vault.db();
        let Ok(mut news) = gateway.client.egress_records().await else { return };
        let mut rules = tokio::time::interval(self.rules_every());
        rules.tick().await;
        let mut due = Instant::now() + WRITE_EVERY;
        let mut next_day = Instant::now() + until_next_day();
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
                        write(db, pending).await;
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
                () = tokio::time::sleep_until(due), if !pending.is_empty() => {
                    let spent = write(db, pending).await;
                    if self.egress.models.is_bounded() && !spent.is_empty() {
                        let told = self.tell_budgets(vault, gateway, |row| spent.contains(&row.owner), true).await;
                        note_untold(&self.name, told);
                    }
                    due = Instant::now() + WRITE_EVERY;
                }
                () = tokio::time::sleep_until(next_day), if self.egress.models.tokens_per_day.is_some() => {
                    let told = self.tell_budgets(vault, gateway, |_| true, false).await;
                    next_day = Instant::now() + if told.is_ok() { until_next_day() } else { RETRY_MAX };
                    note_untold(&self.name, told);
                }
                () = self.guard.until_forgotten(gateway) => return,
                _ = rules.tick() => {
                    let _one = self.guard.meeting.lock().await;
                    if !self.guard.is_met(gateway) {
                        return;
                    }
                    match self.close_again(info, gateway).await {
                        Ok(()) => {}
                        Err(NoGateway::Unknown(why)) => {
                            tracing::warn!(host = self.name, why, "the closed network's rules cannot be looked at");
                        }
                        Err(NoGateway::Never(why)) => {
                            tracing::error!(host = self.name, why, "the closed network is open; nobody on it reaches anything");
                            // What is told to nobody is let through for nobody.
                            let _ = gateway.client.keep_addresses(&[]).await;
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Tells the gateway what is left of these workspaces' tokens, or only of which nothing is. What it does not hear now of
    /// those it hears when more is spent.
    async fn tell_budgets(
        &self,
        vault: &Vault,
        gateway: &Gateway,
        whose: impl Fn(&workspaces::Workspace) -> bool,
        only_ended: bool,
    ) -> Result<(), NotTold> {
        let behind = workspaces::behind_gateway(vault.db().read(), self.id).await?;
        for row in behind.iter().filter(|row| whose(row)) {
            let left = models::bound(vault.db(), row, &self.egress.models).await?;
            let (Some(models), Some(address)) = (left, row.address) else { continue };
            if models.left == Some(0) || !only_ended {
                gateway.client.set_tokens(address, &LeftTokens { workspace: row.id, models }).await?;
            }
        }
        Ok(())
    }
}

/// Why a gateway was not told all.
#[derive(Debug, thiserror::Error)]
enum NotTold {
    #[error(transparent)]
    Database(#[from] DbErr),
    #[error(transparent)]
    Gateway(#[from] ChannelError),
}

/// Whose tokens were spent.
async fn write(db: &Db, pending: &mut Pending) -> HashSet<UserId> {
    if pending.is_empty() {
        return HashSet::new();
    }
    pending.write(db, now_ms()).await.unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "what a gateway decided is not written down");
        HashSet::new()
    })
}

fn note_untold(host: &str, told: Result<(), NotTold>) {
    if let Err(error) = told {
        tracing::warn!(
            host,
            error = &error as &dyn std::error::Error,
            "its gateway is not told what is left of budgets"
        );
    }
}

fn until_next_day() -> Duration {
    let now = now_ms();
    Duration::from_millis((models::day_of(now) + models::DAY_MS - now).unsigned_abs())
}

async fn tell_all(vault: &Vault, host: &Host, gateway: &Gateway) -> Result<(), NoGateway> {
    let lost = |error: ChannelError| NoGateway::Unknown(format!("Its gateway does not answer: {error}."));
    let read = |error: DbErr| NoGateway::Unknown(format!("The database does not answer: {error}."));
    let behind = workspaces::behind_gateway(vault.db().read(), host.id).await.map_err(read)?;
    let mut all = Vec::with_capacity(behind.len());
    for row in &behind {
        match bound_of(row, vault, &host.egress).await {
            Ok(bound) => all.extend(bound),
            // Its driver tells it; until then it reaches nothing, and keeps nobody else from anything.
            Err(error) => {
                tracing::error!(workspace.id = %row.id, error = &error as &dyn std::error::Error, "what it may use cannot be read");
            }
        }
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

/// What the gateway is told of a workspace that has an address.
pub async fn bound_of(
    row: &workspaces::Workspace,
    vault: &Vault,
    operator: &EgressConfig,
) -> Result<Option<BoundAddress>, DbErr> {
    let Some(address) = row.address else { return Ok(None) };
    Ok(Some(BoundAddress {
        address,
        workspace: row.id,
        version: u64::try_from(row.egress_seq).unwrap_or(0),
        policy: egress::policy_of(row, operator),
        secrets: vault.bound(row).await?,
        models: models::bound(vault.db(), row, &operator.models).await?,
        github: vault.bound_github(row).await?,
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn what_was_met_anew_is_not_forgotten_with_the_old() {
        let ((old, _its_peer), (new, _the_others)) = (tokio::io::duplex(1 << 16), tokio::io::duplex(1 << 16));
        let (old, new) = (Arc::new(Gateway::over(old).await), Arc::new(Gateway::over(new).await));
        let guard = Guard::default();
        guard.met.send_replace(Some(old.clone()));
        guard.forget(&new);
        assert!(guard.is_met(&old));
        assert!(guard.until_forgotten(&old).now_or_never().is_none());
        guard.met.send_replace(Some(new.clone()));
        guard.until_forgotten(&old).await;
        guard.forget(&old);
        assert!(Arc::ptr_eq(&guard.living().unwrap(), &new));
        guard.forget(&new);
        assert!(guard.living().is_none());
    }
}
