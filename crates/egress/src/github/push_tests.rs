#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const ZERO: &str = "0000000000000000000000000000000000000000";
const ONE: &str = "a2621009758c0a943c42a9133b26a7d0664e5534";
const TWO: &str = "bb0834dc4a140fcc73e2f3a8a751f01ce6e8202b";
/// As git 2.47 writes them.
const CAPABILITIES: &str = " report-status-v2 side-band-64k quiet object-format=sha1 agent=git/2.47.3";

fn line(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [format!("{:04x}", text.len() + 4).as_bytes(), text].concat()
}

/// What git sends: a command, capabilities, other commands, a flush and a pack.
fn request(names: &[&str]) -> Vec<u8> {
    let mut all = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let capabilities = if at == 0 { format!("\0{CAPABILITIES}") } else { String::new() };
        all.extend(line(format!("{ZERO} {ONE} {name}{capabilities}")));
    }
    [&all[..], b"0000PACK\0\0\0\x020000not a line"].concat()
}

/// What comes of a whole body, cut into such parts.
fn read<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Commands, BadPush> {
    let mut push = Push::new();
    let mut found = None;
    for part in parts {
        match push.feed(part)? {
            Some(commands) => assert!(found.replace(commands).is_none(), "given twice"),
            None => assert!(found.is_none() || push.stage == Stage::Read),
        }
        assert!(push.held.len() <= COMMANDS_BYTES_MAX);
    }
    found.map_or_else(|| push.end(), Ok)
}

fn names(body: &[u8]) -> Result<Vec<String>, BadPush> {
    read([body]).map(|commands| commands.all.into_iter().map(|command| command.name).collect())
}

/// A body that git's own reader might take, and ours does not.
fn refused(body: impl AsRef<[u8]>) -> String {
    read([body.as_ref()]).unwrap_err().to_string()
}

#[test]
fn a_push_is_read_as_git_sends_it() {
    let commands = read([&request(&["refs/heads/main", "refs/tags/v1"])[..]]).unwrap();
    let command = |name: &str| Command { old: ZERO.into(), new: ONE.into(), name: name.into() };
    assert_eq!(commands.all, [command("refs/heads/main"), command("refs/tags/v1")]);
    assert!(commands.side_band && commands.report);
}

#[test]
fn all_that_git_sends_is_read() {
    let shallow = line(format!("shallow {TWO}\n"));
    let first = line(format!("{ZERO} {ONE} refs/heads/agent/t\0{CAPABILITIES}"));
    let options = line(format!("{ONE} {TWO} refs/heads/a\0 report-status atomic push-options agent=git/2.47.3"));
    let deleted = line(format!("{ONE} {ZERO} refs/heads/a\0{CAPABILITIES}"));
    let long = "n".repeat(244);
    let longest = line(format!("{ZERO} {ONE} refs/heads/{long}\0{CAPABILITIES}"));
    let sha256 = |id: &str| id.repeat(64);
    let other_ids = line(format!("{} {} refs/heads/main\0 object-format=sha256", sha256("0"), sha256("e")));
    let bare = line(format!("{ONE} {TWO} refs/heads/a"));
    let ended = line(format!("{ONE} {TWO} refs/heads/a\0report-status\n"));
    let second = line(format!("{ONE} {TWO} refs/heads/b\n"));
    for (lines, expected, side_band, report) in [
        (vec![&shallow, &shallow, &first], &["refs/heads/agent/t"][..], true, true),
        (vec![&options], &["refs/heads/a"], false, true),
        (vec![&deleted], &["refs/heads/a"], true, true),
        (vec![&longest], &[&*format!("refs/heads/{long}")], true, true),
        (vec![&other_ids], &["refs/heads/main"], false, false),
        (vec![&bare, &second], &["refs/heads/a", "refs/heads/b"], false, false),
        (vec![&ended, &second], &["refs/heads/a", "refs/heads/b"], false, true),
    ] {
        let mut body: Vec<u8> = lines.into_iter().flatten().copied().collect();
        body.extend_from_slice(b"0000");
        assert_eq!(names(&body).unwrap(), expected);
        let commands = read([&body[..]]).unwrap();
        assert_eq!((commands.side_band, commands.report), (side_band, report), "{expected:?}");
    }
}

#[test]
fn git_may_ask_first() {
    assert_eq!(read([&b"0000"[..]]), Ok(Commands::default()));
    assert_eq!(read([&b"00"[..], b"", b"00", b""]), Ok(Commands::default()));
    let mut push = Push::new();
    assert_eq!(push.feed(b"0000"), Ok(None), "what follows is not known yet");
    assert!(matches!(push.feed(b"0"), Err(BadPush::Strange(_))));
    assert!(matches!(push.end(), Err(BadPush::Strange(_))));
    let hidden = [b"0000", &request(&["refs/heads/main"])[..]].concat();
    assert!(refused(hidden).contains("something follows"));
}

