//! Real programs on real PTYs, seen through attachments over an in-memory transport.

use super::*;
use crate::process::Reaper;
use bytes::Bytes;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rexec_api::frames::{ClientControl, ClientFrame, ServerControl, ServerFrame};
use rexec_api::guest::{AttachMode, UserSpec};
use std::future::Future;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Frames that the in-memory transport holds before it pushes back.
const TRANSPORT_FRAMES: usize = 4;
const TEST_UID: u32 = 12_345;

impl FrameSource for mpsc::Receiver<Result<Bytes, Cut>> {
    async fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        match self.recv().await {
            Some(Ok(frame)) => Ok(Some(frame)),
            Some(Err(cut)) => Err(cut),
            None => Ok(None),
        }
    }
}

impl FrameSink for mpsc::Sender<Bytes> {
    async fn send(&mut self, frame: Bytes) -> Result<(), Cut> {
        mpsc::Sender::send(self, frame).await.map_err(|_| Cut)
    }

    async fn finish(&mut self) -> Result<(), Cut> {
        Ok(())
    }
}

struct Bench {
    terminals: Terminals,
    launcher: Launcher,
    _home: tempfile::TempDir,
}

fn on_one_thread<F: Future>(test: impl FnOnce(Bench) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let home = tempfile::tempdir().unwrap();
        let (uid, gid) = match rustix::process::geteuid().as_raw() {
            0 => (TEST_UID, TEST_UID),
            own => (own, rustix::process::getegid().as_raw()),
        };
        std::os::unix::fs::chown(home.path(), Some(uid), Some(gid)).unwrap();
        let user =
            UserSpec { name: "tester".into(), uid, gid, home: home.path().to_str().unwrap().into(), shell: None };
        let reaper = Reaper::new();
        let watching = tokio::task::spawn_local(reaper.watch().unwrap());
        let bench = Bench {
            terminals: Terminals::new(Memory::new(None, None)),
            launcher: Launcher::new(reaper, user, BTreeMap::new()),
            _home: home,
        };
        let terminals = bench.terminals.clone();
        let output = test(bench).await;
        for info in terminals.list() {
            terminals.remove(info.id).await.unwrap();
        }
        watching.abort();
        output
    })
}

impl Bench {
    fn try_open(&self, command: Option<&[&str]>) -> Result<TerminalInfo, GuestError> {
        let command = command.map(|c| c.iter().map(|s| s.to_string()).collect());
        self.terminals.create(
            &self.launcher,
            Identity::User,
            &TerminalSpec {
                id: TerminalId::new(),
                cols: 80,
                rows: 24,
                command,
                cwd: None,
                env: BTreeMap::new(),
                user: None,
            },
        )
    }

    fn open(&self, script: &str) -> TerminalId {
        self.try_open(Some(&["sh", "-c", script])).unwrap().id
    }

    fn attach(&self, id: TerminalId, offset: Option<u64>) -> Viewer {
        let spec = AttachSpec { offset, mode: AttachMode::Control, client: Some(uuid::Uuid::from_u128(1)) };
        let attachment = self.terminals.attach(id, &spec).unwrap();
        let (input, source) = mpsc::channel(TRANSPORT_FRAMES);
        let (sink, frames) = mpsc::channel(TRANSPORT_FRAMES);
        let serving = tokio::task::spawn_local(attachment.run(source, sink));
        Viewer {
            input,
            frames,
            serving,
            at: offset,
            output: Vec::new(),
            seen: 0,
            exit: None,
            errors: Vec::new(),
            snapshots: 0,
            accepted: 0,
        }
    }

    fn info(&self, id: TerminalId) -> Option<TerminalInfo> {
        self.terminals.list().into_iter().find(|info| info.id == id)
    }
}

struct Viewer {
    input: mpsc::Sender<Result<Bytes, Cut>>,
    frames: mpsc::Receiver<Bytes>,
    serving: JoinHandle<()>,
    at: Option<u64>,
    /// Everything received, snapshots included.
    output: Vec<u8>,
    /// Where the next search in the output begins.
    seen: usize,
    exit: Option<i32>,
    errors: Vec<ErrorCode>,
    snapshots: u32,
    accepted: u64,
}

impl Viewer {
    async fn send(&self, frame: ClientFrame<'_>) {
        // An ended terminal takes no more, which the tests see by other means.
        let _ = self.input.send(Ok(frame.to_vec().into())).await;
    }

    async fn type_text(&self, text: &str) {
        self.send(ClientFrame::Input(text.as_bytes())).await;
    }

