//! Who programs run as: a template's user, and the account that a repository's description names.

use crate::support::Backend;
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use rexec_api::ids::WorkspaceId;
use rexec_api::setups::{SetupState, SetupView};
use rexec_api::workspaces::NewWorkspace;
use rexec_client::{Lifecycle, Method};
use rexec_engine::Engine as _;

async fn until(stage: &Stage, id: WorkspaceId, state: SetupState) -> SetupView {
    eventually("the set-up", async || {
        let path = format!("/api/workspaces/{id}/setup");
        let view: SetupView = stage.client.request(Method::GET, &path).send().await.unwrap().json().await.unwrap();
        (view.state == state).then_some(view)
    })
    .await
}

/// Who runs, where, and whether the home can be written to, below as well.
const WHO: &str = "echo $(id -un):$(id -u):$(id -g) $HOME $(stat -c %u ~ ~/.bashrc | tr '\\n' ' '); echo x > ~/new && echo y >> ~/.bashrc && echo ok";

#[tokio::test]
async fn a_templates_user_owns_the_home_whatever_the_image_has_put_there() {
    let directory = tempfile::tempdir().unwrap();
    let text = "name = 'Test'\ndescription = 'Of a test.'\nicon = 'x'\nimage = 'rexec/base:latest'\nsize_mb = 1\n\
                [user]\nname = 'dev'\nuid = 2000\ngid = 2001\n";
    std::fs::write(directory.path().join("other.toml"), text).unwrap();
    let extra = [("REXEC_TEMPLATES_DIR", directory.path().to_str().unwrap())];
    on_stage(Backend::Sqlite, &extra, async |_, stage| {
        let wait_ms = Some(PATIENCE.as_millis() as u64);
        let new = NewWorkspace { template: Some("other".into()), memory_mb: Some(256), wait_ms, ..Default::default() };
        let id = stage.client.create_workspace(&new).await.unwrap().id;
        assert_eq!(stage.run(id, WHO).await.stdout, "dev:2000:2001 /home/user 2000 2000\nok\n");
        let written = stage.client.write_file(id, "/home/user/by-the-api", "x").await.unwrap();
        assert_eq!((written.uid, written.gid), (2000, 2001));
        stage.client.lifecycle(id, Lifecycle::Restart).await.unwrap();
        assert_eq!(stage.run(id, WHO).await.stdout, "dev:2000:2001 /home/user 2000 2000\nok\n");
        stage
    })
    .await;
}

/// Makes a repository in the workspace and serves it there.
const SERVE: &str = r#"set -e
mkdir -p /tmp/served/site; cd /tmp/served/site
git init -q -b main .; git config user.email a@b.c; git config user.name A
echo '{ "image": "IMAGE", "remoteUser": "games", "postCreateCommand": "id -un > made-by" }' > .devcontainer.json
git add .; git commit -q -m first
setsid git daemon --export-all --base-path=/tmp/served --listen=127.0.0.1 --port=9418 --detach
"#;

#[tokio::test]
async fn a_repositorys_user_is_honoured_where_the_image_has_it() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let image = format!("rexec/test-user-{}:1", stage.instance);
        stage.engine.tag_image("rexec/base:latest", &image).await.unwrap();
        for (user, who) in [("games", "games:5:60"), ("nosuch", "user:1000:1000")] {
            let wait_ms = Some(PATIENCE.as_millis() as u64);
            let git_url = Some("git://127.0.0.1:9418/site".to_owned());
            let new = NewWorkspace { git_url, memory_mb: Some(256), wait_ms, ..Default::default() };
            let id = stage.client.create_workspace(&new).await.unwrap().id;
            until(&stage, id, SetupState::Failed).await;
            let served = stage.run(id, &SERVE.replace("IMAGE", &image).replace("games", user)).await;
            assert_eq!(served.exit_code, 0, "{served:?}");
            let path = format!("/api/workspaces/{id}/setup/retry");
            stage.client.request(Method::POST, &path).send().await.unwrap().error_for_status().unwrap();
            let done = until(&stage, id, SetupState::Done).await;
            assert!(done.notes.iter().any(|note| note.contains(user)), "{done:?}");
            let uid = who.split(':').nth(1).unwrap();
            assert_eq!(stage.run(id, WHO).await.stdout, format!("{who} /home/user {uid} {uid}\nok\n"));
            let name = who.split(':').next().unwrap();
            assert_eq!(
                stage.run(id, "cat ~/site/made-by; stat -c %U ~/site/.git").await.stdout,
                format!("{name}\n{name}\n")
            );
            stage.client.purge_workspace(id).await.unwrap();
        }
        stage.engine.remove_image(&image).await.unwrap();
        stage
    })
    .await;
}
