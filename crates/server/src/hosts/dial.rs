//! The fast way to a guest on the same machine: it dials a socket of ours.
//!
//! Each workspace has a directory of its own, made by us, mounted read-only into its container.
//! We listen there; nothing in the workspace can replace the socket, and no path that a workspace
//! can write is ever connected to. Whoever dials proves itself by the workspace's key: the
//! directory says which workspace may, the key says that it is root's guest and not a user's program.
//! A connection is the link, or a lane that carries one terminal's frames (`rexec_channel`).

use rexec_api::guest::{DIAL_PREFACE, DIAL_SOCKET, KEY_BYTES, LANE_PREFACE};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use uuid::Uuid;

/// A dialler that has not proved itself by then is dropped.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(2);

/// A workspace's key, shared with its guest.
#[derive(Clone)]
pub struct GuestKey([u8; KEY_BYTES]);

impl GuestKey {
    pub fn generate() -> Self {
        Self(rand::random())
    }

    pub fn from_hex(text: &str) -> Option<Self> {
        let mut key = [0; KEY_BYTES];
        hex::decode_to_slice(text, &mut key).ok()?;
        Some(Self(key))
    }

    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl std::fmt::Debug for GuestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GuestKey(..)")
    }
}

/// Listens in `dir`, which is made if need be. A socket left by an earlier server is replaced.
pub fn listen(dir: &Path) -> io::Result<UnixListener> {
    std::fs::create_dir_all(dir)?;
    // The container's root may be an unprivileged user of ours (user namespaces): others may look.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
    // By the directory's descriptor, because a socket's address holds 107 bytes at most (unix(7)).
    let handle = std::fs::File::open(dir)?;
    let path = Path::new("/proc/self/fd").join(handle.as_raw_fd().to_string()).join(DIAL_SOCKET);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// What a proven dialler wants.
#[derive(Debug)]
pub enum Dialled {
    Link(UnixStream),
    Lane(Uuid, UnixStream),
}

/// Reads what a dialler must say first; an error is its fault or its absence.
pub async fn authenticate(mut stream: UnixStream, key: &GuestKey) -> io::Result<Dialled> {
    let introduction = async {
        let mut said = [0; DIAL_PREFACE.len() + KEY_BYTES];
        stream.read_exact(&mut said).await?;
        let (preface, proof) = said.split_at(DIAL_PREFACE.len());
        let is_known = preface == DIAL_PREFACE || preface == LANE_PREFACE;
        if !is_known || !bool::from(proof.ct_eq(&key.0)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if preface == DIAL_PREFACE {
            return Ok(None);
        }
        let mut lane = [0; size_of::<Uuid>()];
        stream.read_exact(&mut lane).await?;
        Ok(Some(Uuid::from_bytes(lane)))
    };
    let lane: io::Result<_> =
        tokio::time::timeout(PREFACE_TIMEOUT, introduction).await.map_err(|_| io::ErrorKind::TimedOut)?;
    Ok(match lane? {
        None => Dialled::Link(stream),
        Some(lane) => Dialled::Lane(lane, stream),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn dial(said: &[u8], key: &GuestKey) -> io::Result<Dialled> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(said).await.unwrap();
        theirs.shutdown().await.unwrap();
        authenticate(ours, key).await
    }

    #[tokio::test]
    async fn only_the_key_opens() {
        let key = GuestKey::generate();
        let mut said = DIAL_PREFACE.to_vec();
        said.extend_from_slice(&key.0);
        assert!(matches!(dial(&said, &key).await.unwrap(), Dialled::Link(_)));
        let name = Uuid::new_v4();
        let lane = [LANE_PREFACE.as_slice(), &key.0, name.as_bytes()].concat();
        assert!(matches!(dial(&lane, &key).await.unwrap(), Dialled::Lane(named, _) if named == name));
        assert_eq!(dial(&lane[..50], &key).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let other = GuestKey::generate();
        assert_eq!(dial(&said, &other).await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(dial(&said[..20], &key).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        said[0] ^= 1;
        assert_eq!(dial(&said, &key).await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_even_under_a_long_path() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d".repeat(120));
        drop(listen(&dir).unwrap());
        let listener = listen(&dir).unwrap();
        let handle = std::fs::File::open(&dir).unwrap();
        let path = format!("/proc/self/fd/{}/{DIAL_SOCKET}", handle.as_raw_fd());
        let (dialled, accepted) = tokio::join!(UnixStream::connect(path), listener.accept());
        dialled.unwrap();
        accepted.unwrap();
    }
}
