//! Idleness on a real engine: sleep, waking, what keeps awake, lifetime, and deletion after a warning.

use crate::support::workspaces::{Follower, PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, PASSWORD, on_both};
use rexec_api::error::{ErrorBody, ErrorCode};
use rexec_api::idle::IdleSettings;
use rexec_api::ids::WorkspaceId;
use rexec_api::volumes::VolumeState;
use rexec_api::workspaces::{NewWorkspace, PatchWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::{AttachOptions, Client, Lifecycle};
use rexec_server::db::sql;
use rexec_server::workspaces::store::{self, WantBy};
use sea_orm::ConnectionTrait as _;
use serde_json::json;

on_both!(
    sleep_and_then_stop,
    use_wakes,
    what_is_refused_wakes_nobody,
    work_keeps_awake,
    lifetime_ends,
    deletion_is_announced,
    another_time_is_announced_anew,
    own_settings,
);

const SOON: &[(&str, &str)] = &[("REXEC_IDLE_PAUSE_SECONDS", "2"), ("REXEC_IDLE_STOP_SECONDS", "0")];

async fn made(stage: &Stage, idle: IdleSettings) -> WorkspaceView {
    let wait_ms = Some(PATIENCE.as_millis() as u64);
    let new = NewWorkspace { memory_mb: Some(256), idle: Some(idle), wait_ms, ..Default::default() };
    stage.client.create_workspace(&new).await.unwrap()
}

async fn until_status(stage: &Stage, id: WorkspaceId, status: WorkspaceStatus) -> WorkspaceView {
    stage.until(id, status.as_str(), |w| w.status == status).await
}

async fn wanted_by(stage: &Stage, id: WorkspaceId) -> WantBy {
    store::find(stage.server.running.app.db.read(), id).await.unwrap().unwrap().want.by
}

async fn sleep_and_then_stop(backend: Backend) {
    let limits = [("REXEC_IDLE_PAUSE_SECONDS", "2"), ("REXEC_IDLE_TIMEOUT", "9")];
    on_stage(backend, &limits, async |place, stage| {
        let id = stage.workspace().await.id;
        let asleep = until_status(&stage, id, WorkspaceStatus::Paused).await;
        let why = asleep.status_reason.unwrap();
        assert!(why.starts_with("Paused after 2 seconds without input, output or any other use."), "{why}");
        assert_eq!(wanted_by(&stage, id).await, WantBy::Idle);
        assert!(asleep.idle.stops_at.is_some() && asleep.idle.pauses_at.is_none(), "{:?}", asleep.idle);
        assert!(asleep.idle.last_active_at.is_some() && asleep.idle.sentence.contains("wakes"), "{:?}", asleep.idle);

        // A server that comes back in between knows where it stood.
        let stage = stage.restart_server(place, &limits).await;
        let stopped = until_status(&stage, id, WorkspaceStatus::Stopped).await;
        let why = stopped.status_reason.unwrap();
        assert!(why.starts_with("Stopped after 9 seconds without"), "{why}");
        // What is stopped does not wake by itself, and starts when it is asked to.
        assert_eq!(stage.client.terminals(id).await.unwrap_err().code(), Some(ErrorCode::WorkspaceState));
        let started = stage.client.lifecycle(id, Lifecycle::Start).await.unwrap();
        assert_eq!((started.status, started.status_reason), (WorkspaceStatus::Running, None));
        until_status(&stage, id, WorkspaceStatus::Paused).await;
        stage
    })
    .await;
}

async fn use_wakes(backend: Backend) {
    on_stage(backend, SOON, async |_, stage| {
        let id = stage.workspace().await.id;
        let terminal = stage.terminal(id, &["/bin/sh"]).await;
        let mut typist = Follower::new(stage.attach(id, terminal, AttachOptions::default()).await, None);

        until_status(&stage, id, WorkspaceStatus::Paused).await;
        assert_eq!(stage.run(id, "echo awake").await.stdout, "awake\n", "a command wakes it");

        until_status(&stage, id, WorkspaceStatus::Paused).await;
        typist.attachment.input(b"echo typed-$((40+2))\n").await.unwrap();
        typist.until("typed-42").await;

        until_status(&stage, id, WorkspaceStatus::Paused).await;
        let mut late = Follower::new(stage.attach(id, terminal, AttachOptions::default()).await, None);
        late.until("typed-42").await;
        assert!(late.closed.is_none() && typist.closed.is_none());

        // To look at it is no use of it, and what a person has paused waits for them.
        stage.client.lifecycle(id, Lifecycle::Pause).await.unwrap();
        typist.attachment.input(b"echo later-$((40+2))\n").await.unwrap();
        let refused = stage.client.read_file(id, "/etc/passwd").await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::WorkspaceState));
        let held = stage.client.workspace(id).await.unwrap();
        assert_eq!((held.status, wanted_by(&stage, id).await), (WorkspaceStatus::Paused, WantBy::User));
        assert!(held.idle.sentence.contains("until it is resumed"), "{:?}", held.idle);
        stage.client.lifecycle(id, Lifecycle::Resume).await.unwrap();
        typist.until("later-42").await;
        stage
    })
    .await;
}

