//! What workspaces may reach outside, as their owners set it and see it.
//!
//! ```text
//!   PUT egress -> row, `egress_seq` + 1 -> the driver is nudged -> the gateway of its host is told -> `egress_applied_seq`
//!   the gateway decides -> records -> one line of the log for each minute and kind -> GET egress/log
//! ```
//!
//! Which of its host's two networks a workspace is on follows from its settings (`rules.rs`), and is changed between two
//! starts; rules on the closed one are changed as it runs. What enforces them is `hosts/gateway.rs`.

pub mod http;
pub mod log;
pub mod rules;
pub mod store;

use crate::actor::Actor;
use crate::config::EgressConfig;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::page;
use crate::time::now_ms;
use crate::workspaces::Workspaces;
use crate::workspaces::plan::Plan;
use crate::workspaces::store::Workspace;
use rexec_api::Page;
use rexec_api::egress::{EgressEntry, EgressNetwork, EgressSettings, EgressState, EgressView, LendRule};
use rexec_api::error::ErrorCode;
use rexec_api::gateway::BoundPolicy;
use rexec_api::ids::WorkspaceId;
use rexec_api::tokens::Scope;
use rexec_api::workspaces::WorkspaceStatus;
use serde_json::json;
use std::time::Duration;
use store::Place;

/// How long a change waits for the gateway.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Egress {
    workspaces: Workspaces,
}

impl Egress {
    pub fn new(workspaces: Workspaces) -> Self {
        Self { workspaces }
    }

    pub async fn get(&self, actor: &Actor, id: WorkspaceId) -> Result<EgressView> {
        let row = self.workspaces.owned_container(actor, Scope::WorkspacesRead, id, "egress").await?;
        self.view(actor, &row).await
    }

    /// Waits until the gateway has been told, where there is one to tell.
    pub async fn set(&self, actor: &Actor, id: WorkspaceId, settings: EgressSettings) -> Result<EgressView> {
        let row = self.workspaces.owned_container(actor, Scope::WorkspacesWrite, id, "egress").await?;
        let before = settings_of(&row);
        let settings = rules::checked(settings, &before, self.operator(), now_ms())?;
        let added: Vec<String> =
            settings.secrets.iter().filter(|name| !before.secrets.contains(name)).cloned().collect();
        let vault = &self.workspaces.deps().vault;
        vault.require(actor, row.owner, &added).await?;
        vault.github().require(actor, settings.github.as_ref(), before.github.as_ref()).await?;
        self.change(actor, row, settings).await
    }

    /// The same of one rule more, for a while.
    pub async fn lend(&self, actor: &Actor, id: WorkspaceId, lend: &LendRule) -> Result<EgressView> {
        let row = self.workspaces.owned_container(actor, Scope::WorkspacesWrite, id, "egress").await?;
        let now = now_ms();
        let before = settings_of(&row);
        let settings = rules::checked(rules::with_lent(&before, lend, now)?, &before, self.operator(), now)?;
        self.change(actor, row, settings).await
    }

    async fn change(&self, actor: &Actor, row: Workspace, settings: EgressSettings) -> Result<EgressView> {
        let (id, before) = (row.id, settings_of(&row));
        if settings != before {
            let deps = self.workspaces.deps();
            let tx = deps.db.begin().await?;
            if !store::set(&tx, &row, &settings, now_ms()).await? {
                let message = "Somebody has changed what it may reach at this moment. Look at it, and try again.";
                return Err(Error::new(ErrorCode::WorkspaceBusy, message).details(json!({ "doing": "egress" })));
            }
            let data = json!({ "from": before, "to": settings });
            let changed = NewEvent::of_user(actor.user, "workspace.egress_changed").workspace(id).data(data);
            let logged = events::append(&tx, &changed).await?;
            tx.commit().await?;
            deps.bus.publish_logged(row.owner, logged);
            self.workspaces.settle(id, PATIENCE).await;
        }
        self.get(actor, id).await
    }

