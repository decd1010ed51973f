//! A backend whose workspace is a temporary directory and whose processes are ours.

use crate::pty::Terminal;
use async_trait::async_trait;
use bytes::Bytes;
use rexec_ssh::*;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const CHUNK_BYTES: usize = 32 * 1024;

#[derive(Default)]
pub struct Local {
    pub home: PathBuf,
    /// By login.
    pub keys: Mutex<HashMap<String, Vec<PublicKey>>>,
    pub tokens: Mutex<HashMap<String, String>>,
    pub principals: Mutex<HashMap<String, String>>,
    /// What was asked of targets, in order.
    pub calls: Mutex<Vec<String>>,
    /// Kinds of channels that are forbidden.
    pub forbidden: Mutex<Vec<&'static str>>,
    pub revoke: CancellationToken,
    /// Processes that run.
    pub alive: Arc<Mutex<usize>>,
}

impl Local {
    fn allow(&self, kind: &'static str, what: String) -> Result<(), Refusal> {
        self.calls.lock().expect("calls").push(format!("{kind} {what}"));
        if self.forbidden.lock().expect("forbidden").contains(&kind) {
            return Err(Refusal::forbidden(format!("No {kind} for you.")));
        }
        Ok(())
    }
}

pub struct Door(pub Arc<Local>);
pub struct Workspace(Arc<Local>);

#[async_trait]
impl Backend for Door {
    async fn offered(&self, _peer: &Peer, login: &str, key: &PublicKey) -> bool {
        self.0.keys.lock().expect("keys").get(login).is_some_and(|keys| keys.contains(key))
    }

    async fn enter(&self, peer: &Peer, login: &str, proof: Proof<'_>) -> Option<Arc<dyn Target>> {
        let entered = match proof {
            Proof::Login => self.0.tokens.lock().expect("tokens").values().any(|token| token == login),
            Proof::Key(key) => self.offered(peer, login, key).await,
            Proof::Certificate(certificate) => {
                let principals = self.0.principals.lock().expect("principals");
                principals.get(login).is_some_and(|principal| certificate.principals.contains(principal))
            }
            Proof::Token(token) => self.0.tokens.lock().expect("tokens").get(login).is_some_and(|known| known == token),
        };
        entered.then(|| Arc::new(Workspace(self.0.clone())) as Arc<dyn Target>)
    }
}

#[async_trait]
impl Target for Workspace {
    async fn run(&self, request: Request, notices: Notices) -> Result<Running, Refusal> {
        let kind = match request.work {
            Work::Shell => "shell",
            Work::Command(_) => "exec",
            Work::Sftp => "sftp",
        };
        self.0.allow(kind, format!("{:?}", request.pty.as_ref().map(|pty| &pty.term)))?;
        if self.0.home.join("asleep").exists() {
            notices.say("Waking up.");
            std::fs::remove_file(self.0.home.join("asleep")).expect("the sleeper's mark");
        }
        let mut command = Command::new("/bin/bash");
        match &request.work {
            Work::Shell => {}
            Work::Command(line) => drop(command.arg("-c").arg(std::ffi::OsStr::from_bytes(line))),
            Work::Sftp => return Ok(sftp(&self.0.home, &self.0.alive)),
        }
        command.env_clear().env("PATH", std::env::var_os("PATH").expect("PATH")).env("HOME", &self.0.home);
        command.env("PS1", "$ ").envs(request.env).current_dir(&self.0.home);
        match request.pty {
            Some(pty) => on_terminal(command.env("TERM", &pty.term), pty.size, &self.0.alive),
            None => on_pipes(&mut command, &self.0.alive),
        }
    }

    async fn dial(&self, to: Destination) -> Result<Box<dyn Duplex>, Refusal> {
        self.0.allow("dial", format!("{to:?}"))?;
        let failed = |error: io::Error| Refusal::failed(error.to_string());
        Ok(match to {
            Destination::Tcp { host, port } => {
                Box::new(TcpStream::connect((host, port)).await.map_err(failed)?) as Box<dyn Duplex>
            }
            Destination::Unix { path } => Box::new(UnixStream::connect(path).await.map_err(failed)?),
        })
    }

