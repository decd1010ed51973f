//! Joined machines: how one comes to belong to a user, and what it proves itself by from then on.
//!
//! ```text
//!   owner    POST /api/machines/tokens      a join token: once, for a while, revocable
//!   machine  POST /api/machines/join        the token -> its id and its credential
//!   machine  GET  /api/machines/ws          WebSocket `rexec.tunnel.v1`, in which the server asks as of a guest
//!   machine  POST /api/machines/leave       removes itself, as its owner does by DELETE /api/workspaces/{id}
//! ```
//!
//! Both secrets have the form of API tokens with prefixes of their own; a credential goes where a token goes, and is
//! good for being that machine and for nothing else.

use crate::ids::{JoinTokenId, WorkspaceId};
use crate::tokens::Form;
use serde::{Deserialize, Serialize};

/// What join tokens and credentials of machines look like.
pub const JOIN_TOKEN: Form = Form::new("rexecj_");
pub const CREDENTIAL: Form = Form::new("rexecm_");
/// Minutes until a join token runs out, unless its maker says otherwise, and at most: a week.
pub const EXPIRES_MINUTES_DEFAULT: u32 = 60;
pub const EXPIRES_MINUTES_MAX: u32 = 7 * 24 * 60;
/// Join tokens of one user that wait for a machine.
pub const JOIN_TOKENS_MAX: u32 = 20;
/// Machines of one user.
pub const MACHINES_MAX: u32 = 100;

/// A join token to make.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NewJoinToken {
    /// What the machine will be called; its own word, or its host name, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// 1 to 10080; an hour when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_minutes: Option<u32>,
}

/// The answer to a new join token.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedJoinToken {
    /// The token itself, told here and never again.
    pub token: String,
    #[serde(flatten)]
    pub view: JoinTokenView,
}

/// A join token that waits for its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JoinTokenView {
    pub id: JoinTokenId,
    pub name: Option<String>,
    /// Its first characters, to know it by.
    pub hint: String,
    /// RFC 3339.
    pub created_at: String,
    pub expires_at: String,
}

/// A machine that would join.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JoinMachine {
    pub token: String,
    /// What it is to be called, where its token does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The answer to a machine that has joined.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JoinedMachine {
    pub workspace_id: WorkspaceId,
    pub name: String,
    /// What it proves itself by, told here and never again.
    pub credential: String,
}
