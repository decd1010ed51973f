//! Workspaces on a real engine: their life, their repair, and what bad requests meet.

use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, PASSWORD, on_both, with_server};
use rexec_api::error::ErrorCode;
use rexec_api::exec::ExecRequest;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::{Client, ClientError, Lifecycle};
use rexec_engine::Engine as _;
use rexec_server::workspaces::lifecycle::Desired;
use rexec_server::workspaces::store::{self, Want, WantBy};
use serde_json::json;

on_both!(
    a_life,
    repairs,
    refusals_leave_nothing,
    which_runtime_may_be_asked_for,
    others_do_not_exist,
    a_server_restart_adopts,
    sleep_ends_with_use,
    many_at_once_wait_for_their_turn,
);

async fn a_life(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let client = &stage.client;
        let workspace = stage.workspace().await;
        let id = workspace.id;
        assert_eq!(workspace.host.as_deref(), Some("local"), "an administrator sees the host");

        let who = stage.run(id, "id -un; pwd; echo $HOME; touch ~/kept; echo oops >&2; exit 3").await;
        assert_eq!(who.stdout, "user\n/home/user\n/home/user\n", "{who:?}");
        assert_eq!((who.stderr.as_str(), who.exit_code), ("oops\n", 3));

        let renamed = client.rename_workspace(id, "Büro").await.unwrap();
        assert_eq!(renamed.name, "Büro");
        assert_eq!(client.workspaces().await.unwrap().items.len(), 1);

        let paused = client.lifecycle(id, Lifecycle::Pause).await.unwrap();
        assert_eq!(paused.status, WorkspaceStatus::Paused);
        let refused = client.exec(id, &ExecRequest { command: vec!["true".into()], ..Default::default() }).await;
        assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::WorkspaceState));
        let resumed = client.lifecycle(id, Lifecycle::Resume).await.unwrap();
        assert_eq!(resumed.status, WorkspaceStatus::Running);
        stage.run(id, "test -e ~/kept").await;

        stage.run(id, "touch /tmp/root-fs-stays").await;
        let stopped = client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        assert_eq!(stopped.status, WorkspaceStatus::Stopped);
        let started = client.lifecycle(id, Lifecycle::Start).await.unwrap();
        assert_eq!(started.status, WorkspaceStatus::Running);
        assert_eq!(stage.run(id, "ls ~/kept /tmp/root-fs-stays").await.exit_code, 0);

        let before = stage.run(id, "cut -d' ' -f22 /proc/1/stat").await.stdout;
        client.lifecycle(id, Lifecycle::Restart).await.unwrap();
        let after = stage.run(id, "cut -d' ' -f22 /proc/1/stat").await.stdout;
        assert_ne!(before, after, "PID 1 is a new one");

        // What the operator asked to have labelled is, and can be found by that.
        let given = [("rexec.test".to_owned(), "server".to_owned())].into();
        let containers = stage.engine.containers(&given).await.unwrap();
        assert!(containers.iter().any(|c| c.labels.get("rexec.workspace") == Some(&id.to_string())));
        let volumes = stage.engine.volumes(&given).await.unwrap();
        assert!(volumes.iter().any(|v| v.labels.get("rexec.workspace") == Some(&id.to_string())));
        client.purge_workspace(id).await.unwrap();
        assert_eq!(client.workspace(id).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        assert!(stage.containers(id).await.is_empty());
        assert!(stage.volumes(id).await.is_empty());
        stage
    })
    .await;
}

async fn repairs(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        stage.run(id, "echo mine > ~/kept").await;

        // Root in the workspace kills PID 1's processes; from outside that is a container that ends.
        let container = stage.containers(id).await.remove(0);
        stage.engine.stop(&container.id, 0).await.unwrap();
        let view = stage
            .until(id, "the restart after its end", |w| {
                w.status == WorkspaceStatus::Running
                    && w.status_reason.as_deref().is_some_and(|r| r.starts_with("Restarted"))
            })
            .await;
        assert_eq!(stage.run(id, "cat ~/kept").await.stdout, "mine\n", "{view:?}");

        let container = stage.containers(id).await.remove(0);
        stage.engine.remove(&container.id).await.unwrap();
        stage
            .until(id, "the container to be made again", |w| {
                w.status == WorkspaceStatus::Running
                    && w.status_reason.as_deref().is_some_and(|r| r.contains("made again"))
            })
            .await;
        assert_eq!(stage.run(id, "cat ~/kept").await.stdout, "mine\n");
        assert_eq!(stage.containers(id).await.len(), 1);

        // Asked for, it is no incident any more.
        let restarted = stage.client.lifecycle(id, Lifecycle::Restart).await.unwrap();
        assert_eq!(restarted.status_reason, None);
        stage
    })
    .await;
}

