//! What a workspace is given of its owner's secrets, and what its gateway is told of them.
//!
//! Invariant: a value goes to the gateway and nowhere else; inside there is its placeholder.

use super::{shape, store};
use crate::actor::Actor;
use crate::config::EgressConfig;
use crate::db::Db;
use crate::egress::{network_of, policy_of, rules, settings_of};
use crate::error::{Error, Result};
use crate::github::Broker;
use crate::models;
use crate::sealed::Sealer;
use crate::secret::Secret;
use crate::workspaces::store::Workspace;
use aws_lc_rs::hmac;
use rexec_api::egress::EgressNetwork;
use rexec_api::gateway::{BoundGithub, BoundSecret, BoundSecrets};
use rexec_api::ids::{UserId, WorkspaceId};
use rexec_api::tokens::Scope;
use rexec_egress::authority;
use sea_orm::DbErr;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;
use store::{Authority, Stored};

/// Of the key that placeholders follow from.
pub const PURPOSE: &str = "rexec placeholders v1";

/// As tokens of GitHub Apps look (`ghs_` and 36 letters and digits).
const GITHUB_SHAPE: &str = "ghs_\nuldlulldluuldllduldllulduulldluldllu";
/// What `gh` looks at, and git by way of the next.
pub const GITHUB_TOKENS: [&str; 2] = ["GITHUB_TOKEN", "GH_TOKEN"];
/// Has git ask nobody for a password there (git-config, "credential.helper"; git, "GIT_CONFIG_COUNT").
const GIT_CONFIG: [(&str, &str); 3] = [
    ("GIT_CONFIG_COUNT", "1"),
    ("GIT_CONFIG_KEY_0", "credential.https://github.com.helper"),
    (
        "GIT_CONFIG_VALUE_0",
        "!f() { test \"$1\" = get && echo username=x-access-token && echo \"password=${GITHUB_TOKEN:-$GH_TOKEN}\"; }; f",
    ),
];

/// Knows secrets. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    pub(super) db: Db,
    sealer: Sealer,
    shapes: Arc<hmac::Key>,
    operator: Arc<EgressConfig>,
    /// Has tokens that are nobody's secrets.
    github: Broker,
}

/// What a guest is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// Placeholders by the names of secrets, and where models are asked for.
    pub env: BTreeMap<String, String>,
    /// The authority's certificate.
    pub authority: Option<String>,
}

