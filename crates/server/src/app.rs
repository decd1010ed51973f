//! The application: every service of one server, built once and in order, shared by all routes.

use crate::accounts::Accounts;
use crate::auth::Auth;
use crate::config::Config;
use crate::db::Db;
use crate::egress::Egress;
use crate::events::Events;
use crate::exec::Execs;
use crate::files::Files;
use crate::hosts::Fleet;
use crate::hosts::admin::Servers;
use crate::http::health::Checks;
use crate::http::streams::Streams;
use crate::machines::Machines;
use crate::models::Models;
use crate::ports::Ports;
use crate::registries::Registries;
use crate::replicas::Replicas;
use crate::secrets::Secrets;
use crate::setups::Setups;
use crate::snapshots::Snapshots;
use crate::ssh::Ssh;
use crate::ssh_keys::SshKeys;
use crate::stats::WorkspaceStats;
use crate::tasks::Tasks;
use crate::templates::Templates;
use crate::terminals::Terminals;
use crate::volumes::Volumes;
use crate::workspaces::Workspaces;
use std::sync::Arc;

/// The state of the routes.
pub type AppState = Arc<App>;

pub struct App {
    pub config: Arc<Config>,
    pub db: Db,
    pub auth: Auth,
    pub accounts: Accounts,
    pub events: Events,
    pub fleet: Fleet,
    pub servers: Servers,
    pub registries: Registries,
    /// This server among those on the database.
    pub replicas: Replicas,
    pub templates: Templates,
    pub setups: Setups,
    pub workspaces: Workspaces,
    pub machines: Machines,
    pub volumes: Volumes,
    pub snapshots: Snapshots,
    pub ssh_keys: SshKeys,
    pub ssh: Ssh,
    pub stats: WorkspaceStats,
    pub egress: Egress,
    pub secrets: Secrets,
    pub models: Models,
    pub terminals: Terminals,
    pub execs: Execs,
    pub files: Files,
    pub ports: Ports,
    /// What `/ready` asks; services add theirs while the server is built.
    pub checks: Checks,
    pub tasks: Tasks,
    /// Open for each user.
    pub streams: Streams,
}
