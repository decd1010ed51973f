//! The answer to a push that was not passed on: git shows the reason beside every ref, as it does those of a server.
//!
//! ```text
//!   report = LINE("unpack ok" LF) *LINE("ng" SP ref SP why LF) flush
//!   answer = report | *LINE(1 part-of-report) flush                        the latter in side-band-64k
//! ```
//!
//! It is sent as [`RESULT_TYPE`], with status 200, once the request has been read: git reads no answer before it has sent all.

use super::push::Commands;

/// Its `Content-Type`.
pub const RESULT_TYPE: &str = "application/x-git-receive-pack-result";

/// The longest packet (gitprotocol-common), without its length.
const PACKET_BYTES_MAX: usize = 65_516;
/// Where the report is (gitprotocol-pack, side-band).
const BAND_REPORT: u8 = 1;
/// More of a reason is cut off.
const WHY_BYTES_MAX: usize = 500;

/// None of the commands was done. `None`: git wants no report, or there was no command.
pub fn reply(commands: &Commands, why: &str) -> Option<Vec<u8>> {
    if !commands.report || commands.all.is_empty() {
        return None;
    }
    let why = one_line(why);
    let mut report = Vec::new();
    add_packet(&mut report, &[b"unpack ok\n"]);
    for command in &commands.all {
        add_packet(&mut report, &[b"ng ", command.name.as_bytes(), b" ", why.as_bytes(), b"\n"]);
    }
    add_flush(&mut report);
    if !commands.side_band {
        return Some(report);
    }
    let mut answer = Vec::with_capacity(report.len() + 16);
    for part in report.chunks(PACKET_BYTES_MAX - 1) {
        add_packet(&mut answer, &[&[BAND_REPORT], part]);
    }
    add_flush(&mut answer);
    Some(answer)
}

/// Without what a terminal would obey, and never empty: it would be no reason.
fn one_line(why: &str) -> String {
    let mut line = String::new();
    for character in why.chars().map(|one| if one.is_control() { ' ' } else { one }) {
        if line.len() + character.len_utf8() > WHY_BYTES_MAX {
            break;
        }
        line.push(character);
    }
    match line.trim() {
        "" => "refused".into(),
        line => line.into(),
    }
}

fn add_packet(to: &mut Vec<u8>, parts: &[&[u8]]) {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    to.extend_from_slice(format!("{:04x}", bytes + 4).as_bytes());
    parts.iter().for_each(|part| to.extend_from_slice(part));
}

fn add_flush(to: &mut Vec<u8>) {
    to.extend_from_slice(b"0000");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::push::Command;
    use super::*;

    fn commands(names: &[&str], side_band: bool) -> Commands {
        let command = |name: &&str| Command { old: "0".repeat(40), new: "1".repeat(40), name: (*name).into() };
        Commands { all: names.iter().map(command).collect(), side_band, report: true }
    }

    /// Lines, and how often a flush came.
    fn packets(mut bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let (mut lines, mut flushes) = (Vec::new(), 0);
        while !bytes.is_empty() {
            let length = usize::from_str_radix(std::str::from_utf8(&bytes[..4]).unwrap(), 16).unwrap();
            assert!(length == 0 || (5..=PACKET_BYTES_MAX + 4).contains(&length));
            flushes += usize::from(length == 0);
            if length > 0 {
                lines.push(bytes[4..length].to_vec());
            }
            bytes = &bytes[length.max(4)..];
        }
        (lines, flushes)
    }

    #[test]
    fn each_command_is_refused() {
        let plain = reply(&commands(&["refs/heads/a", "refs/tags/b"], false), "no\n").unwrap();
        let expected = "000eunpack ok\n0017ng refs/heads/a no\n0016ng refs/tags/b no\n0000";
        assert_eq!(String::from_utf8(plain).unwrap(), expected);
        let banded = reply(&commands(&["refs/heads/a"], true), "no").unwrap();
        assert_eq!(String::from_utf8(banded).unwrap(), "002e\u{1}000eunpack ok\n0017ng refs/heads/a no\n00000000");
    }

    #[test]
    fn who_wants_no_report_gets_none() {
        assert_eq!(reply(&Commands { report: false, ..commands(&["refs/heads/a"], true) }, "no"), None);
        assert_eq!(reply(&commands(&[], true), "no"), None);
    }

    #[test]
    fn no_packet_is_too_long() {
        let names: Vec<String> = (0..1000).map(|at| format!("refs/heads/{at}{}", "n".repeat(240))).collect();
        let commands = commands(&names.iter().map(String::as_str).collect::<Vec<_>>(), true);
        let (bands, flushes) = packets(&reply(&commands, &"\u{e9}".repeat(1000)).unwrap());
        assert_eq!(flushes, 1);
        let whole: Vec<u8> = bands.iter().flat_map(|band| &band[1..]).copied().collect();
        assert!(bands.iter().all(|band| band[0] == BAND_REPORT) && bands.len() > 10);
        let (lines, flushes) = packets(&whole);
        assert_eq!((lines.len(), flushes), (1001, 1));
        assert!(lines.iter().all(|line| std::str::from_utf8(line).unwrap().ends_with('\n')));
    }

    #[test]
    fn a_reason_is_one_line() {
        for (why, line) in [("a\r\nb\u{1b}[31m\u{9b}c", "a  b [31m c"), (" \n", "refused"), ("", "refused")] {
            assert_eq!(one_line(why), line);
        }
        assert_eq!(one_line(&"\u{e9}".repeat(400)).len(), WHY_BYTES_MAX);
    }
}
