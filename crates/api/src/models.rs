//! Models of language that workspaces ask by their gateway (`http://llm.rexec.internal`), which adds the operator's key: what
//! is offered, and what was used of it.

use crate::ids::WorkspaceId;
use serde::{Deserialize, Serialize};

/// Days of which it is told what was used.
pub const DAYS_TOLD: i64 = 30;

/// What this server offers, and what you have used of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelsView {
    /// Whether the API of OpenAI is answered: `/v1/chat/completions`, `/v1/responses`, `/v1/embeddings` and such.
    pub openai: bool,
    /// Whether the API of Anthropic is answered: `/v1/messages`.
    pub anthropic: bool,
    /// Which models may be used: names, and beginnings of names with `*`, parted by commas.
    pub models: String,
    /// Tokens of one user in one day (UTC), read and written together; absent if there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Tokens of one workspace in its life; absent if there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_workspace: Option<u64>,
    /// Of the day's tokens you have used so many.
    pub used_today: u64,
    /// When the next day begins. RFC 3339.
    pub day_ends_at: String,
    /// By day, workspace and model, the newest first; of 30 days.
    pub used: Vec<ModelUse>,
}

/// What one workspace used of one model on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelUse {
    /// In UTC, such as `2026-01-31`.
    pub day: String,
    pub workspace_id: WorkspaceId,
    /// Absent once it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    pub model: String,
    pub requests: u64,
    /// Of the requests: whose tokens the vendor did not tell, and are estimated.
    pub estimated: u64,
    /// Tokens read, what was cached among them.
    pub input: u64,
    /// Of those: read from the vendor's cache.
    pub cached: u64,
    /// Tokens written.
    pub output: u64,
}
