//! API tokens: made once and shown once, kept as a hash, believed for less than a second at a time.
//!
//! Invariant: no token can give another more than it has itself: not a scope, not a workspace, not a
//! day. What a token was given never changes; it is revoked, and another made.

pub mod http;
mod store;

use super::device;
use super::{Auth, STANDING_CACHE, STANDINGS_MAX, TOUCH_MS, role_of};
use crate::actor::{Actor, Grant, Via};
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::time::{now_ms, rfc3339};
use rexec_api::error::ErrorCode;
use rexec_api::ids::{TokenId, UserId, WorkspaceId};
use rexec_api::tokens::{
    self, CreatedToken, EXPIRES_DAYS_MAX, NAME_CHARS_MAX, NewToken, Scope, TOKENS_MAX, TokenView, WORKSPACES_MAX,
};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use store::{ApiToken, Standing};

const DAY_MS: i64 = 24 * 3600 * 1000;
/// How long a token that has run out is listed, so that its owner sees why a program stopped.
const EXPIRED_KEPT_MS: i64 = 30 * DAY_MS;
/// Characters of a token that are kept to know it by; those after the prefix are 4 of 49.
const HINT_CHARS: usize = tokens::PREFIX.len() + 4;

/// What is known of tokens, at most [`STANDING_CACHE`] old.
#[derive(Default)]
pub(super) struct Tokens {
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Which token has this hash; that never changes.
    ids: HashMap<String, TokenId>,
    known: HashMap<TokenId, Known>,
}

#[derive(Clone)]
struct Known {
    token: ApiToken,
    role: String,
    grant: Arc<Grant>,
    at: Instant,
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn fresh(&self, id: TokenId) -> Option<Known> {
        self.known.get(&id).filter(|known| known.at.elapsed() < STANDING_CACHE).cloned()
    }

    fn remember(&mut self, standing: Standing, at: Instant) -> Known {
        if self.known.len() >= STANDINGS_MAX || self.ids.len() >= STANDINGS_MAX {
            self.known.clear();
            self.ids.clear();
        }
        let Standing { token, role } = standing;
        let grant = Arc::new(Grant { scopes: token.scopes.clone(), workspaces: token.workspaces.clone() });
        let known = Known { role, grant, at, token };
        self.known.insert(known.token.id, known.clone());
        known
    }
}

impl Auth {
    /// Whoever has this API token.
    pub(super) async fn actor_of_api_token(&self, token: &str) -> Result<Actor> {
        if !tokens::is_well_formed(token) {
            let message = "The API token has a typo or is cut off: its checksum does not fit. Copy it again.";
            return Err(Error::new(ErrorCode::InvalidToken, message));
        }
        let hash = hash(token);
        let id = self.inner.tokens.lock().ids.get(&hash).copied();
        let known = match id {
            Some(id) => self.known_token(id).await?,
            None => {
                let at = Instant::now();
                let found = store::by_hash(self.inner.db.read(), &hash).await?.ok_or_else(revoked)?;
                let mut memory = self.inner.tokens.lock();
                let known = memory.remember(found, at);
                memory.ids.insert(hash, known.token.id);
                known
            }
        };
        require_unexpired(&known.token)?;
        self.touch_token(&known.token).await;
        Ok(Actor::of_token(known.token.user, role_of(&known.role), known.token.id, known.grant))
    }

    /// Whether a token still holds.
    pub(super) async fn check_token(&self, id: TokenId) -> Result<()> {
        require_unexpired(&self.known_token(id).await?.token)
    }

    /// What its owner calls a token.
    pub(crate) async fn name_of_token(&self, id: TokenId) -> Result<String> {
        Ok(self.known_token(id).await?.token.name)
    }

    async fn known_token(&self, id: TokenId) -> Result<Known> {
        if let Some(known) = self.inner.tokens.lock().fresh(id) {
            return Ok(known);
        }
        // Taken before the query: what changes during it must count as older.
        let at = Instant::now();
        match store::by_id(self.inner.db.read(), id).await? {
            Some(found) => Ok(self.inner.tokens.lock().remember(found, at)),
            None => {
                self.inner.tokens.lock().known.remove(&id);
                Err(revoked())
            }
        }
    }

    /// Notes now and then that a token is in use; a failure to do so harms nobody.
    async fn touch_token(&self, token: &ApiToken) {
        let now = now_ms();
        if token.last_used_ms.is_some_and(|used| now - used < TOUCH_MS) {
            return;
        }
        if let Some(known) = self.inner.tokens.lock().known.get_mut(&token.id) {
            known.token.last_used_ms = Some(now);
        }
        if let Err(error) = store::touch(self.inner.db.write(), token.id, now).await {
            tracing::debug!(%error, "the use of an API token could not be noted");
        }
    }

