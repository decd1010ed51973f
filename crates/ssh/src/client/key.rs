//! The key that we log in with, as it comes out of an environment variable: with its line breaks, with `\n` in their
//! place, with spaces in their place, in quotes, or as base64 of the whole file.
//!
//! Invariant: nothing of the key's text is in any error or in `Debug`.

use crate::keys::{PublicKey, RSA_BITS_MIN, bits};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russh::keys::{Algorithm, PrivateKey as Inner};
use std::sync::Arc;

/// An RSA key of 16384 bits takes 13 kB, and a third more as base64.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Of the lines between the marks (RFC 7468, section 2).
const LINE_CHARS: usize = 64;
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    #[error("it is empty")]
    Empty,
    #[error(
        "it is no private key: it must be the file that `ssh-keygen` writes, from -----BEGIN to -----END, or base64 of that"
    )]
    NotAKey,
    #[error("it is a public key; the private one is in the file without .pub")]
    Public,
    #[error("it has no -----END line: it was cut off")]
    Cut,
    #[error("it is damaged: what is between its first and its last line is not a whole key")]
    Damaged,
    #[error(
        "it is encrypted with a passphrase, which nobody could type here; `ssh-keygen -p -N '' -f FILE` takes it away"
    )]
    Encrypted,
    #[error("keys of this kind are not accepted; make one with `ssh-keygen -t ed25519`")]
    Unsupported,
    #[error("an RSA key needs at least 2048 bits; make one with `ssh-keygen -t ed25519`")]
    Short,
}

/// Not encrypted, and of a kind that can log in by itself.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PrivateKey").field(&self.public().fingerprint()).finish()
    }
}

/// Equal when the keys are.
impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.public() == other.public()
    }
}

impl Eq for PrivateKey {}

impl PrivateKey {
    /// From OpenSSH's format or PEM: PKCS#1, PKCS#8, SEC1.
    pub fn read(text: &str) -> Result<Self, PrivateKeyError> {
        let text = unquoted(text);
        if text.is_empty() {
            return Err(PrivateKeyError::Empty);
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(PrivateKeyError::NotAKey);
        }
        let decoded;
        let text = if text.contains(BEGIN) {
            text
        } else {
            decoded = from_base64(text)?;
            &decoded
        };
        let inner = russh::keys::decode_secret_key(&pem(text)?, None).map_err(|error| kind(&error))?;
        match inner.algorithm() {
            Algorithm::Rsa { .. } => match inner.public_key().key_data().rsa() {
                Some(key) if bits(key.n().as_bytes()) >= RSA_BITS_MIN => {}
                _ => return Err(PrivateKeyError::Short),
            },
            Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => {}
            _ => return Err(PrivateKeyError::Unsupported),
        }
        Ok(Self(Arc::new(inner)))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey::new(self.0.public_key())
    }

    pub(super) fn is_rsa(&self) -> bool {
        matches!(self.0.algorithm(), Algorithm::Rsa { .. })
    }

    pub(super) fn inner(&self) -> Arc<Inner> {
        self.0.clone()
    }
}

fn kind(error: &russh::keys::Error) -> PrivateKeyError {
    use russh::keys::Error;
    match error {
        Error::KeyIsEncrypted => PrivateKeyError::Encrypted,
        Error::UnsupportedKeyType { .. } | Error::UnknownAlgorithm(_) => PrivateKeyError::Unsupported,
        _ => PrivateKeyError::Damaged,
    }
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inner = |quote| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).map_or(text, str::trim)
}

fn from_base64(text: &str) -> Result<String, PrivateKeyError> {
    if ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| text.starts_with(kind)) {
        return Err(PrivateKeyError::Public);
    }
    let packed: String = text.replace("\\n", "").split_whitespace().collect();
    let bytes = STANDARD.decode(packed).map_err(|_| PrivateKeyError::NotAKey)?;
    String::from_utf8(bytes).ok().filter(|text| text.contains(BEGIN)).ok_or(PrivateKeyError::NotAKey)
}

