//! Templates, their set-up, and workspaces made for a repository, on a real engine.

use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, PASSWORD, on_both};
use reqwest::Method;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::setups::{SetupState, SetupView};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::{AttachOptions, Client, Lifecycle};
use rexec_engine::Engine as _;

on_both!(
    templates_are_what_workspaces_are_made_from,
    a_setup_runs_once_and_what_failed_is_retried,
    a_setup_outlives_the_server_and_the_workspace,
    a_repository_is_cloned_and_its_description_honoured,
);

/// A directory of templates, each on the image that every test has.
fn overlay(templates: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (id, more) in templates {
        let text = format!(
            "name = 'Test'\ndescription = 'Of a test.'\nicon = 'x'\nimage = 'rexec/base:latest'\nsize_mb = 1\n{more}"
        );
        std::fs::write(directory.path().join(format!("{id}.toml")), text).unwrap();
    }
    directory
}

fn of(template: &str) -> NewWorkspace {
    let wait_ms = Some(PATIENCE.as_millis() as u64);
    NewWorkspace { template: Some(template.into()), memory_mb: Some(256), wait_ms, ..Default::default() }
}

async fn make(stage: &Stage, new: &NewWorkspace) -> WorkspaceView {
    let view = stage.client.create_workspace(new).await.unwrap();
    assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
    view
}

