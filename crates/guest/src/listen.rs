//! Listening inside the workspace for the server, which takes each connection that comes as a stream of its own.
//!
//! **Order.** The first frame says where it listens; one follows for each connection. A connection that the server does
//! not take within [`TAKE_PATIENCE`] is closed. It listens for as long as its own stream lasts.
//!
//! Ports are of loopback alone. Sockets are made with the user's rights, for the user alone, and removed at the end.

use crate::dial::carry;
use crate::guest::Guest;
use crate::refusal::{internal, invalid, refuse};
use crate::rights::Rights;
use rexec_api::error::ErrorCode;
use rexec_api::guest::{AcceptSpec, GuestError, ListenNews, ListenSpec};
use rexec_channel::Call;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use uuid::Uuid;

/// Listeners at once; more are refused.
const LISTENERS_MAX: u32 = 256;
/// Connections that wait to be taken; more are closed.
const WAITING_MAX: usize = 64;
const TAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// Where sockets are made that were given no path.
const PRIVATE_PARENT: &str = "/tmp";
const SOCKET_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// What came and was not taken yet, and how many listen.
#[derive(Default)]
pub struct Arrivals {
    waiting: RefCell<HashMap<Uuid, Box<dyn Stream>>>,
    listeners: Cell<u32>,
}

enum Open {
    Tcp(TcpListener),
    Unix(UnixListener, Socket),
}

/// A socket's name in the file system, which goes with it.
struct Socket {
    path: PathBuf,
    /// Made for it, and removed with it.
    directory: Option<PathBuf>,
    rights: Rights,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let (rights, path, directory) = (self.rights.clone(), self.path.clone(), self.directory.take());
        tokio::task::spawn_local(async move {
            let removed = rights.run(move || {
                // Whoever has put something else there keeps it, or has made it the user's own affair.
                let _ = std::fs::remove_file(&path);
                if let Some(directory) = directory {
                    let _ = std::fs::remove_dir(directory);
                }
                Ok(())
            });
            let _ = removed.await;
        });
    }
}

/// Counts a listener until dropped.
struct Place(Rc<Guest>);

impl Drop for Place {
    fn drop(&mut self) {
        let listeners = &self.0.arrivals.listeners;
        listeners.set(listeners.get() - 1);
    }
}

pub async fn listen(guest: &Rc<Guest>, call: Call) {
    let opened = async {
        let spec = call.header::<ListenSpec>("x-rexec-listen")?;
        let rights = guest.workspace()?.rights.clone();
        if guest.arrivals.listeners.get() >= LISTENERS_MAX {
            return Err(invalid(format!("{LISTENERS_MAX} listeners are open already.")));
        }
        guest.arrivals.listeners.set(guest.arrivals.listeners.get() + 1);
        let place = Place(guest.clone());
        Ok((open(rights, spec).await?, place))
    };
    let (listener, _place) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    let Ok((mut sender, _receiver)) = call.frames() else { return };
    let mut news = listener.where_it_listens();
    loop {
        let Ok(frame) = serde_json::to_vec(&news) else { return };
        if sender.send(frame.into()).await.is_err() {
            return;
        }
        let (stream, address, port) = tokio::select! {
            () = sender.closed() => return,
            came = listener.accept() => came,
        };
        let Some(id) = wait(guest, stream) else { continue };
        news = ListenNews::Came { id, address, port };
    }
}

/// Keeps a connection until it is taken, for a while.
fn wait(guest: &Rc<Guest>, stream: Box<dyn Stream>) -> Option<Uuid> {
    let mut waiting = guest.arrivals.waiting.borrow_mut();
    if waiting.len() >= WAITING_MAX {
        return None;
    }
    let id = Uuid::new_v4();
    waiting.insert(id, stream);
    let guest = guest.clone();
    tokio::task::spawn_local(async move {
        tokio::time::sleep(TAKE_PATIENCE).await;
        guest.arrivals.waiting.borrow_mut().remove(&id);
    });
    Some(id)
}

/// Carries a connection that came.
pub async fn accepted(guest: &Guest, call: Call) {
    let stream = call.header::<AcceptSpec>("x-rexec-accepted").and_then(|spec| {
        let stream = guest.arrivals.waiting.borrow_mut().remove(&spec.id);
        stream.ok_or_else(|| refuse(ErrorCode::NotFound, "That connection is gone."))
    });
    match stream {
        Ok(stream) => carry(call, stream).await,
        Err(error) => call.answer::<()>(Err(error)).await,
    }
}

impl Open {
    fn where_it_listens(&self) -> ListenNews {
        match self {
            Self::Tcp(listener) => {
                ListenNews::Listening { port: listener.local_addr().map_or(0, |address| address.port()), path: None }
            }
            Self::Unix(_, socket) => {
                ListenNews::Listening { port: 0, path: Some(socket.path.to_string_lossy().into_owned()) }
            }
        }
    }

    async fn accept(&self) -> (Box<dyn Stream>, String, u16) {
        loop {
            let came: io::Result<(Box<dyn Stream>, String, u16)> = match self {
                Self::Tcp(listener) => listener.accept().await.map(|(stream, from)| {
                    // Without it a small answer may wait for an acknowledgement; failing is only slower.
                    let _ = stream.set_nodelay(true);
                    (Box::new(stream) as Box<dyn Stream>, from.ip().to_string(), from.port())
                }),
                Self::Unix(listener, _) => {
                    listener.accept().await.map(|(stream, _)| (Box::new(stream) as Box<dyn Stream>, String::new(), 0))
                }
            };
            match came {
                Ok(came) => return came,
                // Such as for want of descriptors: the next comes when there are some.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

async fn open(rights: Rights, spec: ListenSpec) -> Result<Open, GuestError> {
    match spec {
        ListenSpec::Tcp { port } => {
            let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
            bound.map(Open::Tcp).map_err(|error| refused(&format!("port {port}"), &error))
        }
        ListenSpec::Unix { path } => unix(rights, path.into(), None).await,
        ListenSpec::Private => {
            let directory = Path::new(PRIVATE_PARENT).join(format!("rexec-{}", Uuid::new_v4().simple()));
            let socket = directory.join("agent");
            unix(rights, socket, Some(directory)).await
        }
    }
}

async fn unix(rights: Rights, path: PathBuf, directory: Option<PathBuf>) -> Result<Open, GuestError> {
    let (at, around) = (path.clone(), directory.clone());
    let bound = rights.run(move || {
        let name = at.display().to_string();
        let address = SocketAddrUnix::new(&at).map_err(|_| invalid("path must be shorter than 108 bytes"))?;
        let bind = || -> io::Result<StdUnixListener> {
            if let Some(directory) = &around {
                std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(directory)?;
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            rustix::net::bind(&socket, &address)?;
            // Nobody can connect before it listens.
            std::fs::set_permissions(&at, std::fs::Permissions::from_mode(SOCKET_MODE))?;
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(socket.into())
        };
        bind().map_err(|error| refused(&name, &error))
    });
    let listener = UnixListener::from_std(bound.await?).map_err(|e| internal("could not watch a socket", e))?;
    Ok(Open::Unix(listener, Socket { path, directory, rights }))
}

fn refused(what: &str, error: &io::Error) -> GuestError {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => refuse(ErrorCode::FileExists, format!("{what} is taken in the workspace.")),
        Some(Errno::ACCESS | Errno::PERM) => {
            refuse(ErrorCode::FileDenied, format!("The workspace's user may not listen on {what}."))
        }
        _ => refuse(ErrorCode::FileError, format!("{what} cannot be listened on: {error}")),
    }
}
