use super::copy::{Copy, Pass, Summary};
use proptest::prelude::*;
use rexec_api::guest::FILE_BYTES_MIN;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, SeekFrom, Timespec, Timestamps, XattrFlags, getxattr, linkat, lsetxattr, mkfifoat,
    mknodat, seek, utimensat,
};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;

/// What must be alike in a tree and its copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Described {
    kind: String,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    /// The first name, in order, of the same file.
    first: PathBuf,
    content: Vec<u8>,
    attribute: Option<Vec<u8>>,
}

pub(super) fn describe(root: &Path) -> BTreeMap<PathBuf, Described> {
    let mut found = BTreeMap::new();
    let mut firsts: HashMap<u64, PathBuf> = HashMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let real = root.join(&path);
        let meta = fs::symlink_metadata(&real).unwrap();
        let kind = FileType::from_raw_mode(meta.mode());
        let mut value = [0; 64];
        let content = match kind {
            FileType::Directory => {
                let mut names: Vec<PathBuf> =
                    fs::read_dir(&real).unwrap().map(|entry| path.join(entry.unwrap().file_name())).collect();
                names.sort();
                todo.extend(names.into_iter().rev());
                Vec::new()
            }
            FileType::Symlink => fs::read_link(&real).unwrap().as_os_str().as_bytes().to_vec(),
            FileType::RegularFile => fs::read(&real).unwrap(),
            _ => Vec::new(),
        };
        let first = firsts.entry(meta.ino()).or_insert_with(|| path.clone()).clone();
        let attribute = if matches!(kind, FileType::Directory | FileType::RegularFile) {
            getxattr(&real, "user.colour", &mut value).ok().map(|length| value[..length].to_vec())
        } else {
            None
        };
        let described = Described {
            kind: format!("{kind:?}"),
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            modified: (meta.mtime(), meta.mtime_nsec()),
            first,
            content,
            attribute,
        };
        found.insert(path, described);
    }
    found
}

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("from")).unwrap();
        fs::create_dir(dir.path().join("to")).unwrap();
        Self { dir }
    }

    fn from(&self) -> PathBuf {
        self.dir.path().join("from")
    }

    fn to(&self) -> PathBuf {
        self.dir.path().join("to")
    }

    fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.from().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn open(&self) -> Copy {
        Copy::open(&self.from(), &self.to()).unwrap()
    }

    fn once(&self) -> Summary {
        self.open().pass(Pass::Last).unwrap()
    }

    #[track_caller]
    fn assert_alike(&self) {
        assert_eq!(describe(&self.from()), describe(&self.to()));
    }
}

/// Waits until a change now would have another time than the file's last one.
fn let_age(path: &Path) {
    let meta = fs::metadata(path).unwrap();
    let changed = UNIX_EPOCH + Duration::new(meta.ctime() as u64, meta.ctime_nsec() as u32);
    while changed.elapsed().unwrap_or_default() < 2 * super::copy::TICK {
        std::thread::yield_now();
    }
}

