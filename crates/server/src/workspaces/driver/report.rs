//! What the driver says: to the record, to whoever waits for its report, and to whoever watches.

use super::verdict::verdict;
use super::{Driver, Rest, StepError};
use crate::events::bus::News;
use crate::hosts;
use crate::hosts::reserve::{self, Hold};
use crate::snapshots;
use crate::snapshots::store::Failure;
use crate::time::now_ms;
use crate::workspaces::container::container_name;
use crate::workspaces::slot::Report;
use crate::workspaces::store::{self, Observation, Workspace};
use rexec_api::error::ErrorCode;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_engine::ContainerState;
use serde_json::json;

const UNREACHED: &str = "It does not answer at the moment; the server keeps trying. If it stays so, restart it.";

impl Driver {
    pub(super) async fn settle(
        &mut self,
        ticket: u64,
        row: &Workspace,
        status: WorkspaceStatus,
    ) -> Result<(), StepError> {
        if status != WorkspaceStatus::Running && status != WorkspaceStatus::Paused {
            self.unlink();
        }
        self.hold_pings(status == WorkspaceStatus::Paused);
        match status {
            WorkspaceStatus::Running | WorkspaceStatus::Paused => self.keep_told(row).await?,
            _ => self.shut_out(row).await,
        }
        let reason = match status {
            WorkspaceStatus::Running => self.note.clone().or_else(|| self.slot.remark()),
            _ => row.want.reason.clone(),
        };
        if status == WorkspaceStatus::Running && row.moving.is_some() {
            self.prove_moves().await?;
        }
        if row.status != status || row.status_reason != reason || row.error_code.is_some() {
            let now = now_ms();
            self.write(row, status, reason.as_deref(), None, |o| match status {
                // To be resumed is to be used.
                WorkspaceStatus::Running if row.status == WorkspaceStatus::Paused => o.used_ms = Some(now),
                WorkspaceStatus::Stopped => o.stopped_ms = row.stopped_ms.or(Some(now)),
                _ => {}
            })
            .await?;
        }
        if status == WorkspaceStatus::Stopped {
            // Others may have what it needs to run, whoever wanted it to run meanwhile.
            let tx = self.lease.begin(&self.deps.db).await?;
            reserve::hold(&tx, self.id, Hold::Stopped).await?;
            tx.commit().await?;
        }
        self.report(ticket, status, None, reason, true);
        Ok(())
    }

    pub(super) async fn failed(&mut self, ticket: u64, row: Option<&Workspace>, error: StepError) -> Rest {
        self.give_up_turn();
        let verdict = verdict(&error);
        tracing::warn!(
            workspace.id = %self.id, error = &error as &dyn std::error::Error,
            parked = verdict.is_some(), "a step failed"
        );
        match (verdict, row) {
            (Some((code, message)), Some(row)) => {
                self.unlink();
                let given_up = Failure::given_up("The workspace could not be brought to where it is to be taken.");
                if let Ok(1..) = self.give_up_snapshot(&given_up).await {
                    self.host.upkeep.notify_one();
                    self.deps.snapshot_news.send_modify(|count| *count += 1);
                }
                if let Err(error) = self.write(row, WorkspaceStatus::Error, Some(&message), Some(code), |_| {}).await {
                    tracing::error!(workspace.id = %self.id, error = &error as &dyn std::error::Error, "cannot record a failure");
                    return Rest::Retry;
                }
                if let Err(error) = self.give_back(row).await {
                    // It goes on holding what it held until someone asks for something, which is safe.
                    tracing::warn!(workspace.id = %self.id, error = &error as &dyn std::error::Error, "what it held is not given back");
                }
                self.report(ticket, WorkspaceStatus::Error, Some(code), Some(message), true);
                Rest::Parked
            }
            (None, Some(row)) => self.trouble(ticket, row, &error).await,
            (_, None) => Rest::Retry,
        }
    }

    async fn give_up_snapshot(&self, why: &Failure) -> Result<u64, sea_orm::DbErr> {
        let tx = self.lease.begin(&self.deps.db).await?;
        let failed = snapshots::store::fail(&tx, self.id, why).await?;
        tx.commit().await?;
        Ok(failed)
    }

