//! Lines as `ls -l` writes them, for clients that show them as they are.

use rustix::fs::{FileType, Stat};
use std::collections::HashMap;

/// As much of `/etc/passwd` or `/etc/group` as is read.
const ACCOUNTS_BYTES_MAX: usize = 256 * 1024;
/// Younger files are shown with their time, older ones with their year.
const RECENT_SECONDS: i64 = 182 * 24 * 3600;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Names by number, read when they are first asked for.
#[derive(Default)]
pub struct Accounts {
    users: Option<HashMap<u32, String>>,
    groups: Option<HashMap<u32, String>>,
}

fn names(path: &str) -> HashMap<u32, String> {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[..text.len().min(ACCOUNTS_BYTES_MAX)]).into_owned();
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    text.lines().filter_map(entry).collect()
}

fn name(names: &HashMap<u32, String>, number: u32) -> String {
    names.get(&number).cloned().unwrap_or_else(|| number.to_string())
}

impl Accounts {
    /// The line for one file.
    pub fn line(&mut self, file: &[u8], stat: &Stat, now: i64) -> Vec<u8> {
        let user = name(self.users.get_or_insert_with(|| names("/etc/passwd")), stat.st_uid);
        let group = name(self.groups.get_or_insert_with(|| names("/etc/group")), stat.st_gid);
        let (mode, date) = (mode(stat.st_mode), date(stat.st_mtime, now));
        let mut line =
            format!("{mode} {:>4} {user:<8} {group:<8} {:>8} {date} ", stat.st_nlink, stat.st_size).into_bytes();
        line.extend_from_slice(file);
        line
    }
}

fn mode(mode: u32) -> String {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, set, alone) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = mode >> shift & 0o7;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => set,
            (false, true) => alone,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// In UTC.
fn date(seconds: i64, now: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(86400));
    let month = MONTHS[month];
    let of_day = seconds.rem_euclid(86400);
    if seconds <= now && now - seconds < RECENT_SECONDS {
        format!("{month} {day:>2} {:02}:{:02}", of_day / 3600, of_day / 60 % 60)
    } else {
        format!("{month} {day:>2} {year:>5}")
    }
}

/// Year, month from 0 and day of a day counted from 1970. Years are counted from March, so that a leap day is the
/// last of its year; 400 of them have 146097 days.
fn civil(days: i64) -> (i64, usize, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let january_or_february = month >= 10;
    let month = if january_or_february { month - 10 } else { month + 2 };
    (era * 400 + year + i64::from(january_or_february), month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::{civil, date, mode};

    #[test]
    fn days_are_told_as_the_calendar_has_them() {
        assert_eq!(civil(0), (1970, 0, 1));
        assert_eq!(civil(-1), (1969, 11, 31));
        assert_eq!(civil(11_016), (2000, 1, 29));
        assert_eq!(civil(11_017), (2000, 2, 1));
        assert_eq!(civil(20_778), (2026, 10, 21));
    }

    #[test]
    fn recent_files_are_shown_with_their_time() {
        let now = 20_778 * 86_400 + 3_661;
        assert_eq!(date(now, now), "Nov 21 01:01");
        assert_eq!(date(0, now), "Jan  1  1970");
        assert_eq!(date(now + 100, now), "Nov 21  2026");
    }

    #[test]
    fn modes_are_told_as_ls_tells_them() {
        assert_eq!(mode(0o100_644), "-rw-r--r--");
        assert_eq!(mode(0o041_777), "drwxrwxrwt");
        assert_eq!(mode(0o104_655), "-rwSr-xr-x");
    }
}
