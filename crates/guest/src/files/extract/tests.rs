//! Archives that are none, or almost: nothing of them panics, and nothing comes to lie outside.

use super::super::archive::whole;
use super::Extractor;
use proptest::prelude::*;
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
