//! What copying a volume and taking a snapshot share: the helper, and the watch over what is wanted meanwhile.

use super::StepError;
use crate::hosts::Host;
use crate::hosts::helper::{Helper, HelperSpec};
use crate::workspaces::Deps;
use crate::workspaces::slot::{Report, Slot};
use crate::workspaces::store::{self, Workspace};
use rexec_engine::{EngineError, Labels, Mount};
use serde::Deserialize;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Where the helper finds what it copies, and whereto.
pub(super) const FROM: &str = "/from";
pub(super) const TO: &str = "/to";
/// The most that a command of the helper says.
const SAID_BYTES_MAX: u64 = 64 * 1024;

/// What the helper tells at the end of a copy.
#[derive(Debug, Deserialize)]
pub(super) struct Copied {
    pub bytes: u64,
}

/// Opens the helper that copies the volume `from` to the volume `to`, which must be there.
pub(super) async fn open_copier(host: &Host, job: String, from: &str, to: &str) -> Result<Helper, StepError> {
    if !host.engine.has_volume(from).await? {
        return Err(StepError::SourceGone);
    }
    let mount = |volume: &str, path: &str, read_only| Mount {
        volume: volume.into(),
        path: path.into(),
        read_only,
        labels: Labels::new(),
    };
    let mounts = vec![mount(from, FROM, true), mount(to, TO, false)];
    Ok(Helper::open(host, HelperSpec { job, mounts, ..HelperSpec::default() }).await?)
}

/// Reads to the end what a copy says last.
pub(super) async fn copied(said: impl AsyncRead + Unpin) -> Result<Copied, StepError> {
    let mut text = String::new();
    said.take(SAID_BYTES_MAX).read_to_string(&mut text).await.map_err(copy_failed)?;
    serde_json::from_str(&text).map_err(|error| StepError::Copy(error.to_string()))
}

pub(super) fn copy_failed(error: std::io::Error) -> StepError {
    let text = error.to_string();
    if text.contains("No space left") { EngineError::DiskFull(text).into() } else { StepError::Copy(text) }
}

/// Resolves when something else is wanted of the workspace than when `row` was read, or when `still` says no.
/// Whoever asks meanwhile for what is so already gets the answer `standing`.
pub(super) async fn until_unwanted<Fut>(
    deps: &Arc<Deps>,
    slot: &Arc<Slot>,
    row: &Workspace,
    mut ticket: u64,
    standing: Option<Report>,
    still: impl Fn() -> Fut,
) where
    Fut: Future<Output = bool>,
{
    loop {
        slot.nudged(ticket).await;
        ticket = slot.ticket();
        // What the database cannot say now, the end of the step will find.
        if let Ok(now) = store::find(deps.db.read(), row.id).await
            && (now.is_none_or(|now| {
                now.intent.desired != row.intent.desired || now.intent.boot_seq != row.intent.boot_seq
            }) || !still().await)
        {
            return;
        }
        if let Some(report) = &standing {
            slot.report(Report { ticket, ..report.clone() });
        }
    }
}
