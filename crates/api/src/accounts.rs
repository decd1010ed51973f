//! Accounts: registration, sign-in and the user's own view.

use crate::ids::{SessionId, UserId};
use serde::{Deserialize, Serialize};

/// Fewest characters of a password.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Most bytes of a password: argon2 costs grow with it.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Most bytes of an e-mail address (RFC 5321, section 4.5.3.1.3, less the angle brackets).
pub const EMAIL_BYTES_MAX: usize = 254;
/// Most characters of a user's display name.
pub const NAME_CHARS_MAX: usize = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    pub email: String,
    pub password: String,
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    pub email: String,
    pub password: String,
}

/// The answer to a sign-in. The token is also set as a cookie for the page.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedIn {
    /// A JWT, valid for 12 hours and refreshed at `/api/auth/refresh`.
    pub token: String,
    pub user: UserView,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The first account made; may administer hosts and users.
    Admin,
    User,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserView {
    pub id: UserId,
    pub email: String,
    pub name: Option<String>,
    pub role: Role,
    /// RFC 3339.
    pub created_at: String,
}

/// One login session of the user.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionView {
    pub id: SessionId,
    pub created_at: String,
    pub expires_at: String,
    pub last_used_at: String,
    pub user_agent: Option<String>,
    pub address: Option<String>,
    /// Whether this is the session that asks.
    pub current: bool,
}

/// What a page needs to know before anyone has signed in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuthStatus {
    /// No account exists yet: the first one becomes administrator.
    pub first_account: bool,
    pub version: String,
}