    async fn listen(&self, at: Place) -> Result<Box<dyn Listener>, Refusal> {
        self.0.allow("listen", format!("{at:?}"))?;
        let failed = |error: io::Error| Refusal::failed(error.to_string());
        Ok(match at {
            Place::Tcp { port, .. } => {
                Box::new(Tcp(TcpListener::bind(("127.0.0.1", port)).await.map_err(failed)?)) as Box<dyn Listener>
            }
            Place::Unix { path } => Box::new(Unix::bind(Path::new(&path), None).map_err(failed)?),
            Place::Agent => {
                let dir = tempfile::tempdir_in(&self.0.home).map_err(failed)?;
                let path = dir.path().join("agent");
                Box::new(Unix::bind(&path, Some(dir)).map_err(failed)?)
            }
        })
    }

    async fn revoked(&self) -> String {
        self.0.revoke.cancelled().await;
        "Your access has been withdrawn.".into()
    }
}

struct Tcp(TcpListener);

#[async_trait]
impl Listener for Tcp {
    fn port(&self) -> u16 {
        self.0.local_addr().expect("an address").port()
    }

    fn path(&self) -> Option<&str> {
        None
    }

    async fn accept(&mut self) -> Option<Incoming> {
        let (stream, from): (_, SocketAddr) = self.0.accept().await.ok()?;
        Some(Incoming { stream: Box::new(stream), from: (from.ip().to_string(), from.port()) })
    }
}

struct Unix {
    listener: UnixListener,
    path: String,
    _dir: Option<TempDir>,
}

impl Unix {
    fn bind(path: &Path, dir: Option<TempDir>) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        Ok(Self { listener, path: path.to_str().expect("a plain path").to_owned(), _dir: dir })
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[async_trait]
impl Listener for Unix {
    fn port(&self) -> u16 {
        0
    }

    fn path(&self) -> Option<&str> {
        Some(&self.path)
    }