async fn what_is_refused_wakes_nobody(backend: Backend) {
    on_stage(backend, SOON, async |_, stage| {
        let id = stage.workspace().await.id;
        let refused = async |method: http::Method, path: &str, body: serde_json::Value| {
            let path = format!("/api/workspaces/{id}/{path}");
            let request = stage.client.request(method, &path);
            let request = if body.is_null() { request } else { request.json(&body) };
            let answer = request.send().await.unwrap();
            assert!(answer.status().is_client_error(), "{path}: {}", answer.status());
            answer.json::<ErrorBody>().await.unwrap().error.code
        };
        until_status(&stage, id, WorkspaceStatus::Paused).await;
        use http::Method;
        for (path, body) in [
            ("exec", json!({ "command": [] })),
            ("exec", json!({ "command": ["true"], "cwd": "here" })),
            ("exec", json!({ "command": ["true"], "timeout_ms": u64::MAX })),
            ("exec", json!({ "command": ["true"], "stdin": "a", "stdin_base64": "YQ==" })),
            ("exec", json!({ "command": ["true"], "env": { "A=B": "c" } })),
            ("terminals", json!({ "cols": 0, "rows": 24 })),
            ("files/mkdir", json!({ "path": "here" })),
            ("files/move", json!({ "from": "/tmp/a", "to": "b" })),
        ] {
            assert_eq!(refused(Method::POST, path, body).await, ErrorCode::InvalidRequest, "{path}");
        }
        for path in ["files?path=here", "files/list?path=/&limit=0", "files/stat?path=%2Ftmp%00"] {
            assert_eq!(refused(Method::GET, path, json!(null)).await, ErrorCode::InvalidRequest, "{path}");
        }
        for cursor in ["", "abc", "zz", "+f", "%C3%A4%C3%A4"] {
            let path = format!("files/list?path=/&cursor={cursor}");
            assert_eq!(refused(Method::GET, &path, json!(null)).await, ErrorCode::InvalidCursor, "{cursor}");
        }
        let upload = "upload=0197f0c2-6b1e-7c3a-8f00-1234567890ab&total=1";
        for query in ["mode=7777", "mode=x", &format!("{upload}&offset=2"), upload] {
            let path = format!("files?path=/tmp/new&{query}");
            assert_eq!(refused(Method::PUT, &path, json!("x")).await, ErrorCode::InvalidRequest, "{path}");
        }
        // Nor has it been awake in between.
        let db = &stage.server.running.app.db;
        let text = "SELECT id FROM events WHERE workspace_id = $1 AND kind = 'workspace.woken'";
        let woken = db.read().query_all_raw(sql(db.read(), text, [id.to_string().into()])).await.unwrap();
        assert_eq!(stage.client.workspace(id).await.unwrap().status, WorkspaceStatus::Paused);
        assert!(woken.is_empty());

        stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        let good = json!({ "command": ["true"] });
        assert_eq!(refused(Method::POST, "exec", json!({ "command": [] })).await, ErrorCode::InvalidRequest);
        assert_eq!(refused(Method::POST, "exec", good).await, ErrorCode::WorkspaceState);
        assert_eq!(refused(Method::GET, "files?path=/etc/passwd", json!(null)).await, ErrorCode::WorkspaceState);
        assert_eq!(stage.client.workspace(id).await.unwrap().status, WorkspaceStatus::Stopped);
        stage
    })
    .await;
}

