//! The SSH gateway, by OpenSSH's own programs, against real workspaces.

use crate::support::ssh::{finish, logged, post, with_gateway, with_gateway_as};
use crate::support::workspaces::eventually;
use crate::support::{Backend, on_both};
use reqwest::{Method, StatusCode};
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::WorkspaceStatus;
use serde_json::json;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Child;

on_both!(
    commands_run_in_the_workspace_that_is_named,
    files_travel,
    a_shell_is_a_terminal_of_the_workspace,
    ports_are_forwarded_to,
    a_workspace_is_started_for_whoever_connects,
    nobody_reaches_what_is_not_theirs,
    what_let_in_is_asked_about_as_long_as_it_lasts,
    tokens_do_what_their_scopes_say,
    the_host_key_is_kept_and_replaced
);

/// Bytes of every value, and more than any window.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(3 << 20).collect()
}

async fn commands_run_in_the_workspace_that_is_named(backend: Backend) {
    with_gateway(backend, async |_, stage, desk| {
        let view = stage.workspace().await;
        let done = desk.run(&view.name, "echo out; echo err >&2; exit 7").await;
        assert_eq!((done.code, done.text(), done.err.as_str()), (Some(7), "out\n", "err\n"));
        let id = view.id.to_string();
        for login in [&id, &format!("ada/{}", view.name), &format!("ada@example.com/{id}")] {
            let done = desk.run(login, "id -un; pwd; echo $0; echo $SSH_CLIENT").await.ok();
            assert!(done.text().starts_with("user\n/home/user\n/bin/bash\n127.0.0.1 "), "{login}: {done:?}");
        }
        let noise = noise();
        let mut cat = desk.ssh();
        let done = finish(cat.args(["-l", &id, "127.0.0.1", "cat"]), &noise).await.ok();
        assert!(done.out == noise, "{} bytes came back of {}", done.out.len(), noise.len());
        let mut shell = desk.ssh();
        let done = finish(shell.args(["-T", "-l", &id, "127.0.0.1"]), b"echo from a script\nexit 3\n").await;
        assert_eq!((done.code, done.text()), (Some(3), "from a script\n"));
        // OpenSSH's client has no better word for a signal; one without a name in SSH is told as shells do.
        for (command, code) in [("kill -KILL $$", 255), ("kill -BUS $$", 135)] {
            assert_eq!(desk.run(&view.name, command).await.code, Some(code), "{command}");
        }

        let log = logged(&stage, view.id).await;
        let (kind, data) = &log[0];
        assert_eq!((kind.as_str(), &data["key"], &data["address"]), ("ssh.exec", &json!("id"), &json!("127.0.0.1")));
        let keys = stage.server.by(stage.client.token().unwrap(), Method::GET, "/api/ssh/keys").await.json();
        assert_eq!(data["key_id"], keys["items"][0]["id"]);
        assert!(keys["items"][0]["last_used_at"].is_string(), "{keys}");
        let connect = format!("/api/ssh/connect/{id}");
        let told = stage.server.by(stage.client.token().unwrap(), Method::GET, &connect).await.json();
        assert_eq!((&told["enabled"], &told["target"]["port"]), (&json!(true), &json!(desk.port)), "{told}");
        stage
    })
    .await;
}

