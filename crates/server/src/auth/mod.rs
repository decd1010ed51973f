//! Who asks: login sessions, the tokens bound to them, and how often one may ask.
//!
//! Invariant: an [`Actor`] exists only for a token with our signature whose session is live, or for an
//! API token that we know; what was ended anywhere counts for at most [`STANDING_CACHE`] longer. A
//! cookie is believed for a change, or for a WebSocket, only with our own `Origin`, and never carries
//! an API token.

pub mod api_token;
pub mod device;
pub mod http;
pub mod limits;
mod ssh_key;
mod store;
pub mod token;

use crate::actor::{Actor, Via};
use crate::config::Config;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::http::origin::{self, Scene};
use crate::secret::Secret;
use crate::tasks::Tasks;
use crate::time::{now_ms, rfc3339};
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderValue, Method, header};
use limits::Limits;
use rexec_api::accounts::{Role, SessionView};
use rexec_api::error::ErrorCode;
use rexec_api::frames::TOKEN_SUBPROTOCOL_PREFIX;
use rexec_api::ids::{SessionId, UserId};
use rexec_api::tokens::Scope;
use sea_orm::ConnectionTrait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::{SessionRow, Standing};
use token::{Expiry, Keys};

/// How long what is known of a session or an API token is believed. Together with the query it stays
/// under the second within which either must end on every server.
const STANDING_CACHE: Duration = Duration::from_millis(700);
/// Sessions remembered at once, and tokens; beyond that the memory is cleared and filled anew.
const STANDINGS_MAX: usize = 10_000;
/// A login session ends after 30 days.
const SESSION_MS: i64 = 30 * 24 * 3600 * 1000;
/// Live sessions of one user; a further sign-in ends the oldest.
pub const SESSIONS_MAX: u64 = 100;
/// How much older `last_used_ms` may be than the truth: writing it at each request would cost.
const TOUCH_MS: i64 = 60_000;
/// Most characters kept of a `User-Agent`.
const USER_AGENT_CHARS_MAX: usize = 200;
/// How often old sessions and idle limits are swept away.
const SWEEP_PERIOD: Duration = Duration::from_secs(60);
/// How often a long-lived connection asks whether what it came through still holds.
const WATCH_PERIOD: Duration = Duration::from_millis(250);
/// The cookie where it may be `Secure`, and where the address is plain HTTP on a network, for
/// which browsers refuse the `__Host-` prefix.
const COOKIE_SECURE: &str = "__Host-rexec";
const COOKIE_PLAIN: &str = "rexec";

/// A handle to the service. Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    inner: Arc<Inner>,
    pub limits: Arc<Limits>,
}

struct Inner {
    db: Db,
    config: Arc<Config>,
    keys: Keys,
    /// The secret itself, from which others derive keys of their own.
    secret: Secret,
    sessions: Mutex<HashMap<SessionId, Known>>,
    tokens: api_token::Tokens,
    ssh_keys: ssh_key::Known,
}

#[derive(Clone)]
struct Known {
    standing: Standing,
    at: Instant,
}

/// How a request carries its token.
enum Carrier {
    /// A header or subprotocol: no other site can make a browser send it.
    Explicit(String),
    /// A cookie, which a browser sends whoever asks.
    Cookie(String),
}

impl Auth {
    pub fn new(db: Db, config: Arc<Config>, secret: &Secret) -> Self {
        Self {
            limits: Arc::new(Limits::new(&config.limits)),
            inner: Arc::new(Inner {
                db,
                config,
                keys: Keys::from_secret(secret),
                secret: secret.clone(),
                sessions: Mutex::default(),
                tokens: api_token::Tokens::default(),
                ssh_keys: ssh_key::Known::default(),
            }),
        }
    }

