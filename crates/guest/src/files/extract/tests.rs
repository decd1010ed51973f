//! Archives that are none, or almost: nothing of them panics, and nothing comes to lie outside.

use super::super::archive::whole;
use super::Extractor;
use proptest::prelude::*;
use rexec_api::error::ErrorCode;
use rexec_api::files::ArchiveFormat;
use rexec_api::guest::GuestError;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::LazyLock;

const FORMATS: [ArchiveFormat; 3] = [ArchiveFormat::Tar, ArchiveFormat::TarZst, ArchiveFormat::Zip];

/// A valid archive of each format.
static VALID: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/file"), "content".repeat(100)).unwrap();
    fs::write(dir.path().join("n".repeat(150)), "long").unwrap();
    symlink("../../outside", dir.path().join("a/link")).unwrap();
    FORMATS.map(|format| whole(dir.path(), format).unwrap())
});

fn extract(into: &Path, format: ArchiveFormat, archive: &[u8], piece: usize) -> Result<(), GuestError> {
    let mut extractor = Extractor::begin(into, format)?;
    for piece in archive.chunks(piece.max(1)) {
        extractor.feed(piece)?;
    }
    while extractor.finish()?.is_none() {}
    Ok(())
}

/// Extracts beside what must not change.
fn confined(format: ArchiveFormat, archive: &[u8], piece: usize) -> Result<(), GuestError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("outside"), "mine").unwrap();
    let done = extract(&dir.path().join("into"), format, archive, piece);
    assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"mine");
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["into", "outside"]);
    done
}

#[test]
fn the_valid_ones_are_valid() {
    for (format, archive) in FORMATS.into_iter().zip(VALID.iter()) {
        confined(format, archive, 7).unwrap();
    }
}

/// What a directory holds, each with its content.
fn listed(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let mut listed: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap_or_default()))
        .collect();
    listed.sort();
    listed
}

#[test]
fn of_an_entry_that_is_refused_half_way_nothing_is_left() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("file"), [7; 3000]).unwrap();
    for format in FORMATS {
        let mut archive = whole(&from.path().join("file"), format).unwrap();
        match format {
            ArchiveFormat::Zip => {
                let at = archive.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
                // The sum of the content.
                archive[at + 16] ^= 1;
            }
            ArchiveFormat::Tar => archive.truncate(2000),
            ArchiveFormat::TarZst => archive.truncate(archive.len() - 5),
        }
        for before in [None, Some(b"old".as_slice())] {
            let into = tempfile::tempdir().unwrap();
            if let Some(before) = before {
                fs::write(into.path().join("file"), before).unwrap();
            }
            let refused = extract(into.path(), format, &archive, 100).unwrap_err();
            assert_eq!(refused.code, ErrorCode::ArchiveInvalid, "{format:?}: {}", refused.message);
            let left: Vec<_> = before.iter().map(|&before| ("file".to_owned(), before.to_vec())).collect();
            assert_eq!(listed(into.path()), left, "{format:?}");
        }
    }
}

/// A zip of which every entry is all of one large file, `entries` times.
fn overlapping(entries: usize, says: u32) -> Vec<u8> {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("file"), [0; 3000]).unwrap();
    let zip = whole(&from.path().join("file"), ArchiveFormat::Zip).unwrap();
    let place = |mark: &[u8]| zip.windows(4).position(|four| four == mark).unwrap();
    let (begins, ends, last) = (place(b"PK\x01\x02"), place(b"PK\x06\x06"), place(b"PK\x05\x06"));
    let mut entry = zip[begins..ends].to_vec();
    entry[24..28].copy_from_slice(&says.to_le_bytes());
    // The last record of 32 bits alone, which counts to 65,535.
    let mut end = zip[last..].to_vec();
    for at in [8, 10] {
        end[at..at + 2].copy_from_slice(&u16::try_from(entries).unwrap().to_le_bytes());
    }
    [&zip[..begins], &entry.repeat(entries), &end].concat()
}