    async fn accept(&mut self) -> Option<Incoming> {
        let (stream, _) = self.listener.accept().await.ok()?;
        Some(Incoming { stream: Box::new(stream), from: (String::new(), 0) })
    }
}

/// A process group, which ends with it.
struct Group(Pid, Arc<Mutex<usize>>);

impl Group {
    fn new(pid: Option<u32>, alive: &Arc<Mutex<usize>>) -> Arc<Self> {
        *alive.lock().expect("alive") += 1;
        let pid = pid.and_then(|pid| Pid::from_raw(pid as i32)).expect("a process");
        Arc::new(Self(pid, alive.clone()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
        *self.1.lock().expect("alive") -= 1;
    }
}

struct Events(mpsc::Receiver<Event>);

#[async_trait]
impl Output for Events {
    async fn next(&mut self) -> Event {
        match self.0.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

struct Lines {
    events: Events,
    _group: Arc<Group>,
}

#[async_trait]
impl Output for Lines {
    async fn next(&mut self) -> Event {
        self.events.next().await
    }
}

struct Stdin(Option<ChildStdin>);

#[async_trait]
impl Input for Stdin {
    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.0.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(&bytes).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.0 = None;
        Ok(())
    }
}

struct Keyboard(tokio::fs::File);

#[async_trait]
impl Input for Keyboard {
    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.0.write_all(&bytes).await?;
        self.0.flush().await
    }

    async fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Reins {
    group: Arc<Group>,
    master: Option<OwnedFd>,
}

#[async_trait]
impl Control for Reins {
    async fn resize(&mut self, size: Size) {
        if let Some(master) = &self.master {
            let size = rustix::termios::Winsize { ws_col: size.cols, ws_row: size.rows, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(master, size).expect("tcsetwinsize");
        }
    }

    async fn signal(&mut self, name: &str) {
        let signal = match name {
            "INT" => Signal::INT,
            "TERM" => Signal::TERM,
            "USR1" => Signal::USR1,
            _ => return,
        };
        let _ = kill_process_group(self.group.0, signal);
    }
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code as u32),
        (None, Some(libc::SIGTERM)) => Exit::Signal("TERM".into()),
        (None, Some(libc::SIGKILL)) => Exit::Signal("KILL".into()),
        (None, other) => Exit::Signal(format!("{other:?}")),
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<Event>, event: fn(Bytes) -> Event) {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                chunk.truncate(count);
                if to.send(event(chunk.into())).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn on_pipes(command: &mut Command, alive: &Arc<Mutex<usize>>) -> Result<Running, Refusal> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| Refusal::failed(error.to_string()))?;
    let group = Group::new(child.id(), alive);
    let (sender, events) = mpsc::channel(4);
    let (stdout, stderr) = (child.stdout.take().expect("stdout"), child.stderr.take().expect("stderr"));
    let stdin = child.stdin.take();
    tokio::spawn(async move {
        tokio::join!(pump(stdout, sender.clone(), Event::Out), pump(stderr, sender.clone(), Event::Err));
        let status = child.wait().await.expect("the child's end");
        let _ = sender.send(Event::Exit(exit(status))).await;
    });
    Ok(Running {
        input: Box::new(Stdin(stdin)),
        control: Box::new(Reins { group: group.clone(), master: None }),
        output: Box::new(Lines { events: Events(events), _group: group }),
    })
}

fn on_terminal(command: &mut Command, size: Size, alive: &Arc<Mutex<usize>>) -> Result<Running, Refusal> {
    let master = Terminal::open(size.cols, size.rows).attach(command);
    let mut child = command.spawn().map_err(|error| Refusal::failed(error.to_string()))?;
    // The slave must not stay open here, or its end would never be seen.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let group = Group::new(child.id(), alive);
    let (sender, events) = mpsc::channel(4);
    let file = |fd: &OwnedFd| tokio::fs::File::from_std(fd.try_clone().expect("dup").into());
    let (keyboard, screen) = (file(&master), file(&master));
    tokio::spawn(async move {
        pump(screen, sender.clone(), Event::Out).await;
        let status = child.wait().await.expect("the child's end");
        let _ = sender.send(Event::Exit(exit(status))).await;
    });
    Ok(Running {
        input: Box::new(Keyboard(keyboard)),
        control: Box::new(Reins { group: group.clone(), master: Some(master) }),
        output: Box::new(Lines { events: Events(events), _group: group }),
    })
}

struct Writer(Option<tokio::net::unix::pipe::Sender>);

#[async_trait]
impl Input for Writer {
    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.0.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(&bytes).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.0 = None;
        Ok(())
    }
}

struct Nothing;

#[async_trait]
impl Control for Nothing {
    async fn resize(&mut self, _size: Size) {}
    async fn signal(&mut self, _name: &str) {}
}

/// The SFTP server on a thread, which ends with its pipes.
fn sftp(home: &Path, alive: &Arc<Mutex<usize>>) -> Running {
    use tokio::net::unix::pipe::{Receiver, Sender};
    let (input, to_server) = std::io::pipe().expect("a pipe");
    let (from_server, output) = std::io::pipe().expect("a pipe");
    let (sender, events) = mpsc::channel(4);
    let (home, alive) = (home.to_owned(), alive.clone());
    *alive.lock().expect("alive") += 1;
    std::thread::spawn(move || {
        let _ = rexec_sftp::serve(input, output, &home);
        *alive.lock().expect("alive") -= 1;
    });
    let from_server = Receiver::from_owned_fd(from_server.into()).expect("a pipe");
    tokio::spawn(async move {
        pump(from_server, sender.clone(), Event::Out).await;
        let _ = sender.send(Event::Exit(Exit::Code(0))).await;
    });
    let to_server = Sender::from_owned_fd(to_server.into()).expect("a pipe");
    Running { input: Box::new(Writer(Some(to_server))), control: Box::new(Nothing), output: Box::new(Events(events)) }
}
