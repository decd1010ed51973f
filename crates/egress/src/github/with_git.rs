//! Pushes of the git that is installed, judged and answered over a real socket. Without git there is nothing to try.
#![allow(clippy::unwrap_used)]

use super::*;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

const ADVERTISEMENT_TYPE: &str = "application/x-git-receive-pack-advertisement";
/// What GitHub says it can.
const CAPABILITIES: &str = "report-status report-status-v2 delete-refs side-band-64k ofs-delta atomic object-format=sha1 \
                            quiet push-options agent=git/github";
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A repository with one commit, one tag and a remote that has nothing.
struct Repository(PathBuf);

/// What became of a push.
struct Pushed {
    stderr: String,
    /// Of each request that may push.
    read: Vec<Result<Commands, BadPush>>,
}

struct Request {
    method: String,
    path: String,
    query: Option<String>,
    fields: HashMap<String, String>,
}

impl Repository {
    /// `None`: there is no git.
    fn new(format: &str) -> Option<Self> {
        Process::new("git").arg("--version").output().ok()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let at = std::env::temp_dir().join(format!("rexec-egress-push-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&at).unwrap();
        let new = Self(at);
        new.git(&["init", "-q", "-b", "main", &format!("--object-format={format}")]);
        new.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        new.git(&["tag", "v1"]);
        Some(new)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut process = Process::new("git");
        process.current_dir(&self.0).args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        for name in ["AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL"] {
            process.env(format!("GIT_{name}"), "someone");
        }
        process.envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_TERMINAL_PROMPT", "0")]);
        process.env("HOME", Path::new("/nonexistent")).output().unwrap()
    }

    fn git(&self, arguments: &[&str]) {
        let done = self.run(arguments);
        assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// `git push REMOTE` with these arguments.
    fn push(&self, capabilities: &str, grant: &Grant, arguments: &[&str]) -> Pushed {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (done, read) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let pushed = std::thread::scope(|scope| {
            scope.spawn(|| {
                for stream in listener.incoming().take_while(|_| !done.load(Ordering::SeqCst)) {
                    read.lock().unwrap_or_else(PoisonError::into_inner).extend(serve(
                        &stream.unwrap(),
                        capabilities,
                        grant,
                    ));
                }
            });
            let url = format!("http://{address}/acme/app.git");
            let pushed = self.run(&[&["push", &url], arguments].concat());
            done.store(true, Ordering::SeqCst);
            TcpStream::connect(address).unwrap();
            pushed
        });
        Pushed { stderr: String::from_utf8(pushed.stderr).unwrap(), read: read.into_inner().unwrap() }
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Request {
    fn read(from: &mut impl BufRead) -> Self {
        let mut lines = from.by_ref().lines().map(|line| line.unwrap()).take_while(|line| !line.is_empty());
        let first = lines.next().unwrap();
        let [method, target, _] = first.split(' ').collect::<Vec<_>>()[..] else { panic!("{first}") };
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
        let (method, path) = (method.to_owned(), path.to_owned());
        let field = |line: String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Self { method, path, query, fields: lines.filter_map(field).collect() }
    }

    /// All of it, in the parts that come.
    fn body(&self, from: &mut impl BufRead, mut take: impl FnMut(&[u8])) {
        let mut pass = |from: &mut dyn BufRead, length: u64| {
            let (mut rest, mut part) = (from.take(length), [0; 1000]);
            while let Ok(count @ 1..) = rest.read(&mut part) {
                take(&part[..count]);
            }
        };
        if let Some(length) = self.fields.get("content-length") {
            return pass(from, length.parse().unwrap());
        }
        assert_eq!(self.fields["transfer-encoding"], "chunked");
        loop {
            let mut line = String::new();
            from.read_line(&mut line).unwrap();
            let length = u64::from_str_radix(line.trim(), 16).unwrap();
            pass(from, length);
            from.read_line(&mut line).unwrap();
            if length == 0 {
                return;
            }
        }
    }
}

fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// One request, as the gateway answers it. The host is what it is outside.
fn serve(stream: &TcpStream, capabilities: &str, grant: &Grant) -> Option<Result<Commands, BadPush>> {
    let mut from = BufReader::new(stream);
    let asked = Request::read(&mut from);
    let host = "github.com".parse().unwrap();
    let (status, kind, body, read) = match grant.judge(&host, &asked.method, &asked.path, asked.query.as_deref()) {
        Verdict::With(_) => {
            let digits = if capabilities.contains("sha256") { 64 } else { 40 };
            let first = line(&format!("{} capabilities^{{}}\0{capabilities}\n", "0".repeat(digits)));
            let body = format!("{}0000{first}0000", line("# service=git-receive-pack\n"));
            (200, ADVERTISEMENT_TYPE, body.into_bytes(), None)
        }
        Verdict::Push => {
            assert!(!asked.fields.contains_key("content-encoding"), "git compresses no push");
            let (mut push, mut found) = (Push::new(), None);
            asked.body(&mut from, |part| {
                let fed = push.feed(part).transpose();
                found = found.take().or(fed);
            });
            let read = found.unwrap_or_else(|| push.end());
            let why = |commands: &Commands| grant.judge_push(commands).err().unwrap_or(Why("nobody is there".into()));
            let report = read.as_ref().ok().and_then(|commands| reply(commands, why(commands).as_str()));
            (200, RESULT_TYPE, report.unwrap_or_default(), Some(read))
        }
        Verdict::Refused(why) => (403, "text/plain; charset=utf-8", why.as_str().as_bytes().to_vec(), None),
        Verdict::Without => panic!("{} is not granted", asked.path),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} said\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let mut to = stream;
    to.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    read
}

fn grant(branches: &[&str], write: bool) -> Grant {
    let repositories = vec!["acme/app".parse().unwrap()];
    let branches = branches.iter().map(|text| text.parse().unwrap()).collect();
    Grant { site: Site::Public, repositories, branches, write, apart: true }
}

fn names(read: &Result<Commands, BadPush>) -> Vec<&str> {
    read.as_ref().unwrap().all.iter().map(|command| command.name.as_str()).collect()
}

#[test]
fn git_shows_why_beside_each_ref() {
    let Some(repository) = Repository::new("sha1") else { return };
    let some = grant(&["agent/*"], true);
    for capabilities in [CAPABILITIES, "report-status", "report-status side-band-64k", "report-status-v2 atomic"] {
        let pushed = repository.push(capabilities, &some, &["main", "v1"]);
        let why = "(this workspace may push to agent/* alone, not to main)";
        for shown in [format!("! [remote rejected] main -> main {why}"), format!("! [remote rejected] v1 -> v1 {why}")]
        {
            assert!(pushed.stderr.contains(&shown), "{capabilities}: {}", pushed.stderr);
        }
        assert!(!pushed.stderr.contains("fatal"), "{}", pushed.stderr);
        assert_eq!(names(&pushed.read[0]), ["refs/heads/main", "refs/tags/v1"]);
    }
    let pushed = repository.push(CAPABILITIES, &some, &["--atomic", "-o", "a=b", "v1"]);
    assert!(
        pushed.stderr.contains("v1 -> v1 (this workspace may push to branches (agent/*) alone"),
        "{}",
        pushed.stderr
    );
    // Judged, and let through: there is nobody to take it.
    let pushed = repository.push(CAPABILITIES, &some, &["main:refs/heads/agent/x"]);
    assert!(pushed.stderr.contains("main -> agent/x (nobody is there)"), "{}", pushed.stderr);
    let many: Vec<String> = (0..900).map(|at| format!("main:refs/heads/many/{at}")).collect();
    let pushed = repository.push(CAPABILITIES, &some, &many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(pushed.stderr.matches("[remote rejected]").count(), 900, "{}", pushed.stderr);
}

#[test]
fn git_asks_before_a_long_push() {
    let Some(repository) = Repository::new("sha1") else { return };
    // Incompressible, and more than git sends at once.
    let mut noise = 1_u64;
    let mut next = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (noise >> 32).to_be_bytes()
    };
    std::fs::write(repository.0.join("long"), (0..300_000).flat_map(|_| next()).collect::<Vec<u8>>()).unwrap();
    repository.git(&["add", "long"]);
    repository.git(&["commit", "-q", "-m", "two"]);
    let pushed = repository.push(CAPABILITIES, &grant(&["agent/*"], true), &["main"]);
    assert!(pushed.stderr.contains("! [remote rejected] main -> main (this workspace"), "{}", pushed.stderr);
    assert_eq!(pushed.read.len(), 2);
    assert_eq!(pushed.read[0], Ok(Commands::default()));
    assert_eq!(names(&pushed.read[1]), ["refs/heads/main"]);
}

#[test]
fn git_sends_what_is_read() {
    let Some(repository) = Repository::new("sha1") else { return };
    let all = grant(&[], true);
    repository.git(&["commit", "-q", "--allow-empty", "-m", "two"]);
    let head = String::from_utf8(repository.run(&["rev-parse", "HEAD"]).stdout).unwrap();
    std::fs::write(repository.0.join(".git/shallow"), head).unwrap();
    let pushed = repository.push(CAPABILITIES, &all, &["main:refs/heads/caf\u{e9}/-x", "v1:refs/odd/v1"]);
    let mut read = names(pushed.read.last().unwrap());
    read.sort_unstable();
    assert_eq!(read, ["refs/heads/caf\u{e9}/-x", "refs/odd/v1"]);
    let Some(other) = Repository::new("sha256") else { return };
    let pushed = other.push(&CAPABILITIES.replace("sha1", "sha256"), &all, &["main"]);
    assert_eq!(pushed.read[0].as_ref().unwrap().all[0].new.len(), 64);
    assert!(pushed.stderr.contains("main -> main (nobody is there)"), "{}", pushed.stderr);
}

#[test]
fn git_shows_why_nothing_may_be_pushed() {
    let Some(repository) = Repository::new("sha1") else { return };
    let pushed = repository.push(CAPABILITIES, &grant(&[], false), &["main"]);
    assert!(pushed.read.is_empty());
    assert!(
        pushed.stderr.contains("remote: this workspace may read this repository and not push"),
        "{}",
        pushed.stderr
    );
}
