//! The conversation as a client has it, and as nobody should.

use crate::serve;
use crate::wire::{HANDLES_MAX, PACKET_BYTES_MAX, READ_BYTES_MAX, kind};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tempfile::TempDir;

const READ: u32 = 1;
const WRITE_CREATE: u32 = 2 | 8;

/// A request's content after its number.
#[derive(Debug, Default, Clone)]
struct Body(Vec<u8>);

impl Body {
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn string(self, value: &[u8]) -> Self {
        let mut body = self.u32(value.len() as u32);
        body.0.extend(value);
        body
    }

    fn path(self, path: &Path) -> Self {
        self.string(path.as_os_str().as_bytes())
    }
}

fn request(kind: u8, id: u32, body: Body) -> Vec<u8> {
    let mut packet = ((body.0.len() + 5) as u32).to_be_bytes().to_vec();
    packet.push(kind);
    packet.extend(id.to_be_bytes());
    packet.extend(body.0);
    packet
}

/// All answers to all requests: kind, number, content.
fn converse(requests: &[Vec<u8>]) -> VecDeque<(u8, u32, Vec<u8>)> {
    let (mut out, mut answers) = (Vec::new(), VecDeque::new());
    serve(requests.concat().as_slice(), &mut out, Path::new("/nowhere")).expect("a conversation");
    let mut rest = out.as_slice();
    while let Some((length, packet)) = rest.split_first_chunk() {
        let (packet, after) = packet.split_at(u32::from_be_bytes(*length) as usize);
        let id = u32::from_be_bytes(packet[1..5].try_into().expect("a number"));
        answers.push_back((packet[0], id, packet[5..].to_vec()));
        rest = after;
    }
    answers
}

fn status(answer: &(u8, u32, Vec<u8>)) -> u32 {
    assert_eq!(answer.0, kind::STATUS, "{answer:?}");
    u32::from_be_bytes(answer.2[..4].try_into().expect("a code"))
}

