//! Signing in on a machine without a browser of its own: the device authorization grant of RFC 8628, in our JSON.
//!
//! ```text
//!   machine: POST /api/auth/device        -> device_code (kept), user_code and address (shown)
//!   person:  signs in at the address, sees what asks, approves or denies
//!   machine: POST /api/auth/device/token  -> authorization_pending | slow_down | access_denied | expired_token,
//!            every `interval` seconds        or, once, the token
//! ```

use crate::accounts::UserView;
use serde::{Deserialize, Serialize};

/// How long a person has to approve, in seconds.
pub const EXPIRES_IN_S: u64 = 600;
/// Between two questions of a machine, in seconds, at first.
pub const INTERVAL_S: u64 = 5;
/// What `slow_down` adds to that (RFC 8628, section 3.5).
pub const SLOW_DOWN_S: u64 = 5;
/// How long a sign-in of the command line lasts, in days.
pub const LOGIN_DAYS: u32 = 90;
/// Most characters of a client's name.
pub const CLIENT_NAME_CHARS_MAX: usize = crate::tokens::NAME_CHARS_MAX;
/// Letters of a user code: no vowels, so that it makes no word, and none that is taken for a digit (section 6.1).
pub const USER_CODE_ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters of a user code, which is shown in two halves: `WDJB-MJHT`.
pub const USER_CODE_CHARS: usize = 8;

/// A machine that wants to sign in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewDeviceLogin {
    /// What asks, for the person who decides, such as `rexec on laptop`. The token made is called so.
    pub client_name: String,
}

/// The answer to that, with the names of RFC 8628, section 3.2.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceAuthorization {
    /// The machine's secret; whoever has it gets the token.
    pub device_code: String,
    /// What the person compares, or types.
    pub user_code: String,
    /// Where the person types it.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: String,
    /// Seconds until both codes run out.
    pub expires_in: u64,
    /// Seconds to wait between two questions.
    pub interval: u64,
}

/// A machine asks whether it has been let in.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceTokenRequest {
    pub device_code: String,
}

/// It has: told once.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceToken {
    /// An API token with all that the account may do.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: String,
    /// Seconds until it runs out.
    pub expires_in: u64,
    /// Whose it is.
    pub user: UserView,
}

/// A person's code, in any spelling: lower case, with or without the hyphen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserCode {
    pub user_code: String,
}

/// What waits for a person's decision.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceRequestView {
    /// As the machine shows it.
    pub user_code: String,
    /// What the machine says that it is; nobody has checked it.
    pub client_name: String,
    /// The network address that it asked from.
    pub address: String,
    /// Whether that is the address that this question comes from, too.
    pub same_address: bool,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub expires_at: String,
}

/// A user code as it is kept and shown, of how people type it; `None` if it is none.
pub fn user_code(typed: &str) -> Option<String> {
    let mut code = String::with_capacity(USER_CODE_CHARS + 1);
    let letters = typed.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_uppercase());
    for (at, letter) in letters.enumerate() {
        if at >= USER_CODE_CHARS || !letter.is_ascii() || !USER_CODE_ALPHABET.contains(&(letter as u8)) {
            return None;
        }
        if at == USER_CODE_CHARS / 2 {
            code.push('-');
        }
        code.push(letter);
    }
    (code.len() == USER_CODE_CHARS + 1).then_some(code)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        for typed in ["WDJB-MJHT", "wdjbmjht", " wdjb mjht ", "W-D-J-B-M-J-H-T"] {
            assert_eq!(user_code(typed).unwrap(), "WDJB-MJHT", "{typed}");
        }
        for none in ["", "WDJB", "WDJB-MJHTX", "WDJB-MJH0", "WDJB-MJHA", "WDJB-MJHÄ", "--------"] {
            assert_eq!(user_code(none), None, "{none}");
        }
    }
}
