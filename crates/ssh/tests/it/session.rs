//! Commands and shells.

use crate::client::{Done, PATIENCE, World, finish, noise};
use crate::pty::Terminal;
use rexec_ssh::Bounds;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_its_output_and_its_end() {
    let world = World::new().await;
    let done = world.run("echo out; echo err >&2; exit 7").await;
    assert_eq!((done.code, done.text(), &*done.err), (Some(7), "out\n", "err\n"));
    world.until_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_bytes_pass_both_ways() {
    let world = World::new().await;
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let done = finish(world.ssh().args(["ws@127.0.0.1", "cat; echo end >&2"]), &all).await.ok();
    assert!(done.out == all);
    assert_eq!(done.err, "end\n");
}

/// Whole megabytes pass both ways at once, many windows of them, with a program that writes more than it reads
/// and one that reads late; keys are exchanged anew on the way.
#[tokio::test(flavor = "multi_thread")]
async fn much_passes_both_ways_at_once() {
    let world = World::with(Bounds { rekey_bytes: 3 << 20, ..Bounds::default() }, Vec::new()).await;
    let much = noise(12 << 20);
    let done = finish(world.ssh().args(["ws@127.0.0.1", "cat"]), &much).await.ok();
    assert!(done.out == much);
    let done = finish(world.ssh().args(["ws@127.0.0.1", "tee /dev/stderr"]), &much).await;
    assert!(done.code == Some(0) && done.out == much);
    let done = finish(world.ssh().args(["ws@127.0.0.1", "sleep 0.5; cat >copy; cat copy copy"]), &much).await.ok();
    assert!(done.out.len() == 2 * much.len() && done.out.ends_with(&much));
}

/// A program that makes much of little: its output waits for window that its own input stands before.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_expands_does_not_stand_still() {
    let world = World::new().await;
    let lines = "0123456789abcdef0123456789abcdef\n".repeat(100_000);
    let done = finish(world.ssh().args(["ws@127.0.0.1", "sed 'p;p;p'"]), lines.as_bytes()).await.ok();
    assert_eq!(done.out.len(), 4 * lines.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_command() {
    let world = World::new().await;
    let done = finish(world.ssh().args(["-v", "ws@127.0.0.1", "kill -TERM $$"]), b"").await;
    assert_eq!(done.code, Some(255), "{}", done.err);
    assert!(done.err.contains("exit-signal"), "{}", done.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_takes_its_command_along() {
    let world = World::new().await;
    let mut child = world
        .ssh()
        .args(["ws@127.0.0.1", "cat /dev/zero"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("ssh");
    let mut some = [0; 65536];
    child.stdout.as_mut().expect("stdout").read_exact(&mut some).await.expect("output");
    child.kill().await.expect("a kill");
    world.until_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_what_may_be_set() {
    let world = World::new().await;
    let mut ssh = world.ssh();
    ssh.args(["-oSendEnv=LC_TEST", "-oSetEnv=LD_PRELOAD=/nowhere COLORTERM=truecolor"]).env("LC_TEST", "a b");
    let done = finish(ssh.args(["ws@127.0.0.1", "echo \"$LC_TEST,$LD_PRELOAD,$COLORTERM\""]), b"").await.ok();
    assert_eq!(done.text(), "a b,,truecolor\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeper_is_woken_and_says_so_on_stderr() {
    let world = World::new().await;
    std::fs::write(world.home().join("asleep"), "").expect("a mark");
    let done = world.run("echo out").await.ok();
    assert_eq!((done.text(), &*done.err), ("out\n", "Waking up.\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_is_said_and_recorded() {
    let world = World::new().await;
    world.local.forbidden.lock().expect("forbidden").push("exec");
    let done = world.run("touch here").await;
    assert_eq!((done.code, &*done.err), (Some(254), "No exec for you.\n"));
    assert!(!world.home().join("here").exists());
    assert_eq!(*world.local.calls.lock().expect("calls"), ["exec None"]);
}

/// A shell on a terminal, driven through the terminal that the client has here.
struct Screen {
    client: Child,
    keys: tokio::fs::File,
    screen: tokio::fs::File,
    master: OwnedFd,
    seen: String,
}

impl Screen {
    fn open(ssh: &mut Command) -> Self {
        ssh.env("TERM", "xterm-256color").kill_on_drop(true);
        let master = Terminal::open(91, 23).attach(ssh);
        let client = ssh.spawn().expect("ssh");
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let file = || tokio::fs::File::from_std(master.try_clone().expect("dup").into());
        Self { client, keys: file(), screen: file(), master, seen: String::new() }
    }

    async fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.expect("keys");
        self.keys.flush().await.expect("keys");
    }

    /// Reads until `what` is on the screen, and forgets what was before it.
    async fn until(&mut self, what: &str) {
        let mut chunk = [0; 4096];
        while !self.seen.contains(what) {
            let read = timeout(PATIENCE, self.screen.read(&mut chunk)).await;
            let count = read.unwrap_or_else(|_| panic!("no {what} in {:?}", self.seen)).unwrap_or(0);
            assert!(count > 0, "the end came before {what}: {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
        let end = self.seen.find(what).expect("it is there") + what.len();
        self.seen.drain(..end);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_on_a_terminal() {
    let world = World::new().await;
    let mut screen = Screen::open(world.ssh().arg("ws@127.0.0.1"));
    screen.type_in("PS1='rea''dy '\r").await;
    screen.until("ready ").await;
    screen.type_in("stty size; echo $TERM; tty | cut -c 1-8\r").await;
    screen.until("23 91").await;
    screen.until("xterm-256color").await;
    screen.until("/dev/pts").await;
    rustix::termios::tcsetwinsize(
        &screen.master,
        rustix::termios::Winsize { ws_col: 120, ws_row: 50, ws_xpixel: 0, ws_ypixel: 0 },
    )
    .expect("a resize");
    // The client tells when it has seen the signal.
    screen.type_in("until [ \"$(stty size)\" = '50 120' ]; do sleep 0.1; done; echo re''sized\r").await;
    screen.until("resized").await;
    // A key before it runs would be the shell's.
    screen.type_in("sh -c 'echo run\"\"ning; exec sleep 1000'\r").await;
    screen.until("running").await;
    screen.type_in("\x03").await;
    screen.until("ready ").await;
    screen.type_in("exit 3\r").await;
    let status = timeout(PATIENCE, screen.client.wait()).await.expect("an end").expect("a status");
    assert_eq!(status.code(), Some(3));
    world.until_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_for_a_command_without_one_here() {
    let world = World::new().await;
    let done = finish(world.ssh().args(["-tt", "ws@127.0.0.1", "stty size; echo err >&2"]), b"").await.ok();
    assert_eq!(done.text(), "24 80\r\nerr\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_share_a_connection() {
    let world = World::new().await;
    let socket = world.path("master");
    let control = format!("-oControlPath={}", socket.display());
    let mut master = world.ssh();
    let master = master.args([&control, "-oControlMaster=yes", "-N", "ws@127.0.0.1"]);
    let mut master = master.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("ssh");
    world.until("a master", || socket.exists()).await;
    // More than may be open at once, one after the other and side by side.
    for round in 0..10 {
        let sessions: Vec<_> = (0..10)
            .map(|number| {
                let mut ssh = world.ssh();
                ssh.args([&control, "ws@127.0.0.1", &format!("echo {round}.{number}; cat; exit {number}")]);
                tokio::spawn(async move { finish(&mut ssh, b"in").await })
            })
            .collect();
        for (number, session) in sessions.into_iter().enumerate() {
            let Done { code, out, err } = session.await.expect("a session");
            assert_eq!(code, Some(number as i32), "{err}");
            assert_eq!(out, format!("{round}.{number}\nin").as_bytes());
        }
    }
    world.until_idle().await;
    master.kill().await.expect("a kill");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_and_a_stop_that_ends_them() {
    let mut world = World::new().await;
    let sessions: Vec<_> = (0..100)
        .map(|number| {
            let mut ssh = world.ssh();
            ssh.args(["ws@127.0.0.1", &format!("echo {number}; sleep 1000")]);
            tokio::spawn(async move { finish(&mut ssh, b"").await })
        })
        .collect();
    world.until("a hundred sessions", || *world.local.alive.lock().expect("alive") == 100).await;
    world.stopped().await;
    for (number, session) in sessions.into_iter().enumerate() {
        let done = session.await.expect("a session");
        assert_eq!(done.code, Some(255), "{}", done.err);
        assert!(done.text().is_empty() || done.text() == format!("{number}\n"));
    }
    world.until_idle().await;
}
