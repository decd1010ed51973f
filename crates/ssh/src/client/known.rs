//! How a server is known beforehand: by its whole key, or by the key's fingerprint.

use crate::keys::PublicKey;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg};

const SHA256: &str = "SHA256:";
/// Of SHA-256 in base64 without padding.
const DIGEST_CHARS: usize = 43;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is no host key: write the fingerprint as `ssh-keygen -l` shows it (SHA256:...), or a line of `ssh-keyscan`'s output"
)]
pub struct KnownHostError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownHost {
    Key(PublicKey),
    /// `SHA256:` and the digest.
    Fingerprint(String),
}

impl KnownHost {
    /// From a fingerprint, a public key's line, or a line of a file of known hosts.
    pub fn parse(text: &str) -> Result<Self, KnownHostError> {
        let text = text.trim();
        if let Some(digest) = text.strip_prefix(SHA256) {
            let digest = digest.trim_end_matches('=');
            let plain = digest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/');
            return (digest.len() == DIGEST_CHARS && plain)
                .then(|| Self::Fingerprint(format!("{SHA256}{digest}")))
                .ok_or(KnownHostError);
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let starts = 0..words.len().min(2);
        let key = starts.filter_map(|at| PublicKey::parse(&words[at..].join(" ")).ok()).next();
        key.map(Self::Key).ok_or(KnownHostError)
    }

    pub fn fingerprint(&self) -> String {
        match self {
            Self::Key(key) => key.fingerprint(),
            Self::Fingerprint(fingerprint) => fingerprint.clone(),
        }
    }

    pub fn is(&self, key: &PublicKey) -> bool {
        match self {
            Self::Key(known) => known == key,
            Self::Fingerprint(fingerprint) => *fingerprint == key.fingerprint(),
        }
    }
}

/// A server has a key of each of these kinds, and shows one of the kinds that it is asked for.
pub(super) fn kinds() -> [Vec<Algorithm>; 3] {
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    let rsa = |hash| Algorithm::Rsa { hash: Some(hash) };
    [
        vec![Algorithm::Ed25519],
        vec![ecdsa(EcdsaCurve::NistP256), ecdsa(EcdsaCurve::NistP384), ecdsa(EcdsaCurve::NistP521)],
        vec![rsa(HashAlg::Sha512), rsa(HashAlg::Sha256)],
    ]
}

/// Which kinds to ask for, one after the other until one is shown that fits.
pub(super) fn asked_for(known: Option<&KnownHost>) -> Vec<Vec<Algorithm>> {
    match known {
        None => vec![kinds().concat()],
        Some(KnownHost::Fingerprint(_)) => kinds().to_vec(),
        Some(KnownHost::Key(key)) => {
            let is_of = |kind: &Vec<Algorithm>| kind.iter().any(|algorithm| key.is_of(algorithm));
            kinds().into_iter().filter(is_of).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostKey;

    #[test]
    fn a_host_is_known_by_its_key_or_its_fingerprint() {
        let (key, other) = (HostKey::generate().public(), HostKey::generate().public());
        let line = key.line();
        for text in [
            line.clone(),
            format!("{line} comment"),
            format!("10.0.0.7 {line}"),
            format!("[host]:2222,10.0.0.7 {line} comment\n"),
            key.fingerprint(),
            format!(" {}= ", key.fingerprint()),
        ] {
            let known = KnownHost::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(known.is(&key) && !known.is(&other), "{text}");
            assert_eq!(known.fingerprint(), key.fingerprint());
        }
        for text in ["", "SHA256:", "SHA256:short", "MD5:00:11", "host", "a b c", "-----BEGIN OPENSSH PRIVATE KEY-----"]
        {
            assert_eq!(KnownHost::parse(text), Err(KnownHostError), "{text}");
        }
    }

    #[test]
    fn a_known_key_is_asked_for_by_its_kind() {
        let key = HostKey::generate().public();
        assert_eq!(asked_for(None).len(), 1);
        assert_eq!(asked_for(Some(&KnownHost::Fingerprint(key.fingerprint()))).len(), 3);
        assert_eq!(asked_for(Some(&KnownHost::Key(key))), [vec![Algorithm::Ed25519]]);
    }
}
