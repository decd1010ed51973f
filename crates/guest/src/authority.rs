//! The workspace's own authority for certificates, as its programs learn of it: those whose requests the gateway reads to put
//! secrets in, or to judge them, must trust it.
//!
//! It is added to the image's own authorities in a file of ours, which the usual variables name; what is there is left as it
//! is. Where an image has no authorities only programs that have their own are told, as nothing else could speak TLS anyway.
//! Programs that were told of the file go on with it when there is no authority any more: it stays, with the image's alone.
//!
//! Java reads no PEM and none of those variables. It has the same certificates as a [`truststore`], and is led there by
//! `JAVA_TOOL_OPTIONS`, which every machine of Java looks at: what is to use a secret is a program of the workspace as often
//! as Maven or Gradle, and what these start (tests, daemons) has no options of theirs. The price is a line that Java says of it at each
//! start, on standard error (`Picked up JAVA_TOOL_OPTIONS`); only workspaces with an authority pay it. What the image or the
//! owner has there stays, and wins where it names a store of its own.

use crate::truststore;
use crate::way_out::{note, put};
use rexec_egress::authority::BUNDLES;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// More than any bundle has.
const BUNDLE_BYTES_MAX: u64 = 4 << 20;
const ETC: &str = "etc";
const OURS: &str = "etc/rexec";
const ALONE: &str = "ca.pem";
const WITH_OTHERS: &str = "ca-bundle.pem";
const FOR_JAVA: &str = "ca-bundle.jks";
const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";
const JAVA_STORE: &str = "-Djavax.net.ssl.trustStore";
/// Where `update-ca-certificates` finds it.
const ANCHORS: &str = "usr/local/share/ca-certificates";
const ANCHOR: &str = "rexec-workspace.crt";
/// Those that add to what a program knows.
const ADDING: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];
/// Those that take its place.
const REPLACING: [&str; 8] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];

/// What tells programs of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub variables: BTreeMap<String, String>,
    java: bool,
}

impl Told {
    /// Once all else is known that programs are given.
    pub fn lead_java(&self, variables: &mut BTreeMap<String, String>) {
        if !self.java {
            return;
        }
        let ours = format!("{JAVA_STORE}=/{OURS}/{FOR_JAVA}");
        let options = match variables.get(JAVA_OPTIONS).map(|options| options.trim()) {
            // A kind or a password is of a store of theirs, too.
            Some(theirs) if theirs.contains(JAVA_STORE) => return,
            Some(theirs) if !theirs.is_empty() => format!("{ours} {theirs}"),
            _ => ours,
        };
        variables.insert(JAVA_OPTIONS.to_owned(), options);
    }
}

/// Has programs trust it, or nobody any more.
pub fn install(root: &Path, authority: Option<&str>) -> Told {
    let ours = root.join(OURS);
    if authority.is_some() && !ours.exists() && root.join(ETC).is_dir() {
        note(std::fs::create_dir(&ours), &ours);
    }
    let others = BUNDLES.iter().find_map(|path| String::from_utf8(read(&root.join(path)).ok()?).ok());
    let bundle = others.map(|others| format!("{}\n{}", others.trim_end(), authority.unwrap_or_default()));
    if authority.is_some() || ours.join(WITH_OTHERS).exists() {
        note(replace(&ours, ALONE, authority.unwrap_or_default().as_bytes()), &ours);
        if let Some(bundle) = &bundle {
            note(replace(&ours, WITH_OTHERS, bundle.as_bytes()), &ours);
            note(replace(&ours, FOR_JAVA, &truststore::of_pem(bundle)), &ours);
        }
    }
    put(&root.join(ANCHORS), ANCHOR, authority);
    let named = |names: &[&str], file: &str| {
        let path = format!("/{OURS}/{file}");
        names.iter().map(|name| ((*name).to_owned(), path.clone())).collect::<Vec<_>>()
    };
    let mut told = Told { java: authority.is_some() && bundle.is_some(), ..Told::default() };
    if authority.is_some() {
        told.variables.extend(named(&ADDING, ALONE));
    }
    if authority.is_some() && bundle.is_some() {
        told.variables.extend(named(&REPLACING, WITH_OTHERS));
    }
    told
}