    /// What it asked for, by minute and kind, the newest first.
    pub async fn log(
        &self,
        actor: &Actor,
        id: WorkspaceId,
        cursor: Option<&str>,
        only_denied: bool,
    ) -> Result<Page<EgressEntry>> {
        self.workspaces.owned_container(actor, Scope::WorkspacesRead, id, "egress").await?;
        let from = cursor.map_or(Some(Place { last_ms: i64::MAX, skipped: 0 }), place).ok_or_else(page::bad_cursor)?;
        let rows = store::entries(self.workspaces.deps().db.read(), id, from, only_denied, page::FETCH).await?;
        let times: Vec<i64> = rows.iter().map(|(last_ms, _)| *last_ms).collect();
        let next = |(last_ms, _): &(i64, EgressEntry)| {
            // Of those that are shown, of which the one that tells of another page is none.
            let shown = times.iter().take(page::FETCH as usize - 1).filter(|time| *time == last_ms).count() as i64;
            let before = if *last_ms == from.last_ms { from.skipped } else { 0 };
            format!("{last_ms}.{}", before + shown)
        };
        Ok(page::of(rows, next, |(_, entry)| entry.clone()))
    }

    fn operator(&self) -> &EgressConfig {
        &self.workspaces.config().egress
    }

    async fn view(&self, actor: &Actor, row: &Workspace) -> Result<EgressView> {
        let (own, operator) = (rules::without_ended(&settings_of(row), now_ms()), self.operator());
        let wanted = rules::network(&own, operator);
        let on = if row.address.is_some() { EgressNetwork::Closed } else { EgressNetwork::Open };
        let is_up =
            !matches!(row.status, WorkspaceStatus::Pending | WorkspaceStatus::Stopped | WorkspaceStatus::Deleted);
        let state = match () {
            () if is_up && wanted != on => EgressState::NextStart,
            () if is_up && on == EgressNetwork::Closed && row.egress_applied_seq < row.egress_seq => {
                EgressState::Pending
            }
            () => EgressState::InForce,
        };
        Ok(EgressView {
            preset: own.preset,
            allow: own.allow,
            deny: own.deny,
            lent: own.lent,
            secrets: own.secrets,
            models: own.models,
            models_offered: operator.models.is_offered(),
            github: own.github,
            github_offered: self.workspaces.deps().vault.github().is_offered_to(actor.role),
            server_allow: operator.allow.clone(),
            server_deny: operator.deny.clone(),
            template_allow: Plan::of_row(row).egress,
            presets: operator.presets.clone(),
            state,
            network: if is_up { on } else { wanted },
            version: u64::try_from(row.egress_seq).unwrap_or(0),
            totals: store::totals(self.workspaces.deps().db.read(), row.id).await?,
        })
    }
}

fn place(cursor: &str) -> Option<Place> {
    let (last_ms, skipped) = cursor.split_once('.')?;
    let (last_ms, skipped) = (last_ms.parse().ok()?, skipped.parse().ok()?);
    (0..=i64::from(u32::MAX)).contains(&skipped).then_some(Place { last_ms, skipped })
}

/// Older ones reach what they reached when there was nothing to set.
pub fn settings_of(row: &Workspace) -> EgressSettings {
    row.egress.clone().unwrap_or_default()
}

/// Which network it is to be on from its next start on.
pub fn network_of(row: &Workspace, operator: &EgressConfig) -> EgressNetwork {
    rules::network(&settings_of(row), operator)
}

/// What its gateway is told. A warm one is nobody's, and reaches nothing.
pub fn policy_of(row: &Workspace, operator: &EgressConfig) -> BoundPolicy {
    match row.pool {
        Some(_) => BoundPolicy { preset: "locked".into(), layers: Vec::new() },
        None => rules::policy(&settings_of(row), &Plan::of_row(row).egress, operator, now_ms()),
    }
}
