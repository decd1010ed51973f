//! The engine of the first host and what it takes to be let in, in the words of Docker's own tools: `DOCKER_HOST`,
//! `DOCKER_TLS_VERIFY`, `DOCKER_CERT_PATH`; and for SSH `SSH_PRIVATE_KEY` and `DOCKER_SSH_HOST_KEY`.
//!
//! Invariant: no engine of another machine is driven over a connection that somebody else could read or take part in.

use super::sources::Reader;
use crate::hosts::certs_volume;
use rexec_engine::docker::{
    Address, AddressError, Endpoint, KnownHost, PrivateKey, SshMaterial, TlsFault, TlsMaterial,
};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A certificate's file is some kilobytes, a chain of them some more.
const PEM_BYTES_MAX: u64 = 1024 * 1024;
const NO_NETWORK: &str = "DOCKER_HOST names no engine on the network";

/// Where the engine is, and what lets us in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// Absent: the first of the usual sockets.
    pub endpoint: Option<Endpoint>,
    pub tls: Option<TlsMaterial>,
    /// Where what is needed for TLS was read.
    pub certificates: Option<PathBuf>,
    /// The volume on which that lies, where it was named.
    pub certs_volume: Option<String>,
    pub ssh: Option<SshMaterial>,
}

pub(super) fn take(reader: &mut Reader) -> Access {
    let host = reader.text(&["DOCKER_HOST"]);
    // Docker's tools take any value for yes.
    let verify = reader.text(&["DOCKER_TLS_VERIFY"]).is_some();
    let certificates = reader.text(&["DOCKER_CERT_PATH"]).map(|(_, path)| PathBuf::from(path));
    let key = reader.text(&["SSH_PRIVATE_KEY"]).map(|(_, text)| text);
    let known = reader.text(&["DOCKER_SSH_HOST_KEY"]).map(|(_, text)| text);
    let certs_volume = reader.text(&["DIND_CERTS_VOLUME"]).map(|(_, name)| name);
    if certs_volume.as_deref().is_some_and(|name| !certs_volume::is_name(name)) {
        reader.fault(
            "DIND_CERTS_VOLUME",
            "is no name of a volume: letters, digits, `_`, `.` and `-`, the first of the former two",
        );
    }
    let unused = |reader: &mut Reader, tls: Option<&str>, ssh: Option<&str>| {
        let given = [
            ("DOCKER_TLS_VERIFY", verify, tls),
            ("DOCKER_CERT_PATH", certificates.is_some(), tls),
            ("DIND_CERTS_VOLUME", certs_volume.is_some(), tls),
            ("SSH_PRIVATE_KEY", key.is_some(), ssh),
            ("DOCKER_SSH_HOST_KEY", known.is_some(), ssh),
        ];
        for (name, is_given, why) in given {
            if let Some(why) = why.filter(|_| is_given) {
                reader.notice(format!("{name} is accepted and not used: {why}."));
            }
        }
    };
    let Some((name, text)) = host else {
        unused(reader, Some(NO_NETWORK), Some(NO_NETWORK));
        return Access::default();
    };
    let endpoint = match Endpoint::parse(&text) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            reader.fault(&name, &format!("cannot be read: {error}"));
            return Access::default();
        }
    };
    match &endpoint {
        Endpoint::Unix(_) => {
            unused(reader, Some(NO_NETWORK), Some(NO_NETWORK));
            Access { endpoint: Some(endpoint), ..Access::default() }
        }
        Endpoint::Tcp { .. } => {
            let no_ssh = Some("DOCKER_HOST names an engine that is reached by TCP");
            match verify {
                true => unused(reader, None, no_ssh),
                false => {
                    unused(reader, Some("DOCKER_TLS_VERIFY is not set, and this machine is reached without"), no_ssh)
                }
            }
            let home = || reader.ambient("HOME").map(|home| Path::new(&home).join(".docker"));
            let certificates = certificates.or_else(home).filter(|_| verify);
            let tls = verify.then(|| material(reader, certificates.as_deref())).flatten();
            if !verify && !endpoint.is_local() {
                reader.fault(
                    &name,
                    "names an engine on another machine without TLS, which would give root there to whoever is on the way; set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, or use ssh://",
                );
            }
            if let Some(Err(AddressError::Tls(fault))) =
                tls.as_ref().map(|tls| Address::new(&endpoint, Some(tls), None))
            {
                let file = match fault {
                    TlsFault::Ca => "ca.pem",
                    TlsFault::Certificate | TlsFault::Expired => "cert.pem",
                    TlsFault::Key | TlsFault::EncryptedKey | TlsFault::OtherKey => "key.pem",
                    TlsFault::Name => "",
                };
                match file {
                    "" => reader.fault(&name, &format!("cannot be used with TLS: {fault}")),
                    file => reader.fault("DOCKER_CERT_PATH", &format!("has a {file} that cannot be used: {fault}")),
                }
            }
            Access { endpoint: Some(endpoint), tls, certificates, certs_volume, ssh: None }
        }
        Endpoint::Ssh { .. } => {
            unused(reader, Some("DOCKER_HOST names an engine that is reached by SSH"), None);
            let ssh = ssh(reader, key.as_deref(), known.as_deref());
            Access { endpoint: Some(endpoint), ssh, ..Access::default() }
        }
    }
}

