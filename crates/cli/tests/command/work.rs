//! What one does beside the terminals: reading logs, syncing folders, looking after the server.

use crate::support::{EMAIL, PASSWORD, PATIENCE, Stage, runtime};
use rexec_client::Client;
use serde_json::Value;
use std::fs;
use std::io::Read as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

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
    syncs(&stage);
    watches(&stage);
    administration(&stage);
    homes(&stage);
    egress(&stage);
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

fn syncs(stage: &Stage) {
    let tree = stage.path("work tree");
    fs::create_dir_all(tree.join("deep")).unwrap();
    let names = ["a", "deep/with space", "deep/$HOME `id` 'q'", "skip.log"];
    for name in names {
        fs::write(tree.join(name), name).unwrap();
    }
    assert!(stage.fails(&["sync", "a", "b"], 2).contains("WORKSPACE:PATH"));
    assert!(stage.fails(&["sync", "--watch", "box:x", "."], 2).contains("--watch"));
    stage.ok(&["sync", "work tree/", "box:there it is/", "--exclude", "*.log"]);
    let there = || {
        let find = "cd 'there it is' && find . -type f -printf '%P\\n' | sort";
        stage.ok(&["exec", "box", "--", "sh", "-c", find])
    };
    assert_eq!(there(), "a\ndeep/$HOME `id` 'q'\ndeep/with space\n");

    fs::remove_file(tree.join("a")).unwrap();
    fs::write(tree.join("new"), "new").unwrap();
    let would = stage.ok(&["sync", "-n", "--delete", "--exclude=*.log", "work tree/", "box:there it is/"]);
    assert!(would.contains("*deleting") && would.contains("new"), "{would}");
    assert!(there().starts_with("a\n"), "nothing was done");
    let done = stage.ok(&["sync", "--json", "--delete", "--exclude=*.log", "work tree/", "box:there it is/"]);
    let done: Vec<Value> = serde_json::from_str(&done).unwrap();
    assert!(done.iter().any(|change| change["path"] == "new" && change["change"] == "<f+++++++++"), "{done:?}");
    assert_eq!(there(), "deep/$HOME `id` 'q'\ndeep/with space\nnew\n");

    stage.ok(&["sync", "-z", "box:there it is/", "back"]);
    assert_eq!(fs::read(stage.path("back/deep/with space")).unwrap(), b"deep/with space");
    assert!(stage.fails(&["sync", "nowhere/", "box:x/"], 1).contains("rsync ended with 23"));

    // Advice where a side has no rsync.
    let bare = stage.path("bare");
    fs::create_dir(&bare).unwrap();
    let mut command = stage.command(&["sync", "back/", "box:x/"]);
    let said = command.env("PATH", &bare).output().unwrap();
    assert_eq!(said.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&said.stderr).contains("no rsync on this machine"), "{said:?}");
    stage.ok(&["exec", "box", "--", "sudo", "mv", "/usr/bin/rsync", "/usr/bin/rsync.away"]);
    assert!(stage.fails(&["sync", "back/", "box:x/"], 4).contains("no rsync in box"));
    stage.ok(&["exec", "box", "--", "sudo", "mv", "/usr/bin/rsync.away", "/usr/bin/rsync"]);
}

fn watches(stage: &Stage) {
    let tree = stage.path("watched");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("first"), "1").unwrap();
    let mut watch = Going::start(stage.command(&["sync", "--watch", "--delete", "watched/", "box:watched/"]));
    watch.until("first");
    let there = |name: &str| {
        let path = format!("watched/{name}");
        stage.run_with(&["exec", "box", "--", "cat", &path], b"").stdout
    };
    eventually("the first round", || there("first") == b"1");
    fs::create_dir(tree.join("deep")).unwrap();
    fs::write(tree.join("deep/second"), "2").unwrap();
    eventually("what is new", || there("deep/second") == b"2");
    fs::write(tree.join("first"), "changed").unwrap();
    eventually("what has changed", || there("first") == b"changed");
    fs::remove_dir_all(tree.join("deep")).unwrap();
    eventually("what is gone", || there("deep/second").is_empty());
    let pid = rustix::process::Pid::from_raw(watch.child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(watch.ended().0, Some(0), "an interrupt is how it ends");
}

#[track_caller]
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
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

    assert!(stage.ok(&["regions"]).contains("local"));
    let nowhere = stage.fails(&["new", "--region", "mars"], 5);
    assert!(nowhere.contains("no region `mars`") && nowhere.contains("local"), "{nowhere}");
    let edit = ["admin", "servers", "edit", "local"];
    let changed = stage.ok(&[&edit[..], &["--max-workspaces", "7", "--label", "rack=b", "--json"]].concat());
    let changed: Value = serde_json::from_str(&changed).unwrap();
    assert_eq!((&changed["max_workspaces"], &changed["labels"]["rack"]), (&7.into(), &"b".into()));
    stage.ok(&[&edit[..], &["--no-max-workspaces", "--no-labels"]].concat());
    assert!(stage.fails(&edit, 2).contains("what is to change"));
    assert!(stage.fails(&[&edit[..], &["--address", "unix:///x"]].concat(), 5).contains("DOCKER_HOST"));

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

