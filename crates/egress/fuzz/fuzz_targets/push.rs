//! The commands of a push, wherever the bytes are cut: the same, and none outside of the limits is let through.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rexec_egress::github::{BadPush, COMMANDS_BYTES_MAX, COMMANDS_MAX, Commands, Grant, Push, Site, reply};

fn read<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Result<Commands, BadPush> {
    let mut push = Push::new();
    for part in parts {
        if let Some(commands) = push.feed(part)? {
            return Ok(commands);
        }
    }
    push.end()
}

/// Well-formed around what is made up: names, capabilities and what may hide in them, parted by 0xff.
fn commands(made_up: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for name in made_up.split(|&byte| byte == 0xff) {
        let text = [format!("{0} {0} refs/heads/", "1".repeat(40)).as_bytes(), name].concat();
        body.extend_from_slice(format!("{:04x}", text.len() + 4).as_bytes());
        body.extend_from_slice(&text);
    }
    body.extend_from_slice(b"0000");
    body
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, body)) = data.split_first() else { return };
    let made = commands(body);
    let body = if cut & 1 == 0 || made.len() > COMMANDS_BYTES_MAX { body } else { &made };
    let whole = read(std::iter::once(body));
    assert_eq!(read(body.chunks(usize::from(*cut).max(1))), whole);
    let Ok(commands) = whole else { return };
    assert!(
        commands.all.len() <= COMMANDS_MAX
            && commands.all.iter().map(|one| one.name.len()).sum::<usize>() < COMMANDS_BYTES_MAX
    );
    let grant = Grant {
        site: Site::Public,
        repositories: Vec::new(),
        branches: vec!["agent/*".parse().expect("branches")],
        write: true,
        apart: true,
    };
    let within = |name: &str| {
        name.strip_prefix("refs/heads/agent/").is_some_and(|rest| !rest.is_empty() && !rest.contains(".."))
    };
    match grant.judge_push(&commands) {
        Ok(()) => assert!(commands.all.iter().all(|command| within(&command.name))),
        Err(why) => {
            let report = reply(&commands, why.as_str());
            assert_eq!(report.is_some(), commands.report);
            assert!(report.is_none_or(|report| report.ends_with(b"0000")));
        }
    }
});