async fn work_keeps_awake(backend: Backend) {
    on_stage(backend, SOON, async |_, stage| {
        let (quiet, talking, working, giving) = (
            stage.workspace().await.id,
            stage.workspace().await.id,
            stage.workspace().await.id,
            stage.workspace().await.id,
        );
        stage.run(giving, "truncate -s 1G ~/large").await;
        let path = format!("/api/workspaces/{giving}/files?path=/home/user/large");
        // A download that nobody hurries to take.
        let download = stage.client.request(http::Method::GET, &path).send().await.unwrap();
        assert_eq!(download.status(), 200);
        stage.terminal(talking, &["/bin/sh", "-c", "while :; do echo on; sleep 0.2; done"]).await;
        let shell = stage.terminal(working, &["/bin/sh"]).await;
        let mut typist = Follower::new(stage.attach(working, shell, AttachOptions::default()).await, None);
        typist.attachment.input(b"echo begun; sleep 1000\n").await.unwrap();
        typist.until("begun\r\n").await;
        let slow = stage.run(quiet, "sleep 3; echo slow").await;
        assert_eq!(slow.stdout, "slow\n", "a command keeps it awake while it runs");

        // Twice over, the one that nobody uses falls asleep and the others do not.
        for _ in 0..2 {
            until_status(&stage, quiet, WorkspaceStatus::Paused).await;
            for id in [talking, working, giving] {
                let view = stage.client.workspace(id).await.unwrap();
                assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
            }
            stage.run(quiet, "true").await;
        }
        let busy = stage.until(working, "it to be seen at work", |w| w.idle.sentence.contains("keeps it awake")).await;
        assert_eq!(busy.idle.pauses_at, None);
        typist.attachment.input(b"\x03").await.unwrap();
        drop(download);
        for id in [working, giving] {
            until_status(&stage, id, WorkspaceStatus::Paused).await;
        }
        stage
    })
    .await;
}

async fn lifetime_ends(backend: Backend) {
    let limits = [("REXEC_LIFETIME_SECONDS", "4"), ("REXEC_IDLE_COUNTS", "input, output")];
    on_stage(backend, &limits, async |_, stage| {
        let id = stage.workspace().await.id;
        stage.terminal(id, &["/bin/sh", "-c", "while :; do echo on; sleep 0.2; done"]).await;
        let stopped = until_status(&stage, id, WorkspaceStatus::Stopped).await;
        let why = stopped.status_reason.unwrap();
        assert!(why.starts_with("Stopped after it had run for 4 seconds"), "{why}");
        assert_eq!(wanted_by(&stage, id).await, WantBy::Lifetime);
        // Each start has a lifetime of its own, and a pause does not stop the clock.
        stage.client.lifecycle(id, Lifecycle::Start).await.unwrap();
        until_status(&stage, id, WorkspaceStatus::Stopped).await;
        stage
    })
    .await;
}

async fn deletion_is_announced(backend: Backend) {
    let limits = [("REXEC_DELETE_GRACE_SECONDS", "6")];
    on_stage(backend, &limits, async |place, stage| {
        let soon = IdleSettings { delete_after_s: Some(1), ..Default::default() };
        let (kept, left) = (made(&stage, soon).await.id, made(&stage, soon).await.id);
        stage.run(left, "echo mine > ~/kept").await;
        for id in [kept, left] {
            stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        }
        for id in [kept, left] {
            let view = stage.until(id, "the warning", |w| w.idle.deletion_announced).await;
            assert!(
                view.idle.deletes_at.is_some() && view.idle.sentence.contains("will be deleted"),
                "{:?}",
                view.idle
            );
        }
        let started = stage.client.lifecycle(kept, Lifecycle::Start).await.unwrap();
        assert!(!started.idle.deletion_announced && started.idle.deletes_at.is_none(), "{:?}", started.idle);

        let stage = stage.restart_server(place, &limits).await;
        eventually("it to be deleted", async || {
            stage.client.workspace(left).await.is_err_and(|e| e.code() == Some(ErrorCode::NotFound)).then_some(())
        })
        .await;
        let home = eventually("its home to be kept", async || {
            let kept = stage.client.volumes().await.unwrap().items;
            kept.into_iter().find(|home| home.workspace_id == left && home.state == VolumeState::Kept)
        })
        .await;
        let restored = stage.client.restore_volume(home.id, &Default::default()).await.unwrap();
        assert_eq!(stage.run(restored.id, "cat ~/kept").await.stdout, "mine\n");
        assert_eq!(stage.client.workspace(kept).await.unwrap().status, WorkspaceStatus::Running);
        stage
    })
    .await;
}

