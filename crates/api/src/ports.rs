//! Ports of a workspace on which something listens, and their previews.

use serde::{Deserialize, Serialize};

/// Who may open a port's preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// The workspace's owner, signed in.
    #[default]
    Private,
    /// Members of the owner's organisation. Not in this version.
    Organisation,
    /// Whoever knows the address.
    Public,
}

impl Visibility {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Organisation => "organisation",
            Self::Public => "public",
        }
    }
}

/// A port on which something listens, or whose preview was set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PortView {
    pub port: u16,
    /// Whether something listens on it now, as far as is known.
    pub listening: bool,
    /// The address that it listens on, such as `127.0.0.1`, or `0.0.0.0` for any.
    pub address: Option<String>,
    /// The program that listens, when it can be told.
    pub process: Option<String>,
    pub pid: Option<u32>,
    /// The user in the workspace whose port it is: a name, or a number.
    pub owner: Option<String>,
    /// RFC 3339; when it was first seen to listen.
    pub since: Option<String>,
    /// The preview's address. Absent where there is none yet, or none at all; asking to open it gives one.
    pub url: Option<String>,
    pub visibility: Visibility,
    /// RFC 3339; when a public preview becomes private again.
    pub expires_at: Option<String>,
    pub label: Option<String>,
}

/// The ports of one workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PortList {
    pub items: Vec<PortView>,
    pub next: Option<String>,
    /// Why there are no previews at the address that you use, if there are none, and what to do about it.
    pub previews_unavailable: Option<String>,
}

/// What a port's preview is to be.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SetPort {
    pub visibility: Visibility,
    /// RFC 3339; only with `public`, which without it lasts until it is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// What it is for, as lists show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A request to open a preview.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct OpenPort {
    /// Where in the preview, with its query; `/` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Where a preview is to be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenedPort {
    /// The address to go to. It signs in whoever goes there first, once; hand it to nobody.
    pub url: String,
    /// RFC 3339; when it no longer signs in.
    pub expires_at: String,
}
