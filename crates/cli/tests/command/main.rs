//! The command line as a person and a script use it, against a server and engine of its own.
#![allow(clippy::unwrap_used)]

mod dashboard;
mod emulator;
mod support;
mod work;

use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{EMAIL, InTerminal, PASSWORD, PATIENCE, Stage};

/// Columns and rows.
const SIZE: (u16, u16) = (91, 33);

#[test]
fn a_person_and_a_script_use_it() {
    let stage = Stage::start(&[]);
    signing_in(&stage);
    let name = "box";
    let id = stage.ok(&["new", name, "--env", "GREETING=hello"]);
    let listed: Value = serde_json::from_str(&stage.ok(&["ls", "--json"])).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["status"]), (&name.into(), &"running".into()));
    assert_eq!(stage.ok(&["ls", "--quiet"]), id);
    let table = stage.ok(&["ls"]);
    assert!(table.starts_with("NAME") && table.contains("running") && !table.contains('\x1b'), "{table}");
    commands(&stage, name);
    copies(&stage, name);
    terminals(&stage, name);
    keys(&stage, name);
    forwards(&stage, name);
    lifecycle(&stage, name, id.trim());
    tokens(&stage);
    let said = stage.ok(&["logout"]);
    assert!(said.contains(&stage.url), "{said}");
    stage.fails(&["whoami"], 3);
}

fn signing_in(stage: &Stage) {
    assert!(stage.fails(&["ls"], 3).contains("rexec login"));
    assert!(stage.fails(&["--url", "http://127.0.0.1:1", "--token", "x", "ls"], 6).contains("cannot reach"));
    let url = stage.url.as_str();
    let wrong = stage.run_with(&["login", url, "--email", EMAIL, "--password-stdin"], b"wrong password here\n");
    assert_eq!(wrong.status.code(), Some(3), "{wrong:?}");
    assert!(!stage.path(".config/rexec/logins.json").exists());
    let said = stage.ok_with(&["login", url, "--email", EMAIL, "--password-stdin"], format!("{PASSWORD}\n").as_bytes());
    assert!(said.contains(EMAIL), "{said}");
    let kept = stage.path(".config/rexec/logins.json");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&kept).unwrap().contains(PASSWORD));
    assert!(stage.ok(&["whoami"]).starts_with(EMAIL));
}

