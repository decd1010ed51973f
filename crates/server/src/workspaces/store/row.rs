//! A workspace's row, and what it means.

use crate::workspaces::lifecycle::{Desired, Intent};
use rexec_api::error::ErrorCode;
use rexec_api::ids::{HostId, UserId, WorkspaceId};
use rexec_api::workspaces::WorkspaceStatus;
use sea_orm::{DbErr, FromQueryResult};
use std::collections::BTreeMap;

/// A workspace as it is stored.
#[derive(Debug, Clone)]
pub struct Workspace {
    pub id: WorkspaceId,
    pub owner: UserId,
    pub name: String,
    pub image: String,
    /// Empty: the host's default.
    pub runtime: String,
    pub cpu_milli: i64,
    pub memory_mb: i64,
    pub env: BTreeMap<String, String>,
    pub intent: Intent,
    pub status: WorkspaceStatus,
    pub status_reason: Option<String>,
    pub error_code: Option<ErrorCode>,
    pub host: Option<HostId>,
    /// Counts containers: each one made for the workspace has the next number.
    pub generation: i64,
    /// The home volume's name.
    pub volume: String,
    pub guest_key: String,
    pub created_ms: i64,
    pub started_ms: Option<i64>,
}

#[derive(FromQueryResult)]
pub(super) struct Row {
    id: String,
    owner_id: String,
    name: String,
    image: String,
    runtime: String,
    cpu_milli: i64,
    memory_mb: i64,
    env_json: String,
    desired: String,
    status: String,
    status_reason: Option<String>,
    error_code: Option<String>,
    host_id: Option<String>,
    generation: i64,
    boot_seq: i64,
    booted_seq: i64,
    volume: String,
    guest_key: String,
    created_ms: i64,
    started_ms: Option<i64>,
}

pub(super) const COLUMNS: &str = "id, owner_id, name, image, runtime, cpu_milli, memory_mb, env_json, desired, status, \
    status_reason, error_code, host_id, generation, boot_seq, booted_seq, volume, guest_key, created_ms, started_ms";

impl TryFrom<Row> for Workspace {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("workspace {} has an unreadable {what}", row.id));
        Ok(Self {
            id: row.id.parse().map_err(|_| broken("id"))?,
            owner: row.owner_id.parse().map_err(|_| broken("owner_id"))?,
            intent: Intent {
                desired: Desired::parse(&row.desired).ok_or_else(|| broken("desired"))?,
                boot_seq: row.boot_seq,
                booted_seq: row.booted_seq,
            },
            status: WorkspaceStatus::parse(&row.status).ok_or_else(|| broken("status"))?,
            error_code: row.error_code.as_deref().map(code_from),
            env: serde_json::from_str(&row.env_json).map_err(|_| broken("env_json"))?,
            host: row.host_id.as_deref().map(|id| id.parse().map_err(|_| broken("host_id"))).transpose()?,
            name: row.name,
            image: row.image,
            runtime: row.runtime,
            cpu_milli: row.cpu_milli,
            memory_mb: row.memory_mb,
            status_reason: row.status_reason,
            generation: row.generation,
            volume: row.volume,
            guest_key: row.guest_key,
            created_ms: row.created_ms,
            started_ms: row.started_ms,
        })
    }
}

fn code_from(text: &str) -> ErrorCode {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).unwrap_or(ErrorCode::Unknown)
}
