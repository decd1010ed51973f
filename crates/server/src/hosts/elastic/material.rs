//! Certificates of one machine, and the script that it begins with.
//!
//! Each machine has an authority of its own, whose key is thrown away once it has signed two certificates: the machine's, for
//! its name, and ours. So there is nothing to fetch from the machine, its address need not be known before it is there, and
//! what one machine has opens no other. The machine is given the authority's certificate and its own with the key, by
//! `user_data`, which whoever has the project's token can read; ours never leaves this server.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// From a day before, for clocks that are wrong, to longer than a machine lives.
const BEFORE: Duration = Duration::from_secs(24 * 3600);
const VALID: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
/// Ends a document within the script; no PEM has it.
const END: &str = "END-OF-PEM";

#[derive(Clone, Serialize, Deserialize)]
pub struct Material {
    pub ca: String,
    pub server_certificate: String,
    pub server_key: String,
    pub client_certificate: String,
    pub client_key: String,
}

impl Material {
    /// For a machine of this name.
    pub fn new(name: &str) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = of_name(Vec::new(), &format!("{name} authority"))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let issue = |names: Vec<String>, subject: &str, usage| {
            let key = KeyPair::generate()?;
            let mut params = of_name(names, subject)?;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![usage];
            params.use_authority_key_identifier_extension = true;
            Ok::<_, rcgen::Error>((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
        };
        let (server_certificate, server_key) = issue(vec![name.to_owned()], name, ExtendedKeyUsagePurpose::ServerAuth)?;
        let (client_certificate, client_key) = issue(Vec::new(), "rexec", ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(Self { ca, server_certificate, server_key, client_certificate, client_key })
    }

    /// What the machine runs at its first start: its certificates are put where the engine has them, and then the
    /// operator's script, which finds them there. Its variables are those of `deploy/hetzner`'s script.
    pub fn first_script(&self, name: &str, platform_ip: Option<&str>, script: &str) -> String {
        let file = |file: &str, text: &str| format!("cat > \"$certs/{file}\" <<'{END}'\n{}\n{END}\n", text.trim_end());
        let files = [
            file("ca.pem", &self.ca),
            file("server-cert.pem", &self.server_certificate),
            file("server-key.pem", &self.server_key),
            // Has the script leave them as they are.
            file("given", "by Rexec"),
        ]
        .concat();
        let platform = platform_ip.map(|ip| format!("export PLATFORM_SERVER_IP={ip}\n")).unwrap_or_default();
        format!(
            "#!/bin/bash\nset -eu\n# Made by Rexec for this machine alone.\n\
             certs=${{DOCKER_CERTS_DIR:-/etc/docker/certs}}\nmkdir -p \"$certs\"\nchmod 700 \"$certs\"\n\
             (umask 077\n{files})\nexport SERVER_NAME={name} DOCKER_CERTS_DIR=\"$certs\"\n{platform}\
             script=$(mktemp)\ncat > \"$script\" <<'END-OF-SCRIPT'\n{}\nEND-OF-SCRIPT\nchmod 700 \"$script\"\nexec \"$script\"\n",
            script.trim_end()
        )
    }
}

fn of_name(names: Vec<String>, subject: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - BEFORE).into(), (now + VALID).into());
    Ok(params)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_script_puts_certificates_that_are_good_and_runs_the_operators() {
        let material = Material::new("rexec-fsn1-0a").unwrap();
        let script = material.first_script(
            "rexec-fsn1-0a",
            Some("10.0.1.1"),
            "#!/bin/sh\necho $SERVER_NAME $PLATFORM_SERVER_IP \"$0\" '$x'\n",
        );
        assert!(script.len() < 8 * 1024, "{} bytes", script.len());
        assert!(!script.contains(material.client_key.trim()), "ours stays here");
        let dir = tempfile::tempdir().unwrap();
        let (path, certs) = (dir.path().join("user_data"), dir.path().join("certs"));
        std::fs::write(&path, &script).unwrap();
        let ran =
            Command::new("bash").arg(&path).env("DOCKER_CERTS_DIR", &certs).env("TMPDIR", dir.path()).output().unwrap();
        let told = String::from_utf8(ran.stdout).unwrap();
        assert!(
            ran.status.success() && told.starts_with("rexec-fsn1-0a 10.0.1.1 /") && told.ends_with(" $x\n"),
            "{told}"
        );
        let file = |name: &str| certs.join(name).display().to_string();
        let client = dir.path().join("client.pem");
        std::fs::write(&client, &material.client_certificate).unwrap();
        let (ca, server) = (file("ca.pem"), file("server-cert.pem"));
        for args in [
            ["-purpose", "sslserver", "-verify_hostname", "rexec-fsn1-0a", &server].as_slice(),
            &["-purpose", "sslclient", client.to_str().unwrap()],
        ] {
            let told = Command::new("openssl").args(["verify", "-x509_strict", "-CAfile", &ca]).args(args).output();
            let told = told.unwrap();
            assert!(told.status.success(), "{args:?}: {}", String::from_utf8_lossy(&told.stderr));
        }
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(certs.join("server-key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
