//! Ports: what listens in a workspace, and the previews through which a browser sees it.
//!
//! Discovery is the guest's; this service joins it with what was said of each port (`store.rs`,
//! `view.rs`) and tells of changes (`news.rs`).
//!
//! A preview is an origin of its own (`address.rs`): `gate.rs` and `range.rs` are the ways to it, `visit.rs`
//! lets a request in, by a pass (`pass.rs`) or because the preview is public, `headers.rs` says what may
//! pass, `proxy.rs` carries it, or `call.rs` if it is gRPC (`grpc.rs`), and `notice.rs` says why not. `tunnel.rs` is for programs.
//!
//! Invariant: every method for the API checks its actor first, through the workspace's owner; every
//! visitor is let in by `Ports::admit` or not at all.

mod address;
mod call;
pub mod gate;
mod grpc;
mod headers;
pub mod http;
mod meter;
mod news;
mod notice;
mod pass;
mod proxy;
mod range;
pub mod store;
mod tunnel;
mod view;
mod visit;

use crate::actor::{Actor, Via};
use crate::auth::Auth;
use crate::config::Config;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::events::{self, Events, NewEvent};
use crate::tasks::Tasks;
use crate::time::{now_ms, rfc3339};
use crate::workspaces::{Waking, Workspaces};
use address::{Names, Place, Spot};
use pass::{CODE_MS, CODE_PARAMETER, Holder, Passes};
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::ports::{OpenPort, OpenedPort, PortList, PortView, SetPort, Visibility};
use rexec_api::tokens::Scope;
use serde_json::json;
use std::sync::Arc;
use store::Setting;
use tokio::sync::{Mutex, watch};

/// Ports of one workspace that can be set up.
const SETTINGS_MAX: usize = 100;
const LABEL_CHARS_MAX: usize = 80;
/// The longest path and query that a preview can be opened at.
const PATH_BYTES_MAX: usize = 4096;

/// A handle to the service. Cheap to clone.
#[derive(Clone)]
pub struct Ports {
    db: Db,
    auth: Auth,
    events: Events,
    workspaces: Workspaces,
    tasks: Tasks,
    config: Arc<Config>,
    /// Where the application itself listens.
    app_port: u16,
    names: Arc<Names>,
    passes: Arc<Passes>,
    /// Moves when anything was said of a preview.
    changes: Arc<watch::Sender<u64>>,
    open: Arc<Mutex<range::Open>>,
}

/// What the service is made of.
pub struct Deps {
    pub db: Db,
    pub auth: Auth,
    pub events: Events,
    pub workspaces: Workspaces,
    pub tasks: Tasks,
    pub config: Arc<Config>,
    pub app_port: u16,
}

impl Ports {
    pub fn new(deps: Deps) -> Self {
        let Deps { db, auth, events, workspaces, tasks, config, app_port } = deps;
        Self {
            names: Arc::new(Names::of(&config)),
            passes: Arc::new(Passes::new(&auth.derived_key(Passes::PURPOSE))),
            changes: Arc::default(),
            open: Arc::default(),
            db,
            auth,
            events,
            workspaces,
            tasks,
            config,
            app_port,
        }
    }

    /// Tells of ports for as long as the server runs.
    pub async fn keep_telling(self) {
        news::tell(self).await;
    }

    /// What listens, and what was said of ports, for whoever uses the application at `host`. A workspace
    /// that does not run has only the latter.
    pub async fn list(&self, actor: &Actor, workspace: WorkspaceId, host: Option<&str>) -> Result<PortList> {
        let found = match self.workspaces.reach_as(actor, Scope::Ports, workspace, Waking::No).await {
            Ok(reach) => reach.guest.ports().await?,
            Err(error) if error.code == ErrorCode::WorkspaceState => Vec::new(),
            Err(error) => return Err(error),
        };
        let settings = store::of_workspace(self.db.read(), workspace).await?;
        let mut items = view::ports(found, &settings, now_ms());
        let place = self.names.place(host);
        for view in &mut items {
            let given = settings.iter().find(|setting| setting.port == view.port).and_then(|s| s.listen_port);
            view.url = place.as_ref().ok().and_then(|place| base(place, Spot { workspace, port: view.port }, given));
        }
        let previews_unavailable = place.err().map(|error| error.message.into_owned());
        Ok(PortList { items, next: None, previews_unavailable })
    }

    /// The address at which the actor's browser is let in to a preview, once.
    pub async fn open(
        &self,
        actor: &Actor,
        workspace: WorkspaceId,
        port: u16,
        open: OpenPort,
        host: Option<&str>,
    ) -> Result<OpenedPort> {
        self.workspaces.owned(actor, Scope::Ports, workspace).await?;
        let path = path(open.path)?;
        let spot = Spot { workspace, port };
        let base = self.base(spot, host).await?;
        let Via::Session(session) = actor.via else {
            let message = "An API token opens no preview in a browser: send it to the port's `url` as \
                           `Authorization: Bearer <token>`.";
            return Err(Error::new(ErrorCode::Forbidden, message));
        };
        let expires_ms = now_ms() + CODE_MS;
        let code = pass::issue(&self.db, Holder { user: actor.user, session }, spot, expires_ms).await?;
        let joint = if path.contains('?') { '&' } else { '?' };
        Ok(OpenedPort { url: format!("{base}{path}{joint}{CODE_PARAMETER}={code}"), expires_at: rfc3339(expires_ms) })
    }

