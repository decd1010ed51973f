//! Both ends over an in-memory pipe: order, bounds, flow control, ends, and hostile peers.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use rexec_api::error::ErrorCode;
use rexec_api::files::{FileInfo, FileKind};
use rexec_api::guest::*;
use rexec_api::ids::TerminalId;
use rexec_channel::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, duplex};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

const PIPE_BYTES: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// What the test guest does with calls.
#[derive(Default)]
struct Guest {
    /// Told when an exec stream ends, with how it ended.
    ended: RefCell<Option<oneshot::Sender<&'static str>>>,
    file: RefCell<Vec<u8>>,
}

fn info(size: usize) -> FileInfo {
    FileInfo {
        name: "ä🦀".into(),
        path: "/ä🦀".into(),
        path_b64: None,
        kind: FileKind::File,
        size: size as u64,
        mode: 0o644,
        uid: 0,
        gid: 0,
        modified_ms: 0,
        target: None,
        etag: "1-2-3".into(),
    }
}

fn content(size: usize) -> FileContent {
    FileContent { info: info(size), part: None }
}

fn refused(code: ErrorCode) -> GuestError {
    GuestError { code, message: "no".into(), number: None }
}

async fn handle(guest: Rc<Guest>, mut call: Call) {
    let path = call.path().to_owned();
    match (call.method().as_str(), path.as_str()) {
        ("GET", "/usage") => call.answer(Ok(Usage::default())).await,
        ("POST", "/configure") => {
            let taken = call.json::<Configure>().await;
            let hello = |c: Configure| Hello {
                protocol: PROTOCOL,
                version: c.env.get("LONG").map(|v| v.len().to_string()).unwrap(),
                boot_id: uuid::Uuid::nil(),
                configured: true,
                machine: None,
            };
            call.answer(taken.map(hello)).await;
        }
        ("POST", "/exec") => {
            let Ok(_) = call.header::<ExecSpec>("x-rexec-exec") else {
                return call.answer::<()>(Err(refused(ErrorCode::InvalidRequest))).await;
            };
            let (mut tx, mut rx) = call.frames().unwrap();
            let how = loop {
                match rx.recv().await {
                    Ok(Some(frame)) => tx.send(frame).await.unwrap(),
                    Ok(None) => break "end",
                    Err(ChannelError::Closed) => break "closed",
                    Err(_) => break "fault",
                }
            };
            if how == "end" {
                tx.finish().unwrap();
            }
            if let Some(ended) = guest.ended.borrow_mut().take() {
                ended.send(how).unwrap();
            }
        }
        ("GET", "/files") if call.query("path").as_deref() == Some("/endless & ä") => {
            let mut body = call.file(&content(0)).unwrap();
            let chunk = Bytes::from(vec![7; 100_000]);
            while body.send(chunk.clone()).await.is_ok() {}
        }
        ("PUT", "/files") if call.query("path").as_deref() == Some("/denied") => {
            call.answer::<()>(Err(refused(ErrorCode::FileDenied))).await;
        }
        ("PUT", "/files") => {
            let (mut body, answer) = call.into_body();
            let mut content = Vec::new();
            while let Ok(Some(bytes)) = body.recv().await {
                content.extend_from_slice(&bytes);
            }
            let size = content.len();
            *guest.file.borrow_mut() = content;
            answer.send(Ok(info(size))).await;
        }
        ("POST", "/dial") => {
            let (mut tx, mut rx) = call.bytes().unwrap();
            while let Ok(Some(bytes)) = rx.recv().await {
                tx.send(bytes).await.unwrap();
            }
            tx.finish().unwrap();
        }
        ("GET", "/files/list") => {
            let mut body = call.file(&content(0)).unwrap();
            for _ in 0..70 {
                body.send(vec![b' '; 100_000].into()).await.unwrap();
            }
            std::future::pending().await
        }
        ("GET", "/ports") => std::future::pending().await,
        _ => call.answer::<()>(Err(refused(ErrorCode::NoSuchRoute))).await,
    }
}

