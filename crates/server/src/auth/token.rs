//! The sign-in token: a JWT bound to a login session, and the key that signs it.
//!
//! The token proves who asks without a database; the session, looked up apart, may have ended
//! since. Only HS256 with our own key is read: `none` and foreign algorithms are forgeries.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::secret::Secret;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rexec_api::error::ErrorCode;
use rexec_api::ids::{SessionId, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// How long a token is valid: 12 hours.
pub const TOKEN_SECONDS: i64 = 12 * 3600;
/// The secret's file in the data directory.
const SECRET_FILE: &str = "jwt.secret";
const ISSUER: &str = "rexec";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    /// The user.
    pub sub: UserId,
    /// The login session.
    pub sid: SessionId,
    pub iat: i64,
    pub exp: i64,
}

/// Whether a token that has run out is read all the same: only to refresh it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    Refuse,
    Accept,
}

pub struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl Keys {
    /// Derives the signing key, so that the same secret may serve other ends too.
    pub fn from_secret(secret: &Secret) -> Self {
        let key = derived_key(secret, "rexec sign-in token v1");
        Self { encoding: EncodingKey::from_secret(&key), decoding: DecodingKey::from_secret(&key) }
    }

    pub fn sign(&self, user: UserId, session: SessionId, now_ms: i64) -> Result<String> {
        let iat = now_ms / 1000;
        let claims = Claims { iss: ISSUER.to_owned(), sub: user, sid: session, iat, exp: iat + TOKEN_SECONDS };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding).map_err(Error::internal)
    }

    pub fn verify(&self, token: &str, expiry: Expiry) -> Result<Claims> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.leeway = 0;
        validation.validate_exp = expiry == Expiry::Refuse;
        jsonwebtoken::decode(token, &self.decoding, &validation).map(|data| data.claims).map_err(|e| match e.kind() {
            ErrorKind::ExpiredSignature => Error::new(
                ErrorCode::TokenExpired,
                "The token has run out. Refresh it at /api/auth/refresh or sign in again.",
            ),
            _ => invalid(),
        })
    }
}

/// The secret's key for one purpose, of which nobody learns anything from another's.
pub fn derived_key(secret: &Secret, purpose: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(purpose.as_bytes());
    hash.update(b"\0");
    hash.update(secret.expose().as_bytes());
    hash.finalize().into()
}

/// What is said of a token that is malformed or forged.
pub fn invalid() -> Error {
    Error::new(ErrorCode::InvalidToken, "The token is not one of ours. Sign in again.")
}

/// The installation's signing secret: the configured one, or that of the data directory.
pub fn signing_secret(config: &Config) -> std::io::Result<Secret> {
    match &config.jwt_secret {
        Some(secret) => Ok(secret.clone()),
        None => kept_secret(&config.data_dir),
    }
}

/// The secret kept in the data directory, made at the first start. Of two servers that start
/// together one makes it and both use that one.
pub fn kept_secret(data_dir: &Path) -> std::io::Result<Secret> {
    let path = data_dir.join(SECRET_FILE);
    if !path.exists() {
        let made = data_dir.join(format!("{SECRET_FILE}.{}", uuid::Uuid::new_v4().simple()));
        let secret = hex::encode(rand::random::<[u8; 32]>());
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        // A link, unlike a rename, leaves another server's secret in place.
        let linked = std::fs::hard_link(&made, &path);
        std::fs::remove_file(&made)?;
        match linked {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    let mut text = String::new();
    std::fs::File::open(&path)?.read_to_string(&mut text)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(std::io::Error::other(format!(
            "{} is empty; remove it, and every user signs in again",
            path.display()
        )));
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::from_secret(&Secret::new("a secret for the tests"))
    }

    #[test]
    fn a_token_proves_its_user_and_session() {
        let (user, session) = (UserId::new(), SessionId::new());
        let token = keys().sign(user, session, crate::time::now_ms()).unwrap();
        let claims = keys().verify(&token, Expiry::Refuse).unwrap();
        assert_eq!((claims.sub, claims.sid), (user, session));
    }

    #[test]
    fn an_old_token_only_refreshes() {
        let long_ago = crate::time::now_ms() - (TOKEN_SECONDS + 60) * 1000;
        let token = keys().sign(UserId::new(), SessionId::new(), long_ago).unwrap();
        let refused = keys().verify(&token, Expiry::Refuse).unwrap_err();
        assert_eq!(refused.code, ErrorCode::TokenExpired);
        assert!(keys().verify(&token, Expiry::Accept).is_ok());
    }

    #[test]
    fn forgeries_are_refused() {
        let now = crate::time::now_ms();
        let token = keys().sign(UserId::new(), SessionId::new(), now).unwrap();
        let other = Keys::from_secret(&Secret::new("another secret entirely"));
        let cut = &token[..token.len() - 2];
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        // {"alg":"none","typ":"JWT"}
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", token.split('.').nth(1).unwrap());
        for forged in [cut, &unsigned, &none, "", "x.y.z"] {
            let refused = keys().verify(forged, Expiry::Accept).unwrap_err();
            assert_eq!(refused.code, ErrorCode::InvalidToken, "{forged}");
        }
        assert!(other.verify(&token, Expiry::Refuse).is_err());
    }

    #[test]
    fn the_kept_secret_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let first = kept_secret(dir.path()).unwrap();
        assert_eq!(first, kept_secret(dir.path()).unwrap());
        let mode = std::fs::metadata(dir.path().join(SECRET_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
