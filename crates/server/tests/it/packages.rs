//! Real package managers behind the gateway, to the real registries: as a workspace is made, with nothing set up for them.

use crate::support::Backend;
use crate::support::workspaces::{PATIENCE, Stage, on_stage};
use rexec_api::egress::{EgressPreset, EgressSettings};
use rexec_api::exec::ExecRequest;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// For one of them, over a slow line.
const EACH_MAX: Duration = Duration::from_secs(180);
/// Whom this machine trusts: where another stands between it and the registries, that one, too.
const TRUSTED_HERE: &str = "/etc/ssl/certs/ca-certificates.crt";
const TRUSTED: &str = "/tmp/trusted.pem";
const TRUST: [&str; 3] = ["PIP_CERT", "NODE_EXTRA_CA_CERTS", "CARGO_HTTP_CAINFO"];

/// What it says, once it has done well.
async fn run(stage: &Stage, id: WorkspaceId, script: &str) -> String {
    let request = ExecRequest {
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: TRUST.map(|name| (name.to_owned(), TRUSTED.to_owned())).into_iter().collect(),
        timeout_ms: Some(EACH_MAX.as_millis() as u64),
        ..ExecRequest::default()
    };
    let done = stage.client.exec(id, &request).await.unwrap();
    assert_eq!(done.exit_code, 0, "{script}: {}{}", done.stdout, done.stderr);
    done.stdout
}

/// A program of this machine's, in the workspace.
async fn bring(stage: &Stage, id: WorkspaceId, from: &Path, to: &str) {
    stage.client.write_file(id, to, std::fs::read(from).unwrap()).await.unwrap();
    run(stage, id, &format!("chmod +x {to}")).await;
}

/// Of the toolchain that these tests are built by, and no script that looks for one.
fn cargo() -> PathBuf {
    let told = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    Path::new(String::from_utf8(told.stdout).unwrap().trim()).join("bin/cargo")
}

fn npm() -> Vec<u8> {
    let told = Command::new("npm").args(["root", "--global"]).output().unwrap();
    let root = PathBuf::from(String::from_utf8(told.stdout).unwrap().trim()).join("npm");
    let mut packed = tar::Builder::new(Vec::new());
    packed.append_dir_all("npm", root).unwrap();
    packed.into_inner().unwrap()
}

#[tokio::test]
async fn package_managers_reach_their_registries() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let new = NewWorkspace {
            memory_mb: Some(1024),
            wait_ms: Some(PATIENCE.as_millis() as u64),
            egress: Some(EgressSettings { preset: EgressPreset::Balanced, ..EgressSettings::default() }),
            ..NewWorkspace::default()
        };
        let view = stage.client.create_workspace(&new).await.unwrap();
        assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
        let id = view.id;
        stage.client.write_file(id, TRUSTED, std::fs::read(TRUSTED_HERE).unwrap()).await.unwrap();

        run(&stage, id, "sudo apt-get update -q && sudo apt-get install -qy --no-install-recommends python3-pip").await;
        let pip = run(&stage, id, "pip download -q --no-deps -d /tmp/wheels idna==3.10 && ls /tmp/wheels").await;
        assert_eq!(pip, "idna-3.10-py3-none-any.whl\n");

        bring(&stage, id, &std::fs::canonicalize(which("node")).unwrap(), "/tmp/node").await;
        stage.client.write_file(id, "/tmp/npm.tar", npm()).await.unwrap();
        let npm = run(&stage, id, "cd /tmp && tar xf npm.tar && ./node npm/bin/npm-cli.js pack --silent is-number@7.0.0").await;
        assert_eq!(npm, "is-number-7.0.0.tgz\n");

        bring(&stage, id, &cargo(), "/tmp/cargo").await;
        let manifest = "[package]\\nname = \"a\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\n[dependencies]\\nitoa = \"=1.0.11\"\\n";
        let vendored = format!("mkdir -p /tmp/a/src && cd /tmp/a && touch src/lib.rs && printf '{manifest}' > Cargo.toml && ../cargo vendor -q >/dev/null && ls vendor");
        assert_eq!(run(&stage, id, &vendored).await, "itoa\n");

        // git asks whom nobody has let it reach, and is told why not.
        let refused = stage.run(id, "git clone https://nowhere.example/a.git 2>&1").await;
        assert!(refused.exit_code != 0 && refused.stdout.contains("403"), "{}", refused.stdout);
        stage.client.purge_workspace(id).await.unwrap();
        stage
    })
    .await;
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file()).unwrap()
}