async fn another_time_is_announced_anew(backend: Backend) {
    on_stage(backend, &[("REXEC_DELETE_GRACE_SECONDS", "3600")], async |_, stage| {
        let after = |seconds| IdleSettings { delete_after_s: Some(seconds), ..Default::default() };
        let id = made(&stage, after(60)).await.id;
        stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        let first = stage.until(id, "the warning", |w| w.idle.deletion_announced).await.idle.deletes_at;
        let change = async |idle| {
            let change = PatchWorkspace { idle: Some(Some(idle)), ..Default::default() };
            stage.client.change_workspace(id, &change).await.unwrap()
        };
        assert!(!change(after(7200)).await.idle.deletion_announced, "that time is not known yet");
        let second = stage.until(id, "the next warning", |w| w.idle.deletion_announced).await.idle.deletes_at;
        assert!(second > first, "{second:?} {first:?}");
        change(after(0)).await;
        let told = async || {
            let db = &stage.server.running.app.db;
            let text = "SELECT kind, data_json FROM events WHERE workspace_id = $1 AND kind LIKE 'workspace.deletion%' \
                        ORDER BY id";
            let rows = db.read().query_all_raw(sql(db.read(), text, [id.to_string().into()])).await.unwrap();
            let kind = |row: &sea_orm::QueryResult| row.try_get::<String>("", "kind").unwrap();
            rows.iter().map(kind).collect::<Vec<_>>()
        };
        let (announced, withdrawn) = ("workspace.deletion_announced", "workspace.deletion_withdrawn");
        eventually("it to be withdrawn", async || (told().await == [announced, announced, withdrawn]).then_some(()))
            .await;
        let kept = stage.client.workspace(id).await.unwrap().idle;
        assert!(!kept.deletion_announced && kept.deletes_at.is_none(), "{kept:?}");
        stage
    })
    .await;
}

async fn own_settings(backend: Backend) {
    on_stage(backend, SOON, async |_, stage| {
        let never = IdleSettings { pause_after_s: Some(0), ..Default::default() };
        let awake = made(&stage, never).await;
        assert_eq!((awake.idle.own, awake.idle.in_force.pause_after_s), (never, Some(0)));
        assert_eq!((awake.idle.pauses_at, awake.idle.sentence.as_str()), (None, "It stays awake, used or not."));
        let quiet = stage.workspace().await;
        until_status(&stage, quiet.id, WorkspaceStatus::Paused).await;
        assert_eq!(stage.client.workspace(awake.id).await.unwrap().status, WorkspaceStatus::Running);

        // What is named changes and takes effect, what is not stays.
        let change = |idle| PatchWorkspace { idle: Some(idle), ..Default::default() };
        let lifetime = IdleSettings { lifetime_s: Some(86_400), ..Default::default() };
        let both = stage.client.change_workspace(awake.id, &change(Some(lifetime))).await.unwrap();
        assert_eq!(both.idle.own, IdleSettings { pause_after_s: Some(0), ..lifetime });
        assert!(both.idle.stops_at.is_some(), "{:?}", both.idle);
        // Of two at once that name different things, both are heard.
        let (stop, delete) = (
            IdleSettings { stop_after_s: Some(70_000), ..Default::default() },
            IdleSettings { delete_after_s: Some(80_000), ..Default::default() },
        );
        let (one, other) = (change(Some(stop)), change(Some(delete)));
        let (one, other) = tokio::join!(
            stage.client.change_workspace(awake.id, &one),
            stage.client.change_workspace(awake.id, &other)
        );
        one.unwrap();
        other.unwrap();
        let merged = stage.client.workspace(awake.id).await.unwrap().idle.own;
        assert_eq!(merged, stop.or(delete).or(lifetime).or(never));
        let usual = stage.client.change_workspace(awake.id, &change(None)).await.unwrap();
        assert_eq!((usual.idle.own, usual.idle.in_force.pause_after_s), (IdleSettings::default(), Some(2)));
        until_status(&stage, awake.id, WorkspaceStatus::Paused).await;

        let long = IdleSettings { stop_after_s: Some(u64::MAX), ..Default::default() };
        let refused = stage.client.change_workspace(awake.id, &change(Some(long))).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::InvalidRequest));
        let path = format!("/api/workspaces/{}", awake.id);
        let patch = async |body| stage.client.request(http::Method::PATCH, &path).json(&body).send().await.unwrap();
        assert_eq!(patch(json!({ "idle": { "pause_after": 3 } })).await.status(), 422);
        for bad in
            [json!([]), json!([1, 2, 3, 4]), json!("never"), json!(0), json!(true), json!({ "stop_after_s": "1" })]
        {
            let answer = patch(json!({ "idle": bad })).await;
            assert_eq!(answer.status(), 422, "{bad}");
            let error = answer.json::<ErrorBody>().await.unwrap().error;
            assert!(error.details["field"].as_str().is_some_and(|field| field.starts_with("idle")), "{error:?}");
        }
        assert_eq!(stage.client.workspace(awake.id).await.unwrap().idle.own, IdleSettings::default());
        assert_eq!(patch(json!({ "idle": { "pause_after_s": null } })).await.status(), 200);
        assert_eq!(stage.client.workspace(awake.id).await.unwrap().idle.own, never, "null is never");
        let anyone = Client::new(&stage.server.base).unwrap();
        let (other, _) = anyone.register("eve@example.com", PASSWORD).await.unwrap();
        let refused = other.change_workspace(awake.id, &change(None)).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::NotFound));
        stage
    })
    .await;
}
