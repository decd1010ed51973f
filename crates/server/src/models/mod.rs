//! Models of language that workspaces ask by their gateway: who may, how much of them is left, and what was used.
//!
//! ```text
//!   program inside -> http://llm.rexec.internal -> gateway: path, model, budget -> vendor, with the operator's key
//!   gateway: tokens of each answer -> egress/log.rs -> one line for each day, workspace and model -> GET /api/models
//!                                                   -> nothing left? -> the gateway is told (hosts/guard.rs)
//! ```
//!
//! Invariant: the operator's key is told to gateways and to nobody else. What is in flight when a budget ends may go beyond it.

pub mod http;
pub mod store;

use crate::actor::Actor;
use crate::config::ModelsConfig;
use crate::db::Db;
use crate::egress::settings_of;
use crate::error::Result;
use crate::time::{now_ms, rfc3339};
use crate::workspaces::store::Workspace;
use rexec_api::gateway::BoundModels;
use rexec_api::models::{DAYS_TOLD, ModelUse, ModelsView};
use rexec_api::tokens::Scope;
use sea_orm::DbErr;
use std::collections::BTreeMap;
use std::sync::Arc;

pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Where programs find them.
const ADDRESS: &str = "http://llm.rexec.internal";
/// Programs want one; it is not looked at.
const NO_KEY: &str = "rexec";

/// When the day began, in UTC.
pub fn day_of(at_ms: i64) -> i64 {
    at_ms - at_ms.rem_euclid(DAY_MS)
}

/// Whether a workspace may ask for models.
pub fn is_let(row: &Workspace, config: &ModelsConfig) -> bool {
    config.is_offered() && settings_of(row).models && row.pool.is_none()
}

/// What its gateway is told; `None`: it may not.
pub async fn bound(db: &Db, row: &Workspace, config: &ModelsConfig) -> std::result::Result<Option<BoundModels>, DbErr> {
    if !is_let(row, config) {
        return Ok(None);
    }
    let mut left = None;
    if let Some(most) = config.tokens_per_day {
        left = Some(most.saturating_sub(store::used_on(db.read(), row.owner, day_of(now_ms())).await?));
    }
    if let Some(most) = config.tokens_per_workspace {
        let own = most.saturating_sub(store::used_by(db.read(), row.id).await?);
        left = Some(left.map_or(own, |left: u64| left.min(own)));
    }
    Ok(Some(BoundModels { left }))
}

/// What tells programs inside where to ask, but for those that have keys of their own.
pub fn variables(config: &ModelsConfig, own: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let (with_version, bare) = (format!("{ADDRESS}/v1"), ADDRESS.to_owned());
    let openai = [("OPENAI_BASE_URL", &with_version), ("OPENAI_API_BASE", &with_version)];
    let anthropic = [("ANTHROPIC_BASE_URL", &bare)];
    let mut all = BTreeMap::new();
    for (vendor, key, addresses) in
        [(&config.openai, "OPENAI_API_KEY", &openai[..]), (&config.anthropic, "ANTHROPIC_API_KEY", &anthropic[..])]
    {
        let is_own = own(key) || addresses.iter().any(|(name, _)| own(name));
        if vendor.is_some() && !is_own {
            all.insert(key.to_owned(), NO_KEY.to_owned());
            all.extend(addresses.iter().map(|(name, address)| ((*name).to_owned(), (*address).clone())));
        }
    }
    all
}

#[derive(Clone)]
pub struct Models {
    db: Db,
    config: Arc<ModelsConfig>,
}

impl Models {
    pub fn new(db: Db, config: ModelsConfig) -> Self {
        Self { db, config: Arc::new(config) }
    }

    pub async fn get(&self, actor: &Actor) -> Result<ModelsView> {
        actor.authorise(Scope::WorkspacesRead)?;
        let today = day_of(now_ms());
        let used = store::list(self.db.read(), actor.user, today - (DAYS_TOLD - 1) * DAY_MS).await?;
        let used = used.into_iter().map(|line| ModelUse {
            day: rfc3339(line.day_ms).chars().take_while(|c| *c != 'T').collect(),
            workspace_id: line.workspace,
            workspace: line.name,
            model: line.model,
            requests: line.used.requests.unsigned_abs(),
            estimated: line.used.estimated.unsigned_abs(),
            input: line.used.input.unsigned_abs(),
            cached: line.used.cached.unsigned_abs(),
            output: line.used.output.unsigned_abs(),
        });
        Ok(ModelsView {
            openai: self.config.openai.is_some(),
            anthropic: self.config.anthropic.is_some(),
            models: self.config.allow.clone(),
            tokens_per_day: self.config.tokens_per_day,
            tokens_per_workspace: self.config.tokens_per_workspace,
            used_today: store::used_on(self.db.read(), actor.user, today).await?,
            day_ends_at: rfc3339(today + DAY_MS),
            used: used.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelVendor;

    #[test]
    fn programs_with_keys_of_their_own_keep_them() {
        let vendor = || Some(ModelVendor { base: "https://a.example/v1".into(), key: None });
        let both = ModelsConfig { openai: vendor(), anthropic: vendor(), ..ModelsConfig::default() };
        let names = |config: &ModelsConfig, own: &[&str]| {
            variables(config, |name| own.contains(&name)).into_keys().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names(&both, &[]),
            "ANTHROPIC_API_KEY ANTHROPIC_BASE_URL OPENAI_API_BASE OPENAI_API_KEY OPENAI_BASE_URL"
        );
        assert_eq!(names(&both, &["OPENAI_API_KEY"]), "ANTHROPIC_API_KEY ANTHROPIC_BASE_URL");
        assert_eq!(names(&both, &["ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"]), "");
        let one = ModelsConfig { openai: vendor(), ..ModelsConfig::default() };
        assert_eq!(names(&one, &[]), "OPENAI_API_BASE OPENAI_API_KEY OPENAI_BASE_URL");
    }

    #[test]
    fn days_begin_at_midnight_in_utc() {
        assert_eq!([day_of(0), day_of(DAY_MS - 1), day_of(DAY_MS), day_of(-1)], [0, 0, DAY_MS, -DAY_MS]);
    }
}