async fn files_travel(backend: Backend) {
    with_gateway(backend, async |_, stage, desk| {
        let view = stage.workspace().await;
        let login = format!("{}@127.0.0.1", view.id);
        let noise = noise();
        std::fs::write(desk.path("noise"), &noise).unwrap();
        let local = desk.path("noise").display().to_string();

        let mut sftp = tokio::process::Command::new("sftp");
        sftp.args(desk.options("id")).args(["-o", "BatchMode=yes", "-b", "-"]).arg(&login);
        let back = desk.path("by-sftp");
        let batch = format!("put {local} by-sftp\nrename by-sftp moved\nget moved {}\nls -l\n", back.display());
        finish(&mut sftp, batch.as_bytes()).await.ok();
        assert!(std::fs::read(back).unwrap() == noise, "sftp");

        for (name, flags) in [("by-scp", &[][..]), ("by-old-scp", &["-O"][..])] {
            for (from, to) in [
                (local.clone(), format!("{login}:{name}")),
                (format!("{login}:{name}"), desk.path(name).display().to_string()),
            ] {
                let mut scp = tokio::process::Command::new("scp");
                scp.args(desk.options("id")).args(["-o", "BatchMode=yes"]).args(flags);
                finish(scp.args([from, to]), b"").await.ok();
            }
            assert!(std::fs::read(desk.path(name)).unwrap() == noise, "{name}");
        }

        std::fs::create_dir(desk.path("tree")).unwrap();
        std::fs::write(desk.path("tree/one"), "1").unwrap();
        let mut rsync = tokio::process::Command::new("rsync");
        rsync.args(["-a", "-e", &desk.as_shell_words()]).arg(format!("{}/", desk.path("tree").display()));
        finish(rsync.arg(format!("{login}:tree/")), b"").await.ok();
        assert_eq!(stage.run(view.id, "cat tree/one").await.stdout, "1");

        stage.run(view.id, "git init -q --bare repo.git").await;
        let repository = desk.path("repository").display().to_string();
        let git = async |args: &[&str]| {
            let mut git = tokio::process::Command::new("git");
            git.args(["-C", &repository, "-c", "user.name=a", "-c", "user.email=a@example.com"]).args(args);
            git.env("GIT_SSH_COMMAND", desk.as_shell_words()).env("GIT_CONFIG_GLOBAL", "/dev/null");
            finish(&mut git, b"").await.ok()
        };
        std::fs::create_dir(&repository).unwrap();
        git(&["init", "-q", "-b", "main"]).await;
        std::fs::write(format!("{repository}/file"), "content").unwrap();
        git(&["add", "file"]).await;
        git(&["commit", "-q", "-m", "first"]).await;
        git(&["push", "-q", &format!("{login}:repo.git"), "main"]).await;
        assert_eq!(stage.run(view.id, "git -C repo.git show main:file").await.stdout, "content");

        let mut kinds: Vec<_> = logged(&stage, view.id).await.into_iter().map(|(kind, _)| kind).collect();
        kinds.dedup();
        assert_eq!(kinds, ["ssh.sftp", "ssh.exec"]);
        stage
    })
    .await;
}

/// A program whose output is followed while it runs.
struct Live {
    child: Child,
    seen: String,
}

impl Live {
    fn start(command: &mut tokio::process::Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self { child: command.env_remove("SSH_AUTH_SOCK").spawn().unwrap(), seen: String::new() }
    }

