//! A workspace's own authority for certificates: what the gateway shows inside in the place of a host whose requests it reads.
//!
//! The server makes it and keeps its key; the workspace trusts its certificate, the gateway has its key for as long as the
//! workspace is bound. It means something in that one workspace and nowhere else.

use crate::host::HostName;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// Where distributions keep the authorities that a machine, or an image, trusts; below its root.
pub const BUNDLES: [&str; 4] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/cert.pem",
];
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Its own certificate's life: longer than any workspace's.
const AUTHORITY_DAYS: u32 = 20 * 365;
/// A host's, which is made anew long before that.
const HOST_DAYS: u32 = 30;
/// Clocks that are behind.
const BEFORE: Duration = DAY;

/// A new one: its certificate and its key, in PEM.
pub struct Made {
    pub certificate: String,
    pub key: String,
}

/// What there is nothing to be done about: the library refuses what is right.
#[derive(Debug, thiserror::Error)]
#[error("a certificate cannot be made: {0}")]
pub struct Failed(#[from] rcgen::Error);

/// `name` is what people see who look at the certificate.
pub fn make(name: &str, now: SystemTime) -> Result<Made, Failed> {
    let key = KeyPair::generate()?;
    let mut params = of_authority(name)?;
    valid(&mut params, now, AUTHORITY_DAYS);
    Ok(Made { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// Whoever has its key signs for hosts.
pub struct Authority {
    name: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
    /// Of all hosts; made with the first certificate.
    host_key: OnceLock<KeyPair>,
}

impl Authority {
    /// With the name that its certificate was made with.
    pub fn read(name: &str, key: &str) -> Result<Self, Failed> {
        let issuer = Issuer::new(of_authority(name)?, KeyPair::from_pem(key)?);
        Ok(Self { name: name.to_owned(), key: key.to_owned(), issuer, host_key: OnceLock::new() })
    }

    /// Whether reading these would give the same one.
    pub fn is(&self, name: &str, key: &str) -> bool {
        self.name == name && self.key == key
    }

    /// A host's certificate and its key, both in DER.
    pub fn sign(&self, host: &HostName, now: SystemTime) -> Result<(Vec<u8>, Vec<u8>), Failed> {
        let mut params = CertificateParams::new(vec![host.to_string()])?;
        params.distinguished_name = named(host.as_str());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        valid(&mut params, now, HOST_DAYS);
        let host_key = self.host_key()?;
        let certificate = params.signed_by(host_key, &self.issuer)?;
        Ok((certificate.der().to_vec(), host_key.serialize_der()))
    }

    fn host_key(&self) -> Result<&KeyPair, Failed> {
        if let Some(key) = self.host_key.get() {
            return Ok(key);
        }
        let made = KeyPair::generate()?;
        Ok(self.host_key.get_or_init(|| made))
    }
}

fn of_authority(name: &str) -> Result<CertificateParams, Failed> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    // Longer than 64 characters is no common name (RFC 5280, appendix A); the subject's alternative name counts anyway.
    all.push(DnType::CommonName, name.get(..64).unwrap_or(name));
    all
}

fn valid(params: &mut CertificateParams, now: SystemTime, days: u32) {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since.saturating_sub(BEFORE);
    params.not_after = epoch + since + DAY * days;
}