/// Runs `test` with a client that is connected to a guest, and with one that is so through another's connection.
fn with_guest<F: Future<Output = ()>>(test: impl Fn(GuestClient, Rc<Guest>) -> F) {
    for is_relayed in [false, true] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            let (near, far) = duplex(PIPE_BYTES);
            let guest = Rc::new(Guest::default());
            let shared = guest.clone();
            tokio::task::spawn_local(async move { serve(far, move |call| handle(shared.clone(), call)).await });
            let (mut client, driver) = GuestClient::connect(near).await.unwrap();
            tokio::task::spawn_local(driver);
            if is_relayed {
                let (near, far) = duplex(PIPE_BYTES);
                tokio::task::spawn_local(relay(far, client));
                let (relayed, driver) = GuestClient::connect(near).await.unwrap();
                tokio::task::spawn_local(driver);
                client = relayed;
            }
            test(client, guest).await;
        });
    }
}

fn exec_spec() -> ExecSpec {
    ExecSpec { command: vec!["ä\n🦀".into()], cwd: None, env: BTreeMap::new(), user: None }
}

#[test]
fn calls_are_answered_and_refused() {
    with_guest(|client, _| async move {
        assert_eq!(client.usage().await.unwrap().processes, 0);
        match client.remove_terminal(TerminalId::new()).await {
            Err(ChannelError::Guest(error)) => assert_eq!(error.code, ErrorCode::NoSuchRoute),
            other => panic!("{other:?}"),
        }
        // A body far longer than a stream's window and the pipe.
        let configure = Configure {
            workspace: rexec_api::ids::WorkspaceId::new(),
            user: UserSpec::default(),
            env: [("LONG".to_owned(), "x".repeat(1_500_000))].into(),
            account: None,
            sudo: SudoPolicy::Allow,
            entrypoint: None,
            ring_bytes: None,
            scrollback_lines: None,
            gateway: None,
            authority: None,
        };
        assert_eq!(client.configure(&configure).await.unwrap().version, "1500000");
    });
}

#[test]
fn a_body_over_the_limit_is_refused() {
    with_guest(|client, _| async move {
        let configure = Configure {
            workspace: rexec_api::ids::WorkspaceId::new(),
            user: UserSpec::default(),
            env: [("LONG".to_owned(), "x".repeat(REQUEST_BYTES_MAX))].into(),
            account: None,
            sudo: SudoPolicy::Allow,
            entrypoint: None,
            ring_bytes: None,
            scrollback_lines: None,
            gateway: None,
            authority: None,
        };
        match client.configure(&configure).await {
            Err(ChannelError::Guest(error)) => assert_eq!(error.code, ErrorCode::BodyTooLarge),
            other => panic!("{other:?}"),
        }
        assert!(client.usage().await.is_ok());
    });
}

#[test]
fn frames_of_every_size_come_back_in_order() {
    with_guest(|client, _| async move {
        let (mut tx, mut rx) = client.exec(&exec_spec()).await.unwrap();
        let sizes = [0, 1, 3, 4, 5, 255, 16_383, 16_384, 16_385, 65_535, 65_536, 1, 0];
        for round in 0..20u8 {
            let send = async {
                for size in sizes {
                    tx.send(Bytes::from(vec![round; size])).await.unwrap();
                }
            };
            let receive = async {
                for size in sizes {
                    let frame = rx.recv().await.unwrap().unwrap();
                    assert_eq!(frame, vec![round; size]);
                }
            };
            tokio::join!(send, receive);
        }
        tx.finish().unwrap();
        assert!(rx.recv().await.unwrap().is_none());
    });
}

#[test]
fn an_unread_stream_stops_no_other() {
    with_guest(|client, _| async move {
        // Held open, never read: each fills its window and must then wait.
        let mut unread = Vec::new();
        for _ in 0..8 {
            unread.push(client.read_file("/endless & ä", &ReadSpec::default()).await.unwrap());
        }
        let (mut tx, mut rx) = client.exec(&exec_spec()).await.unwrap();
        for n in 0..100u8 {
            tx.send(Bytes::from(vec![n; 50_000])).await.unwrap();
            assert_eq!(rx.recv().await.unwrap().unwrap(), vec![n; 50_000]);
        }
        let (info, body) = &mut unread[0];
        assert_eq!(info.info.name, "ä🦀");
        assert!(body.recv().await.unwrap().is_some());
    });
}