    /// Makes a token, which is told now and never again.
    pub async fn create_token(&self, actor: &Actor, new: NewToken) -> Result<CreatedToken> {
        actor.authorise(Scope::Account)?;
        let now = now_ms();
        let expires_ms = self.end_within(actor, expiry(new.expires_in_days, now)?).await?;
        let mut made = ApiToken {
            id: TokenId::new(),
            user: actor.user,
            name: name(&new.name)?,
            hint: String::new(),
            scopes: scopes(actor, new.scopes, new.workspaces.is_some())?,
            workspaces: new.workspaces.map(workspaces).transpose()?,
            created_ms: now,
            expires_ms,
            last_used_ms: None,
        };
        let tx = self.inner.db.begin().await?;
        if let Some(only) = &made.workspaces
            && store::count_owned(&tx, actor.user, only).await? != only.len() as i64
        {
            return Err(Error::field("workspaces", "One of `workspaces` is not there or not yours."));
        }
        let token = issue(&tx, &mut made, json!({ "by_token": by_token(actor) })).await?;
        tx.commit().await?;
        Ok(CreatedToken { token, view: view(&made, actor, now) })
    }

    /// Refuses where the user could not have another token.
    pub(super) async fn require_room_for_token(&self, user: UserId) -> Result<()> {
        require_room(self.inner.db.read(), user).await
    }

    /// When the token that the actor came through ends, if it is one and does.
    pub(super) async fn own_end(&self, actor: &Actor) -> Result<Option<i64>> {
        match actor.via {
            Via::Token(id) => Ok(self.known_token(id).await?.token.expires_ms),
            Via::SshCertificate { until_ms } => Ok((until_ms < i64::MAX).then_some(until_ms)),
            Via::Session(_) | Via::SshKey(_) => Ok(None),
        }
    }

    /// The actor's tokens, newest first; there are never more than [`TOKENS_MAX`].
    pub async fn tokens_of(&self, actor: &Actor) -> Result<Vec<TokenView>> {
        actor.authorise(Scope::Account)?;
        let now = now_ms();
        let rows = store::list(self.inner.db.read(), actor.user, TOKENS_MAX).await?;
        Ok(rows.iter().map(|row| view(row, actor, now)).collect())
    }

    /// Revokes one of the actor's tokens.
    pub async fn revoke_token(&self, actor: &Actor, id: TokenId) -> Result<()> {
        actor.authorise(Scope::Account)?;
        self.end_token(actor, id).await
    }

    pub(super) async fn end_token(&self, actor: &Actor, id: TokenId) -> Result<()> {
        let tx = self.inner.db.begin().await?;
        let name = store::remove(&tx, actor.user, id).await?.ok_or_else(|| Error::not_found("token"))?;
        device::store::remove_approved(&tx, actor.user).await?;
        let data = json!({ "token_id": id, "name": name, "by_token": by_token(actor) });
        events::append(&tx, &NewEvent::of_user(actor.user, "token.revoked").data(data)).await?;
        tx.commit().await?;
        self.inner.tokens.lock().known.remove(&id);
        Ok(())
    }

    pub(super) async fn forget_old_tokens(&self) -> Result<(), sea_orm::DbErr> {
        store::remove_expired(self.inner.db.write(), now_ms() - EXPIRED_KEPT_MS).await.map(|_| ())
    }

    /// A token's token ends no later than itself.
    async fn end_within(&self, actor: &Actor, wished_ms: Option<i64>) -> Result<Option<i64>> {
        match (wished_ms, self.own_end(actor).await?) {
            (None, own) => Ok(own),
            (Some(wished), Some(own)) if wished > own => Err(Error::field(
                "expires_in_days",
                "An API token cannot make one that outlives it. Ask for fewer days, or leave it out to end together.",
            )),
            (wished, _) => Ok(wished),
        }
    }
}

/// How a secret that is long and random is kept: its SHA-256 in hexadecimal digits.
pub(super) fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// Makes a token of everything for a machine that the user has let in, in the caller's transaction; `by` tells the
/// log how.
pub(super) async fn issue_login_token(
    conn: &impl ConnectionTrait,
    user: UserId,
    name: String,
    expires_ms: i64,
    by: Value,
) -> Result<String> {
    let mut made = ApiToken {
        id: TokenId::new(),
        user,
        name,
        hint: String::new(),
        scopes: vec![Scope::All],
        workspaces: None,
        created_ms: now_ms(),
        expires_ms: Some(expires_ms),
        last_used_ms: None,
    };
    issue(conn, &mut made, by).await
}

