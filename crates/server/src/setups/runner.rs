//! One workspace's set-up, from its first step that is not done to its end or first failure.

use super::devcontainer::{self, Wanted};
use super::follow::{Seen, follow};
use super::store::{self, Command, End, Step};
use super::tail::Tail;
use super::{Setups, git};
use crate::error::Error;
use crate::registries::Login;
use crate::time::now_ms;
use crate::workspaces::container::configuration;
use crate::workspaces::lifecycle::Desired;
use crate::workspaces::plan::Plan;
use crate::workspaces::store::{self as workspaces, Adoption, Workspace};
use crate::workspaces::{Met, Report};
use rexec_api::error::ErrorCode;
use rexec_api::guest::{ReadSpec, TerminalSpec, UserSpec};
use rexec_api::ids::{TerminalId, WorkspaceId};
use rexec_api::setups::{SetupProgress, SetupState};
use rexec_channel::{ChannelError, GuestClient};
use sea_orm::DbErr;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between attempts at what the guest or the database did not let us do.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How often what a step prints is told.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// The size of a step's terminal until somebody who watches has another.
const COLS: u16 = 120;
const ROWS: u16 = 30;
/// Names the terminal, says what is run, and runs it. `$1` is the step's name; what follows, its command.
const SHOWN: &str = r#"printf '\033]0;set-up: %s\007\033[1m%s\033[0m\r\n' "$1" "$1"; shift; exec "$@""#;
/// How long a command that the repository's own description names may take.
const COMMAND_TIMEOUT_S: u32 = 3600;

/// What came of working at a step.
enum Worked {
    /// It has ended, well or not.
    Ended,
    /// The guest went out of reach: to be met again.
    Lost,
}

