//! SSH keys of accounts: added, imported, written into workspaces, and how to connect with them.
//!
//! Invariant: one key has one account, and nobody learns whose it is. A key opens all that the account
//! may do over SSH, so only who may do everything adds one.
//!
//! The gateway itself lives elsewhere: it asks [`store::by_blob`] whose a key is, and says by
//! [`SshKeys::set_gateway`] where it listens.

mod authorized;
mod connect;
mod github;
pub mod http;
pub mod public_key;
pub mod store;

pub use connect::Gateway;

use crate::actor::Actor;
use crate::config::PublicUrl;
use crate::db::{self, Db};
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::time::{now_ms, rfc3339};
use crate::workspaces::{self, Workspaces};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use github::Github;
use public_key::{PublicKey, line_of};
use rexec_api::Page;
use rexec_api::error::ErrorCode;
use rexec_api::guest::{ReadSpec, WriteCondition};
use rexec_api::ids::{SshKeyId, WorkspaceId};
use rexec_api::ssh::{
    ImportSshKeys, ImportedSshKeys, KEYS_MAX, NAME_CHARS_MAX, NewSshKey, SkippedSshKey, SshConnect, SshKeyView,
    SyncedSshKeys,
};
use rexec_api::tokens::Scope;
use rexec_channel::GuestClient;
use serde_json::json;
use std::sync::Arc;
use store::SshKey;
use tokio::sync::watch;

const DIRECTORY: &str = ".ssh";
const FILE: &str = "authorized_keys";
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The largest `authorized_keys` that is worked on.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Others that write the same file at the same moment.
const WRITE_TRIES: u32 = 4;
/// Lines of an import that are looked at.
const IMPORT_LINES_MAX: usize = 2 * KEYS_MAX as usize;

#[derive(Clone)]
pub struct SshKeys {
    db: Db,
    workspaces: Workspaces,
    github: Arc<Github>,
    gateway: Arc<watch::Sender<Option<Gateway>>>,
    public_url: Option<PublicUrl>,
}

/// Why there is no way in by SSH.
pub const NO_GATEWAY: &str = "This server takes no SSH connections: REXEC_SSH_PORT switches that off, or the port was taken when it started. The terminals of the page, exec and files go on without it.";

impl SshKeys {
    pub fn new(db: Db, workspaces: Workspaces, github_url: &str, public_url: Option<PublicUrl>) -> Self {
        let github = Arc::new(Github::new(github_url));
        Self { db, workspaces, github, gateway: Arc::default(), public_url }
    }

    /// Where a gateway takes connections from now on; `None`: nowhere.
    pub fn set_gateway(&self, gateway: Option<Gateway>) {
        self.gateway.send_replace(gateway);
    }

    /// The actor's keys, newest first; there are never more than [`KEYS_MAX`].
    pub async fn list(&self, actor: &Actor) -> Result<Page<SshKeyView>> {
        actor.authorise(Scope::Account)?;
        let keys = store::list(self.db.read(), actor.user, KEYS_MAX).await?;
        Ok(Page { items: keys.iter().map(view).collect(), next: None })
    }

    pub async fn add(&self, actor: &Actor, new: NewSshKey) -> Result<SshKeyView> {
        actor.authorise(Scope::All)?;
        let key = parsed(&new.public_key)?;
        let wished = new.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let name = match wished {
            Some(name) => name_of(name)?,
            None if key.comment.is_empty() => key.kind.to_owned(),
            None => key.comment.chars().take(NAME_CHARS_MAX).collect(),
        };
        self.keep(actor, &key, name, None).await
    }

