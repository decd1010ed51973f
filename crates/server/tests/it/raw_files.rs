//! Files whose names are not UTF-8, extended attributes, and writes that lose nobody's changes, on real workspaces.

use crate::support::Backend;
use crate::support::workspaces::{PATIENCE, Stage, on_stage};
use rexec_api::error::ErrorCode;
use rexec_api::files::{ArchiveFormat, MoveFile};
use rexec_api::ids::WorkspaceId;
use rexec_api::raw_path;
use rexec_api::snapshots::NewSnapshot;
use rexec_api::workspaces::NewWorkspace;
use rexec_client::{ClientError, Method, Result};

/// What `attribute` sets, in the way that it tells it.
const VALUE: &str = "user.colour=% 61003dff";
const ODD: &[u8] = b"/home/user/odd/caf\xe9 \xff.txt";

fn code<T>(result: Result<T>) -> ErrorCode {
    match result {
        Err(ClientError::Refused(detail)) => detail.code,
        Err(other) => panic!("not a refusal: {other}"),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test]
async fn a_name_that_is_not_text_can_be_worked_with() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let (id, client) = (stage.workspace().await.id, &stage.client);
        let written = client.write_file(id, ODD, "odd\n").await.unwrap();
        assert_eq!(written.path_b64.as_deref(), Some(raw_path::encode(ODD).as_str()));
        assert_eq!(written.name, "caf\u{fffd} \u{fffd}.txt");
        assert_eq!(stage.run(id, "cat \"$(printf '/home/user/odd/caf\\351 \\377.txt')\"").await.stdout, "odd\n");
        let listed = client.list_files(id, "/home/user/odd", None).await.unwrap().items.remove(0);
        assert_eq!(listed.path_b64, written.path_b64);
        let raw = raw_path::decode(&listed.path_b64.unwrap()).unwrap();
        assert_eq!(client.read_file(id, &raw).await.unwrap(), "odd\n");
        assert_eq!(client.stat_file(id, &raw).await.unwrap().size, 4);

        let folder = b"/home/user/\xfe";
        client.make_directory(id, folder).await.unwrap();
        let moved = [folder.as_slice(), b"/x"].concat();
        let change = MoveFile {
            from_b64: Some(raw_path::encode(&raw)),
            to_b64: Some(raw_path::encode(&moved)),
            ..Default::default()
        };
        assert_eq!(client.move_file(id, &change).await.unwrap().name, "x");
        assert_eq!(code(client.stat_file(id, &raw).await), ErrorCode::FileNotFound);
        client.remove_file(id, &moved).await.unwrap();
        client.remove_directory(id, folder).await.unwrap();
        assert_eq!(code(client.stat_file(id, folder).await), ErrorCode::FileNotFound);

        // Text goes either way; one path is asked for in one way, and only one that could be.
        let files = format!("/api/workspaces/{id}/files/stat");
        let ask = async |query: &str| {
            let path = format!("{files}?{query}");
            client.request(Method::GET, &path).send().await.unwrap().status().as_u16()
        };
        assert_eq!(ask("path_b64=L2hvbWU%3D").await, 200);
        assert_eq!(ask("path_b64=L2hvbWU").await, 200);
        for wrong in ["", "path_b64=*", "path_b64=aG9tZQ", "path_b64=LwA", "path=/home&path_b64=L2hvbWU"] {
            assert_eq!(ask(wrong).await, 422, "{wrong}");
        }
        stage
    })
    .await;
}

#[tokio::test]
async fn what_was_changed_meanwhile_is_not_overwritten() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let (id, client) = (stage.workspace().await.id, &stage.client);
        let path = "/home/user/shared.txt";
        let first = client.write_file_if(id, path, None, "first").await.unwrap();
        assert_eq!(code(client.write_file_if(id, path, None, "again").await), ErrorCode::FileChanged);
        let read = client.open_file(id, path).await.unwrap();
        assert_eq!(read.headers()["etag"], format!("\"{}\"", first.etag));
        let second = client.write_file_if(id, path, Some(&first.etag), "second").await.unwrap();
        assert_ne!(second.etag, first.etag);
        assert_eq!(code(client.write_file_if(id, path, Some(&first.etag), "lost").await), ErrorCode::FileChanged);
        stage.run(id, "echo by-hand > ~/shared.txt").await;
        assert_eq!(code(client.write_file_if(id, path, Some(&second.etag), "lost").await), ErrorCode::FileChanged);
        assert_eq!(client.read_file(id, path).await.unwrap(), "by-hand\n");

        // Of many at once that have read the same, one wins.
        let etag = client.stat_file(id, path).await.unwrap().etag;
        let writers = (0..8).map(|n| client.write_file_if(id, path, Some(&etag), format!("writer {n}")));
        let won = futures_util::future::join_all(writers).await.into_iter().filter(|done| done.is_ok()).count();
        assert_eq!(won, 1);
        client.remove_file(id, path).await.unwrap();
        assert_eq!(code(client.write_file_if(id, path, Some(&etag), "back").await), ErrorCode::FileChanged);
        assert_eq!(stage.run(id, "ls -A").await.stdout.matches(".rexec-").count(), 0);

        let url = format!("/api/workspaces/{id}/files?path={path}");
        let put = async |name: &str, value: &str, more: &str| {
            let request = client.request(Method::PUT, &format!("{url}{more}")).header(name, value);
            request.body("x").send().await.unwrap().status().as_u16()
        };
        assert_eq!(put("if-match", "*", "").await, 412);
        assert_eq!(put("if-none-match", "\"a\"", "").await, 422);
        let pieces = format!("&upload={}&offset=0&total=1", uuid::Uuid::new_v4());
        assert_eq!(put("if-none-match", "*", &pieces).await, 422);
        stage
    })
    .await;
}

