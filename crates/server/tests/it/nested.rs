//! Containers inside of a workspace: where they are allowed they run and stay in it, elsewhere the reason is told.
//! The image is `rexec/podman`, which `scripts/test` builds.

use crate::support::workspaces::{PATIENCE, Stage, on_stage};
use crate::support::{Backend, on_both};
use reqwest::Method;
use rexec_api::error::ErrorCode;
use rexec_api::exec::ExecResult;
use rexec_api::ids::WorkspaceId;
use rexec_api::templates::TemplateView;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::Lifecycle;
use rexec_engine::{Engine as _, Labels};

on_both!(containers_run_inside_where_that_is_allowed, and_not_where_it_is_not);

const ALLOWED: [(&str, &str); 1] = [("REXEC_NESTED", "allow")];

fn of_the_template() -> NewWorkspace {
    let wait_ms = Some(PATIENCE.as_millis() as u64);
    NewWorkspace {
        template: Some("podman".into()),
        memory_mb: Some(512),
        pids: Some(200),
        wait_ms,
        ..Default::default()
    }
}

async fn template(stage: &Stage) -> TemplateView {
    let listed = stage.server.by(stage.client.token().unwrap(), Method::GET, "/api/templates").await.json();
    let item = listed["items"].as_array().unwrap().iter().find(|item| item["id"] == "podman").expect("it is there");
    serde_json::from_value(item.clone()).unwrap()
}

/// Containers of this server at the engine: workspaces, and trials that were left behind.
async fn containers(stage: &Stage) -> usize {
    let labels = Labels::from([("rexec.instance".to_owned(), stage.instance.clone())]);
    stage.engine.summaries(&labels).await.unwrap().len()
}

async fn well(stage: &Stage, id: WorkspaceId, script: &str) -> String {
    let done = stage.run(id, script).await;
    assert_eq!(done.exit_code, 0, "{script}: {done:?}");
    done.stdout
}

async fn containers_run_inside_where_that_is_allowed(backend: Backend) {
    on_stage(backend, &ALLOWED, async |place, stage| {
        let offered = template(&stage).await;
        assert!(offered.available, "scripts/roles podman builds its image: {offered:?}");
        assert_eq!(offered.nested_unavailable, None, "this host's runtime permits it");
        assert_eq!(containers(&stage).await, 0, "the trial leaves nothing");
        let made = stage.client.create_workspace(&of_the_template()).await.unwrap();
        assert_eq!(made.status, WorkspaceStatus::Running, "{made:?}");
        let id = made.id;

        stage.client.write_file(id, "/home/user/box.tar", crate::busybox::image()).await.unwrap();
        well(&stage, id, "podman import -q box.tar box").await;
        assert_eq!(well(&stage, id, "podman run --rm box echo hello from inside").await, "hello from inside\n");
        // Its users are many, none of them one of the host's.
        let users = "podman run --rm box sh -c 'id -u; touch /x && chown 33 /x && ls -ln /x' && docker ps -aq";
        let seen = well(&stage, id, users).await;
        assert!(seen.starts_with("0\n") && seen.contains(" 33 "), "{seen}");

        stays_confined(&stage, id).await;
        reaches_what_the_workspace_reaches(&stage, id).await;

        // A restart forgets what ran and keeps what was made.
        well(&stage, id, "podman run -d --name long box sleep 1000").await;
        stage.client.lifecycle(id, Lifecycle::Restart).await.unwrap();
        stage.until(id, "its return", |view| view.status == WorkspaceStatus::Running).await;
        assert_eq!(
            well(&stage, id, "podman ps -q | wc -l; podman start long >/dev/null && podman exec long echo again").await,
            "0\nagain\n"
        );

        // What was allowed once is asked again at each start.
        stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        stage.until(id, "its stop", |view| view.status == WorkspaceStatus::Stopped).await;
        let stage = stage.restart_server(place, &[("REXEC_NESTED", "deny")]).await;
        let refused = stage.client.lifecycle(id, Lifecycle::Start).await;
        let told = stage.until(id, "the refusal", |view| view.status == WorkspaceStatus::Error).await;
        assert!(
            told.status_reason.as_deref().is_some_and(|why| why.contains("REXEC_NESTED=deny")),
            "{refused:?} {told:?}"
        );

        stage.client.purge_workspace(id).await.unwrap();
        assert_eq!((containers(&stage).await, stage.volumes(id).await.len()), (0, 0));
        stage
    })
    .await;
}

