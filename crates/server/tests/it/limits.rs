//! Other limits for a workspace that is there, seen in its cgroup.

use crate::support::workspaces::{Stage, on_stage};
use crate::support::{Backend, on_both};
use rexec_api::error::ErrorCode;
use rexec_api::idle::IdleSettings;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{LimitsView, NewWorkspace, PatchWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::{ClientError, Lifecycle};
use rexec_engine::Engine as _;

on_both!(
    limits_change_where_it_stands,
    less_than_is_used_is_refused,
    a_change_is_one_step,
    more_than_the_host_has_is_refused,
    a_disk_limit_comes_off
);

/// Memory, processes and CPU per 100 ms, as cgroup v2 or v1 has them.
const LIMITS: &str = "cd /sys/fs/cgroup; if test -e memory.max; then cat memory.max pids.max; cut -d' ' -f1 cpu.max; \
     else cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us; fi";

fn change(cpu: f64, memory_mb: u32, pids: u32) -> PatchWorkspace {
    PatchWorkspace { cpu: Some(cpu), memory_mb: Some(memory_mb), pids: Some(pids), ..Default::default() }
}

async fn holds(stage: &Stage, id: WorkspaceId, wanted: &PatchWorkspace) {
    let PatchWorkspace { cpu: Some(cpu), memory_mb: Some(memory_mb), pids: Some(pids), .. } = wanted else {
        panic!("it must be whole");
    };
    let expected = format!("{}\n{pids}\n{}\n", u64::from(*memory_mb) << 20, (cpu * 100_000.0) as u64);
    assert_eq!(stage.run(id, LIMITS).await.stdout, expected);
    let view = stage.client.workspace(id).await.unwrap();
    assert_eq!(told(&view), LimitsView { cpu: *cpu, memory_mb: *memory_mb, pids: *pids });
    assert_eq!(view.limits_wanted, None);
}

fn told(view: &WorkspaceView) -> LimitsView {
    LimitsView { cpu: view.cpu, memory_mb: view.memory_mb, pids: view.pids }
}

async fn limits_change_where_it_stands(backend: Backend) {
    on_stage(backend, &[], async |place, stage| {
        let id = stage.workspace().await.id;
        let pid_1 = async |stage: &Stage| stage.run(id, "cut -d' ' -f22 /proc/1/stat").await.stdout;
        let before = pid_1(&stage).await;
        for limits in [change(1.5, 512, 300), change(0.5, 200, 150)] {
            let view = stage.client.change_workspace(id, &limits).await.unwrap();
            assert_eq!((view.status, Some(view.memory_mb)), (WorkspaceStatus::Running, limits.memory_mb));
            holds(&stage, id, &limits).await;
        }

        // Frozen it stays frozen, and has them when it goes on.
        stage.client.lifecycle(id, Lifecycle::Pause).await.unwrap();
        let limits = change(1.0, 300, 200);
        let paused = stage.client.change_workspace(id, &limits).await.unwrap();
        assert_eq!((paused.status, paused.memory_mb, paused.limits_wanted), (WorkspaceStatus::Paused, 300, None));
        stage.client.lifecycle(id, Lifecycle::Resume).await.unwrap();
        holds(&stage, id, &limits).await;
        assert_eq!(pid_1(&stage).await, before, "it was never started anew");

        // One alone leaves the others; what is stopped has them when it starts, whatever server starts it.
        stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        let one = PatchWorkspace { memory_mb: Some(400), ..Default::default() };
        assert_eq!(stage.client.change_workspace(id, &one).await.unwrap().memory_mb, 400);
        let stage = stage.restart_server(place, &[]).await;
        stage.client.lifecycle(id, Lifecycle::Start).await.unwrap();
        let limits = change(1.0, 400, 200);
        holds(&stage, id, &limits).await;

        // So has a container that is made again.
        let container = stage.containers(id).await.remove(0);
        stage.engine.remove(&container.id).await.unwrap();
        stage
            .until(id, "it to be made again", |w| {
                w.status == WorkspaceStatus::Running && w.status_reason.as_deref().is_some_and(|r| r.contains("again"))
            })
            .await;
        holds(&stage, id, &limits).await;
        stage
    })
    .await;
}

async fn less_than_is_used_is_refused(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let before = change(2.0, 256, 4096);
        holds(&stage, id, &before).await;
        // A shell that holds 100 MB in a variable, and one that has many children.
        stage
            .terminal(id, &["/bin/sh", "-c", "x=$(head -c 100000000 /dev/zero | tr '\\0' x); touch /tmp/full; read y"])
            .await;
        stage
            .terminal(id, &["/bin/sh", "-c", "for i in $(seq 100); do sleep 1000 & done; touch /tmp/many; wait"])
            .await;
        let script = "until test -e /tmp/full -a -e /tmp/many; do sleep 0.1; done";
        assert_eq!(stage.run(id, script).await.exit_code, 0);

        for (bad, field) in [(change(1.0, 64, 4096), "memory_mb"), (change(1.0, 256, 64), "pids")] {
            let error = stage.client.change_workspace(id, &PatchWorkspace { name: Some("new".into()), ..bad }).await;
            let Err(ClientError::Refused(error)) = error else { panic!("{error:?}") };
            assert_eq!((error.code, &error.details["field"]), (ErrorCode::LimitBelowUse, &field.into()), "{error:?}");
            assert!(error.details["used"].as_u64().is_some_and(|used| used >= 64), "{error:?}");
            holds(&stage, id, &before).await;
        }
        assert_ne!(stage.client.workspace(id).await.unwrap().name, "new", "nothing of the request is done");
        for bad in [change(0.0, 256, 100), change(1.0, 1, 100), change(1.0, 256, 1)] {
            let error = stage.client.change_workspace(id, &bad).await.unwrap_err();
            assert_eq!(error.code(), Some(ErrorCode::InvalidRequest), "{bad:?}");
        }
        // What does fit is granted all the same.
        let fits = change(1.0, 200, 1000);
        stage.client.change_workspace(id, &fits).await.unwrap();
        holds(&stage, id, &fits).await;
        stage
    })
    .await;
}