    /// Starts what the service does in the background.
    pub fn start(&self, tasks: &Tasks) {
        let auth = self.clone();
        tasks.spawn_abortable("auth-sweep", async move {
            let mut period = tokio::time::interval(SWEEP_PERIOD);
            loop {
                period.tick().await;
                auth.limits.prune();
                let swept = store::delete_expired(auth.inner.db.write(), now_ms()).await;
                if let Err(error) = swept {
                    tracing::warn!(%error, "old login sessions could not be removed");
                }
                if let Err(error) = auth.forget_old_device_logins().await {
                    tracing::warn!(%error, "machines' sign-ins that ran out could not be removed");
                }
                if let Err(error) = auth.forget_old_tokens().await {
                    tracing::warn!(%error, "old API tokens could not be removed");
                }
            }
        });
    }

    /// Whoever makes this request.
    pub async fn authenticate(&self, parts: &Parts, scene: &Scene) -> Result<Actor> {
        self.actor_of(parts, scene, Expiry::Refuse).await
    }

    /// The same for `/api/auth/refresh`, where a token may have run out.
    pub async fn authenticate_to_refresh(&self, parts: &Parts, scene: &Scene) -> Result<Actor> {
        self.actor_of(parts, scene, Expiry::Accept).await
    }

    async fn actor_of(&self, parts: &Parts, scene: &Scene, expiry: Expiry) -> Result<Actor> {
        let token = match carrier(&parts.headers, scene)? {
            None => return Err(unauthenticated()),
            Some(Carrier::Explicit(token)) if token.starts_with(rexec_api::tokens::PREFIX) => {
                return self.actor_of_api_token(&token).await;
            }
            Some(Carrier::Explicit(token)) => token,
            Some(Carrier::Cookie(token)) => {
                if !parts.method.is_safe() || is_upgrade(parts) {
                    origin::require_own(&parts.headers, scene, &self.inner.config)?;
                }
                token
            }
        };
        let claims = self.inner.keys.verify(&token, expiry)?;
        self.actor_of_session(claims.sub, claims.sid).await
    }

    /// Whoever has this live session: for tokens and passes that were checked.
    pub(crate) async fn actor_of_session(&self, user: UserId, session: SessionId) -> Result<Actor> {
        let standing = self.standing(session).await?;
        if standing.user_id != user.to_string() {
            return Err(token::invalid());
        }
        self.touch(session, &standing).await;
        Ok(Actor::of_session(user, role_of(&standing.role), session))
    }

    /// Whoever has this token, which came by itself and not in a cookie.
    pub(crate) async fn actor_of_token(&self, token: &str) -> Result<Actor> {
        if token.starts_with(rexec_api::tokens::PREFIX) {
            return self.actor_of_api_token(token).await;
        }
        let claims = self.inner.keys.verify(token, Expiry::Refuse)?;
        self.actor_of_session(claims.sub, claims.sid).await
    }

    /// Whether a token is one of ours, though it may have run out or been revoked.
    pub(crate) fn is_ours(&self, token: &str) -> bool {
        rexec_api::tokens::is_well_formed(token) || self.inner.keys.verify(token, Expiry::Accept).is_ok()
    }

    /// A key for one purpose, the same on every server and after every restart.
    pub(crate) fn derived_key(&self, purpose: &str) -> [u8; 32] {
        token::derived_key(&self.inner.secret, purpose)
    }

    /// Whether what the actor came through still holds: for connections that outlive a request.
    pub async fn check(&self, actor: &Actor) -> Result<()> {
        match actor.via {
            Via::Session(session) => self.standing(session).await.map(|_| ()),
            Via::Token(token) => self.check_token(token).await,
            Via::SshKey(key) => self.check_ssh_key(key).await,
            Via::SshCertificate { until_ms } => ssh_key::check_certificate(until_ms),
        }
    }

    /// Resolves once what the actor came through has ended, with the reason. A database that does not
    /// answer ends nothing.
    pub async fn ended(&self, actor: &Actor) -> Error {
        let mut period = tokio::time::interval(WATCH_PERIOD);
        loop {
            period.tick().await;
            match self.check(actor).await {
                Err(error) if error.code.http_status() == 401 => return error,
                _ => {}
            }
        }
    }

