//! What of an SSH connection stands in the audit log: once for each kind of channel that it uses, and once for each port
//! that it leads to, with what let it in.

use super::Deps;
use crate::actor::{Actor, Via};
use crate::auth::Auth;
use crate::error::Result;
use crate::events::{self, NewEvent};
use rexec_api::ids::{SshKeyId, TokenId, WorkspaceId};
use rexec_ssh::Peer;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Entries of one connection; a client that tries every port is told of by the first of them.
const ENTRIES_MAX: usize = 32;

/// A kind of channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Shell,
    Exec,
    Sftp,
    /// To a port, or a socket by its path.
    Forward(String),
}

impl Kind {
    const fn event(&self) -> &'static str {
        match self {
            Self::Shell => "ssh.shell",
            Self::Exec => "ssh.exec",
            Self::Sftp => "ssh.sftp",
            Self::Forward(_) => "ssh.forward",
        }
    }
}

/// What let somebody in.
#[derive(Debug, Clone)]
pub(super) enum Proven {
    Key { id: SshKeyId, name: String, fingerprint: String },
    Certificate { key_id: String, serial: u64, authority: String, fingerprint: String },
    Token { id: TokenId, name: String },
    SignIn,
}

impl Proven {
    pub async fn of_token(auth: &Auth, actor: &Actor) -> Result<Self> {
        Ok(match actor.via {
            Via::Token(id) => Self::Token { id, name: auth.name_of_token(id).await? },
            _ => Self::SignIn,
        })
    }

    fn data(&self) -> Value {
        match self {
            Self::Key { id, name, fingerprint } => json!({ "key_id": id, "key": name, "fingerprint": fingerprint }),
            Self::Certificate { key_id, serial, authority, fingerprint } => json!({
                "certificate": key_id, "serial": serial.to_string(), "authority": authority, "fingerprint": fingerprint,
            }),
            Self::Token { id, name } => json!({ "token_id": id, "token": name }),
            Self::SignIn => json!({}),
        }
    }
}

/// One connection's entries.
#[derive(Default)]
pub(super) struct Journal(Mutex<HashSet<Kind>>);

impl Journal {
    /// Records a channel that is about to begin. An error: it must not.
    pub async fn record(
        &self,
        deps: &Deps,
        actor: &Actor,
        workspace: WorkspaceId,
        kind: Kind,
        proven: &Proven,
        peer: &Peer,
    ) -> Result<()> {
        let is_new = {
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            told.len() < ENTRIES_MAX && told.insert(kind.clone())
        };
        if !is_new {
            return Ok(());
        }
        let mut data = proven.data();
        data["address"] = json!(peer.address.ip().to_canonical().to_string());
        if let Kind::Forward(to) = &kind {
            data["to"] = json!(to);
        }
        let event = NewEvent::of_user(actor.user, kind.event()).workspace(workspace).data(data);
        let logged = events::append(deps.db.write(), &event).await?;
        deps.events.tell_logged(actor.user, logged);
        Ok(())
    }
}
