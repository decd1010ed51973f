//! Credentials for private registries of images, each user's own and those that administrators store for everyone,
//! and for hosts of repositories, each user's own.
//!
//! Invariant: a password lies encrypted in the database and never goes back to a client. A registry's goes to the
//! engine; a repository's to the clone in a workspace of the user's, where whoever has the workspace could read it.

pub mod http;
mod server_name;
mod store;

use crate::actor::Actor;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::sealed::Sealer;
use crate::secret::Secret;
use crate::time::{now_ms, rfc3339};
use rexec_api::Page;
use rexec_api::error::ErrorCode;
use rexec_api::ids::{RegistryId, UserId};
use rexec_api::registries::{NewRegistry, PASSWORD_CHARS_MAX, REGISTRIES_MAX, RegistryView, USERNAME_CHARS_MAX};
use rexec_api::tokens::Scope;
use rexec_engine::RegistryAuth;
use serde_json::json;
use store::Registry;

/// The place where Docker Hub's credentials are asked for.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";
/// All that a user can have and all that everyone has.
const LIST_LIMIT: u64 = 2 * REGISTRIES_MAX as u64;

#[derive(Clone)]
pub struct Registries {
    db: Db,
    sealer: Sealer,
}

/// What credentials are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Images, of a registry.
    Images,
    /// Repositories, of a host.
    Git,
}

/// Credentials for the host of a repository.
pub struct Login {
    pub username: String,
    pub password: Secret,
}

/// Credentials, and which they are: two who use the same may share what comes of them.
pub struct Credentials {
    pub id: RegistryId,
    pub auth: RegistryAuth,
}

impl Registries {
    pub fn new(db: Db, sealer: Sealer) -> Self {
        Self { db, sealer }
    }

    pub async fn list(&self, actor: &Actor, purpose: Purpose) -> Result<Page<RegistryView>> {
        actor.authorise(Scope::Account)?;
        let rows = store::list(self.db.read(), purpose, actor.user, LIST_LIMIT).await?;
        Ok(Page { items: rows.iter().map(view).collect(), next: None })
    }

    /// Stores credentials, in the place of those that there are for the same server.
    pub async fn put(&self, actor: &Actor, purpose: Purpose, new: NewRegistry) -> Result<RegistryView> {
        actor.authorise(Scope::Account)?;
        if new.everyone && !actor.is_admin() {
            return Err(Error::new(ErrorCode::Forbidden, "Only administrators store credentials for everyone."));
        }
        if new.everyone && purpose == Purpose::Git {
            let message = "Credentials for repositories are one user's: a clone hands them to a program in the workspace, \
                           whose owner could read them there.";
            return Err(Error::field("everyone", message));
        }
        let server = match purpose {
            Purpose::Images => {
                server_name::normal(&new.server).ok_or("a registry as image references name it, such as `ghcr.io`")
            }
            Purpose::Git => server_name::address(&new.server)
                .ok_or("a host as repositories' addresses name it, such as `github.com`"),
        };
        let server = server.map_err(|what| {
            let message = format!("`server` must be {what} or `localhost:5000`, without a scheme or path.");
            Error::field("server", message)
        })?;
        text("username", &new.username, USERNAME_CHARS_MAX)?;
        text("password", &new.password, PASSWORD_CHARS_MAX)?;
        let id = RegistryId::new();
        let password_sealed = self.sealer.seal(&sealed_for(id), &Secret::new(new.password)).map_err(Error::internal)?;
        let owner = (!new.everyone).then_some(actor.user);
        let row =
            Registry { id, purpose, owner, server, username: new.username, password_sealed, created_ms: now_ms() };
        let tx = self.db.begin().await?;
        let used = store::count_others(&tx, purpose, owner, &row.server).await?;
        if used >= i64::from(REGISTRIES_MAX) {
            return Err(Error::new(
                ErrorCode::QuotaExceeded,
                format!("There are credentials for {REGISTRIES_MAX} servers already. Delete some first."),
            )
            .details(json!({ "quota": "registries", "used": used, "max": REGISTRIES_MAX })));
        }
        store::put(&tx, &row).await?;
        let stored = NewEvent::of_user(actor.user, purpose.stored());
        events::append(&tx, &stored.data(json!({ "server": row.server, "everyone": new.everyone }))).await?;
        tx.commit().await?;
        Ok(view(&row))
    }

