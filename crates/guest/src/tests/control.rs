use super::*;
use crate::control::{self, CONNECT, RELAY, STRANGERS_MAX};
use crate::descriptors::{self, Sender};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream as StdUnixStream};
use std::time::Duration;
use tokio::io::AsyncReadExt;

const PATIENCE: Duration = Duration::from_secs(60);

/// Connects, and gives the guest its turn.
async fn connect(name: &str) -> UnixStream {
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let stream = StdUnixStream::connect_addr(&address).unwrap();
    stream.set_nonblocking(true).unwrap();
    tokio::task::yield_now().await;
    UnixStream::from_std(stream).unwrap()
}

/// What the guest says; nothing when it turns the peer away.
async fn answer(stream: &mut UnixStream) -> Option<u8> {
    let read = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
    read.expect("the guest neither answers nor hangs up").ok()
}

#[test]
fn strangers_are_counted_and_one_more_is_turned_away() {
    with_guest(|bench| async move {
        let name = format!("rexec/test-{}", WorkspaceId::new());
        tokio::task::spawn_local(control::listen(
            crate::routes::handler(bench.guest.clone()),
            control::bind(&name).unwrap(),
        ));
        let mut silent = Vec::new();
        for _ in 0..STRANGERS_MAX {
            silent.push(connect(&name).await);
        }
        assert_eq!(answer(&mut connect(&name).await).await, None);
        // It was turned away, and not given up on after a while as all who came before it will be.
        let first = silent[0].try_read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(first, Err(std::io::ErrorKind::WouldBlock));
        if !rustix::process::geteuid().is_root() {
            return;
        }
        // A place that becomes free is the next one's: root is listened to again.
        silent.pop();
        let taken = async {
            loop {
                let mut peer = connect(&name).await;
                // Fails when it was turned away already.
                let _ = descriptors::send(&peer, &[CONNECT], &[], Sender::Named);
                if let Some(word) = answer(&mut peer).await {
                    return word;
                }
            }
        };
        assert_eq!(tokio::time::timeout(PATIENCE, taken).await.expect("no place became free"), RELAY);
    });
}