    /// Adds the keys that GitHub tells of a user; of each that is not added it is told why.
    pub async fn import(&self, actor: &Actor, import: ImportSshKeys) -> Result<ImportedSshKeys> {
        actor.authorise(Scope::All)?;
        let username = import.username.trim();
        let text = self.github.keys_of(username).await?;
        let (mut added, mut skipped) = (Vec::new(), Vec::new());
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        for (at, line) in lines.take(IMPORT_LINES_MAX) {
            let kept = match parsed(line) {
                Ok(key) => self.keep(actor, &key, format!("{username} at GitHub"), Some(username)).await,
                Err(error) => Err(error),
            };
            match kept {
                Ok(view) => added.push(view),
                Err(error) if error.code.http_status() < 500 => {
                    let line = u32::try_from(at + 1).unwrap_or(u32::MAX);
                    skipped.push(SkippedSshKey { line, reason: error.message.into_owned() });
                }
                Err(error) => return Err(error),
            }
        }
        if added.is_empty() && skipped.is_empty() {
            return Err(Error::field("username", format!("`{username}` has no SSH keys at GitHub.")));
        }
        Ok(ImportedSshKeys { added, skipped })
    }

    async fn keep(&self, actor: &Actor, key: &PublicKey, name: String, from: Option<&str>) -> Result<SshKeyView> {
        let made = SshKey {
            id: SshKeyId::new(),
            user: actor.user,
            name,
            kind: key.kind.to_owned(),
            blob: STANDARD.encode(&key.blob),
            fingerprint: key.fingerprint(),
            created_ms: now_ms(),
            last_used_ms: None,
        };
        let tx = self.db.begin().await?;
        if let Some(there) = store::by_fingerprint(&tx, &made.fingerprint).await? {
            return Err(if actor.owns(there.user) { yours(&there) } else { anothers() });
        }
        let used = store::count(&tx, actor.user).await?;
        if used >= i64::from(KEYS_MAX) {
            let message = format!("You have {KEYS_MAX} SSH keys already. Delete some first.");
            return Err(Error::new(ErrorCode::QuotaExceeded, message)
                .details(json!({ "quota": "ssh_keys", "used": used, "max": KEYS_MAX })));
        }
        // Of two who add the same at once, one finds it taken.
        let inserted = store::insert(&tx, &made).await;
        inserted.map_err(|error| if db::is_duplicate(&error) { anothers() } else { error.into() })?;
        let data =
            json!({ "key_id": made.id, "name": made.name, "fingerprint": made.fingerprint, "from_github": from });
        events::append(&tx, &NewEvent::of_user(actor.user, "ssh_key.added").data(data)).await?;
        tx.commit().await?;
        Ok(view(&made))
    }

