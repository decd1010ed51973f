//! API tokens: what programs send instead of a person's sign-in, and what each may do.
//!
//! ```text
//!   rexec_ <43 characters: 32 random bytes> <6 characters: CRC-32 of all before them>
//! ```
//!
//! Both numbers are big-endian and written in base 62 (`0-9A-Za-z`), with zeros in front. So a typo,
//! or what merely looks like a token in a leaked file, is told from a token without a server.

use crate::ids::{TokenId, WorkspaceId};
use serde::{Deserialize, Serialize};

/// What every API token begins with.
pub const PREFIX: &str = "rexec_";
const TOKEN: Form = Form::new(PREFIX);
/// Most characters of a token's name.
pub const NAME_CHARS_MAX: usize = 100;
/// Tokens that one user may have, those that have run out among them.
pub const TOKENS_MAX: u32 = 100;
/// Longest life of a token that has an end: ten years.
pub const EXPIRES_DAYS_MAX: u32 = 3650;
/// Workspaces that one token may be limited to.
pub const WORKSPACES_MAX: usize = 50;
const RANDOM_BYTES: usize = 32;
/// Digits of base 62 that 32 bytes need, and 4 bytes.
const RANDOM_DIGITS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What a token may do. Every route names the scope that it needs.
///
/// - `all`: all that the account may do; only this lets a program store what opens every door, as SSH keys do.
/// - `workspaces:read`: see workspaces, their set-up, statistics and news, kept homes and templates.
/// - `workspaces:write`: create, change, start, stop, delete and restore workspaces, and see them.
/// - `terminals`, `exec`, `files`, `snapshots`: use these. `ports`: see ports, pass through previews, say who else may.
/// - `account`: API tokens, login sessions, stored credentials; see and remove SSH keys.
/// - `admin`: what only an administrator may, if the account is one; without it nobody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Scope {
    #[serde(rename = "all")]
    All,
    #[serde(rename = "workspaces:read")]
    WorkspacesRead,
    #[serde(rename = "workspaces:write")]
    WorkspacesWrite,
    #[serde(rename = "terminals")]
    Terminals,
    #[serde(rename = "exec")]
    Exec,
    #[serde(rename = "files")]
    Files,
    #[serde(rename = "ports")]
    Ports,
    #[serde(rename = "snapshots")]
    Snapshots,
    #[serde(rename = "account")]
    Account,
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    pub const EVERY: [Self; 10] = [
        Self::All,
        Self::WorkspacesRead,
        Self::WorkspacesWrite,
        Self::Terminals,
        Self::Exec,
        Self::Files,
        Self::Ports,
        Self::Snapshots,
        Self::Account,
        Self::Admin,
    ];

    /// As it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::WorkspacesRead => "workspaces:read",
            Self::WorkspacesWrite => "workspaces:write",
            Self::Terminals => "terminals",
            Self::Exec => "exec",
            Self::Files => "files",
            Self::Ports => "ports",
            Self::Snapshots => "snapshots",
            Self::Account => "account",
            Self::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|scope| scope.as_str() == text)
    }

    /// Whether who has this scope may do what needs the other.
    pub fn covers(self, other: Self) -> bool {
        self == other || self == Self::All || (self == Self::WorkspacesWrite && other == Self::WorkspacesRead)
    }
}

/// A token to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// For people: where it is used.
    pub name: String,
    /// What it may do, at least one.
    pub scopes: Vec<Scope>,
    /// Days until it runs out, 1 to 3650; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_days: Option<u32>,
    /// The only workspaces that it reaches, 50 at most; absent: every one of the account, those to come too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<Vec<WorkspaceId>>,
}

/// The answer to a new token.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedToken {
    /// The token itself, told here and never again.
    pub token: String,
    #[serde(flatten)]
    pub view: TokenView,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    pub id: TokenId,
    pub name: String,
    pub scopes: Vec<Scope>,
    /// The only workspaces that it reaches; `null`: all.
    pub workspaces: Option<Vec<WorkspaceId>>,
    /// Its first characters, to know it by.
    pub hint: String,
    /// RFC 3339.
    pub created_at: String,
    /// `null`: never.
    pub expires_at: Option<String>,
    /// To the minute; `null`: not yet.
    pub last_used_at: Option<String>,
    /// It has run out and is refused.
    pub expired: bool,
    /// Whether this is the token that asks.
    pub current: bool,
}