async fn refusals_leave_nothing(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let refuse = async |new: NewWorkspace| stage.client.create_workspace(&new).await.unwrap_err().code();
        let wait_ms = Some(PATIENCE.as_millis() as u64);
        let image = Some("localhost:1/no/such-image:1".to_owned());
        let code = refuse(NewWorkspace { image, wait_ms, ..Default::default() }).await;
        assert!(matches!(code, Some(ErrorCode::ImageNotFound | ErrorCode::ImagePullFailed)), "{code:?}");
        let runtime = Some("no-such-runtime".to_owned());
        assert_eq!(refuse(NewWorkspace { runtime, ..Default::default() }).await, Some(ErrorCode::RuntimeUnavailable));
        let name = Some("bell\u{7}".to_owned());
        assert_eq!(refuse(NewWorkspace { name, ..Default::default() }).await, Some(ErrorCode::InvalidRequest));
        assert!(stage.client.workspaces().await.unwrap().items.is_empty(), "nothing half made is shown");

        for body in [json!({ "template": "x" }), json!({ "cpu": "two" }), json!([]), json!({ "memory_mb": -1 })] {
            let answer = stage.client.request(http::Method::POST, "/api/workspaces").json(&body).send().await.unwrap();
            assert_eq!(answer.status(), 422, "{body}");
        }
        stage
    })
    .await;
}

async fn which_runtime_may_be_asked_for(backend: Backend) {
    on_stage(backend, &[], async |place, stage| {
        let engine = stage.engine.info().await.unwrap();
        let ask = async |stage: &Stage, runtime: &str| {
            let runtime = Some(runtime.to_owned());
            let new = NewWorkspace { runtime, wait_ms: Some(PATIENCE.as_millis() as u64), ..Default::default() };
            stage.client.create_workspace(&new).await
        };
        // What the host runs them by anyway is no choice.
        let usual = ask(&stage, &engine.default_runtime).await.unwrap();
        assert_eq!(usual.runtime, engine.default_runtime);
        stage.client.purge_workspace(usual.id).await.unwrap();

        // Docker has another name for the same, which says nothing of its isolation.
        let other = "io.containerd.runc.v2";
        assert!(engine.runtimes.iter().any(|name| name == other), "{:?}", engine.runtimes);
        let Err(ClientError::Refused(error)) = ask(&stage, other).await else { panic!("it must be refused") };
        assert_eq!(
            (error.code, &error.details["field"]),
            (ErrorCode::RuntimeNotAllowed, &"runtime".into()),
            "{error:?}"
        );
        assert!(error.details["runtimes"].as_array().unwrap().contains(&json!(engine.default_runtime)), "{error:?}");

        let stage = stage.restart_server(place, &[("REXEC_RUNTIMES", "io.containerd.runc.v2")]).await;
        let allowed = ask(&stage, other).await.unwrap();
        assert_eq!((allowed.runtime.as_str(), allowed.status), (other, WorkspaceStatus::Running));
        // One that it was made with when that was allowed is not had again when it is not.
        let snapshot = stage.client.take_snapshot(allowed.id, &Default::default()).await.unwrap().id;
        stage.client.delete_workspace(allowed.id).await.unwrap();
        let stage = stage.restart_server(place, &[("REXEC_RUNTIMES", "none")]).await;
        let cloned = NewWorkspace { snapshot: Some(snapshot), wait_ms: Some(60_000), ..Default::default() };
        let cloned = stage.client.create_workspace(&cloned).await.unwrap();
        let home = stage.client.volumes().await.unwrap().items.into_iter().find(|home| home.workspace_id == allowed.id);
        let restored = stage.client.restore_volume(home.unwrap().id, &Default::default()).await.unwrap();
        for made in [cloned, restored] {
            assert_eq!(made.runtime, engine.default_runtime);
            stage.client.purge_workspace(made.id).await.unwrap();
        }
        stage.client.delete_snapshot(snapshot).await.unwrap();
        let image = format!("rexec/snapshot:{}", snapshot.0.simple());
        eventually("its image to go", async || stage.engine.image(&image).await.unwrap().is_none().then_some(())).await;
        stage
    })
    .await;
}

