//! Archives both ways, against the tools that everybody has, and archives that nobody should send.

use super::files::put;
use super::*;
use rexec_api::files::{ArchiveFormat, ExtractSummary};
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};

const FORMATS: [ArchiveFormat; 3] = [ArchiveFormat::TarZst, ArchiveFormat::Tar, ArchiveFormat::Zip];

async fn archive(bench: &Bench, path: &str, format: ArchiveFormat) -> Vec<u8> {
    let mut body = bench.client.archive(path, format).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = body.recv().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    bytes
}

async fn extract(
    bench: &Bench,
    path: &str,
    format: ArchiveFormat,
    archive: &[u8],
) -> Result<ExtractSummary, ChannelError> {
    let mut sending = bench.client.extract(path, format).await?;
    // In odd pieces, so that heads and contents are cut anywhere.
    for piece in archive.chunks(70_001) {
        sending.send(Bytes::copy_from_slice(piece)).await?;
    }
    sending.finish().await
}

/// Every path below a directory with what it is and holds.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_symlink() {
                std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if metadata.is_dir() {
                left.push(path.clone());
                Vec::new()
            } else {
                std::fs::read(&path).unwrap()
            };
            // A directory's permissions and a link's are not restored.
            let mode = if metadata.is_file() { metadata.mode() } else { 0 };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (mode, content));
        }
    }
    found
}

/// Runs a tool with bytes on its standard input, which must succeed.
fn tool(directory: &Path, command: &[&str], input: &[u8]) -> Vec<u8> {
    let (program, arguments) = command.split_first().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), input).unwrap();
    let arguments: Vec<_> =
        arguments.iter().map(|&argument| argument.replace("ARCHIVE", file.path().to_str().unwrap())).collect();
    let output = Command::new(program).args(arguments).current_dir(directory).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

