//! What one boot of a workspace knows: who its user is, and what is running for the server.
//!
//! Everything lives on one thread; others hold an `Rc`. Invariant: nothing runs for a user before
//! the first [`Guest::configure`], and an entrypoint is started at most once per boot.

use crate::authority;
use crate::home;
use crate::listen::Arrivals;
use crate::machine::Own;
use crate::ports::Seen;
use crate::process::{Identity, Launch, Launcher, Reaper, Stdio, login_shell};
use crate::refusal::{internal, invalid, not_configured, refuse};
use crate::rights::Rights;
use crate::terminal::{Memory, Terminals, unix_ms};
use crate::way_out;
use rexec_api::error::ErrorCode;
use rexec_api::guest::{Configure, GuestError, Hello, KEY_VARIABLE, PROTOCOL, SudoPolicy, Usage, UserSpec};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use uuid::Uuid;

/// Variables of PID 1 that are its own affair; the rest is what the image gives to programs.
const OWN_VARIABLES: [&str; 8] = [KEY_VARIABLE, "HOME", "LOGNAME", "PWD", "SHELL", "SHLVL", "TERM", "USER"];
/// Commands of the server at once; more are refused.
const EXECS_MAX: u32 = 1024;

pub struct Guest {
    boot_id: Uuid,
    pub reaper: Reaper,
    inherited: BTreeMap<String, String>,
    workspace: RefCell<Option<Rc<Workspace>>>,
    /// Two servers may configure at once; the second waits for the first.
    configuring: tokio::sync::Mutex<()>,
    entrypoint_started: Cell<bool>,
    execs: Cell<u32>,
    last_exec_ms: Cell<i64>,
    pub ports_seen: Seen,
    pub arrivals: Arrivals,
    /// Set on a joined machine, which is its own: no server says who its user is, or has anybody else there.
    machine: Option<Own>,
}

/// What the server has said about the workspace.
pub struct Workspace {
    pub launcher: Launcher,
    pub rights: Rights,
    pub sudo: SudoPolicy,
    pub terminals: Terminals,
    user: UserSpec,
}

/// One running command; counts until dropped.
pub struct ExecCount(Rc<Guest>);

impl Drop for ExecCount {
    fn drop(&mut self) {
        self.0.execs.set(self.0.execs.get() - 1);
        self.0.last_exec_ms.set(unix_ms());
    }
}

