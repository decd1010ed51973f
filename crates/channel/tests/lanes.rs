//! Lanes: a terminal's frames on a connection of their own, with both ends in one process.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use rexec_api::guest::{AttachMode, AttachSpec};
use rexec_api::ids::TerminalId;
use rexec_channel::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use tokio::io::duplex;
use tokio::task::LocalSet;

const PIPE_BYTES: usize = 64 * 1024;

/// What the guest does with an attach.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// Dials and sends back what it gets.
    Echo,
    /// Sends a flood and ends in good order.
    Flood,
    /// As an older guest: knows of no lanes.
    Old,
    /// Says that it dials and does not.
    Absent,
}

const FLOOD_FRAMES: usize = 300;
const FLOOD_BYTES: usize = 60_000;

async fn handle(manner: Manner, lanes: Lanes, call: Call) {
    let lane = call.lane().unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let frames = match manner {
        Manner::Old => call.frames(),
        Manner::Absent => return drop(call.frames_over(far).unwrap()),
        Manner::Echo | Manner::Flood => {
            near.set_nonblocking(true).unwrap();
            lanes.deliver(lane, near);
            call.frames_over(far)
        }
    };
    let (mut sender, mut receiver) = frames.unwrap();
    if manner == Manner::Flood {
        for i in 0..FLOOD_FRAMES {
            sender.send(vec![i as u8; FLOOD_BYTES].into()).await.unwrap();
        }
        return sender.finish().unwrap();
    }
    while let Ok(Some(frame)) = receiver.recv().await {
        if sender.send(frame).await.is_err() {
            return;
        }
    }
    let _ = sender.finish();
}

fn with_guest<F: Future<Output = ()>>(manner: Manner, test: impl FnOnce(GuestClient) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (near, far) = duplex(PIPE_BYTES);
        let lanes = Lanes::default();
        let expecting = lanes.clone();
        tokio::task::spawn_local(async move { serve(far, move |call| handle(manner, lanes.clone(), call)).await });
        let (client, driver) = GuestClient::connect(near).await.unwrap();
        let driver = tokio::task::spawn_local(driver);
        test(client.with_lanes(expecting)).await;
        driver.abort();
    });
}

async fn attach(client: &GuestClient) -> Result<(FrameSender, FrameReceiver)> {
    client.attach(TerminalId::new(), &AttachSpec { offset: None, mode: AttachMode::Control, client: None }).await
}

/// Frames come back as they were, whatever their size, and the end is an end.
async fn echoes(client: GuestClient) {
    let (mut sender, mut receiver) = attach(&client).await.unwrap();
    for length in [0, 1, 15, 1023, 1024, 1025, 60_000] {
        let frame = Bytes::from((0..length).map(|i| i as u8).collect::<Vec<_>>());
        sender.send(frame.clone()).await.unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), frame, "{length} bytes");
    }
    let long = vec![0; GUEST_FRAME_BYTES_MAX + 1];
    assert!(matches!(sender.send(long.into()).await, Err(ChannelError::Protocol(_))));
    sender.finish().unwrap();
    assert_eq!(receiver.recv().await.unwrap(), None);
    assert_eq!(receiver.recv().await.unwrap(), None);
}

#[test]
fn frames_go_over_a_lane() {
    with_guest(Manner::Echo, echoes);
}

#[test]
fn an_older_guest_is_spoken_to_by_the_stream() {
    with_guest(Manner::Old, echoes);
}

#[test]
fn a_flood_waits_for_its_reader_and_comes_whole() {
    with_guest(Manner::Flood, async |client: GuestClient| {
        let (_sender, mut receiver) = attach(&client).await.unwrap();
        for i in 0..FLOOD_FRAMES {
            let frame = receiver.recv().await.unwrap().unwrap();
            assert_eq!(frame.len(), FLOOD_BYTES);
            assert!(frame.iter().all(|byte| *byte == i as u8));
            // Everybody else gets on meanwhile.
            tokio::task::yield_now().await;
        }
        assert_eq!(receiver.recv().await.unwrap(), None);
    });
}

#[test]
fn a_guest_that_does_not_come_is_given_up() {
    let patience = |client: GuestClient| async move {
        assert!(matches!(attach(&client).await, Err(ChannelError::TimedOut)));
    };
    with_guest(Manner::Absent, patience);
}