/// How secrets of one kind look: the form above, after a prefix of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    prefix: &'static str,
}

impl Form {
    pub(crate) const fn new(prefix: &'static str) -> Self {
        Self { prefix }
    }

    /// The secret of these random bytes.
    pub fn encode(self, random: [u8; RANDOM_BYTES]) -> String {
        let mut text = format!("{}{}", self.prefix, base62(&random, RANDOM_DIGITS));
        text.push_str(&checksum(&text));
        text
    }

    /// Whether a text is such a secret by its form; whether it is good only its server knows.
    pub fn fits(self, text: &str) -> bool {
        let Some(body) = text.strip_prefix(self.prefix) else { return false };
        let fits = body.len() == RANDOM_DIGITS + CHECKSUM_DIGITS && body.bytes().all(|b| b.is_ascii_alphanumeric());
        fits && text.split_at_checked(text.len() - CHECKSUM_DIGITS).is_some_and(|(front, end)| checksum(front) == end)
    }

    /// The first characters of a secret, by which people know it: the prefix and 4 more.
    pub fn hint(self, secret: &str) -> String {
        secret.chars().take(self.prefix.len() + 4).collect()
    }
}

/// The token of these random bytes.
pub fn encode(random: [u8; RANDOM_BYTES]) -> String {
    TOKEN.encode(random)
}

/// Whether a text is a token by its form; whether it is good only its server knows.
pub fn is_well_formed(text: &str) -> bool {
    TOKEN.fits(text)
}

fn checksum(text: &str) -> String {
    base62(&crc32(text.as_bytes()).to_be_bytes(), CHECKSUM_DIGITS)
}

/// A big-endian number in `digits` digits of base 62.
fn base62(number: &[u8], digits: usize) -> String {
    let mut number = number.to_vec();
    let mut text = vec![b'0'; digits];
    for digit in text.iter_mut().rev() {
        // Divides the whole number by 62, byte by byte as on paper.
        let rest = number.iter_mut().fold(0u32, |rest, byte| {
            let part = rest << 8 | u32::from(*byte);
            *byte = (part / 62) as u8;
            part % 62
        });
        *digit = DIGITS[rest as usize];
    }
    text.into_iter().map(char::from).collect()
}

/// CRC-32 as in ISO 3309, zip and PNG: reflected, polynomial 0xEDB88320.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_the_common_one() {
        // The check value that catalogues of CRCs give.
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(base62(&62u32.to_be_bytes(), 6), "000010");
        assert_eq!(base62(&u32::MAX.to_be_bytes(), 6), "4gfFC3");
    }

    #[test]
    fn scopes_are_on_the_wire_as_they_say() {
        for scope in Scope::EVERY {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
            assert!(scope.covers(scope) && Scope::All.covers(scope));
        }
        assert!(Scope::WorkspacesWrite.covers(Scope::WorkspacesRead));
        assert!(!Scope::WorkspacesRead.covers(Scope::WorkspacesWrite));
        assert!(!Scope::Account.covers(Scope::All));
    }

    proptest! {
        #[test]
        fn a_token_knows_itself_and_no_typo_passes(random: [u8; 32], at in 6usize..55, with in 0usize..62) {
            let token = encode(random);
            prop_assert_eq!(token.len(), 55);
            prop_assert!(is_well_formed(&token));
            let mut typo = token.clone().into_bytes();
            typo[at] = DIGITS[with];
            let typo = String::from_utf8(typo).unwrap();
            prop_assert_eq!(is_well_formed(&typo), typo == token);
            prop_assert!(!is_well_formed(&token[..54]));
            let longer = format!("{token}0");
            prop_assert!(!is_well_formed(&longer));
        }

        #[test]
        fn whatever_comes_is_judged(text: String) {
            prop_assert!(!is_well_formed(&text));
            let prefixed = format!("{PREFIX}{text}");
            is_well_formed(&prefixed);
        }
    }
}
