//! Engines that are down, vanish, hang or talk nonsense: each must give an error of the right kind,
//! soon. The engines here are sockets that play one part.

use rexec_engine::docker::DockerEngine;
use rexec_engine::{Engine, EngineError, ExecFailure, ExecStart};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);
/// What runc says when a container's processes did not all stand still in the moment that it grants them.
const STIR: &str = r#"{"message":"Cannot pause container a: OCI runtime pause failed: unable to freeze: unknown."}"#;
const RUNS: &str = r#"{"Id":"a","Name":"/a","Config":{"Labels":{}},"State":{"Status":"running","Running":true}}"#;
const VERSION: &str = r#"{"ApiVersion":"1.41","MinAPIVersion":"1.12"}"#;

/// A socket that answers by a function of the request's first line; `None` closes the connection.
struct Fake {
    _dir: tempfile::TempDir,
    path: PathBuf,
    task: JoinHandle<()>,
}

type Answer = fn(&str) -> Option<Vec<u8>>;

impl Fake {
    fn new(answer: Answer) -> Fake {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("engine.sock");
        let listener = UnixListener::bind(&path).expect("binds");
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, answer));
            }
        });
        Fake { _dir: dir, path, task }
    }

    fn engine(&self) -> DockerEngine {
        DockerEngine::connect(&format!("unix://{}", self.path.display())).expect("an address")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection: heads end with an empty line, and bodies here are told by their length.
async fn serve(mut stream: UnixStream, answer: Answer) {
    let mut seen = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&seen[..head_end]).to_ascii_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        while seen.len() < head_end + length {
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        }
        seen.drain(..head_end + length);
        let Some(bytes) = answer(head.lines().next().unwrap_or_default()) else {
            return;
        };
        if stream.write_all(&bytes).await.is_err() || bytes.starts_with(b"HTTP/1.1 101") {
            return;
        }
    }
}

fn json(status: &str, body: &str) -> Option<Vec<u8>> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    Some((head + body).into_bytes())
}

/// What every part plays well: the version, and making an exec.
fn common(line: &str) -> Option<Vec<u8>> {
    match line {
        l if l.starts_with("get /version") => json("200 OK", VERSION),
        l if l.contains("/containers/") && l.contains("/exec") => json("201 Created", r#"{"Id":"abc"}"#),
        l if l.contains("/exec/abc/json") => json("200 OK", r#"{"ID":"abc","Running":false,"ExitCode":0}"#),
        _ => None,
    }
}

fn exec_start() -> ExecStart {
    ExecStart { command: vec!["x".into()], user: "0:0".into(), env: Vec::new() }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("does not hang")
}

#[track_caller]
fn assert_unavailable<T>(result: Result<T, EngineError>) {
    let Err(error) = result else { panic!("an answer from nobody") };
    assert!(matches!(error, EngineError::Unavailable(_)), "{error:?}");
    assert!(std::error::Error::source(&error).is_some(), "its cause is kept");
}

#[tokio::test]
async fn an_engine_that_is_down_is_unavailable() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("engine.sock");
    let engine = DockerEngine::connect(&format!("unix://{}", path.display())).expect("an address");
    assert_unavailable(soon(engine.ping()).await);
    // The socket of an engine that ended: the file is there, and refuses.
    drop(UnixListener::bind(&path).expect("binds"));
    assert_unavailable(soon(engine.ping()).await);
    assert_unavailable(soon(engine.start("a")).await);
    assert_unavailable(soon(engine.inspect("a")).await);
    assert_unavailable(soon(engine.exec_stream("a", &exec_start())).await);
    assert_unavailable(soon(futures_util::StreamExt::next(&mut engine.pull("a", None))).await.expect("an item"));
    assert_unavailable(
        soon(futures_util::StreamExt::next(&mut engine.events(&Default::default()))).await.expect("an item"),
    );
}

#[tokio::test]
async fn an_engine_comes_back_on_the_same_handle() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("engine.sock");
    let engine = DockerEngine::connect(&format!("unix://{}", path.display())).expect("an address");
    assert_unavailable(soon(engine.ping()).await);
    let listener = UnixListener::bind(&path).expect("binds");
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream, |line| common(line).or_else(|| json("200 OK", "OK"))).await;
        }
    });
    soon(engine.ping()).await.expect("answers");
    task.abort();
}