    async fn say(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads on until this has come.
    async fn until(&mut self, text: &str) {
        let mut piece = [0; 4096];
        while !self.seen.contains(text) {
            let read = self.child.stdout.as_mut().unwrap().read(&mut piece);
            let count = tokio::time::timeout(crate::support::workspaces::PATIENCE, read).await;
            let count = count.unwrap_or_else(|_| panic!("in vain waited for {text:?}: {:?}", self.seen)).unwrap();
            assert_ne!(count, 0, "an end before {text:?}: {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }

    /// Its exit code and what it said on its standard error.
    async fn end(mut self) -> (Option<i32>, String) {
        let mut err = String::new();
        let whole = async {
            self.child.stderr.take().unwrap().read_to_string(&mut err).await.unwrap();
            self.child.wait().await.unwrap().code()
        };
        let code = tokio::time::timeout(crate::support::workspaces::PATIENCE, whole).await.expect("it does not end");
        (code, err)
    }
}

async fn a_shell_is_a_terminal_of_the_workspace(backend: Backend) {
    with_gateway(backend, async |_, stage, desk| {
        let view = stage.workspace().await;
        let login = view.id.to_string();
        let mut shell = Live::start(desk.ssh().args(["-tt", "-l", &login, "127.0.0.1"]));
        shell.say("echo $((20+22))-$TERM; tty\n").await;
        shell.until("42-").await;
        shell.until("/dev/pts/").await;
        let terminals = stage.client.terminals(view.id).await.unwrap().items;
        assert_eq!(terminals.len(), 1, "{terminals:?}");

        // Cut off, it goes on, and is attached to again.
        shell.say("X=kept; echo do''ne\n").await;
        shell.until("done").await;
        shell.child.kill().await.unwrap();
        let mut again = Live::start(desk.ssh().args(["-tt", "-l", &login, "127.0.0.1", "attach"]));
        again.until("42-").await;
        again.say("echo $X-$X; exit 5\n").await;
        again.until("kept-kept").await;
        assert_eq!(again.end().await.0, Some(5));

        let done = finish(desk.ssh().args(["-tt", "-l", &login, "127.0.0.1", "stty size; exit 4"]), b"").await;
        assert_eq!((done.code, done.text()), (Some(4), "24 80\r\n"));
        let done = finish(desk.ssh().args(["-tt", "-l", &login, "127.0.0.1", "attach 0000"]), b"").await;
        assert_eq!(done.code, Some(254), "{done:?}");
        assert!(logged(&stage, view.id).await.iter().all(|(kind, _)| kind == "ssh.shell"));

        // One that is still there when the server stops keeps nobody waiting.
        let mut left = Live::start(desk.ssh().args(["-tt", "-l", &login, "127.0.0.1"]));
        left.until("$").await;
        tokio::spawn(left.end());
        stage
    })
    .await;
}

#[tokio::test]
async fn a_host_alone_shows_what_there_is() {
    with_gateway(Backend::Sqlite, async |_, stage, desk| {
        let view = stage.workspace().await;
        let mut shown = Live::start(desk.ssh().args(["-tt", "-l", "ada", "127.0.0.1"]));
        shown.until(&view.name).await;
        shown.until("q quit").await;
        // Enter opens a shell, whose end leads back; s stops the workspace.
        shown.say("\r").await;
        shown.until("$").await;
        shown.say("echo $((20+22))\n").await;
        shown.until("42").await;
        shown.seen.clear();
        shown.say("exit\n").await;
        shown.until("q quit").await;
        shown.say("s").await;
        shown.until("stopped").await;
        assert_eq!(stage.client.workspace(view.id).await.unwrap().status, WorkspaceStatus::Stopped);
        shown.say("n").await;
        shown.until("is there").await;
        assert_eq!(stage.client.workspaces().await.unwrap().items.len(), 2);
        shown.say("q").await;
        assert_eq!(shown.end().await.0, Some(0));
        stage
    })
    .await;
}

async fn ports_are_forwarded_to(backend: Backend) {
    with_gateway(backend, async |_, stage, desk| {
        let view = stage.workspace().await;
        let login = view.id.to_string();
        let serve = "import socket; s = socket.create_server(('127.0.0.1', 7777)); \
                     [c.sendall(c.recv(9)[::-1]) or c.close() for c, _ in iter(s.accept, None)]";
        stage.terminal(view.id, &["python3", "-c", serve]).await;
        eventually("the program to listen", async || {
            let listening = stage.run(view.id, "grep -q :1E61 /proc/net/tcp").await.exit_code;
            (listening == 0).then_some(())
        })
        .await;
        for host in ["localhost", "127.0.0.1"] {
            let to = format!("{host}:7777");
            let done = finish(desk.ssh().args(["-l", &login, "-W", &to, "127.0.0.1"]), b"forwarded").await.ok();
            assert_eq!(done.text(), "dedrawrof");
        }
        for to in ["10.0.0.1:22", "169.254.169.254:80", "localhost:1"] {
            let done = finish(desk.ssh().args(["-l", &login, "-W", to, "127.0.0.1"]), b"").await;
            assert_eq!((done.code, done.text()), (Some(255), ""), "{to}");
        }
        let log = logged(&stage, view.id).await;
        assert!(log.iter().all(|(kind, _)| kind == "ssh.forward"), "{log:?}");
        assert_eq!(log[0].1["to"], "port 7777");
        stage
    })
    .await;
}

#[tokio::test]
async fn the_workspace_reaches_back() {
    with_gateway(Backend::Sqlite, async |_, stage, desk| {
        let view = stage.workspace().await;
        let login = view.id.to_string();
        // -R: what listens at the desk, from within; the gateway chooses the port.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = format!("0:127.0.0.1:{}", listener.local_addr().unwrap().port());
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"from the desk").await.unwrap();
        });
        // The first word on something is the one that counts.
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(["-o", "LogLevel=INFO", "-o", "ExitOnForwardFailure=yes"]).args(desk.options("id"));
        ssh.args(["-R", &here, "-l", &login, "127.0.0.1", "cat"]);
        let mut held = Live::start(&mut ssh);
        let mut lines = BufReader::new(held.child.stderr.take().unwrap()).lines();
        let told = tokio::time::timeout(crate::support::workspaces::PATIENCE, async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it says which port it got");
                if let Some(rest) = line.strip_prefix("Allocated port ") {
                    return rest.split(' ').next().unwrap().to_owned();
                }
            }
        });
        let port = told.await.expect("a port");
        let read =
            format!("python3 -c 'import socket; print(socket.create_connection((\"localhost\", {port})).recv(99))'");
        assert_eq!(stage.run(view.id, &read).await.stdout, "b'from the desk'\n");
        answering.await.unwrap();
        held.child.kill().await.unwrap();
        eventually("nobody to listen any more", async || {
            (stage.run(view.id, &read).await.exit_code != 0).then_some(())
        })
        .await;

        // -A: the keys of the desk's agent, from within.
        let socket = desk.path("agent");
        let mut agent = tokio::process::Command::new("ssh-agent");
        let _agent = agent.args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        eventually("the agent to listen", async || socket.exists().then_some(())).await;
        let mut add = tokio::process::Command::new("ssh-add");
        let added = add.arg("-q").arg(desk.path("id")).env("SSH_AUTH_SOCK", &socket).status().await.unwrap();
        assert!(added.success());
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(["-A", "-o", &format!("IdentityAgent={}", socket.display())]).args(desk.options("id"));
        ssh.args(["-l", &login, "127.0.0.1", "ssh-add -L"]);
        let done = finish(&mut ssh, b"").await.ok();
        let own = std::fs::read_to_string(desk.path("id.pub")).unwrap();
        assert_eq!(done.text().trim(), own.trim());
        let log = logged(&stage, view.id).await;
        assert!(log.iter().any(|(kind, data)| kind == "ssh.forward" && data["to"] == "back to the agent"), "{log:?}");
        stage
    })
    .await;
}

