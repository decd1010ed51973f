//! Starting real programs, as whoever runs the tests.

use super::*;
use rexec_api::error::ErrorCode;
use rexec_api::guest::UserSpec;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::Read;

/// The user that root becomes in these tests; anybody else stays who they are.
const TEST_UID: u32 = 12_345;

struct Bench {
    launcher: Launcher,
    home: tempfile::TempDir,
}

fn on_one_thread<F: Future>(test: impl FnOnce(Bench) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let home = tempfile::tempdir().unwrap();
        let (uid, gid) = match rustix::process::geteuid().as_raw() {
            0 => (TEST_UID, TEST_UID),
            own => (own, rustix::process::getegid().as_raw()),
        };
        std::os::unix::fs::chown(home.path(), Some(uid), Some(gid)).unwrap();
        let user =
            UserSpec { name: "tester".into(), uid, gid, home: home.path().to_str().unwrap().into(), shell: None };
        let reaper = Reaper::new();
        let watching = tokio::task::spawn_local(reaper.watch().unwrap());
        let env = BTreeMap::from([("CONFIGURED".to_owned(), "yes".to_owned())]);
        let launcher = Launcher::new(reaper, user, env);
        let output = test(Bench { launcher, home }).await;
        watching.abort();
        output
    })
}

impl Bench {
    fn launch(&self, command: &[&str]) -> (Launch, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let launch = Launch {
            identity: Identity::User,
            command: command.iter().map(|s| s.to_string()).collect(),
            arg0: None,
            cwd: None,
            env: BTreeMap::new(),
            stdio: Stdio::Descriptors {
                stdin: null.into(),
                stdout: writer.try_clone().unwrap().into(),
                stderr: writer.into(),
            },
        };
        (launch, reader)
    }

    /// Runs a short program that writes little, and gives its code and what it wrote.
    async fn run(&self, launch: (Launch, std::io::PipeReader)) -> (i32, String) {
        let mut process = self.launcher.launch(launch.0).unwrap();
        let code = process.exited().await.code();
        let mut text = String::new();
        let mut reader = launch.1;
        reader.read_to_string(&mut text).unwrap();
        (code, text)
    }

    async fn sh(&self, script: &str) -> (i32, String) {
        self.run(self.launch(&["sh", "-c", script])).await
    }

    fn refusal(&self, launch: (Launch, std::io::PipeReader)) -> LaunchError {
        self.launcher.launch(launch.0).unwrap_err()
    }
}

#[test]
fn exit_codes_are_those_a_shell_tells() {
    on_one_thread(async |bench: Bench| {
        assert_eq!(bench.sh("exit 7").await.0, 7);
        assert_eq!(bench.sh("kill -TERM $$").await.0, 143);
        assert_eq!(bench.sh("echo out; echo err >&2").await, (0, "out\nerr\n".into()));
    });
}