/// The one block of the text, its lines as they should be.
fn pem(text: &str) -> Result<String, PrivateKeyError> {
    let (_, rest) = text.split_once(BEGIN).ok_or(PrivateKeyError::NotAKey)?;
    let (label, rest) = rest.split_once(DASHES).ok_or(PrivateKeyError::NotAKey)?;
    if label.contains("PUBLIC KEY") {
        return Err(PrivateKeyError::Public);
    }
    if !label.ends_with("PRIVATE KEY") {
        return Err(PrivateKeyError::NotAKey);
    }
    let (body, _) = rest.split_once(END).ok_or(PrivateKeyError::Cut)?;
    if label.contains("ENCRYPTED") || body.contains("ENCRYPTED") {
        return Err(PrivateKeyError::Encrypted);
    }
    let packed: String = body.replace("\\r", "").replace("\\n", "").split_whitespace().collect();
    if packed.is_empty() || !packed.is_ascii() {
        return Err(PrivateKeyError::Damaged);
    }
    let mut whole = format!("{BEGIN}{label}{DASHES}\n");
    for line in packed.as_bytes().chunks(LINE_CHARS) {
        whole.extend(line.iter().map(|byte| char::from(*byte)));
        whole.push('\n');
    }
    Ok(format!("{whole}{END}{label}{DASHES}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Made by the tools that people have.
    fn made(program: &str, arguments: &[&str]) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("key");
        let done = Command::new(program).args(arguments).arg(&file).output().expect("the program is installed");
        assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
        std::fs::read_to_string(&file).expect("reads")
    }

    fn keygen(arguments: &[&str]) -> String {
        made("ssh-keygen", &[&["-q", "-C", "comment"], arguments, &["-f"]].concat())
    }

    #[test]
    fn every_format_and_every_dress_is_read() {
        let openssl = |arguments: &[&str]| made("openssl", &[arguments, &["-out"]].concat());
        for (what, text) in [
            ("OpenSSH", keygen(&["-t", "ed25519", "-N", ""])),
            ("OpenSSH RSA", keygen(&["-t", "rsa", "-b", "2048", "-N", ""])),
            ("PKCS#1", keygen(&["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""])),
            ("SEC1", keygen(&["-t", "ecdsa", "-b", "256", "-m", "PEM", "-N", ""])),
            ("PKCS#8 RSA", openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])),
            ("PKCS#8 EC", openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"])),
            ("PKCS#8 Ed25519", openssl(&["genpkey", "-algorithm", "ed25519"])),
        ] {
            let key = PrivateKey::read(&text).unwrap_or_else(|error| panic!("{what}: {error}"));
            for dressed in [
                text.replace('\n', "\r\n"),
                text.replace('\n', "\\n"),
                text.replace('\n', " "),
                format!("\"{}\"", text.trim().replace('\n', "\\n")),
                format!("  {}\n\n", text.trim()),
                STANDARD.encode(&text),
                STANDARD.encode(&text).as_bytes().chunks(76).map(|c| String::from_utf8_lossy(c) + "\n").collect(),
            ] {
                let read = PrivateKey::read(&dressed).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(read.public() == key.public(), "{what}");
            }
            assert!(!format!("{key:?}").contains(text.lines().nth(1).expect("a line")));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = keygen(&["-t", "ed25519", "-N", ""]);
        let lines: Vec<&str> = good.lines().collect();
        let without_a_line = [&lines[..2], &lines[3..]].concat().join("\n");
        for (text, wanted) in [
            (String::new(), PrivateKeyError::Empty),
            ("  \"\" ".into(), PrivateKeyError::Empty),
            ("/root/.ssh/id_ed25519".into(), PrivateKeyError::NotAKey),
            ("ssh-ed25519 AAAA me@here".into(), PrivateKeyError::Public),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----".into(), PrivateKeyError::Public),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".into(), PrivateKeyError::NotAKey),
            (lines[..lines.len() - 1].join("\n"), PrivateKeyError::Cut),
            (without_a_line, PrivateKeyError::Damaged),
            (keygen(&["-t", "ed25519", "-N", "secret"]), PrivateKeyError::Encrypted),
            (keygen(&["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "secret"]), PrivateKeyError::Encrypted),
            (keygen(&["-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", "secret"]), PrivateKeyError::Encrypted),
            (keygen(&["-t", "rsa", "-b", "1024", "-N", ""]), PrivateKeyError::Short),
            ("x".repeat(TEXT_BYTES_MAX + 1), PrivateKeyError::NotAKey),
        ] {
            assert_eq!(PrivateKey::read(&text).map(|_| ()), Err(wanted), "{wanted}");
        }
    }
}
