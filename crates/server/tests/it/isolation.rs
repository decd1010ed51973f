//! What a workspace keeps from those who work in it.

use crate::support::Backend;
use crate::support::workspaces::on_stage;
use rexec_engine::{Engine as _, ExecStart};
use tokio::io::AsyncReadExt as _;

#[tokio::test]
async fn pid_1_is_closed_even_to_root_and_its_programs_are_not() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        for script in ["sudo cat /proc/1/environ", "sudo readlink /proc/1/exe", "sudo ls /proc/1/fd/0"] {
            let closed = stage.run(id, script).await;
            assert!(closed.exit_code != 0 && closed.stdout.is_empty(), "{script}: {closed:?}");
        }
        let open = "stat -c %u /proc/self/environ && cat /proc/self/environ >/dev/null && readlink /proc/self/exe && cat /proc/1/cmdline";
        for (script, owner) in [(open.to_owned(), "1000\n"), (format!("sudo sh -c '{open}'"), "0\n")] {
            let own = stage.run(id, &script).await;
            assert!(own.exit_code == 0 && own.stdout.starts_with(owner), "{script}: {own:?}");
        }
        let container = stage.containers(id).await.remove(0);
        let exec = ExecStart {
            command: vec!["/.rexec/current/guest".into(), "version".into()],
            user: "0:0".into(),
            env: Vec::new(),
        };
        let mut reached = stage.engine.exec_stream(&container.id, &exec).await.unwrap();
        let mut version = String::new();
        reached.read_to_string(&mut version).await.unwrap();
        assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"));
        stage
    })
    .await;
}