/// Files as hard to keep as they come, made by a program in the workspace.
async fn make(stage: &Stage, id: WorkspaceId) {
    let script = "mkdir -p odd/sub; printf odd > \"$(printf 'odd/caf\\351 \\377.txt')\"; printf deep > \"$(printf 'odd/sub/\\200')\"
        ln -s \"$(printf 'caf\\351 \\377.txt')\" odd/link; printf x > odd/attributed
        long=$(printf '%0120d' 0); printf long > \"$(printf \"odd/\\351$long\")\"";
    assert_eq!(stage.run(id, script).await.exit_code, 0);
    assert_eq!(attribute(stage, id, "set").await, "");
}

/// The base image has no `setfattr`, but Python.
async fn attribute(stage: &Stage, id: WorkspaceId, what: &str) -> String {
    let script = match what {
        "set" => "import os; os.setxattr('odd/attributed', 'user.colour=%', b'a\\0=\\xff')".to_owned(),
        folder => format!(
            "import os; f = '{folder}/attributed'
names = [n for n in os.listxattr(f) if n.startswith('user.')]
print(*[n + ' ' + os.getxattr(f, n).hex() for n in names], end='')"
        ),
    };
    let done = stage.run(id, &format!("python3 -c \"{script}\"")).await;
    assert_eq!(done.exit_code, 0, "{}", done.stderr);
    done.stdout
}

async fn listing(stage: &Stage, id: WorkspaceId, folder: &str) -> String {
    let script = format!(
        "cd {folder} && find . -exec stat -c %A {{}} + | sort | tr '\\n' ' '; find . -print0 | sort -z | od -An -tx1; find . -type f -exec cat {{}} + | tr -d '\\n' | fold -w1 | sort | tr -d '\\n'"
    );
    stage.run(id, &script).await.stdout
}

#[tokio::test]
async fn archives_keep_names_and_attributes() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let (id, client) = (stage.workspace().await.id, &stage.client);
        make(&stage, id).await;
        let whole = listing(&stage, id, "odd").await;
        for (format, keeps_attributes) in
            [(ArchiveFormat::TarZst, true), (ArchiveFormat::Tar, true), (ArchiveFormat::Zip, false)]
        {
            let archive = client.archive(id, "/home/user/odd", format).await.unwrap().bytes().await.unwrap();
            let to = format!("/home/user/back-{}", format.as_str());
            client.extract(id, &to, format, archive).await.unwrap();
            assert_eq!(listing(&stage, id, &format!("{to}/odd")).await, whole, "{format:?}");
            let value = attribute(&stage, id, &format!("{to}/odd")).await;
            assert_eq!(value, if keeps_attributes { VALUE } else { "" }, "{format:?}");
        }
        stage
    })
    .await;
}

#[tokio::test]
async fn snapshots_and_clones_keep_names_and_attributes() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let first = stage.workspace().await.id;
        make(&stage, first).await;
        let whole = listing(&stage, first, "odd").await;
        let wait_ms = Some(PATIENCE.as_millis() as u64);
        let taken = stage.client.take_snapshot(first, &NewSnapshot { wait_ms, ..Default::default() }).await.unwrap();
        let new = NewWorkspace { snapshot: Some(taken.id), wait_ms, ..Default::default() };
        let clone = stage.client.create_workspace(&new).await.unwrap().id;
        assert_eq!(listing(&stage, clone, "odd").await, whole);
        assert_eq!(attribute(&stage, clone, "odd").await, VALUE);
        let read = stage.client.read_file(clone, ODD).await.unwrap();
        assert_eq!(read, "odd");
        let export = stage.client.export_snapshot(taken.id).await.unwrap().bytes().await.unwrap();
        let imported = stage.client.import_snapshot(Some("back"), export).await.unwrap();
        let new = NewWorkspace { snapshot: Some(imported.id), wait_ms, ..Default::default() };
        let third = stage.client.create_workspace(&new).await.unwrap().id;
        assert_eq!(listing(&stage, third, "odd").await, whole);
        assert_eq!(attribute(&stage, third, "odd").await, VALUE);
        stage
    })
    .await;
}
