//! Private repositories: cloned with credentials that the user has stored, which the workspace does not keep.

use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, PASSWORD, on_both};
use rexec_api::ids::{RegistryId, WorkspaceId};
use rexec_api::registries::{NewRegistry, RegistryView};
use rexec_api::setups::{SetupState, SetupView};
use rexec_api::workspaces::NewWorkspace;
use rexec_client::{Client, Method};
use serde_json::Value;

on_both!(a_private_repository_is_cloned_with_what_is_stored);

const URL: &str = "http://127.0.0.1:8418/site";
const SECRET: &str = "tok%en with 'quotes' and $HOME";

/// Makes a repository in the workspace and serves it there to those who know the password.
const SERVE: &str = r#"set -e
mkdir -p /tmp/served/site; cd /tmp/served/site
git init -q -b main .; git config user.email a@b.c; git config user.name A
echo private > README; git add .; git commit -q -m first
cd /; setsid python3 /tmp/git_server.py 8418 /tmp/served </tmp/login >/dev/null 2>&1 &
until python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8418))' 2>/dev/null; do sleep 0.05; done
"#;

/// Until the test has ended, notes what any process has for arguments and variables that git's have.
const SPY: &str = r#"
setsid sh -c 'while :; do for p in /proc/[0-9]*; do tr "\0" "\n" < $p/cmdline; tr "\0" "\n" < $p/environ; done; done > /tmp/seen 2>/dev/null' >/dev/null 2>&1 </dev/null &
"#;

async fn until(stage: &Stage, id: WorkspaceId, state: SetupState) -> SetupView {
    eventually("the set-up", async || {
        let path = format!("/api/workspaces/{id}/setup");
        let view: SetupView = stage.client.request(Method::GET, &path).send().await.unwrap().json().await.unwrap();
        (view.state == state).then_some(view)
    })
    .await
}

async fn retry(stage: &Stage, id: WorkspaceId) {
    let path = format!("/api/workspaces/{id}/setup/retry");
    let answer = stage.client.request(Method::POST, &path).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

async fn store(client: &Client, server: &str, password: &str) -> reqwest::Response {
    let new = NewRegistry { server: server.into(), username: "ada".into(), password: password.into(), everyone: false };
    client.request(Method::POST, "/api/git/credentials").json(&new).send().await.unwrap()
}

async fn stored(client: &Client, path: &str) -> Vec<RegistryView> {
    let page: rexec_api::Page<RegistryView> =
        client.request(Method::GET, path).send().await.unwrap().json().await.unwrap();
    page.items
}

async fn a_private_repository_is_cloned_with_what_is_stored(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let new = NewWorkspace {
            git_url: Some(URL.into()),
            memory_mb: Some(256),
            wait_ms: Some(PATIENCE.as_millis() as u64),
            ..Default::default()
        };
        let id = stage.client.create_workspace(&new).await.unwrap().id;
        until(&stage, id, SetupState::Failed).await;
        let server = include_str!("support/git_server.py");
        stage.client.write_file(id, "/tmp/git_server.py", server).await.unwrap();
        stage.client.write_file(id, "/tmp/login", format!("ada:{SECRET}\n")).await.unwrap();
        assert_eq!(stage.run(id, SERVE).await.exit_code, 0);

        // Without credentials, and with others than the server accepts, the failure says what is wanted and where.
        retry(&stage, id).await;
        let reason = |view: &SetupView| view.steps[0].reason.clone().unwrap_or_default();
        let failed = eventually("the refusal", async || {
            let view = until(&stage, id, SetupState::Failed).await;
            reason(&view).contains("give out").then_some(view)
        })
        .await;
        assert!(reason(&failed).contains("127.0.0.1:8418 does not give out") && reason(&failed).contains("/api/git/credentials"), "{failed:?}");
        assert_eq!(store(&stage.client, "127.0.0.1:8418", "wrong").await.status(), 201);
        let terminal = failed.steps[0].terminal_id;
        retry(&stage, id).await;
        let failed = eventually("the second refusal", async || {
            let view = until(&stage, id, SetupState::Failed).await;
            (view.steps[0].terminal_id != terminal).then_some(view)
        })
        .await;
        assert!(failed.steps[0].output.contains("Authentication failed") && reason(&failed).contains("that it accepts"), "{failed:?}");

        // The right ones take the place of the wrong ones; nobody sees them, and nothing of them is left.
        let answer = store(&stage.client, "127.0.0.1:8418", SECRET).await;
        let view: Value = answer.json().await.unwrap();
        assert!(!view.to_string().contains("tok%en"), "{view}");
        assert_eq!(stored(&stage.client, "/api/git/credentials").await.len(), 1);
        assert!(stored(&stage.client, "/api/registries").await.is_empty());
        stage.run(id, SPY).await;
        retry(&stage, id).await;
        let done = until(&stage, id, SetupState::Done).await;
        assert!(!format!("{done:?}").contains("tok%en"), "{done:?}");
        let seen = stage
            .run(
                id,
                "cat ~/site/README; ls -A /dev/shm | grep -c rexec; grep -q '^git-remote-http\\|/git-remote-http' /tmp/seen && echo spied; \
                 grep -c 'tok[%]en' /tmp/seen; grep -r 'tok[%]en' ~ && echo kept; git -C ~/site config --get-regexp 'url|cred'",
            )
            .await;
        assert_eq!(seen.stdout, format!("private\n0\nspied\n0\nremote.origin.url {URL}\n"), "{seen:?}");

        // They are their owner's alone: nobody's clone may be handed another's.
        let shared = NewRegistry {
            server: "git.example".into(),
            username: "ada".into(),
            password: SECRET.into(),
            everyone: true,
        };
        let refused = stage.client.request(Method::POST, "/api/git/credentials").json(&shared).send().await.unwrap();
        assert_eq!(refused.status(), 422);
        assert!(refused.text().await.unwrap().contains("everyone"));
        let (ben, _) = Client::new(&stage.server.base).unwrap().register("ben@example.com", PASSWORD).await.unwrap();
        assert!(stored(&ben, "/api/git/credentials").await.is_empty());
        let mine = stored(&stage.client, "/api/git/credentials").await.remove(0).id;
        let forget = async |client: &Client, route: &str, id: RegistryId| {
            client.request(Method::DELETE, &format!("{route}/{id}")).send().await.unwrap().status().as_u16()
        };
        assert_eq!(forget(&ben, "/api/git/credentials", mine).await, 404);
        assert_eq!(forget(&stage.client, "/api/registries", mine).await, 404);
        assert_eq!(store(&stage.client, "https://github.com", "x").await.status(), 422);
        assert_eq!(forget(&stage.client, "/api/git/credentials", mine).await, 204);
        stage
    })
    .await;
}
