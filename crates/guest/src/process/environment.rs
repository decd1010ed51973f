//! The environment that a program starts with: built from nothing, so that none of the guest's own
//! variables (its key above all) can reach a user's program.

use rexec_api::guest::{MOUNT, UserSpec};
use std::collections::BTreeMap;

pub(super) const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Later layers win: what every login has, what the workspace configures, what the request asks for.
pub(super) fn build(
    user: &UserSpec,
    shell: &str,
    configured: &BTreeMap<String, String>,
    requested: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = [
        ("COLORTERM", "truecolor"),
        ("HOME", user.home.as_str()),
        ("LANG", "C.UTF-8"),
        ("LOGNAME", user.name.as_str()),
        ("PATH", PATH_DEFAULT),
        ("SHELL", shell),
        ("TERM", "xterm-256color"),
        ("USER", user.name.as_str()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    for (name, value) in configured.iter().chain(requested) {
        env.insert(name.clone(), value.clone());
    }
    if let Some(path) = env.get_mut("PATH") {
        append_own_programs(path);
    }
    env
}

/// The guest's own programs (`sudo` among them) come last, so that the image's win.
fn append_own_programs(path: &mut String) {
    let own = format!("{MOUNT}/current/bin");
    if path.split(':').any(|entry| entry == own) {
        return;
    }
    if !path.is_empty() {
        path.push(':');
    }
    path.push_str(&own);
}

/// Whether the operating system can carry this variable.
pub(super) fn is_valid(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win_and_the_own_programs_come_last_once() {
        let user = UserSpec::default();
        let configured =
            BTreeMap::from([("LANG".to_owned(), "de_DE.UTF-8".to_owned()), ("PATH".to_owned(), "/opt/bin".to_owned())]);
        let requested = BTreeMap::from([("TERM".to_owned(), "dumb".to_owned())]);
        let env = build(&user, "/bin/sh", &configured, &requested);
        assert_eq!(env["PATH"], "/opt/bin:/.rexec/current/bin");
        assert_eq!((env["LANG"].as_str(), env["TERM"].as_str()), ("de_DE.UTF-8", "dumb"));
        assert_eq!((env["HOME"].as_str(), env["SHELL"].as_str()), ("/home/user", "/bin/sh"));
        let again = build(&user, "/bin/sh", &env, &BTreeMap::new());
        assert_eq!(again["PATH"], env["PATH"]);
    }
}
