//! One line of OpenSSH's public key format, read strictly: `type base64 [comment]`.
//!
//! The blob is that of RFC 4253 section 6.6 (RSA), RFC 5656 section 3.1 (ECDSA), RFC 8709 section 4
//! (Ed25519) and OpenSSH's PROTOCOL.u2f (security keys): fields of a 32-bit length and that many
//! bytes, the first of which repeats the type. Read here and not by a crate: the five forms are a
//! page of code, and what a person has pasted instead of a key is worth a precise answer.
//!
//! Invariant: a [`PublicKey`] is of a type that we take, whole, and nothing follows it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

/// Longest line that is looked at: an RSA key of 16384 bits has 2.8 kB.
pub const LINE_BYTES_MAX: usize = 8 * 1024;
/// Fewest and most bits of an RSA key.
pub const RSA_BITS_MIN: usize = 2048;
pub const RSA_BITS_MAX: usize = 16_384;
const ED25519_BYTES: usize = 32;
/// An uncompressed point begins with this (SEC 1, section 2.3.3).
const POINT_UNCOMPRESSED: u8 = 4;
/// Longest application of a security key, such as `ssh:`.
const APPLICATION_BYTES_MAX: usize = 255;

/// The form of a type's fields after the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Ed25519,
    /// A curve, and the bytes of one of its points' coordinates.
    Ecdsa(&'static str, usize),
    Rsa,
}

/// Type, form, and whether it is kept in a security key.
const TYPES: [(&str, Form, bool); 7] = [
    ("ssh-ed25519", Form::Ed25519, false),
    ("ecdsa-sha2-nistp256", Form::Ecdsa("nistp256", 32), false),
    ("ecdsa-sha2-nistp384", Form::Ecdsa("nistp384", 48), false),
    ("ecdsa-sha2-nistp521", Form::Ecdsa("nistp521", 66), false),
    ("ssh-rsa", Form::Rsa, false),
    ("sk-ssh-ed25519@openssh.com", Form::Ed25519, true),
    ("sk-ecdsa-sha2-nistp256@openssh.com", Form::Ecdsa("nistp256", 32), true),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    pub kind: &'static str,
    /// As it goes over the wire.
    pub blob: Vec<u8>,
    pub comment: String,
}

/// Why a text is no key that we take, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("There is no key. Paste the line of a file such as `~/.ssh/id_ed25519.pub`.")]
    Empty,
    #[error(
        "This is a private key, which must stay with you: paste the line of the file that ends in `.pub`. If you have pasted this one elsewhere too, make a new one."
    )]
    Private,
    #[error(
        "This is a key in another format. Convert it with `ssh-keygen -i -f key > key.pub` (PEM: `-m PKCS8`) and paste that line."
    )]
    OtherFormat,
    #[error("A key is one line; this has several. Paste one key at a time, without line breaks.")]
    SeveralLines,
    #[error("The line is longer than {LINE_BYTES_MAX} bytes, which no key is.")]
    TooLong,
    #[error("Options stand before the key. Paste it from `{0}` on: options are for an `authorized_keys` file.")]
    Options(&'static str),
    #[error("This is a certificate. Paste the key that it was made for: the `.pub` file without `-cert`.")]
    Certificate,
    #[error("DSA keys are too weak and not taken any more. Make a new one: `ssh-keygen -t ed25519`.")]
    Dsa,
    #[error(
        "`{0}` is no type of key that is known here; it may be ssh-ed25519, ecdsa-sha2-nistp256, -384 or -521, ssh-rsa, or a security key's. Make one: `ssh-keygen -t ed25519`."
    )]
    UnknownType(String),
    #[error("Only the key's type is there: the key itself is missing. Paste the whole line.")]
    NoBody,
    #[error("The key's base64 is damaged: a character is missing, doubled or changed. Copy the line again.")]
    Base64,
    #[error("The line says `{said}`, and the key in it is of the type `{found}`. Copy the line again.")]
    TypesDiffer { said: &'static str, found: String },
    #[error("The key is cut off or damaged. Copy the line again.")]
    Damaged,
    #[error(
        "This RSA key has {0} bits, and at least {RSA_BITS_MIN} are needed. Make a new one: `ssh-keygen -t ed25519`."
    )]
    RsaTooSmall(usize),
    #[error(
        "This RSA key has {0} bits, and at most {RSA_BITS_MAX} are taken. Make a new one: `ssh-keygen -t ed25519`."
    )]
    RsaTooLarge(usize),
}

impl PublicKey {
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{feff}');
        let line = one_line(text)?;
        let mut words = line.split_ascii_whitespace();
        let first = words.next().ok_or(KeyFault::Empty)?;
        let Some((kind, form, hardware)) = type_of(first) else {
            return Err(untyped(first, line));
        };
        let body = words.next().ok_or(KeyFault::NoBody)?;
        let blob = decode(body)?;
        check(kind, form, hardware, &blob)?;
        let comment: Vec<&str> = words.collect();
        let comment = comment.join(" ").chars().filter(|c| !c.is_control()).collect();
        Ok(Self { kind, blob, comment })
    }

    /// As `ssh-keygen -l` tells it.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.blob)
    }

    /// The line without its comment.
    pub fn line(&self) -> String {
        line_of(self.kind, &STANDARD.encode(&self.blob))
    }
}

