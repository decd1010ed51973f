//! `logs --setup`: what the steps of a workspace's set-up have printed, and with `-f` what the one that runs prints.
//!
//! A step that has ended is told by the end of its output, which the server keeps; one that runs, by its terminal,
//! which is looked at and never held.

use crate::failure::{Failure, Result};
use crate::show::{self, Tint};
use rexec_api::frames::ServerControl;
use rexec_api::guest::AttachMode;
use rexec_api::ids::{TerminalId, WorkspaceId};
use rexec_api::setups::{SetupState, SetupStepView, SetupView};
use rexec_client::{AttachOptions, Client, ClientError, Received};
use std::io::Write as _;
use std::time::Duration;

/// How often it is looked whether something has changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A snapshot begins so; it would clear what was scrolled away here.
const SNAPSHOT_HEAD: &[u8] = b"\x18\x1bc";

/// Ends with the set-up when followed; one that has failed is then a failure.
pub async fn run(client: &Client, id: WorkspaceId, follow: bool, json: bool) -> Result<()> {
    let mut told = Told::default();
    let mut before = None;
    loop {
        let view = client.setup(id).await?;
        if json {
            if before.as_ref() != Some(&view) {
                let line = serde_json::to_string(&view).map_err(|error| Failure::Other(error.to_string()))?;
                show::print(&format!("{line}\n"))?;
            }
            before = Some(view.clone());
        } else {
            told.tell(client, id, &view, follow).await?;
        }
        match view.state {
            SetupState::Failed if follow => {
                let failed = view.steps.iter().find(|step| step.state == SetupState::Failed);
                let name = failed.map(|step| step.name.clone()).unwrap_or_default();
                return Err(Failure::Other(format!("The set-up has failed: {name}")));
            }
            SetupState::Pending | SetupState::Running if follow => tokio::time::sleep(LOOK_EVERY).await,
            _ => return Ok(()),
        }
    }
}

/// How far it was told.
#[derive(Default)]
struct Told {
    /// Steps told to their end.
    steps: usize,
    /// Of the step after those, the terminal that was watched.
    watched: Option<TerminalId>,
}

impl Told {
    async fn tell(&mut self, client: &Client, id: WorkspaceId, view: &SetupView, follow: bool) -> Result<()> {
        if view.state == SetupState::None {
            return show::print("It has no set-up.\n");
        }
        while let Some(step) = view.steps.get(self.steps) {
            let is_new = self.watched.is_none() || self.watched != step.terminal_id;
            match step.state {
                SetupState::Done | SetupState::Failed => {
                    if is_new {
                        head(step)?;
                        show::print(&lines(&step.output))?;
                    }
                    show::print(&end(step))?;
                    self.steps += 1;
                    self.watched = None;
                }
                SetupState::Running if is_new => {
                    let Some(terminal) = step.terminal_id else { return Ok(()) };
                    head(step)?;
                    if !watch(client, id, terminal, follow).await? {
                        return Ok(());
                    }
                    self.watched = Some(terminal);
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}

fn head(step: &SetupStepView) -> Result<()> {
    show::print(&format!("{}\n", show::tinted(&format!("== {}", step.name), Tint::Warm)))
}

fn end(step: &SetupStepView) -> String {
    match (step.state, &step.reason, step.exit_code) {
        (SetupState::Done, ..) => format!("{}\n", show::tinted("-- done", Tint::Good)),
        (_, Some(reason), _) => format!("{}\n", show::tinted(&format!("-- failed: {reason}"), Tint::Bad)),
        (_, None, Some(code)) => format!("{}\n", show::tinted(&format!("-- failed with {code}"), Tint::Bad)),
        (_, None, None) => format!("{}\n", show::tinted("-- failed", Tint::Bad)),
    }
}

/// Text of several lines, each as one that steers nothing.
fn lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", show::plain(line))).collect()
}

/// What a terminal has printed so far, and, followed, what it prints to its end. `false`: it could not be looked at.
async fn watch(client: &Client, id: WorkspaceId, terminal: TerminalId, follow: bool) -> Result<bool> {
    let options = AttachOptions { offset: Some(0), mode: AttachMode::View, client: None };
    let mut attachment = match client.attach(id, terminal, options).await {
        Ok(attachment) => attachment,
        // It has just ended, or its workspace is on its way down: what stands is told next time.
        Err(ClientError::Refused(refused)) if matches!(refused.code.http_status(), 404 | 409 | 410 | 503) => {
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    let (mut end, mut seen) = (None, 0);
    loop {
        if !follow && end.is_some_and(|end| seen >= end) {
            let _ = attachment.close().await;
            return Ok(true);
        }
        match attachment.next().await {
            Ok(Received::Output { offset, bytes }) => {
                draw(&bytes)?;
                seen = offset + bytes.len() as u64;
                attachment.acknowledge(seen).await?;
            }
            Ok(Received::Snapshot { offset, bytes }) => {
                draw(bytes.strip_prefix(SNAPSHOT_HEAD).unwrap_or(&bytes))?;
                seen = offset;
                attachment.acknowledge(seen).await?;
            }
            Ok(Received::Control(ServerControl::Attached { end: now, .. })) => end = Some(now),
            Ok(Received::Control(_) | Received::InputAccepted(_)) => {}
            Ok(Received::Exit(_) | Received::Closed(_)) => return Ok(true),
            Err(ClientError::WebSocket(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

fn draw(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::io("standard output"))
}
