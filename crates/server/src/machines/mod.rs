//! Machines of users' own, joined to their accounts: how one comes, proves itself, and goes.
//!
//! A machine is a workspace of another kind (`workspaces/machine.rs`, `workspaces/driver/machine.rs`). It joins once,
//! by a token that its owner made, and gets a credential in exchange; with that it holds one connection, in which the
//! server asks as of a guest. Here are the two secrets and that connection's beginning.
//!
//! Invariants: a join token is taken in the transaction that makes its machine, so it makes one at most. Of both
//! secrets only hashes are kept. A credential is good for being its machine and for nothing else, and gone with it.

pub mod http;
pub mod store;

use crate::actor::Actor;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::events::bus::Bus;
use crate::events::{self, NewEvent};
use crate::http::tunnel::{self, End};
use crate::tasks::Tasks;
use crate::time::{now_ms, rfc3339};
use crate::workspaces::machine::{self, Arrival};
use crate::workspaces::{self, Workspaces, validate};
use axum::extract::ws::WebSocket;
use rexec_api::error::ErrorCode;
use rexec_api::frames::close;
use rexec_api::ids::{JoinTokenId, WorkspaceId};
use rexec_api::machines::{
    CREDENTIAL, CreatedJoinToken, EXPIRES_MINUTES_DEFAULT, EXPIRES_MINUTES_MAX, JOIN_TOKEN, JOIN_TOKENS_MAX,
    JoinMachine, JoinTokenView, JoinedMachine, MACHINES_MAX, NewJoinToken,
};
use rexec_api::tokens::Scope;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use store::JoinToken;
use tokio::sync::oneshot;

const MINUTE_MS: i64 = 60 * 1000;
/// Bytes on their way between a machine's WebSocket and the link, each way.
const PIPE_BYTES: usize = 64 * 1024;
/// Connections of one machine at once: the one that is it, and such as take its place while that one dies.
const CONNECTIONS_MAX: u32 = 4;

#[derive(Clone)]
pub struct Machines {
    db: Db,
    bus: Bus,
    workspaces: Workspaces,
    tasks: Tasks,
    connections: Arc<Mutex<HashMap<WorkspaceId, u32>>>,
}

/// One connection of a machine; counts until dropped.
pub struct Connected {
    id: WorkspaceId,
    connections: Arc<Mutex<HashMap<WorkspaceId, u32>>>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        match connections.get_mut(&self.id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(connections.remove(&self.id)),
        }
    }
}

impl Machines {
    pub fn new(db: Db, workspaces: Workspaces, tasks: Tasks) -> Self {
        let bus = workspaces.deps().bus.clone();
        Self { db, bus, workspaces, tasks, connections: Arc::default() }
    }

    /// Makes a join token, which is told now and never again.
    pub async fn create_token(&self, actor: &Actor, new: NewJoinToken) -> Result<CreatedJoinToken> {
        actor.authorise(Scope::WorkspacesWrite)?;
        if let Some(name) = &new.name {
            validate::name(name)?;
        }
        let minutes = new.expires_in_minutes.unwrap_or(EXPIRES_MINUTES_DEFAULT);
        if !(1..=EXPIRES_MINUTES_MAX).contains(&minutes) {
            let message = format!("`expires_in_minutes` must be from 1 to {EXPIRES_MINUTES_MAX}.");
            return Err(Error::field("expires_in_minutes", message));
        }
        let token = JOIN_TOKEN.encode(rand::random());
        let now = now_ms();
        let made = JoinToken {
            id: JoinTokenId::new(),
            user: actor.user,
            name: new.name,
            hint: JOIN_TOKEN.hint(&token),
            created_ms: now,
            expires_ms: now + i64::from(minutes) * MINUTE_MS,
        };
        let tx = self.db.begin().await?;
        store::remove_expired(&tx, now).await?;
        let used = store::count(&tx, actor.user).await?;
        if used >= i64::from(JOIN_TOKENS_MAX) {
            let message =
                format!("{JOIN_TOKENS_MAX} join tokens of yours wait for machines already. Revoke one first.");
            return Err(quota(message, "join_tokens", used, JOIN_TOKENS_MAX));
        }
        store::insert(&tx, &made, &hash(&token)).await?;
        let data = json!({ "token_id": made.id, "name": made.name, "expires_at": rfc3339(made.expires_ms) });
        events::append(&tx, &NewEvent::of_user(actor.user, "join_token.created").data(data)).await?;
        tx.commit().await?;
        Ok(CreatedJoinToken { token, view: view(&made) })
    }

    /// The actor's join tokens that wait for a machine, newest first.
    pub async fn tokens_of(&self, actor: &Actor) -> Result<Vec<JoinTokenView>> {
        actor.authorise(Scope::WorkspacesWrite)?;
        let rows = store::list(self.db.read(), actor.user, now_ms()).await?;
        Ok(rows.iter().map(view).collect())
    }

