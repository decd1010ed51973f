//! Starting one program: from what was asked for to a registered child.
//!
//! Invariant: from the fork to the registration with the [`Reaper`] nothing is awaited, and the
//! reaper runs on this same thread, so a child that ends at once still finds its owner.

use super::child::{self, Directory, Failure, Plan, Session};
use super::identity::Credentials;
use super::{Identity, LaunchError, Process, Reaper, environment, resolve};
use rexec_api::guest::{MOUNT, PROGRAM, UserSpec};
use rexec_api::terminals::{COMMAND_ARGS_MAX, COMMAND_BYTES_MAX};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const SHELL_FALLBACKS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// What a program's standard streams are.
#[derive(Debug)]
pub enum Stdio {
    /// All three are this side of a PTY, which becomes the controlling terminal of a new session.
    Terminal(OwnedFd),
    /// Open descriptors; the program gets a process group of its own.
    Descriptors { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    /// `/dev/null`, thrice.
    Null,
}

/// What to start.
#[derive(Debug)]
pub struct Launch {
    pub identity: Identity,
    /// Program and arguments; a name without a slash is looked up in the program's own `PATH`.
    pub command: Vec<String>,
    /// What the program sees as its name instead of `command[0]`: `-bash` makes a login shell.
    pub arg0: Option<String>,
    /// An error when it cannot be entered; absent, the user's home or else `/`.
    pub cwd: Option<String>,
    pub env: BTreeMap<String, String>,
    pub stdio: Stdio,
}

/// Starts programs for the workspace's user; cheap to clone.
#[derive(Debug, Clone)]
pub struct Launcher {
    reaper: Reaper,
    user: UserSpec,
    env: BTreeMap<String, String>,
    own: OwnPrograms,
}

/// Where the guest's own programs are.
#[derive(Debug, Clone)]
enum OwnPrograms {
    /// In the workspace's mount, which is in every `PATH`.
    Mounted,
    /// In the program that runs here: these words, then those that the guest would take.
    Within(Vec<String>),
}

impl Launcher {
    /// `env` is what the workspace gives to every program, its image's variables included.
    pub fn new(reaper: Reaper, user: UserSpec, env: BTreeMap<String, String>) -> Self {
        Self { reaper, user, env, own: OwnPrograms::Mounted }
    }

    /// Where there is no mount, what is asked of the guest's own program is asked of this one.
    #[must_use]
    pub fn on_machine(self, program: Vec<String>) -> Self {
        Self { own: OwnPrograms::Within(program), ..self }
    }

    pub fn user(&self) -> &UserSpec {
        &self.user
    }

    /// The account that programs of this identity run as.
    pub fn account(&self, identity: &Identity) -> UserSpec {
        identity.resolve(&self.user)
    }

    /// Starts a program. Synchronous on purpose: see the module's invariant.
    pub fn launch(&self, mut launch: Launch) -> Result<Process, LaunchError> {
        validate(&launch)?;
        let mount = match &self.own {
            OwnPrograms::Mounted => Some(MOUNT),
            OwnPrograms::Within(program) => {
                if launch.command[0] == PROGRAM {
                    launch.command.splice(..1, program.iter().cloned());
                }
                None
            }
        };
        let user = launch.identity.resolve(&self.user);
        let credentials = Credentials::of(&user);
        let env = environment::build(&user, &login_shell(&user), [&self.env, &launch.env], mount);
        let name = launch.command[0].clone();
        let cwd = launch.cwd.as_deref().map(|cwd| absolute(cwd, &user.home));
        let program = resolve::resolve(
            &name,
            env.get("PATH").map_or("", String::as_str),
            Path::new(cwd.as_deref().unwrap_or(&user.home)),
            &credentials,
        )?;

        let mut command = Command::new(program);
        command.args(&launch.command[1..]).env_clear().envs(&env);
        command.arg0(launch.arg0.as_ref().unwrap_or(&name));
        let session = attach_stdio(&mut command, launch.stdio)?;
        child::prepare(
            &mut command,
            Plan {
                session,
                credentials: rustix::process::geteuid().is_root().then_some(credentials),
                directory: directory(cwd.as_deref(), &user.home)?,
            },
        );
        match command.spawn() {
            Ok(child) => Ok(self.reaper.register(child.id())),
            Err(error) => Err(match Failure::of(&error) {
                Failure::Exec(errno) => LaunchError::of_exec(&name, errno),
                Failure::Directory(errno) => LaunchError::of_directory(cwd.as_deref().unwrap_or("/"), errno),
                Failure::Setup(source) => LaunchError::System { name, source },
            }),
        }
    }
}

/// The user's shell if the image has it, else the best one that it has.
pub fn login_shell(user: &UserSpec) -> String {
    let exists = |path: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    user.shell.as_deref().into_iter().chain(SHELL_FALLBACKS).find(|path| exists(path)).unwrap_or("/bin/sh").to_owned()
}

fn validate(launch: &Launch) -> Result<(), LaunchError> {
    let invalid = |message: String| Err(LaunchError::Invalid(message));
    let command = &launch.command;
    if command.first().is_none_or(String::is_empty) {
        return invalid("the command is empty; name a program".into());
    }
    if command.len() > COMMAND_ARGS_MAX {
        return invalid(format!("the command has more than {COMMAND_ARGS_MAX} arguments"));
    }
    if command.iter().map(String::len).sum::<usize>() > COMMAND_BYTES_MAX {
        return invalid(format!("the command is longer than {COMMAND_BYTES_MAX} bytes"));
    }
    if command.iter().chain(&launch.cwd).any(|s| s.contains('\0')) {
        return invalid("the command or its directory contains a NUL character".into());
    }
    match launch.env.iter().find(|(name, value)| !environment::is_valid(name, value)) {
        Some((name, _)) => invalid(format!(
            "{name:?} is not a usable environment variable; names have no '=' and nothing has a NUL character"
        )),
        None => Ok(()),
    }
}

/// A relative directory is meant from home.
fn absolute(cwd: &str, home: &str) -> String {
    Path::new(home).join(cwd).to_string_lossy().into_owned()
}

fn directory(cwd: Option<&str>, home: &str) -> Result<Directory, LaunchError> {
    let c_path = |path: &str| CString::new(path).map_err(|_| LaunchError::Invalid("a path contains NUL".into()));
    Ok(match cwd {
        Some(cwd) => Directory::Exactly(c_path(cwd)?),
        None => Directory::FirstOf([c_path(home)?, c_path("/")?]),
    })
}

fn attach_stdio(command: &mut Command, stdio: Stdio) -> Result<Session, LaunchError> {
    let (stdin, stdout, stderr, session) = match stdio {
        Stdio::Terminal(pty) => {
            let duplicate = || {
                pty.try_clone().map_err(|error| {
                    let raw = error.raw_os_error().unwrap_or(libc::EIO);
                    LaunchError::of_exec("the terminal", rustix::io::Errno::from_raw_os_error(raw))
                })
            };
            let (first, second) = (duplicate()?, duplicate()?);
            (first.into(), second.into(), pty.into(), Session::Terminal)
        }
        Stdio::Descriptors { stdin, stdout, stderr } => (stdin.into(), stdout.into(), stderr.into(), Session::Group),
        Stdio::Null => {
            let null = std::process::Stdio::null;
            (null(), null(), null(), Session::Group)
        }
    };
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    Ok(session)
}