async fn others_do_not_exist(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let anyone = Client::new(&stage.server.base).unwrap();
        let (other, _) = anyone.register("eve@example.com", PASSWORD).await.unwrap();
        let not_there = |error: ClientError| assert_eq!(error.code(), Some(ErrorCode::NotFound));
        not_there(other.workspace(id).await.unwrap_err());
        not_there(other.rename_workspace(id, "mine").await.unwrap_err());
        not_there(other.delete_workspace(id).await.unwrap_err());
        not_there(other.lifecycle(id, Lifecycle::Stop).await.unwrap_err());
        not_there(other.terminals(id).await.unwrap_err());
        not_there(other.exec(id, &ExecRequest { command: vec!["id".into()], ..Default::default() }).await.unwrap_err());
        not_there(other.read_file(id, "/etc/passwd").await.unwrap_err());
        assert!(other.workspaces().await.unwrap().items.is_empty());
        assert_eq!(stage.client.workspace(id).await.unwrap().status, WorkspaceStatus::Running);
        stage
    })
    .await;
}

async fn sleep_ends_with_use(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let app = &stage.server.running.app;
        let row = async || store::find(app.db.read(), id).await.unwrap().unwrap();
        let running = row().await;
        assert_eq!(running.want, Want::user());
        assert!(running.last_active_ms.is_some() && running.stopped_ms.is_none());

        let idle = Want { by: WantBy::Idle, reason: Some("Nobody used it.".into()) };
        let slept = store::want_if(app.db.write(), &running, Desired::Paused, &idle, 0).await.unwrap();
        assert!(slept);
        // Whoever decided at the same time finds that it was decided.
        assert!(!store::want_if(app.db.write(), &running, Desired::Stopped, &idle, 0).await.unwrap());
        app.workspaces.heard(rexec_server::hosts::Heard::Container(id));
        let view = stage.until(id, "it to fall asleep", |w| w.status == WorkspaceStatus::Paused).await;
        assert_eq!(view.status_reason, idle.reason);

        // To look at the list of its terminals is no use of it.
        assert_eq!(stage.client.terminals(id).await.unwrap_err().code(), Some(ErrorCode::WorkspaceState));
        assert_eq!(stage.client.workspace(id).await.unwrap().status, WorkspaceStatus::Paused);
        let both = tokio::join!(stage.run(id, "echo one"), stage.run(id, "echo two"));
        assert_eq!((both.0.stdout.as_str(), both.1.stdout.as_str()), ("one\n", "two\n"));
        let woken = stage.client.workspace(id).await.unwrap();
        assert_eq!((woken.status, woken.status_reason), (WorkspaceStatus::Running, None));
        assert_eq!(row().await.want, Want::user());

        stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        assert!(row().await.stopped_ms.is_some());
        stage.client.lifecycle(id, Lifecycle::Start).await.unwrap();
        assert!(row().await.stopped_ms.is_none());
        stage
    })
    .await;
}

async fn a_server_restart_adopts(backend: Backend) {
    on_stage(backend, &[], async |place, stage| {
        let kept = stage.workspace().await.id;
        let stopped = stage.workspace().await.id;
        stage.client.lifecycle(stopped, Lifecycle::Stop).await.unwrap();
        let before = stage.run(kept, "cut -d' ' -f22 /proc/1/stat").await.stdout;
        let pid = stage.containers(kept).await[0].pid;
        let stage = stage.restart_server(place, &[]).await;
        assert_eq!(stage.run(kept, "cut -d' ' -f22 /proc/1/stat").await.stdout, before);
        assert_eq!(stage.containers(kept).await[0].pid, pid, "a running workspace is left running");
        assert_eq!(stage.client.workspace(stopped).await.unwrap().status, WorkspaceStatus::Stopped);
        stage
    })
    .await;
}

