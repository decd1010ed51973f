//! Credentials for private registries of images, and for hosts of private repositories.

use crate::ids::RegistryId;
use serde::{Deserialize, Serialize};

/// Most characters of a registry's address, a user name, and a password or token.
pub const SERVER_CHARS_MAX: usize = 255;
pub const USERNAME_CHARS_MAX: usize = 255;
pub const PASSWORD_CHARS_MAX: usize = 8192;
/// Registries that one user may have.
pub const REGISTRIES_MAX: u32 = 50;

/// Credentials to store. Those stored before for the same server are replaced.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NewRegistry {
    /// The registry as image references name it, such as `ghcr.io` or `registry.example.com:5000`; `docker.io` for Docker Hub.
    /// Of repositories, the host as addresses name it, such as `github.com`.
    pub server: String,
    pub username: String,
    /// A password or token. It is stored encrypted and never given back.
    pub password: String,
    /// For every user of this server: administrators only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub everyone: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegistryView {
    pub id: RegistryId,
    pub server: String,
    pub username: String,
    /// For every user of this server.
    pub everyone: bool,
    /// RFC 3339; when these credentials were stored.
    pub created_at: String,
}