    /// What the database says of a live session, at most [`STANDING_CACHE`] old.
    async fn standing(&self, id: SessionId) -> Result<Standing> {
        let known = self.sessions().get(&id).cloned();
        let standing = match known {
            Some(known) if known.at.elapsed() < STANDING_CACHE => known.standing,
            _ => {
                // Taken before the query: what changes during it must count as older.
                let at = Instant::now();
                let found = store::standing(self.inner.db.read(), id).await?;
                let standing = found.filter(|s| s.revoked_ms.is_none()).ok_or_else(|| {
                    self.sessions().remove(&id);
                    session_ended()
                })?;
                self.remember(id, standing.clone(), at);
                standing
            }
        };
        if standing.expires_ms <= now_ms() {
            return Err(session_ended());
        }
        Ok(standing)
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Known>> {
        self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, id: SessionId, standing: Standing, at: Instant) {
        let mut sessions = self.sessions();
        if sessions.len() >= STANDINGS_MAX {
            sessions.clear();
        }
        sessions.insert(id, Known { standing, at });
    }

    /// Notes now and then that a session is in use; a failure to do so harms nobody.
    async fn touch(&self, id: SessionId, standing: &Standing) {
        let now = now_ms();
        if now - standing.last_used_ms < TOUCH_MS {
            return;
        }
        if let Some(known) = self.sessions().get_mut(&id) {
            known.standing.last_used_ms = now;
        }
        if let Err(error) = store::touch(self.inner.db.write(), id, now).await {
            tracing::debug!(%error, "the use of a session could not be noted");
        }
    }

    /// Begins a login session in the caller's transaction and gives its token.
    pub async fn begin_session<C: ConnectionTrait>(
        &self,
        conn: &C,
        user: UserId,
        scene: &Scene,
        user_agent: Option<&str>,
    ) -> Result<String> {
        let now = now_ms();
        let id = SessionId::new();
        let row = SessionRow {
            id: id.to_string(),
            user_id: user.to_string(),
            created_ms: now,
            expires_ms: now + SESSION_MS,
            last_used_ms: now,
            user_agent: user_agent.map(|a| a.chars().take(USER_AGENT_CHARS_MAX).collect()),
            address: Some(scene.address.to_string()),
        };
        store::insert(conn, &row).await?;
        store::revoke_beyond(conn, user, SESSIONS_MAX, now).await?;
        let event = NewEvent::of_user(user, "session.started").data(serde_json::json!({
            "session_id": id, "address": row.address
        }));
        events::append(conn, &event).await?;
        self.inner.keys.sign(user, id, now)
    }

    /// A fresh token for the actor's session.
    pub fn refreshed_token(&self, actor: &Actor) -> Result<String> {
        let Via::Session(session) = actor.via else {
            let message = "An API token is not refreshed: it is good until it runs out or is revoked.";
            return Err(Error::new(ErrorCode::Forbidden, message));
        };
        self.inner.keys.sign(actor.user, session, now_ms())
    }

    /// The actor's live sessions, newest first; there are never more than [`SESSIONS_MAX`].
    pub async fn sessions_of(&self, actor: &Actor) -> Result<Vec<SessionView>> {
        actor.authorise(Scope::Account)?;
        let rows = store::live(self.inner.db.read(), actor.user, now_ms(), SESSIONS_MAX).await?;
        rows.into_iter()
            .map(|row| {
                let id: SessionId = row.id.parse().map_err(Error::internal)?;
                Ok(SessionView {
                    current: actor.via == Via::Session(id),
                    id,
                    created_at: rfc3339(row.created_ms),
                    expires_at: rfc3339(row.expires_ms),
                    last_used_at: rfc3339(row.last_used_ms),
                    user_agent: row.user_agent,
                    address: row.address,
                })
            })
            .collect()
    }

    /// Ends one of the actor's sessions.
    pub async fn revoke(&self, actor: &Actor, session: SessionId) -> Result<()> {
        actor.authorise(Scope::Account)?;
        let tx = self.inner.db.begin().await?;
        if !store::revoke(&tx, actor.user, session, now_ms()).await? {
            return Err(Error::not_found("session"));
        }
        // Whatever it has approved is not to outlive it.
        device::store::remove_approved(&tx, actor.user).await?;
        let event = NewEvent::of_user(actor.user, "session.revoked").data(serde_json::json!({ "session_id": session }));
        events::append(&tx, &event).await?;
        tx.commit().await?;
        self.sessions().remove(&session);
        Ok(())
    }

    /// Ends what the actor came through: the session, or the API token. Whoever holds it may.
    pub async fn log_out(&self, actor: &Actor) -> Result<()> {
        match actor.via {
            Via::Session(session) => self.revoke(actor, session).await,
            Via::Token(token) => self.end_token(actor, token).await,
            Via::SshKey(_) => Err(Error::new(ErrorCode::Forbidden, "A key is no sign-in. Delete it instead.")),
            Via::SshCertificate { .. } => {
                Err(Error::new(ErrorCode::Forbidden, "A certificate is no sign-in. It ends by itself."))
            }
        }
    }
}

pub(crate) fn role_of(text: &str) -> Role {
    match text {
        "admin" => Role::Admin,
        _ => Role::User,
    }
}

fn unauthenticated() -> Error {
    Error::new(ErrorCode::Unauthenticated, "Sign in first, or send a token as `Authorization: Bearer <token>`.")
}

fn session_ended() -> Error {
    Error::new(ErrorCode::SessionRevoked, "This login session has ended. Sign in again.")
}

/// Whether a request asks to become a WebSocket.
fn is_upgrade(parts: &Parts) -> bool {
    parts.method == Method::CONNECT || parts.headers.contains_key(header::UPGRADE)
}

/// The token that came by itself: in the header, or else as a subprotocol.
pub(crate) fn explicit_token(headers: &HeaderMap) -> Result<Option<String>> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim().to_owned());
        return token.map(Some).ok_or_else(token::invalid);
    }
    let offered = offered_protocols(headers).find_map(|protocol| protocol.strip_prefix(TOKEN_SUBPROTOCOL_PREFIX));
    Ok(offered.map(str::to_owned))
}

