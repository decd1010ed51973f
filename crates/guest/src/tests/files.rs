use super::*;
use rexec_api::files::FileKind;
use rexec_api::guest::ReadSpec;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

pub(super) async fn put(bench: &Bench, path: &str, mode: Option<u32>, content: &[u8]) -> rexec_api::files::FileInfo {
    let mut file = bench.client.write_file(path, mode).await.unwrap();
    file.send(Bytes::copy_from_slice(content)).await.unwrap();
    file.finish().await.unwrap()
}

async fn get(bench: &Bench, path: &str) -> Vec<u8> {
    let (_, mut body) = bench.client.read_file(path, &ReadSpec::default()).await.unwrap();
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
        client.rename(&path, &moved, false).await.unwrap();
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
        assert_eq!(client.mkdir_as(&bench.path("private"), 0o700).await.unwrap().mode, 0o700);
        // One that is there keeps its own.
        assert_eq!(client.mkdir_as(&bench.path("private"), 0o755).await.unwrap().mode, 0o700);
        put(&bench, &bench.path("d/b"), None, b"x").await;
        put(&bench, &bench.path("d/a"), None, b"y").await;
        let page = client.list(&directory, None, 100).await.unwrap();
        let names: Vec<_> = page.items.iter().map(|info| info.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "e"]);
        assert_eq!(code(client.remove_file(&directory, false).await), ErrorCode::FileError);
        client.remove_file(&directory, true).await.unwrap();
        assert!(!bench.real("d").exists());
        put(&bench, &bench.path("file"), None, b"").await;
        assert_eq!(code(client.mkdir(&bench.path("file")).await), ErrorCode::NotAFile);
        assert_eq!(code(client.list(&bench.path("file"), None, 100).await), ErrorCode::NotADirectory);
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
            assert_eq!(code(client.read_file(&path, &ReadSpec::default()).await), ErrorCode::NotAFile, "{path}");
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
        assert_eq!(code(client.read_file(secret_path, &ReadSpec::default()).await), ErrorCode::FileDenied);
        symlink(secret.path(), bench.real("link")).unwrap();
        let link = bench.path("link");
        assert_eq!(code(client.read_file(&link, &ReadSpec::default()).await), ErrorCode::FileDenied);
        let upload = client.write_file(&link, None).await.unwrap();
        assert_eq!(code(upload.finish().await), ErrorCode::FileDenied);
        let upload = client.write_file("/etc/rexec-test", None).await.unwrap();
        assert_eq!(code(upload.finish().await), ErrorCode::FileDenied);
        assert_eq!(code(client.remove_file(secret_path, false).await), ErrorCode::FileDenied);
        assert_eq!(std::fs::read_to_string(secret.path()).unwrap(), "secret");
    });
}

#[test]
fn a_part_of_a_file_is_read_and_its_etag_tells_of_writes() {
    with_configured(|bench| async move {
        let client = &bench.client;
        let path = bench.path("file");
        let info = put(&bench, &path, None, b"0123456789").await;
        let read = async |spec: &ReadSpec| {
            let (content, mut body) = client.read_file(&path, spec).await.unwrap();
            let mut bytes = Vec::new();
            while let Some(piece) = body.recv().await.unwrap() {
                bytes.extend_from_slice(&piece);
            }
            (content.part.unwrap().ranged, String::from_utf8(bytes).unwrap())
        };
        let range = |range: &str| ReadSpec { range: Some(range.into()), ..ReadSpec::default() };
        assert_eq!(read(&range("bytes=2-4")).await, (true, "234".into()));
        assert_eq!(read(&range("bytes=-3")).await, (true, "789".into()));
        assert_eq!(read(&range("bytes=1-2,4-5")).await, (false, "0123456789".into()));
        match client.read_file(&path, &range("bytes=10-")).await {
            Err(ChannelError::Guest(error)) => {
                assert_eq!((error.code, error.number), (ErrorCode::RangeNotSatisfiable, Some(10)));
            }
            _ => panic!("not refused"),
        }
        let etag = info.etag;
        let if_range = |etag: &str| ReadSpec { if_etag: Some(etag.into()), ..range("bytes=0-0") };
        assert_eq!(read(&if_range(&etag)).await, (true, "0".into()));
        assert_eq!(read(&if_range("other")).await, (false, "0123456789".into()));
        let unless = ReadSpec { unless_etag: vec![etag.clone()], ..ReadSpec::default() };
        assert_eq!(read(&unless).await, (false, String::new()));
        assert_eq!(read(&ReadSpec { head: true, ..ReadSpec::default() }).await, (false, String::new()));
        put(&bench, &path, None, b"abcdefghij").await;
        assert_ne!(client.stat(&path).await.unwrap().etag, etag);
        assert_eq!(read(&if_range(&etag)).await, (false, "abcdefghij".into()));
        // What the kernel makes up as it is read has no size, and comes whole.
        let (content, mut body) =
            client.read_file("/sys/kernel/mm/transparent_hugepage/enabled", &ReadSpec::default()).await.unwrap();
        assert!(content.part.is_none_or(|part| part.bytes > 0) && body.recv().await.is_ok());
    });
}