/// A lane whose far end is ours, byte by byte.
fn with_raw<F: Future<Output = ()>>(test: impl FnOnce(FrameSender, FrameReceiver, UnixStream) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (near, far) = duplex(PIPE_BYTES);
        let lanes = Lanes::default();
        let expecting = lanes.clone();
        let (give, take) = tokio::sync::oneshot::channel();
        let give = Rc::new(std::cell::Cell::new(Some(give)));
        tokio::task::spawn_local(async move {
            let handler = move |call: Call| {
                let (lanes, give) = (lanes.clone(), give.clone());
                async move {
                    let (near, far) = UnixStream::pair().unwrap();
                    lanes.deliver(call.lane().unwrap(), near);
                    give.take().unwrap().send(far.try_clone().unwrap()).unwrap();
                    // Its halves must not shut down what the test holds.
                    std::mem::forget(call.frames_over(far).unwrap());
                }
            };
            serve(far, handler).await
        });
        let (client, driver) = GuestClient::connect(near).await.unwrap();
        let driver = tokio::task::spawn_local(driver);
        let client = client.with_lanes(expecting);
        let (sender, receiver) = attach(&client).await.unwrap();
        let raw = take.await.unwrap();
        raw.set_nonblocking(false).unwrap();
        test(sender, receiver, raw).await;
        driver.abort();
    });
}

#[test]
fn an_end_without_its_mark_is_a_cut() {
    with_raw(async |_sender, mut receiver, mut raw: UnixStream| {
        raw.write_all(&[0, 0, 0, 1, 7, 0, 0]).unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), [7].as_slice());
        raw.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(matches!(receiver.recv().await, Err(ChannelError::Closed)));
    });
}

#[test]
fn nothing_counts_behind_the_mark() {
    with_raw(async |_sender, mut receiver, mut raw: UnixStream| {
        raw.write_all(&[0, 0, 0, 1, 7, 0xff, 0xff]).unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), [7].as_slice());
        raw.write_all(&[0xff, 0xff, 0, 0, 0, 1, 8]).unwrap();
        assert_eq!(receiver.recv().await.unwrap(), None);
    });
}

#[test]
fn a_length_over_the_limit_is_refused_before_memory_is_taken() {
    with_raw(async |_sender, mut receiver, mut raw: UnixStream| {
        raw.write_all(&[0xff, 0xff, 0xff, 0xfe]).unwrap();
        assert!(matches!(receiver.recv().await, Err(ChannelError::Protocol(_))));
    });
}

#[test]
fn a_sender_that_goes_cuts_and_one_that_finishes_ends() {
    with_raw(async |sender: FrameSender, _receiver, mut raw: UnixStream| {
        drop(sender);
        let mut said = Vec::new();
        raw.read_to_end(&mut said).unwrap();
        assert!(said.is_empty());
    });
    with_raw(async |mut sender: FrameSender, _receiver, mut raw: UnixStream| {
        sender.send(Bytes::from_static(b"ab")).await.unwrap();
        sender.finish().unwrap();
        let mut said = Vec::new();
        raw.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"\0\0\0\x02ab\xff\xff\xff\xff");
    });
}

#[test]
fn a_frame_that_was_begun_goes_out_whole_though_its_future_was_dropped() {
    with_raw(async |mut sender: FrameSender, _receiver, mut raw: UnixStream| {
        let frame = Bytes::from(vec![5; 60_000]);
        let mut frames = 0;
        // Until the socket is full.
        while tokio::time::timeout(std::time::Duration::from_millis(50), sender.send(frame.clone())).await.is_ok() {
            frames += 1;
        }
        let reader = std::thread::spawn(move || {
            let mut said = vec![0; (frames + 2) * (4 + 60_000)];
            raw.read_exact(&mut said).unwrap();
            said
        });
        sender.send(frame).await.unwrap();
        let said = reader.join().unwrap();
        for unit in said.chunks(4 + 60_000) {
            assert_eq!(unit[..4], 60_000u32.to_be_bytes());
            assert!(unit[4..].iter().all(|byte| *byte == 5));
        }
    });
}

#[test]
fn a_connection_that_nobody_expects_is_dropped() {
    let (near, mut far) = UnixStream::pair().unwrap();
    Lanes::default().deliver(uuid::Uuid::new_v4(), near);
    assert_eq!(far.read(&mut [0; 1]).unwrap(), 0);
}