fn commands(stage: &Stage, name: &str) {
    let done =
        stage.run_with(&["exec", name, "--", "sh", "-c", "cat; echo $GREETING; echo oops >&2; exit 7"], b"in\0\xff\n");
    assert_eq!((done.status.code(), done.stdout.as_slice()), (Some(7), &b"in\0\xff\nhello\n"[..]), "{done:?}");
    assert_eq!(done.stderr, b"oops\n");
    assert_eq!(stage.ok(&["exec", name, "-w", "/tmp", "-e", "A=b c", "--", "sh", "-c", "pwd; echo $A"]), "/tmp\nb c\n");
    assert!(stage.fails(&["exec", name, "--", "no-such-program"], 127).contains("no-such-program"));
    assert!(stage.fails(&["exec", "nowhere", "--", "true"], 255).contains("nowhere"));
    let many = stage.ok(&["exec", name, "--", "seq", "200000"]);
    assert_eq!((many.lines().count(), many.lines().last()), (200_000, Some("200000")));
    // More than any request may carry, there and back at once.
    let bytes: Vec<u8> = (0..20_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut cat = stage.command(&["exec", name, "--", "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, given) = (cat.stdin.take().unwrap(), bytes.clone());
    let writer = std::thread::spawn(move || input.write_all(&given).unwrap());
    let back = cat.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(back.status.success() && back.stdout == bytes, "{} bytes came back", back.stdout.len());
    assert!(stage.fails(&["exec", name, "--timeout", "1", "--", "sleep", "600"], 255).contains("in time"));
    assert_eq!(
        stage.ok(&["exec", name, "--", "sh", "-c", "grep -lx sleep /proc/[0-9]*/comm | wc -l"]),
        "0\n",
        "it was ended"
    );
}

fn copies(stage: &Stage, name: &str) {
    let tree = stage.path("tree");
    fs::create_dir_all(tree.join("deep/er")).unwrap();
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(tree.join("deep/er/bytes"), &content).unwrap();
    fs::write(tree.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("run", tree.join("link")).unwrap();
    let to = |path: &str| format!("{name}:{path}");

    assert!(stage.fails(&["cp", "tree", &to("")], 2).contains("--recursive"));
    stage.ok(&["cp", "-r", "tree", &to("")]);
    stage.ok(&["cp", "-r", &to("tree"), "back"]);
    same(&tree, &stage.path("back"));
    stage.ok(&["cp", "tree/deep/er/bytes", &to("one")]);
    stage.ok(&["cp", &to("one"), "one"]);
    assert_eq!(fs::read(stage.path("one")).unwrap(), content);
    stage.ok_with(&["cp", "-", &to("/tmp/piped")], b"piped");
    assert_eq!(stage.ok(&["cp", &to("/tmp/piped"), "-"]), "piped");

    assert!(stage.fails(&["cp", "missing", &to("")], 1).contains("missing"));
    assert!(stage.fails(&["cp", &to("missing"), "."], 4).contains("missing"));
    assert!(stage.fails(&["cp", "a", "b"], 2).contains("WORKSPACE:PATH"));
    // What cannot be written leaves nothing half made.
    let said = stage.fails(&["cp", &to("one"), "no/such/folder"], 1);
    assert!(said.contains("no/such/folder"), "{said}");
}

fn same(a: &Path, b: &Path) {
    for name in ["deep/er/bytes", "run"] {
        assert_eq!(fs::read(a.join(name)).unwrap(), fs::read(b.join(name)).unwrap(), "{name}");
        let mode = |path: &Path| fs::metadata(path.join(name)).unwrap().permissions().mode();
        assert_eq!(mode(a), mode(b), "{name}");
    }
    assert_eq!(fs::read_link(b.join("link")).unwrap(), Path::new("run"));
}

fn terminals(stage: &Stage, name: &str) {
    assert!(stage.fails(&["attach", name], 255).contains("terminal"));
    let mut first = InTerminal::start(stage, SIZE, &format!("attach {name}"));
    first.until("box");
    first.keys(b"stty size; MARK=kept; echo first$((40+2))\r");
    first.until("first42");
    assert!(first.text().contains("33 91"), "it has the size of ours: {:?}", first.text());
    first.keys(b"\x1d");
    first.until("it goes on");
    assert_eq!(first.exit_code(), Some(0));

    // The same shell, with what it has said and what it knows.
    let mut second = InTerminal::start(stage, SIZE, &format!("attach {name}"));
    second.until("first42");
    second.keys(b"echo again-$MARK; exit 5\r");
    second.until("again-kept");
    assert_eq!(second.exit_code(), Some(5));

    let mut third =
        InTerminal::start(stage, SIZE, &format!("exec --tty {name} -- sh -c 'read -r a; echo got $a; exit 3'"));
    third.keys(b"word\r");
    third.until("got word");
    assert_eq!(third.exit_code(), Some(3));
}

fn lifecycle(stage: &Stage, name: &str, id: &str) {
    assert_eq!(stage.ok(&["stop", name]), "box: stopped\n");
    assert_eq!(stage.ok(&["exec", name, "--", "echo", "awake"]), "awake\n", "it is started for a command");
    assert_eq!(stage.ok(&["pause", name]), "box: paused\n");
    assert_eq!(stage.ok(&["resume", name]), "box: running\n");
    let snapshot = stage.ok(&["snapshot", "new", name, "before"]);
    assert!(stage.ok(&["snapshot", "ls"]).contains("before"));
    stage.ok(&["snapshot", "export", snapshot.trim(), "archive.tar.zst"]);
    assert!(fs::metadata(stage.path("archive.tar.zst")).unwrap().len() > 1000);
    stage.fails(&["snapshot", "export", snapshot.trim(), "archive.tar.zst"], 1);
    stage.ok(&["snapshot", "rm", snapshot.trim()]);
    assert!(stage.ok(&["ports", name]).starts_with("PORT"));
    assert!(stage.ok(&["open", &id[..13]]).contains(id), "the beginning of an id will do");
    assert!(stage.fails(&["rm", "--purge", name], 2).contains("--yes"));
    stage.ok(&["rm", "--purge", "--yes", name]);
    stage.fails(&["stop", name], 4);
    assert_eq!(stage.ok(&["ls", "--quiet"]), "");
}

fn keys(stage: &Stage, name: &str) {
    fs::create_dir_all(stage.path(".ssh")).unwrap();
    assert!(stage.fails(&["keys", "add"], 4).contains("ssh-keygen"));
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "of a test", "-f"])
        .arg(stage.path(".ssh/id_ed25519"))
        .status();
    assert!(made.unwrap().success());
    let added = stage.ok(&["keys", "add"]);
    assert!(added.contains("SHA256:") && added.contains("of a test"), "{added}");
    assert!(stage.fails(&["keys", "add", ".ssh/id_ed25519"], 2).contains("private key"));
    stage.fails(&["keys", "add"], 5);
    let listed: Value = serde_json::from_str(&stage.ok(&["keys", "ls", "--json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert!(stage.ok(&["keys", "ls"]).contains("never"));
    by_ssh(stage, name);
    stage.ok(&["keys", "rm", listed[0]["id"].as_str().unwrap()]);
    assert_eq!(stage.ok(&["keys", "ls", "--json"]).trim(), "[]");
}

/// By the port, over the WebSocket, and by what stands in the configuration.
fn by_ssh(stage: &Stage, name: &str) {
    let key = stage.path(".ssh/id_ed25519");
    let key = key.to_str().unwrap();
    let alone = ["-F", "none", "-i", key, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"];
    for way in [["ssh", name].as_slice(), &["ssh", "--proxy", name]] {
        let words: Vec<&str> = way.iter().chain(&alone).copied().chain(["cat; exit 4"]).collect();
        let done = stage.run_with(&words, b"typed");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!((done.status.code(), done.stdout.as_slice()), (Some(4), b"typed".as_slice()), "{way:?}: {said}");
    }
    let file = stage.path(".ssh/config");
    fs::write(&file, "Host other\n    User me\n").unwrap();
    for options in [["config-ssh"].as_slice(), &["config-ssh", "--proxy"]] {
        assert_eq!(stage.ok(options), format!("ssh rexec-{name}\n"));
        let mut command = Command::new("ssh");
        command.args(["-i", key, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-F"]).arg(&file);
        let done = command.args([&format!("rexec-{name}"), "echo by its alias"]).output().unwrap();
        assert_eq!(done.stdout, b"by its alias\n", "{}", String::from_utf8_lossy(&done.stderr));
    }
    stage.ok(&["config-ssh", "--remove"]);
    assert_eq!(fs::read_to_string(&file).unwrap().trim_end(), "Host other\n    User me");
}

fn forwards(stage: &Stage, name: &str) {
    assert!(stage.fails(&["forward", name, "80:0"], 2).contains("port 0"));
    let serve = "echo forwarded > /tmp/page; cd /tmp; setsid python3 -m http.server 8123 > /dev/null 2>&1 &";
    stage.ok(&["exec", name, "--", "sh", "-c", serve]);
    let mut forward =
        stage.command(&["forward", name, "0:8123"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(forward.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (at, to) = line.trim().split_once(" -> ").unwrap();
    assert_eq!(to, format!("{name}:8123"));
    let began = Instant::now();
    let answer = loop {
        let mut stream = TcpStream::connect(at).unwrap();
        let mut answer = String::new();
        // Closed without a word as long as nothing listens inside.
        let asked = stream.write_all(b"GET /page HTTP/1.0\r\n\r\n");
        if asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && !answer.is_empty() {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "nothing is forwarded");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(answer.contains("200 OK") && answer.ends_with("forwarded\n"), "{answer}");
    forward.kill().unwrap();
    forward.wait().unwrap();
}

fn tokens(stage: &Stage) {
    let token = stage.ok(&["token", "new", "for a test", "--scope", "workspaces:read", "--days", "1"]);
    let with =
        |words: &[&str]| stage.command(words).env("REXEC_URL", &stage.url).env("REXEC_TOKEN", token.trim()).output();
    assert!(with(&["ls", "--json"]).unwrap().status.success());
    assert_eq!(with(&["new"]).unwrap().status.code(), Some(5), "its scope is less");
    let all: Value = serde_json::from_str(&stage.ok(&["token", "ls", "--json"])).unwrap();
    let made = all.as_array().unwrap().iter().find(|one| one["name"] == "for a test").unwrap();
    stage.ok(&["token", "rm", made["id"].as_str().unwrap()]);
    assert_eq!(with(&["ls"]).unwrap().status.code(), Some(3), "it is revoked");
    assert!(stage.fails(&["--token", "rexec_wrong", "ls"], 2).contains("checksum"));
    assert!(stage.ok(&["completion", "bash"]).contains("snapshot"));
}
