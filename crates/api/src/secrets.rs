//! Secrets that a user's workspaces use and never have.
//!
//! Each has a name, which is that of the variable inside. What the variable holds there is a placeholder of the same shape;
//! the gateway puts the value in its place, in HTTPS requests to the hosts that the secret is bound to.

use serde::{Deserialize, Serialize};

/// Secrets of one user.
pub const SECRETS_MAX: u32 = 100;
/// Secrets that one workspace is given.
pub const GIVEN_MAX: usize = 32;
pub const NAME_CHARS_MAX: usize = 64;
/// Of a value. A shorter one has no placeholder that could not be guessed, or be there by chance.
pub const VALUE_BYTES_MIN: usize = 12;
pub const VALUE_BYTES_MAX: usize = 4096;
pub const HOSTS_MAX: usize = 20;
pub const HEADERS_MAX: usize = 8;
/// Where keys are sent as a rule.
pub const HEADERS: [&str; 5] = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "private-token"];

/// A secret to store, or what is to change of one that there is: what is absent stays.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PutSecret {
    /// 12 to 4,096 visible ASCII characters. It is stored encrypted and never given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where it may be sent: `api.example.com`, `*.example.com`, `api.example.com:8443`; port 443 unless told. For some
    /// requests alone: `GET+POST@api.example.com/repos/acme/*`. Those of a name that is widely known, such as `OPENAI_API_KEY`, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// In which headers of requests; the usual ones when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecretView {
    pub name: String,
    pub hosts: Vec<String>,
    pub headers: Vec<String>,
    /// RFC 3339.
    pub created_at: String,
    /// When its value was last set.
    pub value_set_at: String,
    /// When a gateway last sent it to a host; absent if none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<String>,
}