#[test]
fn pages_of_a_directory_follow_each_other() {
    with_configured(|bench| async move {
        use std::os::unix::ffi::OsStrExt;
        let mut names: Vec<Vec<u8>> = (0..25u8).map(|n| vec![b'n', n + b'a']).collect();
        names.push(b"\xff\xfe".to_vec());
        names.push("ä".as_bytes().to_vec());
        names.sort();
        std::fs::create_dir(bench.real("d")).unwrap();
        for name in &names {
            std::fs::write(bench.real("d").join(std::ffi::OsStr::from_bytes(name)), b"").unwrap();
        }
        let (mut seen, mut next) = (Vec::new(), None);
        loop {
            let page = bench.client.list(&bench.path("d"), next.as_deref(), 10).await.unwrap();
            assert!(page.items.len() <= 10);
            seen.extend(page.items.into_iter().map(|info| info.name));
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        let expected: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(seen, expected);
    });
}

#[test]
fn a_move_replaces_only_when_asked_to() {
    with_configured(|bench| async move {
        let client = &bench.client;
        let (from, to) = (bench.path("from"), bench.path("to"));
        put(&bench, &from, None, b"new").await;
        put(&bench, &to, None, b"old").await;
        assert_eq!(code(client.rename(&from, &to, false).await), ErrorCode::FileExists);
        assert_eq!(get(&bench, &to).await, b"old");
        assert_eq!(client.rename(&from, &to, true).await.unwrap().path, to);
        assert_eq!(get(&bench, &to).await, b"new");
        assert_eq!(code(client.rename(&from, &to, true).await), ErrorCode::FileNotFound);
    });
}

#[test]
fn a_directory_that_cannot_be_removed_is_not_emptied() {
    with_configured(|bench| async move {
        put(&bench, &bench.path("precious"), None, b"").await;
        put(&bench, &bench.path("locked/theirs/precious"), None, b"").await;
        std::fs::set_permissions(bench.real("locked"), Permissions::from_mode(0o555)).unwrap();
        let home = bench.home.path().to_str().unwrap();
        let refused = async |path: &str| match bench.client.remove_file(path, true).await {
            Err(ChannelError::Guest(error)) => (error.code, error.message),
            other => panic!("{path}: {other:?}"),
        };
        let cases = [
            (home.to_owned(), "home"),
            ("/".to_owned(), "root of the file system"),
            (bench.path("locked/theirs"), "may not change the directory that it lies in"),
            // What is in the way lies deeper.
            (bench.path("locked"), "may not change the directory that it lies in"),
        ];
        for (path, why) in cases {
            let (code, message) = refused(&path).await;
            assert_eq!(code, ErrorCode::FileDenied, "{message}");
            assert!(message.contains(why), "{message}");
        }
        assert!(bench.real("precious").exists() && bench.real("locked/theirs/precious").exists());
        std::fs::set_permissions(bench.real("locked"), Permissions::from_mode(0o755)).unwrap();
        bench.client.remove_file(&bench.path("locked"), true).await.unwrap();
    });
}

#[test]
fn a_link_into_a_process_is_called_so() {
    with_configured(|bench| async move {
        symlink("loop", bench.real("loop")).unwrap();
        let refused = async |path: &str| match bench.client.read_file(path, &ReadSpec::default()).await {
            Err(ChannelError::Guest(error)) => (error.code, error.message),
            _ => panic!("{path} is read"),
        };
        let (code, message) = refused("/proc/self/root/etc/hostname").await;
        assert_eq!(code, ErrorCode::FileDenied, "{message}");
        assert!(message.contains("the kernel tells of processes"), "{message}");
        let (code, message) = refused(&bench.path("loop")).await;
        assert_eq!(code, ErrorCode::FileError, "{message}");
        assert!(message.contains("too many symbolic links"), "{message}");
    });
}

/// To the kernel "self" is the guest, and a process may always look at itself.
#[test]
fn the_guests_own_memory_and_files_are_out_of_reach() {
    with_configured(|bench| async move {
        let client = &bench.client;
        let open = std::fs::File::open("/etc/hostname").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&open);
        let pid = std::process::id();
        let mut paths: Vec<String> = ["mem", "environ", "maps", "exe", "root/etc/hostname", "cwd/Cargo.toml"]
            .iter()
            .flat_map(|name| ["self", "thread-self", &pid.to_string()].map(|who| format!("/proc/{who}/{name}")))
            .collect();
        paths.push(format!("/proc/self/fd/{number}"));
        paths.push(format!("/dev/fd/{number}"));
        symlink("/proc/self/fd", bench.real("door")).unwrap();
        paths.push(bench.path(&format!("door/{number}")));
        for path in &paths {
            let read = code(client.read_file(path, &ReadSpec::default()).await);
            assert!(
                matches!(read, ErrorCode::FileDenied | ErrorCode::FileError | ErrorCode::NotAFile),
                "{path}: {read:?}"
            );
            let upload = client.write_file(path, None).await.unwrap();
            assert!(upload.finish().await.is_err(), "{path}");
            assert!(client.stat(path).await.is_err(), "{path}");
            assert!(client.list(path, None, 10).await.is_err(), "{path}");
            assert!(client.remove_file(path, true).await.is_err(), "{path}");
            assert!(client.rename(path, &bench.path("stolen"), true).await.is_err(), "{path}");
            assert!(client.archive(path, rexec_api::files::ArchiveFormat::Tar).await.is_err(), "{path}");
        }
        for directory in ["/proc/self", "/proc/self/root", "/proc/1/root/tmp", &bench.path("door")] {
            assert!(client.mkdir(&format!("{directory}/new")).await.is_err(), "{directory}");
            assert!(client.list(directory, None, 10).await.is_err(), "{directory}");
            let extract = client.extract(directory, rexec_api::files::ArchiveFormat::Tar).await.unwrap();
            assert!(extract.finish().await.is_err(), "{directory}");
        }
    });
}
