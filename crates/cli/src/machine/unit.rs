//! A unit of systemd that keeps this machine joined, as whoever has joined it.

use super::state::Known;
use crate::failure::{Failure, Result};
use crate::private_file;
use rustix::process::geteuid;

/// How a process ends that systemd is not to start again: as `failure` has it, what no time mends.
const ENDS_FOR_GOOD: &str = "2 3 4 5";

/// The text of the unit.
pub fn unit(known: &Known, insecure_http: bool) -> Result<String> {
    let program = std::env::current_exe().map_err(Failure::io("the path of this program"))?;
    let program = program.to_str().ok_or_else(|| Failure::Other("The path of this program is not UTF-8.".into()))?;
    let mut environment = vec![("HOME", private_file::home()?.display().to_string())];
    let config = std::env::var("XDG_CONFIG_HOME").ok().filter(|value| !value.is_empty());
    environment.extend(config.map(|config| ("XDG_CONFIG_HOME", config)));
    // Here alone a variable would be put in.
    let mut command = format!("{} join {}", quoted(program), quoted(&known.server)).replace('$', "$$");
    if insecure_http {
        command.push_str(" --insecure-http");
    }
    Ok(text(&command, &known.server, geteuid().as_raw(), &environment))
}

fn text(command: &str, server: &str, uid: u32, environment: &[(&str, String)]) -> String {
    let environment: String = environment
        .iter()
        .map(|(name, value)| format!("Environment={}\n", quoted(&format!("{name}={value}"))))
        .collect();
    format!(
        "[Unit]\n\
         Description=Rexec: this machine at {server}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         ExecStart={command}\n\
         User={uid}\n\
         {environment}\
         Restart=on-failure\n\
         RestartSec=10\n\
         RestartPreventExitStatus={ENDS_FOR_GOOD}\n\
         KillMode=mixed\n\
         OOMPolicy=continue\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// A word as systemd.syntax(7) and systemd.unit(5) read it: no escape and no specifier in it means anything.
fn quoted(word: &str) -> String {
    let mut text = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' => text.push_str("%%"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_says_what_to_run_and_as_whom() {
        let text = text("rexec join x", "https://a.example", 1000, &[("HOME", "/h/50%".into())]);
        assert!(text.contains("\nExecStart=rexec join x\nUser=1000\nEnvironment=\"HOME=/h/50%%\"\nRestart="), "{text}");
        assert_eq!(quoted("a \"b\" \\c%"), r#""a \"b\" \\c%%""#);
    }
}
