use super::*;
use rexec_api::files::FileKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

async fn put(bench: &Bench, path: &str, mode: Option<u32>, content: &[u8]) -> rexec_api::files::FileInfo {
    let mut file = bench.client.write_file(path, mode).await.unwrap();
    file.send(Bytes::copy_from_slice(content)).await.unwrap();
    file.finish().await.unwrap()
}

async fn get(bench: &Bench, path: &str) -> Vec<u8> {
    let (_, mut body) = bench.client.read_file(path).await.unwrap();
    let mut content = Vec::new();
    while let Some(bytes) = body.recv().await.unwrap() {
        content.extend_from_slice(&bytes);
    }
    content
}

#[test]
fn a_file_is_written_read_described_moved_and_removed() {
    with_configured(|bench| async move {
        let client = &bench.client;
        let path = bench.path("sub/ä b%/🦀.bin");
        let content: Vec<u8> = (0..2_500_000u32).map(|n| (n % 253) as u8).collect();
        let info = put(&bench, &path, Some(0o600), &content).await;
        assert_eq!((info.size, info.mode, info.kind), (2_500_000, 0o600, FileKind::File));
        assert!(get(&bench, &path).await == content);
        let user = configure(bench.home.path()).user;
        assert_eq!(std::fs::metadata(bench.real("sub")).unwrap().uid(), user.uid);
        assert_eq!(client.stat(&path).await.unwrap().uid, user.uid);

        // An existing file keeps its mode, and an empty body is an empty file.
        assert_eq!(put(&bench, &path, None, b"").await.mode, 0o600);
        assert_eq!(get(&bench, &path).await, b"");

        let moved = bench.path("elsewhere/new");
        client.rename(&path, &moved).await.unwrap();
        assert_eq!(code(client.stat(&path).await), ErrorCode::FileNotFound);
        client.remove_file(&moved, false).await.unwrap();
        assert_eq!(code(client.remove_file(&moved, false).await), ErrorCode::FileNotFound);
    });
}

#[test]
fn directories_are_made_listed_in_order_and_removed() {
    with_configured(|bench| async move {
        let client = &bench.client;
        let directory = bench.path("d");
        client.mkdir(&bench.path("d/e/f")).await.unwrap();
        client.mkdir(&directory).await.unwrap();
        put(&bench, &bench.path("d/b"), None, b"x").await;
        put(&bench, &bench.path("d/a"), None, b"y").await;
        let names: Vec<_> = client.list(&directory).await.unwrap();
        let names: Vec<_> = names.iter().map(|info| info.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "e"]);
        assert_eq!(code(client.remove_file(&directory, false).await), ErrorCode::FileError);
        client.remove_file(&directory, true).await.unwrap();
        assert!(!bench.real("d").exists());
        put(&bench, &bench.path("file"), None, b"").await;
        assert_eq!(code(client.mkdir(&bench.path("file")).await), ErrorCode::NotAFile);
        assert_eq!(code(client.list(&bench.path("file")).await), ErrorCode::NotADirectory);
        assert_eq!(code(client.mkdir(&bench.path("file/x")).await), ErrorCode::NotADirectory);
    });
}

#[test]
fn an_upload_that_breaks_off_changes_nothing() {
    with_configured(|bench| async move {
        let path = bench.path("kept");
        put(&bench, &path, None, b"old").await;
        let mut upload = bench.client.write_file(&path, None).await.unwrap();
        upload.send(Bytes::from(vec![1; 500_000])).await.unwrap();
        drop(upload);
        // The temporary file is there until the guest has seen the end.
        while std::fs::read_dir(bench.home.path())
            .unwrap()
            .any(|entry| entry.unwrap().file_name().to_string_lossy().ends_with(".tmp"))
        {
            bench.client.usage().await.unwrap();
        }
        assert_eq!(get(&bench, &path).await, b"old");
    });
}

#[test]
fn links_are_kept_and_not_followed_by_removal() {
    with_configured(|bench| async move {
        put(&bench, &bench.path("tree/inside"), None, b"1").await;
        put(&bench, &bench.path("outside/precious"), None, b"2").await;
        symlink(bench.real("outside"), bench.real("tree/link")).unwrap();
        symlink("inside", bench.real("tree/alias")).unwrap();
        let link = bench.client.stat(&bench.path("tree/alias")).await.unwrap();
        assert_eq!((link.kind, link.target.as_deref()), (FileKind::Symlink, Some("inside")));
        put(&bench, &bench.path("tree/alias"), None, b"through").await;
        assert!(bench.real("tree/alias").is_symlink());
        assert_eq!(get(&bench, &bench.path("tree/inside")).await, b"through");
        bench.client.remove_file(&bench.path("tree"), true).await.unwrap();
        assert!(bench.real("outside/precious").exists());
    });
}

#[test]
fn what_is_not_a_file_is_refused() {
    with_configured(|bench| async move {
        let client = &bench.client;
        let fifo = bench.real("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU | rustix::fs::Mode::RWXO,
            0,
        )
        .unwrap();
        std::fs::set_permissions(&fifo, std::fs::Permissions::from_mode(0o666)).unwrap();
        for path in [bench.path("fifo"), bench.path(""), "/dev/zero".into()] {
            assert_eq!(code(client.read_file(&path).await), ErrorCode::NotAFile, "{path}");
            let upload = client.write_file(&path, None).await.unwrap();
            assert_eq!(code(upload.finish().await), ErrorCode::NotAFile, "{path}");
        }
        let long = format!("/{}", "x".repeat(5000));
        for path in ["", "relative", "/nul\0", &long] {
            assert_eq!(code(client.stat(path).await), ErrorCode::InvalidRequest);
        }
        let upload = client.write_file(&bench.path("x"), Some(0o10000)).await.unwrap();
        assert_eq!(code(upload.finish().await), ErrorCode::InvalidRequest);
        assert_eq!(code(client.stat("/no/such").await), ErrorCode::FileNotFound);
    });
}

/// Only root can be somebody else, so only then is there anything to refuse.
#[test]
fn the_users_rights_hold_on_every_path() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    with_configured(|bench| async move {
        let client = &bench.client;
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "secret").unwrap();
        let secret_path = secret.path().to_str().unwrap();
        assert_eq!(code(client.read_file(secret_path).await), ErrorCode::FileDenied);
        symlink(secret.path(), bench.real("link")).unwrap();
        let link = bench.path("link");
        assert_eq!(code(client.read_file(&link).await), ErrorCode::FileDenied);
        let upload = client.write_file(&link, None).await.unwrap();
        assert_eq!(code(upload.finish().await), ErrorCode::FileDenied);
        let upload = client.write_file("/etc/rexec-test", None).await.unwrap();
        assert_eq!(code(upload.finish().await), ErrorCode::FileDenied);
        assert_eq!(code(client.remove_file(secret_path, false).await), ErrorCode::FileDenied);
        assert_eq!(std::fs::read_to_string(secret.path()).unwrap(), "secret");
    });
}
