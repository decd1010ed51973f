//! The set-up of a workspace: what runs once after its first start.

use crate::ids::TerminalId;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SetupState {
    /// There is nothing to do.
    None,
    /// It waits for its turn, or for the workspace to run.
    Pending,
    Running,
    /// It has failed; the steps after it wait for a retry.
    Failed,
    Done,
}

impl SetupState {
    pub const ALL: [Self; 5] = [Self::None, Self::Pending, Self::Running, Self::Failed, Self::Done];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SetupKind {
    /// It brings the repository into the home.
    Clone,
    /// A command of the template, or of the repository's own description.
    Command,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetupView {
    pub state: SetupState,
    pub steps: Vec<SetupStepView>,
    /// What the repository's own description asks for and was not done, in sentences.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetupStepView {
    pub kind: SetupKind,
    pub name: String,
    /// What it runs, as a shell reads it; absent for a clone.
    pub command: Option<String>,
    pub state: SetupState,
    /// Absent when it has not ended, or was ended.
    pub exit_code: Option<i32>,
    /// Why it failed, in a sentence.
    pub reason: Option<String>,
    /// The end of what it printed, as text; empty until it has ended.
    pub output: String,
    /// The terminal in which it runs or ran: attach to watch it.
    pub terminal_id: Option<TerminalId>,
    /// After so long it is ended.
    pub timeout_s: u32,
    /// RFC 3339.
    pub started_at: Option<String>,
    /// RFC 3339.
    pub ended_at: Option<String>,
}

/// A step as it goes on, told in the progress of its workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetupProgress {
    pub name: String,
    /// Counted from 1.
    pub step: u32,
    pub steps: u32,
    pub terminal_id: Option<TerminalId>,
    /// The last line that it has printed.
    pub line: String,
}