#[tokio::test]
async fn an_engine_that_vanishes_in_mid_call_is_unavailable() {
    let gone = Fake::new(|line| line.starts_with("get /version").then(|| common(line)).flatten());
    assert_unavailable(soon(gone.engine().start("a")).await);
    let gone = Fake::new(|line| {
        let half = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"Id\":";
        common(line).or_else(|| Some(half.to_vec()))
    });
    // Half a body, then silence: the connection ends with the part.
    let engine = gone.engine();
    let call = tokio::spawn(async move { engine.inspect("a").await });
    soon(async {
        while !call.is_finished() {
            gone.task.abort();
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_unavailable(call.await.expect("no panic"));
}

#[tokio::test]
async fn an_engine_that_never_answers_is_unavailable() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("engine.sock");
    let _listener = UnixListener::bind(&path).expect("binds; nobody accepts");
    let engine = DockerEngine::connect(&format!("unix://{}", path.display())).expect("an address");
    assert_unavailable(soon(engine.ping()).await);
}

#[tokio::test]
async fn nonsense_is_a_protocol_error() {
    let nonsense = Fake::new(|line| common(line).or_else(|| json("200 OK", "[\"what?\"]")));
    let engine = nonsense.engine();
    assert!(matches!(soon(engine.inspect("a")).await, Err(EngineError::Protocol(_))));
    // An engine that answers a request to upgrade without upgrading.
    let refused = soon(engine.exec_stream("a", &exec_start())).await.map(|_| ());
    assert!(matches!(refused, Err(EngineError::Protocol(_))), "{refused:?}");
    let old = Fake::new(|_| json("200 OK", r#"{"ApiVersion":"1.24"}"#));
    let refused = soon(old.engine().ping()).await;
    assert!(matches!(&refused, Err(EngineError::Refused(why)) if why.contains("1.24")), "{refused:?}");
}

#[tokio::test]
async fn refused_execs_keep_the_engines_words() {
    let paused = Fake::new(|line| {
        let refusal = || json("409 Conflict", r#"{"message":"Container abc is paused"}"#);
        common(line).filter(|_| !line.contains("/start")).or_else(refusal)
    });
    let refused = soon(paused.engine().exec_stream("a", &exec_start())).await.map(|_| ());
    assert!(matches!(&refused, Err(EngineError::Conflict(why)) if why == "Container abc is paused"), "{refused:?}");
}

const UPGRADED: &[u8] = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

fn upgraded(frames: &[u8]) -> Option<Vec<u8>> {
    Some([UPGRADED, frames].concat())
}

async fn read(fake: Fake) -> (Vec<u8>, std::io::Result<usize>) {
    let mut stream = soon(fake.engine().exec_stream("a", &exec_start())).await.expect("starts");
    let mut out = Vec::new();
    let ended = soon(stream.read_to_end(&mut out)).await;
    (out, ended)
}

#[tokio::test]
async fn bytes_that_come_with_the_answer_are_not_lost() {
    let fake = Fake::new(|line| common(line).or_else(|| upgraded(b"\x01\0\0\0\0\0\0\x05hello\x02\0\0\0\0\0\0\x01x")));
    let (out, ended) = read(fake).await;
    assert_eq!(out, b"hello");
    ended.expect("it ended well");
}

#[tokio::test]
async fn hostile_frames_end_the_stream() {
    let fake = Fake::new(|line| common(line).or_else(|| upgraded(b"\x01\0\0\0\0\0\0\x02ok\x07\0\0\0\0\0\0\x01x")));
    let (out, ended) = read(fake).await;
    assert_eq!(out, b"ok");
    assert_eq!(ended.expect_err("an unknown frame").kind(), std::io::ErrorKind::InvalidData);

    let fake = Fake::new(|line| common(line).or_else(|| upgraded(b"\x01\0\0\0\xff\xff\xff\xffonly this")));
    let (out, ended) = read(fake).await;
    assert_eq!(out, b"only this", "what came is given at once, whatever length was told");
    assert_eq!(ended.expect_err("cut").kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_exec_whose_end_is_unknown_did_not_end_well() {
    let fake = Fake::new(|line| {
        let gone = || json("500 Internal Server Error", r#"{"message":"what?"}"#);
        if line.contains("/json") { gone() } else { common(line).or_else(|| upgraded(b"\x01\0\0\0\0\0\0\x01x")) }
    });
    let (out, ended) = read(fake).await;
    assert_eq!(out, b"x");
    let error = ended.expect_err("nobody knows");
    assert!(error.get_ref().is_some_and(|e| e.downcast_ref::<ExecFailure>().is_none()), "{error:?}");
}

#[tokio::test]
async fn a_freeze_that_did_not_come_off_is_tried_again() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let fake = Fake::new(|line| match line {
        l if l.contains("/pause") && ASKED.fetch_add(1, Ordering::Relaxed) < 2 => {
            json("500 Internal Server Error", STIR)
        }
        l if l.contains("/pause") => json("204 No Content", ""),
        _ => common(line),
    });
    soon(fake.engine().pause("a")).await.expect("the third time it holds still");
    assert_eq!(ASKED.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_freeze_that_never_comes_off_is_refused() {
    let fake = Fake::new(|line| match line {
        l if l.contains("/pause") => json("500 Internal Server Error", STIR),
        l if l.contains("/containers/a/json") => json("200 OK", RUNS),
        _ => common(line),
    });
    let refused = soon(fake.engine().pause("a")).await;
    assert!(matches!(refused, Err(EngineError::Refused(_))), "{refused:?}");
}