    pub async fn remove(&self, actor: &Actor, id: SshKeyId) -> Result<()> {
        actor.authorise(Scope::Account)?;
        let tx = self.db.begin().await?;
        let removed = store::remove(&tx, actor.user, id).await?.ok_or_else(|| Error::not_found("SSH key"))?;
        let data = json!({ "key_id": id, "name": removed.name, "fingerprint": removed.fingerprint });
        events::append(&tx, &NewEvent::of_user(actor.user, "ssh_key.deleted").data(data)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Writes the actor's keys into the workspace's `authorized_keys`, for an sshd of its own there.
    pub async fn sync(&self, actor: &Actor, workspace: WorkspaceId) -> Result<SyncedSshKeys> {
        let row = self.workspaces.owned(actor, Scope::Files, workspace).await?;
        let guest = self.workspaces.reach(actor, Scope::Files, workspace).await?.guest;
        let keys = store::list(self.db.read(), actor.user, KEYS_MAX).await?;
        let lines: Vec<_> = keys.iter().map(|key| format!("{} {}", line_of(&key.kind, &key.blob), key.name)).collect();
        let directory = format!("{}/{DIRECTORY}", row.home());
        let path = format!("{directory}/{FILE}");
        if !lines.is_empty() {
            guest.mkdir_as(&directory, DIRECTORY_MODE).await?;
        }
        let mut tries = 1;
        while let Err(error) = write(&guest, &path, &lines).await {
            if error.code != ErrorCode::FileChanged || tries == WRITE_TRIES {
                return Err(error);
            }
            tries += 1;
        }
        let keys = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let event = NewEvent::of_user(actor.user, "ssh_keys.synced").workspace(workspace);
        events::append(self.db.write(), &event.data(json!({ "keys": keys }))).await?;
        Ok(SyncedSshKeys { path, keys })
    }

    /// How to connect to a workspace; `host` is what the client called this server.
    pub async fn connect(&self, actor: &Actor, workspace: WorkspaceId, host: Option<&str>) -> Result<SshConnect> {
        let row = self.workspaces.owned(actor, Scope::WorkspacesRead, workspace).await?;
        let keys = store::count(self.db.read(), actor.user).await?;
        let namesakes = workspaces::store::namesakes(self.db.read(), &row).await?;
        let host = self.public_url.as_ref().map(PublicUrl::host).or(host).map(connect::host_of);
        let gateway = self.gateway.borrow().clone();
        let user = connect::user_of(workspace, &row.name, namesakes);
        let target = gateway.zip(host).map(|(gateway, host)| connect::target(&gateway, host, &user, row.home()));
        Ok(SshConnect {
            workspace_id: workspace,
            enabled: target.is_some(),
            reason: target.is_none().then(|| NO_GATEWAY.to_owned()),
            keys: u32::try_from(keys).unwrap_or(u32::MAX),
            target,
        })
    }
}

/// Writes our block over what was read; `file_changed` when somebody else wrote meanwhile.
async fn write(guest: &GuestClient, path: &str, lines: &[String]) -> Result<()> {
    let (before, condition) = match read(guest, path).await {
        Ok((content, etag)) => (content, WriteCondition::Etag(vec![etag])),
        Err(error) if error.code == ErrorCode::FileNotFound => (Vec::new(), WriteCondition::Absent),
        Err(error) => return Err(error),
    };
    let after = authorized::merged(&before, lines);
    // Nothing to say where nothing was.
    if after.is_empty() && condition == WriteCondition::Absent {
        return Ok(());
    }
    let mut file = guest.write_file_if(path, Some(FILE_MODE), &condition).await?;
    file.send(after.into()).await?;
    file.finish().await?;
    Ok(())
}

async fn read(guest: &GuestClient, path: &str) -> Result<(Vec<u8>, String)> {
    let (content, mut body) = guest.read_file(path, &ReadSpec::default()).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = body.recv().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > FILE_BYTES_MAX {
            let message = format!("`{path}` is larger than {FILE_BYTES_MAX} bytes. Tidy it up first.");
            return Err(Error::new(ErrorCode::FileError, message));
        }
    }
    Ok((bytes, content.info.etag))
}

fn parsed(text: &str) -> Result<PublicKey> {
    PublicKey::parse(text).map_err(|fault| Error::field("public_key", fault.to_string()))
}

fn name_of(name: &str) -> Result<String> {
    if name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    let message = format!("`name` must have at most {NAME_CHARS_MAX} characters, none of them control characters.");
    Err(Error::field("name", message))
}

fn yours(there: &SshKey) -> Error {
    let message = format!("You have this key already, as `{}`.", there.name);
    Error::new(ErrorCode::SshKeyTaken, message).details(json!({ "field": "public_key", "key_id": there.id }))
}

fn anothers() -> Error {
    let message = "This key belongs to another account here, and a key can have only one. Make one of your own: `ssh-keygen -t ed25519`.";
    Error::new(ErrorCode::SshKeyTaken, message).details(json!({ "field": "public_key" }))
}

fn view(key: &SshKey) -> SshKeyView {
    SshKeyView {
        id: key.id,
        name: key.name.clone(),
        kind: key.kind.clone(),
        fingerprint: key.fingerprint.clone(),
        public_key: line_of(&key.kind, &key.blob),
        created_at: rfc3339(key.created_ms),
        last_used_at: key.last_used_ms.map(rfc3339),
    }
}
