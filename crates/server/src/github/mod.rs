//! GitHub for workspaces: they use repositories by a token that they never have.
//!
//! ```text
//!   egress.github: repositories, branches -+-> `variables`: placeholders, to the guest
//!                                          +-> `bound`: what may be done, to the gateway, which judges each request
//!   App's key -> a token for each workspace, anew before it ends --(`keep`)--> the gateway, which adds it
//! ```
//!
//! A token of the operator's own (`GITHUB_TOKEN`) takes the place of the App's where there is none: then the gateway alone says
//! what may be done. Invariants: a token is in the memory of servers and gateways and nowhere else; one that was made for
//! a workspace is told of no other, and ends when that stops, or within the hour.

pub mod app;
mod keep;

use crate::accounts;
use crate::actor::Actor;
use crate::auth::role_of;
use crate::config::{EgressConfig, GithubConfig, TokenSource};
use crate::db::Db;
use crate::egress::settings_of;
use crate::error::{Error, Result};
use crate::workspaces::store::Workspace;
use app::{Api, NoToken};
use rexec_api::accounts::Role;
use rexec_api::egress::{BRANCHES_MAX, GithubAccess, REPOSITORIES_MAX};
use rexec_api::error::ErrorCode;
use rexec_api::gateway::{BoundGithub, GithubTokens};
use rexec_api::ids::WorkspaceId;
use rexec_api::tokens::Scope;
use rexec_egress::github::{BadBranches, BadRepositories, Branches, Grant, Repositories, Site};
use sea_orm::DbErr;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, watch};

/// Tokens that are asked for at once.
const ASKED_AT_ONCE: usize = 8;
const PUBLIC: &str = "github.com";
const REPOSITORIES: &str = "egress.github.repositories";
const BRANCHES: &str = "egress.github.branches";

/// Cheap to clone.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    db: Db,
    config: GithubConfig,
    api: Api,
    kept: Mutex<HashMap<WorkspaceId, Kept>>,
    /// Tokens that are to be none any more.
    over: Mutex<Vec<String>>,
    /// Raised when somebody may want one.
    wanted: watch::Sender<u64>,
    /// Of asking GitHub.
    turns: Semaphore,
}

/// What was had, or was not, for what.
#[derive(Clone)]
struct Kept {
    access: GithubAccess,
    had: std::result::Result<Arc<Had>, String>,
    /// When it is asked for again.
    again_ms: i64,
}

#[derive(Debug)]
struct Had {
    tokens: GithubTokens,
    /// Those that were made for this workspace.
    made: Vec<String>,
    ends_ms: i64,
}

impl Broker {
    pub fn new(db: Db, operator: &EgressConfig) -> Self {
        let config = operator.github.clone();
        let api = Api::new(&config, operator.clone());
        Self(Arc::new(Inner {
            db,
            config,
            api,
            kept: Mutex::default(),
            over: Mutex::default(),
            wanted: watch::Sender::new(0),
            turns: Semaphore::new(ASKED_AT_ONCE),
        }))
    }

    /// Whether this user may be given any of it.
    pub fn is_offered_to(&self, role: Role) -> bool {
        self.0.config.is_offered() && (self.0.config.everyone || role == Role::Admin)
    }