fn secrets(stage: &Stage) {
    const VALUE: &[u8] = b"tok_0123456789abcdefXYZ\n";
    let refused = |words: &[&str]| {
        let done = stage.run_with(words, VALUE);
        assert_eq!(done.status.code(), Some(5));
        String::from_utf8(done.stderr).unwrap()
    };
    assert!(refused(&["secret", "set", "SHOP_TOKEN"]).contains("widely known"));
    assert!(refused(&["secret", "set", "SHOP_TOKEN", "--host", "*"]).contains("every host"));
    stage.ok_with(&["secret", "set", "SHOP_TOKEN", "--host", "shop.example", "--header", "x-shop"], VALUE);
    assert!(stage.fails(&["secret", "set", "SHOP_TOKEN", "--keep-value"], 2).contains("what is to change"));
    let told = stage.ok(&["secret", "set", "SHOP_TOKEN", "--keep-value", "--host", "pay.example"]);
    assert_eq!(told, "SHOP_TOKEN may be sent to pay.example:443.\n");
    let listed = stage.ok(&["secret", "ls"]);
    assert!(listed.contains("SHOP_TOKEN") && listed.contains("never") && !listed.contains("0123456789"), "{listed}");
    assert!(stage.fails(&["egress", "boxed", "--secret", "NOT_MINE"], 5).contains("rexec secret set NOT_MINE"));
    assert!(stage.ok(&["egress", "boxed", "--secret", "SHOP_TOKEN"]).contains("uses: SHOP_TOKEN\n"));
    eventually("its variable", || {
        let inside = stage.ok(&["exec", "boxed", "--", "sh", "-c", "echo $SHOP_TOKEN"]);
        inside.starts_with("tok_") && !inside.contains("0123456789")
    });
    assert!(!stage.ok(&["egress", "boxed", "--forget", "SHOP_TOKEN"]).contains("SHOP_TOKEN"));
    stage.ok(&["secret", "rm", "SHOP_TOKEN"]);
    stage.fails(&["secret", "rm", "SHOP_TOKEN"], 4);
}

fn models(stage: &Stage) {
    let told = stage.ok(&["models"]);
    assert!(told.starts_with("apis: OpenAI, at http://llm.rexec.internal"), "{told}");
    assert!(told.contains("\nmodels: gpt-5*, o4-mini\ntoday: 0 of 1.0 M tokens;"), "{told}");
    let view: Value = serde_json::from_str(&stage.ok(&["models", "--json"])).unwrap();
    assert_eq!((&view["tokens_per_day"], &view["anthropic"]), (&1_000_000.into(), &false.into()));
    stage.fails(&["egress", "boxed", "--models", "maybe"], 2);
    let told = stage.ok(&["egress", "boxed", "--models", "on"]);
    assert!(told.starts_with("balanced:") && told.contains("\nmodels: may be asked for\n"), "{told}");
    let ask = r#"curl -s -d '{"model": "gpt-5-mini", "messages": []}' "$OPENAI_BASE_URL/chat/completions""#;
    eventually("the gateway to answer for the vendor", || {
        String::from_utf8(stage.run_with(&["exec", "boxed", "--", "sh", "-c", ask], b"").stdout)
            .is_ok_and(|answer| answer.contains("model_vendor_unreachable"))
    });
    eventually("the log to have it", || {
        let log = stage.ok(&["egress", "boxed", "--log", "--denied"]);
        log.contains("llm.rexec.internal") && log.contains("model_vendor_unreachable")
    });
    assert!(!stage.ok(&["egress", "boxed", "--models", "off"]).contains("models:"));
}

fn egress(stage: &Stage) {
    assert!(stage.fails(&["new", "boxed", "--egress", "shut"], 2).contains("locked, balanced or open"));
    stage.fails(&["new", "boxed", "--egress", "locked", "--allow", "https://a.example"], 5);
    stage.ok(&["new", "boxed", "--egress", "locked", "--allow", "a.example"]);
    let told = stage.ok(&["egress", "boxed"]);
    assert!(told.contains("locked: behind its server's gateway; in force\nallowed: a.example\n"), "{told}");
    let ask = "sleep 1 | /.rexec/current/guest tunnel ${https_proxy#http://} b.example 443; true";
    stage.ok(&["exec", "boxed", "--", "sh", "-c", ask]);
    eventually("the log to have it", || {
        let log = stage.ok(&["egress", "boxed", "--log", "--denied"]);
        log.contains("b.example") && log.contains("egress_not_allowed")
    });
    let told = stage.ok(&["egress", "boxed", "balanced", "--allow", "b.example", "--forget", "a.example"]);
    assert!(told.starts_with("balanced:") && told.contains("allowed: b.example\n"), "{told}");
    assert!(stage.fails(&["egress", "boxed", "--forget", "a.example"], 1).contains("no rule"));
    secrets(stage);
    models(stage);
    stage.ok(&["rm", "boxed"]);
    stage.ok(&["new", "asks", "--egress", "locked", "--models"]);
    let told = stage.ok(&["egress", "asks"]);
    assert!(told.starts_with("locked:") && told.contains("\nmodels: may be asked for\n"), "{told}");
    stage.ok(&["rm", "asks"]);
}