async fn a_workspace_is_started_for_whoever_connects(backend: Backend) {
    with_gateway(backend, async |_, stage, desk| {
        let view = stage.workspace().await;
        stage.run(view.id, "echo kept > file").await;
        let own = stage.client.token().unwrap().to_owned();
        for (action, word) in [("stop", "starting"), ("pause", "resuming")] {
            post(&stage, &own, &format!("/api/workspaces/{}/{action}", view.id), json!({})).await;
            stage.until(view.id, "it is at rest", |view| view.status != WorkspaceStatus::Running).await;
            let done = desk.run(&view.name, "cat file").await.ok();
            assert_eq!(done.text(), "kept\n");
            assert!(done.err.contains(word) && done.err.contains(&view.name), "{done:?}");
        }
        // One who may only run commands does not start what somebody stopped.
        let body = json!({ "name": "ci", "scopes": ["exec"] });
        let token = post(&stage, &own, "/api/tokens", body).await.token();
        post(&stage, &own, &format!("/api/workspaces/{}/stop", view.id), json!({})).await;
        let done = desk.run(&format!("{token}/{}", view.name), "true").await;
        assert_eq!(done.code, Some(254));
        assert!(done.err.contains("workspaces:write"), "{done:?}");
        assert_eq!(stage.client.workspace(view.id).await.unwrap().status, WorkspaceStatus::Stopped);
        stage
    })
    .await;
}