#[test]
fn everything_is_kept_but_sockets() {
    let bench = Bench::new();
    let file = bench.write("file", "content");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
    lsetxattr(&file, "user.colour", b"violet", XattrFlags::empty()).unwrap();
    let named = OsStr::from_bytes(b"\xff\xfe not\nutf-8");
    fs::create_dir(bench.from().join(named)).unwrap();
    let inner = bench.write(Path::new(named).join(OsStr::from_bytes(b"\x80")), "inside");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&inner, Some(1234), Some(4321)).unwrap();
    }
    symlink("../outside", bench.from().join("link")).unwrap();
    symlink("/etc", bench.from().join("dir-link")).unwrap();
    linkat(CWD, &file, CWD, bench.from().join("other-name"), AtFlags::empty()).unwrap();
    mkfifoat(CWD, bench.from().join("pipe"), Mode::RUSR).unwrap();
    mknodat(CWD, bench.from().join("whiteout"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    let long_ago = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123 };
    let times = Timestamps { last_access: long_ago, last_modification: long_ago };
    for name in ["file", "link", "."] {
        utimensat(CWD, bench.from().join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    fs::set_permissions(bench.from(), fs::Permissions::from_mode(0o1750)).unwrap();
    // What was in the target goes.
    fs::create_dir_all(bench.to().join("old/deeper")).unwrap();
    fs::write(bench.to().join("old/deeper/file"), "old").unwrap();
    fs::write(bench.to().join("file"), "old").unwrap();

    let summary = bench.once();
    bench.assert_alike();
    assert_eq!(summary, Summary { files: 7, bytes: 7 * FILE_BYTES_MIN }, "six inodes and a directory");

    let _socket = UnixListener::bind(bench.from().join("socket")).unwrap();
    bench.once();
    assert!(!bench.to().join("socket").exists() && bench.to().join("file").exists());
}

/// In a copy nobody goes on with it.
#[test]
fn uploads_that_are_not_whole_are_left_out() {
    let bench = Bench::new();
    fs::create_dir(bench.from().join("sub")).unwrap();
    for name in [".rexec-0123.part", "sub/.rexec-4567.part", "sub/mine.part", ".rexec-notes"] {
        bench.write(name, "half");
    }
    fs::create_dir(bench.from().join(".rexec-dir.part")).unwrap();
    assert_eq!(bench.once().files, 2);
    let mut copied: Vec<_> = describe(&bench.to()).into_keys().collect();
    copied.retain(|path| path.as_os_str() != "");
    assert_eq!(copied, [".rexec-dir.part", ".rexec-notes", "sub", "sub/mine.part"].map(PathBuf::from));
}

#[test]
fn holes_stay_holes() {
    const SIZE: u64 = 1 << 30;
    let bench = Bench::new();
    let file = File::create(bench.from().join("sparse")).unwrap();
    file.set_len(SIZE).unwrap();
    for at in [0, 5 << 20, SIZE - 3] {
        file.write_all_at(b"abc", at).unwrap();
    }
    File::create(bench.from().join("nothing-but-a-hole")).unwrap().set_len(SIZE).unwrap();
    let summary = bench.once();
    assert!(summary.bytes < 1 << 20, "{summary:?}");
    let copied = File::open(bench.to().join("sparse")).unwrap();
    for at in [0, 5 << 20, SIZE - 3] {
        let mut there = [0; 3];
        copied.read_exact_at(&mut there, at).unwrap();
        assert_eq!(&there, b"abc");
    }
    let meta = copied.metadata().unwrap();
    assert!(meta.len() == SIZE && meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    assert!(seek(&copied, SeekFrom::Data(6 << 20)).unwrap() > SIZE - (1 << 20));
    let hole = fs::metadata(bench.to().join("nothing-but-a-hole")).unwrap();
    assert_eq!((hole.len(), hole.blocks()), (SIZE, 0));
}

#[test]
fn a_deep_tree_takes_few_descriptors() {
    const DEPTH: usize = 600;
    let bench = Bench::new();
    let deep: PathBuf = std::iter::repeat_n("d", DEPTH).collect();
    fs::create_dir_all(bench.from().join(&deep)).unwrap();
    bench.write(deep.join("file"), "deep");
    assert_eq!(bench.once().files, 1);
    assert_eq!(fs::read(bench.to().join(deep).join("file")).unwrap(), b"deep");
    // And again, which clears all of it.
    assert_eq!(bench.once().files, 1);
}

#[test]
fn the_second_pass_copies_what_has_changed() {
    let bench = Bench::new();
    for name in ["same-size", "gone", "becomes-dir", "linked", "mode", "attribute", "moved"] {
        bench.write(name, name);
    }
    fs::create_dir_all(bench.from().join("becomes-file/inner")).unwrap();
    fs::create_dir_all(bench.from().join("gone-dir/inner")).unwrap();
    bench.write("gone-dir/inner/file", "x");
    let mut copy = bench.open();
    copy.pass(Pass::First).unwrap();
    bench.assert_alike();

    let from = bench.from();
    let path = from.join("same-size");
    let before = fs::metadata(&path).unwrap();
    fs::write(&path, "SAME-SIZE").unwrap();
    let times = [before.atime(), before.mtime()].map(|tv_sec| Timespec { tv_sec, tv_nsec: before.mtime_nsec() as _ });
    let times = Timestamps { last_access: times[0], last_modification: times[1] };
    utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
    fs::remove_file(from.join("gone")).unwrap();
    fs::remove_dir_all(from.join("gone-dir")).unwrap();
    fs::remove_file(from.join("becomes-dir")).unwrap();
    fs::create_dir(from.join("becomes-dir")).unwrap();
    bench.write("becomes-dir/inside", "new");
    fs::remove_dir_all(from.join("becomes-file")).unwrap();
    symlink("mode", from.join("becomes-file")).unwrap();
    fs::hard_link(from.join("linked"), from.join("a-second-name")).unwrap();
    fs::set_permissions(from.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    lsetxattr(from.join("attribute"), "user.colour", b"red", XattrFlags::empty()).unwrap();
    fs::rename(from.join("moved"), from.join("moved-to")).unwrap();
    copy.pass(Pass::Last).unwrap();
    bench.assert_alike();
}

#[test]
fn what_has_not_changed_is_not_copied_again() {
    let bench = Bench::new();
    // As long as its change is too fresh it would be.
    let_age(&bench.write("old", "content"));
    bench.write("fresh", "content");
    let mut copy = bench.open();
    let first = copy.pass(Pass::First).unwrap();
    let inode = |name: &str| fs::metadata(bench.to().join(name)).unwrap().ino();
    let before = inode("old");
    // What the second pass does not touch stays as we leave it here.
    fs::write(bench.to().join("old"), "ours").unwrap();
    bench.write("fresh", "CONTENT");
    assert_eq!(copy.pass(Pass::Last).unwrap(), first);
    assert_eq!((inode("old"), fs::read(bench.to().join("old")).unwrap()), (before, b"ours".to_vec()));
    assert_eq!(fs::read(bench.to().join("fresh")).unwrap(), b"CONTENT");
}

/// A database's way: one page, written again and again without a call to the kernel.
#[test]
fn what_a_memory_map_writes_is_seen() {
    const PAGE_BYTES: usize = 4096;
    let bench = Bench::new();
    let path = bench.write("mapped", [b'0'; PAGE_BYTES]);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    // SAFETY: a new mapping of a file that stays as long as it; nothing else in this process refers to it.
    let page = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(std::ptr::null_mut(), PAGE_BYTES, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    let page = page.cast::<u8>();
    // SAFETY: within the mapping.
    let write = |value: u8| unsafe { page.write_volatile(value) };
    write(b'1');
    // Within a tick everything is copied again anyway.
    let_age(&path);
    let mut copy = bench.open();
    copy.pass(Pass::First).unwrap();
    write(b'2');
    copy.pass(Pass::Last).unwrap();
    assert_eq!(fs::read(bench.to().join("mapped")).unwrap()[0], b'2');
    // SAFETY: ours, and not used after this.
    assert_eq!(unsafe { libc::munmap(page.cast(), PAGE_BYTES) }, 0);
}

#[test]
fn a_tree_that_changes_all_the_time_is_right_once_it_rests() {
    let bench = Bench::new();
    let from = bench.from();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut round = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let dir = from.join(format!("dir-{}", round % 7));
                let _ = fs::create_dir(&dir);
                for file in 0..20 {
                    fs::write(dir.join(format!("f{file}")), format!("{round} {file}")).unwrap();
                }
                let _ = fs::rename(dir.join("f3"), from.join(format!("moved-{}", round % 5)));
                let _ = fs::remove_file(from.join("linked"));
                let _ = fs::hard_link(dir.join("f4"), from.join("linked"));
                // A place that is now a directory and now a way out.
                let place = from.join("place");
                let _ = fs::remove_file(&place);
                let _ = fs::create_dir(&place).and_then(|()| fs::write(place.join("x"), "y"));
                let _ = fs::remove_dir_all(&place);
                let _ = symlink("/etc", &place);
                let _ = fs::remove_dir_all(from.join(format!("dir-{}", (round + 3) % 7)));
                let mut log = File::options().append(true).create(true).open(from.join("log")).unwrap();
                log.write_all(&[b'x'; 5000]).unwrap();
            }
        });
        while !from.join("moved-4").exists() {
            std::thread::yield_now();
        }
        for _ in 0..20 {
            let mut copy = bench.open();
            copy.pass(Pass::First).unwrap();
            assert!(!bench.to().join("place/passwd").exists() || bench.to().join("place").is_symlink());
        }
        let mut copy = bench.open();
        copy.pass(Pass::First).unwrap();
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        copy.pass(Pass::Last).unwrap();
    });
    bench.assert_alike();
}