/// The token of a request; a cookie's where none came by itself.
fn carrier(headers: &HeaderMap, scene: &Scene) -> Result<Option<Carrier>> {
    if let Some(token) = explicit_token(headers)? {
        return Ok(Some(Carrier::Explicit(token)));
    }
    let name = cookie_name(scene);
    let mut found = cookies(headers, name);
    let first = found.next();
    // Without HTTPS a page on a neighbouring name or port can set one of this name: whose would be used is its choice.
    if found.any(|other| Some(other) != first) {
        let message = format!(
            "Two sign-ins came with the request: another page has set one of this name. Remove the cookie \
                               `{name}` of this site in your browser, and sign in again."
        );
        return Err(Error::new(ErrorCode::InvalidToken, message));
    }
    Ok(first.map(|token| Carrier::Cookie(token.to_owned())))
}

/// The WebSocket subprotocols that the client offers.
pub fn offered_protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    cookies(headers, name).next().map(str::to_owned)
}

/// The values of every cookie of a name.
fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(move |(found, value)| *found == name && !value.is_empty())
        .map(|(_, value)| value)
}

fn cookie_name(scene: &Scene) -> &'static str {
    if scene.secure_cookies { COOKIE_SECURE } else { COOKIE_PLAIN }
}

/// `Set-Cookie` that keeps the token for as long as its session can last.
pub fn cookie_with(token: &str, scene: &Scene) -> Result<HeaderValue> {
    set_cookie(token, SESSION_MS / 1000, scene)
}

/// `Set-Cookie` that takes the token away.
pub fn cookie_gone(scene: &Scene) -> Result<HeaderValue> {
    set_cookie("", 0, scene)
}

fn set_cookie(value: &str, seconds: i64, scene: &Scene) -> Result<HeaderValue> {
    let name = cookie_name(scene);
    let secure = if scene.secure_cookies { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    HeaderValue::from_str(&text).map_err(Error::internal)
}