#[tokio::test]
async fn use_by_ssh_keeps_awake_and_wakes() {
    let soon = [("REXEC_IDLE_PAUSE_SECONDS", "2"), ("REXEC_IDLE_COUNTS", "ssh")];
    with_gateway_as(Backend::Sqlite, &soon, async |_, stage, desk| {
        let (used, quiet) = (stage.workspace().await, stage.workspace().await);
        let connect = async |id: WorkspaceId| {
            let login = id.to_string();
            let mut live = Live::start(desk.ssh().args(["-l", &login, "127.0.0.1", "echo ready; cat"]));
            live.until("ready").await;
            live
        };
        let (mut talking, mut silent) = (connect(used.id).await, connect(quiet.id).await);
        let talk = async {
            loop {
                talking.say("on\n").await;
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        };
        // Twice over, the one through which nothing passes falls asleep, and the other does not.
        let watch = async {
            for word in ["first", "second"] {
                stage.until(quiet.id, "it to fall asleep", |view| view.status == WorkspaceStatus::Paused).await;
                assert_eq!(stage.client.workspace(used.id).await.unwrap().status, WorkspaceStatus::Running);
                silent.say(&format!("{word}\n")).await;
                silent.until(word).await;
            }
        };
        tokio::select! {
            () = talk => {}
            () = watch => {}
        }
        stage.until(used.id, "it to fall asleep", |view| view.status == WorkspaceStatus::Paused).await;
        let done = desk.run(&used.name, "echo awake").await.ok();
        assert_eq!(done.text(), "awake\n");
        assert!(done.err.contains("waking"), "{done:?}");
        stage
    })
    .await;
}

async fn nobody_reaches_what_is_not_theirs(backend: Backend) {
    with_gateway(backend, async |_, stage, desk| {
        let view = stage.workspace().await;
        let eve = stage.server.register("eve@example.com").await.token();
        let key = desk.key("eve").await;
        post(&stage, &eve, "/api/ssh/keys", json!({ "public_key": key })).await;
        desk.key("nobody").await;
        let ask = async |key: &str, login: &str| {
            finish(desk.ssh_as(key).args(["-l", login, "127.0.0.1", "echo in"]), b"").await
        };
        // A stranger learns nothing, whatever they name.
        let mut told = Vec::new();
        for login in [view.name.as_str(), &view.id.to_string(), "no-such"] {
            let done = ask("nobody", login).await;
            assert_eq!(done.code, Some(255), "{done:?}");
            told.push(done.err.replace(login, "x"));
        }
        assert!(told.iter().all(|err| *err == told[0] && err.contains("Permission denied")), "{told:?}");
        // Another user's workspace is, to whoever has proven who they are, none.
        for login in [view.id.to_string(), view.name.clone(), format!("ada/{}", view.name)] {
            let done = ask("eve", &login).await;
            assert_eq!((done.code, done.text()), (Some(254), ""), "{done:?}");
            assert_eq!(done.err, format!("rexec: You have no workspace `{login}`.\n"));
        }
        let done = ask("id", &format!("eve/{}", view.name)).await;
        assert_eq!(done.code, Some(254), "{done:?}");
        let done = ask("id", "no-such").await;
        assert!(done.err.contains(&view.id.to_string()) && done.code == Some(254), "{done:?}");
        stage
    })
    .await;
}

async fn what_let_in_is_asked_about_as_long_as_it_lasts(backend: Backend) {
    with_gateway(backend, async |_, stage, desk| {
        let view = stage.workspace().await;
        let own = stage.client.token().unwrap().to_owned();
        let made = post(&stage, &own, "/api/tokens", json!({ "name": "ci", "scopes": ["exec"] })).await.json();
        let key = stage.server.by(&own, Method::GET, "/api/ssh/keys").await.json()["items"][0]["id"].clone();
        let by_token = format!("{}/{}", made["token"].as_str().unwrap(), view.id);
        for (identity, login, path) in [
            ("none", by_token, format!("/api/tokens/{}", made["id"].as_str().unwrap())),
            ("id", view.id.to_string(), format!("/api/ssh/keys/{}", key.as_str().unwrap())),
        ] {
            let to = ["-l", &login, "127.0.0.1"];
            let mut held = Live::start(desk.ssh_as(identity).args(to).arg("echo ready; sleep 3600"));
            held.until("ready").await;
            assert_eq!(stage.server.by(&own, Method::DELETE, &path).await.status, StatusCode::NO_CONTENT);
            let (code, _) = held.end().await;
            assert_eq!(code, Some(255));
            let done = finish(desk.ssh_as(identity).args(to).arg("true"), b"").await;
            assert_eq!(done.code, Some(255), "it opens nothing any more: {done:?}");
        }
        eventually("the commands to end", async || {
            let left = stage.run(view.id, "pgrep -f 'sleep 3600' | grep -vx $$").await.stdout;
            left.is_empty().then_some(())
        })
        .await;
        stage
    })
    .await;
}

async fn tokens_do_what_their_scopes_say(backend: Backend) {
    with_gateway(backend, async |_, stage, desk| {
        let (view, other) = (stage.workspace().await, stage.workspace().await);
        let own = stage.client.token().unwrap().to_owned();
        let token = async |scope: &str| {
            let body = json!({ "name": scope, "scopes": [scope], "workspaces": [view.id] });
            post(&stage, &own, "/api/tokens", body).await.token()
        };
        let exec = token("exec").await;
        // As a password, and as a user name, which alone leads to the one workspace that it reaches.
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(desk.options("none")).args(["-l", &view.name, "127.0.0.1", "echo in"]);
        desk.answer_with(&mut ssh, &exec);
        assert_eq!(finish(&mut ssh, b"").await.ok().text(), "in\n");
        for login in [exec.clone(), format!("{exec}/{}", view.name)] {
            let done = finish(desk.ssh_as("none").args(["-l", &login, "127.0.0.1", "echo in"]), b"").await.ok();
            assert_eq!(done.text(), "in\n");
        }
        let beyond = format!("{exec}/{}", other.id);
        let done = finish(desk.ssh_as("none").args(["-l", &beyond, "127.0.0.1", "echo in"]), b"").await;
        assert_eq!((done.code, done.text()), (Some(254), ""), "{done:?}");
        assert!(!done.err.contains(&exec), "a token is not repeated: {done:?}");

        // Each kind of channel by its scope.
        let kinds = [("exec", &["true"][..]), ("terminals", &["-tt", "true"]), ("files", &["-s", "sftp"])];
        for (held, _) in kinds {
            let login = format!("{}/{}", token(held).await, view.id);
            for (needed, words) in kinds {
                let (flags, command) = words.split_at(words.len() - 1);
                let mut ssh = desk.ssh_as("none");
                let done = finish(ssh.args(flags).args(["-l", &login, "127.0.0.1"]).args(command), b"").await;
                let expected = if held == needed { Some(0) } else { Some(254) };
                assert_eq!(done.code, expected, "{needed} with {held}: {done:?}");
                assert!(held == needed || done.err.contains(&format!("`{needed}`")), "{done:?}");
            }
            let done = finish(desk.ssh_as("none").args(["-l", &login, "-W", "localhost:22", "127.0.0.1"]), b"").await;
            assert_eq!(done.code, Some(255), "{held}: {done:?}");
        }
        let (_, data) = &logged(&stage, view.id).await[0];
        assert_eq!(data["token"], "exec");
        stage
    })
    .await;
}

async fn the_host_key_is_kept_and_replaced(backend: Backend) {
    with_gateway(backend, async |_, stage, desk| {
        let first = desk.trust(&stage).await;
        let own = stage.client.token().unwrap().to_owned();
        let eve = stage.server.register("eve@example.com").await.token();
        let rotate = "/api/admin/ssh/host-keys/rotate";
        assert_eq!(post(&stage, &eve, rotate, json!({})).await.code(), "forbidden");
        let view = stage.workspace().await;
        let mut held = Live::start(desk.ssh().args(["-l", &view.name, "127.0.0.1", "echo ready; cat"]));
        held.until("ready").await;
        let rotated = post(&stage, &own, rotate, json!({})).await;
        assert_eq!(rotated.status, StatusCode::OK, "{rotated:?}");
        let second = rotated.json()["items"][0]["fingerprint"].clone();
        assert_ne!(second, json!(first));
        let connect = format!("/api/ssh/connect/{}", view.id);
        let told = stage.server.by(&own, Method::GET, &connect).await.json();
        assert_eq!(told["target"]["host_keys"][0]["fingerprint"], second);

        // Who trusts the old one is warned; who connected before goes on.
        let done = desk.run(&view.name, "true").await;
        assert!(done.code == Some(255) && done.err.contains("IDENTIFICATION HAS CHANGED"), "{done:?}");
        held.say("still here\n").await;
        held.until("still here").await;
        drop(held.child.stdin.take());
        assert_eq!(held.end().await.0, Some(0));
        assert_eq!(json!(desk.trust(&stage).await), second);
        desk.run(&view.name, "true").await.ok();
        stage
    })
    .await;
}
