//! The workspace's own authority for certificates, as its programs learn of it: those whose requests the gateway reads to put
//! secrets in, or to judge them, must trust it.
//!
//! It is added to the image's own authorities in a file of ours, which the usual variables name; what is there is left as it
//! is. Where an image has no authorities only programs that have their own are told, as nothing else could speak TLS anyway.
//! Programs that were told of the file go on with it when there is no authority any more: it stays, with the image's alone.

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

/// Has programs trust it, or nobody any more; the variables that tell them.
pub fn install(root: &Path, authority: Option<&str>) -> BTreeMap<String, String> {
    let ours = root.join(OURS);
    if authority.is_some() && !ours.exists() && root.join(ETC).is_dir() {
        note(std::fs::create_dir(&ours), &ours);
    }
    let others = BUNDLES.iter().find_map(|path| read(&root.join(path)).ok());
    let bundle = others.map(|others| format!("{}\n{}", others.trim_end(), authority.unwrap_or_default()));
    if authority.is_some() || ours.join(WITH_OTHERS).exists() {
        note(replace(&ours, ALONE, authority.unwrap_or_default()), &ours);
        if let Some(bundle) = &bundle {
            note(replace(&ours, WITH_OTHERS, bundle), &ours);
        }
    }
    put(&root.join(ANCHORS), ANCHOR, authority);
    let named = |names: &[&str], file: &str| {
        let path = format!("/{OURS}/{file}");
        names.iter().map(|name| ((*name).to_owned(), path.clone())).collect::<Vec<_>>()
    };
    let mut all = BTreeMap::new();
    if authority.is_some() {
        all.extend(named(&ADDING, ALONE));
    }
    if authority.is_some() && bundle.is_some() {
        all.extend(named(&REPLACING, WITH_OTHERS));
    }
    all
}

/// A regular file, which a link may lead to, as some distributions have it.
fn read(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = String::new();
    file.take(BUNDLE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > BUNDLE_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

/// As a whole, for whoever reads it just then; what says so already stays as it is.
fn replace(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let (path, new) = (directory.join(name), directory.join(format!("{name}.new")));
    if read(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).open(&new)?;
    file.write_all(text.as_bytes())?;
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
        let variables = install(root.path(), Some("ours\n"));
        assert_eq!(variables["SSL_CERT_FILE"], "/etc/rexec/ca-bundle.pem");
        assert_eq!(variables["NODE_EXTRA_CA_CERTS"], "/etc/rexec/ca.pem");
        assert_eq!(std::fs::read_to_string(at("etc/rexec/ca-bundle.pem")).unwrap(), "theirs\nours\n");
        assert_eq!(std::fs::read_to_string(at("etc/rexec/ca.pem")).unwrap(), "ours\n");
        assert!(at(ANCHORS).join(ANCHOR).exists());
        assert_eq!(std::fs::read_to_string(at(BUNDLES[0])).unwrap(), "theirs\n");
        // Programs that run go on with the file.
        assert!(install(root.path(), None).is_empty());
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
        let names: Vec<String> = install(root.path(), Some("ours")).into_keys().collect();
        assert_eq!(names, ["DENO_CERT", "NODE_EXTRA_CA_CERTS"]);
        assert!(!root.path().join("etc/rexec/ca-bundle.pem").exists());
    }
}
