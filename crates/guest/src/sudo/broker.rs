//! PID 1's side of `sudo`: who may, and starting the program.

use super::arguments::shell_line;
use super::wire::{self, LENGTH_BYTES, Reply, Request, What};
use crate::control::{accept, receive};
use crate::descriptors::{self, DESCRIPTORS_MAX, Received, Sender};
use crate::guest::{Guest, Workspace};
use crate::home;
use crate::process::{Identity, Launch, Process, Stdio, login_shell};
use crate::refusal::{internal, refuse};
use crate::terminal::{Size, pty};
use rexec_api::error::ErrorCode;
use rexec_api::guest::{GuestError, SudoPolicy, UserSpec};
use rustix::process::Signal;
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// Connections at once; more are hung up on.
const SESSIONS_MAX: u32 = 256;
/// A request arrives in full within this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepts for ever.
pub async fn listen(guest: Rc<Guest>, listener: UnixListener) {
    let sessions = Rc::new(Cell::new(0));
    loop {
        let stream = accept(&listener).await;
        if sessions.get() < SESSIONS_MAX {
            sessions.set(sessions.get() + 1);
            let (guest, sessions) = (guest.clone(), sessions.clone());
            tokio::task::spawn_local(async move {
                // A caller that broke off needs no answer.
                let _ = session(&guest, stream).await;
                sessions.set(sessions.get() - 1);
            });
        }
    }
}

pub(crate) async fn session(guest: &Guest, mut stream: UnixStream) -> io::Result<()> {
    let (request, received) = timeout(REQUEST_TIMEOUT, receive_request(&mut stream)).await??;
    let author = descriptors::author(&stream, received.sender)?.uid.as_raw();
    let started =
        guest.workspace().and_then(|workspace| permit(&workspace, author).map(|()| workspace)).and_then(|workspace| {
            match request.what {
                What::Validate => Ok(None),
                _ => start(&workspace, request, received.descriptors, author).map(Some),
            }
        });
    match started {
        Err(error) => {
            let message = error.message;
            say(&stream, &Reply::Refused { message }, &[]).await
        }
        Ok(None) => say(&stream, &Reply::Exited { code: 0 }, &[]).await,
        Ok(Some((process, terminal))) => {
            let attached: Vec<BorrowedFd<'_>> = terminal.iter().map(AsFd::as_fd).collect();
            let told = say(&stream, &Reply::Started, &attached).await;
            drop(attached);
            drop(terminal);
            if told.is_err() {
                hang_up(&process);
            }
            told?;
            attend(process, stream).await
        }
    }
}