/// No more capabilities, no way back to what is covered, and one account with the workspace.
async fn stays_confined(stage: &Stage, id: WorkspaceId) {
    let status = well(stage, id, "sudo grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status").await;
    assert_eq!(status, "CapBnd:\t00000000000000fb\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    for closed in [
        "sudo sh -c 'echo x > /proc/sys/kernel/core_pattern'",
        "sudo sh -c 'echo h > /proc/sysrq-trigger'",
        "sudo mount -t tmpfs none /mnt",
        "unshare -Urm mount -o remount,bind,rw /proc/sys",
        "unshare -Urm umount /proc/sys",
        "unshare -Urmpf mount -t proc none /proc",
        "podman run --rm --privileged box sh -c 'echo x > /proc/sys/kernel/core_pattern'",
    ] {
        let refused: ExecResult = stage.run(id, closed).await;
        assert_ne!(refused.exit_code, 0, "{closed}: {refused:?}");
    }
    let groups = "diff /proc/self/cgroup <(podman run --rm box cat /proc/self/cgroup) && echo same";
    assert_eq!(well(stage, id, &format!("bash -c '{groups}'")).await, "same\n");
    let many = "podman run --rm box sh -c 'i=0; while [ $i -lt 400 ]; do sleep 20 & i=$((i+1)); done'; echo $?";
    let bombed = stage.run(id, many).await;
    assert!(bombed.stderr.contains("fork") && !bombed.stdout.ends_with("\n0\n"), "{bombed:?}");
    well(stage, id, "true").await;
}

/// The host's ports and metadata are closed from inside as well, and what the workspace itself serves is not.
async fn reaches_what_the_workspace_reaches(stage: &Stage, id: WorkspaceId) {
    let host = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = host.local_addr().unwrap().port();
    let addresses = well(stage, id, "hostname -I | cut -d' ' -f1; ip route | awk '/^default/ {print $3}'").await;
    let (own, gateway) = addresses.trim().split_once('\n').expect("two lines");
    let serve =
        "(python3 -m http.server 9000 >/dev/null 2>&1 &) ; until curl -s localhost:9000 >/dev/null; do sleep 0.1; done";
    well(stage, id, serve).await;
    let ask = |address: &str, port: u16| {
        format!("podman run --rm box sh -c \"echo -e 'GET / HTTP/1.0\\r\\n\\r' | nc -w 2 {address} {port}\"")
    };
    assert!(well(stage, id, &ask(own, 9000)).await.contains("200 OK"));
    for (address, port) in [(gateway, port), ("169.254.169.254", 80)] {
        let refused = stage.run(id, &ask(address, port)).await;
        assert!(refused.exit_code != 0 && refused.stdout.is_empty(), "{address}: {refused:?}");
    }
    let published = "podman run -d --rm --name web -p 9001:80 box sh -c 'while true; do echo inside | nc -l -p 80; done' >/dev/null && \
        until curl -s -m 1 --http0.9 localhost:9001; do sleep 0.1; done; podman rm -f -t 0 web >/dev/null";
    assert!(well(stage, id, published).await.contains("inside"));
}

async fn and_not_where_it_is_not(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let told = template(&stage).await;
        assert_eq!(told.nested.as_deref(), Some("podman"));
        let why = told.nested_unavailable.expect("a reason");
        assert!(why.contains("runc") && why.contains("REXEC_NESTED=allow"), "{why}");
        let refused = stage.client.create_workspace(&of_the_template()).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::NestedUnavailable));
        assert!(refused.to_string().contains(&why), "{refused}");
        assert_eq!(containers(&stage).await, 0);

        // The usual profile runs none, whatever the image.
        let usual = NewWorkspace { template: None, image: Some("rexec/podman:latest".into()), ..of_the_template() };
        let id = stage.client.create_workspace(&usual).await.unwrap().id;
        let closed = stage.run(id, "unshare -Ur true").await;
        assert_ne!(closed.exit_code, 0, "{closed:?}");
        assert_ne!(stage.run(id, "podman info").await.exit_code, 0);
        stage.client.purge_workspace(id).await.unwrap();
        stage
    })
    .await;
}
