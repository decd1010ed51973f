//! Keys as they come and go: lines of `authorized_keys`, host keys in OpenSSH's own format.

use russh::keys::ssh_key;
use russh::keys::{Algorithm, HashAlg, PrivateKey};

/// Users' RSA keys with fewer bits are refused.
pub(crate) const RSA_BITS_MIN: usize = 2048;
/// Longest line with a public key; one of 16384 bits takes 2.8 kB.
const LINE_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("this is not a public key as `ssh-keygen` writes it")]
    Malformed,
    #[error("keys of this kind are not accepted; make one with `ssh-keygen -t ed25519`")]
    Unsupported,
    #[error("an RSA key needs at least 2048 bits; make one with `ssh-keygen -t ed25519`")]
    Short,
    #[error("this is a private key: keep it to yourself, and send the file that ends in .pub")]
    Private,
}

/// A user's public key. Equal when the keys are, whatever their comments.
#[derive(Debug, Clone)]
pub struct PublicKey {
    inner: ssh_key::PublicKey,
}

impl PublicKey {
    /// From a line such as `ssh-ed25519 AAAA... comment`, without options.
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        let line = line.trim();
        if line.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        if line.len() > LINE_BYTES_MAX || line.contains(['\n', '\r']) {
            return Err(KeyError::Malformed);
        }
        let inner = ssh_key::PublicKey::from_openssh(line).map_err(|_| KeyError::Malformed)?;
        let key = Self { inner };
        key.acceptable()?;
        Ok(key)
    }

    pub(crate) fn new(inner: &ssh_key::PublicKey) -> Self {
        Self { inner: inner.clone() }
    }

    pub(crate) fn acceptable(&self) -> Result<(), KeyError> {
        match self.inner.algorithm() {
            Algorithm::Rsa { .. } => match self.inner.key_data().rsa() {
                Some(key) if bits(key.n().as_bytes()) >= RSA_BITS_MIN => Ok(()),
                _ => Err(KeyError::Short),
            },
            Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => {
                Ok(())
            }
            _ => Err(KeyError::Unsupported),
        }
    }

    pub(crate) fn is_of(&self, algorithm: &Algorithm) -> bool {
        match (self.inner.algorithm(), algorithm) {
            // The hash is the signature's.
            (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
            (own, other) => own == *other,
        }
    }

    /// Such as `ssh-ed25519`.
    pub fn algorithm(&self) -> String {
        self.inner.algorithm().to_string()
    }

    /// The key as it is exchanged (RFC 4253, section 6.6).
    pub fn blob(&self) -> Vec<u8> {
        self.inner.to_bytes().unwrap_or_default()
    }

    /// `SHA256:` and the digest, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> String {
        self.inner.fingerprint(HashAlg::Sha256).to_string()
    }

    pub fn comment(&self) -> String {
        self.inner.comment().to_string()
    }

    /// The line that [`PublicKey::parse`] reads.
    pub fn line(&self) -> String {
        self.inner.to_openssh().unwrap_or_default()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.inner.key_data() == other.inner.key_data()
    }
}

impl Eq for PublicKey {}

pub(crate) fn bits(number: &[u8]) -> usize {
    let significant = number.iter().position(|byte| *byte != 0).map_or(&[][..], |first| &number[first..]);
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}

/// A user's certificate that an authority of ours has signed.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub key: PublicKey,
    pub authority: PublicKey,
    /// What the authority calls it, for the audit log.
    pub key_id: String,
    pub serial: u64,
    /// Never empty.
    pub principals: Vec<String>,
    /// Until when it is valid, in seconds since 1970; the greatest number: for ever.
    pub valid_before: u64,
    pub permits: Permits,
}

/// What may be asked for besides commands and files: of a certificate, what its extensions name (PROTOCOL.certkeys).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permits {
    pub terminals: bool,
    pub forwarding: bool,
    pub agent: bool,
}

impl Permits {
    pub const ALL: Self = Self { terminals: true, forwarding: true, agent: true };
}

impl Certificate {
    /// One that is a user's, valid now, signed by one of `authorities`, for somebody in particular, and without
    /// conditions that we would have to keep.
    pub(crate) fn accept(certificate: &ssh_key::Certificate, authorities: &[PublicKey]) -> Option<Self> {
        let authority = authorities.iter().find(|known| known.inner.key_data() == certificate.signature_key())?.clone();
        let fingerprint = authority.inner.fingerprint(HashAlg::Sha256);
        certificate.validate([&fingerprint]).ok()?;
        // With SHA-1, which whoever can make two texts of one digest could use.
        if certificate.signature().algorithm() == (Algorithm::Rsa { hash: None }) {
            return None;
        }
        let conditions = certificate.critical_options().iter().next().is_some();
        if !certificate.cert_type().is_user() || conditions || certificate.valid_principals().is_empty() {
            return None;
        }
        let key = PublicKey { inner: ssh_key::PublicKey::from(certificate.public_key().clone()) };
        key.acceptable().ok()?;
        let named = |extension: &str| certificate.extensions().iter().any(|(name, _)| name == extension);
        Some(Self {
            key,
            authority,
            key_id: certificate.key_id().to_owned(),
            serial: certificate.serial(),
            principals: certificate.valid_principals().to_vec(),
            valid_before: certificate.valid_before(),
            permits: Permits {
                terminals: named("permit-pty"),
                forwarding: named("permit-port-forwarding"),
                agent: named("permit-agent-forwarding"),
            },
        })
    }
}

/// What the server proves itself with.
#[derive(Clone)]
pub struct HostKey {
    private: PrivateKey,
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HostKey").field(&self.public().fingerprint()).finish()
    }
}

impl HostKey {
    /// A new one, ed25519.
    pub fn generate() -> Self {
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&rand::random());
        Self { private: PrivateKey::from(pair) }
    }

    /// From a file of `ssh-keygen`, ed25519 and not encrypted.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let private = PrivateKey::from_openssh(text).map_err(|_| KeyError::Malformed)?;
        if private.is_encrypted() || private.algorithm() != Algorithm::Ed25519 {
            return Err(KeyError::Unsupported);
        }
        Ok(Self { private })
    }

    /// The text that [`HostKey::parse`] reads. A secret.
    pub fn secret(&self) -> Result<String, KeyError> {
        let text = self.private.to_openssh(ssh_key::LineEnding::LF).map_err(|_| KeyError::Malformed)?;
        Ok(text.to_string())
    }

    pub fn public(&self) -> PublicKey {
        PublicKey::new(self.private.public_key())
    }

    pub(crate) fn private(&self) -> &PrivateKey {
        &self.private
    }
}
