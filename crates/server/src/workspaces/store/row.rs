//! A workspace's row, and what it means.

use crate::workspaces::lifecycle::{Desired, Intent};
use crate::workspaces::limits::Wish;
use crate::workspaces::moving::store::Moving;
use rexec_api::egress::EgressSettings;
use rexec_api::error::ErrorCode;
use rexec_api::idle::IdleSettings;
use rexec_api::ids::{HostId, UserId, WorkspaceId};
use rexec_api::workspaces::{MachineView, PatchWorkspace, WorkspaceStatus};
use sea_orm::{DbErr, FromQueryResult};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Declares an enum that a column holds as text.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// Who wants a workspace as it is to be.
    WantBy {
        User = "user",
        /// Nobody used it: whoever does wakes it.
        Idle = "idle",
        /// It has run for as long as it may.
        Lifetime = "lifetime",
        /// Its disk, or the host's, is full.
        Disk = "disk",
        /// A person's wish, too: it is deleted together with its home.
        Purge = "purge",
        /// It is deleted because nobody came back to it.
        Delete = "delete",
    }
}

words! {
    /// How far the filling of a home is that begins as a copy of another.
    HomeState {
        Empty = "empty",
        Filling = "filling",
        Ready = "ready",
    }
}

words! {
    /// Whether a repository is to be cloned into the home.
    SourceState {
        None = "none",
        Wanted = "wanted",
        Done = "done",
    }
}

/// Who wants it so, and why, in a sentence for its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    pub by: WantBy,
    pub reason: Option<String>,
}

impl Want {
    /// A person's wish needs no explanation.
    pub const fn user() -> Self {
        Self { by: WantBy::User, reason: None }
    }
}

/// A workspace as it is stored.
#[derive(Debug, Clone)]
pub struct Workspace {
    pub id: WorkspaceId,
    pub owner: UserId,
    pub name: String,
    pub template: Option<String>,
    /// What it is made from, resolved when it was asked for; JSON.
    pub plan_json: String,
    pub git_url: Option<String>,
    pub git_branch: Option<String>,
    /// The snapshot that it began as.
    pub source_snapshot: Option<String>,
    pub image: String,
    /// Empty: the host's default.
    pub runtime: String,
    pub cpu_milli: i64,
    pub memory_mb: i64,
    /// 0: no limit.
    pub disk_mb: i64,
    /// Processes and threads.
    pub pids: i64,
    /// How containers inside of it run; absent: not at all.
    pub nested: Option<String>,
    pub env: BTreeMap<String, String>,
    pub intent: Intent,
    pub want: Want,
    /// Its own thresholds of idleness, where they differ.
    pub idle: IdleSettings,
    /// Raised by each wish for other limits.
    pub limits_seq: i64,
    /// The limits that are wished for and not in force; those that are stand above.
    pub wish: Option<Wish>,
    /// What else its owner has asked for with them: done when they are granted, or not at all.
    pub rest: PatchWorkspace,
    pub status: WorkspaceStatus,
    pub status_reason: Option<String>,
    pub error_code: Option<ErrorCode>,
    pub host: Option<HostId>,
    /// Counts containers: each one made for the workspace has the next number.
    pub generation: i64,
    /// The home volume's name.
    pub volume: String,
    pub home_state: HomeState,
    pub source_state: SourceState,
    /// The image that the repository's own description names.
    pub image_found: Option<String>,
    /// Before it was moved; absent of what was not.
    pub made_from: Option<String>,
    /// The `limits_seq` that was last granted or refused.
    pub limits_applied_seq: i64,
    pub guest_key: String,
    pub created_ms: i64,
    pub started_ms: Option<i64>,
    /// When it was last used, coarsely; to be started or resumed counts.
    pub last_active_ms: Option<i64>,
    /// Since when it is stopped; absent while it is not.
    pub stopped_ms: Option<i64>,
    /// When its owner was last warned of its deletion, and for when.
    pub delete_warned_ms: Option<i64>,
    pub delete_told_ms: Option<i64>,
    /// What it says of itself where it is a machine that was joined: then nothing of it is at any engine.
    pub machine: Option<MachineView>,
    /// While it is warm and nobody's: what it can become.
    pub pool: Option<Pooled>,
    /// Its last move to another host, until it has run there.
    pub moving: Option<Moving>,
    /// What it may reach; absent of those that are older than that could be said.
    pub egress: Option<EgressSettings>,
    /// Raised by each change of it.
    pub egress_seq: i64,
    /// The `egress_seq` that its gateway was last told.
    pub egress_applied_seq: i64,
    /// Its own on its host's closed network, if it was last started there.
    pub address: Option<Ipv4Addr>,
    /// Where its gateway listens there.
    pub gateway: Option<SocketAddrV4>,
}

/// Of one that is warm and nobody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooled {
    /// As `pool::Key` writes it.
    pub key: String,
    /// The id of the image that it was made from.
    pub image: Option<String>,
}

impl Workspace {
    /// Paused because nobody used it, as against by a person, whose pause stays until they resume it.
    pub fn sleeps(&self) -> bool {
        self.intent.desired == Desired::Paused && self.want.by == WantBy::Idle
    }

    /// On its way out.
    pub fn is_leaving(&self) -> bool {
        self.intent.desired == Desired::Deleted
    }
}

/// Limits that are wished for, with all that is to change together with them; JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Wished {
    #[serde(flatten)]
    pub limits: Wish,
    #[serde(default)]
    pub rest: PatchWorkspace,
}