    pub async fn revoke_token(&self, actor: &Actor, id: JoinTokenId) -> Result<()> {
        actor.authorise(Scope::WorkspacesWrite)?;
        let tx = self.db.begin().await?;
        if !store::remove(&tx, actor.user, id).await? {
            return Err(Error::not_found("join token"));
        }
        let revoked = NewEvent::of_user(actor.user, "join_token.revoked").data(json!({ "token_id": id }));
        events::append(&tx, &revoked).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A machine joins by a token, which is used up by it.
    pub async fn join(&self, asked: JoinMachine, from: IpAddr) -> Result<JoinedMachine> {
        if let Some(name) = &asked.name {
            validate::name(name)?;
        }
        if !JOIN_TOKEN.fits(&asked.token) {
            let message = "The join token has a typo or is cut off: its checksum does not fit. Copy it again.";
            return Err(Error::new(ErrorCode::JoinTokenRefused, message));
        }
        let tx = self.db.begin().await?;
        let token = store::take(&tx, &hash(&asked.token), now_ms()).await?.ok_or_else(refused)?;
        let used = workspaces::store::count_machines(&tx, token.user).await?;
        if used >= i64::from(MACHINES_MAX) {
            let message = format!("The account has {MACHINES_MAX} machines already. Delete one first.");
            return Err(quota(message, "machines", used, MACHINES_MAX));
        }
        let name = token.name.or(asked.name).unwrap_or_else(|| "machine".into());
        let row = machine::record(token.user, name);
        let credential = CREDENTIAL.encode(rand::random());
        workspaces::store::insert(&tx, &row).await?;
        store::insert_credential(&tx, row.id, &hash(&credential)).await?;
        let joined = NewEvent::of_user(token.user, "workspace.joined").workspace(row.id);
        let data = json!({ "name": row.name, "token_id": token.id, "address": from.to_string() });
        let logged = events::append(&tx, &joined.data(data)).await?;
        tx.commit().await?;
        self.bus.publish_logged(row.owner, logged);
        Ok(JoinedMachine { workspace_id: row.id, name: row.name, credential })
    }

    /// The machine whose credential this is.
    pub async fn identify(&self, credential: &str) -> Result<WorkspaceId> {
        if !CREDENTIAL.fits(credential) {
            return Err(Error::new(
                ErrorCode::InvalidToken,
                "That is no machine's credential. Join the machine again.",
            ));
        }
        store::by_credential(self.db.read(), &hash(credential)).await?.ok_or_else(gone)
    }

    /// Counts a connection of a machine in, unless it has too many.
    pub fn connect(&self, id: WorkspaceId) -> Result<Connected> {
        if self.tasks.is_stopping() {
            return Err(Error::new(ErrorCode::ShuttingDown, "The server is stopping. Try again in a moment."));
        }
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let count = connections.entry(id).or_default();
        if *count >= CONNECTIONS_MAX {
            let message = format!("{CONNECTIONS_MAX} connections claim to be this machine. Let one of them end first.");
            return Err(Error::new(ErrorCode::RateLimited, message));
        }
        *count += 1;
        Ok(Connected { id, connections: self.connections.clone() })
    }

    /// Carries the bytes of a machine's connection for as long as it is the machine's.
    async fn carry(&self, connected: Connected, socket: WebSocket) {
        // It belongs to the server that it is connected to.
        let lease = match self.workspaces.take_machine(connected.id).await {
            Ok(lease) => lease,
            // It comes back, here or to another.
            Err(_) => return,
        };
        let (link, stream) = tokio::io::duplex(PIPE_BYTES);
        let (farewell, told) = oneshot::channel();
        self.workspaces.arrive(connected.id, Arrival { stream: link, farewell });
        let until = async {
            tokio::select! {
                biased;
                () = lease.lost() => REPLACED,
                told = told => told.unwrap_or(AGAIN),
                () = self.tasks.stopping() => STOPPING,
            }
        };
        tunnel::carry(socket, stream, until).await;
    }

    /// A machine removes itself; its owner sees by the log that it did.
    pub async fn leave(&self, credential: &str) -> Result<()> {
        let id = self.identify(credential).await?;
        self.workspaces.remove_machine(id).await
    }
}

/// A connection that the server has no use for any more.
const AGAIN: End = (close::TRY_AGAIN, "the connection was given up");
/// It has connected to another server.
const REPLACED: End = (close::REPLACED, "the machine has connected anew");
const STOPPING: End = (close::TRY_AGAIN, "the server is restarting");

fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

fn quota(message: String, quota: &str, used: i64, max: u32) -> Error {
    Error::new(ErrorCode::QuotaExceeded, message).details(json!({ "quota": quota, "used": used, "max": max }))
}

fn refused() -> Error {
    let message = "The join token was used, was revoked, has run out, or is another server's. Make another one.";
    Error::new(ErrorCode::JoinTokenRefused, message)
}

fn gone() -> Error {
    Error::new(ErrorCode::MachineGone, "The machine was removed at the server, or is another server's. Join it again.")
}

fn view(token: &JoinToken) -> JoinTokenView {
    JoinTokenView {
        id: token.id,
        name: token.name.clone(),
        hint: token.hint.clone(),
        created_at: rfc3339(token.created_ms),
        expires_at: rfc3339(token.expires_ms),
    }
}
