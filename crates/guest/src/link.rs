//! Dialling the server where server and engine share a machine.
//!
//! The server listens in a directory that is mounted read-only; the guest connects, proves itself
//! by the workspace's key and serves. The link is made again for ever: at once after it ended,
//! whenever something appears in the directory, and on a bounded back-off besides.

use crate::descriptors::watched;
use crate::guest::Guest;
use crate::routes;
use rexec_api::guest::{DIAL_MOUNT, DIAL_PREFACE, DIAL_SOCKET, KEY_BYTES, KEY_VARIABLE, LANE_PREFACE};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A link that lived shorter than this was refused rather than lost.
const LIFE_MIN: Duration = Duration::from_secs(1);
/// Bytes of directory events taken at once; what they say does not matter.
const EVENT_BYTES: usize = 4096;

/// The workspace's key.
pub struct Key([u8; KEY_BYTES]);

impl Key {
    /// `None` unless it is exactly as many hexadecimal digits as it should be.
    pub fn parse(hex: &str) -> Option<Self> {
        let hex = hex.as_bytes();
        if hex.len() != 2 * KEY_BYTES {
            return None;
        }
        let digit = |byte: u8| (byte as char).to_digit(16);
        let mut key = [0; KEY_BYTES];
        for (byte, pair) in key.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
        }
        Some(Self(key))
    }
}

/// The way to the server, and the proof that it asks for.
pub struct Dialler {
    socket: PathBuf,
    key: Key,
}

impl Dialler {
    async fn link(&self) -> io::Result<UnixStream> {
        self.dial(DIAL_PREFACE, &[]).await
    }

    /// A connection for one stream that the server has named.
    pub async fn lane(&self, lane: Uuid) -> io::Result<std::os::unix::net::UnixStream> {
        self.dial(LANE_PREFACE, lane.as_bytes()).await?.into_std()
    }

    async fn dial(&self, preface: &[u8], name: &[u8]) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(&[preface, &self.key.0, name].concat()).await?;
        Ok(stream)
    }
}

/// Keeps a link to the server in [`DIAL_MOUNT`], when there is such a directory.
pub async fn keep(guest: Rc<Guest>, key: Option<Key>) {
    let directory = Path::new(DIAL_MOUNT);
    if !directory.is_dir() {
        return;
    }
    match key {
        Some(key) => keep_in(guest, directory, key).await,
        None => eprintln!("rexec-guest: {KEY_VARIABLE} is not a key: the server is not dialled"),
    }
}

async fn keep_in(guest: Rc<Guest>, directory: &Path, key: Key) {
    let dialler = Rc::new(Dialler { socket: directory.join(DIAL_SOCKET), key });
    let news = watch(directory);
    let mut backoff = BACKOFF_MIN;
    loop {
        let began = Instant::now();
        if let Ok(stream) = dialler.link().await {
            routes::serve(guest.clone(), stream, Some(dialler.clone())).await;
            if began.elapsed() >= LIFE_MIN {
                backoff = BACKOFF_MIN;
                continue;
            }
        }
        match timeout(backoff, something_new(news.as_ref())).await {
            // The server binds first and listens then: the next try may still be too early.
            Ok(()) => backoff = BACKOFF_MIN,
            Err(_) => backoff = (backoff * 2).min(BACKOFF_MAX),
        }
    }
}

/// Without it (no inotify left) the back-off alone finds the server.
fn watch(directory: &Path) -> Option<AsyncFd<OwnedFd>> {
    let news = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
    inotify::add_watch(&news, directory, WatchFlags::CREATE | WatchFlags::MOVED_TO).ok()?;
    watched(news).ok()
}

async fn something_new(news: Option<&AsyncFd<OwnedFd>>) {
    let Some(news) = news else {
        return std::future::pending().await;
    };
    let Ok(mut ready) = news.readable().await else {
        return std::future::pending().await;
    };
    let mut events = [0; EVENT_BYTES];
    while rustix::io::read(news, &mut events).is_ok_and(|count| count > 0) {}
    ready.clear_ready();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rexec_channel::GuestClient;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;
    use tokio::task::LocalSet;

    #[test]
    fn a_key_is_64_hexadecimal_digits() {
        assert_eq!(Key::parse(&"0aF".repeat(22)[..64]).unwrap().0[..2], [0x0a, 0xf0]);
        for bad in ["", "00", &"zz".repeat(32), &"0".repeat(65), &"ä".repeat(32)] {
            assert!(Key::parse(bad).is_none());
        }
    }

    async fn server(directory: &Path) -> (GuestClient, tokio::task::JoinHandle<()>) {
        let listener = UnixListener::bind(directory.join(DIAL_SOCKET)).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut greeting = [0; DIAL_PREFACE.len() + KEY_BYTES];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting[..8], *DIAL_PREFACE);
        assert_eq!(greeting[8..], [0xab; KEY_BYTES]);
        let (client, driver) = GuestClient::connect(stream).await.unwrap();
        (client, tokio::task::spawn_local(driver))
    }

    #[tokio::test]
    async fn a_lane_is_introduced() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join(DIAL_SOCKET);
        let listener = UnixListener::bind(&socket).unwrap();
        let dialler = Dialler { socket, key: Key::parse(&"ab".repeat(KEY_BYTES)).unwrap() };
        let name = Uuid::new_v4();
        let (lane, accepted) = tokio::join!(dialler.lane(name), listener.accept());
        drop(lane.unwrap());
        let mut said = Vec::new();
        accepted.unwrap().0.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, [LANE_PREFACE.as_slice(), &[0xab; KEY_BYTES], name.as_bytes()].concat());
    }

    #[tokio::test]
    async fn the_link_comes_back_with_every_new_server() {
        let directory = tempfile::tempdir().unwrap();
        LocalSet::new()
            .run_until(async {
                let guest = Rc::new(Guest::new(crate::process::Reaper::new()));
                let path = directory.path().to_owned();
                let key = Key::parse(&"ab".repeat(KEY_BYTES)).unwrap();
                let keeper = tokio::task::spawn_local(async move {
                    keep_in(guest, &path, key).await;
                });
                for _ in 0..3 {
                    let (client, driver) = server(directory.path()).await;
                    assert!(!client.hello().await.unwrap().configured);
                    driver.abort();
                    std::fs::remove_file(directory.path().join(DIAL_SOCKET)).unwrap();
                }
                keeper.abort();
            })
            .await;
    }
}
