//! Puts the guest, and the gateway beside it, where workspaces find it: one read-only volume per host, versions side by side,
//! a symlink `current` naming the newest.
//!
//! The volume is filled through the archive upload into a container that is created and never
//! started, of an image with nothing in it: so it works with any engine that can be reached, and
//! no image has to be had. The same container proves whether the engine sees our file system,
//! which is what the dial-in needs.
//!
//! Invariant: a version's folder is never changed once it is whole; running workspaces keep theirs.

use super::Host;
use bytes::Bytes;
use futures_util::StreamExt;
use rexec_api::guest::{DIAL_MOUNT, MOUNT};
use rexec_engine::{ContainerSpec, Engine, EngineError, Labels, Limits, Mount, Profile, Result};
use std::path::Path;

/// The guest, built for the workspaces' machines.
pub const GUEST: &[u8] = include_bytes!(env!("REXEC_GUEST_PATH"));
/// What it becomes that guards a host.
const GATEWAY: &[u8] = include_bytes!(env!("REXEC_GATEWAY_PATH"));
/// The start of the SHA-256 of both: names their version in the volume.
pub const GUEST_HASH: &str = env!("REXEC_GUEST_HASH");
/// The volume's name on every host.
pub const VOLUME: &str = "rexec-guest";
/// An image with nothing in it, on every prepared host.
pub const EMPTY_IMAGE: &str = "rexec/empty:1";
/// What the names of our helpers begin with.
const HELPER: &str = "rexec-delivery-";
const NONCE_FILE: &str = "nonce";
/// In a version's folder, written after all else there: the version's hash.
const HASH_FILE: &str = "hash";
/// The longest archive read back here; a path that holds more is not what was put there.
const READ_BACK_BYTES_MAX: usize = 64 * 1024;

/// This build's guest where the volume is mounted, below `place`, whatever `current` names: another server may have
/// delivered another.
pub fn program(place: &str) -> String {
    format!("{place}{MOUNT}/v-{GUEST_HASH}/guest")
}

/// What delivering found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The engine sees the dial directory: workspaces on it can dial in.
    pub sees_dial_dir: bool,
}

/// Makes sure that the host has this build's guest. `dial_root` is offered to the engine as a test.
pub async fn deliver(host: &Host, dial_root: Option<&Path>) -> Result<Delivered> {
    let engine = &*host.engine;
    if engine.image(EMPTY_IMAGE).await?.is_none() {
        engine.import_image(EMPTY_IMAGE, empty_tar()).await?;
    }
    // The volume outlives every server, so it carries no instance label.
    engine.volume_create(VOLUME, &Labels::from([("rexec.guest".into(), "1".into())]), None).await?;
    remove_leftovers(engine, &host.labels()).await?;
    let (helper, with_dial) = create_helper(engine, &host.labels_to_give(), dial_root).await?;
    // Hosts share the directory, and may be prepared at once.
    let nonce_file = format!("{NONCE_FILE}-{}", host.id);
    let done = fill(engine, &helper, dial_root.filter(|_| with_dial), &nonce_file).await;
    engine.remove(&helper).await?;
    done
}

/// A server that died while it delivered left its helper behind. Another server's, taken away at
/// work, makes that one begin again.
async fn remove_leftovers(engine: &dyn Engine, labels: &Labels) -> Result<()> {
    for container in engine.containers(labels).await? {
        if container.name.starts_with(HELPER) {
            engine.remove(&container.id).await?;
        }
    }
    Ok(())
}