fn ssh(reader: &mut Reader, key: Option<&str>, known: Option<&str>) -> Option<SshMaterial> {
    let known = match known.map(KnownHost::parse).transpose() {
        Ok(known) => known,
        Err(error) => {
            reader.fault("DOCKER_SSH_HOST_KEY", &format!("cannot be read: {error}"));
            None
        }
    };
    let Some(key) = key else {
        reader
            .fault("SSH_PRIVATE_KEY", "is missing: an engine at ssh://... needs the private key to log in there with");
        return None;
    };
    match PrivateKey::read(key) {
        Ok(key) => Some(SshMaterial { key, known }),
        Err(error) => {
            reader.fault("SSH_PRIVATE_KEY", &format!("cannot be used: {error}"));
            None
        }
    }
}

/// The three files that Docker's tools look for.
fn material(reader: &mut Reader, directory: Option<&Path>) -> Option<TlsMaterial> {
    let Some(directory) = directory else {
        reader.fault("DOCKER_CERT_PATH", "is missing: it names the directory with ca.pem, cert.pem and key.pem");
        return None;
    };
    let mut read = |file: &str| match read_file(&directory.join(file)) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let path = directory.join(file);
            reader.fault("DOCKER_CERT_PATH", &format!("must hold {file}; {} cannot be read: {error}", path.display()));
            None
        }
    };
    let (ca, certificate, key) = (read("ca.pem"), read("cert.pem"), read("key.pem"));
    Some(TlsMaterial { ca: ca?, certificate: certificate?, key: key?, name: None })
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(PEM_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};
    use rexec_engine::contract::remote::{Authority, Issued, When};

    fn config(more: &[(&str, &str)]) -> Result<Config, String> {
        let base = [("HOME", "/nowhere"), ("REXEC_DATA_DIR", "/nowhere/data")];
        let sources = Sources::from_env(base.iter().chain(more).copied());
        Config::from_sources(&sources).map_err(|error| error.0.join("\n"))
    }

    fn faults(more: &[(&str, &str)], wanted: &[&str]) {
        let told = config(more).expect_err("it is refused");
        for wanted in wanted {
            assert!(told.contains(wanted), "{wanted}: {told}");
        }
        assert_eq!(told.lines().count(), wanted.len(), "{told}");
    }

    fn directory(ca: &Authority, client: &Issued) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [("ca.pem", ca.pem()), ("cert.pem", &client.certificate), ("key.pem", &client.key)] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        dir
    }

    #[test]
    fn engines_on_the_network_are_read() {
        let ca = Authority::new("ca");
        let dir = directory(&ca, &ca.issue(&[], When::Now));
        let path = dir.path().to_str().unwrap();
        let remote = ("DOCKER_HOST", "tcp://10.0.0.7:2376");
        let (verify, certificates) = (("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", path));
        let read = config(&[remote, verify, certificates]).unwrap();
        assert!(matches!(read.engine.access, Access { tls: Some(_), ssh: None, .. }), "{:?}", read.engine.access);
        let volume = ("DIND_CERTS_VOLUME", "x_dind-certs");
        let read = config(&[remote, verify, certificates, volume]).unwrap();
        assert_eq!(read.engine.access.certs_volume.as_deref(), Some("x_dind-certs"));
        faults(
            &[remote, verify, certificates, ("DIND_CERTS_VOLUME", "../x")],
            &["DIND_CERTS_VOLUME is no name of a volume"],
        );

        faults(&[remote], &["DOCKER_HOST names an engine on another machine without TLS"]);
        faults(&[remote, certificates], &["DOCKER_HOST names an engine on another machine without TLS"]);
        let missing = ("DOCKER_CERT_PATH", "/nowhere/certs");
        faults(&[remote, verify, missing], &["must hold ca.pem", "must hold cert.pem", "must hold key.pem"]);
        // Docker's own default.
        faults(
            &[remote, verify],
            &["/nowhere/.docker/ca.pem", "/nowhere/.docker/cert.pem", "/nowhere/.docker/key.pem"],
        );
        let old = directory(&ca, &ca.issue(&[], When::Before));
        let old = ("DOCKER_CERT_PATH", old.path().to_str().unwrap());
        faults(&[remote, verify, old], &["has a cert.pem that cannot be used: the certificate has expired"]);
        let read = config(&[("DOCKER_HOST", "tcp://127.0.0.1:2375")]).unwrap();
        assert!(matches!(read.engine.access, Access { endpoint: Some(_), tls: None, ssh: None, .. }));
    }

    #[test]
    fn engines_behind_ssh_are_read() {
        let key = rexec_ssh::HostKey::generate();
        let (secret, public) = (key.secret().unwrap(), key.public());
        let remote = ("DOCKER_HOST", "ssh://rexec@vps.example");
        for text in [secret.clone(), secret.replace('\n', "\\n")] {
            let read = config(&[remote, ("SSH_PRIVATE_KEY", &text)]).unwrap();
            let Some(ssh) = &read.engine.access.ssh else { panic!("{:?}", read.engine.access) };
            assert_eq!((&ssh.key.public(), &ssh.known), (&public, &None));
            assert!(!format!("{read:?}").contains(secret.lines().nth(1).unwrap()), "a secret is shown");
        }
        let known = public.fingerprint();
        let read = config(&[remote, ("SSH_PRIVATE_KEY", &secret), ("DOCKER_SSH_HOST_KEY", &known)]).unwrap();
        let Some(ssh) = &read.engine.access.ssh else { panic!("{:?}", read.engine.access) };
        assert!(ssh.known.as_ref().unwrap().is(&public));

        faults(&[remote], &["SSH_PRIVATE_KEY is missing"]);
        let cut = secret.replace("-----END", "");
        faults(&[remote, ("SSH_PRIVATE_KEY", &cut)], &["SSH_PRIVATE_KEY cannot be used: it has no -----END line"]);
        faults(
            &[remote, ("SSH_PRIVATE_KEY", "nonsense"), ("DOCKER_SSH_HOST_KEY", "nonsense")],
            &["DOCKER_SSH_HOST_KEY cannot be read", "SSH_PRIVATE_KEY cannot be used: it is no private key"],
        );
        faults(&[("DOCKER_HOST", "ssh://vps.example"), ("SSH_PRIVATE_KEY", &secret)], &["write ssh://USER@HOST"]);
    }

    #[test]
    fn what_is_not_needed_is_said() {
        let given = [
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_CERT_PATH", "/x"),
            ("SSH_PRIVATE_KEY", "x"),
            ("DIND_CERTS_VOLUME", "x"),
        ];
        let local = [&given[..], &[("DOCKER_HOST", "unix:///var/run/docker.sock")]].concat();
        for given in [&given[..], &local] {
            let notices = config(given).unwrap().notices;
            assert_eq!(notices.iter().filter(|notice| notice.contains("not used")).count(), 4, "{notices:?}");
        }
    }
}