    /// Takes one frame; false at the end of the attachment.
    async fn receive(&mut self) -> bool {
        let Some(frame) = self.frames.recv().await else {
            return false;
        };
        match ServerFrame::parse(&frame).unwrap() {
            ServerFrame::Output { offset, bytes } => {
                assert_eq!(self.at.unwrap_or(offset), offset, "a gap or an overlap");
                self.at = Some(offset + bytes.len() as u64);
                self.output.extend(bytes);
            }
            ServerFrame::Snapshot { offset, bytes } => {
                self.at = Some(offset);
                self.snapshots += 1;
                self.output.extend(bytes);
            }
            ServerFrame::Exit(code) => self.exit = Some(code),
            ServerFrame::InputAccepted(count) => self.accepted = count,
            ServerFrame::Control(ServerControl::Error { code, .. }) => self.errors.push(code),
            ServerFrame::Control(_) => {}
        }
        true
    }

    async fn acknowledge(&self) {
        if let Some(at) = self.at {
            self.send(ClientFrame::Ack(at)).await;
        }
    }

    /// Draws until this text has come.
    async fn expect(&mut self, text: &str) {
        loop {
            let new = &self.output[self.seen..];
            if let Some(found) = new.windows(text.len()).position(|w| w == text.as_bytes()) {
                self.seen += found + text.len();
                return;
            }
            let seen = String::from_utf8_lossy(new).into_owned();
            assert!(self.receive().await, "ended before {text:?}; got {seen:?}");
            self.acknowledge().await;
        }
    }

    /// Draws until the end.
    async fn finish(&mut self) -> Option<i32> {
        while self.receive().await {
            self.acknowledge().await;
        }
        self.exit
    }

    async fn cut(self) {
        // A server that has gone no longer reads either.
        drop(self.frames);
        let _ = self.input.send(Err(Cut)).await;
        self.serving.await.unwrap();
    }
}

#[test]
fn echoes_what_is_typed() {
    on_one_thread(async |bench: Bench| {
        let mut viewer = bench.attach(bench.open("cat"), None);
        let text = "gr\u{fc}\u{df}e \u{6f22}\u{5b57} \u{1f600}\n";
        viewer.type_text(text).await;
        viewer
            .expect("gr\u{fc}\u{df}e \u{6f22}\u{5b57} \u{1f600}\r\ngr\u{fc}\u{df}e \u{6f22}\u{5b57} \u{1f600}\r\n")
            .await;
        // Backspace removes the whole character.
        viewer.type_text("a\u{6f22}\x7fb\n").await;
        viewer.expect("\r\nab\r\n").await;
        viewer.type_text("\x04").await;
        assert_eq!(viewer.finish().await, Some(0));
        assert_eq!(viewer.accepted, text.len() as u64 + 7 + 1);
    });
}

#[test]
fn the_default_is_a_login_shell_with_job_control() {
    on_one_thread(async |bench: Bench| {
        let info = bench.try_open(None).unwrap();
        let mut viewer = bench.attach(info.id, None);
        viewer.type_text("echo \"<$0 $TERM $((40+2))>\"; sh -c 'echo u$((1))p; exec sleep 1000'\n").await;
        let name = info.command[0].rsplit('/').next().unwrap();
        viewer.expect(&format!("<-{name} xterm-256color 42>")).await;
        viewer.expect("u1p").await;
        // Only a shell with a controlling terminal survives the interrupt that ends its job.
        viewer.type_text("\x03").await;
        viewer.expect("$ ").await;
        viewer.type_text("exit 9\n").await;
        assert_eq!(viewer.finish().await, Some(9));
    });
}

#[test]
fn a_resize_reaches_the_program() {
    on_one_thread(async |bench: Bench| {
        let script = "trap 'stty size' WINCH; stty size; while :; do read line; done";
        let mut viewer = bench.attach(bench.open(script), None);
        viewer.expect("24 80\r\n").await;
        viewer.send(ClientFrame::Resize { cols: 133, rows: 41 }).await;
        viewer.expect("41 133\r\n").await;
    });
}

#[test]
fn a_resize_that_the_workspace_has_no_memory_for_is_refused_and_told() {
    on_one_thread(async |bench: Bench| {
        let bench = Bench { terminals: Terminals::within(Memory::new(None, None), || 16 << 20), ..bench };
        let mut viewer = bench.attach(bench.open("while read line; do stty size; done"), None);
        viewer.send(ClientFrame::Resize { cols: 1000, rows: 500 }).await;
        while viewer.errors.is_empty() {
            assert!(viewer.receive().await);
        }
        assert_eq!(viewer.errors, [ErrorCode::TerminalMemory]);
        viewer.type_text("\n").await;
        viewer.expect("24 80\r\n").await;
        let ended = bench.open("true");
        while bench.info(ended).unwrap().exit_code.is_none() {
            tokio::task::yield_now().await;
        }
        // Those that have ended make way; then there is no more room.
        let opened = (0..64).map_while(|_| bench.try_open(Some(&["cat"])).ok()).count();
        assert!((2..16).contains(&opened), "{opened} terminals in 16 MiB");
        assert!(bench.info(ended).is_none());
        assert_eq!(bench.try_open(Some(&["cat"])).unwrap_err().code, ErrorCode::TerminalMemory);
        for info in bench.terminals.list() {
            bench.terminals.remove(info.id).await.unwrap();
        }
        bench.open("cat");
        for info in bench.terminals.list() {
            bench.terminals.remove(info.id).await.unwrap();
        }
    });
}