impl Guest {
    pub fn new(reaper: Reaper) -> Self {
        let inherited = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| !OWN_VARIABLES.contains(&name.as_str()))
            .collect();
        Self::with(reaper, inherited, None)
    }

    /// The guest of a machine that was there before.
    pub fn of_machine(reaper: Reaper, own: Own) -> Self {
        Self::with(reaper, own.env.clone(), Some(own))
    }

    fn with(reaper: Reaper, inherited: BTreeMap<String, String>, machine: Option<Own>) -> Self {
        Self {
            boot_id: Uuid::new_v4(),
            reaper,
            inherited,
            workspace: RefCell::default(),
            configuring: tokio::sync::Mutex::default(),
            entrypoint_started: Cell::new(false),
            execs: Cell::new(0),
            last_exec_ms: Cell::new(0),
            ports_seen: Seen::default(),
            arrivals: Arrivals::default(),
            machine,
        }
    }

    pub fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            boot_id: self.boot_id,
            configured: self.workspace.borrow().is_some(),
            machine: self.machine.as_ref().map(|own| own.facts.clone()),
        }
    }

    pub fn workspace(&self) -> Result<Rc<Workspace>, GuestError> {
        self.workspace.borrow().clone().ok_or_else(not_configured)
    }

    /// Takes what the server says. Repeating it is harmless; what has changed holds for programs
    /// started from then on, except the user, who stays for the whole boot.
    pub async fn configure(&self, configure: Configure) -> Result<Hello, GuestError> {
        let _turn = self.configuring.lock().await;
        let before = self.workspace.borrow().clone();
        let user = match &self.machine {
            Some(own) => own.user.clone(),
            None => at_home(before.as_deref(), configure.user, configure.account.as_deref()).await?,
        };
        let mut env = self.inherited.clone();
        let mut trusted = authority::Told::default();
        if self.machine.is_none() {
            way_out::write(Path::new("/"), configure.gateway);
            env.extend(configure.gateway.into_iter().flat_map(way_out::variables));
            trusted = authority::install(Path::new("/"), configure.authority.as_deref());
            env.extend(trusted.variables.clone());
        }
        env.extend(configure.env);
        trusted.lead_java(&mut env);
        let mut launcher = Launcher::new(self.reaper.clone(), user.clone(), env);
        if let Some(own) = &self.machine {
            launcher = launcher.on_machine(own.program.clone());
        }
        let terminals = match before {
            Some(before) => before.terminals.clone(),
            None => Terminals::new(Memory::new(configure.ring_bytes, configure.scrollback_lines)),
        };
        let sudo = if self.machine.is_some() { SudoPolicy::Deny } else { configure.sudo };
        let workspace = Rc::new(Workspace { rights: Rights::of(&user), launcher, sudo, terminals, user });
        *self.workspace.borrow_mut() = Some(workspace.clone());
        if let Some(entrypoint) = configure.entrypoint.filter(|_| self.machine.is_none()) {
            self.start_entrypoint(&workspace, entrypoint)?;
        }
        Ok(self.hello())
    }

    fn start_entrypoint(&self, workspace: &Workspace, command: Vec<String>) -> Result<(), GuestError> {
        if command.is_empty() || self.entrypoint_started.replace(true) {
            return Ok(());
        }
        // Its end is of no consequence: the workspace goes on, and the reaper collects it.
        workspace.launcher.launch(Launch {
            identity: Identity::User,
            command,
            arg0: None,
            cwd: None,
            env: BTreeMap::new(),
            stdio: Stdio::Null,
        })?;
        Ok(())
    }

    /// Counts a command in, unless there are too many.
    pub fn count_exec(self: &Rc<Self>) -> Result<ExecCount, GuestError> {
        if self.execs.get() >= EXECS_MAX {
            return Err(invalid(format!("The workspace runs {EXECS_MAX} commands already; wait for one to end.")));
        }
        self.execs.set(self.execs.get() + 1);
        self.last_exec_ms.set(unix_ms());
        Ok(ExecCount(self.clone()))
    }

    /// When something last happened for somebody: in a terminal, or by a command.
    pub fn last_busy_ms(&self) -> i64 {
        let in_terminals =
            self.workspace.borrow().as_ref().map(|w| w.terminals.last_input_ms().max(w.terminals.last_output_ms()));
        self.last_exec_ms.get().max(in_terminals.unwrap_or_default())
    }

    pub fn usage(&self) -> Result<Usage, GuestError> {
        let mut usage = Usage {
            processes: processes(),
            execs: self.execs.get(),
            last_exec_ms: self.last_exec_ms.get(),
            guest_rss_bytes: resident_bytes().map_err(|e| internal("could not read the guest's memory", e))?,
            ..Usage::default()
        };
        if let Some(workspace) = &*self.workspace.borrow() {
            let terminals = &workspace.terminals;
            usage.terminals = u32::try_from(terminals.alive()).unwrap_or(u32::MAX);
            usage.foreground = u32::try_from(terminals.with_foreground_job()).unwrap_or(u32::MAX);
            usage.last_input_ms = terminals.last_input_ms();
            usage.last_output_ms = terminals.last_output_ms();
        }
        Ok(usage)
    }
}

/// Who the user of this boot is, made at home the first time.
async fn at_home(before: Option<&Workspace>, usual: UserSpec, account: Option<&str>) -> Result<UserSpec, GuestError> {
    let user = match (before, account) {
        (Some(before), Some(_)) => before.user.clone(),
        (_, account) => home::chosen(usual, account),
    };
    match before {
        Some(before) if before.user != user => {
            Err(invalid("The user of a workspace cannot change while it runs; restart it."))
        }
        Some(_) => Ok(user),
        None => {
            home::settle(&user, login_shell(&user)).await?;
            Ok(user)
        }
    }
}

impl Workspace {
    pub fn user(&self) -> &UserSpec {
        &self.user
    }

    /// Who a program is to run as when the server names an account. Where the user may not become
    /// somebody else by `sudo`, nobody may for the user.
    pub fn identity(&self, name: Option<&str>) -> Result<Identity, GuestError> {
        let Some(name) = name else {
            return Ok(Identity::User);
        };
        let account = match name {
            "root" | "#0" => None,
            name if name == self.user.name => return Ok(Identity::User),
            name => {
                let unknown = || invalid(format!("The workspace has no account {name:?}."));
                Some(home::account(name).ok_or_else(unknown)?).filter(|account| account.uid != 0)
            }
        };
        match account {
            Some(account) if account.uid == self.user.uid => Ok(Identity::User),
            _ if self.sudo == SudoPolicy::Deny => {
                Err(refuse(ErrorCode::Forbidden, "This workspace runs programs as its own user alone."))
            }
            Some(account) => Ok(Identity::Other(account)),
            None => Ok(Identity::Root),
        }
    }
}

/// All processes of the workspace but the guest.
fn processes() -> u32 {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return 0;
    };
    let count = entries.flatten().filter(|entry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit)).count();
    u32::try_from(count).unwrap_or(u32::MAX).saturating_sub(1)
}

/// `VmRSS` of `proc(5)`, which counts in units of 1024 bytes.
fn resident_bytes() -> std::io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    let kilobytes: u64 = number.and_then(|number| number.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
    Ok(kilobytes * 1024)
}
