//! Accounts: who may sign in, and as what.
//!
//! Invariant: exactly one account is made as the first, and it is the administrator, however many
//! register at once; an e-mail address, in its one spelling, has one account.

mod email;
pub mod http;
mod password;
pub(crate) mod store;

use crate::actor::Actor;
use crate::auth::Auth;
use crate::db::{self, Db};
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::http::origin::Scene;
use crate::time::{now_ms, rfc3339};
use password::Passwords;
use rexec_api::accounts::{
    AuthStatus, LoginRequest, NAME_CHARS_MAX, PASSWORD_BYTES_MAX, RegisterRequest, Role, SignedIn, UserView,
};
use rexec_api::error::ErrorCode;
use rexec_api::ids::UserId;
use store::UserRow;

/// A handle to the service. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    db: Db,
    auth: Auth,
    passwords: Passwords,
}

impl Accounts {
    pub fn new(db: Db, auth: Auth) -> Self {
        Self { db, auth, passwords: Passwords::new() }
    }

    /// Makes an account and signs it in. Anyone may; the first becomes administrator.
    pub async fn register(
        &self,
        request: RegisterRequest,
        scene: &Scene,
        user_agent: Option<&str>,
    ) -> Result<SignedIn> {
        let email = email::parse(&request.email)?;
        let name = display_name(request.name)?;
        password::check(&request.password)?;
        self.auth.limits.sign_in(scene.address, &email)?;
        let password_hash = self.passwords.hash(request.password).await?;

        let id = UserId::new();
        let tx = self.db.begin().await?;
        let first = store::claim_first(&tx, id).await?;
        let row = UserRow {
            id: id.to_string(),
            email,
            name,
            password_hash,
            role: if first { "admin" } else { "user" }.to_owned(),
            created_ms: now_ms(),
        };
        store::insert(&tx, &row).await.map_err(|e| if db::is_duplicate(&e) { email_taken() } else { e.into() })?;
        let event = NewEvent::of_user(id, "account.registered").data(serde_json::json!({ "role": row.role }));
        events::append(&tx, &event).await?;
        let token = self.auth.begin_session(&tx, id, scene, user_agent).await?;
        tx.commit().await?;
        tracing::info!(user.id = %id, role = row.role, "account registered");
        Ok(SignedIn { token, user: view(row)? })
    }

    /// Signs in by e-mail and password.
    pub async fn log_in(&self, request: LoginRequest, scene: &Scene, user_agent: Option<&str>) -> Result<SignedIn> {
        let email = email::normalise(&request.email);
        self.auth.limits.sign_in(scene.address, &email)?;
        let row = store::by_email(self.db.read(), &email).await?;
        // No account has a password as long as this; hashing it would only cost.
        let password = Some(request.password).filter(|p| p.len() <= PASSWORD_BYTES_MAX);
        let hash = row.as_ref().filter(|_| password.is_some()).map(|row| row.password_hash.clone());
        let fits = self.passwords.verify(password.unwrap_or_default(), hash).await?;
        let Some(row) = row.filter(|_| fits) else {
            return Err(Error::new(ErrorCode::BadCredentials, "The e-mail address or the password is wrong."));
        };
        let id: UserId = row.id.parse().map_err(Error::internal)?;
        let tx = self.db.begin().await?;
        let token = self.auth.begin_session(&tx, id, scene, user_agent).await?;
        tx.commit().await?;
        Ok(SignedIn { token, user: view(row)? })
    }

    /// The actor's own account. Whoever acts may know for whom, so this needs no scope.
    pub async fn me(&self, actor: &Actor) -> Result<UserView> {
        self.view_of(actor.user).await
    }

    /// The account that somebody has just signed in to.
    pub(crate) async fn view_of(&self, user: UserId) -> Result<UserView> {
        let row = store::by_id(self.db.read(), user).await?;
        view(row.ok_or_else(|| Error::not_found("account"))?)
    }

    /// Whether the actor's account is called so: its id, its e-mail, or what stands before the `@`. It needs no scope either.
    pub async fn goes_by(&self, actor: &Actor, called: &str) -> Result<bool> {
        let me = self.me(actor).await?;
        let called = email::normalise(called);
        let name = me.email.split_once('@').map(|(name, _)| name);
        Ok(me.id.to_string() == called || me.email == called || name == Some(&called))
    }

    /// The account of this e-mail address.
    pub(crate) async fn with_email(&self, address: &str) -> Result<Option<UserId>> {
        let row = store::by_email(self.db.read(), &email::normalise(address)).await?;
        row.map(|row| row.id.parse().map_err(Error::internal)).transpose()
    }

    /// What a page needs to know before anyone has signed in.
    pub async fn status(&self) -> Result<AuthStatus> {
        Ok(AuthStatus {
            first_account: store::is_first_free(self.db.read()).await?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

fn email_taken() -> Error {
    Error::new(
        ErrorCode::EmailTaken,
        "There is already an account with this e-mail address. Sign in, or use another address.",
    )
    .details(serde_json::json!({ "field": "email" }))
}

fn display_name(name: Option<String>) -> Result<Option<String>> {
    let name = name.map(|n| n.trim().to_owned()).filter(|n| !n.is_empty());
    if let Some(name) = &name {
        if name.chars().count() > NAME_CHARS_MAX {
            return Err(Error::field("name", format!("The name must have at most {NAME_CHARS_MAX} characters.")));
        }
        if name.chars().any(char::is_control) {
            return Err(Error::field("name", "The name must not have control characters."));
        }
    }
    Ok(name)
}

fn view(row: UserRow) -> Result<UserView> {
    Ok(UserView {
        id: row.id.parse().map_err(Error::internal)?,
        email: row.email,
        name: row.name,
        role: if row.role == "admin" { Role::Admin } else { Role::User },
        created_at: rfc3339(row.created_ms),
    })
}