async fn a_change_is_one_step(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let before = stage.client.workspace(id).await.unwrap();
        let as_before = async |what: &str| {
            let now = stage.client.workspace(id).await.unwrap();
            let all = |w: &WorkspaceView| (w.name.clone(), w.memory_mb, w.pids, w.disk_gb, w.idle.own, w.limits_wanted);
            assert_eq!(all(&now), all(&before), "{what}");
            holds(&stage, id, &change(2.0, 256, 4096)).await;
        };
        let idle = IdleSettings { stop_after_s: Some(5000), lifetime_s: Some(6000), ..Default::default() };
        let whole = PatchWorkspace {
            name: Some("new".into()),
            disk_gb: Some(Some(7)),
            idle: Some(Some(idle)),
            ..change(1.0, 300, 200)
        };
        let too_long = IdleSettings { delete_after_s: Some(u64::MAX), ..idle };
        for bad in [
            PatchWorkspace { disk_gb: Some(Some(0)), ..whole.clone() },
            PatchWorkspace { idle: Some(Some(too_long)), ..whole.clone() },
            PatchWorkspace { name: Some(" new".into()), ..whole.clone() },
            PatchWorkspace { pids: Some(1), ..whole.clone() },
        ] {
            let error = stage.client.change_workspace(id, &bad).await.unwrap_err();
            assert_eq!(error.code(), Some(ErrorCode::InvalidRequest), "{bad:?}");
            as_before(&format!("{bad:?}")).await;
        }
        // The same where only the engine can tell.
        stage
            .terminal(id, &["/bin/sh", "-c", "for i in $(seq 100); do sleep 1000 & done; touch /tmp/many; wait"])
            .await;
        assert_eq!(stage.run(id, "until test -e /tmp/many; do sleep 0.1; done").await.exit_code, 0);
        let bad = PatchWorkspace { pids: Some(64), ..whole.clone() };
        let error = stage.client.change_workspace(id, &bad).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::LimitBelowUse));
        as_before("below use").await;

        let now = stage.client.change_workspace(id, &whole).await.unwrap();
        assert_eq!((now.name.as_str(), now.disk_gb, now.idle.own), ("new", Some(7), idle));
        holds(&stage, id, &whole).await;
        stage
    })
    .await;
}

async fn more_than_the_host_has_is_refused(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let host = stage.engine.info().await.unwrap();
        let (cpus, there_mb) = (f64::from(host.cpus), u32::try_from(host.memory_bytes >> 20).unwrap());
        let named = |outcome: Result<WorkspaceView, ClientError>, field: &str, there: &str| {
            let Err(ClientError::Refused(error)) = outcome else { panic!("{outcome:?}") };
            assert_eq!((error.code, &error.details["field"]), (ErrorCode::InvalidRequest, &field.into()), "{error:?}");
            assert!(error.message.contains(there), "{error:?}");
        };
        let (too_many, too_much) = (Some(cpus + 1.0), Some(there_mb + 1));
        let (cores, memory) = (format!("{cpus} core"), format!("{there_mb} MiB"));
        named(
            stage.client.create_workspace(&NewWorkspace { cpu: too_many, ..Default::default() }).await,
            "cpu",
            &cores,
        );
        let new = NewWorkspace { memory_mb: too_much, ..Default::default() };
        named(stage.client.create_workspace(&new).await, "memory_mb", &memory);
        assert!(stage.client.workspaces().await.unwrap().items.is_empty(), "nothing was made");

        let told = stage.client.request(http::Method::GET, "/api/templates").send().await.unwrap();
        let told: rexec_api::templates::TemplateList = told.json().await.unwrap();
        let told = told.host.unwrap();
        assert_eq!((told.cpu, told.memory_mb), (Some(cpus), Some(there_mb)));

        let id = stage.workspace().await.id;
        let wish = PatchWorkspace { cpu: too_many, ..Default::default() };
        named(stage.client.change_workspace(id, &wish).await, "cpu", &cores);
        let wish = PatchWorkspace { memory_mb: too_much, ..Default::default() };
        named(stage.client.change_workspace(id, &wish).await, "memory_mb", &memory);
        let view = stage.client.workspace(id).await.unwrap();
        assert_eq!((view.memory_mb, view.limits_wanted), (256, None));
        stage.client.change_workspace(id, &PatchWorkspace { cpu: Some(cpus), ..Default::default() }).await.unwrap();
        stage
    })
    .await;
}

async fn a_disk_limit_comes_off(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let five = PatchWorkspace { disk_gb: Some(Some(5)), ..Default::default() };
        assert_eq!(stage.client.change_workspace(id, &five).await.unwrap().disk_gb, Some(5));
        let other = PatchWorkspace { name: Some("still".into()), ..Default::default() };
        assert_eq!(stage.client.change_workspace(id, &other).await.unwrap().disk_gb, Some(5), "what is absent stays");
        let path = format!("/api/workspaces/{id}");
        let null = serde_json::json!({ "disk_gb": null });
        let freed = stage.client.request(http::Method::PATCH, &path).json(&null).send().await.unwrap();
        assert_eq!(freed.status(), 200);
        let view = stage.client.workspace(id).await.unwrap();
        assert_eq!((view.disk_gb, view.disk_enforced), (None, None));
        stage
    })
    .await;
}