impl Vault {
    /// `shapes` is the key that placeholders follow from.
    pub fn new(db: Db, sealer: Sealer, shapes: &[u8; 32], operator: EgressConfig) -> Self {
        let github = Broker::new(db.clone(), &operator);
        let shapes = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, shapes));
        Self { db, sealer, shapes, operator: Arc::new(operator), github }
    }

    pub fn github(&self) -> &Broker {
        &self.github
    }

    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Refuses names of secrets that the owner has not. Whoever gives one to a workspace may look after the account: what runs
    /// there with a token of less does not help itself.
    pub async fn require(&self, actor: &Actor, owner: UserId, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        actor.authorise(Scope::Account)?;
        let all = store::list(self.db.read(), owner).await?;
        match names.iter().find(|name| !all.iter().any(|one| one.name == **name)) {
            None => Ok(()),
            Some(name) => {
                let message = format!(
                    "You have no secret {name}. Store it first, by `PUT /api/secrets/{name}` or `rexec secret set {name}`."
                );
                Err(Error::field("egress.secrets", message)
                    .details(json!({ "field": "egress.secrets", "secret": name })))
            }
        }
    }

    pub(super) fn seal(
        &self,
        owner: UserId,
        name: &str,
        value: String,
    ) -> std::result::Result<String, aws_lc_rs::error::Unspecified> {
        self.sealer.seal(&sealed_for(owner, name), &Secret::new(value))
    }

    /// What the workspace's guest is told; of a warm one, and of one without secrets and models, nothing.
    pub async fn inside(&self, row: &Workspace) -> std::result::Result<Inside, DbErr> {
        let all = self.given(row).await?;
        let authority = match self.is_read(row, &all) {
            true => Some(self.authority(row.id).await?.0),
            false => None,
        };
        let mut env: BTreeMap<_, _> = all.into_iter().map(|one| (one.name, one.placeholder)).collect();
        let is_for_git = GITHUB_TOKENS.iter().any(|name| env.contains_key(*name));
        if is_for_git && !row.env.contains_key(GIT_CONFIG[0].0) {
            env.extend(GIT_CONFIG.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        if self.github.is_let(row).await? {
            let placeholder = self.github_placeholder(row.id);
            let is_own = |name: &str| env.contains_key(name) || row.env.contains_key(name);
            let more = self.github.variables(&placeholder, is_own);
            env.extend(more);
        }
        if models::is_let(row, &self.operator.models) {
            let more =
                models::variables(&self.operator.models, |name| env.contains_key(name) || row.env.contains_key(name));
            env.extend(more);
        }
        Ok(Inside { env, authority })
    }

    /// What its gateway is told; `None`: its requests are not read.
    pub async fn bound(&self, row: &Workspace) -> std::result::Result<Option<BoundSecrets>, DbErr> {
        let all = self.given(row).await?;
        if !self.is_read(row, &all) {
            return Ok(None);
        }
        let (_, key) = self.authority(row.id).await?;
        Ok(Some(BoundSecrets { authority: authority_name(row.id), authority_key: key.expose().to_owned(), all }))
    }

    /// What its gateway is told of its use of GitHub.
    pub async fn bound_github(&self, row: &Workspace) -> std::result::Result<Option<BoundGithub>, DbErr> {
        self.github.bound(row, self.github_placeholder(row.id)).await
    }

    fn github_placeholder(&self, id: WorkspaceId) -> String {
        shape::placeholder(GITHUB_SHAPE, &self.shapes, &format!("{id} github"))
    }

    /// Whether any of its requests are read: to put a secret in, or to be judged one by one.
    fn is_read(&self, row: &Workspace, given: &[BoundSecret]) -> bool {
        let is_behind = || network_of(row, &self.operator) == EgressNetwork::Closed;
        let uses_github = self.operator.github.is_offered() && settings_of(row).github.is_some() && row.pool.is_none();
        !given.is_empty() || uses_github || (is_behind() && rules::judges_requests(&policy_of(row, &self.operator)))
    }

    /// Those that its settings name and that are there.
    async fn given(&self, row: &Workspace) -> std::result::Result<Vec<BoundSecret>, DbErr> {
        let names = settings_of(row).secrets;
        if names.is_empty() || row.pool.is_some() {
            return Ok(Vec::new());
        }
        let all = store::list(self.db.read(), row.owner).await?;
        Ok(all.into_iter().filter(|one| names.contains(&one.name)).filter_map(|one| self.open(row.id, one)).collect())
    }

    fn open(&self, id: WorkspaceId, stored: Stored) -> Option<BoundSecret> {
        let Some(value) = self.sealer.open(&sealed_for(stored.owner, &stored.name), &stored.value_sealed) else {
            tracing::warn!(secret = stored.name, "a stored secret does not open: the signing secret has changed");
            return None;
        };
        let placeholder = shape::placeholder(&stored.shape, &self.shapes, &format!("{id} {}", stored.name));
        let Stored { name, hosts, headers, .. } = stored;
        Some(BoundSecret { name, placeholder, value: value.expose().to_owned(), hosts, headers })
    }

    /// Its certificate and key; made when it is first needed, or does not open any more.
    async fn authority(&self, id: WorkspaceId) -> std::result::Result<(String, Secret), DbErr> {
        let owner = format!("authority {id}");
        if let Some(kept) = store::authority(self.db.read(), id).await?
            && let Some(key) = self.sealer.open(&owner, &kept.key_sealed)
        {
            return Ok((kept.certificate, key));
        }
        let failed = |error: String| DbErr::Custom(format!("an authority cannot be made: {error}"));
        let made =
            authority::make(&authority_name(id), SystemTime::now()).map_err(|error| failed(error.to_string()))?;
        let key_sealed = self.sealer.seal(&owner, &Secret::new(made.key)).map_err(|error| failed(error.to_string()))?;
        let tx = self.db.begin().await?;
        let there = store::authority(&tx, id).await?;
        if there.is_some_and(|kept| self.sealer.open(&owner, &kept.key_sealed).is_none()) {
            store::forget_authority(&tx, id).await?;
        }
        store::keep_authority(&tx, id, &Authority { certificate: made.certificate, key_sealed }).await?;
        // Whoever was quicker has made the one that stays.
        let kept = store::authority(&tx, id).await?;
        tx.commit().await?;
        let kept = kept.ok_or_else(|| failed("it is gone again".into()))?;
        let key = self.sealer.open(&owner, &kept.key_sealed).ok_or_else(|| failed("it does not open".into()))?;
        Ok((kept.certificate, key))
    }
}

fn sealed_for(owner: UserId, name: &str) -> String {
    format!("secret {owner} {name}")
}

/// Common names have 64 characters at most (RFC 5280, appendix A).
fn authority_name(id: WorkspaceId) -> String {
    format!("Rexec workspace {id}")
}