async fn receive_request(stream: &mut UnixStream) -> io::Result<(Request, Received)> {
    let mut prefix = [0; LENGTH_BYTES];
    let received = receive(stream, &mut prefix).await?;
    let mut have = received.count;
    if have == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    while have < LENGTH_BYTES {
        have += match stream.read(&mut prefix[have..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => count,
        };
    }
    let length = wire::length(prefix)?;
    let mut json = Vec::new();
    // Grows as bytes arrive, not as the length promises.
    stream.take(length as u64).read_to_end(&mut json).await?;
    Ok((serde_json::from_slice(&json)?, received))
}

/// Root needs no leave; the workspace's user has it by the policy, nobody else has.
pub(crate) fn permit(workspace: &Workspace, uid: u32) -> Result<(), GuestError> {
    if uid == 0 || (workspace.sudo == SudoPolicy::Allow && uid == workspace.user().uid) {
        return Ok(());
    }
    Err(refuse(ErrorCode::Forbidden, "this workspace does not allow its user to become root"))
}

fn start(
    workspace: &Workspace,
    request: Request,
    given: Vec<OwnedFd>,
    caller: u32,
) -> Result<(Process, Option<OwnedFd>), GuestError> {
    let target = target_user(request.user.as_deref())?;
    let (stdio, terminal) = match request.terminal {
        Some((cols, rows)) => {
            let pty =
                pty::open(Size { cols, rows }, target.uid).map_err(|e| internal("could not open a terminal", e))?;
            (Stdio::Terminal(pty.slave), Some(pty.master))
        }
        None => (descriptors_of(given)?, None),
    };
    let (command, arg0, cwd) = program(request.what, &target, request.cwd);
    let mut env = request.env;
    let caller_user = workspace.user();
    let about = [
        ("HOME", target.home.clone()),
        ("USER", target.name.clone()),
        ("LOGNAME", target.name.clone()),
        ("SHELL", login_shell(&target)),
        ("SUDO_COMMAND", command.join(" ")),
        ("SUDO_UID", caller.to_string()),
        ("SUDO_GID", caller_user.gid.to_string()),
        ("SUDO_USER", caller_user.name.clone()),
    ];
    for (name, value) in about {
        env.entry(name.to_owned()).or_insert(value);
    }
    let identity = if target.uid == 0 { Identity::Root } else { Identity::Other(target) };
    let process = workspace.launcher.launch(Launch { identity, command, arg0, cwd: Some(cwd), env, stdio })?;
    Ok((process, terminal))
}

/// Root's entry may be missing from an image; root is there all the same.
fn target_user(name: Option<&str>) -> Result<UserSpec, GuestError> {
    let name = name.unwrap_or("root");
    let known = home::account(name);
    match known {
        Some(user) => Ok(user),
        None if matches!(name, "root" | "#0") => {
            Ok(UserSpec { name: "root".into(), uid: 0, gid: 0, home: "/root".into(), shell: None })
        }
        None => Err(refuse(ErrorCode::NotFound, format!("unknown user {name}"))),
    }
}

/// The command, its name for itself, and where it starts.
fn program(what: What, target: &UserSpec, cwd: String) -> (Vec<String>, Option<String>, String) {
    let by_shell = |shell: String, command: &[String]| {
        let mut words = vec![shell];
        if !command.is_empty() {
            words.extend(["-c".to_owned(), shell_line(command)]);
        }
        words
    };
    match what {
        What::Validate => (Vec::new(), None, cwd),
        What::Run { command } => (command, None, cwd),
        What::Shell { command, program } => {
            let shell = program.unwrap_or_else(|| login_shell(target));
            (by_shell(shell, &command), None, cwd)
        }
        What::Login { command } => {
            let shell = login_shell(target);
            let name = shell.rsplit('/').next().unwrap_or("sh");
            let arg0 = format!("-{name}");
            let home = if std::path::Path::new(&target.home).is_dir() { target.home.clone() } else { "/".into() };
            (by_shell(shell, &command), Some(arg0), home)
        }
    }
}

fn descriptors_of(given: Vec<OwnedFd>) -> Result<Stdio, GuestError> {
    let given: [OwnedFd; DESCRIPTORS_MAX] = given
        .try_into()
        .map_err(|_| refuse(ErrorCode::InvalidRequest, "standard input, output and error must be open"))?;
    let [stdin, stdout, stderr] = given;
    Ok(Stdio::Descriptors { stdin, stdout, stderr })
}

/// Forwards signals until the program ends; tells how it ended.
async fn attend(mut process: Process, mut stream: UnixStream) -> io::Result<()> {
    loop {
        let group = process.group.clone();
        tokio::select! {
            end = process.exited() => {
                return say(&stream, &Reply::Exited { code: end.code() }, &[]).await;
            }
            signal = stream.read_u8() => match signal {
                // A number that is no signal is the caller's own fault and does nothing.
                Ok(signal) => {
                    group.signal_raw(i32::from(signal));
                }
                Err(error) => {
                    hang_up(&process);
                    return Err(error);
                }
            },
        }
    }
}

fn hang_up(process: &Process) {
    for signal in [Signal::HUP, Signal::TERM, Signal::CONT] {
        process.group.signal(signal);
    }
}

async fn say(stream: &UnixStream, reply: &Reply, attached: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = wire::encode(reply)?;
    let mut sent = 0;
    while sent < bytes.len() {
        stream.writable().await?;
        // Descriptors go with the first byte.
        let beside = if sent == 0 { attached } else { &[] };
        let send = || descriptors::send(stream, &bytes[sent..], beside, Sender::Unnamed);
        match stream.try_io(Interest::WRITABLE, send) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