/// Draws a token, keeps it and tells the log, with `by` beside the rest.
async fn issue(conn: &impl ConnectionTrait, made: &mut ApiToken, mut by: Value) -> Result<String> {
    require_room(conn, made.user).await?;
    let token = tokens::encode(rand::random());
    made.hint = token.chars().take(HINT_CHARS).collect();
    store::insert(conn, made, &hash(&token)).await?;
    let about = json!({
        "token_id": made.id, "name": made.name, "scopes": made.scopes, "workspaces": made.workspaces,
        "expires_at": made.expires_ms.map(rfc3339),
    });
    if let (Value::Object(by), Value::Object(about)) = (&mut by, about) {
        by.extend(about);
    }
    events::append(conn, &NewEvent::of_user(made.user, "token.created").data(by)).await?;
    Ok(token)
}

async fn require_room(conn: &impl ConnectionTrait, user: UserId) -> Result<()> {
    let used = store::count(conn, user).await?;
    if used < i64::from(TOKENS_MAX) {
        return Ok(());
    }
    let message = format!("You have {TOKENS_MAX} API tokens already. Revoke one first.");
    let details = json!({ "quota": "tokens", "used": used, "max": TOKENS_MAX });
    Err(Error::new(ErrorCode::QuotaExceeded, message).details(details))
}

fn by_token(actor: &Actor) -> Option<TokenId> {
    match actor.via {
        Via::Token(id) => Some(id),
        Via::Session(_) | Via::SshKey(_) | Via::SshCertificate { .. } => None,
    }
}

fn name(name: &str) -> Result<String> {
    let name = name.trim();
    if (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    let message = format!("`name` must have 1 to {NAME_CHARS_MAX} characters, none of them control characters.");
    Err(Error::field("name", message))
}

/// What is asked for, without repetition, where the actor has it.
fn scopes(actor: &Actor, mut scopes: Vec<Scope>, is_limited: bool) -> Result<Vec<Scope>> {
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(Error::field("scopes", "`scopes` must name at least one scope."));
    }
    if let Some(beyond) = scopes.iter().find(|scope| is_limited && matches!(scope, Scope::Account | Scope::Admin)) {
        let message =
            format!("`{}` reaches beyond workspaces. Leave it out, or do not limit the token.", beyond.as_str());
        return Err(Error::field("scopes", message));
    }
    match scopes.iter().find(|scope| !actor.covers(**scope)) {
        None => Ok(scopes),
        Some(lacking) => {
            let message =
                format!("An API token cannot give what it lacks: the scope `{}`. Sign in for that.", lacking.as_str());
            Err(Error::new(ErrorCode::InsufficientScope, message).details(json!({ "scope": lacking.as_str() })))
        }
    }
}

fn workspaces(mut only: Vec<WorkspaceId>) -> Result<Vec<WorkspaceId>> {
    only.sort_unstable();
    only.dedup();
    if (1..=WORKSPACES_MAX).contains(&only.len()) {
        return Ok(only);
    }
    let message = format!("`workspaces` must name 1 to {WORKSPACES_MAX} workspaces; leave it out for all of them.");
    Err(Error::field("workspaces", message))
}

fn expiry(days: Option<u32>, now_ms: i64) -> Result<Option<i64>> {
    match days {
        None => Ok(None),
        Some(days) if (1..=EXPIRES_DAYS_MAX).contains(&days) => Ok(Some(now_ms + i64::from(days) * DAY_MS)),
        Some(_) => {
            let message = format!("`expires_in_days` must be from 1 to {EXPIRES_DAYS_MAX}; leave it out for no end.");
            Err(Error::field("expires_in_days", message))
        }
    }
}

fn require_unexpired(token: &ApiToken) -> Result<()> {
    if is_expired(token, now_ms()) {
        return Err(Error::new(ErrorCode::TokenExpired, "This API token has run out. Make another one."));
    }
    Ok(())
}

fn is_expired(token: &ApiToken, now_ms: i64) -> bool {
    token.expires_ms.is_some_and(|end| end <= now_ms)
}

fn revoked() -> Error {
    Error::new(ErrorCode::TokenRevoked, "There is no such API token: it was revoked, or is another server's.")
}

fn view(token: &ApiToken, actor: &Actor, now_ms: i64) -> TokenView {
    TokenView {
        id: token.id,
        name: token.name.clone(),
        scopes: token.scopes.clone(),
        workspaces: token.workspaces.clone(),
        hint: token.hint.clone(),
        created_at: rfc3339(token.created_ms),
        expires_at: token.expires_ms.map(rfc3339),
        last_used_at: token.last_used_ms.map(rfc3339),
        expired: is_expired(token, now_ms),
        current: actor.via == Via::Token(token.id),
    }
}
