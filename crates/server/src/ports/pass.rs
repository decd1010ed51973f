//! How a visitor who is signed in to the application is let in to a preview, whose origin is another.
//!
//! ```text
//!   application --code--> preview --exchanges the code for--> pass, a cookie of the preview's own
//! ```
//!
//! A *code* is random, kept only as a hash, good once and for a minute, for one session and one port.
//! A *pass* is signed and names user, login session and port. It is believed only while that session
//! is live and the workspace is that user's, so that signing out ends it.

use super::address::Spot;
use super::store;
use crate::db::Db;
use crate::error::{Error, Result};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rexec_api::ids::{SessionId, UserId, WorkspaceId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The parameter that carries a code, taken off again before anything reaches the workspace.
pub const CODE_PARAMETER: &str = "__rexec_code";
/// How long a code may be on its way.
pub const CODE_MS: i64 = 60_000;
/// How long a pass is good; after that the application gives another without being asked.
pub const PASS_SECONDS: i64 = 12 * 3600;
const ISSUER: &str = "rexec-preview";

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    pub user: UserId,
    pub session: SessionId,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: UserId,
    sid: SessionId,
    workspace: WorkspaceId,
    port: u16,
    exp: i64,
}

/// Signs and reads passes.
pub struct Passes {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl Passes {
    /// The purpose of the key that these are signed with.
    pub const PURPOSE: &str = "rexec preview pass v1";

    pub fn new(key: &[u8; 32]) -> Self {
        Self { encoding: EncodingKey::from_secret(key), decoding: DecodingKey::from_secret(key) }
    }

    pub fn sign(&self, holder: Holder, spot: Spot, now_ms: i64) -> Result<String> {
        let Spot { workspace, port } = spot;
        let exp = now_ms / 1000 + PASS_SECONDS;
        let claims = Claims { iss: ISSUER.into(), sub: holder.user, sid: holder.session, workspace, port, exp };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding).map_err(Error::internal)
    }

    /// Whose pass to this spot it is, if it is one.
    pub fn read(&self, pass: &str, spot: Spot) -> Option<Holder> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.leeway = 0;
        let claims = jsonwebtoken::decode::<Claims>(pass, &self.decoding, &validation).ok()?.claims;
        let same = claims.workspace == spot.workspace && claims.port == spot.port;
        same.then_some(Holder { user: claims.sub, session: claims.sid })
    }
}

/// A fresh code, good until `expires_ms`.
pub async fn issue(db: &Db, holder: Holder, spot: Spot, expires_ms: i64) -> Result<String> {
    let code = hex::encode(rand::random::<[u8; 32]>());
    store::keep_code(db.write(), &hash(&code), holder, spot, expires_ms).await?;
    Ok(code)
}

/// Uses a code up. `None`: it was used, has run out, is for another port or none of ours.
pub async fn redeem(db: &Db, code: &str, spot: Spot, now_ms: i64) -> Result<Option<Holder>> {
    Ok(store::take_code(db.write(), &hash(code), spot, now_ms).await?)
}

fn hash(code: &str) -> String {
    hex::encode(Sha256::digest(code.as_bytes()))
}

/// The code of a query, if it has one, and the query without it.
pub fn take_code(query: &str) -> (Option<&str>, String) {
    let mut code = None;
    let rest = query.split('&').filter(|pair| match pair.split_once('=') {
        Some((CODE_PARAMETER, value)) => {
            code = Some(value);
            false
        }
        _ => true,
    });
    let rest = rest.collect::<Vec<_>>().join("&");
    (code, rest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::time::now_ms;

    #[test]
    fn a_pass_is_for_one_spot_and_for_a_while() {
        let passes = Passes::new(&[7; 32]);
        let spot = Spot { workspace: WorkspaceId::new(), port: 80 };
        let holder = Holder { user: UserId::new(), session: SessionId::new() };
        let pass = passes.sign(holder, spot, now_ms()).unwrap();
        assert_eq!(passes.read(&pass, spot), Some(holder));
        assert_eq!(passes.read(&pass, Spot { port: 81, ..spot }), None);
        assert_eq!(passes.read(&pass, Spot { workspace: WorkspaceId::new(), ..spot }), None);
        assert_eq!(Passes::new(&[8; 32]).read(&pass, spot), None);
        let old = passes.sign(holder, spot, now_ms() - (PASS_SECONDS + 60) * 1000).unwrap();
        assert_eq!(passes.read(&old, spot), None);
    }

    #[test]
    fn a_code_is_taken_out_of_the_query() {
        assert_eq!(take_code("a=1&__rexec_code=x&b=%20"), (Some("x"), "a=1&b=%20".into()));
        assert_eq!(take_code("__rexec_code=x"), (Some("x"), String::new()));
        assert_eq!(take_code("a=1&c"), (None, "a=1&c".into()));
    }
}
