//! Files through the API, on real workspaces: parts, archives, uploads in pieces, watches.

use crate::support::workspaces::{PATIENCE, Stage, on_stage};
use crate::support::{Backend, on_both};
use rexec_api::error::ErrorCode;
use rexec_api::exec::{ExecRequest, OutputEncoding};
use rexec_api::files::{ArchiveFormat, ChangeKind, FileEvent, FileKind, MoveFile};
use rexec_api::ids::WorkspaceId;
use rexec_client::{ClientError, Method, Piece, Result};
use uuid::Uuid;

on_both!(an_upload_goes_on_at_another_server);

fn code<T>(result: Result<T>) -> ErrorCode {
    match result {
        Err(ClientError::Refused(detail)) => detail.code,
        Err(other) => panic!("not a refusal: {other}"),
        Ok(_) => panic!("not refused"),
    }
}

fn noise(bytes: u32) -> Vec<u8> {
    (0..bytes).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[tokio::test]
async fn files_are_listed_described_made_and_moved() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let (id, client) = (stage.workspace().await.id, &stage.client);
        let made = client.make_directory(id, "/home/user/a/b").await.unwrap();
        assert_eq!((made.kind, made.uid), (FileKind::Directory, 1000));
        stage.run(id, "cd a; for n in 1 2 3 4 5; do echo $n > f$n; done; ln -s f1 link").await;
        let page = client.list_files(id, "/home/user/a", None).await.unwrap();
        let names: Vec<_> = page.items.iter().map(|info| info.name.as_str()).collect();
        assert_eq!((names, page.next), (vec!["b", "f1", "f2", "f3", "f4", "f5", "link"], None));
        let link = client.stat_file(id, "/home/user/a/link").await.unwrap();
        assert_eq!((link.kind, link.target.as_deref()), (FileKind::Symlink, Some("f1")));
        let (from, to) = ("/home/user/a/f1".to_owned(), "/home/user/a/f2".to_owned());
        let change = MoveFile { from, to, ..Default::default() };
        assert_eq!(code(client.move_file(id, &change).await), ErrorCode::FileExists);
        assert_eq!(client.move_file(id, &MoveFile { overwrite: true, ..change }).await.unwrap().name, "f2");
        assert_eq!(client.read_file(id, "/home/user/a/f2").await.unwrap(), "1\n");
        client.remove_directory(id, "/home/user/a").await.unwrap();
        assert_eq!(code(client.list_files(id, "/home/user/a", None).await), ErrorCode::FileNotFound);
        for path in ["relative", "/nul\0byte", &format!("/{}", "x".repeat(5000))] {
            assert_eq!(code(client.stat_file(id, path).await), ErrorCode::InvalidRequest);
            assert_eq!(code(client.make_directory(id, path).await), ErrorCode::InvalidRequest);
        }
        stage
    })
    .await;
}

#[tokio::test]
async fn a_part_of_a_file_is_enough() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let (id, client) = (stage.workspace().await.id, &stage.client);
        let content = noise(1_000_000);
        let path = "/home/user/file";
        let etag = client.write_file(id, path, content.clone()).await.unwrap().etag;
        assert_eq!(client.read_part(id, path, 0..1).await.unwrap(), content[..1]);
        assert_eq!(client.read_part(id, path, 999_999..5_000_000).await.unwrap(), content[999_999..]);
        assert_eq!(code(client.read_part(id, path, 1_000_000..1_000_001).await), ErrorCode::RangeNotSatisfiable);

        let ask = async |method: Method, header: &str, value: &str| {
            let url = format!("/api/workspaces/{id}/files?path={path}");
            client.request(method, &url).header(header, value).send().await.unwrap()
        };
        let quoted = format!("\"{etag}\"");
        let part = ask(Method::GET, "range", "bytes=-10").await;
        assert_eq!(part.status(), 206);
        assert_eq!(part.headers()["content-range"], "bytes 999990-999999/1000000");
        assert_eq!(part.headers()["etag"], quoted.as_str());
        assert_eq!(part.bytes().await.unwrap(), content[999_990..]);
        let beyond = ask(Method::GET, "range", "bytes=2000000-").await;
        assert_eq!(
            (beyond.status().as_u16(), &beyond.headers()["content-range"]),
            (416, &"bytes */1000000".parse().unwrap())
        );
        assert_eq!(beyond.json::<serde_json::Value>().await.unwrap()["error"]["details"]["size"], 1_000_000);
        let same = ask(Method::GET, "if-none-match", &format!("\"x\", W/{quoted}")).await;
        assert_eq!(same.status(), 304);
        assert!(same.bytes().await.unwrap().is_empty());
        let head = ask(Method::HEAD, "accept", "*/*").await;
        assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, "1000000"));
        // Written anew, the tag holds no more.
        client.write_file(id, path, "other").await.unwrap();
        assert_eq!(ask(Method::GET, "if-none-match", &quoted).await.text().await.unwrap(), "other");
        // What has no size is read to its end all the same; what does not exist is told to HEAD too.
        assert!(!client.read_file(id, "/sys/kernel/mm/transparent_hugepage/enabled").await.unwrap().is_empty());
        stage
    })
    .await;
}