#[test]
fn the_exit_code_follows_the_last_output_even_when_others_hold_the_terminal() {
    on_one_thread(async |bench: Bench| {
        let id = bench.open("seq 1 20000; sleep 1000 & exit 3");
        let mut viewer = bench.attach(id, None);
        assert_eq!(viewer.finish().await, Some(3));
        assert!(viewer.output.ends_with(b"19999\r\n20000\r\n"));
        let mut late = bench.attach(id, None);
        assert_eq!(late.finish().await, Some(3));
        assert!(String::from_utf8_lossy(&late.output).contains("20000"));
        assert_eq!(bench.info(id).unwrap().exit_code, Some(3));
    });
}

#[test]
fn deleting_ends_even_a_program_that_will_not() {
    on_one_thread(async |bench: Bench| {
        let id = bench.open("trap '' HUP TERM; echo pid $$ end; while :; do sleep 0.1; done");
        let mut viewer = bench.attach(id, None);
        viewer.expect(" end").await;
        let text = String::from_utf8_lossy(&viewer.output).into_owned();
        let pid: i32 = text.split_whitespace().nth_back(1).unwrap().parse().unwrap();
        bench.terminals.remove(id).await.unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        assert!(rustix::process::test_kill_process(pid).is_err());
        assert_eq!(viewer.finish().await, Some(137));
        let refused = bench.terminals.remove(id).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::TerminalGone);
    });
}

/// The numbers that a counting program writes are consecutive across a hundred connections.
#[test]
fn a_hundred_cuts_under_constant_output_lose_and_double_nothing() {
    on_one_thread(async |bench: Bench| {
        let id = bench.open("i=0; while :; do i=$((i+1)); echo $i; done");
        let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let (mut at, mut all) = (Some(0), Vec::new());
        for _ in 0..100 {
            let mut viewer = bench.attach(id, at);
            for _ in 0..random.next_u32() % 12 {
                // Sometimes late, but not so that both sides wait for each other.
                if viewer.frames.is_empty() || random.next_u32().is_multiple_of(2) {
                    viewer.acknowledge().await;
                }
                assert!(viewer.receive().await);
            }
            assert_eq!(viewer.snapshots, 0, "the ring was outrun");
            at = viewer.at;
            all.append(&mut viewer.output);
            viewer.cut().await;
        }
        let text = String::from_utf8(all).unwrap();
        let complete = text.rsplit_once("\r\n").unwrap().0;
        for (index, line) in complete.split("\r\n").enumerate() {
            assert_eq!(line, (index + 1).to_string());
        }
        assert!(complete.len() > 1000);
    });
}

#[test]
fn an_interrupt_under_a_flood_is_not_buried_by_it() {
    on_one_thread(async |bench: Bench| {
        let id = bench.open("yes");
        let mut viewer = bench.attach(id, None);
        // Nothing is acknowledged, so the program soon stands still.
        while viewer.output.len() < 10_000 {
            assert!(viewer.receive().await);
        }
        viewer.type_text("\x03").await;
        let before = viewer.output.len();
        assert_eq!(viewer.finish().await, Some(130));
        let after = viewer.output.len() - before;
        assert!(after < 128 * 1024, "{after} bytes came after the interrupt");
    });
}

#[test]
fn a_hidden_controller_lets_the_output_run_on() {
    on_one_thread(async |bench: Bench| {
        let id = bench.open("read go; seq 1 400000; echo done; read wait");
        let mut viewer = bench.attach(id, None);
        viewer.send(ClientFrame::Control(ClientControl::Visibility { hidden: true })).await;
        viewer.type_text("\n").await;
        // Not a frame is taken until the program has written everything.
        while bench.info(id).unwrap().end < 2_000_000 {
            tokio::task::yield_now().await;
        }
        viewer.expect("done").await;
        assert!(viewer.snapshots >= 1);
        assert!(viewer.output.len() < 2_000_000);
    });
}

