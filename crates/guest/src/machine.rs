//! A machine that was there before and has been joined: the guest as one of its user's programs.
//!
//! Whoever runs it is the user: their account, home and shell, and no way to another's; it makes no accounts, reaps
//! nobody else's children, and signals only what it started. The caller brings byte streams to servers, one after the
//! other: terminals and commands outlive each of them, and end with [`Machine::end`]. Invariant: nothing of the
//! surroundings that it was started in reaches a program but [`SURROUNDINGS`].

use crate::guest::Guest;
use crate::home;
use crate::process::Reaper;
use crate::routes;
use rexec_api::guest::{MachineFacts, UserSpec};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

/// What programs are given of the variables that this one was started with; and all that begin with `LC_`.
const SURROUNDINGS: [&str; 5] = ["DBUS_SESSION_BUS_ADDRESS", "LANG", "PATH", "TZ", "XDG_RUNTIME_DIR"];
/// Programs may end by themselves for this long when they are told to.
const GRACE: Duration = Duration::from_secs(3);
/// How often to look whether all have.
const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// The longest text of `os-release` and `meminfo` that is looked at.
const LINES_MAX: usize = 256;

/// What the guest knows of the machine that it is on.
pub struct Own {
    pub(crate) user: UserSpec,
    pub(crate) facts: MachineFacts,
    pub(crate) env: BTreeMap<String, String>,
    /// What to run instead of the guest's own binary.
    pub(crate) program: Vec<String>,
}

/// The guest of this machine, which many connections may come to one after the other.
pub struct Machine {
    guest: Rc<Guest>,
    reaper: Reaper,
}

impl Machine {
    /// Must run within a `LocalSet`. `program` are the words that run the guest's own commands, such as `sftp`.
    ///
    /// # Errors
    /// When the account that this process runs as has no home.
    pub fn new(program: Vec<String>) -> io::Result<Self> {
        let user = whoever_runs_this()?;
        let own = Own { facts: facts(&user), user, env: surroundings(std::env::vars()), program };
        let reaper = Reaper::new();
        tokio::task::spawn_local(reaper.watch()?);
        Ok(Self { guest: Rc::new(Guest::of_machine(reaper.clone(), own)), reaper })
    }

    /// Answers a server until its connection ends.
    pub async fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin) {
        routes::serve(self.guest.clone(), io, None).await;
    }

    /// Has all that was started for servers end: asks, waits a little, kills.
    pub async fn end(self) {
        // Shells go by the hang-up and others by the request; the stopped must wake to take either.
        for signal in [Signal::HUP, Signal::TERM, Signal::CONT] {
            self.reaper.signal_all(signal);
        }
        let deadline = Instant::now() + GRACE;
        while self.reaper.count() > 0 && Instant::now() < deadline {
            sleep(LOOK_PERIOD).await;
        }
        self.reaper.signal_all(Signal::KILL);
    }
}

/// The account, by the user files where they know it: a directory service may.
fn whoever_runs_this() -> io::Result<UserSpec> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let known = home::account(&format!("#{uid}"));
    let home = variable("HOME").or_else(|| known.as_ref().map(|known| known.home.clone()));
    let home = home.filter(|home| home.starts_with('/')).ok_or_else(|| io::Error::other("this account has no HOME"))?;
    let name = known.as_ref().map(|known| known.name.clone()).or_else(|| variable("USER"));
    let shell = known.and_then(|known| known.shell).or_else(|| variable("SHELL"));
    Ok(UserSpec { name: name.unwrap_or_else(|| uid.to_string()), uid, gid, home, shell })
}

fn surroundings(variables: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    variables.filter(|(name, _)| SURROUNDINGS.contains(&name.as_str()) || name.starts_with("LC_")).collect()
}