/// The first handle of a conversation.
fn handle() -> Body {
    Body::default().string(&[0; 4])
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn a_file_is_written_and_read_in_pieces() {
    let dir = dir();
    let file = dir.path().join("file");
    let answers = converse(&[
        request(kind::OPEN, 1, Body::default().path(&file).u32(WRITE_CREATE | READ).u32(4).u32(0o640)),
        request(kind::WRITE, 2, handle().u64(3).string(b"def")),
        request(kind::WRITE, 3, handle().u64(0).string(b"abc")),
        request(kind::READ, 4, handle().u64(1).u32(100)),
        request(kind::READ, 5, handle().u64(6).u32(100)),
        request(kind::CLOSE, 6, handle()),
        request(kind::READ, 7, handle().u64(0).u32(1)),
    ]);
    let kinds: Vec<_> = answers.iter().map(|(kind, id, _)| (*kind, *id)).collect();
    let expected = [
        (kind::HANDLE, 1),
        (kind::STATUS, 2),
        (kind::STATUS, 3),
        (kind::DATA, 4),
        (kind::STATUS, 5),
        (kind::STATUS, 6),
        (kind::STATUS, 7),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(answers[3].2, Body::default().string(b"bcdef").0);
    assert_eq!([1, 2, 4, 5, 6].map(|at| status(&answers[at])), [0, 0, 1, 0, 4]);
    assert_eq!(std::fs::read(&file).expect("a file"), b"abcdef");
}

#[test]
fn a_read_is_never_longer_than_a_packet() {
    let dir = dir();
    let file = dir.path().join("file");
    std::fs::write(&file, vec![7; 2 * PACKET_BYTES_MAX]).expect("a file");
    let answers = converse(&[
        request(kind::OPEN, 1, Body::default().path(&file).u32(READ).u32(0)),
        request(kind::READ, 2, handle().u64(0).u32(u32::MAX)),
    ]);
    assert_eq!(answers[1].2.len(), 4 + READ_BYTES_MAX);
}

#[test]
fn handles_are_few_and_given_back() {
    let dir = dir();
    let open = |id| request(kind::OPENDIR, id, Body::default().path(dir.path()));
    let mut requests: Vec<_> = (0..=HANDLES_MAX as u32).map(open).collect();
    requests.push(request(kind::CLOSE, 1000, handle()));
    requests.push(open(1001));
    let answers = converse(&requests);
    assert_eq!(status(&answers[HANDLES_MAX]), 4);
    assert_eq!(answers[HANDLES_MAX + 2].0, kind::HANDLE);
}

#[test]
fn a_rename_replaces_only_by_the_extension() {
    let dir = dir();
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    std::fs::write(&one, "1").expect("a file");
    std::fs::write(&two, "2").expect("a file");
    let names = Body::default().path(&one).path(&two);
    let posix =
        Body(Body::default().string(b"posix-rename@openssh.com").0.into_iter().chain(names.0.clone()).collect());
    let answers = converse(&[request(kind::RENAME, 1, names), request(kind::EXTENDED, 2, posix)]);
    assert_eq!((status(&answers[0]), status(&answers[1])), (4, 0));
    assert_eq!(std::fs::read(&two).expect("a file"), b"1");
}

#[test]
fn a_large_directory_is_listed_whole() {
    let dir = dir();
    for number in 0..1000 {
        std::fs::write(dir.path().join(format!("{number:0200}")), "").expect("a file");
    }
    let mut requests = vec![request(kind::OPENDIR, 0, Body::default().path(dir.path()))];
    requests.extend((1..=20).map(|id| request(kind::READDIR, id, handle())));
    let names: u32 = converse(&requests)
        .iter()
        .filter(|(kind, ..)| *kind == kind::NAME)
        .map(|(_, _, content)| u32::from_be_bytes(content[..4].try_into().expect("a count")))
        .sum();
    assert_eq!(names, 1002, "with . and ..");
}

#[test]
fn a_packet_of_impossible_length_ends_the_conversation() {
    for length in [0, PACKET_BYTES_MAX as u32 + 1, u32::MAX] {
        let mut stream = length.to_be_bytes().to_vec();
        stream.resize(64, 0);
        assert!(serve(stream.as_slice(), Vec::new(), Path::new("/nowhere")).is_err(), "{length}");
    }
}

/// Kinds that change nothing: what is random here must not reach files that are not ours.
const HARMLESS: &[u8] = &[
    kind::CLOSE,
    kind::READ,
    kind::LSTAT,
    kind::FSTAT,
    kind::OPENDIR,
    kind::READDIR,
    kind::REALPATH,
    kind::STAT,
    kind::READLINK,
    0,
    21,
    99,
    201,
    255,
];

/// Any request below a directory of our own, with anything in it. What changes files starts with a path in there.
fn wild(dir: &Path) -> impl Strategy<Value = Vec<u8>> + use<> {
    let dir = dir.as_os_str().as_bytes().to_vec();
    let name = prop::collection::vec(any::<u8>(), 1..4).prop_map(|mut name| {
        name.iter_mut().filter(|byte| b"/.".contains(byte)).for_each(|byte| *byte = b'x');
        name
    });
    let path = name.prop_map(move |name| Body::default().string(&[&dir, &b"/"[..], &name].concat())).boxed();
    let first = prop_oneof![path.clone(), Just(handle())];
    let field = prop_oneof![
        path,
        prop::sample::select(vec![0_u32, 1, 2, 0o777, 8, 15, u32::MAX]).prop_map(|value| Body::default().u32(value)),
        (0..1_u64 << 20).prop_map(|value| Body::default().u64(value)),
    ];
    let orderly = (kind::OPEN..=kind::SYMLINK, first, prop::collection::vec(field, 0..4));
    let orderly = orderly
        .prop_map(|(kind, first, rest)| (kind, [first].into_iter().chain(rest).flat_map(|field| field.0).collect()));
    let garbage = (prop::sample::select(HARMLESS), prop::collection::vec(any::<u8>(), 0..64));
    prop_oneof![orderly, garbage].prop_map(|(kind, body): (u8, Vec<u8>)| request(kind, 77, Body(body)))
}

/// Failures are told with their input; nothing is written beside the source.
fn runner() -> TestRunner {
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })
}

#[test]
fn whatever_is_framed_is_answered_once() {
    let dir = dir();
    let conversation = prop::collection::vec(wild(dir.path()), 0..30);
    let answered = runner().run(&conversation, |requests| {
        let answers = converse(&requests);
        prop_assert_eq!(answers.len(), requests.len());
        prop_assert!(answers.iter().all(|(_, id, _)| *id == 77));
        Ok(())
    });
    answered.expect("an answer to each");
}

#[test]
fn garbage_does_no_harm() {
    let stream = prop::collection::vec(any::<u8>(), 0..200);
    let survived = runner().run(&stream, |stream| {
        let mut out = Vec::new();
        let _ = serve(stream.as_slice(), &mut out, Path::new("/nowhere"));
        Ok(())
    });
    survived.expect("no panic");
}