async fn setup(stage: &Stage, id: WorkspaceId) -> SetupView {
    let token = stage.client.token().unwrap();
    let answer = stage.server.by(token, Method::GET, &format!("/api/workspaces/{id}/setup")).await;
    serde_json::from_str(&answer.text).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

async fn retry(stage: &Stage, id: WorkspaceId) -> crate::support::Answer {
    let token = stage.client.token().unwrap();
    stage.server.by(token, Method::POST, &format!("/api/workspaces/{id}/setup/retry")).await
}

async fn until(stage: &Stage, id: WorkspaceId, state: SetupState) -> SetupView {
    eventually(&format!("the set-up to be {state:?}"), async || {
        let view = setup(stage, id).await;
        (view.state == state).then_some(view)
    })
    .await
}

async fn templates_are_what_workspaces_are_made_from(backend: Backend) {
    let overlay = overlay(&[(
        "own",
        "entrypoint = ['sh', '-c', 'touch ~/entered']\n[user]\nname = 'dev'\nuid = 1000\n[env]\nA = 'template'\nB = 'b'\n",
    )]);
    let extra = [("REXEC_TEMPLATES_DIR", overlay.path().to_str().unwrap()), ("REXEC_CUSTOM_IMAGES", "admins")];
    on_stage(backend, &extra, async |_, stage| {
        let token = stage.client.token().unwrap();
        let listed = stage.server.by(token, Method::GET, "/api/templates").await.json();
        let items = listed["items"].as_array().unwrap();
        let own = items.iter().find(|item| item["id"] == "own").expect("the overlay's");
        assert_eq!(own["available"], true, "{own}");
        assert!(items.iter().any(|item| item["id"] == "debian-12") && items.len() >= 14, "{listed}");

        let env = [("A".to_owned(), "mine".to_owned())].into();
        let made = make(&stage, &NewWorkspace { env, ..of("own") }).await;
        assert_eq!((made.template.as_deref(), made.image.as_str()), (Some("own"), "rexec/base:latest"));
        assert_eq!(setup(&stage, made.id).await.state, SetupState::None);
        let seen = stage.run(made.id, "echo $USER $A $B $HOME").await;
        assert_eq!(seen.stdout, "dev mine b /home/user\n", "{seen:?}");
        eventually("its entrypoint to have run", async || {
            (stage.run(made.id, "test -e ~/entered").await.exit_code == 0).then_some(())
        })
        .await;
        stage.client.purge_workspace(made.id).await.unwrap();

        let unknown = stage.client.create_workspace(&of("none")).await.unwrap_err();
        assert_eq!(unknown.code(), Some(ErrorCode::TemplateNotFound));
        assert!(format!("{unknown:?}").contains("debian-12"), "it lists those that there are: {unknown:?}");
        let image = Some("rexec/other:1".to_owned());
        let both = NewWorkspace { image: image.clone(), ..of("own") };
        assert_eq!(stage.client.create_workspace(&both).await.unwrap_err().code(), Some(ErrorCode::InvalidRequest));
        let (eve, _) = Client::new(&stage.server.base).unwrap().register("eve@example.com", PASSWORD).await.unwrap();
        let custom = NewWorkspace { image, ..Default::default() };
        assert_eq!(eve.create_workspace(&custom).await.unwrap_err().code(), Some(ErrorCode::ImageNotAllowed));
        stage
    })
    .await;
}

async fn a_setup_runs_once_and_what_failed_is_retried(backend: Backend) {
    let overlay = overlay(&[(
        "steps",
        "[[setup]]\nname = 'First'\nrun = 'echo once >> ~/first'\n\
         [[setup]]\nname = 'Second'\nrun = 'echo not \"$(id -un)\" yet; test -e ~/go; sleep 60'\ntimeout_s = 2\n\
         [[setup]]\nname = 'Third'\nrun = 'echo done > ~/third'\n",
    )]);
    let extra = [("REXEC_TEMPLATES_DIR", overlay.path().to_str().unwrap())];
    on_stage(backend, &extra, async |_, stage| {
        let id = make(&stage, &of("steps")).await.id;
        let failed = until(&stage, id, SetupState::Failed).await;
        let [first, second, third] = &failed.steps[..] else { panic!("{failed:?}") };
        assert_eq!((first.state, first.exit_code), (SetupState::Done, Some(0)));
        assert_eq!((second.state, second.exit_code), (SetupState::Failed, Some(1)));
        assert_eq!(first.command.as_deref(), Some("echo once >> ~/first"));
        assert!(second.command.as_ref().is_some_and(|command| command.starts_with("echo not")), "{second:?}");
        assert!(second.output.contains("Second") && second.output.contains("not user yet"), "{second:?}");
        assert_eq!((third.state, third.terminal_id), (SetupState::Pending, None));
        // What it printed can be watched, long after.
        let attachment = stage.attach(id, second.terminal_id.unwrap(), AttachOptions::default()).await;
        let mut follower = crate::support::workspaces::Follower::new(attachment, None);
        follower.until("not user yet").await;

        // Others neither see nor retry it.
        let (eve, _) = Client::new(&stage.server.base).unwrap().register("eve@example.com", PASSWORD).await.unwrap();
        let path = format!("/api/workspaces/{id}/setup/retry");
        assert_eq!(stage.server.by(eve.token().unwrap(), Method::POST, &path).await.code(), "not_found");

        // Now it hangs, and is ended.
        stage.run(id, "touch ~/go").await;
        let retried = retry(&stage, id).await;
        assert_eq!(retried.status, reqwest::StatusCode::ACCEPTED);
        let again = &retried.json()["steps"][1];
        assert!(again["reason"].is_null() && again["exit_code"].is_null() && again["output"] == "", "{again}");
        let hung = eventually("it to be ended", async || {
            let view = setup(&stage, id).await;
            view.steps[1].reason.as_ref().is_some_and(|reason| reason.contains("longer than 2 s")).then_some(view)
        })
        .await;
        assert_eq!((hung.state, hung.steps[1].exit_code), (SetupState::Failed, None));
        eventually("nothing of it to run", async || {
            (stage.run(id, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await.stdout.matches("sleep 60").count() <= 1)
                .then_some(())
        })
        .await;
        stage.run(id, "mkdir -p ~/.local/bin; printf '#!/bin/sh\\n' > /tmp/sleep; chmod +x /tmp/sleep; sudo cp /tmp/sleep /usr/local/bin/sleep").await;
        retry(&stage, id).await;
        until(&stage, id, SetupState::Done).await;
        assert_eq!(retry(&stage, id).await.code(), "workspace_state");
        stage.client.lifecycle(id, Lifecycle::Restart).await.unwrap();
        assert_eq!(stage.run(id, "cat ~/first ~/third").await.stdout, "once\ndone\n", "once, and not at each start");
        stage.client.purge_workspace(id).await.unwrap();
        stage
    })
    .await;
}

async fn a_setup_outlives_the_server_and_the_workspace(backend: Backend) {
    let overlay = overlay(&[(
        "slow",
        "[[setup]]\nname = 'Slow'\nrun = 'echo x >> ~/began; while ! test -e ~/go; do sleep 0.1; done; echo y >> ~/ended'\n",
    )]);
    let extra = [("REXEC_TEMPLATES_DIR", overlay.path().to_str().unwrap())];
    on_stage(backend, &extra, async |place, stage| {
        let id = make(&stage, &of("slow")).await.id;
        let began = async |stage: &Stage, times: usize| {
            eventually("it to begin", async || {
                (stage.run(id, "cat ~/began").await.stdout.lines().count() == times).then_some(())
            })
            .await;
        };
        began(&stage, 1).await;
        let terminal = setup(&stage, id).await.steps[0].terminal_id;
        let stage = stage.restart_server(place, &extra).await;
        // The same goes on in the same terminal, and the workspace can be used meanwhile.
        eventually("the guest to be met", async || {
            let request = rexec_api::exec::ExecRequest { command: vec!["true".into()], ..Default::default() };
            stage.client.exec(id, &request).await.is_ok().then_some(())
        })
        .await;
        let running = setup(&stage, id).await;
        assert_eq!((running.state, running.steps[0].terminal_id), (SetupState::Running, terminal));
        began(&stage, 1).await;

        // A restart of the workspace cuts it off: it runs again.
        stage.client.lifecycle(id, Lifecycle::Restart).await.unwrap();
        began(&stage, 2).await;
        stage.run(id, "touch ~/go").await;
        until(&stage, id, SetupState::Done).await;
        assert_eq!(stage.run(id, "cat ~/ended").await.stdout, "y\n");
        stage.client.purge_workspace(id).await.unwrap();
        stage
    })
    .await;
}

/// Makes a repository in the workspace and serves it there.
const SERVE: &str = r#"set -e
mkdir -p /tmp/served/site; cd /tmp/served/site
git init -q -b main .; git config user.email a@b.c; git config user.name A
mkdir .devcontainer
cat > .devcontainer/devcontainer.json <<'END'
{ // What the workspace is to be.
  "image": "IMAGE",
  "containerEnv": { "OF_THE_REPOSITORY": "yes", "ASKED": "no" },
  "postCreateCommand": "echo $OF_THE_REPOSITORY > created",
  "forwardPorts": [3000],
  "features": { "x": {} },
}
END
echo hello > README; git add .; git commit -q -m first
git checkout -q -b other; echo other > README; git commit -q -a -m second; git checkout -q main
setsid git daemon --export-all --base-path=/tmp/served --listen=127.0.0.1 --port=9418 --detach
"#;

async fn a_repository_is_cloned_and_its_description_honoured(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let url = "git://127.0.0.1:9418/site";
        let new = |branch: Option<&str>, image: Option<&str>| NewWorkspace {
            git_url: Some(url.into()),
            branch: branch.map(str::to_owned),
            image: image.map(str::to_owned),
            env: [("ASKED".to_owned(), "yes".to_owned())].into(),
            template: None,
            ..of("")
        };
        let bad = NewWorkspace { git_url: Some("https://user:secret@host/x".into()), ..Default::default() };
        let refused = stage.client.create_workspace(&bad).await.unwrap_err();
        assert!(!format!("{refused:?}").contains("secret"), "{refused:?}");

        // Nothing is served there yet: that is told, with what git said, and can be tried again.
        let image = format!("rexec/test-{}:1", stage.instance);
        stage.engine.tag_image("rexec/base:latest", &image).await.unwrap();
        let made = make(&stage, &new(None, None)).await;
        assert_eq!(made.git_url.as_deref(), Some(url));
        let failed = until(&stage, made.id, SetupState::Failed).await;
        let clone = &failed.steps[0];
        assert!(clone.output.contains("fatal") && clone.reason.as_ref().unwrap().contains("git"), "{clone:?}");
        let served = stage.run(made.id, &SERVE.replace("IMAGE", &image)).await;
        assert_eq!(served.exit_code, 0, "{served:?}");
        retry(&stage, made.id).await;
        let done = until(&stage, made.id, SetupState::Done).await;
        assert_eq!(done.steps.len(), 2, "{done:?}");
        assert!(done.notes.iter().any(|note| note.contains("features")), "{done:?}");
        let view = stage.client.workspace(made.id).await.unwrap();
        assert_eq!((view.image.as_str(), view.forward_ports.as_slice()), (image.as_str(), [3000].as_slice()));
        let seen = stage
            .run(made.id, "cat ~/site/README ~/site/created; echo $OF_THE_REPOSITORY $ASKED; ls -A ~ | grep clone")
            .await;
        assert_eq!(seen.stdout, "hello\nyes\nyes yes\n", "{seen:?}");
        stage.client.purge_workspace(made.id).await.unwrap();

        // An image that was asked for stays.
        let made = make(&stage, &new(Some("other"), Some("rexec/base:latest"))).await;
        until(&stage, made.id, SetupState::Failed).await;
        stage.run(made.id, &SERVE.replace("IMAGE", &image)).await;
        retry(&stage, made.id).await;
        let done = until(&stage, made.id, SetupState::Done).await;
        assert!(done.notes.iter().any(|note| note.contains(&image)), "{done:?}");
        assert_eq!(stage.client.workspace(made.id).await.unwrap().image, "rexec/base:latest");
        assert_eq!(stage.run(made.id, "cat ~/site/README; echo $OF_THE_REPOSITORY").await.stdout, "other\nyes\n");
        stage.client.purge_workspace(made.id).await.unwrap();
        stage.engine.remove_image(&image).await.unwrap();
        stage
    })
    .await;
}