#[derive(FromQueryResult)]
pub(super) struct Row {
    id: String,
    owner_id: String,
    name: String,
    template: Option<String>,
    plan_json: String,
    git_url: Option<String>,
    git_branch: Option<String>,
    source_snapshot: Option<String>,
    image: String,
    runtime: String,
    cpu_milli: i64,
    memory_mb: i64,
    disk_mb: i64,
    pids: i64,
    nested: Option<String>,
    env_json: String,
    desired: String,
    want_by: Option<String>,
    want_reason: Option<String>,
    idle_json: String,
    limits_seq: i64,
    limits_json: Option<String>,
    status: String,
    status_reason: Option<String>,
    error_code: Option<String>,
    host_id: Option<String>,
    generation: i64,
    boot_seq: i64,
    booted_seq: i64,
    volume: String,
    home_state: String,
    source_state: String,
    image_found: Option<String>,
    made_from: Option<String>,
    limits_applied_seq: i64,
    guest_key: String,
    created_ms: i64,
    started_ms: Option<i64>,
    last_active_ms: Option<i64>,
    stopped_ms: Option<i64>,
    delete_warned_ms: Option<i64>,
    delete_told_ms: Option<i64>,
    machine_json: Option<String>,
    pool_key: Option<String>,
    pool_image: Option<String>,
    move_json: Option<String>,
    egress_json: Option<String>,
    egress_seq: i64,
    egress_applied_seq: i64,
    address: Option<String>,
    gateway: Option<String>,
}

pub(super) const COLUMNS: &str = "id, owner_id, name, template, plan_json, git_url, git_branch, source_snapshot, \
    image, runtime, cpu_milli, memory_mb, disk_mb, pids, nested, env_json, desired, want_by, want_reason, idle_json, \
    limits_seq, status, status_reason, error_code, host_id, generation, boot_seq, booted_seq, volume, home_state, \
    source_state, image_found, made_from, limits_applied_seq, guest_key, created_ms, started_ms, last_active_ms, stopped_ms, \
    delete_warned_ms, delete_told_ms, limits_json, machine_json, pool_key, pool_image, move_json, \
    egress_json, egress_seq, egress_applied_seq, address, gateway";

impl TryFrom<Row> for Workspace {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("workspace {} has an unreadable {what}", row.id));
        let wished: Option<Wished> = match &row.limits_json {
            Some(wish) if row.limits_seq > row.limits_applied_seq => {
                Some(serde_json::from_str(wish).map_err(|_| broken("limits_json"))?)
            }
            _ => None,
        };
        // A row of the time before anyone but its owner could want anything.
        let by = row.want_by.as_deref().map_or(Some(WantBy::User), WantBy::parse);
        Ok(Self {
            id: row.id.parse().map_err(|_| broken("id"))?,
            owner: row.owner_id.parse().map_err(|_| broken("owner_id"))?,
            intent: Intent {
                desired: Desired::parse(&row.desired).ok_or_else(|| broken("desired"))?,
                boot_seq: row.boot_seq,
                booted_seq: row.booted_seq,
            },
            want: Want { by: by.ok_or_else(|| broken("want_by"))?, reason: row.want_reason },
            status: WorkspaceStatus::parse(&row.status).ok_or_else(|| broken("status"))?,
            error_code: row.error_code.as_deref().map(ErrorCode::parse),
            env: serde_json::from_str(&row.env_json).map_err(|_| broken("env_json"))?,
            host: row.host_id.as_deref().map(|id| id.parse().map_err(|_| broken("host_id"))).transpose()?,
            home_state: HomeState::parse(&row.home_state).ok_or_else(|| broken("home_state"))?,
            source_state: SourceState::parse(&row.source_state).ok_or_else(|| broken("source_state"))?,
            name: row.name,
            template: row.template,
            plan_json: row.plan_json,
            git_url: row.git_url,
            git_branch: row.git_branch,
            source_snapshot: row.source_snapshot,
            image: row.image,
            runtime: row.runtime,
            cpu_milli: row.cpu_milli,
            memory_mb: row.memory_mb,
            disk_mb: row.disk_mb,
            pids: row.pids,
            nested: row.nested,
            idle: serde_json::from_str(&row.idle_json).map_err(|_| broken("idle_json"))?,
            limits_seq: row.limits_seq,
            machine: row
                .machine_json
                .as_deref()
                .map(|json| serde_json::from_str(json).map_err(|_| broken("machine_json")))
                .transpose()?,
            moving: row
                .move_json
                .as_deref()
                .map(|json| serde_json::from_str(json).map_err(|_| broken("move_json")))
                .transpose()?,
            egress: row
                .egress_json
                .as_deref()
                .map(|json| serde_json::from_str(json).map_err(|_| broken("egress_json")))
                .transpose()?,
            egress_seq: row.egress_seq,
            egress_applied_seq: row.egress_applied_seq,
            gateway: row.gateway.as_deref().map(|text| text.parse().map_err(|_| broken("gateway"))).transpose()?,
            address: row.address.as_deref().map(|text| text.parse().map_err(|_| broken("address"))).transpose()?,
            pool: row.pool_key.map(|key| Pooled { key, image: row.pool_image }),
            wish: wished.as_ref().map(|wished| wished.limits),
            rest: wished.map(|wished| wished.rest).unwrap_or_default(),
            status_reason: row.status_reason,
            generation: row.generation,
            volume: row.volume,
            image_found: row.image_found,
            made_from: row.made_from,
            limits_applied_seq: row.limits_applied_seq,
            guest_key: row.guest_key,
            created_ms: row.created_ms,
            started_ms: row.started_ms,
            last_active_ms: row.last_active_ms,
            stopped_ms: row.stopped_ms,
            delete_warned_ms: row.delete_warned_ms,
            delete_told_ms: row.delete_told_ms,
        })
    }
}
