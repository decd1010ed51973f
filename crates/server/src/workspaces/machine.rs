//! Joined machines among the workspaces: their record, what they may tell of themselves, and what they lack.
//!
//! A machine has no container, image or volume, and nothing starts or stops it but its owner: it is `running` while
//! it is connected, `unreachable` while it is not. All that goes by a guest works on it as on any workspace.
//!
//! Invariant: what a machine says of itself is its owner's word at best: shortened, tamed, and believed by nobody
//! but who reads it.

use super::lifecycle::{Desired, Intent};
use super::store::{HomeState, SourceState, Want, Workspace};
use super::{Workspaces, settled};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::http::tunnel::End;
use crate::replicas::{self, Hold};
use crate::text::misleads;
use crate::time::now_ms;
use rexec_api::error::ErrorCode;
use rexec_api::guest::{HOME, MachineFacts};
use rexec_api::ids::{UserId, WorkspaceId};
use rexec_api::tokens::Scope;
use rexec_api::workspaces::{CPU_MAX, MEMORY_MB_MAX, MachineView, PIDS_MAX, PatchWorkspace, WorkspaceStatus};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::oneshot;

/// Characters of a machine's own words.
const WORD_CHARS_MAX: usize = 128;
/// Longest path of a home that is believed.
const HOME_BYTES_MAX: usize = 1024;

/// How long one that leaves waits for its record to be buried.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

/// A machine that has proven its credential and waits to be met.
pub struct Arrival {
    pub stream: DuplexStream,
    /// Why its connection ends; dropped: it may come back.
    pub farewell: oneshot::Sender<End>,
}

impl Workspace {
    pub fn is_machine(&self) -> bool {
        self.machine.is_some()
    }

    /// Where its user is at home.
    pub fn home(&self) -> &str {
        self.machine.as_ref().map(|machine| machine.home.as_str()).filter(|home| !home.is_empty()).unwrap_or(HOME)
    }

    /// Refuses of a joined machine what only a workspace has.
    pub fn require_container(&self, lacks: &'static str) -> Result<()> {
        match self.is_machine() {
            true => Err(not_for_machines(lacks)),
            false => Ok(()),
        }
    }
}

impl Workspaces {
    /// The same as [`Self::owned`] for what a joined machine has not.
    pub(crate) async fn owned_container(
        &self,
        actor: &Actor,
        scope: Scope,
        id: WorkspaceId,
        lacks: &'static str,
    ) -> Result<Workspace> {
        let row = self.owned(actor, scope, id).await?;
        row.require_container(lacks)?;
        Ok(row)
    }

    /// Removes a machine that asks for it itself, and waits until it is gone.
    pub(crate) async fn remove_machine(&self, id: WorkspaceId) -> Result<()> {
        let row = self.standing(id).await?;
        let intent = Intent { desired: Desired::Deleted, ..row.intent };
        self.want_as(row.owner, id, intent, &Want::user(), Some("workspace.left")).await?;
        let slot = self.slot(id);
        settled(&slot, slot.ask(), LEAVE_PATIENCE).await;
        Ok(())
    }

    /// It is driven here from now on, wherever it was connected before.
    pub(crate) async fn take_machine(&self, id: WorkspaceId) -> Result<Hold> {
        let taken = self.deps.replicas.take_over(&replicas::of_machine(id)).await;
        taken.ok_or_else(|| {
            Error::new(ErrorCode::NotHere, "The server cannot take the machine now. Try again in a moment.")
        })
    }

    /// Gives a machine that has proven itself to its driver.
    pub(crate) fn arrive(&self, id: WorkspaceId, arrival: Arrival) {
        self.slot(id).arrive(arrival);
    }
}

fn not_for_machines(lacks: &'static str) -> Error {
    let message = format!(
        "This is a machine that was joined, not a workspace of the server's: it has no {lacks}. See to that on the \
         machine itself, or delete it here."
    );
    Error::new(ErrorCode::NotForMachines, message).details(json!({ "lacks": lacks }))
}

/// What a change names that a machine has not.
pub(super) fn require_change(change: &PatchWorkspace) -> Result<()> {
    let limits = change.cpu.is_some() || change.memory_mb.is_some() || change.pids.is_some();
    if limits || change.disk_gb.is_some() {
        return Err(not_for_machines("limits"));
    }
    if change.idle.is_some() {
        return Err(not_for_machines("idle settings"));
    }
    Ok(())
}

