//! What the server is given, and what it offers: algorithms that `ssh-audit` has nothing to say against.

use crate::keys::{HostKey, PublicKey};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};
use std::borrow::Cow;
use std::time::Duration;

/// Told to every peer before it has said anything: neither a version nor a platform.
pub(crate) const IDENTIFICATION: &str = "SSH-2.0-Rexec";
/// A refusal takes this long from when it was asked for, whatever was wrong.
const REFUSAL_TIME: Duration = Duration::from_millis(250);
/// Refusals on one connection. A client with many keys shows one after the other.
const REFUSALS_MAX: usize = 10;
/// A client that has been silent this long is asked whether it lives...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// ... this many times.
const KEEPALIVES_MAX: usize = 3;
/// Bytes in one packet of a channel, as OpenSSH has it.
pub(crate) const PACKET_BYTES_MAX: u32 = 32 * 1024;
/// Messages of all channels on their way out, each of at most one packet.
const OUTGOING_MESSAGES_MAX: usize = 8;
/// Messages that russh would queue for a channel's reader. Data takes another way ([`crate::flow`]).
pub(crate) const QUEUED_MESSAGES_MAX: usize = 32;
/// Keys are exchanged anew after so many bytes in one direction...
pub(crate) const REKEY_BYTES: usize = 1 << 30;
/// ... or after this time.
pub(crate) const REKEY_TIME: Duration = Duration::from_secs(3600);

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
pub(crate) const CIPHERS: &[cipher::Name] =
    &[cipher::CHACHA20_POLY1305, cipher::AES_256_GCM, cipher::AES_256_CTR, cipher::AES_128_CTR];
pub(crate) const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];

/// How many there may be, and for how long.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Connections in all. One more is closed at once.
    pub connections_max: usize,
    /// Of these, such that have not been let in yet.
    pub strangers_max: usize,
    /// Of those, from one address (IPv6: one /64).
    pub strangers_per_address_max: usize,
    /// A stranger has this long to be let in.
    pub authentication_time: Duration,
    /// Bytes in one direction until keys are exchanged anew. At most 2^30.
    pub rekey_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            strangers_max: 512,
            strangers_per_address_max: 256,
            authentication_time: Duration::from_secs(60),
            rekey_bytes: REKEY_BYTES,
        }
    }
}

pub struct Settings {
    /// The first is the one that is shown to people.
    pub host_keys: Vec<HostKey>,
    /// Whose certificates are taken for users.
    pub authorities: Vec<PublicKey>,
    pub bounds: Bounds,
}

pub(crate) fn methods() -> MethodSet {
    MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password, MethodKind::KeyboardInteractive][..])
}

/// Of users' keys and of ours. Signatures with SHA-1 are in neither.
fn key_algorithms() -> Vec<Algorithm> {
    vec![
        Algorithm::Ed25519,
        Algorithm::SkEd25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
        Algorithm::SkEcdsaSha2NistP256,
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
}

/// How connections are spoken that begin with these keys.
pub(crate) fn config(host_keys: &[HostKey], bounds: &Bounds) -> russh::server::Config {
    let rekey_bytes = bounds.rekey_bytes.min(REKEY_BYTES);
    russh::server::Config {
        server_id: SshId::Standard(Cow::Borrowed(IDENTIFICATION)),
        methods: methods(),
        auth_rejection_time: REFUSAL_TIME,
        // Nearly every client first asks which methods there are, and waits for it. Only a login that is
        // itself a token could be found by it.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: host_keys.iter().map(|key| key.private().clone()).collect(),
        limits: russh::Limits::new(rekey_bytes, rekey_bytes, REKEY_TIME),
        window_size: crate::flow::WINDOW_BYTES,
        maximum_packet_size: PACKET_BYTES_MAX,
        channel_buffer_size: QUEUED_MESSAGES_MAX,
        event_buffer_size: OUTGOING_MESSAGES_MAX,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Owned(key_algorithms()),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        max_auth_attempts: REFUSALS_MAX,
        // Whoever types nothing for a day is still there; whoever does not answer is not.
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        keepalive_max: KEEPALIVES_MAX,
        nodelay: true,
        ..Default::default()
    }
}