impl Setups {
    pub(super) async fn run(&self, id: WorkspaceId) {
        loop {
            match self.next(id).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(workspace.id = %id, %error, "a set-up pauses");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
        self.workspaces.tell_setup(id, None);
    }

    /// Works at the next step; `false` when there is none to be worked at.
    async fn next(&self, id: WorkspaceId) -> Result<bool, DbErr> {
        let steps = store::list(self.deps.db.read(), id).await?;
        let Some(step) = steps.iter().find(|step| step.state != SetupState::Done) else { return Ok(false) };
        if step.state == SetupState::Failed {
            return Ok(false);
        }
        if !self.workspaces.drives_one(id).await {
            // Whoever drives it from now on goes on with its steps.
            return Ok(false);
        }
        let Some(mut met) = self.workspaces.meet(id).await else { return Ok(false) };
        let row = workspaces::find(self.deps.db.read(), id).await?;
        let Some(row) = row.filter(|row| row.intent.desired != Desired::Deleted) else { return Ok(false) };
        if row.image_found.as_ref().is_some_and(|found| *found != row.image) {
            // Its driver is about to make it again from that image, which ends all that runs in it.
            self.workspaces.nudge(id);
            let _ = tokio::time::timeout(RETRY_PAUSE, met.reports.changed()).await;
            return Ok(true);
        }
        if matches!(self.work(&row, step, &steps, &mut met).await?, Worked::Lost) {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        Ok(true)
    }

    async fn work(&self, row: &Workspace, step: &Step, steps: &[Step], met: &mut Met) -> Result<Worked, DbErr> {
        // A step that prints nothing for long is at work all the same.
        let _using = self.workspaces.in_use(row.id);
        let (terminal, started_ms) = match self.found(step, &met.guest).await {
            Ok(Some(found)) => found,
            Ok(None) => match self.begin(row, step, &met.guest).await? {
                Begun::In(terminal) => (terminal, now_ms()),
                Begun::Refused(why) => {
                    let end = End { exit_code: None, reason: Some(why), output: String::new() };
                    store::end(self.deps.db.write(), step, &end, now_ms()).await?;
                    return Ok(Worked::Ended);
                }
                Begun::Lost => return Ok(Worked::Lost),
            },
            Err(_) => return Ok(Worked::Lost),
        };
        let mut tail = Tail::default();
        let (guest, reports) = (&met.guest, &mut met.reports);
        let seen = self.watch(step, steps, (guest, reports), (terminal, started_ms), &mut tail).await;
        let end = match seen {
            Seen::Lost => return Ok(Worked::Lost),
            // Ended with all else by a stop: it runs again at the next start.
            Seen::Exit(_) | Seen::Closed if seen != Seen::Exit(0) && self.goes_down(row.id).await? => {
                return Ok(Worked::Lost);
            }
            seen => {
                End { exit_code: exit_code(seen), reason: reason(row, step, seen, &tail.text()), output: tail.text() }
            }
        };
        if seen == Seen::TimedOut {
            // Whatever it left running in its terminal ends with that; what it printed is kept.
            if let Err(error) = met.guest.remove_terminal(terminal).await {
                tracing::debug!(workspace.id = %row.id, %error, "a step that ran too long may go on");
            }
        }
        self.deps.crash.point("setup.ended");
        if step.command == Command::Clone && end.reason.is_none() {
            let Some(wanted) = self.wanted(row, &met.guest).await else { return Ok(Worked::Lost) };
            self.adopt(row, step, &end, steps, wanted).await?;
            self.reconfigure(row.id, &met.guest).await?;
        } else {
            store::end(self.deps.db.write(), step, &end, now_ms()).await?;
        }
        self.deps.crash.point("setup.recorded");
        Ok(Worked::Ended)
    }

    /// Whether the workspace is being stopped or started anew.
    async fn goes_down(&self, id: WorkspaceId) -> Result<bool, DbErr> {
        let row = workspaces::find(self.deps.db.read(), id).await?;
        Ok(row.is_none_or(|row| {
            let stays = matches!(row.intent.desired, Desired::Running | Desired::Paused);
            !stays || row.intent.booted_seq < row.intent.boot_seq
        }))
    }

    /// The terminal of a step that has begun, if the guest still has it.
    async fn found(&self, step: &Step, guest: &GuestClient) -> Result<Option<(TerminalId, i64)>, ChannelError> {
        let (SetupState::Running, Some(id), Some(started_ms)) = (step.state, step.terminal, step.started_ms) else {
            return Ok(None);
        };
        let there = guest.terminals().await?.iter().any(|terminal| terminal.id == id);
        Ok(there.then_some((id, started_ms)))
    }

    async fn begin(&self, row: &Workspace, step: &Step, guest: &GuestClient) -> Result<Begun, DbErr> {
        let mut spec = terminal(row, step);
        let login = match self.login(row, step).await? {
            Some(login) => match lend(guest, &login).await {
                Ok(path) => {
                    spec.env.extend(git::credential_variables(row.git_url.as_deref().unwrap_or_default(), &path));
                    Some(path)
                }
                Err(ChannelError::Guest(refused)) => {
                    return Ok(Begun::Refused(format!(
                        "The credentials for the clone could not be handed to it: {}. Try again.",
                        Error::from(ChannelError::Guest(refused)).message
                    )));
                }
                Err(_) => return Ok(Begun::Lost),
            },
            None => None,
        };
        let begun = self.begin_as(step, guest, &spec).await;
        if let (Some(path), false) = (login, matches!(begun, Ok(Begun::In(_)))) {
            // Nobody runs who would remove them; out of reach, they go with the workspace's next stop.
            let _ = guest.remove_file(&path, false).await;
        }
        begun
    }

    /// What the workspace's owner has stored for the host that is cloned from.
    async fn login(&self, row: &Workspace, step: &Step) -> Result<Option<Login>, DbErr> {
        let host = row.git_url.as_deref().and_then(git::host_of);
        match host {
            Some(host) if step.command == Command::Clone => self.deps.registries.login(row.owner, host).await,
            _ => Ok(None),
        }
    }

    async fn begin_as(&self, step: &Step, guest: &GuestClient, spec: &TerminalSpec) -> Result<Begun, DbErr> {
        store::begin(self.deps.db.write(), step, spec.id, now_ms()).await?;
        self.deps.crash.point("setup.recorded_begin");
        match guest.create_terminal(spec).await {
            Ok(_) => {
                self.deps.crash.point("setup.begun");
                Ok(Begun::In(spec.id))
            }
            Err(ChannelError::Guest(refused)) if refused.code == ErrorCode::CommandNotFound => {
                Ok(Begun::Refused("The image has no /bin/sh, which set-up steps need. Choose another image.".into()))
            }
            Err(error @ ChannelError::Guest(_)) => Ok(Begun::Refused(Error::from(error).message.into_owned())),
            Err(_) => Ok(Begun::Lost),
        }
    }

    async fn watch(
        &self,
        step: &Step,
        steps: &[Step],
        (guest, reports): (&GuestClient, &mut tokio::sync::watch::Receiver<Report>),
        (terminal, started_ms): (TerminalId, i64),
        tail: &mut Tail,
    ) -> Seen {
        let at = steps.iter().position(|other| other.position == step.position).map_or(1, |at| at + 1);
        let progress = |line: String| SetupProgress {
            name: step.name.clone(),
            step: u32::try_from(at).unwrap_or(u32::MAX),
            steps: u32::try_from(steps.len()).unwrap_or(u32::MAX),
            terminal_id: Some(terminal),
            line,
        };
        self.workspaces.tell_setup(step.workspace, Some(progress(String::new())));
        let mut told = Instant::now();
        let tell = |tail: &Tail| {
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                self.workspaces.tell_setup(step.workspace, Some(progress(tail.last_line())));
            }
        };
        let since = u64::try_from(now_ms() - started_ms).unwrap_or(0);
        let limit = Duration::from_secs(step.timeout_s.into()).saturating_sub(Duration::from_millis(since));
        follow(guest, terminal, limit, reports, tail, tell).await
    }

    /// What the repository says of the workspace it wants; `None` when the guest is out of reach.
    async fn wanted(&self, row: &Workspace, guest: &GuestClient) -> Option<Wanted> {
        let folder = folder(row);
        for place in devcontainer::PLACES {
            match read(guest, &format!("{folder}/{place}")).await {
                Ok(Some(text)) => return Some(devcontainer::read(&text, &folder)),
                Ok(None) => {}
                Err(ChannelError::Guest(_)) => {}
                Err(_) => return None,
            }
        }
        Some(Wanted::default())
    }

    /// Records the end of the clone together with all that follows from the repository.
    async fn adopt(
        &self,
        row: &Workspace,
        clone: &Step,
        end: &End,
        steps: &[Step],
        wanted: Wanted,
    ) -> Result<(), DbErr> {
        let mut plan = Plan::of_row(row);
        plan.account = wanted.account;
        plan.ports = wanted.ports;
        plan.notes = wanted.notes;
        let image = wanted.image.filter(|image| *image != row.image);
        let image = match image {
            Some(image) if !plan.repository_image => {
                plan.notes.push(format!(
                    "`image` ({image}) was left out: the workspace was asked for with another, or may not have any."
                ));
                None
            }
            image => image,
        };
        // What was asked for goes before what the repository says.
        let mut env = wanted.env;
        env.extend(row.env.clone());
        let after = steps.iter().map(|step| step.position).max().unwrap_or(0);
        let tx = self.deps.db.begin().await?;
        let adoption = Adoption { plan_json: plan.to_json(), env, image_found: image };
        workspaces::adopt_repository(&tx, row.id, &adoption, now_ms()).await?;
        for ((name, command), position) in wanted.commands.into_iter().zip(after + 1..) {
            let mut step = Step::new(row.id, position, &name, command, COMMAND_TIMEOUT_S);
            step.cwd = Some(folder(row));
            store::insert(&tx, &step).await?;
        }
        store::end(&tx, clone, end, now_ms()).await?;
        tx.commit().await
    }

    /// What is started from now on has the repository's variables. With another image it is made again.
    async fn reconfigure(&self, id: WorkspaceId, guest: &GuestClient) -> Result<(), DbErr> {
        let Some(row) = workspaces::find(self.deps.db.read(), id).await? else { return Ok(()) };
        let inside = self.deps.vault.inside(&row).await?;
        if let Err(error) = guest.configure(&configuration(&row, inside)).await {
            tracing::debug!(workspace.id = %id, %error, "the guest hears of its variables when it is met again");
        }
        self.workspaces.nudge(id);
        Ok(())
    }
}

enum Begun {
    In(TerminalId),
    Refused(String),
    Lost,
}

fn terminal(row: &Workspace, step: &Step) -> TerminalSpec {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut command = words(&["/bin/sh", "-c", SHOWN, "set-up", &step.name]);
    let mut env = BTreeMap::from([("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned())]);
    match &step.command {
        Command::Shell(text) => command.extend(words(&["/bin/sh", "-e", "-c", text])),
        Command::Program(program) => command.extend(program.iter().cloned()),
        Command::Clone => {
            command.extend(words(&["/bin/sh", "-e", "-c", git::SCRIPT]));
            let url = row.git_url.as_deref().unwrap_or_default();
            env.extend(git::variables(row.id, url, row.git_branch.as_deref()));
        }
    }
    let cwd = step.cwd.clone();
    TerminalSpec { id: TerminalId::new(), cols: COLS, rows: ROWS, command: Some(command), cwd, env, user: None }
}

/// Leaves credentials where the clone's script finds them, for its eyes, until it has ended.
async fn lend(guest: &GuestClient, login: &Login) -> Result<String, ChannelError> {
    let name = format!(".rexec-{}", uuid::Uuid::new_v4().simple());
    let mut refused = None;
    for folder in git::CREDENTIALS_IN {
        let path = format!("{folder}/{name}");
        let written = async {
            let mut file = guest.write_file(&path, Some(0o600)).await?;
            file.send(git::credentials(&login.username, login.password.expose()).into()).await?;
            file.finish().await
        };
        match written.await {
            Ok(_) => return Ok(path),
            Err(error @ ChannelError::Guest(_)) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or(ChannelError::Closed))
}

fn wanted_credentials(row: &Workspace) -> String {
    let url = row.git_url.as_deref().unwrap_or_default();
    match git::host_of(url) {
        Some(host) => format!(
            "{host} does not give out the repository without a user name and password, or token, that it accepts. Store yours for \
             {host} at /api/git/credentials, or in the page under Account, and try again."
        ),
        None => {
            "The repository wants a user name and password, which are sent over https alone. Use its https address."
                .into()
        }
    }
}

/// Where the repository lies.
fn folder(row: &Workspace) -> String {
    let url = row.git_url.as_deref().unwrap_or_default();
    format!("{}/{}", UserSpec::default().home, git::directory(url))
}

async fn read(guest: &GuestClient, path: &str) -> Result<Option<String>, ChannelError> {
    let (_, mut body) = match guest.read_file(path, &ReadSpec::default()).await {
        Ok(found) => found,
        Err(ChannelError::Guest(refused)) if refused.code == ErrorCode::FileNotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    while let Some(piece) = body.recv().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > devcontainer::FILE_BYTES_MAX {
            bytes.clear();
            break;
        }
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

const fn exit_code(seen: Seen) -> Option<i32> {
    match seen {
        Seen::Exit(code) => Some(code),
        _ => None,
    }
}

/// Why a step has failed; `None` when it has not.
fn reason(row: &Workspace, step: &Step, seen: Seen, output: &str) -> Option<String> {
    let clones = step.command == Command::Clone;
    // Its name is printed above whatever it prints itself.
    let told = if output.trim() == step.name.trim() { "It printed nothing." } else { "Its output says why." };
    Some(match seen {
        Seen::Exit(0) => return None,
        Seen::Exit(git::NO_GIT) if clones => {
            "The image has no git, which a clone needs. Choose one that has, or install git in it and try again.".into()
        }
        Seen::Exit(git::IN_THE_WAY) if clones => {
            "Something lies where the repository is to be. Move it away and try again.".into()
        }
        Seen::Exit(_) if clones && git::wants_credentials(output) => wanted_credentials(row),
        Seen::Exit(code) if clones => {
            format!("The repository could not be cloned: git ended with code {code}. {told}")
        }
        Seen::Exit(code) => format!("The command ended with code {code}. {told}"),
        Seen::TimedOut => format!("It ran longer than {} s and was ended.", step.timeout_s),
        Seen::Closed | Seen::Lost => "Its terminal was closed before it had ended.".into(),
    })
}