async fn sample(bench: &Bench) {
    put(bench, &bench.path("src/a/empty"), Some(0o600), b"").await;
    put(bench, &bench.path("src/a/one"), Some(0o755), b"1").await;
    put(bench, &bench.path(&format!("src/a/{}/ä 🦀", "long".repeat(50))), None, b"deep").await;
    let noise: Vec<u8> = (0..1_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    put(bench, &bench.path("src/noise"), None, &noise).await;
    put(bench, &bench.path("src/zeroes"), None, &vec![0; 1_000_000]).await;
    bench.client.mkdir(&bench.path("src/hollow")).await.unwrap();
    symlink("../nowhere", bench.real("src/a/link")).unwrap();
}

#[test]
fn what_is_archived_comes_out_the_same() {
    with_configured(|bench| async move {
        sample(&bench).await;
        let before = tree(&bench.real("src"));
        for format in FORMATS {
            let bytes = archive(&bench, &bench.path("src"), format).await;
            let out = bench.path(&format!("out/{}", format.as_str()));
            let summary = extract(&bench, &out, format, &bytes).await.unwrap();
            assert_eq!(summary, ExtractSummary { files: 6, bytes: 5_000_005 });
            assert!(tree(&PathBuf::from(&out).join("src")) == before, "{format:?}");
            // Once more over what is there.
            extract(&bench, &out, format, &bytes).await.unwrap();
            assert!(tree(&PathBuf::from(&out).join("src")) == before, "{format:?}");
        }
    });
}

#[test]
fn the_usual_tools_read_ours_and_we_read_theirs() {
    with_configured(|bench| async move {
        sample(&bench).await;
        let before = tree(&bench.real("src"));
        let scratch = tempfile::tempdir().unwrap();
        let reads = [
            (ArchiveFormat::TarZst, ["tar", "--zstd", "-xpf", "ARCHIVE"].as_slice()),
            (ArchiveFormat::Tar, &["tar", "-xpf", "ARCHIVE"]),
            (ArchiveFormat::Zip, &["unzip", "-q", "ARCHIVE"]),
        ];
        for (format, command) in reads {
            let bytes = archive(&bench, &bench.path("src"), format).await;
            let directory = scratch.path().join(format.as_str());
            std::fs::create_dir(&directory).unwrap();
            tool(&directory, command, &bytes);
            assert!(tree(&directory.join("src")) == before, "{format:?}");
        }
        let writes = [
            (ArchiveFormat::TarZst, ["tar", "--zstd", "-cf", "-", "src"].as_slice()),
            (ArchiveFormat::Tar, &["tar", "--format=gnu", "-cf", "-", "src"]),
            (ArchiveFormat::Tar, &["tar", "--format=pax", "-cf", "-", "src"]),
            (ArchiveFormat::Zip, &["sh", "-c", "zip -qry ARCHIVE.zip src && cat ARCHIVE.zip; rm ARCHIVE.zip"]),
        ];
        for (number, (format, command)) in writes.into_iter().enumerate() {
            let bytes = tool(bench.home.path(), command, b"");
            let out = bench.path(&format!("theirs/{number}"));
            extract(&bench, &out, format, &bytes).await.unwrap();
            assert!(tree(&PathBuf::from(&out).join("src")) == before, "{command:?}");
        }
    });
}

#[test]
fn a_single_file_is_an_archive_too() {
    with_configured(|bench| async move {
        put(&bench, &bench.path("alone"), None, b"content").await;
        for format in FORMATS {
            let bytes = archive(&bench, &bench.path("alone"), format).await;
            let out = bench.path(&format!("out/{}", format.as_str()));
            extract(&bench, &out, format, &bytes).await.unwrap();
            assert_eq!(std::fs::read(PathBuf::from(out).join("alone")).unwrap(), b"content");
        }
        assert_eq!(code(bench.client.archive(&bench.path("none"), FORMATS[0]).await), ErrorCode::FileNotFound);
    });
}

/// One header of a tar, with its content.
fn entry(name: &str, kind: u8, target: &str, content: &[u8]) -> Vec<u8> {
    let mut head = [0u8; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..107].copy_from_slice(b"0006755");
    head[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    head[148..156].copy_from_slice(b"        ");
    head[156] = kind;
    head[157..157 + target.len()].copy_from_slice(target.as_bytes());
    head[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
    head[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    head[154] = 0;
    let mut bytes = head.to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

#[test]
fn a_hostile_tar_makes_nothing_outside() {
    with_configured(|bench| async move {
        let outside = bench.path("outside");
        put(&bench, &bench.path("outside/precious"), None, b"precious").await;
        let file = |name: &str| entry(name, b'0', "", b"evil");
        let cases = [
            vec![file("../outside/precious")],
            vec![file(&bench.path("outside/precious"))],
            vec![file("a/../../outside/precious")],
            vec![entry("door", b'2', &outside, b""), file("door/precious")],
            vec![entry("door", b'2', "../outside", b""), file("door/precious")],
            vec![entry("door", b'2', &outside, b""), entry("door/new", b'5', "", b"")],
            vec![entry("door", b'2', &outside, b""), entry("copy", b'1', "door/precious", b"")],
            vec![entry("copy", b'1', "../outside/precious", b"")],
            vec![entry("copy", b'1', &bench.path("outside/precious"), b"")],
            vec![entry("device", b'3', "", b"")],
            vec![entry("device", b'4', "", b"")],
            vec![entry("fifo", b'6', "", b"")],
            vec![entry("strange", b'Z', "", b"")],
            vec![entry("sparse", b'S', "", b"")],
            vec![entry("x", b'x', "", b"31 path=../outside/precious-two\n"), file("harmless")],
            vec![entry("x", b'x', "", b"99999 path=a\n"), file("harmless")],
            vec![entry("x", b'x', "", b"0 =\n"), file("harmless")],
            vec![entry("x", b'L', "", b"../outside/precious\0"), file("harmless")],
        ];
        for (number, case) in cases.iter().enumerate() {
            let into = bench.path(&format!("into/{number}"));
            let refused = code(extract(&bench, &into, ArchiveFormat::Tar, &tar(case)).await);
            assert!(matches!(refused, ErrorCode::ArchiveInvalid), "case {number}: {refused:?}");
        }
        assert_eq!(tree(&bench.real("outside")).len(), 1);
        assert_eq!(std::fs::read(bench.real("outside/precious")).unwrap(), b"precious");
        assert_eq!(std::fs::metadata(bench.real("outside/precious")).unwrap().nlink(), 1);

        // A link over which a file is written is replaced, not followed.
        let case = [entry("f", b'2', &bench.path("outside/precious"), b""), file("f")];
        extract(&bench, &bench.path("over"), ArchiveFormat::Tar, &tar(&case)).await.unwrap();
        assert_eq!(std::fs::read(bench.real("over/f")).unwrap(), b"evil");
        assert_eq!(std::fs::read(bench.real("outside/precious")).unwrap(), b"precious");
        // Bits that make somebody else of whoever runs it are dropped.
        assert_eq!(std::fs::metadata(bench.real("over/f")).unwrap().mode() & 0o7777, 0o755);
    });
}

#[test]
fn damaged_archives_are_refused() {
    with_configured(|bench| async move {
        let into = bench.path("into");
        let refuse = async |format, bytes: &[u8]| code(extract(&bench, &into, format, bytes).await);
        let whole = tar(&[entry("a", b'0', "", &[7; 3000])]);
        for format in FORMATS {
            assert_eq!(refuse(format, b"").await, ErrorCode::ArchiveInvalid, "{format:?}");
            assert_eq!(refuse(format, &[b'x'; 5000]).await, ErrorCode::ArchiveInvalid, "{format:?}");
        }
        assert_eq!(refuse(ArchiveFormat::Tar, &whole[..1500]).await, ErrorCode::ArchiveInvalid);
        assert_eq!(refuse(ArchiveFormat::Tar, &whole[..700]).await, ErrorCode::ArchiveInvalid);
        let mut flipped = whole.clone();
        flipped[1] ^= 1;
        assert_eq!(refuse(ArchiveFormat::Tar, &flipped).await, ErrorCode::ArchiveInvalid);

        put(&bench, &bench.path("src/file"), None, &[7; 3000]).await;
        for format in FORMATS {
            let whole = archive(&bench, &bench.path("src"), format).await;
            assert_eq!(refuse(format, &whole[..whole.len() / 2]).await, ErrorCode::ArchiveInvalid, "{format:?}");
        }
        let mut zip = archive(&bench, &bench.path("src"), ArchiveFormat::Zip).await;
        zip.truncate(zip.len() - 1);
        assert_eq!(refuse(ArchiveFormat::Zip, &zip).await, ErrorCode::ArchiveInvalid);
    });
}

#[test]
fn a_log_that_repeats_itself_and_a_file_of_holes_come_back() {
    with_configured(|bench| async move {
        put(&bench, &bench.path("src/log"), None, &b"y\n".repeat(40_000_000)).await;
        let user = rustix::fs::stat(bench.real("src/log")).unwrap();
        let hollow = std::fs::File::create(bench.real("src/hollow")).unwrap();
        hollow.set_len(90_000_000).unwrap();
        std::os::unix::fs::fchown(&hollow, Some(user.st_uid), Some(user.st_gid)).unwrap();
        let before = tree(&bench.real("src"));
        for format in [ArchiveFormat::TarZst, ArchiveFormat::Zip] {
            let bytes = archive(&bench, &bench.path("src"), format).await;
            assert!(bytes.len() < 1_000_000, "{format:?}: {}", bytes.len());
            let out = bench.path(format.as_str());
            let summary = extract(&bench, &out, format, &bytes).await.unwrap();
            assert_eq!(summary, ExtractSummary { files: 2, bytes: 170_000_000 }, "{format:?}");
            assert!(tree(&bench.real(format.as_str()).join("src")) == before, "{format:?}");
            std::fs::remove_dir_all(out).unwrap();
        }
    });
}

/// A zip whose entry says another name than its tool would write.
#[test]
fn a_hostile_zip_makes_nothing_outside() {
    with_configured(|bench| async move {
        put(&bench, &bench.path("outside/precious"), None, b"precious").await;
        put(&bench, &bench.path("src/aaaaaaaaaaaaaaaaaaaa"), None, b"evil").await;
        let honest = archive(&bench, &bench.path("src/aaaaaaaaaaaaaaaaaaaa"), ArchiveFormat::Zip).await;
        for name in ["../outside/precious.", "/tmp/rexec-zip-test.", "b/../../outside/abcd"] {
            assert_eq!(name.len(), 20);
            let mut zip = honest.clone();
            while let Some(at) = zip.windows(20).position(|window| window == [b'a'; 20]) {
                zip[at..at + 20].copy_from_slice(name.as_bytes());
            }
            let refused = extract(&bench, &bench.path("into"), ArchiveFormat::Zip, &zip).await;
            assert_eq!(code(refused), ErrorCode::ArchiveInvalid, "{name}");
        }
        assert_eq!(tree(&bench.real("outside")).len(), 1);

        // A link and a file below it, as `zip -y` writes them.
        std::fs::create_dir(bench.real("made")).unwrap();
        symlink(bench.real("outside"), bench.real("made/door")).unwrap();
        let with_link = tool(
            &bench.real("made"),
            &["sh", "-c", "zip -qy ARCHIVE.zip door && cat ARCHIVE.zip; rm ARCHIVE.zip"],
            b"",
        );
        extract(&bench, &bench.path("into"), ArchiveFormat::Zip, &with_link).await.unwrap();
        assert!(bench.real("into/door").is_symlink());
        std::fs::remove_file(bench.real("made/door")).unwrap();
        std::fs::create_dir(bench.real("made/door")).unwrap();
        std::fs::write(bench.real("made/door/precious"), "evil").unwrap();
        let below = tool(
            &bench.real("made"),
            &["sh", "-c", "zip -qr ARCHIVE.zip door && cat ARCHIVE.zip; rm ARCHIVE.zip"],
            b"",
        );
        let refused = extract(&bench, &bench.path("into"), ArchiveFormat::Zip, &below).await;
        assert_eq!(code(refused), ErrorCode::ArchiveInvalid);
        assert_eq!(std::fs::read(bench.real("outside/precious")).unwrap(), b"precious");
    });
}

/// Whoever swaps a directory for a link while an archive is extracted gains nothing by it.
#[test]
fn a_race_with_links_leads_nowhere() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    with_configured(|bench| async move {
        put(&bench, &bench.path("outside/kept"), None, b"").await;
        put(&bench, &bench.path("into/door/kept"), None, b"").await;
        let (outside, into, door) = (bench.real("outside"), bench.real("into"), bench.real("into/door"));
        let stop = Arc::new(AtomicBool::new(false));
        let swaps = Arc::new(AtomicU32::new(0));
        let swapping = std::thread::spawn({
            let (outside, stop, swaps) = (outside.clone(), stop.clone(), swaps.clone());
            move || {
                for number in 0u32.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // A name of its own: the extraction may have made the directory anew meanwhile.
                    let aside = into.join(format!("aside-{number}"));
                    if std::fs::rename(&door, &aside).and_then(|()| symlink(&outside, &door)).is_ok() {
                        swaps.fetch_add(1, Ordering::Relaxed);
                    }
                    let _ = std::fs::remove_file(&door);
                    let _ = std::fs::rename(&aside, &door);
                }
            }
        });
        // Each entry is walked to anew, because the one between lies elsewhere.
        let entries = (0..50).flat_map(|n| {
            [entry(&format!("door/{n}"), b'0', "", b"evil"), entry(&format!("other/{n}"), b'0', "", b"")]
        });
        let bytes = tar(&entries.collect::<Vec<_>>());
        let mut refused = 0;
        while refused == 0 || swaps.load(Ordering::Relaxed) < 50 {
            refused += u32::from(extract(&bench, &bench.path("into"), ArchiveFormat::Tar, &bytes).await.is_err());
        }
        stop.store(true, Ordering::Relaxed);
        swapping.join().unwrap();
        assert_eq!(tree(&outside).len(), 1, "nothing was written through the link");
    });
}

#[test]
fn ten_thousand_files_go_out_and_in() {
    with_configured(|bench| async move {
        for directory in 0..100 {
            std::fs::create_dir_all(bench.real(&format!("many/{directory}"))).unwrap();
            for file in 0..100 {
                std::fs::write(bench.real(&format!("many/{directory}/{file}")), format!("{directory}.{file}")).unwrap();
            }
        }
        let before = tree(&bench.real("many"));
        for format in FORMATS {
            let bytes = archive(&bench, &bench.path("many"), format).await;
            let out = bench.path(&format!("out/{}", format.as_str()));
            let summary = extract(&bench, &out, format, &bytes).await.unwrap();
            assert_eq!(summary.files, 10_000);
            let after = tree(&PathBuf::from(out).join("many"));
            assert!(after.len() == 10_100 && after.keys().eq(before.keys()), "{format:?}");
        }
    });
}