#[test]
fn a_sender_waits_for_its_reader() {
    with_guest(|client, _| async move {
        let (mut tx, mut rx) = client.exec(&exec_spec()).await.unwrap();
        let frame = Bytes::from(vec![1; 60_000]);
        let mut sent = 0;
        // The echo fills one window each way and the buffers between; then nothing moves, however
        // often everything that can run has run.
        let mut idle_rounds = 0;
        while idle_rounds < 1000 {
            match poll_fn(|cx| Poll::Ready(tx.poll_ready(cx))).await {
                Poll::Ready(ready) => {
                    ready.unwrap();
                    tx.start_send(frame.clone()).unwrap();
                    sent += frame.len();
                    idle_rounds = 0;
                    assert!(sent < 4 * 1024 * 1024, "nothing held the sender");
                }
                Poll::Pending => idle_rounds += 1,
            }
            tokio::task::yield_now().await;
        }
        for _ in 0..sent / frame.len() {
            assert_eq!(rx.recv().await.unwrap().unwrap().len(), frame.len());
        }
        tx.send(frame).await.unwrap();
        assert!(rx.recv().await.unwrap().is_some());
    });
}

#[test]
fn a_dropped_sender_is_seen_by_the_guest_and_an_ended_one_too() {
    for (finish, expected) in [(true, "end"), (false, "closed")] {
        with_guest(|client, guest| async move {
            let (ended, seen) = oneshot::channel();
            *guest.ended.borrow_mut() = Some(ended);
            let (tx, rx) = client.exec(&exec_spec()).await.unwrap();
            if finish {
                tx.finish().unwrap();
                assert_eq!(seen.await.unwrap(), expected);
            } else {
                drop((tx, rx));
                assert_eq!(seen.await.unwrap(), expected);
            }
        });
    }
}

#[test]
fn files_go_both_ways_and_refusals_come_early() {
    with_guest(|client, guest| async move {
        let content: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        let mut file = client.write_file("/x y", Some(0o600)).await.unwrap();
        file.send(Bytes::from(content.clone())).await.unwrap();
        assert_eq!(file.finish().await.unwrap().size, content.len() as u64);
        assert_eq!(*guest.file.borrow(), content);

        let mut denied = client.write_file("/denied", None).await.unwrap();
        let error = loop {
            if let Err(error) = denied.send(Bytes::from(vec![0; 100_000])).await {
                break error;
            }
        };
        assert!(matches!(error, ChannelError::Guest(e) if e.code == ErrorCode::FileDenied));
        let denied = client.write_file("/denied", None).await.unwrap();
        let error = denied.finish().await.unwrap_err();
        assert!(matches!(error, ChannelError::Guest(e) if e.code == ErrorCode::FileDenied));
    });
}

#[test]
fn a_dialled_stream_half_closes() {
    with_guest(|client, _| async move {
        let (mut tx, mut rx) = client.dial(&DialSpec::Tcp { port: 1 }).await.unwrap();
        tx.send(Bytes::from_static(b"ping")).await.unwrap();
        tx.finish().unwrap();
        assert_eq!(rx.recv().await.unwrap().unwrap(), "ping");
        assert!(rx.recv().await.unwrap().is_none());
    });
}

#[tokio::test]
async fn garbage_ends_the_connection_on_either_end() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let (near, mut far) = duplex(PIPE_BYTES);
            let served = tokio::task::spawn_local(serve(near, |call| handle(Rc::default(), call)));
            far.write_all(&[0xff; 100]).await.unwrap();
            assert!(served.await.unwrap().is_err());

            let (near, mut far) = duplex(PIPE_BYTES);
            let (client, driver) = GuestClient::connect(near).await.unwrap();
            far.write_all(&[0xff; 100]).await.unwrap();
            driver.await;
            assert!(client.is_closed());
            assert!(client.hello().await.is_err());
        })
        .await;
}

/// A hostile guest, written with h2 directly: it answers an exec with the given bytes.
async fn answered_with(bytes: &'static [u8], end: bool) -> ChannelError {
    let (near, far) = duplex(PIPE_BYTES);
    let guest = tokio::spawn(async move {
        let mut connection = h2::server::handshake(far).await.unwrap();
        let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut body = respond.send_response(http::Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(bytes), end).unwrap();
        while connection.accept().await.is_some() {}
    });
    let (client, driver) = GuestClient::connect(near).await.unwrap();
    let driver = tokio::spawn(driver);
    let (tx, mut rx) = client.exec(&exec_spec()).await.unwrap();
    let error = rx.recv().await.unwrap_err();
    drop((tx, rx, client));
    driver.await.unwrap();
    guest.await.unwrap();
    error
}

