//! Who may enter the gateway, and where a login leads to.
//!
//! Invariant: a refusal is the same whatever was wrong. That there is a workspace of some name is told only to its owner,
//! once they have proven who they are; one that is not theirs is, to them, none.

use super::Deps;
use super::journal::Proven;
use super::login::{Login, tame};
use super::session::{CONNECTIONS_PER_USER_MAX, Place, Session, Visit};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::turns::Turns;
use crate::workspaces::store as workspaces;
use async_trait::async_trait;
use rexec_api::ids::WorkspaceId;
use rexec_ssh::{Backend, Certificate, Peer, Proof, PublicKey, Target};
use std::sync::Arc;

/// Principals of a certificate that are looked up.
const PRINCIPALS_MAX: usize = 16;

pub(super) struct Entrance {
    deps: Arc<Deps>,
    seats: Turns,
}

impl Entrance {
    pub fn new(deps: Arc<Deps>) -> Self {
        Self { deps, seats: Turns::new(usize::MAX, CONNECTIONS_PER_USER_MAX) }
    }

    /// Who this is, and by what; an error, or nobody: they are not let in.
    async fn who(&self, login: &Login<'_>, proof: Proof<'_>) -> Result<Option<(Actor, Proven)>> {
        let auth = &self.deps.auth;
        let token = match proof {
            Proof::Key(key) => {
                let Some(key) = auth.owner_of_ssh_key(&key.blob()).await? else { return Ok(None) };
                let actor = auth.actor_of_ssh_key(&key).await;
                let proven = Proven::Key { id: key.id, name: key.name, fingerprint: key.fingerprint };
                return Ok(Some((actor, proven)));
            }
            Proof::Token(token) => token,
            Proof::Login => match login.token {
                Some(token) => token,
                None => return Ok(None),
            },
            Proof::Certificate(certificate) => return self.holder(login, certificate).await,
        };
        let actor = auth.actor_of_token(token).await?;
        let proven = Proven::of_token(auth, &actor).await?;
        Ok(Some((actor, proven)))
    }

    /// Whoever a certificate is for: the first of its principals that is an account's e-mail address, or the one that the
    /// login names.
    async fn holder(&self, login: &Login<'_>, certificate: &Certificate) -> Result<Option<(Actor, Proven)>> {
        let until_ms = i64::try_from(certificate.valid_before.saturating_mul(1000)).unwrap_or(i64::MAX);
        for principal in certificate.principals.iter().take(PRINCIPALS_MAX) {
            let Some(user) = self.deps.accounts.with_email(principal).await? else { continue };
            let actor = Actor::of_ssh_certificate(user, until_ms);
            if let Some(owner) = login.owner
                && !self.deps.accounts.goes_by(&actor, owner).await?
            {
                continue;
            }
            let proven = Proven::Certificate {
                key_id: tame(&certificate.key_id),
                serial: certificate.serial,
                authority: certificate.authority.fingerprint(),
                fingerprint: certificate.key.fingerprint(),
            };
            return Ok(Some((actor, proven)));
        }
        Ok(None)
    }

    async fn place(&self, actor: &Actor, login: &Login<'_>) -> Result<Place> {
        let Some(named) = login.workspace else {
            // A token alone says where to if it leads to one place only.
            return Ok(match actor.limit() {
                Some([only]) => self.owned(actor, *only).await?.unwrap_or_else(|| nowhere(login)),
                _ => nowhere(login),
            });
        };
        if let Some(owner) = login.owner
            && !self.deps.accounts.goes_by(actor, owner).await?
        {
            return Ok(nowhere(login));
        }
        let place = match named.parse::<WorkspaceId>() {
            Ok(id) => self.owned(actor, id).await?,
            Err(_) => {
                let db = self.deps.db.read();
                match workspaces::named(db, actor.user, actor.limit(), named).await?.as_slice() {
                    [] => None,
                    [id] => self.owned(actor, *id).await?,
                    _ => Some(Place::Ambiguous { name: login.shown() }),
                }
            }
        };
        Ok(place.unwrap_or_else(|| nowhere(login)))
    }

    async fn owned(&self, actor: &Actor, id: WorkspaceId) -> Result<Option<Place>> {
        let row = workspaces::find(self.deps.db.read(), id).await?;
        Ok(row
            .filter(|row| actor.owns(row.owner) && actor.reaches(id) && !row.is_leaving())
            .map(|_| Place::Workspace(id)))
    }
}

fn nowhere(login: &Login<'_>) -> Place {
    Place::Nowhere { said: login.shown() }
}

#[async_trait]
impl Backend for Entrance {
    async fn offered(&self, _peer: &Peer, _login: &str, key: &PublicKey) -> bool {
        let owner = self.deps.auth.owner_of_ssh_key(&key.blob()).await;
        owner.unwrap_or_else(|error| log(&error)).is_some()
    }

    async fn enter(&self, peer: &Peer, login: &str, proof: Proof<'_>) -> Option<Arc<dyn Target>> {
        let login = Login::parse(login);
        let (actor, proven) = self.who(&login, proof).await.unwrap_or_else(|error| log(&error))?;
        let place = self.place(&actor, &login).await.map(Some).unwrap_or_else(|error| log(&error))?;
        let seat = self.seats.take(actor.user).ok();
        let visit = Visit::new(self.deps.clone(), actor, proven, *peer, seat);
        Some(Arc::new(Session::new(visit, place)))
    }
}

/// A refusal is no news; that the database does not answer is.
fn log<T>(error: &Error) -> Option<T> {
    if error.code.http_status() >= 500 {
        tracing::warn!(
            code = error.code.as_str(),
            causes = error.causes(),
            "nobody can be let in by SSH: it cannot be found out who they are"
        );
    }
    None
}