#[tokio::test]
async fn directories_travel_as_archives() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let (id, client) = (stage.workspace().await.id, &stage.client);
        let make = "mkdir -p src/empty && cd src && for d in 1 2 3 4 5 6 7 8 9 10; do mkdir $d; \
                    seq -w 1 1000 | split -l 1 -a 3 - $d/; done; ln -s 1 link; chmod 700 1/aaa; \
                    head -c 3000000 /dev/urandom > noise; truncate -s 30M sparse";
        assert_eq!(stage.run(id, make).await.exit_code, 0);
        let sum = "cd $D && find . -type f -exec sha256sum {} + | sort; find . ! -type f -printf '%p %l\\n' | sort; stat -c %a 1/aaa";
        let before = stage.run(id, &format!("D=src; {sum}")).await.stdout;
        for format in [ArchiveFormat::TarZst, ArchiveFormat::Tar, ArchiveFormat::Zip] {
            let bytes = client.archive(id, "/home/user/src", format).await.unwrap().bytes().await.unwrap();
            let into = format!("/home/user/out-{}", format.as_str());
            let summary = client.extract(id, &into, format, bytes).await.unwrap();
            assert_eq!(summary.files, 10_003, "{format:?}");
            let after = stage.run(id, &format!("D=out-{}/src; {sum}", format.as_str())).await.stdout;
            assert!(before == after && before.len() > 100_000, "{format:?}");
        }
        let bad = client.extract(id, "/home/user/bad", ArchiveFormat::Tar, "no tar at all".repeat(1000)).await;
        assert_eq!(code(bad), ErrorCode::ArchiveInvalid);
        // Made by the workspace's own tar, with a name that leads out.
        stage.run(id, "echo evil > evil; tar -P --transform 's|evil|../../../tmp/evil|' -cf bad.tar evil").await;
        let bytes = client.read_file(id, "/home/user/bad.tar").await.unwrap();
        assert_eq!(code(client.extract(id, "/home/user/bad", ArchiveFormat::Tar, bytes).await), ErrorCode::ArchiveInvalid);
        assert_eq!(stage.run(id, "test -e /tmp/evil").await.exit_code, 1);
        // As the user, not as root.
        let own = client.archive(id, "/home/user/evil", ArchiveFormat::Tar).await.unwrap().bytes().await.unwrap();
        assert_eq!(code(client.extract(id, "/etc", ArchiveFormat::Tar, own).await), ErrorCode::FileDenied);
        stage
    })
    .await;
}

async fn an_upload_goes_on_at_another_server(backend: Backend) {
    on_stage(backend, &[], async |place, stage| {
        let id = stage.workspace().await.id;
        let path = "/home/user/big";
        let content = noise(6_000_000);
        let upload = Uuid::new_v4();
        let total = content.len() as u64;
        let piece = |offset| Piece { upload, offset, total };
        let first = stage.client.upload_piece(id, path, piece(0), content[..1_000_000].to_vec()).await.unwrap();
        assert!(first.is_none());
        assert_eq!(code(stage.client.upload_piece(id, path, piece(5), "x").await), ErrorCode::UploadConflict);
        // Cut in the middle of a piece: what came is kept.
        let cut = content[1_000_000..4_000_000].to_vec();
        let body = futures_util::stream::iter([Ok(cut), Err(std::io::Error::other("cut"))]);
        assert!(stage.client.upload_piece(id, path, piece(1_000_000), reqwest::Body::wrap_stream(body)).await.is_err());
        let stage = stage.restart_server(place, &[]).await;
        let offset = until_settled(&stage, id, path, piece).await;
        assert!((1_000_000..=4_000_000).contains(&offset), "{offset}");
        let rest = content[offset as usize..].to_vec();
        let info = stage.client.upload_piece(id, path, piece(offset), rest.clone()).await.unwrap().unwrap();
        assert_eq!(info.size, total);
        assert!(stage.client.read_file(id, path).await.unwrap() == content);
        let again = stage.client.upload_piece(id, path, piece(offset), rest).await.unwrap();
        assert_eq!(again.unwrap().size, total, "a last piece whose answer was lost");
        assert!(stage.client.upload_state(id, path, upload).await.unwrap().done);
        assert_eq!(stage.run(id, "ls -A | grep -c '[.]part$'").await.stdout, "0\n");
        stage
    })
    .await;
}