/// A regular file, which a link may lead to, as some distributions have it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BUNDLE_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// As a whole, for whoever reads it just then; what says so already stays as it is.
fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (path, new) = (directory.join(name), directory.join(format!("{name}.new")));
    if read(&path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).open(&new)?;
    file.write_all(bytes)?;
    std::fs::rename(&new, &path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_is_added_to_what_is_there_and_goes_again() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("etc/ssl/certs")).unwrap();
        std::fs::write(at(BUNDLES[0]), "theirs\n").unwrap();
        std::fs::create_dir_all(at(ANCHORS)).unwrap();
        let told = install(root.path(), Some("ours\n"));
        let variables = &told.variables;
        assert_eq!(variables["SSL_CERT_FILE"], "/etc/rexec/ca-bundle.pem");
        assert_eq!(variables["NODE_EXTRA_CA_CERTS"], "/etc/rexec/ca.pem");
        assert_eq!(std::fs::read_to_string(at("etc/rexec/ca-bundle.pem")).unwrap(), "theirs\nours\n");
        assert_eq!(std::fs::read_to_string(at("etc/rexec/ca.pem")).unwrap(), "ours\n");
        assert!(at(ANCHORS).join(ANCHOR).exists());
        assert_eq!(std::fs::read_to_string(at(BUNDLES[0])).unwrap(), "theirs\n");
        // Programs that run go on with the file.
        assert_eq!(install(root.path(), None), Told::default());
        assert_eq!(std::fs::read_to_string(at("etc/rexec/ca-bundle.pem")).unwrap(), "theirs\n");
        assert!(!at(ANCHORS).join(ANCHOR).exists());
        // Whatever is put there is not written into.
        std::fs::remove_file(at("etc/rexec/ca-bundle.pem")).unwrap();
        std::os::unix::fs::symlink(at(BUNDLES[0]), at("etc/rexec/ca-bundle.pem")).unwrap();
        install(root.path(), Some("ours\n"));
        assert_eq!(std::fs::read_to_string(at(BUNDLES[0])).unwrap(), "theirs\n");
        assert_eq!(std::fs::read_to_string(at("etc/rexec/ca-bundle.pem")).unwrap(), "theirs\nours\n");
    }

    #[test]
    fn without_others_only_what_adds_is_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let told = install(root.path(), Some("ours"));
        let mut variables = told.variables.clone();
        told.lead_java(&mut variables);
        let names: Vec<String> = variables.into_keys().collect();
        assert_eq!(names, ["DENO_CERT", "NODE_EXTRA_CA_CERTS"]);
        assert!(!root.path().join("etc/rexec/ca-bundle.pem").exists());
        assert!(!root.path().join("etc/rexec/ca-bundle.jks").exists());
    }

    #[test]
    fn java_has_the_same_and_is_led_there() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("etc/ssl/certs")).unwrap();
        let made = |name: &str| rexec_egress::authority::make(name, std::time::SystemTime::now()).unwrap().certificate;
        let (theirs, ours) = (made("theirs"), made("ours"));
        std::fs::write(at(BUNDLES[0]), &theirs).unwrap();
        let told = install(root.path(), Some(&ours));
        let store = || std::fs::read(at("etc/rexec/ca-bundle.jks")).unwrap();
        assert_eq!(store(), truststore::of_pem(&format!("{theirs}{ours}")));
        assert_eq!(store()[8..12], [0, 0, 0, 2]);
        let led = |before: Option<&str>| {
            let mut all: BTreeMap<String, String> =
                before.map(|options| (JAVA_OPTIONS.to_owned(), options.to_owned())).into_iter().collect();
            told.lead_java(&mut all);
            all[JAVA_OPTIONS].clone()
        };
        let lead = "-Djavax.net.ssl.trustStore=/etc/rexec/ca-bundle.jks";
        assert_eq!((led(None), led(Some(" "))), (lead.to_owned(), lead.to_owned()));
        assert_eq!(led(Some("-Xmx1g -Da=b")), format!("{lead} -Xmx1g -Da=b"), "what is said later wins");
        for own in ["-Xmx1g -Djavax.net.ssl.trustStore=/own.p12", "-Djavax.net.ssl.trustStorePassword=other"] {
            assert_eq!(led(Some(own)), own);
        }
        // Programs that run go on with the file; the next are not led there.
        let told = install(root.path(), None);
        assert_eq!(store(), truststore::of_pem(&theirs));
        let mut none = BTreeMap::new();
        told.lead_java(&mut none);
        assert!(none.is_empty());
    }
}