#[tokio::test]
async fn files_travel_whole() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let content: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let path = "/home/user/a folder/ü\u{1F980}.bin";
        let info = stage.client.write_file(id, path, content.clone()).await.unwrap();
        assert_eq!(info.size, content.len() as u64);
        assert_eq!(stage.client.read_file(id, path).await.unwrap(), content);
        assert_eq!(stage.run(id, "stat -c '%U' ~/'a folder'").await.stdout, "user\n");
        stage.client.remove_file(id, path).await.unwrap();
        let gone = stage.client.read_file(id, path).await.unwrap_err();
        assert_eq!(gone.code(), Some(ErrorCode::FileNotFound));
        let denied = stage.client.write_file(id, "/etc/shadow", "x").await.unwrap_err();
        assert_eq!(denied.code(), Some(ErrorCode::FileDenied));
        let relative = stage.client.read_file(id, "home").await.unwrap_err();
        assert_eq!(relative.code(), Some(ErrorCode::InvalidRequest));
        stage
    })
    .await;
}

#[tokio::test]
async fn exec_is_bounded_and_exact() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let exec = async |request: ExecRequest| stage.client.exec(id, &request).await;
        let command = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        let stdin = Some("é".repeat(100_000));
        let echoed =
            exec(ExecRequest { command: command(&["cat"]), stdin: stdin.clone(), ..Default::default() }).await.unwrap();
        assert_eq!(Some(echoed.stdout), stdin);
        let missing =
            exec(ExecRequest { command: command(&["no-such-program"]), ..Default::default() }).await.unwrap_err();
        assert_eq!(missing.code(), Some(ErrorCode::CommandNotFound));
        let slow = ExecRequest {
            command: command(&["sh", "-c", "echo early; sleep 600"]),
            timeout_ms: Some(500),
            ..Default::default()
        };
        match exec(slow).await.unwrap_err() {
            ClientError::Refused(error) => {
                assert_eq!(error.code, ErrorCode::ExecTimeout);
                assert_eq!(error.details["stdout"], "early\n");
            }
            other => panic!("{other}"),
        }
        let none_left = crate::support::workspaces::eventually("the command to be ended", async || {
            (stage.run(id, "pgrep -x sleep").await.exit_code == 1).then_some(())
        });
        none_left.await;
        let signalled =
            exec(ExecRequest { command: command(&["sh", "-c", "kill -9 $$"]), ..Default::default() }).await.unwrap();
        assert_eq!(signalled.exit_code, 137);
        for bad in [vec![], vec![String::new()], vec!["a\0b".to_owned()]] {
            let refused = exec(ExecRequest { command: bad, ..Default::default() }).await.unwrap_err();
            assert_eq!(refused.code(), Some(ErrorCode::InvalidRequest));
        }
        stage
    })
    .await;
}

#[tokio::test]
async fn without_an_engine_the_server_says_so() {
    with_server(Backend::Sqlite, &[], async |server| {
        let (client, _) = Client::new(&server.base).unwrap().register("ada@example.com", PASSWORD).await.unwrap();
        let refused = client.create_workspace(&NewWorkspace::default()).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::EngineUnavailable), "{refused}");
        assert!(client.workspaces().await.unwrap().items.is_empty());
        let ready = reqwest::get(format!("{}/ready", server.base)).await.unwrap();
        assert_eq!(ready.status(), 503);
        let missing = client.workspace(WorkspaceId::new()).await.unwrap_err();
        assert_eq!(missing.code(), Some(ErrorCode::NotFound));
    })
    .await;
}

async fn many_at_once_wait_for_their_turn(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let turns = (stage.engine.info().await.unwrap().cpus as usize * 2).clamp(4, 32);
        let new = NewWorkspace { memory_mb: Some(64), wait_ms: Some(0), ..Default::default() };
        let client = &stage.client;
        let made = futures_util::future::try_join_all((0..turns + 4).map(|_| client.create_workspace(&new)));
        let made: Vec<WorkspaceId> = made.await.unwrap().iter().map(|view| view.id).collect();
        let waits = |reason: &Option<String>| reason.as_deref().is_some_and(|reason| reason.contains("in the queue"));
        let waiting = eventually("some to wait", async || {
            let items = client.workspaces().await.unwrap().items;
            items.into_iter().rev().find(|view| waits(&view.status_reason))
        });
        let waiting = waiting.await.id;
        client.purge_workspace(waiting).await.unwrap();
        assert_eq!(client.workspace(waiting).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        for id in made.into_iter().filter(|id| *id != waiting) {
            let view = eventually("it to run", async || {
                Some(client.workspace(id).await.unwrap()).filter(|view| view.status == WorkspaceStatus::Running)
            });
            assert_eq!(view.await.status_reason, None, "nothing is said of a queue that is over");
            client.purge_workspace(id).await.unwrap();
        }
        stage
    })
    .await;
}