/// The offset, once the piece that was cut has let go.
async fn until_settled(stage: &Stage, id: WorkspaceId, path: &str, piece: impl Fn(u64) -> Piece) -> u64 {
    crate::support::workspaces::eventually("the upload to settle", async || {
        let state = stage.client.upload_state(id, path, piece(0).upload).await.ok()?;
        let nothing = stage.client.upload_piece(id, path, piece(state.offset), "").await;
        nothing.is_ok().then_some(state.offset)
    })
    .await
}

#[tokio::test]
async fn changes_are_told_as_they_happen() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        stage.run(id, "mkdir -p d/below").await;
        let mut changes = stage.client.watch_files(id, "/home/user/d", true).await.unwrap();
        stage.run(id, "echo 1 > d/below/f && mv d/below/f d/g && rm d/g").await;
        let mut kinds = Vec::new();
        while kinds.last() != Some(&ChangeKind::Removed) {
            let event = tokio::time::timeout(PATIENCE, changes.next()).await.expect("an event").unwrap();
            match event.expect("the watch goes on") {
                FileEvent::Change { kind, .. } => kinds.push(kind),
                FileEvent::Overflow => panic!("so little cannot be too much"),
            }
        }
        assert_eq!(kinds.first(), Some(&ChangeKind::Created));
        assert!(kinds.contains(&ChangeKind::Moved), "{kinds:?}");
        assert_eq!(code(stage.client.watch_files(id, "/none", true).await), ErrorCode::FileNotFound);
        stage.run(id, "rm -r d").await;
        while tokio::time::timeout(PATIENCE, changes.next()).await.expect("an end").unwrap().is_some() {}
        stage
    })
    .await;
}

/// To the kernel "self" is the guest.
#[tokio::test]
async fn the_guest_itself_is_out_of_reach() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let (id, client) = (stage.workspace().await.id, &stage.client);
        stage.run(id, "ln -s /proc/self/fd door; ln -s /proc/1/root root").await;
        for path in [
            "/proc/self/mem",
            "/proc/self/environ",
            "/proc/self/maps",
            "/proc/thread-self/mem",
            "/proc/1/mem",
            "/proc/1/environ",
            "/proc/1/root/etc/hostname",
            "/proc/self/root/etc/hostname",
            "/proc/self/fd/3",
            "/proc/self/fd/9",
            "/dev/fd/4",
            "/home/user/door/5",
            "/home/user/root/etc/hostname",
        ] {
            assert!(client.read_file(id, path).await.is_err(), "{path}");
            assert!(client.write_file(id, path, "x").await.is_err(), "{path}");
            assert!(client.stat_file(id, path).await.is_err(), "{path}");
            assert!(client.archive(id, path, ArchiveFormat::Tar).await.is_err(), "{path}");
            assert!(client.remove_file(id, path).await.is_err(), "{path}");
        }
        for path in ["/proc/1/root/tmp", "/proc/self/cwd/tmp", "/home/user/root/tmp", "/home/user/door"] {
            assert!(client.list_files(id, path, None).await.is_err(), "{path}");
            assert!(client.make_directory(id, &format!("{path}/x")).await.is_err(), "{path}");
            assert!(client.watch_files(id, path, false).await.is_err(), "{path}");
        }
        stage
    })
    .await;
}

#[tokio::test]
async fn a_command_has_a_user_and_bytes() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let exec = async |request: ExecRequest| stage.client.exec(id, &request).await;
        let command = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        let user = Some("root".to_owned());
        let who = exec(ExecRequest { command: command(&["id", "-un"]), user, ..Default::default() }).await.unwrap();
        assert_eq!(who.stdout, "root\n");
        let user = Some("nosuch".to_owned());
        let unknown = exec(ExecRequest { command: command(&["id"]), user, ..Default::default() }).await;
        assert_eq!(code(unknown), ErrorCode::InvalidRequest);
        // Bytes that are no text: 0x00 0xff 0x80.
        let bytes = ExecRequest {
            command: command(&["cat"]),
            stdin_base64: Some("AP+A".into()),
            encoding: OutputEncoding::Base64,
            ..Default::default()
        };
        assert_eq!(exec(bytes.clone()).await.unwrap().stdout, "AP+A");
        let both = ExecRequest { stdin: Some("x".into()), ..bytes.clone() };
        assert_eq!(code(exec(both).await), ErrorCode::InvalidRequest);
        let wrong = ExecRequest { stdin_base64: Some("?".into()), ..bytes };
        assert_eq!(code(exec(wrong).await), ErrorCode::InvalidRequest);
        let long =
            ExecRequest { command: command(&["wc", "-c"]), stdin: Some("x".repeat(5_000_000)), ..Default::default() };
        assert_eq!(exec(long).await.unwrap().stdout.trim(), "5000000");
        stage
    })
    .await;
}