#[test]
fn what_is_not_whole_is_refused() {
    let whole = request(&["refs/heads/main", "refs/heads/b"]);
    let end = whole.windows(4).position(|part| part == b"PACK").unwrap();
    for length in 0..end {
        assert_eq!(read([&whole[..length]]), Err(BadPush::Short), "{length}");
    }
    assert!(read([&whole[..end]]).is_ok());
}

#[test]
fn what_follows_is_not_looked_at() {
    let mut push = Push::new();
    assert_eq!(push.feed(&request(&["refs/heads/a"])).unwrap().unwrap().all.len(), 1);
    assert_eq!(push.feed(&request(&["refs/heads/main"])), Ok(None));
    assert!(push.end().is_err(), "it was given");
}

#[test]
fn other_packets_are_refused() {
    let first = line(format!("{ZERO} {ONE} refs/heads/a\0{CAPABILITIES}"));
    for header in ["0001", "0002", "0003", "0004"] {
        assert!(refused(header).contains("neither a line nor a flush"), "{header}");
        let between = [&first, header.as_bytes(), &first, b"0000"].concat();
        assert!(refused(between).contains("neither a line nor a flush"), "{header}");
    }
    for header in ["00AF", "0x41", "+041", " 041", "004\n", "\x1f\x0b\x08\0", "PACK"] {
        assert!(refused(header).contains("length of a line"), "{header}");
    }
    assert!(refused("0009ERR no").contains("no command"));
    assert!(refused("0005\n0000").contains("no command"));
    assert!(refused([&line("push-options"), &b"0000"[..]].concat()).contains("no command"));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let first = line(format!("{ZERO} {ONE} refs/heads/agent/a\0{CAPABILITIES}"));
    let after = |text: String| refused([&first, &line(text)[..], b"0000"].concat());
    assert!(after(format!("{ZERO} {ONE} refs/heads/agent/b\0 atomic")).contains("capabilities"));
    assert!(after(format!("{ZERO} {ONE} refs/heads/agent/b\0")).contains("capabilities"));
    assert!(after(format!("shallow {TWO}")).contains("shallow"));
    assert!(after("shallow ".into()).contains("shallow"));
    assert!(after("shallow".into()).contains("no command"));
    assert_eq!(after(format!("{ZERO} {TWO} refs/heads/agent/a")), BadPush::Twice.to_string());
    assert_eq!(after("push-cert".into()), BadPush::Signed.to_string());
    assert!(after(format!("{ONE}{TWO} {ONE} refs/heads/b")).contains("id"));
    assert!(after(format!("{} {} refs/heads/b", ONE.to_uppercase(), ONE)).contains("id"));
    assert!(after(format!("{}  {} refs/heads/b", ONE, TWO)).contains("id"));
    assert!(after(format!("{ONE}\t{TWO} refs/heads/b")).contains("no command"));
    assert!(after(format!("{ONE} {TWO}")).contains("no command"));
    assert!(after(format!("{} {TWO} refs/heads/b", &ONE[1..])).contains("id"));
    let only = |text: String| refused([&line(text)[..], b"0000"].concat());
    assert!(only(format!("{ZERO} {ONE} refs/heads/a\0 report-status\0 atomic")).contains("plain text"));
    assert!(only(format!("{ZERO} {ONE} refs/heads/a\0 agent=caf\u{e9}")).contains("plain text"));
    assert!(only(format!("{ZERO} {ONE} refs/heads/a\0 quiet\n\n")).contains("plain text"));
    assert!(only(format!("{ZERO} {ONE} refs/heads/a\0 object-format=sha256")).contains("format"));
    assert!(only(format!("{0} {0} refs/heads/a", "e".repeat(64))).contains("format"));
    assert!(only(format!("{0} {0} refs/heads/a\0 object-format=sha512", "e".repeat(64))).contains("format"));
    assert!(only(format!("shallow {TWO}")).contains("no command"));
    assert!(only(format!("shallow {TWO}\0 atomic")).contains("id"));
    assert!(only(format!("shallow  {TWO}")).contains("id"));
}