#[test]
fn what_the_disk_has_no_room_for_stops_before_anything_is_made() {
    let into = tempfile::tempdir().unwrap();
    // 260 TB, said in 4 MB.
    let refused = extract(into.path(), ArchiveFormat::Zip, &overlapping(65_000, 4_000_000_000), 1 << 20).unwrap_err();
    assert_eq!(refused.code, ErrorCode::ArchiveTooLarge, "{}", refused.message);
    assert!(refused.message.contains("260000000000000 bytes"), "{}", refused.message);
    // 8 EB in a tar: the head's size by GNU's base 256.
    let mut tar = VALID[0].clone();
    let at = tar.chunks_exact(512).position(|block| &block[257..262] == b"ustar" && block[156] == b'0').unwrap() * 512;
    tar[at + 124..at + 136].copy_from_slice(&[0x80, 0, 0, 0, 0x70, 0, 0, 0, 0, 0, 0, 0]);
    mend_sums(&mut tar);
    let refused = extract(into.path(), ArchiveFormat::Tar, &tar[at..], 1 << 20).unwrap_err();
    assert_eq!(refused.code, ErrorCode::ArchiveTooLarge, "{}", refused.message);
    assert_eq!(listed(into.path()), []);
}

#[test]
fn an_entry_that_holds_more_than_it_says_is_refused() {
    let into = tempfile::tempdir().unwrap();
    extract(into.path(), ArchiveFormat::Zip, &overlapping(2, 3000), 1 << 20).unwrap();
    let into = tempfile::tempdir().unwrap();
    let refused = extract(into.path(), ArchiveFormat::Zip, &overlapping(1, 2999), 1 << 20).unwrap_err();
    assert_eq!(refused.code, ErrorCode::ArchiveInvalid);
    assert!(refused.message.contains("more than it says"), "{}", refused.message);
    assert_eq!(listed(into.path()), []);
}

#[test]
fn what_lies_below_a_link_is_refused_by_its_own_name() {
    let from = tempfile::tempdir().unwrap();
    fs::create_dir_all(from.path().join("s/deep")).unwrap();
    fs::write(from.path().join("s/deep/evil2"), "").unwrap();
    let archive = whole(&from.path().join("s"), ArchiveFormat::Tar).unwrap();
    let into = tempfile::tempdir().unwrap();
    symlink("/", into.path().join("s")).unwrap();
    // Its first entry is the directory `s`; without it the file's own comes first.
    for (begin, name) in [(0, "\"s\" is a directory"), (1024, "\"s/deep/evil2\" lies below")] {
        let refused = extract(into.path(), ArchiveFormat::Tar, &archive[begin..], 512).unwrap_err();
        assert!(refused.message.contains(name), "{}", refused.message);
    }
}

/// A change to an archive: bytes at a place taken away, others put there.
fn changes() -> impl Strategy<Value = Vec<(usize, usize, Vec<u8>)>> {
    let bytes = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..12),
        1 => Just(b"../../outside".to_vec()),
        1 => Just(b"/etc/outside\0".to_vec()),
        1 => Just(vec![0xff; 8]),
        1 => Just(vec![0; 512]),
    ];
    proptest::collection::vec((any::<usize>(), 0usize..16, bytes), 1..4)
}

fn change(valid: &[u8], changes: &[(usize, usize, Vec<u8>)]) -> Vec<u8> {
    let mut changed = valid.to_vec();
    for (at, taken, put) in changes {
        let at = at % (changed.len() + 1);
        let end = (at + taken).min(changed.len());
        changed.splice(at..end, put.iter().copied());
    }
    changed
}

/// Makes the sums of a tar's headers right again, so that what they say is looked at.
fn mend_sums(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_do_no_harm(archive in proptest::collection::vec(any::<u8>(), 0..2000), piece in 1usize..600) {
        for format in FORMATS {
            let _ = confined(format, &archive, piece);
        }
    }

    #[test]
    fn changed_archives_do_no_harm(changes in changes(), piece in 1usize..2000) {
        for (format, valid) in FORMATS.into_iter().zip(VALID.iter()) {
            let _ = confined(format, &change(valid, &changes), piece);
        }
    }

    #[test]
    fn changed_headers_with_right_sums_do_no_harm(
        places in proptest::collection::vec((0usize..8, 0usize..512, any::<u8>()), 1..6),
        piece in 1usize..2000,
    ) {
        let mut tar = VALID[0].clone();
        for (block, at, byte) in places {
            let at = (block * 512 + at) % tar.len();
            tar[at] = byte;
        }
        mend_sums(&mut tar);
        let _ = confined(ArchiveFormat::Tar, &tar, piece);
    }
}
