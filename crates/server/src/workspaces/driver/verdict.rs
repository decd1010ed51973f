//! Why a step failed, and what that means: a failure that passes, or one to be told and left alone.

use crate::disk;
use crate::hosts::reserve::NO_ROOM;
use crate::workspaces::link::LinkError;
use rexec_api::error::ErrorCode;
use rexec_engine::EngineError;
use std::sync::Arc;

/// Why a step did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Of a pull that others wait for, too.
    #[error(transparent)]
    Pull(Arc<EngineError>),
    #[error(transparent)]
    Database(#[from] sea_orm::DbErr),
    #[error("cannot reach the guest: {0}")]
    Link(#[from] LinkError),
    #[error("the workspace's record has no usable guest key")]
    Key,
    #[error("the engine has the volume no more that is to be copied")]
    SourceGone,
    #[error("the engine has its home no more")]
    HomeGone,
    #[error("a copy failed: {0}")]
    Copy(String),
    #[error("the snapshot is larger than its owner's quota")]
    OverQuota,
    #[error("the host's disk is nearly full")]
    HostFull,
    #[error("the host has no room left for it")]
    NoRoom,
    #[error("what it has written to its root file system, {bytes} bytes, is more than the host can take: {spare}")]
    RootTooLarge { bytes: u64, spare: u64 },
    #[error("the host runs no containers inside of it: {0}")]
    NotNested(String),
    #[error("the host does not run it by its runtime: {1}")]
    Runtime(ErrorCode, String),
    #[error("what is left of an earlier start keeps it from starting: {0}")]
    HalfStarted(String),
    #[error("nothing guards what it reaches: {0}")]
    Unguarded(String),
    #[error("its processes keep ending: {0}")]
    KeepsEnding(String),
}

/// The code and sentence of a failure that trying again will not mend; `None` for one that passes.
pub(super) fn verdict(error: &StepError) -> Option<(ErrorCode, String)> {
    let engine = match error {
        StepError::Engine(error) | StepError::Link(LinkError::Engine(error)) => error,
        StepError::Pull(error) => error,
        StepError::Database(_) | StepError::Link(_) => return None,
        StepError::Key => {
            return Some((ErrorCode::Internal, "Its record is damaged. Delete it and make a new one.".into()));
        }
        StepError::SourceGone => {
            return Some((
                ErrorCode::EngineError,
                "The host has the files of its snapshot no more. Delete it and make another.".into(),
            ));
        }
        StepError::HomeGone => {
            return Some((
                ErrorCode::EngineError,
                "Its server has its home no more. If another disk or another engine is there now, have the right one put back, and start                  the workspace: it is as it was then. If the home is lost, delete the workspace, and make one of a snapshot."
                    .into(),
            ));
        }
        StepError::Copy(_) => {
            return Some((
                ErrorCode::EngineError,
                "The files of its snapshot could not be copied. Start it to try again; the server's log says why."
                    .into(),
            ));
        }
        StepError::OverQuota => {
            return Some((
                ErrorCode::QuotaExceeded,
                "Your snapshots take up all that they may. Delete one first.".into(),
            ));
        }
        StepError::HostFull | StepError::RootTooLarge { .. } => {
            return Some((ErrorCode::HostFull, format!("{} Then start the workspace.", disk::NEARLY_FULL)));
        }
        StepError::NoRoom => return Some((ErrorCode::HostFull, NO_ROOM.into())),
        StepError::Runtime(code, reason) => return Some((*code, reason.clone())),
        StepError::NotNested(reason) => return Some((ErrorCode::NestedUnavailable, reason.clone())),
        StepError::Unguarded(why) => {
            return Some((
                ErrorCode::EgressUnavailable,
                format!(
                    "Its server cannot guard what it reaches: {why} Have that mended, use another server, or let it reach all (`open`)."
                ),
            ));
        }
        StepError::HalfStarted(why) => {
            return Some((
                ErrorCode::EngineError,
                format!(
                    "The container engine ended while it was starting this workspace, and does not clear away what is left of that: {why}. \
                     Its files are intact. Have Docker and containerd on its server started anew, then start the workspace."
                ),
            ));
        }
        StepError::KeepsEnding(what) => {
            return Some((
                ErrorCode::EngineError,
                format!("{what} That happened too often; start it when the cause is mended."),
            ));
        }
    };
    match engine {
        EngineError::Unavailable(_)
        | EngineError::Conflict(_)
        | EngineError::NotFound(_)
        | EngineError::Protocol(_) => None,
        // Ours are built and not published.
        EngineError::ImageNotFound(image) | EngineError::PullFailed(image) if is_of_a_template(image) => Some((
            ErrorCode::ImageNotFound,
            format!("The host does not have the image ({image}). Have it built there by `make images`."),
        )),
        EngineError::ImageNotFound(image) => Some((
            ErrorCode::ImageNotFound,
            format!("There is no image {image}. Check its name, or ask for access if it is private."),
        )),
        EngineError::Unauthorised(image) => Some((
            ErrorCode::ImageUnauthorised,
            format!(
                "The registry does not give out the image without credentials that it accepts ({image}). Store yours at /api/registries."
            ),
        )),
        EngineError::WrongPlatform(image) => Some((
            ErrorCode::ImageArchitecture,
            format!(
                "The image is made for another processor than the host's ({image}). Choose one that is made for this, too."
            ),
        )),
        EngineError::PullFailed(why) => Some((
            ErrorCode::ImagePullFailed,
            format!("The image could not be fetched: {why}. Try again when the registry answers."),
        )),
        EngineError::RuntimeUnavailable(runtime) => Some((
            ErrorCode::RuntimeUnavailable,
            format!("The host has no runtime {runtime}. Ask for another, or have it installed."),
        )),
        EngineError::DiskFull(_) => Some((
            ErrorCode::DiskFull,
            "The host's disk is full. Free some space on it, then start the workspace.".into(),
        )),
        EngineError::HalfStarted(why) | EngineError::Refused(why) => {
            Some((ErrorCode::EngineError, format!("The container engine refused: {why}.")))
        }
    }
}

/// As against a snapshot's image, which nobody can build.
fn is_of_a_template(image: &str) -> bool {
    image.starts_with("rexec/") && !image.starts_with("rexec/snapshot:")
}
