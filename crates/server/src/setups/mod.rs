//! Set-ups: what runs once after a workspace's first start, in terminals that its user can watch.
//!
//! The steps stand in the database before the workspace is made; one task per workspace with steps left runs them
//! in order (`runner.rs`). Each runs in a terminal of its own, which the guest keeps: a server that starts again
//! finds it there and goes on watching. A step that was cut off, by a restart of the workspace, runs again.
//!
//! Invariant: a step is run only while all before it are done, and by one task.

pub mod devcontainer;
mod follow;
pub mod git;
pub mod http;
mod runner;
pub mod store;
mod tail;

use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::tasks::Tasks;
use crate::templates::SetupStep;
use crate::time::rfc3339;
use crate::workspaces::plan::Plan;
use crate::workspaces::{Deps, Workspaces};
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::setups::{SetupState, SetupStepView, SetupView};
use rexec_api::tokens::Scope;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::{Command, Step};

/// What was missed, because the database did not answer, is found at this pace.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Setups {
    deps: Arc<Deps>,
    workspaces: Workspaces,
    tasks: Tasks,
    /// Those that have a task.
    at_work: Arc<Mutex<HashSet<WorkspaceId>>>,
}

/// The steps that a new workspace begins with.
pub fn steps_of(workspace: WorkspaceId, clones: bool, setup: &[SetupStep]) -> Vec<Step> {
    let clone = clones.then(|| Step::new(workspace, 0, "Clone", Command::Clone, git::CLONE_TIMEOUT_S));
    let commands = setup.iter().zip(1..).map(|(step, position)| {
        Step::new(workspace, position, &step.name, Command::Shell(step.run.clone()), step.timeout_s)
    });
    clone.into_iter().chain(commands).collect()
}

impl Setups {
    pub fn new(workspaces: Workspaces, tasks: Tasks) -> Self {
        Self { deps: workspaces.deps(), workspaces, tasks, at_work: Arc::default() }
    }

    pub async fn get(&self, actor: &Actor, id: WorkspaceId) -> Result<SetupView> {
        let row = self.workspaces.owned(actor, Scope::WorkspacesRead, id).await?;
        let steps = store::list(self.deps.db.read(), id).await?;
        Ok(view(&steps, Plan::of_row(&row).notes))
    }

    /// Runs what has failed once more, and then what comes after it.
    pub async fn retry(&self, actor: &Actor, id: WorkspaceId) -> Result<SetupView> {
        self.workspaces.owned_container(actor, Scope::WorkspacesWrite, id, "set-up").await?;
        let tx = self.deps.db.begin().await?;
        if !store::retry(&tx, id).await? {
            let message = "No step of its set-up has failed. There is nothing to try again.";
            return Err(Error::new(ErrorCode::WorkspaceState, message));
        }
        let retried = NewEvent::of_user(actor.user, "workspace.setup_retried").workspace(id);
        let logged = events::append(&tx, &retried).await?;
        tx.commit().await?;
        self.deps.bus.publish_logged(actor.user, logged);
        self.deps.setup_wanted.notify_one();
        self.get(actor, id).await
    }

    /// Sees to it that every workspace with steps left has its task, until dropped.
    pub async fn keep_up(self) {
        let mut period = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                _ = period.tick() => {}
                () = self.deps.setup_wanted.notified() => {}
            }
            match store::unfinished(self.deps.db.read()).await {
                Ok(ids) => {
                    for id in ids {
                        if self.workspaces.drives_one(id).await {
                            self.set_to_work(id);
                        }
                    }
                }
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "cannot look for set-ups"),
            }
        }
    }

    fn set_to_work(&self, id: WorkspaceId) {
        if !self.lock().insert(id) {
            return;
        }
        let setups = self.clone();
        self.tasks.spawn_abortable("setup", async move {
            setups.run(id).await;
            setups.lock().remove(&id);
            // Somebody may have asked to try again after the task had looked for the last time.
            setups.deps.setup_wanted.notify_one();
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<WorkspaceId>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of the whole: that of the first step that is not done.
fn state_of(steps: &[Step]) -> SetupState {
    match steps.iter().find(|step| step.state != SetupState::Done) {
        Some(step) => step.state,
        None if steps.is_empty() => SetupState::None,
        None => SetupState::Done,
    }
}

fn view(steps: &[Step], notes: Vec<String>) -> SetupView {
    let step = |step: &Step| SetupStepView {
        kind: step.kind,
        name: step.name.clone(),
        command: step.command.text(),
        state: step.state,
        exit_code: step.exit_code,
        reason: step.reason.clone(),
        output: step.output.clone(),
        terminal_id: step.terminal,
        timeout_s: step.timeout_s,
        started_at: step.started_ms.map(rfc3339),
        ended_at: step.ended_ms.map(rfc3339),
    };
    SetupView { state: state_of(steps), steps: steps.iter().map(step).collect(), notes }
}
