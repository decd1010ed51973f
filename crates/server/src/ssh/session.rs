//! One SSH connection that was let in: what it may have, of one workspace.

use super::Deps;
use super::command;
use super::forward;
use super::journal::{Journal, Kind, Proven};
use super::listen;
use super::lobby;
use super::shell;
use crate::actor::Actor;
use crate::config::Use;
use crate::error::{Error, Result};
use crate::turns::Turn;
use crate::workspaces::lifecycle;
use crate::workspaces::{Reach, Waking};
use async_trait::async_trait;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::tokens::Scope;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_ssh::{Destination, Duplex, Listener, Notices, Peer, Refusal, Request, Running, Target, Work};
use std::sync::Arc;
use std::time::Duration;

/// Connections of one user at once; one more is told so and can do nothing.
pub(super) const CONNECTIONS_PER_USER_MAX: usize = 256;
/// How long whoever connects waits for a workspace that is being started; longer than anything but fetching an image.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// Where a login leads to.
pub(super) enum Place {
    Workspace(WorkspaceId),
    /// Several of the user's are called so.
    Ambiguous {
        name: String,
    },
    /// To no workspace of the user's.
    Nowhere {
        said: String,
    },
}

/// Whoever is connected, and what is recorded of them.
pub(super) struct Visit {
    pub deps: Arc<Deps>,
    pub actor: Actor,
    proven: Proven,
    pub peer: Peer,
    /// Absent: the user has too many connections.
    seat: Option<Turn>,
    journal: Journal,
}

impl Visit {
    pub fn new(deps: Arc<Deps>, actor: Actor, proven: Proven, peer: Peer, seat: Option<Turn>) -> Self {
        Self { deps, actor, proven, peer, seat, journal: Journal::default() }
    }

    pub fn require_seat(&self) -> Result<()> {
        if self.seat.is_some() {
            return Ok(());
        }
        let message = format!("You have {CONNECTIONS_PER_USER_MAX} SSH connections already. Close some of them first.");
        Err(Error::new(ErrorCode::RateLimited, message))
    }

    /// A workspace, woken or started if need be, for a channel of this kind.
    pub async fn reach(&self, id: WorkspaceId, scope: Scope, kind: Kind, notices: Option<&Notices>) -> Result<Reach> {
        let workspaces = &self.deps.workspaces;
        let row = workspaces.owned(&self.actor, scope, id).await?;
        self.journal.record(&self.deps, &self.actor, id, kind, &self.proven, &self.peer).await?;
        let say = |what: &str| {
            if let Some(notices) = notices {
                notices.say(format!("rexec: {what}"));
            }
        };
        let name = &row.name;
        if row.sleeps() {
            say(&format!("waking `{name}`..."));
        } else if row.status != WorkspaceStatus::Running && !row.is_machine() {
            let (what, request) = match row.status {
                WorkspaceStatus::Paused => (format!("resuming `{name}`..."), lifecycle::Request::Resume),
                WorkspaceStatus::Stopped => {
                    (format!("starting `{name}`, which was stopped..."), lifecycle::Request::Start)
                }
                status => (format!("waiting for `{name}`, which is {}...", status.as_str()), lifecycle::Request::Start),
            };
            say(&what);
            let outcome = workspaces.request(&self.actor, id, request, START_PATIENCE).await?;
            if !outcome.done {
                let message = format!("`{name}` takes its time. Try again in a moment.");
                return Err(Error::new(ErrorCode::WorkspaceUnreachable, message));
            }
        }
        workspaces.reach_as(&self.actor, scope, id, Waking::Yes(Use::Ssh)).await
    }
}

pub(super) struct Session {
    visit: Arc<Visit>,
    place: Place,
}

impl Session {
    pub fn new(visit: Visit, place: Place) -> Self {
        Self { visit: Arc::new(visit), place }
    }

    async fn reach(&self, scope: Scope, kind: Kind, notices: Option<&Notices>) -> Result<Reach> {
        self.visit.require_seat()?;
        match self.place {
            Place::Workspace(id) => self.visit.reach(id, scope, kind, notices).await,
            _ => Err(self.astray().await),
        }
    }

    /// What to say to whoever came to no workspace, who has proven who they are.
    async fn astray(&self) -> Error {
        let mut message = match &self.place {
            Place::Ambiguous { name } => format!("Several of your workspaces are called `{name}`. Use an id."),
            Place::Nowhere { said } if !said.is_empty() => format!("You have no workspace `{said}`."),
            _ => "Name a workspace: ssh <workspace>@<this host>".to_owned(),
        };
        if let Ok(page) = self.visit.deps.workspaces.list(&self.visit.actor, None).await {
            for view in page.items {
                message.push_str(&format!("\n  {}  {}  {}", view.id, view.status.as_str(), view.name));
            }
        }
        Error::new(ErrorCode::NotFound, message)
    }
}

#[async_trait]
impl Target for Session {
    async fn run(&self, request: Request, notices: Notices) -> Result<Running, Refusal> {
        let (scope, kind) = match (&request.work, &request.pty) {
            (Work::Sftp, _) => (Scope::Files, Kind::Sftp),
            (_, Some(_)) => (Scope::Terminals, Kind::Shell),
            (_, None) => (Scope::Exec, Kind::Exec),
        };
        if let (Place::Nowhere { said }, Work::Shell, Some(pty)) = (&self.place, &request.work, &request.pty) {
            self.visit.require_seat().map_err(refusal)?;
            return lobby::open(self.visit.clone(), said, pty.clone(), request.env).await.map_err(refusal);
        }
        let reach = self.reach(scope, kind, Some(&notices)).await.map_err(refusal)?;
        let client = self.visit.peer.address;
        let running = match request.pty {
            Some(pty) => shell::open(reach, request.work, pty, request.env, client).await,
            None => command::start(reach, request.work, request.env, client).await,
        };
        running.map_err(refusal)
    }

    async fn dial(&self, to: Destination) -> Result<Box<dyn Duplex>, Refusal> {
        let (spec, kind) = forward::judge(&to)?;
        let reach = self.reach(Scope::Ports, Kind::Forward(kind), None).await.map_err(refusal)?;
        forward::dial(reach, &spec).await.map_err(refusal)
    }

    async fn listen(&self, at: rexec_ssh::Place) -> Result<Box<dyn Listener>, Refusal> {
        let (spec, kind) = listen::judge(&at)?;
        let reach = self.reach(Scope::Ports, Kind::Forward(kind), None).await.map_err(refusal)?;
        listen::open(reach, &spec).await.map_err(refusal)
    }

    async fn revoked(&self) -> String {
        self.visit.deps.auth.ended(&self.visit.actor).await.message.into_owned()
    }
}

/// What the person at the other end is told; what is our fault is told to the log.
pub(super) fn refusal(error: Error) -> Refusal {
    if error.code == ErrorCode::Internal {
        tracing::warn!(code = error.code.as_str(), causes = error.causes(), "a channel of SSH could not be opened");
    }
    let message = format!("rexec: {}", error.message);
    if error.code.http_status() == 403 { Refusal::forbidden(message) } else { Refusal::failed(message) }
}