/// A change that a tenant may make; names are few, so that changes meet.
#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Directory(usize),
    Remove(usize),
    Move(usize, usize),
    Link(usize, usize),
    Symlink(usize, usize),
    Mode(usize, u32),
}

const NAMES: [&str; 7] = ["a", "b", "c", "d/a", "d/b", "d/e/a", "d/e"];

fn change() -> impl Strategy<Value = Change> {
    let name = || 0..NAMES.len();
    prop_oneof![
        (name(), proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(at, content)| Change::Write(at, content)),
        name().prop_map(Change::Directory),
        name().prop_map(Change::Remove),
        (name(), name()).prop_map(|(from, to)| Change::Move(from, to)),
        (name(), name()).prop_map(|(from, to)| Change::Link(from, to)),
        (name(), name()).prop_map(|(from, to)| Change::Symlink(from, to)),
        (name(), 0o400..0o1000_u32).prop_map(|(at, mode)| Change::Mode(at, mode)),
    ]
}

/// What cannot be done is left.
fn apply(root: &Path, change: &Change) {
    let at = |index: &usize| root.join(NAMES[*index]);
    let _ = match change {
        Change::Write(index, content) => fs::write(at(index), content),
        Change::Directory(index) => fs::create_dir_all(at(index)),
        Change::Remove(index) => fs::remove_file(at(index)).or_else(|_| fs::remove_dir_all(at(index))),
        Change::Move(from, to) => fs::rename(at(from), at(to)),
        Change::Link(from, to) => fs::hard_link(at(from), at(to)),
        Change::Symlink(from, to) => symlink(NAMES[*from], at(to)),
        Change::Mode(index, mode) => match fs::symlink_metadata(at(index)) {
            Ok(meta) if meta.is_file() => fs::set_permissions(at(index), fs::Permissions::from_mode(*mode)),
            _ => Ok(()),
        },
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]

    #[test]
    fn after_the_last_pass_the_copy_is_the_tree(
        before in proptest::collection::vec(change(), 0..20),
        after in proptest::collection::vec(change(), 0..20),
    ) {
        let bench = Bench::new();
        before.iter().for_each(|change| apply(&bench.from(), change));
        let mut copy = bench.open();
        copy.pass(Pass::First).unwrap();
        prop_assert_eq!(describe(&bench.from()), describe(&bench.to()));
        after.iter().for_each(|change| apply(&bench.from(), change));
        copy.pass(Pass::Last).unwrap();
        prop_assert_eq!(describe(&bench.from()), describe(&bench.to()));
    }
}
