//! SSH keys of an account, and how one connects to a workspace by SSH.

use crate::ids::{SshKeyId, WorkspaceId};
use serde::{Deserialize, Serialize};

/// Keys that one user may have.
pub const KEYS_MAX: u32 = 100;
/// Most characters of a key's name.
pub const NAME_CHARS_MAX: usize = 100;

/// A public key to add.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewSshKey {
    /// For people: whose or where it is; the key's comment when absent or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The one line of a file such as `~/.ssh/id_ed25519.pub`. Taken are Ed25519, ECDSA on the NIST curves P-256, P-384 and P-521,
    /// RSA from 2048 bits on, and the security keys' `sk-ssh-ed25519` and `sk-ecdsa-sha2-nistp256`.
    pub public_key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SshKeyView {
    pub id: SshKeyId,
    pub name: String,
    /// Such as `ssh-ed25519`.
    pub kind: String,
    /// `SHA256:...`, as `ssh-keygen -l` tells it.
    pub fingerprint: String,
    /// The line without its comment.
    pub public_key: String,
    /// RFC 3339.
    pub created_at: String,
    /// `null`: not yet.
    pub last_used_at: Option<String>,
}

/// Whose keys at GitHub are wanted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImportSshKeys {
    pub username: String,
}

/// What came of an import.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImportedSshKeys {
    pub added: Vec<SshKeyView>,
    pub skipped: Vec<SkippedSshKey>,
}

/// A key that was not added.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SkippedSshKey {
    /// The line of the answer that it stands in, from 1 on.
    pub line: u32,
    pub reason: String,
}

/// A file of a workspace that now lets the account's keys in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SyncedSshKeys {
    pub path: String,
    /// Keys in our block of it.
    pub keys: u32,
}

/// How to connect to a workspace by SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SshConnect {
    pub workspace_id: WorkspaceId,
    /// Whether this server takes SSH connections now.
    pub enabled: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Keys of the account; without one, an API token is the password.
    pub keys: u32,
    /// Absent while SSH is not to be had.
    pub target: Option<SshTarget>,
}

/// Where to connect, and ready commands for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SshTarget {
    pub host: String,
    pub port: u16,
    /// The workspace, as the user name says it.
    pub user: String,
    pub ssh: String,
    pub scp: String,
    pub sftp: String,
    pub rsync: String,
    /// A link that opens the workspace in VS Code with the Remote - SSH extension.
    pub vscode: String,
    /// A block for `~/.ssh/config`, after which `ssh <alias>` connects.
    pub config: String,
    pub alias: String,
    pub host_keys: Vec<SshHostKey>,
}

/// A key by which the server proves itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SshHostKey {
    pub kind: String,
    pub fingerprint: String,
    /// The line for `~/.ssh/known_hosts`.
    pub known_hosts: String,
}

/// A key by which the SSH gateway proves itself, as an installation keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SshHostKeyView {
    pub kind: String,
    /// `SHA256:...`, as clients show it when they first connect.
    pub fingerprint: String,
    /// The line of a file that ends in `.pub`.
    pub public_key: String,
    /// RFC 3339.
    pub created_at: String,
}
