//! Secrets as they lie in the database: encrypted under a key that does not lie there.
//!
//! AES-256-GCM (NIST SP 800-38D) with a nonce made for each; the key is derived from the signing secret by
//! SHA-256 under a label, so that it opens nothing else. What a secret belongs to is authenticated with it:
//! copied into another row, it does not open.
//!
//! ```text
//!   hexadecimal of: nonce (12 bytes), ciphertext, tag (16 bytes)
//! ```

use crate::secret::Secret;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

const LABEL: &[u8] = b"rexec sealed secrets v1\0";

/// What seals and opens. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    key: Arc<RandomizedNonceKey>,
}

impl Sealer {
    /// `secret` is the installation's signing secret.
    pub fn new(secret: &Secret) -> Result<Self, Unspecified> {
        let mut hash = Sha256::new();
        hash.update(LABEL);
        hash.update(secret.expose().as_bytes());
        Ok(Self { key: Arc::new(RandomizedNonceKey::new(&AES_256_GCM, &hash.finalize())?) })
    }

    /// `owner` says what the secret belongs to, such as `registry 0190...`.
    pub fn seal(&self, owner: &str, secret: &Secret) -> Result<String, Unspecified> {
        let mut bytes = secret.expose().as_bytes().to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(owner), &mut bytes)?;
        Ok(hex::encode([nonce.as_ref().as_slice(), &bytes].concat()))
    }

    /// Absent when it was sealed under another signing secret, for another owner, or is damaged.
    pub fn open(&self, owner: &str, sealed: &str) -> Option<Secret> {
        let mut bytes = hex::decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.key.open_in_place(nonce, Aad::from(owner), sealed).ok()?;
        String::from_utf8(opened.to_vec()).ok().map(Secret::new)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_key_and_owner_open() {
        let sealer = Sealer::new(&Secret::new("a")).unwrap();
        let secret = Secret::new("pass\u{e9}");
        let sealed = sealer.seal("registry 1", &secret).unwrap();
        assert!(!sealed.contains(&hex::encode("pass")));
        assert_ne!(sealer.seal("registry 1", &secret).unwrap(), sealed, "a nonce of its own");
        assert_eq!(sealer.open("registry 1", &sealed), Some(secret));
        assert_eq!(sealer.open("registry 2", &sealed), None);
        assert_eq!(Sealer::new(&Secret::new("b")).unwrap().open("registry 1", &sealed), None);
        for bad in ["", "00", "zz", &sealed[2..]] {
            assert_eq!(sealer.open("registry 1", bad), None, "{bad}");
        }
    }
}