    /// Refuses what the actor may not give, and what no token can be had for. Whoever gives it to a workspace may look after the
    /// account, as with secrets.
    pub async fn require(
        &self,
        actor: &Actor,
        asked: Option<&GithubAccess>,
        before: Option<&GithubAccess>,
    ) -> Result<()> {
        let Some(access) = asked.filter(|asked| Some(*asked) != before) else { return Ok(()) };
        actor.authorise(Scope::Account)?;
        if !self.is_offered_to(actor.role) {
            let message = "Only administrators may let workspaces use this server's access to GitHub. Its operator may let \
                           everyone by REXEC_GITHUB_FOR=everyone; a token of your own can be stored as a secret.";
            return Err(Error::new(ErrorCode::Forbidden, message).details(json!({ "field": "egress.github" })));
        }
        match &self.0.config.source {
            Some(TokenSource::App { .. }) => {
                let had = self.make(access).await.map_err(|no| match no {
                    NoToken::Unreachable | NoToken::Odd(_) => Error::new(ErrorCode::GithubUnavailable, no.to_string()),
                    // An operator's fault, and told as one.
                    other => Error::field(REPOSITORIES, other.to_string()),
                })?;
                // It was to be seen whether there is one.
                self.end(had.made);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What the workspace may do by the operator's leave of now; `None`: nothing.
    async fn access(&self, row: &Workspace) -> std::result::Result<Option<GithubAccess>, DbErr> {
        let config = &self.0.config;
        let Some(mut access) = settings_of(row).github.filter(|_| config.is_offered() && row.pool.is_none()) else {
            return Ok(None);
        };
        if !config.everyone {
            let owner = accounts::store::by_id(self.0.db.read(), row.owner).await?;
            if owner.is_none_or(|owner| role_of(&owner.role) != Role::Admin) {
                return Ok(None);
            }
        }
        access.repositories.retain(|one| one.parse().is_ok_and(|one| covers(config, &one)));
        Ok((!access.repositories.is_empty()).then_some(access))
    }

    /// What its gateway is told.
    pub async fn bound(&self, row: &Workspace, placeholder: String) -> std::result::Result<Option<BoundGithub>, DbErr> {
        let Some(access) = self.access(row).await? else {
            self.forget(row.id);
            return Ok(None);
        };
        let tokens = match &self.0.config.source {
            Some(TokenSource::Token(token)) => Some(both(token.expose())),
            _ => self.kept(row.id, &access).and_then(|kept| Some(kept.had.ok()?.tokens.clone())),
        };
        self.0.wanted.send_modify(|count| *count += 1);
        Ok(Some(BoundGithub {
            host: self.own_host(),
            repositories: access.repositories,
            branches: access.branches,
            write: !access.read_only,
            apart: matches!(self.0.config.source, Some(TokenSource::App { .. })),
            placeholder,
            tokens,
        }))
    }

    fn own_host(&self) -> Option<String> {
        match &self.0.config.site {
            Some(Site::Own(host)) => Some(host.to_string()),
            _ => None,
        }
    }

    /// What programs inside look at: `gh` wants a token, and where that is a company's own, a host; git is led from addresses of
    /// SSH, which no token is for, to those of HTTPS (git-config, "url.<base>.insteadOf"; git, "GIT_CONFIG_COUNT").
    /// Of neither what is somebody's own.
    pub fn variables(&self, placeholder: &str, own: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
        let host = self.own_host().unwrap_or_else(|| PUBLIC.to_owned());
        let tokens = match self.own_host() {
            None => vec![("GITHUB_TOKEN", placeholder.to_owned())],
            Some(own) => vec![("GH_ENTERPRISE_TOKEN", placeholder.to_owned()), ("GH_HOST", own)],
        };
        let key = format!("url.https://{host}/.insteadOf");
        let git = vec![
            ("GIT_CONFIG_COUNT", "2".to_owned()),
            ("GIT_CONFIG_KEY_0", key.clone()),
            ("GIT_CONFIG_VALUE_0", format!("git@{host}:")),
            ("GIT_CONFIG_KEY_1", key),
            ("GIT_CONFIG_VALUE_1", format!("ssh://git@{host}/")),
        ];
        let others = [tokens, git].into_iter().filter(|all| !all.iter().any(|(name, _)| own(name)));
        others.flatten().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Whether what is inside is to look so.
    pub async fn is_let(&self, row: &Workspace) -> std::result::Result<bool, DbErr> {
        Ok(self.access(row).await?.is_some())
    }

    /// What was had is had no more.
    pub fn forget(&self, id: WorkspaceId) {
        let kept = self.lock().remove(&id);
        if let Some(Kept { had: Ok(had), .. }) = kept {
            self.end(had.made.clone());
        }
    }

    fn end(&self, tokens: Vec<String>) {
        if !tokens.is_empty() {
            self.0.over.lock().unwrap_or_else(PoisonError::into_inner).extend(tokens);
            self.0.wanted.send_modify(|count| *count += 1);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WorkspaceId, Kept>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, id: WorkspaceId, access: &GithubAccess) -> Option<Kept> {
        self.lock().get(&id).filter(|kept| kept.access == *access).cloned()
    }
}

fn both(token: &str) -> GithubTokens {
    GithubTokens { git: token.to_owned(), api: token.to_owned() }
}

fn covers(config: &GithubConfig, one: &Repositories) -> bool {
    config.repositories.iter().any(|all| all.covers(one))
}

/// Whose they all are, and their names; `None` of names: all of the owner's.
fn owned(access: &GithubAccess) -> Option<(String, Option<Vec<String>>)> {
    let all: Vec<Repositories> =
        access.repositories.iter().map(|one| one.parse()).collect::<std::result::Result<_, _>>().ok()?;
    let owner = all.first()?.owner()?.to_owned();
    if !all.iter().all(|one| one.owner().is_some_and(|other| other.eq_ignore_ascii_case(&owner))) {
        return None;
    }
    let names = all.iter().map(|one| one.name().map(str::to_owned)).collect();
    Some((owner, names))
}

/// Rules by which a workspace reaches what it may use there, whatever its preset; the operator's leave of now is judged with each
/// request.
pub fn rules(access: &GithubAccess, config: &GithubConfig) -> Vec<String> {
    let grant = config.site.clone().filter(|_| config.is_offered()).and_then(|site| grant(access, site, config));
    grant.map_or_else(Vec::new, |grant| grant.rules())
}

fn grant(access: &GithubAccess, site: Site, config: &GithubConfig) -> Option<Grant> {
    let repositories: Vec<Repositories> = access.repositories.iter().filter_map(|one| one.parse().ok()).collect();
    let repositories: Vec<Repositories> = repositories.into_iter().filter(|one| covers(config, one)).collect();
    let branches = access.branches.iter().filter_map(|one| one.parse().ok()).collect();
    let apart = matches!(config.source, Some(TokenSource::App { .. }));
    let is_any = !repositories.is_empty();
    is_any.then_some(Grant { site, repositories, branches, write: !access.read_only, apart })
}

/// As it is to be kept: each repository and branch as it is printed, and once.
pub fn checked(asked: GithubAccess, before: Option<&GithubAccess>, config: &GithubConfig) -> Result<GithubAccess> {
    if Some(&asked) == before {
        return Ok(asked);
    }
    if !config.is_offered() {
        let message = "This server has no access to GitHub. Its operator gives it one by REXEC_GITHUB_APP_ID or GITHUB_TOKEN; \
                       a token of your own can be stored as a secret.";
        return Err(Error::field("egress.github", message));
    }
    let bound = |field: &str, what: &str, count: usize, max: usize| match count > max {
        true => Err(Error::field(field, format!("There are {count} {what}; {max} are the most."))),
        false => Ok(()),
    };
    bound(REPOSITORIES, "repositories", asked.repositories.len(), REPOSITORIES_MAX)?;
    bound(BRANCHES, "branches", asked.branches.len(), BRANCHES_MAX)?;
    let mut repositories: Vec<String> = Vec::new();
    for text in &asked.repositories {
        let one: Repositories = text
            .trim()
            // As it is copied from a page.
            .trim_start_matches(&format!("{}/", config.url))
            .trim_end_matches('/')
            .parse()
            .map_err(|bad: BadRepositories| {
                Error::field(REPOSITORIES, format!("{text:?} is no repository: {}.", bad.why))
            })?;
        if !covers(config, &one) {
            let message = format!(
                "This server has no access to give to `{one}`: its operator bounds it by REXEC_GITHUB_REPOSITORIES."
            );
            return Err(
                Error::field(REPOSITORIES, message).details(json!({ "field": REPOSITORIES, "repository": text }))
            );
        }
        let one = one.to_string();
        // They are the same in upper and lower case.
        if !repositories.iter().any(|known| known.eq_ignore_ascii_case(&one)) {
            repositories.push(one);
        }
    }
    let mut branches: Vec<String> = Vec::new();
    for text in &asked.branches {
        let one: Branches = text
            .trim()
            .parse()
            .map_err(|bad: BadBranches| Error::field(BRANCHES, format!("{text:?} is no branch: {}.", bad.why)))?;
        let one = one.to_string();
        if !branches.contains(&one) {
            branches.push(one);
        }
    }
    let access = GithubAccess { repositories, branches, read_only: asked.read_only };
    if access.repositories.is_empty() {
        return Err(Error::field(REPOSITORIES, "Name at least one repository, such as `acme/app` or `acme/*`."));
    }
    if matches!(config.source, Some(TokenSource::App { .. })) && owned(&access).is_none() {
        let message = "A GitHub App makes tokens for one owner at a time: name repositories of one, such as `acme/app` and `acme/lib`, \
                       or `acme/*`.";
        return Err(Error::field(REPOSITORIES, message));
    }
    if access.read_only && !access.branches.is_empty() {
        let message = "`branches` say what may be pushed to, and nothing is where it is `read_only`.";
        return Err(Error::field(BRANCHES, message));
    }
    Ok(access)
}