#[test]
fn refs_that_git_has_not_are_refused() {
    for name in [
        "",
        "main",
        "HEAD",
        "refs/",
        "refs/heads/",
        "/refs/heads/a",
        "Refs/heads/a",
        " refs/heads/a",
        "refs/heads/a ",
        "refs/heads/a\n",
        "refs/heads/a\r",
        "refs/heads/a refs/heads/main",
        "refs/heads//a",
        "refs//heads/a",
        "refs/heads/./a",
        "refs/heads/agent/../main",
        "refs/heads/agent/..",
        "refs/heads/.a",
        "refs/heads/a.lock",
        "refs/heads/a.",
        "refs/heads/a*",
        "refs/heads/a^{}",
        "refs/heads/a:b",
        "refs/heads/a\\b",
        "refs/heads/a@{1}",
        "refs/heads/a\u{7f}",
    ] {
        let body = [&line(format!("{ZERO} {ONE} {name}\0{CAPABILITIES}"))[..], b"0000"].concat();
        assert_eq!(read([&body[..]]), Err(BadPush::Ref), "{name:?}");
    }
    let odd = [format!("{ZERO} {ONE} refs/heads/agent/").as_bytes(), b"\xff\0"].concat();
    assert_eq!(read([&[&line(odd)[..], b"0000"].concat()[..]]), Err(BadPush::Ref));
    assert_eq!(read([&request(&[&format!("refs/heads/{}", "n".repeat(245))])[..]]), Err(BadPush::Ref));
}

/// As git sends it with `--signed`, shortened.
#[test]
fn a_signed_push_is_refused() {
    let mut body = line("push-cert\0 report-status-v2 side-band-64k object-format=sha1");
    for text in ["certificate version 0.1\n", "nonce 1\n", "\n", "a2 b2 refs/heads/main\n", "push-cert-end\n"] {
        body.extend(line(text));
    }
    body.extend_from_slice(b"0000");
    assert_eq!(read([&body[..]]), Err(BadPush::Signed));
}

#[test]
fn there_are_bounds() {
    let some: Vec<String> = (0..=COMMANDS_MAX).map(|at| format!("refs/t/{at}")).collect();
    let some: Vec<&str> = some.iter().map(String::as_str).collect();
    assert_eq!(names(&request(&some[..COMMANDS_MAX])).unwrap().len(), COMMANDS_MAX);
    assert_eq!(read([&request(&some)[..]]), Err(BadPush::TooLong));
    let long: Vec<String> = (0..500).map(|at| format!("refs/heads/{at}{}", "n".repeat(240))).collect();
    assert_eq!(read([&request(&long.iter().map(String::as_str).collect::<Vec<_>>())[..]]), Err(BadPush::TooLong));
    let shallow = line(format!("shallow {TWO}")).repeat(COMMANDS_BYTES_MAX / 40);
    assert_eq!(read([&shallow[..]]), Err(BadPush::TooLong));
    let pack = [&request(&["refs/heads/a"])[..], &vec![b'x'; 2 * COMMANDS_BYTES_MAX]].concat();
    assert_eq!(names(&pack).unwrap(), ["refs/heads/a"]);
}

/// Lines as they should be and as they should not, in any order.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![4 => Just(ONE.to_owned()), 2 => Just(ZERO.to_owned()), 1 => "[0-9a-fA-F]{38,41}"];
    let name = "refs/(heads|tags)/[a-c]{1,2}|refs/heads/(agent/)?[a-c./ ~]{1,4}|\\PC{0,6}";
    let capabilities =
        prop_oneof![3 => Just(String::new()), 2 => Just(format!("\0{CAPABILITIES}")), 1 => "\0[ -~]{0,9}"];
    let command = (id.clone(), id, name, capabilities, "\n?")
        .prop_map(|(old, new, name, capabilities, end)| line(format!("{old} {new} {name}{capabilities}{end}")));
    let part = prop_oneof![
        8 => command,
        1 => Just(line(format!("shallow {TWO}\n"))),
        2 => Just(b"0000".to_vec()),
        1 => "000[0-5]".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..9),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

/// What git's own reader would move, read far more laxly: any packet that is a line, up to whatever ends the list.
fn moved(body: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut all) = (body, Vec::new());
    while let Some((header, after)) = rest.split_at_checked(4) {
        let digits = std::str::from_utf8(header).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(length) = digits.filter(|length| *length > 4) else { break };
        let Some((text, after)) = after.split_at_checked(length - 4) else { break };
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.split(|&byte| byte == 0).next().unwrap();
        if !text.starts_with(b"shallow ") {
            all.push(text.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default().to_vec());
        }
        rest = after;
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn where_a_body_is_cut_is_the_same(body in any_body(), sizes in prop::collection::vec(0..50_usize, 0..9)) {
        let mut parts = Vec::new();
        let mut rest = &body[..];
        for size in sizes {
            let (part, after) = rest.split_at(size.min(rest.len()));
            parts.push(part);
            rest = after;
        }
        parts.push(rest);
        prop_assert_eq!(read(parts), read([&body[..]]));
        prop_assert_eq!(read(body.chunks(1)), read([&body[..]]));
    }

    #[test]
    fn every_ref_that_git_would_move_is_among_the_commands(body in any_body()) {
        if let Ok(commands) = read([&body[..]]) {
            let names: Vec<Vec<u8>> = commands.all.into_iter().map(|command| command.name.into_bytes()).collect();
            prop_assert_eq!(names, moved(&body));
        }
    }
}
