//! What one does beside the terminals: reading logs, syncing folders, looking after the server.

use crate::support::{EMAIL, PASSWORD, Stage, runtime};
use rexec_client::Client;
use serde_json::Value;
use std::io::Read as _;
use std::process::{Child, ChildStdout, Command, Stdio};

const WAITS: &str = r#"
name = "Waits"
description = "Of a test."
icon = "terminal"
image = "rexec/base:latest"
size_mb = 100
[[setup]]
name = "Fetch"
run = "echo begun; until [ -e /tmp/go ]; do sleep 0.05; done; echo ended"
timeout_s = 600
[[setup]]
name = "Build"
run = "echo building; test ! -e /tmp/broken"
timeout_s = 600
"#;

#[test]
fn what_happens_is_told_and_looked_after() {
    let stage = Stage::start(&[("waits", WAITS)]);
    let password = format!("{PASSWORD}\n");
    stage.ok_with(&["login", &stage.url, "--email", EMAIL, "--password-stdin"], password.as_bytes());
    stage.ok(&["new", "box"]);
    past(&stage);
    setup(&stage);
    administration(&stage);
    homes(&stage);
}

/// A command that goes on, and what it has said.
struct Going {
    child: Child,
    output: ChildStdout,
    said: String,
}

impl Going {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        Self { output: child.stdout.take().unwrap(), child, said: String::new() }
    }

    #[track_caller]
    fn until(&mut self, text: &str) {
        let mut piece = [0; 4096];
        while !self.said.contains(text) {
            let count = self.output.read(&mut piece).unwrap();
            assert!(count > 0, "it ended without {text:?}: {}", self.said);
            self.said.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }

    fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), std::mem::take(&mut self.said) + &rest)
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn past(stage: &Stage) {
    let mut follow = Going::start(stage.command(&["logs", "box", "--follow"]));
    follow.until("created");
    stage.ok(&["stop", "box"]);
    follow.until("stopped");
    stage.ok(&["start", "box"]);
    follow.until("started");
    drop(follow);
    let told = stage.ok(&["logs", "box"]);
    let words: Vec<_> = told.lines().map(|line| line.split("  ").nth(1).unwrap()).collect();
    assert_eq!(words, ["created", "stopped", "started"], "{told}");
    let lines = stage.ok(&["logs", "box", "--json", "-n", "2"]);
    let kinds: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, ["workspace.stopped", "workspace.started"]);

    stage.ok(&["new", "short"]);
    let mut follow = Going::start(stage.command(&["logs", "short", "-f"]));
    follow.until("created");
    stage.ok(&["rm", "--purge", "--yes", "short"]);
    let (code, said) = follow.ended();
    assert_eq!(code, Some(0));
    assert!(said.contains("deleted"), "{said}");
    stage.fails(&["logs", "short"], 4);
}

fn setup(stage: &Stage) {
    assert_eq!(stage.ok(&["logs", "box", "--setup"]), "It has no set-up.\n");
    stage.ok(&["new", "slow", "--template", "waits"]);
    let mut follow = Going::start(stage.command(&["logs", "slow", "--setup", "-f"]));
    follow.until("begun");
    let now = stage.ok(&["logs", "slow", "--setup"]);
    assert!(now.contains("== Fetch") && now.contains("begun") && !now.contains("ended"), "{now}");
    stage.ok(&["exec", "slow", "--", "touch", "/tmp/go", "/tmp/broken"]);
    let (code, said) = follow.ended();
    assert_eq!(code, Some(1), "{said}");
    for told in ["ended", "-- done", "== Build", "building", "-- failed"] {
        assert!(said.contains(told), "{told:?} is missing: {said}");
    }
    let whole: Value = serde_json::from_str(&stage.ok(&["logs", "slow", "--setup", "--json"])).unwrap();
    assert_eq!((&whole["state"], &whole["steps"][1]["state"]), (&"failed".into(), &"failed".into()));
    stage.ok(&["rm", "--purge", "--yes", "slow"]);
}

fn administration(stage: &Stage) {
    let status = stage.ok(&["admin", "status"]);
    assert!(status.starts_with("PART") && status.contains("database"), "{status}");
    let status: Value = serde_json::from_str(&stage.ok(&["admin", "status", "--json"])).unwrap();
    assert_eq!(status["ready"], true);

    let fingerprint = || {
        let keys: Value = serde_json::from_str(&stage.ok(&["admin", "host-keys", "--json"])).unwrap();
        keys[0]["fingerprint"].as_str().unwrap().to_owned()
    };
    let before = fingerprint();
    assert!(stage.ok(&["admin", "host-keys"]).contains(&before));
    assert!(stage.fails(&["admin", "host-keys", "rotate"], 2).contains("--yes"));
    assert_eq!(fingerprint(), before);
    let token = runtime().block_on(async {
        let client = Client::new(&stage.url).unwrap();
        let (other, _) = client.register("eve@example.com", PASSWORD).await.unwrap();
        other.token().unwrap().to_owned()
    });
    stage.fails(&["--token", &token, "admin", "host-keys", "rotate", "--yes"], 5);
    let after = stage.ok(&["admin", "host-keys", "rotate", "--yes"]);
    assert!(after.contains("SHA256:") && !after.contains(&before), "{after}");

    let id = stage.ok_with(&["admin", "registries", "add", "ghcr.io", "ada", "--everyone"], b"a secret\n");
    let listed = stage.ok(&["admin", "registries"]);
    assert!(listed.contains("ghcr.io") && listed.contains("everyone") && !listed.contains("a secret"), "{listed}");
    stage.ok(&["admin", "registries", "rm", id.trim()]);
    assert_eq!(stage.ok(&["admin", "registries", "--json"]).trim(), "[]");
    let id = stage.ok_with(&["admin", "registries", "--git", "add", "github.com", "ada"], b"a secret\n");
    assert!(stage.ok(&["admin", "registries", "--git"]).contains("github.com"));
    stage.ok(&["admin", "registries", "rm", "--git", id.trim()]);
}

fn homes(stage: &Stage) {
    stage.ok(&["exec", "box", "--", "sh", "-c", "echo kept > kept"]);
    stage.ok(&["rm", "box"]);
    let homes: Value = serde_json::from_str(&stage.ok(&["volume", "ls", "--json"])).unwrap();
    let home = homes.as_array().unwrap().iter().find(|home| home["workspace_name"] == "box").unwrap();
    let id = home["id"].as_str().unwrap();
    assert!(stage.ok(&["volume", "ls"]).contains("kept"));
    stage.ok(&["volume", "restore", id, "again"]);
    assert_eq!(stage.ok(&["exec", "again", "--", "cat", "kept"]), "kept\n");
    stage.ok(&["rm", "again"]);
    assert!(stage.fails(&["volume", "rm", id], 2).contains("--yes"));
    stage.ok(&["volume", "rm", id, "--yes"]);
    assert!(!stage.ok(&["volume", "ls"]).contains(id));
}