#[test]
fn input_waits_for_the_program_and_none_is_lost() {
    on_one_thread(async |bench: Bench| {
        let id = bench.open("stty raw -echo; echo ready; read go; head -c 900000 | cksum; echo over");
        let mut viewer = bench.attach(id, None);
        viewer.expect("ready").await;
        let piece: Vec<u8> = (0..30_000u32).map(|n| b'a' + (n % 23) as u8).collect();
        let typing = {
            let input = viewer.input.clone();
            let piece = piece.clone();
            tokio::task::spawn_local(async move {
                for frame in [b"\n".to_vec()].into_iter().chain(vec![piece; 30]) {
                    let frame = ClientFrame::Input(&frame).to_vec();
                    input.send(Ok(frame.into())).await.unwrap();
                }
            })
        };
        viewer.expect("900000").await;
        viewer.expect("over").await;
        typing.await.unwrap();
        let written = piece.repeat(30);
        let expected = format!("{} 900000", cksum(&written));
        let text = String::from_utf8_lossy(&viewer.output).into_owned();
        assert!(text.contains(&expected), "{expected} is not in {text}");
        assert_eq!(viewer.accepted, 900_001);
    });
}

/// POSIX `cksum`: CRC-32 of the bytes and then of their number.
fn cksum(bytes: &[u8]) -> u32 {
    let mut length = bytes.len();
    let mut suffix = Vec::new();
    while length > 0 {
        suffix.push((length & 0xff) as u8);
        length >>= 8;
    }
    !bytes.iter().chain(&suffix).fold(0u32, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte) << 24,
            |crc, _| {
                if crc & 0x8000_0000 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 }
            },
        )
    })
}

#[test]
fn garbage_ends_the_attachment_with_a_reason_and_nothing_else() {
    on_one_thread(async |bench: Bench| {
        let id = bench.open("cat");
        for garbage in [b"".as_slice(), b"\xff\x00", b"\x01\x00", b"\x03{}", &[0; 70_000]] {
            let mut viewer = bench.attach(id, None);
            viewer.input.send(Ok(Bytes::copy_from_slice(garbage))).await.unwrap();
            assert_eq!(viewer.finish().await, None);
            assert_eq!(viewer.errors, [ErrorCode::BadFrame]);
        }
        let mut viewer = bench.attach(id, None);
        viewer.type_text("still here\n").await;
        viewer.expect("still here\r\nstill here").await;
    });
}

#[test]
fn ended_terminals_are_remembered_up_to_a_bound() {
    on_one_thread(async |bench: Bench| {
        let ids: Vec<TerminalId> = (0..EXITED_MAX + 4).map(|_| bench.open("exit 5")).collect();
        while bench.terminals.alive() > 0 {
            tokio::task::yield_now().await;
        }
        for &id in ids.iter().rev().take(1) {
            let mut viewer = bench.attach(id, None);
            assert_eq!(viewer.finish().await, Some(5));
        }
        while bench.terminals.list().len() > EXITED_MAX {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn refusals_are_precise() {
    on_one_thread(async |bench: Bench| {
        let code = |command: &[&str]| bench.try_open(Some(command)).unwrap_err().code;
        assert_eq!(code(&["no-such-program"]), ErrorCode::CommandNotFound);
        assert_eq!(code(&[]), ErrorCode::InvalidRequest);
        let spec = |cols, rows| TerminalSpec {
            id: TerminalId::new(),
            cols,
            rows,
            command: None,
            cwd: None,
            env: BTreeMap::new(),
            user: None,
        };
        for (cols, rows) in [(0, 24), (80, 0), (1001, 24), (80, 501)] {
            let refused = bench.terminals.create(&bench.launcher, Identity::User, &spec(cols, rows));
            assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidRequest);
        }
        assert!(bench.terminals.list().is_empty());
        // The same request again is the same terminal.
        let spec = spec(80, 24);
        let first = bench.terminals.create(&bench.launcher, Identity::User, &spec).unwrap();
        let second = bench.terminals.create(&bench.launcher, Identity::User, &spec).unwrap();
        assert_eq!((first.id, bench.terminals.list().len()), (second.id, 1));
    });
}

/// Echo on one terminal goes on beside a flood on another whose viewer takes all it can.
#[test]
fn a_typist_beside_a_flood_is_served() {
    on_one_thread(async |bench: Bench| {
        let (flood, shell) = (bench.open("yes"), bench.open("cat"));
        let mut flooded = bench.attach(flood, None);
        let mut typist = bench.attach(shell, None);
        let drawing = tokio::task::spawn_local(async move {
            flooded.finish().await;
            flooded.output.len()
        });
        for n in 0..200 {
            typist.type_text(&format!("{n};\n")).await;
            typist.expect(&format!("{n};\r\n{n};\r\n")).await;
        }
        bench.terminals.remove(flood).await.unwrap();
        assert!(drawing.await.unwrap() > 1000);
    });
}