#[test]
fn the_environment_is_built_and_not_inherited() {
    on_one_thread(async |bench: Bench| {
        let (mut launch, reader) = bench.launch(&["env"]);
        launch.env.insert("ASKED".into(), "a b".into());
        let (code, text) = bench.run((launch, reader)).await;
        assert_eq!(code, 0);
        let names: Vec<&str> = text.lines().filter_map(|l| l.split('=').next()).collect();
        let expected = ["ASKED", "COLORTERM", "CONFIGURED", "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "USER"];
        assert_eq!(names, expected);
        assert!(text.contains("ASKED=a b\n") && text.contains("USER=tester\n"));
    });
}

#[test]
fn identity_directory_umask_and_group_are_the_users() {
    on_one_thread(async |bench: Bench| {
        let user = bench.launcher.user().clone();
        let (code, text) = bench.sh("id -u; id -g; umask; pwd -P; test $(ps -o pgid= -p $$) = $$ && echo leader").await;
        let home = bench.home.path().canonicalize().unwrap();
        let expected = format!("{}\n{}\n0022\n{}\nleader\n", user.uid, user.gid, home.display());
        assert_eq!((code, text), (0, expected));
        let (_, oom) = bench.sh("cat /proc/self/oom_score_adj").await;
        assert_eq!(oom, "500\n");
    });
}

#[test]
fn signals_are_reset_and_nothing_leaks_in() {
    on_one_thread(async |bench: Bench| {
        // Descriptors of the test without the close-on-exec flag must not reach the program.
        let null = std::fs::File::open("/dev/null").unwrap();
        // Above any number that the program itself may come to use.
        let leaked = rustix::io::fcntl_dupfd_cloexec(&null, 100).unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        // Programs that look at themselves: a shell blocks signals while it waits.
        let (_, open) = bench.run(bench.launch(&["ls", "/proc/self/fd"])).await;
        let number = std::os::fd::AsRawFd::as_raw_fd(&leaked).to_string();
        assert!(open.lines().all(|fd| fd != number), "{open}");
        let status = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
        let (_, signals) = bench.run(bench.launch(&status)).await;
        assert_eq!(signals.lines().count(), 2);
        for line in signals.lines() {
            assert!(line.ends_with("0000000000000000"), "{line}");
        }
    });
}

#[test]
fn refusals_name_the_cause() {
    on_one_thread(async |bench: Bench| {
        let unknown = bench.refusal(bench.launch(&["no-such-program-here"]));
        assert_eq!(unknown.code(), ErrorCode::CommandNotFound);
        assert!(unknown.to_string().contains("no-such-program-here"));
        let missing = bench.refusal(bench.launch(&["/no/such/file"]));
        assert_eq!(missing, LaunchError::NotFound("/no/such/file".into()));

        let plain = bench.home.path().join("plain");
        std::fs::write(&plain, "text").unwrap();
        let denied = bench.refusal(bench.launch(&[plain.to_str().unwrap()]));
        assert_eq!(denied.code(), ErrorCode::FileDenied);

        let (mut launch, reader) = bench.launch(&["sh"]);
        launch.cwd = Some("nowhere".into());
        let directory = bench.refusal((launch, reader));
        assert_eq!(directory.code(), ErrorCode::NotADirectory);
        assert!(directory.to_string().contains("does not exist"));

        assert_eq!(bench.refusal(bench.launch(&[])).code(), ErrorCode::InvalidRequest);
        assert_eq!(bench.refusal(bench.launch(&["a\0b"])).code(), ErrorCode::InvalidRequest);
        let (mut launch, reader) = bench.launch(&["sh"]);
        launch.env.insert("A=B".into(), String::new());
        assert_eq!(bench.refusal((launch, reader)).code(), ErrorCode::InvalidRequest);
        assert!(bench.launcher.launch(bench.launch(&["true"]).0).is_ok());
    });
}

#[test]
fn the_path_searched_is_the_programs_own() {
    on_one_thread(async |bench: Bench| {
        // A link: a program that was just written may be open for writing still in a child that another test begins.
        std::os::unix::fs::symlink("/bin/sh", bench.home.path().join("tool")).unwrap();
        let (mut launch, reader) = bench.launch(&["tool", "-c", "echo found"]);
        launch.env.insert("PATH".into(), bench.launcher.user().home.clone());
        assert_eq!(bench.run((launch, reader)).await, (0, "found\n".into()));
    });
}

/// Many children that end at once, together: each owner hears its own child's code.
#[test]
fn quick_children_never_lose_their_owner() {
    on_one_thread(async |bench: Bench| {
        let mut processes = Vec::new();
        for code in 0..100 {
            let script = format!("exit {code}");
            let mut launch = bench.launch(&["sh", "-c", &script]).0;
            launch.stdio = Stdio::Null;
            processes.push((code, bench.launcher.launch(launch).unwrap()));
        }
        for (code, mut process) in processes {
            assert_eq!(process.exited().await.code(), code);
            assert!(!process.group.is_alive());
            // Harmless although the number may already be somebody else's.
            process.group.signal(Signal::KILL);
        }
    });
}

#[test]
fn a_signal_reaches_the_whole_group() {
    on_one_thread(async |bench: Bench| {
        let (launch, mut reader) = bench.launch(&["sh", "-c", "sleep 1000 & echo up; wait"]);
        let mut process = bench.launcher.launch(launch).unwrap();
        let mut up = [0; 3];
        reader.read_exact(&mut up).unwrap();
        process.group.signal(Signal::KILL);
        assert_eq!(process.exited().await, End::Signal(9));
        // The pipe closes only when the group's last member has gone.
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    });
}
