//! The guest's routes over a real connection, as the server uses them.
#![allow(clippy::unwrap_used)]

mod archives;
mod control;
mod exec;
mod files;
mod hostile;
mod other;
mod sudo;
mod uploads;
mod watches;

use crate::guest::Guest;
use crate::process::Reaper;
use crate::routes;
use bytes::Bytes;
use rexec_api::error::ErrorCode;
use rexec_api::guest::{Configure, ExecSpec, SudoPolicy, UserSpec, exec_frame};
use rexec_api::ids::WorkspaceId;
use rexec_channel::{ChannelError, FrameReceiver, GuestClient};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::LocalSet;

/// A guest with a connected client, and the user's home.
struct Bench {
    guest: Rc<Guest>,
    client: GuestClient,
    home: TempDir,
}

impl Bench {
    fn path(&self, name: &str) -> String {
        self.real(name).to_str().unwrap().to_owned()
    }

    fn real(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    async fn configure(&self) {
        let configure = configure(self.home.path());
        assert!(self.client.configure(&configure).await.unwrap().configured);
    }
}

/// As root, an account that every machine has, so that no user file is changed; else ourselves.
fn configure(home: &Path) -> Configure {
    let (uid, gid) = if rustix::process::geteuid().is_root() {
        (65534, 65534)
    } else {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    };
    Configure {
        workspace: WorkspaceId::new(),
        user: UserSpec { name: "nobody".into(), uid, gid, home: home.to_str().unwrap().into(), shell: None },
        env: BTreeMap::from([("COLOUR".to_owned(), "violet".to_owned())]),
        account: None,
        sudo: SudoPolicy::Allow,
        entrypoint: None,
        ring_bytes: None,
        scrollback_lines: None,
        gateway: None,
        authority: None,
    }
}

/// Runs `test` on the guest's one thread.
fn with_guest<F: Future<Output = ()>>(test: impl FnOnce(Bench) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let reaper = Reaper::new();
        tokio::task::spawn_local(reaper.watch().unwrap());
        let guest = Rc::new(Guest::new(reaper));
        let (near, far) = UnixStream::pair().unwrap();
        tokio::task::spawn_local(routes::serve(guest.clone(), far, None));
        let (client, driver) = GuestClient::connect(near).await.unwrap();
        tokio::task::spawn_local(driver);
        let home = tempfile::tempdir().unwrap();
        test(Bench { guest, client, home }).await;
    });
}

fn with_configured<F: Future<Output = ()>>(test: impl FnOnce(Bench) -> F) {
    with_guest(|bench| async move {
        bench.configure().await;
        test(bench).await;
    });
}

fn code<T>(result: Result<T, ChannelError>) -> ErrorCode {
    match result {
        Err(ChannelError::Guest(error)) => error.code,
        Err(other) => panic!("not a refusal: {other}"),
        Ok(_) => panic!("not refused"),
    }
}

fn command(words: &[&str]) -> ExecSpec {
    ExecSpec {
        command: words.iter().map(|&word| word.to_owned()).collect(),
        cwd: None,
        env: BTreeMap::new(),
        user: None,
    }
}

fn shell(script: &str) -> ExecSpec {
    command(&["/bin/sh", "-c", script])
}

fn frame(kind: u8, bytes: &[u8]) -> Bytes {
    Bytes::from([&[kind], bytes].concat())
}

/// Everything that a command says until its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    code: Option<i32>,
    signal: Option<u8>,
}

async fn all(receiver: &mut FrameReceiver) -> Said {
    let mut said = Said::default();
    while let Some(frame) = receiver.recv().await.unwrap() {
        assert_eq!(said.code, None, "a frame after the exit code");
        let (kind, bytes) = frame.split_first().unwrap();
        match *kind {
            exec_frame::STDOUT => said.stdout.extend_from_slice(bytes),
            exec_frame::STDERR => said.stderr.extend_from_slice(bytes),
            exec_frame::EXIT => {
                let (code, signal) = exec_frame::read_exit(bytes).unwrap();
                (said.code, said.signal) = (Some(code), signal);
            }
            other => panic!("unknown frame {other}"),
        }
    }
    said
}

/// Standard output up to and including `end`.
async fn until(receiver: &mut FrameReceiver, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let frame = receiver.recv().await.unwrap().expect("the command goes on");
        assert_eq!(frame[0], exec_frame::STDOUT, "{frame:?}");
        text.push_str(std::str::from_utf8(&frame[1..]).unwrap());
    }
    text
}

/// Waits until a process has gone, or is a zombie that its parent has not collected.
async fn gone(pid: u32) {
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        match stat {
            Ok(stat) if !stat.contains(") Z ") => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            _ => return,
        }
    }
}