/// A key's line, of its type and its blob in base64.
pub fn line_of(kind: &str, blob_base64: &str) -> String {
    format!("{kind} {blob_base64}")
}

/// `SHA256:` and the blob's hash, in base64 without padding.
pub fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)))
}

fn type_of(word: &str) -> Option<(&'static str, Form, bool)> {
    TYPES.into_iter().find(|(kind, ..)| *kind == word)
}

fn one_line(text: &str) -> Result<&str, KeyFault> {
    if text.contains("PRIVATE KEY") || text.starts_with("PuTTY-User-Key-File") {
        return Err(KeyFault::Private);
    }
    if text.starts_with("----") {
        return Err(KeyFault::OtherFormat);
    }
    if text.contains(['\n', '\r']) {
        return Err(KeyFault::SeveralLines);
    }
    if text.len() > LINE_BYTES_MAX {
        return Err(KeyFault::TooLong);
    }
    Ok(text)
}

/// What to say of a line that begins with no type.
fn untyped(first: &str, line: &str) -> KeyFault {
    if let Some((kind, ..)) = line.split_ascii_whitespace().find_map(type_of) {
        return KeyFault::Options(kind);
    }
    match first {
        "ssh-dss" => KeyFault::Dsa,
        _ if first.contains("-cert-v0") => KeyFault::Certificate,
        _ => KeyFault::UnknownType(first.chars().filter(|c| !c.is_control()).take(40).collect()),
    }
}

fn decode(body: &str) -> Result<Vec<u8>, KeyFault> {
    // Some tools leave the padding out; the bits that it leaves over must be zero either way.
    STANDARD.decode(body).or_else(|_| STANDARD_NO_PAD.decode(body)).map_err(|_| KeyFault::Base64)
}

/// What is left of a blob.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<&'a [u8], KeyFault> {
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(KeyFault::Damaged)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (field, rest) = rest.split_at_checked(length).ok_or(KeyFault::Damaged)?;
        self.0 = rest;
        Ok(field)
    }

    fn of_length(&mut self, bytes: usize) -> Result<&'a [u8], KeyFault> {
        self.next().and_then(|field| if field.len() == bytes { Ok(field) } else { Err(KeyFault::Damaged) })
    }
}

fn check(kind: &'static str, form: Form, hardware: bool, blob: &[u8]) -> Result<(), KeyFault> {
    let mut fields = Fields(blob);
    let found = fields.next()?;
    if found != kind.as_bytes() {
        let found = String::from_utf8_lossy(found).chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
        return Err(KeyFault::TypesDiffer { said: kind, found });
    }
    match form {
        Form::Ed25519 => {
            fields.of_length(ED25519_BYTES)?;
        }
        Form::Ecdsa(curve, bytes) => {
            let named = fields.next()?;
            let point = fields.of_length(1 + 2 * bytes)?;
            if named != curve.as_bytes() || point[0] != POINT_UNCOMPRESSED {
                return Err(KeyFault::Damaged);
            }
        }
        Form::Rsa => rsa(&mut fields)?,
    }
    if hardware {
        let application = fields.next()?;
        if application.is_empty() || application.len() > APPLICATION_BYTES_MAX || application.contains(&0) {
            return Err(KeyFault::Damaged);
        }
    }
    if fields.0.is_empty() { Ok(()) } else { Err(KeyFault::Damaged) }
}

fn rsa(fields: &mut Fields<'_>) -> Result<(), KeyFault> {
    let exponent = positive(fields.next()?)?;
    let modulus = positive(fields.next()?)?;
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    if !is_odd(exponent) || exponent == [1] || !is_odd(modulus) {
        return Err(KeyFault::Damaged);
    }
    match bits(modulus) {
        few if few < RSA_BITS_MIN => Err(KeyFault::RsaTooSmall(few)),
        many if many > RSA_BITS_MAX => Err(KeyFault::RsaTooLarge(many)),
        _ => Ok(()),
    }
}

/// A positive `mpint` (RFC 4251, section 5) in its one form, without the zero that marks it so.
fn positive(field: &[u8]) -> Result<&[u8], KeyFault> {
    match field {
        [0, rest @ ..] if rest.first().is_some_and(|byte| byte & 0x80 != 0) => Ok(rest),
        [first, ..] if *first != 0 && first & 0x80 == 0 => Ok(field),
        _ => Err(KeyFault::Damaged),
    }
}

fn bits(number: &[u8]) -> usize {
    number.len() * 8 - number.first().map_or(0, |byte| byte.leading_zeros() as usize)
}

#[cfg(test)]
#[path = "public_key_tests.rs"]
mod tests;