    pub async fn remove(&self, actor: &Actor, purpose: Purpose, id: RegistryId) -> Result<()> {
        actor.authorise(Scope::Account)?;
        let row = store::find(self.db.read(), purpose, id).await?;
        let row = row.filter(|row| row.owner.is_none_or(|owner| actor.owns(owner))).ok_or_else(no_such)?;
        if row.owner.is_none() && !actor.is_admin() {
            return Err(Error::new(ErrorCode::Forbidden, "Only administrators delete credentials for everyone."));
        }
        let tx = self.db.begin().await?;
        if !store::remove(&tx, id).await? {
            return Err(no_such());
        }
        let removed = NewEvent::of_user(actor.user, purpose.deleted());
        events::append(&tx, &removed.data(json!({ "server": row.server }))).await?;
        tx.commit().await?;
        Ok(())
    }

    /// What a user has for the registry of an image, if anything.
    pub async fn credentials(
        &self,
        user: UserId,
        image: &str,
    ) -> std::result::Result<Option<Credentials>, sea_orm::DbErr> {
        let server = server_name::of_image(image);
        let Some(row) = store::of_server(self.db.read(), Purpose::Images, user, &server).await? else {
            return Ok(None);
        };
        let Some(password) = self.sealer.open(&sealed_for(row.id), &row.password_sealed) else {
            // The image may be public; if not, the registry's refusal tells the user to store them again.
            tracing::warn!(registry.id = %row.id, "stored credentials do not open: the signing secret has changed");
            return Ok(None);
        };
        let server = if server == server_name::DOCKER_HUB { DOCKER_HUB_SERVER.to_owned() } else { server };
        let auth = RegistryAuth { server, username: row.username, password: password.expose().to_owned() };
        Ok(Some(Credentials { id: row.id, auth }))
    }

    /// What a user has for the host of a repository, if anything.
    pub async fn login(&self, user: UserId, host: &str) -> std::result::Result<Option<Login>, sea_orm::DbErr> {
        let Some(host) = server_name::address(host) else { return Ok(None) };
        let row = store::of_server(self.db.read(), Purpose::Git, user, &host).await?;
        let Some(row) = row.filter(|row| row.owner.is_some()) else { return Ok(None) };
        let Some(password) = self.sealer.open(&sealed_for(row.id), &row.password_sealed) else {
            tracing::warn!(registry.id = %row.id, "stored credentials do not open: the signing secret has changed");
            return Ok(None);
        };
        Ok(Some(Login { username: row.username, password }))
    }
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Images => "image",
            Self::Git => "git",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Images, Self::Git].into_iter().find(|purpose| purpose.as_str() == text)
    }

    const fn stored(self) -> &'static str {
        match self {
            Self::Images => "registry.stored",
            Self::Git => "git_credentials.stored",
        }
    }

    const fn deleted(self) -> &'static str {
        match self {
            Self::Images => "registry.deleted",
            Self::Git => "git_credentials.deleted",
        }
    }
}

fn sealed_for(id: RegistryId) -> String {
    format!("registry {id}")
}

fn text(field: &str, text: &str, chars_max: usize) -> Result<()> {
    if (1..=chars_max).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::field(
        field,
        format!("`{field}` must have 1 to {chars_max} characters, none of them control characters."),
    ))
}

fn view(row: &Registry) -> RegistryView {
    RegistryView {
        id: row.id,
        server: row.server.clone(),
        username: row.username.clone(),
        everyone: row.owner.is_none(),
        created_at: rfc3339(row.created_ms),
    }
}

fn no_such() -> Error {
    Error::not_found("set of credentials")
}
