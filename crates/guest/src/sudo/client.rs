//! The `sudo` command itself.

use super::NAME;
use super::arguments::{Arguments, Mode, USAGE, parse};
use super::relay;
use super::wire::{Request, What};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

/// What `sudo` itself answers when it cannot do what was asked.
const FAILURE: u8 = 1;
/// Kept without being asked: what makes a terminal usable and the network reachable.
const KEPT_VARIABLES: [&str; 14] = [
    "COLORTERM",
    "DISPLAY",
    "EDITOR",
    "LANG",
    "LANGUAGE",
    "NO_COLOR",
    "TERM",
    "TZ",
    "ALL_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "DEBIAN_FRONTEND",
    "SSH_AUTH_SOCK",
];

pub fn run(words: Vec<OsString>) -> ExitCode {
    let words: Result<Vec<String>, _> = words.into_iter().map(OsString::into_string).collect();
    let parsed = words.map_err(|_| "arguments must be UTF-8".to_owned()).and_then(parse);
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(fault) => {
            eprintln!("sudo: {fault}\n{USAGE}");
            return ExitCode::from(FAILURE);
        }
    };
    match arguments.mode {
        Mode::Help => println!("{USAGE}"),
        Mode::Version => println!("sudo (rexec) {}", env!("CARGO_PKG_VERSION")),
        Mode::Forget => {}
        _ => return perform(arguments),
    }
    ExitCode::SUCCESS
}

fn perform(arguments: Arguments) -> ExitCode {
    let list = arguments.mode == Mode::List;
    match request(arguments).and_then(relay::perform) {
        Ok(code) => {
            if list && code == 0 {
                println!("You may run every command in this workspace, as any user, without a password.");
            }
            // A code is 0 to 255; anything else is not an exit code.
            ExitCode::from(u8::try_from(code).unwrap_or(FAILURE))
        }
        Err(error) => {
            eprintln!("sudo: {}", explain(&error));
            ExitCode::from(FAILURE)
        }
    }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            format!("the workspace's PID 1 does not answer on {NAME}: {error}")
        }
        _ => error.to_string(),
    }
}

fn request(arguments: Arguments) -> io::Result<Request> {
    let cwd = match arguments.cwd {
        Some(cwd) => std::path::absolute(cwd)?,
        None => std::env::current_dir().unwrap_or_else(|_| "/".into()),
    };
    let mut env = kept(std::env::vars_os(), arguments.keep_env, &arguments.keep);
    env.extend(arguments.env);
    let command = arguments.command;
    let what = match arguments.mode {
        Mode::Validate | Mode::List => What::Validate,
        Mode::Shell => What::Shell { command, program: std::env::var("SHELL").ok() },
        Mode::Login => What::Login { command },
        _ => What::Run { command },
    };
    Ok(Request {
        what,
        user: arguments.user,
        cwd: cwd.to_string_lossy().into_owned(),
        env,
        terminal: relay::terminal_size(),
    })
}

/// Identity and search path are the target's even when everything is kept.
fn kept(
    all: impl Iterator<Item = (OsString, OsString)>,
    everything: bool,
    names: &[String],
) -> BTreeMap<String, String> {
    let theirs = ["HOME", "LOGNAME", "PATH", "SHELL", "USER", "MAIL"];
    let keep = |name: &str| {
        names.iter().any(|kept| kept == name)
            || (everything && !theirs.contains(&name))
            || KEPT_VARIABLES.iter().any(|kept| kept.eq_ignore_ascii_case(name))
            || name.starts_with("LC_")
    };
    all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| keep(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_the_targets_but_for_what_is_kept() {
        let all = || {
            ["HOME", "TERM", "LC_ALL", "SECRET", "http_proxy", "PATH"]
                .into_iter()
                .map(|name| (OsString::from(name), OsString::from("x")))
        };
        let names = |env: BTreeMap<String, String>| env.into_keys().collect::<Vec<_>>();
        assert_eq!(names(kept(all(), false, &[])), ["LC_ALL", "TERM", "http_proxy"]);
        assert_eq!(names(kept(all(), true, &[])), ["LC_ALL", "SECRET", "TERM", "http_proxy"]);
        assert_eq!(names(kept(all(), false, &["HOME".into()])), ["HOME", "LC_ALL", "TERM", "http_proxy"]);
    }
}