#[tokio::test]
async fn lengths_are_checked_before_memory_is_taken() {
    let oversized = answered_with(&[0xff, 0xff, 0xff, 0xff, 0], false).await;
    assert!(matches!(oversized, ChannelError::Protocol(_)));
    let cut = answered_with(&[0, 0, 0, 9, 1, 2], true).await;
    assert!(matches!(cut, ChannelError::Protocol(_)));
    let cut_in_prefix = answered_with(&[0, 0], true).await;
    assert!(matches!(cut_in_prefix, ChannelError::Protocol(_)));
}

#[tokio::test]
async fn a_commands_frame_over_the_limit_is_refused() {
    static OVER: [u8; 4] = (EXEC_FRAME_BYTES_MAX as u32 + 1).to_be_bytes();
    static LONGEST: [u8; 4] = (EXEC_FRAME_BYTES_MAX as u32).to_be_bytes();
    // The stream goes on, so that only the announced length can be the fault.
    let over = tokio::time::timeout(PATIENCE, answered_with(&OVER, false)).await.expect("it waits for more");
    assert!(over.to_string().contains("over the limit"), "{over}");
    // The longest is waited for, until the stream ends without it.
    let longest = answered_with(&LONGEST, true).await;
    assert!(longest.to_string().contains("cut short"), "{longest}");
}

/// The budget is the guest's, not the stream's: four of the longest, and no fifth.
#[tokio::test]
async fn long_frames_of_one_guest_are_bounded_together() {
    let (near, far) = duplex(PIPE_BYTES);
    let guest = tokio::spawn(async move {
        let mut streams = Vec::new();
        let mut connection = h2::server::handshake(far).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            let longest = (SERVER_FRAME_BYTES_MAX as u32).to_be_bytes();
            stream.send_data(Bytes::copy_from_slice(&longest), false).unwrap();
            streams.push((request, stream));
        }
    });
    let (client, driver) = GuestClient::connect(near).await.unwrap();
    let driver = tokio::spawn(driver);
    let spec = AttachSpec { offset: None, mode: AttachMode::View, client: None };
    let mut frames = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (tx, mut rx) = client.attach(TerminalId::new(), &spec).await.unwrap();
        frames.spawn(async move { (rx.recv().await, tx, rx) });
    }
    let (first, ..) = tokio::time::timeout(PATIENCE, frames.join_next()).await.unwrap().unwrap().unwrap();
    assert!(first.unwrap_err().to_string().contains("are taken"));
    frames.shutdown().await;
    drop(client);
    driver.await.unwrap();
    guest.await.unwrap();
}

#[tokio::test]
async fn answers_that_are_not_as_agreed_are_faults() {
    for (status, body) in [(200, "{"), (200, "[]"), (500, "nonsense"), (404, "")] {
        let (near, far) = duplex(PIPE_BYTES);
        let guest = tokio::spawn(async move {
            let mut connection = h2::server::handshake(far).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let answer = http::Response::builder().status(status).body(()).unwrap();
                let mut stream = respond.send_response(answer, false).unwrap();
                stream.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
            }
        });
        let (client, driver) = GuestClient::connect(near).await.unwrap();
        let driver = tokio::spawn(driver);
        let error = client.hello().await.unwrap_err();
        assert!(matches!(error, ChannelError::Protocol(_)), "{status} {body}: {error}");
        drop(client);
        driver.await.unwrap();
        guest.await.unwrap();
    }
}

#[test]
fn answers_without_an_end_share_what_memory_there_is() {
    with_guest(|client, _| async move {
        use futures_util::stream::{FuturesUnordered, StreamExt as _};
        let mut asked: FuturesUnordered<_> = (0..12).map(|_| client.list("/", None, 1)).collect();
        let first = tokio::time::timeout(PATIENCE, asked.next()).await.unwrap().unwrap();
        assert!(matches!(&first, Err(ChannelError::Protocol(why)) if why.contains("are taken")), "{first:?}");
    });
}
