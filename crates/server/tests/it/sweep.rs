//! What the engine's events do not tell is found by the sweep of the host.

use crate::support::Backend;
use crate::support::workspaces::{engine_address, eventually, on_stage_as};
use rexec_client::Lifecycle;
use rexec_engine::{ContainerState, Engine as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// The engine's socket as seen through a proxy that lets no event pass.
async fn without_events(listener: UnixListener, engine: String) {
    while let Ok((client, _)) = listener.accept().await {
        let engine = UnixStream::connect(&engine).await.unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_engine, to_engine) = engine.into_split();
        let mute = Arc::new(AtomicBool::new(false));
        tokio::spawn(pass_requests(from_client, to_engine, mute.clone()));
        tokio::spawn(pass_answers(from_engine, to_client, mute));
    }
}

async fn pass_requests(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mute: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let line = buffer[..n].split(|byte| *byte == b'\r').next().unwrap_or_default();
        if line.starts_with(b"GET ") && line.windows(7).any(|window| window == b"/events") {
            mute.store(true, Ordering::Release);
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Of an answer with events, only the head.
async fn pass_answers(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mute: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut head_passed = false;
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let mut end = n;
        if mute.load(Ordering::Acquire) {
            let head = buffer[..n].windows(4).position(|window| window == b"\r\n\r\n");
            end = if head_passed { 0 } else { head.map_or(n, |at| at + 4) };
            head_passed |= head.is_some();
        }
        if to.write_all(&buffer[..end]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

#[tokio::test]
async fn what_no_event_tells_is_swept_up() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("engine.sock");
    let engine = engine_address();
    let engine = engine.strip_prefix("unix://").expect("an engine on a socket").to_owned();
    assert!(Path::new(&engine).exists());
    let proxy = tokio::spawn(without_events(UnixListener::bind(&socket).unwrap(), engine));
    let address = format!("unix://{}", socket.display());
    let often = |config: &mut rexec_server::config::Config| config.sweep_every = Duration::from_millis(100);
    on_stage_as(Backend::Sqlite, &[("DOCKER_HOST", &address)], often, async |_, stage| {
        let id = stage.workspace().await.id;
        let state = async || stage.containers(id).await.remove(0).state;
        let container = stage.containers(id).await.remove(0).id;

        stage.client.lifecycle(id, Lifecycle::Pause).await.unwrap();
        stage.engine.unpause(&container).await.unwrap();
        eventually("it to be paused again", async || matches!(state().await, ContainerState::Paused).then_some(()))
            .await;

        stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        stage.engine.start(&container).await.unwrap();
        eventually("it to be stopped again", async || {
            matches!(state().await, ContainerState::Exited { .. }).then_some(())
        })
        .await;
        stage
    })
    .await;
    proxy.abort();
}
