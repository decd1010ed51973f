//! Exec streams, events and statistics.

use super::assert_kind;
use super::world::{World, exec};
use crate::{ByteStream, ContainerState, ExecFailure, ExecStart};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BULK_BYTES: usize = 32 * 1024 * 1024;
const STDERR_BYTES_MAX: usize = 4 * 1024;
const TOGGLE_INTERVAL: Duration = Duration::from_millis(200);

async fn open(world: &World, id: &str, command: &[&str]) -> Box<dyn ByteStream> {
    world.engine.exec_stream(id, &exec("0:0", command)).await.expect("an exec starts")
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes without a pattern, every value among them (xorshift64).
fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.extend_from_slice(&x.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub async fn exec_is_binary_safe(world: &World) {
    let id = world.running("a").await;
    let sent = noise(BULK_BYTES);
    let wanted = hex(&Sha256::digest(&sent));

    let stream = open(world, &id, &["/bin/cat"]).await;
    let (mut from, mut to) = tokio::io::split(stream);
    let read = async {
        let (mut hash, mut buffer, mut count) = (Sha256::new(), vec![0; 64 * 1024], 0);
        loop {
            match from.read(&mut buffer).await.expect("reads") {
                0 => break (hex(&hash.finalize()), count),
                n => {
                    hash.update(&buffer[..n]);
                    count += n;
                }
            }
        }
    };
    let write = async {
        to.write_all(&sent).await.expect("writes");
        to.shutdown().await.expect("closes stdin");
    };
    let ((got, count), ()) = tokio::join!(read, write);
    assert_eq!((count, got.as_str()), (sent.len(), wanted.as_str()), "both ways at once");

    let mut stream = open(world, &id, &["/bin/sha256sum"]).await;
    stream.write_all(&sent).await.expect("writes");
    stream.shutdown().await.expect("closes stdin");
    let mut sum = String::new();
    stream.read_to_string(&mut sum).await.expect("reads after closing stdin");
    assert_eq!(sum.split(' ').next(), Some(wanted.as_str()));
}

fn failure(error: &io::Error) -> &ExecFailure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.unwrap_or_else(|| panic!("{error:?} holds no ExecFailure"))
}

pub async fn exec_tells_how_it_ended(world: &World) {
    let id = world.running("a").await;
    let mut stream = open(world, &id, &["/bin/sh", "-c", "echo out; echo oops >&2; exit 3"]).await;
    let mut out = Vec::new();
    let error = stream.read_to_end(&mut out).await.expect_err("it ended with 3");
    assert_eq!(out, b"out\n");
    assert_eq!(*failure(&error), ExecFailure { exit_code: 3, stderr: "oops".into() });
    assert_eq!(stream.read(&mut [0; 8]).await.expect("told once"), 0);

    let out = world.exec(&id, &["/bin/sh", "-c", "echo out; echo oops >&2"]).await;
    assert_eq!(out.expect("what it says on stderr is no failure"), "out\n");

    let flood = "head -c 300000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1";
    let error = world.exec(&id, &["/bin/sh", "-c", flood]).await.expect_err("it ended with 1");
    let ended = failure(&error);
    assert!(ended.stderr.len() <= STDERR_BYTES_MAX && ended.stderr.ends_with("xthe end"), "{}", ended.stderr.len());

    let error = world.exec(&id, &["/bin/sh", "-c", "kill -9 $$"]).await.expect_err("it was killed");
    assert_eq!(failure(&error).exit_code, 137);
    // Some engines refuse to start what is not there, others start and fail.
    if let Ok(mut stream) = world.engine.exec_stream(&id, &exec("0:0", &["/no/such/program"])).await {
        let error = stream.read_to_end(&mut Vec::new()).await.expect_err("there is no such program");
        assert!(matches!(failure(&error).exit_code, 126 | 127), "{error}");
    }
}

pub async fn exec_runs_as_asked(world: &World) {
    let id = world.running("a").await;
    let script = ["/bin/sh", "-c", "id -u; id -g; echo \"$WORD\"; test -t 0 || echo no tty"];
    let mut start: ExecStart = exec("1000:1000", &script);
    start.env.push("WORD=a b\nc=é".into());
    let mut stream = world.engine.exec_stream(&id, &start).await.expect("starts");
    let mut out = String::new();
    stream.read_to_string(&mut out).await.expect("ends well");
    assert_eq!(out, "1000\n1000\na b\nc=é\nno tty\n");
    let words = world.exec(&id, &["/bin/echo", "a b", "$HOME", "'"]).await.expect("ends well");
    assert_eq!(words, "a b $HOME '\n", "no shell in between");
}

pub async fn exec_ends_with_its_stream(world: &World) {
    let id = world.running("a").await;
    let mut stream = open(world, &id, &["/bin/cat"]).await;
    stream.write_all(b"hello").await.expect("writes");
    let mut word = [0; 5];
    stream.read_exact(&mut word).await.expect("reads");
    assert_eq!(&word, b"hello", "bytes come without waiting for more");
    assert!(world.succeeds(&id, "pidof cat").await);
    drop(stream);
    world.until("the program ends with its stdin", async || !world.succeeds(&id, "pidof cat").await).await;
}

pub async fn exec_ends_with_its_container(world: &World) {
    let id = world.running("a").await;
    let mut stream = open(world, &id, &["/bin/cat"]).await;
    stream.write_all(b"x").await.expect("writes");
    stream.read_exact(&mut [0]).await.expect("reads");
    world.engine.remove(&id).await.expect("is removed");
    let ended = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut [0; 8])).await.expect("does not hang");
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
}

