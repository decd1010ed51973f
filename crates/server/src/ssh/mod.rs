//! The SSH gateway: who may enter, and what stands behind a login. The protocol itself lives in `rexec_ssh`.
//!
//! ```text
//!   ssh client -> rexec_ssh::Server -> Entrance (who, and which workspace) -> Session (one connection)
//!       shell -> a guest's terminal    exec, sftp -> a guest's exec    -L -> a guest's dial    -R, -A -> its listeners
//! ```
//!
//! Invariant: a session has one actor and one workspace, both fixed when it was let in; every channel is authorised by
//! its kind's scope and recorded before it does anything. What let it in is asked about as long as it lasts.

mod command;
mod entrance;
mod forward;
mod host_keys;
pub mod http;
mod journal;
mod list;
mod listen;
mod lobby;
mod login;
mod session;
mod shell;
pub mod store;

use crate::accounts::Accounts;
use crate::actor::Actor;
use crate::auth::Auth;
use crate::config::SshConfig;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::http::tunnel;
use crate::sealed::Sealer;
use crate::ssh_keys::public_key::PublicKey;
use crate::ssh_keys::{Gateway, NO_GATEWAY, SshKeys};
use crate::tasks::Tasks;
use crate::time::rfc3339;
use crate::workspaces::Workspaces;
use axum::extract::ws::WebSocket;
use entrance::Entrance;
use host_keys::HostKeys;
use rexec_api::Page;
use rexec_api::error::ErrorCode;
use rexec_api::frames::close;
use rexec_api::ssh::SshHostKeyView;
use rexec_api::tokens::Scope;
use rexec_ssh::{Bounds, HostKey, Server, Settings};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// What is on its way between a WebSocket and its SSH connection, in each direction.
const TUNNEL_BYTES: usize = 64 * 1024;
/// What a client over a WebSocket gets to close, once its SSH connection has ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the gateway works with.
pub struct Deps {
    pub db: Db,
    pub auth: Auth,
    pub accounts: Accounts,
    pub events: Events,
    pub workspaces: Workspaces,
    pub ssh_keys: SshKeys,
    pub sealer: Sealer,
    pub tasks: Tasks,
}

/// A handle to the service. Cheap to clone.
#[derive(Clone)]
pub struct Ssh {
    deps: Arc<Deps>,
    host_keys: HostKeys,
    config: Arc<SshConfig>,
    listening: Arc<OnceLock<Listening>>,
}

struct Listening {
    server: Server,
    port: u16,
}

impl Ssh {
    pub fn new(deps: Deps, config: &SshConfig) -> Self {
        let host_keys = HostKeys::new(deps.db.clone(), deps.sealer.clone());
        Self { deps: Arc::new(deps), host_keys, config: Arc::new(config.clone()), listening: Arc::default() }
    }

    /// The port that it takes connections at.
    pub fn port(&self) -> Option<u16> {
        self.listening.get().map(|listening| listening.port)
    }

    /// Takes connections from now on, until the server stops.
    pub async fn serve(&self, listener: TcpListener) -> Result<()> {
        let key = self.host_keys.ready().await?;
        let port = listener.local_addr().map_err(Error::internal)?.port();
        let settings = Settings {
            host_keys: vec![key.clone()],
            authorities: self.config.authorities.clone(),
            bounds: Bounds::default(),
        };
        let server = Server::new(Arc::new(Entrance::new(self.deps.clone())), settings);
        self.tell(port, &key)?;
        tracing::info!(port, host_key = key.public().fingerprint(), "SSH connections are taken");
        let _ = self.listening.set(Listening { server: server.clone(), port });
        let tasks = self.deps.tasks.clone();
        self.deps.tasks.spawn("ssh", async move {
            let stop = CancellationToken::new();
            let stopping = async {
                tasks.stopping().await;
                stop.cancel();
            };
            tokio::join!(server.serve(listener, stop.clone()), stopping);
        });
        Ok(())
    }

    fn gateway(&self) -> Result<Server> {
        let listening = self.listening.get().ok_or_else(|| Error::new(ErrorCode::NotFound, NO_GATEWAY))?;
        Ok(listening.server.clone())
    }

    /// One connection that came as a WebSocket.
    async fn carry(&self, gateway: Server, socket: WebSocket, address: IpAddr) {
        let (near, far) = tokio::io::duplex(TUNNEL_BYTES);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let serving = async {
            // Its port is none that a proxy tells.
            gateway.carry(far, SocketAddr::new(address, 0), stop.clone()).await;
            ended.cancel();
        };
        let until = async {
            tokio::select! {
                () = ended.cancelled() => {}
                () = self.deps.tasks.stopping() => stop.cancel(),
            }
            // What was said last is still on its way.
            sleep(FAREWELL).await;
            (close::ENDED, "the SSH connection has ended")
        };
        tokio::join!(serving, tunnel::carry(socket, near, until));
    }

    /// The keys by which the gateway proves itself.
    pub async fn host_keys(&self, actor: &Actor) -> Result<Page<SshHostKeyView>> {
        actor.authorise(Scope::Account)?;
        self.views().await
    }

    /// Proves itself by a new key to whoever connects from now on.
    pub async fn rotate_host_key(&self, actor: &Actor) -> Result<Page<SshHostKeyView>> {
        actor.authorise(Scope::Admin)?;
        if !actor.is_admin() {
            return Err(Error::new(ErrorCode::Forbidden, "Only administrators replace the keys of the SSH gateway."));
        }
        self.host_keys.rotate(actor.user).await?;
        if let Some(Listening { server, port }) = self.listening.get() {
            // Of two who rotate at once, both read what was written last.
            let key = self.host_keys.ready().await?;
            server.replace_host_keys(std::slice::from_ref(&key));
            self.tell(*port, &key)?;
        }
        self.views().await
    }

    /// Has those who ask how to connect told of it, and of the port that leads to it from outside.
    fn tell(&self, port: u16, key: &HostKey) -> Result<()> {
        let public = PublicKey::parse(&key.public().line()).map_err(Error::internal)?;
        let port = self.config.public_port.unwrap_or(port);
        self.deps.ssh_keys.set_gateway(Some(Gateway { port, host_keys: vec![public] }));
        Ok(())
    }

    async fn views(&self) -> Result<Page<SshHostKeyView>> {
        let mut items = Vec::new();
        for row in self.host_keys.list().await? {
            let key = PublicKey::parse(&row.public_key).map_err(Error::internal)?;
            items.push(SshHostKeyView {
                kind: row.kind,
                fingerprint: key.fingerprint(),
                public_key: key.line(),
                created_at: rfc3339(row.created_ms),
            });
        }
        Ok(Page { items, next: None })
    }
}
