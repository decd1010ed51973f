//! What a warm workspace can become: all that is settled when its container is made. Pure.
//!
//! Everything else, name, environment, user, entrypoint, repository, its guest is told when somebody has it.

use crate::config::EgressConfig;
use crate::egress;
use crate::hosts::delivery::GUEST_HASH;
use crate::workspaces::store::Workspace;
use rexec_api::egress::EgressNetwork;
use serde::{Deserialize, Serialize};

/// Stored as JSON, field by field in this order: equal keys are equal texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub image: String,
    /// Empty: the host's default.
    pub runtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested: Option<String>,
    pub cpu_milli: i64,
    pub memory_mb: i64,
    pub disk_mb: i64,
    pub pids: i64,
    /// Behind its host's gateway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// The version of its guest: another server's pool is none of this one's.
    pub guest: String,
}

impl Key {
    pub fn of(row: &Workspace, operator: &EgressConfig) -> Self {
        Self {
            image: row.image.clone(),
            runtime: row.runtime.clone(),
            nested: row.nested.clone(),
            cpu_milli: row.cpu_milli,
            memory_mb: row.memory_mb,
            disk_mb: row.disk_mb,
            pids: row.pids,
            closed: egress::network_of(row, operator) == EgressNetwork::Closed,
            guest: GUEST_HASH.into(),
        }
    }

    pub fn to_json(&self) -> String {
        // Text and numbers, which always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None`: of another version, or broken; nothing is claimed by it.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}