pub async fn events_are_told(world: &World) {
    let id = world.running("a").await;
    let other = world.engine.events(&[("rexec.contract".to_owned(), "nobody".to_owned())].into());
    let mut events = world.engine.events(&world.labels());
    // A subscription begins at some moment after it is asked for: give it something to tell until it does.
    let mut toggle = tokio::time::interval(TOGGLE_INTERVAL);
    let pauses = world.engine.info().await.expect("tells").control_groups;
    let (mut paused, mut made) = (false, 0);
    let first = loop {
        tokio::select! {
            event = events.next() => break event.expect("does not end").expect("an event"),
            _ = toggle.tick() => {
                let done = match (pauses, paused) {
                    (true, true) => world.engine.unpause(&id).await,
                    (true, false) => world.engine.pause(&id).await,
                    (false, _) => world.engine.create(&world.spec(&format!("b{made}"))).await.map(|_| ()),
                };
                done.expect("something happens");
                made += 1;
                paused = !paused;
            }
        }
    };
    if pauses {
        assert!(matches!(first.action.as_str(), "pause" | "unpause"), "{first:?}");
        assert_eq!(first.container_id, id);
        world.engine.unpause(&id).await.expect("runs");
    }
    world.engine.stop(&id, 30).await.expect("stops");
    world.engine.remove(&id).await.expect("is removed");
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("destroy") {
        let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await.expect("comes");
        let event = event.expect("does not end").expect("an event");
        assert_eq!(event.labels.get("rexec.contract"), Some(&world.id));
        if event.action == "die" {
            assert_eq!(event.labels.get("exitCode").map(String::as_str), Some("7"));
        }
        seen.push(event.action);
    }
    assert!(seen.iter().any(|action| action == "die"), "{seen:?}");
    drop(other);
}

pub async fn stats_are_told(world: &World) {
    let id = world.running("a").await;
    let info = world.engine.info().await.expect("tells");
    if !info.control_groups {
        assert_kind(world.engine.stats_once(&id).await, "Refused");
        return;
    }
    let mut stats = world.engine.stats(&id);
    let first = stats.next().await.expect("a sample").expect("a sample");
    assert!(first.cpu_total_ns > 0 && (!info.pids_limit || first.pids >= 2), "{first:?}");
    assert!(!info.memory_limit || first.memory_limit_bytes == 64 << 20, "{first:?}");
    assert!(first.memory_bytes > 0 && first.memory_bytes < 64 << 20, "{first:?}");
    world.sh(&id, "i=0; while test $i -lt 20000; do i=$((i+1)); done").await;
    let mut last = first.clone();
    while last.cpu_total_ns <= first.cpu_total_ns {
        last = stats.next().await.expect("another").expect("another");
    }
    assert_eq!(world.state(&id).await, ContainerState::Running);

    let once = world.engine.stats_once(&id).await.expect("a sample");
    assert!(once.cpu_total_ns >= last.cpu_total_ns && once.memory_bytes > 0, "{once:?} after {last:?}");
    world.engine.stop(&id, 30).await.expect("stops");
    assert_eq!(world.engine.stats_once(&id).await.expect("a sample").memory_bytes, 0);
}