    /// What was given up and does not run needs no cores and no memory: whoever starts it again takes them again.
    async fn give_back(&mut self, row: &Workspace) -> Result<(), StepError> {
        let is_up = match row.generation {
            0 => false,
            _ => self.host.engine.inspect(&container_name(row)).await?.is_some_and(|container| {
                !matches!(container.state, ContainerState::Created | ContainerState::Exited { .. })
            }),
        };
        if !is_up {
            let tx = self.lease.begin(&self.deps.db).await?;
            reserve::hold(&tx, self.id, Hold::Stopped).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Something that passes keeps the workspace from where it should be: says so and tries again.
    pub(super) async fn trouble(&mut self, ticket: u64, row: &Workspace, error: &StepError) -> Rest {
        match error {
            StepError::Database(_) => Rest::Retry,
            StepError::Engine(error) => {
                self.tell_trouble(ticket, row, ErrorCode::EngineUnavailable, hosts::explain(error)).await
            }
            StepError::Pull(error) => {
                self.tell_trouble(ticket, row, ErrorCode::EngineUnavailable, hosts::explain(error)).await
            }
            _ => self.tell_trouble(ticket, row, ErrorCode::WorkspaceUnreachable, UNREACHED.into()).await,
        }
    }

    pub(super) async fn host_away(&mut self, ticket: u64, row: &Workspace, reason: String) -> Rest {
        self.give_up_turn();
        self.tell_trouble(ticket, row, ErrorCode::EngineUnavailable, reason).await
    }

    pub(super) async fn tell_trouble(&mut self, ticket: u64, row: &Workspace, code: ErrorCode, reason: String) -> Rest {
        let status = match row.status {
            // Its terminals go on by the guest's own stream, whatever the engine does.
            WorkspaceStatus::Running if self.link_lives() => WorkspaceStatus::Running,
            WorkspaceStatus::Running | WorkspaceStatus::Paused => WorkspaceStatus::Unreachable,
            other => other,
        };
        if (row.status != status || row.status_reason.as_deref() != Some(&reason))
            && let Err(error) = self.write(row, status, Some(&reason), None, |_| {}).await
        {
            tracing::warn!(workspace.id = %self.id, error = &error as &dyn std::error::Error, "cannot record trouble");
        }
        self.report(ticket, status, Some(code), Some(reason), false);
        Rest::Retry
    }

    /// Whoever asks at this very moment, as one who deletes it does, is answered, too: nobody will look again.
    pub(super) fn gone(&mut self) -> Rest {
        self.unlink();
        self.report(Report::LAST, WorkspaceStatus::Deleted, None, None, true);
        Rest::Gone
    }

    /// Writes and reports a status on the way to another.
    pub(super) async fn observe(
        &mut self,
        ticket: u64,
        row: &Workspace,
        status: WorkspaceStatus,
        reason: Option<&str>,
        change: impl FnOnce(&mut Observation<'_>),
    ) -> Result<(), sea_orm::DbErr> {
        self.write(row, status, reason, None, change).await?;
        self.report(ticket, status, None, reason.map(str::to_owned), false);
        Ok(())
    }

    // Not `&self`: what is held across an await must be `Sync` then, and a pull is not.
    pub(super) async fn write(
        &mut self,
        row: &Workspace,
        status: WorkspaceStatus,
        reason: Option<&str>,
        error: Option<ErrorCode>,
        change: impl FnOnce(&mut Observation<'_>),
    ) -> Result<(), sea_orm::DbErr> {
        let mut observation = Observation {
            status,
            reason,
            error,
            generation: row.generation,
            booted_seq: row.intent.booted_seq,
            started_ms: row.started_ms,
            used_ms: None,
            stopped_ms: row.stopped_ms,
        };
        change(&mut observation);
        store::observe(&self.deps.db, &self.lease, self.id, &observation, now_ms()).await
    }

    pub(super) fn report(
        &self,
        ticket: u64,
        status: WorkspaceStatus,
        error: Option<ErrorCode>,
        reason: Option<String>,
        done: bool,
    ) {
        let told = (status, error, reason.clone());
        let before = self.slot.report(Report { ticket, status, error, reason, done });
        if let Some(owner) = self.owner
            && told != (before.status, before.error, before.reason)
        {
            let (status, error, reason) = told;
            self.deps.bus.publish(News {
                id: None,
                at_ms: now_ms(),
                user: owner,
                workspace: self.id,
                kind: "workspace.status".into(),
                data: json!({ "status": status, "reason": reason, "error": error }),
            });
        }
    }
}