/// The record of a machine that joins now.
pub(crate) fn record(owner: UserId, name: String) -> Workspace {
    let id = WorkspaceId::new();
    Workspace {
        pool: None,
        moving: None,
        id,
        owner,
        name,
        template: None,
        plan_json: "{}".into(),
        git_url: None,
        git_branch: None,
        source_snapshot: None,
        image: String::new(),
        runtime: String::new(),
        cpu_milli: 0,
        memory_mb: 0,
        disk_mb: 0,
        pids: i64::from(PIDS_MAX),
        nested: None,
        env: BTreeMap::new(),
        intent: Intent { desired: Desired::Running, boot_seq: 1, booted_seq: 1 },
        want: Want::user(),
        idle: rexec_api::idle::IdleSettings::default(),
        limits_seq: 0,
        wish: None,
        rest: PatchWorkspace::default(),
        status: WorkspaceStatus::Unreachable,
        status_reason: Some(AWAY.into()),
        error_code: None,
        host: None,
        generation: 0,
        // No volume of an engine has this name.
        volume: String::new(),
        home_state: HomeState::Ready,
        source_state: SourceState::None,
        image_found: None,
        made_from: None,
        limits_applied_seq: 0,
        guest_key: String::new(),
        created_ms: now_ms(),
        started_ms: None,
        last_active_ms: None,
        stopped_ms: None,
        delete_warned_ms: None,
        delete_told_ms: None,
        machine: Some(MachineView::default()),
        egress: None,
        egress_seq: 1,
        egress_applied_seq: 0,
        address: None,
        gateway: None,
    }
}

pub(super) const AWAY: &str = "The machine is not connected. Run `rexec join` there, or see why it ended.";

/// The row with what the machine says of itself, as far as that is believable.
pub(super) fn told(row: &Workspace, facts: &MachineFacts, version: &str) -> Workspace {
    let cpus = f64::from(facts.cpus).min(CPU_MAX);
    let is_path = facts.home.starts_with('/') && facts.home.len() <= HOME_BYTES_MAX;
    let home = if is_path && !facts.home.chars().any(char::is_control) { facts.home.clone() } else { String::new() };
    Workspace {
        cpu_milli: (cpus * 1000.0) as i64,
        memory_mb: i64::from(facts.memory_mb.min(MEMORY_MB_MAX)),
        machine: Some(MachineView {
            os: tame(&facts.os),
            arch: tame(&facts.arch),
            hostname: tame(&facts.hostname),
            user: tame(&facts.user),
            home,
            version: tame(version),
        }),
        ..row.clone()
    }
}

fn tame(word: &str) -> String {
    word.chars().filter(|c| !misleads(*c)).take(WORD_CHARS_MAX).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_says_is_tamed() {
        let facts = MachineFacts {
            os: "\u{1b}[31mDebian\n".into(),
            hostname: "x".repeat(4096),
            home: "relative".into(),
            cpus: u32::MAX,
            memory_mb: u32::MAX,
            ..MachineFacts::default()
        };
        let row = told(&record(UserId::new(), "box".into()), &facts, "0.1.0");
        let machine = row.machine.clone().unwrap();
        assert_eq!((machine.os.as_str(), machine.hostname.len()), ("[31mDebian", WORD_CHARS_MAX));
        assert_eq!((row.home(), row.cpu_milli), (HOME, 256_000));
        let row = told(&row, &MachineFacts { home: "/root".into(), ..MachineFacts::default() }, "0.1.0");
        assert_eq!(row.home(), "/root");
    }

    #[test]
    fn only_its_name_may_be_changed() {
        assert!(require_change(&PatchWorkspace { name: Some("x".into()), ..Default::default() }).is_ok());
        for change in [
            PatchWorkspace { cpu: Some(1.0), ..Default::default() },
            PatchWorkspace { disk_gb: Some(None), ..Default::default() },
            PatchWorkspace { idle: Some(None), ..Default::default() },
        ] {
            assert_eq!(require_change(&change).unwrap_err().code, ErrorCode::NotForMachines);
        }
    }
}