fn facts(user: &UserSpec) -> MachineFacts {
    let system = rustix::system::uname();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let os = value_of(&read("/etc/os-release"), "PRETTY_NAME=").map(|name| name.trim_matches('"').to_owned());
    let memory = value_of(&read("/proc/meminfo"), "MemTotal:");
    let kib = memory.as_deref().and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok());
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    MachineFacts {
        os: os.unwrap_or_else(|| system.sysname().to_string_lossy().into_owned()),
        arch: system.machine().to_string_lossy().into_owned(),
        hostname: system.nodename().to_string_lossy().into_owned(),
        user: user.name.clone(),
        home: user.home.clone(),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_mb: u32::try_from(kib.unwrap_or(0) / 1024).unwrap_or(u32::MAX),
    }
}

fn value_of(text: &str, name: &str) -> Option<String> {
    text.lines().take(LINES_MAX).find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rexec_api::guest::{Configure, ExecSpec, SudoPolicy};
    use rexec_api::ids::WorkspaceId;
    use rexec_channel::GuestClient;
    use tokio::task::LocalSet;

    #[test]
    fn programs_get_little_of_the_surroundings() {
        let started =
            [("PATH", "/bin"), ("REXEC_TOKEN", "secret"), ("LC_ALL", "C"), ("SSH_TTY", "/dev/pts/1"), ("HOME", "/h")];
        let given = surroundings(started.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(given.keys().collect::<Vec<_>>(), ["LC_ALL", "PATH"]);
    }

    #[test]
    fn a_machine_knows_itself() {
        let text = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n";
        assert_eq!(value_of(text, "PRETTY_NAME=").unwrap(), "\"Debian GNU/Linux 12\"");
        let facts = facts(&whoever_runs_this().unwrap());
        assert!(facts.cpus > 0 && facts.memory_mb > 0 && facts.home.starts_with('/'), "{facts:?}");
    }

    #[tokio::test]
    async fn a_server_may_not_say_who_its_user_is() {
        let asked = async {
            let machine = Machine::new(vec!["/bin/echo".into(), "own".into()]).unwrap();
            let own = whoever_runs_this().unwrap();
            let (near, far) = tokio::io::duplex(64 * 1024);
            let served = async { machine.serve(far).await };
            let asked = async {
                let (client, driver) = GuestClient::connect(near).await.unwrap();
                let driver = tokio::task::spawn_local(driver);
                let configure = Configure {
                    workspace: WorkspaceId::new(),
                    user: UserSpec { name: "other".into(), uid: 4321, gid: 4321, home: "/none".into(), shell: None },
                    account: Some("nobody".into()),
                    env: BTreeMap::new(),
                    sudo: SudoPolicy::Allow,
                    entrypoint: Some(vec!["/bin/false".into()]),
                    ring_bytes: None,
                    scrollback_lines: None,
                    gateway: None,
                    authority: None,
                };
                let hello = client.configure(&configure).await.unwrap();
                assert_eq!(hello.machine.unwrap().user, own.name);
                let run = async |command: &[&str], user: Option<&str>| {
                    let command = command.iter().map(|word| (*word).to_owned()).collect();
                    let spec = ExecSpec { command, cwd: None, env: BTreeMap::new(), user: user.map(str::to_owned) };
                    let (_sender, mut receiver) = client.exec(&spec).await?;
                    let mut said = Vec::new();
                    while let Some(frame) = receiver.recv().await? {
                        if frame[0] == rexec_api::guest::exec_frame::STDOUT {
                            said.extend_from_slice(&frame[1..]);
                        }
                    }
                    Ok::<_, rexec_channel::ChannelError>(String::from_utf8(said).unwrap())
                };
                assert_eq!(run(&["id", "-u"], None).await.unwrap().trim(), own.uid.to_string());
                assert_eq!(run(&["pwd"], None).await.unwrap().trim(), own.home);
                assert_eq!(run(&[rexec_api::guest::PROGRAM, "sftp"], None).await.unwrap().trim(), "own sftp");
                assert!(run(&["id"], Some("daemon")).await.is_err());
                driver.abort();
            };
            tokio::select! {
                () = asked => {}
                () = served => unreachable!("nobody hangs up"),
            }
            machine.end().await;
        };
        LocalSet::new().run_until(asked).await;
    }
}
