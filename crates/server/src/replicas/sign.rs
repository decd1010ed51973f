//! How one replica knows a request of another: HMAC-SHA256 (RFC 2104) under a key that all derive from the signing secret.
//!
//! Signed are the method, the path, who sends, who is meant, the time, a nonce and the body's digest. A request is taken
//! once, by the one that is meant, and only near its time. Nothing that a user has opens these routes.

use super::ReplicaId;
use aws_lc_rs::hmac;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What the key is derived for.
pub const PURPOSE: &str = "rexec requests between replicas v1";
/// The clocks of two servers may differ by so much.
const CLOCKS_APART_MS: i64 = 30_000;
/// Nonces remembered at most: as many requests within a minute are more than replicas make.
const NONCES_MAX: usize = 100_000;

pub const FROM: &str = "x-rexec-replica";
pub const TIME: &str = "x-rexec-time";
pub const NONCE: &str = "x-rexec-nonce";
pub const SIGNATURE: &str = "x-rexec-signature";

/// What is signed besides the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub from: ReplicaId,
    pub to: ReplicaId,
    pub time_ms: i64,
    pub nonce: uuid::Uuid,
}

pub struct Signer {
    key: hmac::Key,
    /// Of requests that were taken, with their times.
    taken: Mutex<HashMap<uuid::Uuid, i64>>,
}

impl Signer {
    pub fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), taken: Mutex::default() }
    }

    pub fn sign(&self, head: &Head<'_>, body: &[u8]) -> String {
        hex::encode(hmac::sign(&self.key, text(head, body).as_bytes()))
    }

    /// Takes a request, once; why not, for the log.
    pub fn take(&self, head: &Head<'_>, body: &[u8], signature: &str, now_ms: i64) -> Result<(), &'static str> {
        let signature = hex::decode(signature).map_err(|_| "the signature is not hexadecimal")?;
        hmac::verify(&self.key, text(head, body).as_bytes(), &signature).map_err(|_| "the signature does not fit")?;
        if (head.time_ms - now_ms).abs() > CLOCKS_APART_MS {
            return Err("it is of another time: the clocks of the servers differ, or it was kept");
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= NONCES_MAX {
            taken.retain(|_, time_ms| now_ms - *time_ms <= 2 * CLOCKS_APART_MS);
        }
        if taken.len() >= NONCES_MAX {
            return Err("there are too many at once");
        }
        match taken.insert(head.nonce, head.time_ms) {
            None => Ok(()),
            Some(_) => Err("it was taken before"),
        }
    }
}

fn text(head: &Head<'_>, body: &[u8]) -> String {
    let Head { method, path, from, to, time_ms, nonce } = head;
    format!("{method}\n{path}\n{from}\n{to}\n{time_ms}\n{nonce}\n{}", hex::encode(Sha256::digest(body)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_once_in_time_and_as_it_was_signed() {
        let signer = Signer::new(&[7; 32]);
        let (from, to) = (ReplicaId::new(), ReplicaId::new());
        let head =
            || Head { method: "POST", path: "/internal/a", from, to, time_ms: 1_000_000, nonce: uuid::Uuid::new_v4() };
        let one = head();
        let signature = signer.sign(&one, b"body");
        assert!(signer.take(&one, b"other", &signature, 1_000_000).is_err());
        assert!(signer.take(&Head { path: "/internal/b", ..one.clone() }, b"body", &signature, 1_000_000).is_err());
        assert!(signer.take(&Head { to: from, ..one.clone() }, b"body", &signature, 1_000_000).is_err());
        assert!(signer.take(&one, b"body", "zz", 1_000_000).is_err());
        assert!(signer.take(&one, b"body", &signature, 1_000_000 + CLOCKS_APART_MS + 1).unwrap_err().contains("time"));
        assert!(signer.take(&one, b"body", &signature, 1_000_000 - CLOCKS_APART_MS).is_ok());
        assert!(signer.take(&one, b"body", &signature, 1_000_000).unwrap_err().contains("before"));
        let two = head();
        let other = Signer::new(&[8; 32]).sign(&two, b"body");
        assert!(signer.take(&two, b"body", &other, 1_000_000).is_err());
    }
}