async fn create_helper(engine: &dyn Engine, labels: &Labels, dial_root: Option<&Path>) -> Result<(String, bool)> {
    let volume = || Mount { volume: VOLUME.into(), path: MOUNT.into(), read_only: false, labels: Labels::new() };
    let spec = |dial_dir| ContainerSpec { mounts: vec![volume()], dial_dir, ..never_started(labels, EMPTY_IMAGE) };
    if let Some(root) = dial_root.and_then(Path::to_str) {
        match engine.create(&spec(Some((root.to_owned(), DIAL_MOUNT.to_owned())))).await {
            Ok(id) => return Ok((id, true)),
            // The engine's machine has no such directory: it is another machine.
            Err(EngineError::Refused(_) | EngineError::NotFound(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok((engine.create(&spec(None)).await?, false))
}

fn never_started(labels: &Labels, image: &str) -> ContainerSpec {
    ContainerSpec {
        name: format!("{HELPER}{}", uuid::Uuid::new_v4().simple()),
        hostname: "delivery".into(),
        image: image.into(),
        command: vec!["/never-started".into()],
        env: Vec::new(),
        labels: labels.clone(),
        network: "none".into(),
        runtime: None,
        profile: Profile::Usual,
        limits: Limits { cpu: 0.1, memory_bytes: 32 << 20, pids: 8 },
        mounts: Vec::new(),
        root_bytes: None,
        address: None,
        dial_dir: None,
    }
}

/// A file's content in an image, by a container that is never started.
pub(super) async fn file_of_image(host: &Host, image: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let container = host.engine.create(&never_started(&host.labels_to_give(), image)).await?;
    let read = read_file(&*host.engine, &container, path).await;
    host.engine.remove(&container).await?;
    read
}

async fn fill(engine: &dyn Engine, helper: &str, dial_root: Option<&Path>, nonce_file: &str) -> Result<Delivered> {
    let version = format!("v-{GUEST_HASH}");
    // Through the link, which some engines do not tell from what it leads to; the file is the last of a version.
    let named = read_file(engine, helper, &format!("{MOUNT}/current/{HASH_FILE}")).await?;
    let there = named.is_some_and(|content| content == GUEST_HASH.as_bytes());
    if !there {
        engine.archive_put(helper, MOUNT, guest_tar(&version)).await?;
    }
    let sees_dial_dir = match dial_root {
        Some(root) => proves_shared(engine, helper, root, nonce_file).await?,
        None => false,
    };
    Ok(Delivered { sees_dial_dir })
}

/// Writes a random file into the dial directory and reads it back through the engine.
async fn proves_shared(engine: &dyn Engine, helper: &str, root: &Path, nonce_file: &str) -> Result<bool> {
    let nonce = uuid::Uuid::new_v4().to_string();
    if let Err(error) = tokio::fs::write(root.join(nonce_file), &nonce).await {
        tracing::warn!(%error, "the dial directory cannot be written; using exec streams");
        return Ok(false);
    }
    let seen = read_file(engine, helper, &format!("{DIAL_MOUNT}/{nonce_file}")).await?;
    Ok(seen.is_some_and(|content| content == nonce.as_bytes()))
}

/// A file's content, or `None` when the path is not there.
async fn read_file(engine: &dyn Engine, container: &str, path: &str) -> Result<Option<Vec<u8>>> {
    let mut stream = match engine.archive_get(container, path).await {
        Ok(stream) => stream,
        Err(EngineError::NotFound(_)) => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() > READ_BACK_BYTES_MAX {
            return Ok(None);
        }
    }
    let broken = |e: std::io::Error| EngineError::Protocol(format!("archive of {path}: {e}"));
    let mut archive = tar::Archive::new(bytes.as_slice());
    let Some(entry) = archive.entries().map_err(broken)?.next() else { return Ok(None) };
    let mut entry = entry.map_err(broken)?;
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut entry, &mut content).map_err(broken)?;
    Ok(Some(content))
}

fn empty_tar() -> Bytes {
    // Two zero blocks end an archive (POSIX.1-2001, pax interchange format).
    Bytes::from_static(&[0; 1024])
}

/// `v-<hash>/guest`, `v-<hash>/gateway`, `v-<hash>/bin/sudo` (the guest under another name), `v-<hash>/hash` and `current`.
fn guest_tar(version: &str) -> Bytes {
    let mut tar = tar::Builder::new(Vec::with_capacity(GUEST.len() + GATEWAY.len() + 8 * 1024));
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, link: Option<&str>, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        match link {
            Some(target) => tar.append_link(&mut header, path, target),
            None => tar.append_data(&mut header, path, data),
        }
    };
    let written = add(&format!("{version}/"), tar::EntryType::Directory, 0o755, None, b"")
        .and_then(|()| add(&format!("{version}/bin/"), tar::EntryType::Directory, 0o755, None, b""))
        .and_then(|()| add(&format!("{version}/guest"), tar::EntryType::Regular, 0o755, None, GUEST))
        .and_then(|()| add(&format!("{version}/gateway"), tar::EntryType::Regular, 0o755, None, GATEWAY))
        .and_then(|()| add(&format!("{version}/bin/sudo"), tar::EntryType::Symlink, 0o777, Some("../guest"), b""))
        .and_then(|()| {
            add(&format!("{version}/{HASH_FILE}"), tar::EntryType::Regular, 0o444, None, GUEST_HASH.as_bytes())
        })
        .and_then(|()| add("current", tar::EntryType::Symlink, 0o777, Some(version), b""))
        .and_then(|()| tar.into_inner());
    Bytes::from(written.expect("writing to memory with short paths does not fail"))
}