    /// A preview's origin, which is made where each has a port.
    async fn base(&self, spot: Spot, host: Option<&str>) -> Result<String> {
        let place = self.names.place(host)?;
        let given = match &place {
            Place::Named { .. } => None,
            Place::Ports { .. } => Some(self.listen_port(spot).await?),
        };
        base(&place, spot, given).ok_or_else(|| Error::internal("a preview without an address"))
    }

    /// Says who may open a port's preview.
    pub async fn set(
        &self,
        actor: &Actor,
        workspace: WorkspaceId,
        port: u16,
        set: SetPort,
        host: Option<&str>,
    ) -> Result<PortView> {
        self.workspaces.owned(actor, Scope::Ports, workspace).await?;
        let now = now_ms();
        let setting = validated(port, set, now)?;
        if setting.visibility == Visibility::Public {
            self.names.place(host)?;
        }
        let tx = self.db.begin().await?;
        let known = store::of_workspace(&tx, workspace).await?;
        if known.len() >= SETTINGS_MAX && !known.iter().any(|known| known.port == port) {
            let message = format!("{SETTINGS_MAX} ports of this workspace are set up already. Reset one first.");
            return Err(Error::new(ErrorCode::QuotaExceeded, message)
                .details(json!({ "quota": "previews", "used": known.len(), "max": SETTINGS_MAX })));
        }
        store::put(&tx, workspace, &setting, now).await?;
        let data = json!({ "port": port, "visibility": setting.visibility, "expires_ms": setting.expires_ms });
        let event = NewEvent::of_user(actor.user, "port.set").workspace(workspace).data(data);
        let logged = events::append(&tx, &event).await?;
        tx.commit().await?;
        self.events.tell_logged(actor.user, logged);
        self.changes.send_modify(|count| *count += 1);
        if setting.visibility == Visibility::Public {
            self.base(Spot { workspace, port }, host).await?;
        }
        self.one(actor, workspace, port, host).await
    }

    /// Makes a port's preview what it was at first: private.
    pub async fn reset(&self, actor: &Actor, workspace: WorkspaceId, port: u16) -> Result<()> {
        self.workspaces.owned(actor, Scope::Ports, workspace).await?;
        let tx = self.db.begin().await?;
        if store::reset(&tx, workspace, port).await? {
            let data = json!({ "port": port });
            let event = NewEvent::of_user(actor.user, "port.reset").workspace(workspace).data(data);
            let logged = events::append(&tx, &event).await?;
            tx.commit().await?;
            self.events.tell_logged(actor.user, logged);
            self.changes.send_modify(|count| *count += 1);
            self.close(Spot { workspace, port }).await;
        }
        Ok(())
    }

    async fn one(&self, actor: &Actor, workspace: WorkspaceId, port: u16, host: Option<&str>) -> Result<PortView> {
        // That it was set is so whether the guest can be asked now or not.
        let listed = self.list(actor, workspace, host).await.map(|list| list.items).unwrap_or_default();
        if let Some(view) = listed.into_iter().find(|view| view.port == port) {
            return Ok(view);
        }
        let setting = store::find(self.db.read(), workspace, port).await?;
        let views = view::ports(Vec::new(), setting.as_slice(), now_ms());
        Ok(views.into_iter().next().unwrap_or_else(|| view::silent(port)))
    }
}

fn base(place: &Place, spot: Spot, listen_port: Option<u16>) -> Option<String> {
    match place {
        Place::Named { scheme, rest } => Some(format!("{scheme}://{}.{rest}", spot.label())),
        Place::Ports { host } => Some(format!("http://{host}:{}", listen_port?)),
    }
}

/// A path and query as they can stand in an address.
fn path(path: Option<String>) -> Result<String> {
    let path = path.unwrap_or_else(|| "/".into());
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'#'));
    let fits = path.starts_with('/') && path.len() <= PATH_BYTES_MAX && plain;
    if fits && path.parse::<::http::uri::PathAndQuery>().is_ok() {
        return Ok(path);
    }
    let message =
        format!("`path` must begin with `/` and be encoded as in an address, {PATH_BYTES_MAX} bytes at most.");
    Err(Error::field("path", message))
}

fn validated(port: u16, set: SetPort, now_ms: i64) -> Result<Setting> {
    let SetPort { visibility, expires_at, label } = set;
    if visibility == Visibility::Organisation {
        return Err(Error::field(
            "visibility",
            "Previews for an organisation are not part of this version; use `private`, or `public` with `expires_at`.",
        ));
    }
    let expires_ms = match expires_at {
        None => None,
        Some(_) if visibility != Visibility::Public => {
            return Err(Error::field("expires_at", "`expires_at` is for `public` previews; leave it out."));
        }
        Some(text) => match text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond) {
            Ok(end) if end > now_ms => Some(end),
            Ok(_) => return Err(Error::field("expires_at", "`expires_at` is in the past; name a later time.")),
            Err(_) => {
                return Err(Error::field("expires_at", "`expires_at` must be a time such as 2030-01-31T12:00:00Z."));
            }
        },
    };
    let label = label.map(|label| label.trim().to_owned()).filter(|label| !label.is_empty());
    if label.as_ref().is_some_and(|l| l.chars().count() > LABEL_CHARS_MAX || l.chars().any(char::is_control)) {
        let message = format!("`label` must be one line of at most {LABEL_CHARS_MAX} characters.");
        return Err(Error::field("label", message));
    }
    Ok(Setting { port, visibility, expires_ms, label, listen_port: None })
}
