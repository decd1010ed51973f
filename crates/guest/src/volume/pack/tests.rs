use super::super::tests::{Described, describe};
use super::stream::{Packer, Unpacker};
use super::{Digest, Refused, Told};
use crate::tar::{Head, padding, record};
use proptest::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, linkat, lsetxattr, mkfifoat, mknodat, utimensat,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn pack(about: impl Read, root: &Path, home: &Path, to: impl Write) -> std::io::Result<()> {
    super::pack(about, root, home, &mut Digest::wanted(false), to)
}

fn unpack(from: impl Read, root: &Path, home: &Path, say: impl Write) -> Result<[Told; 2], Refused> {
    super::unpack(from, root, home, &mut Digest::wanted(false), say)
}

/// Two trees to pack and two to unpack into, with something outside of them that must stay.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["root", "home", "to-root", "to-home"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("outside"), "mine").unwrap();
        Self { dir }
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pack(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        pack(&b"{\"name\":\"mine\"}"[..], &self.path("root"), &self.path("home"), &mut archive).unwrap();
        archive
    }

    fn unpack(&self, archive: &[u8]) -> Result<(Value, [Told; 2]), Refused> {
        let mut said = Vec::new();
        let told = unpack(archive, &self.path("to-root"), &self.path("to-home"), &mut said);
        self.assert_confined();
        let told = told?;
        Ok((serde_json::from_slice(&said).unwrap(), told))
    }

    fn assert_confined(&self) {
        assert_eq!(fs::read(self.path("outside")).unwrap(), b"mine");
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 5);
    }

    fn trees(&self, prefix: &str) -> [BTreeMap<PathBuf, Described>; 2] {
        ["root", "home"].map(|tree| describe(&self.path(format!("{prefix}{tree}"))))
    }

    #[track_caller]
    fn assert_refused(&self, archive: &[u8], what: &str) {
        match self.unpack(archive) {
            Err(Refused::Invalid(why) | Refused::TooLarge(why)) => assert!(why.contains(what), "{what}: {why}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

fn fill(bench: &Bench) {
    let (root, home) = (bench.path("root"), bench.path("home"));
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/su"), "setuid").unwrap();
    fs::set_permissions(root.join("usr/bin/su"), PermissionsExt::from_mode(0o4755)).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    fs::create_dir(root.join("tmp")).unwrap();
    fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::write(root.join("closed/in"), "in").unwrap();
    fs::set_permissions(root.join("closed"), PermissionsExt::from_mode(0o500)).unwrap();
    fs::write(home.join(OsStr::from_bytes(b"\xff\xfe name \n")), "odd").unwrap();
    let long = home.join("long".repeat(40));
    fs::create_dir(&long).unwrap();
    fs::write(long.join("n".repeat(200)), vec![7; 300_000]).unwrap();
    symlink("t".repeat(500), home.join("far")).unwrap();
    symlink(OsStr::from_bytes(b"\xff/x"), home.join("odd-link")).unwrap();
    linkat(CWD, home.join("far"), CWD, home.join("far-too"), AtFlags::empty()).unwrap();
    fs::hard_link(long.join("n".repeat(200)), home.join("hard")).unwrap();
    mkfifoat(CWD, home.join("pipe"), Mode::from_raw_mode(0o620)).unwrap();
    mknodat(CWD, home.join("whiteout"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    fs::write(home.join("empty"), "").unwrap();
    let value = b"\0binary=\n".as_slice();
    for path in ["empty", ""] {
        lsetxattr(home.join(path), "user.colour", value, XattrFlags::empty()).unwrap();
    }
    lsetxattr(home.join("empty"), "user.a=b%3D", value, XattrFlags::empty()).unwrap();
    let sparse = File::create(home.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"here", 10 << 20).unwrap();
    sparse.write_all_at(b"and here", 40 << 20).unwrap();
    File::create(home.join("hole")).unwrap().set_len(1 << 20).unwrap();
    let early = Timespec { tv_sec: -5, tv_nsec: 250_000_000 };
    let times = Timestamps { last_access: early, last_modification: early };
    utimensat(CWD, home.join("hard"), &times, AtFlags::empty()).unwrap();
}

#[test]
fn what_goes_out_comes_back() {
    let bench = Bench::new();
    fill(&bench);
    let archive = bench.pack();
    assert!(archive.len() < 64 * 1024, "holes are not in it: {}", archive.len());
    let (manifest, [root, home]) = bench.unpack(&archive).unwrap();
    assert_eq!(manifest["name"], "mine");
    assert_eq!((manifest["root"]["entries"].as_u64().unwrap(), root.bytes), (8, 8));
    assert!(home.bytes < 400_000 && manifest["home"] == json!(home), "{home:?}");
    assert_eq!(bench.trees(""), bench.trees("to-"));
    let sparse = fs::metadata(bench.path("to-home/sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
    let mut value = [0; 32];
    let length = rustix::fs::getxattr(bench.path("to-home/empty"), "user.a=b%3D", &mut value).unwrap();
    assert_eq!(&value[..length], b"\0binary=\n");
}

/// The home lies in the root, under a name of our own; what the image has where workspaces mount is not seen in one.
#[test]
fn what_holds_the_mounts_and_what_they_cover_is_left_out() {
    let bench = Bench::new();
    let root = bench.path("root");
    for directory in ["home/user", "home/other", ".rexec-0123/home/user"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("home/user/covered"), "the image's").unwrap();
    fs::write(root.join("home/other/kept"), "the image's").unwrap();
    symlink("home/other", root.join(".rexec")).unwrap();
    fs::write(root.join(".rexec-0123/home/user/mine"), "mine").unwrap();
    let mut archive = Vec::new();
    pack(&b"{}"[..], &root, &root.join(".rexec-0123/home/user"), &mut archive).unwrap();
    let (manifest, _) = bench.unpack(&archive).unwrap();
    assert_eq!(manifest["root"]["entries"], 5);
    let [root, home] = bench.trees("to-").map(|tree| tree.into_keys().collect::<Vec<_>>());
    assert_eq!(root, ["", "home", "home/other", "home/other/kept", "home/user"].map(PathBuf::from));
    assert_eq!(home, ["", "mine"].map(PathBuf::from));
}

/// An archive is no format of ours alone.
#[test]
fn another_tar_reads_it() {
    let bench = Bench::new();
    fill(&bench);
    let plain = plain(&bench.pack());
    let into = tempfile::tempdir().unwrap();
    fs::write(into.path().join("a.tar"), plain).unwrap();
    let done = std::process::Command::new("tar")
        .args(["-x", "-p", "-f", "a.tar", "--xattrs", "--xattrs-include=user.*", "-C"])
        .arg(into.path())
        .current_dir(into.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(bench.trees(""), ["root", "home"].map(|tree| describe(&into.path().join(tree))));
}

fn plain(archive: &[u8]) -> Vec<u8> {
    let mut unpacker = Unpacker::new(archive).unwrap();
    let mut plain = Vec::new();
    loop {
        let bytes = unpacker.next(u64::MAX).unwrap();
        if bytes.is_empty() {
            return plain;
        }
        plain.extend_from_slice(bytes);
    }
}

fn packed(plain: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut packer = Packer::new(&mut archive).unwrap();
    packer.put(plain).unwrap();
    packer.finish().unwrap();
    archive
}

/// An entry of an archive made by hand.
#[derive(Debug, Clone)]
struct Forged {
    kind: u8,
    name: Vec<u8>,
    target: Vec<u8>,
    content: Vec<u8>,
    records: Vec<u8>,
}

fn forged(kind: u8, name: &str, rest: &str) -> Forged {
    let [mut target, mut content] = [Vec::new(), Vec::new()];
    if kind == b'0' { &mut content } else { &mut target }.extend_from_slice(rest.as_bytes());
    Forged { kind, name: name.into(), target, content, records: Vec::new() }
}

fn forge(root: (u64, u64), home: (u64, u64), entries: &[Forged]) -> Vec<u8> {
    let told = |(entries, bytes)| json!({ "entries": entries, "bytes": bytes, "size": bytes });
    let manifest = json!({ "root": told(root), "home": told(home) }).to_string();
    let first = forged(b'0', "manifest.json", &manifest);
    let mut plain = Vec::new();
    for entry in [first].iter().chain(entries) {
        let size = entry.content.len() as u64;
        let head = Head {
            name: &entry.name,
            kind: entry.kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size,
            mtime: 0,
            target: &entry.target,
        };
        head.write(entry.records.clone(), &mut plain);
        if entry.kind == b'3' {
            let at = plain.len() - 512;
            become_device(&mut plain[at..]);
        }
        plain.extend_from_slice(&entry.content);
        plain.resize(plain.len() + padding(size), 0);
    }
    plain.resize(plain.len() + 1024, 0);
    packed(&plain)
}

/// Gives a header the number of `/dev/null`.
fn become_device(head: &mut [u8]) {
    let mut put = |at: usize, text: String| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(329, format!("{:07o}", 1));
    put(337, format!("{:07o}", 3));
    put(148, " ".repeat(8));
    let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
    head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

#[test]
fn what_is_not_as_we_write_it_is_refused() {
    let root = forged(b'5', "root/", "");
    let home = forged(b'5', "home/", "");
    let with = |bad: &[Forged]| [std::slice::from_ref(&root), bad, std::slice::from_ref(&home)].concat();
    let one = |bad: Forged| forge((2, bad.content.len() as u64), (1, 0), &with(&[bad]));
    Bench::new().unpack(&one(forged(b'0', "root/a", "a"))).unwrap();
    for (archive, what) in [
        (one(forged(b'0', "root/../outside", "x")), "leads out"),
        (one(forged(b'0', "root//etc", "x")), "absolute"),
        (one(forged(b'0', "/etc/x", "x")), "less of root"),
        (one(forged(b'0', "root/a/b", "x")), "before its directory"),
        (one(forged(b'0', "root/./b", "x")), "not where it should be"),
        (one(forged(b'5', "root/", "")), "not where it should be"),
        (one(forged(b'3', "root/null", "")), "is a device"),
        (one(forged(b'4', "root/disk", "")), "is a device"),
        (one(forged(b'7', "root/x", "")), "unknown kind"),
        (one(forged(b'1', "root/x", "../outside")), "leads out"),
        (one(forged(b'1', "root/x", "home/a")), "leads out"),
        (one(forged(b'1', "root/x", "root/y")), "not in the archive"),
        (one(forged(b'2', "root/x", "")), "no path"),
        (forge((2, 0), (1, 0), &with(&[forged(b'0', "root/a", "more")])), "more than the manifest"),
        (forge((1, 9), (1, 0), &with(&[forged(b'0', "root/a", "more")])), "more than the manifest"),
        (forge((2, 9), (1, 0), &with(&[forged(b'0', "root/a", "less")])), "less of root"),
        (forge((3, 0), (1, 0), &with(&[])), "less of root"),
        (forge((1, 0), (1, 0), &[home.clone(), root.clone()]), "less of root"),
        (forge((1, 0), (1, 0), &[root.clone(), home.clone(), forged(b'5', "more/", "")]), "follows its trees"),
        (forge((1, u64::MAX), (1, 0), &with(&[])), "room for"),
        (forge((u64::MAX, 0), (1, 0), &with(&[])), "entries"),
        ([one(forged(b'0', "root/a", "a")), b"x".to_vec()].concat(), "something follows"),
        (packed(b""), "too early"),
        (packed(&[0; 2048]), "no tar"),
        (b"PK\x03\x04 is a zip".to_vec(), "not compressed"),
        (b"abc".to_vec(), "too early"),
    ] {
        Bench::new().assert_refused(&archive, what);
    }
}

#[test]
fn no_link_leads_out() {
    let bench = Bench::new();
    let outside = bench.dir.path().to_str().unwrap().to_owned();
    let entries = [
        forged(b'5', "root/", ""),
        forged(b'2', "root/way", &outside),
        forged(b'0', "root/way/outside", "theirs"),
        forged(b'5', "home/", ""),
    ];
    bench.assert_refused(&forge((3, 6), (1, 0), &entries), "before its directory");
    // A file takes a link's place, and is not written through it.
    let entries = [
        forged(b'5', "root/", ""),
        forged(b'2', "root/way", &format!("{outside}/outside")),
        forged(b'0', "root/way", "theirs"),
        forged(b'5', "home/", ""),
    ];
    bench.unpack(&forge((3, 6), (1, 0), &entries)).unwrap();
    assert_eq!(fs::read(bench.path("to-root/way")).unwrap(), b"theirs");
}

#[test]
fn records_and_attributes_are_held_to() {
    let with = |key: &[u8], value: &[u8]| {
        let mut file = forged(b'0', "root/a", "a");
        record(&mut file.records, key, value);
        forge((2, 1), (1, 0), &[forged(b'5', "root/", ""), file, forged(b'5', "home/", "")])
    };
    let huge = vec![b'x'; 2 << 20];
    for (key, value, what) in [
        (b"SCHILY.xattr.security.capability".as_slice(), b"x".as_slice(), "nobody may set"),
        (b"SCHILY.xattr.trusted.overlay.opaque", b"y", "nobody may set"),
        (b"uid", b"4294967295", "owner"),
        (b"uid", b"-1", "cannot be read"),
        (b"mtime", b"soon", "cannot be read"),
        (b"comment", b"x", "no archive of ours"),
        (b"path", b"root/../x", "leads out"),
        (b"GNU.sparse.realsize", b"99999999999999999999", "cannot be read"),
        (b"GNU.sparse.realsize", b"5", "not sparse"),
        (b"SCHILY.xattr.user.x", &huge, "more than a MiB"),
    ] {
        Bench::new().assert_refused(&with(key, value), what);
    }
}

impl Bench {
    fn digest(&self) -> [u8; 32] {
        let mut digest = Digest::wanted(true);
        super::pack(&b"{}"[..], &self.path("root"), &self.path("home"), &mut digest, std::io::sink()).unwrap();
        digest.finish().unwrap()
    }
}

#[test]
fn what_is_made_has_the_digest_of_what_was_packed() {
    let bench = Bench::new();
    fill(&bench);
    let archive = bench.pack();
    let mut made = Digest::wanted(true);
    super::unpack(&archive[..], &bench.path("to-root"), &bench.path("to-home"), &mut made, std::io::sink()).unwrap();
    let made = made.finish().unwrap();
    assert_eq!(bench.digest(), made);

    // Whatever differs, it differs.
    let home = bench.path("home");
    let time = Timespec { tv_sec: 1, tv_nsec: 1 };
    let times = Timestamps { last_access: time, last_modification: time };
    let changes: [(&str, &dyn Fn()); 7] = [
        ("content", &|| fs::write(home.join("empty"), "x").unwrap()),
        ("a hole's end", &|| File::options().write(true).open(home.join("hole")).unwrap().set_len(2 << 20).unwrap()),
        ("a mode", &|| fs::set_permissions(home.join("empty"), PermissionsExt::from_mode(0o640)).unwrap()),
        ("an attribute", &|| lsetxattr(home.join("empty"), "user.colour", b"red", XattrFlags::empty()).unwrap()),
        ("a time", &|| utimensat(CWD, home.join("empty"), &times, AtFlags::empty()).unwrap()),
        ("a name", &|| fs::rename(home.join("hard"), home.join("harder")).unwrap()),
        ("a link's end", &|| {
            fs::remove_file(home.join("far")).and_then(|()| symlink("near", home.join("far"))).unwrap()
        }),
    ];
    let mut before = made;
    for (what, change) in changes {
        change();
        let after = bench.digest();
        assert_ne!(before, after, "{what}");
        before = after;
    }
}

#[test]
fn what_is_cut_or_changed_is_refused() {
    let bench = Bench::new();
    fs::write(bench.path("home/a"), "some content that is long enough to be something").unwrap();
    let archive = bench.pack();
    for length in 0..archive.len() {
        assert!(Bench::new().unpack_quietly(&archive[..length]).is_err(), "{length} of {}", archive.len());
    }
    for at in 0..archive.len() {
        let mut changed = archive.clone();
        changed[at] ^= 1;
        let other = Bench::new();
        // A changed bit of the frame's head may mean the same.
        if other.unpack_quietly(&changed).is_ok() {
            assert_eq!(fs::read(other.path("to-home/a")).unwrap(), fs::read(bench.path("home/a")).unwrap(), "{at}");
        }
        other.assert_confined();
    }
}

impl Bench {
    fn unpack_quietly(&self, archive: &[u8]) -> Result<[Told; 2], Refused> {
        unpack(archive, &self.path("to-root"), &self.path("to-home"), std::io::sink())
    }
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        3 => Just("root"), 2 => Just("home"), 2 => Just("a"), 1 => Just("b"), 1 => Just(".."), 1 => Just("."), 1 => Just(""), 1 => Just("outside"),
    ];
    proptest::collection::vec(part, 1..5).prop_map(|parts| parts.join("/").into_bytes())
}

fn any_entry() -> impl Strategy<Value = Forged> {
    let kind = prop_oneof![
        3 => Just(b'0'), 1 => Just(b'1'), 2 => Just(b'2'), 3 => Just(b'5'), 1 => Just(b'6'), 1 => Just(b'3'),
        1 => any::<u8>(),
    ];
    let sparse = proptest::option::of(0u64..3000);
    (kind, any_name(), any_name(), proptest::collection::vec(any::<u8>(), 0..20), sparse).prop_map(
        |(kind, name, target, content, sparse)| {
            let mut records = Vec::new();
            if let Some(size) = sparse {
                record(&mut records, b"GNU.sparse.realsize", size.to_string().as_bytes());
            }
            Forged { kind, name, target, content, records }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever it says, it harms nobody.
    #[test]
    fn forged_archives_stay_inside(
        entries in proptest::collection::vec(any_entry(), 0..8),
        root in (0u64..5, 0u64..50),
        home in (0u64..5, 0u64..50),
    ) {
        let bench = Bench::new();
        let head = [forged(b'5', "root/", "")];
        let _ = bench.unpack_quietly(&forge(root, home, &[&head[..], &entries].concat()));
        bench.assert_confined();
    }

    #[test]
    fn changed_blocks_stay_inside(at in 0usize..8192, bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
        let bench = Bench::new();
        fs::write(bench.path("home/a"), "a").unwrap();
        File::create(bench.path("home/hole")).unwrap().set_len(1 << 20).unwrap();
        let mut plain = plain(&bench.pack());
        let at = at % plain.len();
        let count = bytes.len().min(plain.len() - at);
        plain[at..at + count].copy_from_slice(&bytes[..count]);
        let _ = bench.unpack_quietly(&packed(&plain));
        bench.assert_confined();
    }
}
