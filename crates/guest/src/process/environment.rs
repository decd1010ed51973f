//! The environment that a program starts with: built from nothing, so that none of the guest's own
//! variables (its key above all) can reach a user's program.

use rexec_api::guest::UserSpec;
use std::collections::BTreeMap;

pub(super) const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Later layers win: what every login has, then what the workspace configures and what the request asks for. `mount`
/// is where the guest's own programs are.
pub(super) fn build(
    user: &UserSpec,
    shell: &str,
    layers: [&BTreeMap<String, String>; 2],
    mount: Option<&str>,
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
    for (name, value) in layers.into_iter().flatten() {
        env.insert(name.clone(), value.clone());
    }
    if let (Some(path), Some(mount)) = (env.get_mut("PATH"), mount) {
        append_own_programs(path, mount);
    }
    env
}

/// The guest's own programs (`sudo` among them) come last, so that the image's win.
fn append_own_programs(path: &mut String, mount: &str) {
    let own = format!("{mount}/current/bin");
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
        let env = build(&user, "/bin/sh", [&configured, &requested], Some("/.rexec"));
        assert_eq!(env["PATH"], "/opt/bin:/.rexec/current/bin");
        assert_eq!((env["LANG"].as_str(), env["TERM"].as_str()), ("de_DE.UTF-8", "dumb"));
        assert_eq!((env["HOME"].as_str(), env["SHELL"].as_str()), ("/home/user", "/bin/sh"));
        let again = build(&user, "/bin/sh", [&env, &BTreeMap::new()], Some("/.rexec"));
        assert_eq!(again["PATH"], env["PATH"]);
        let on_machine = build(&user, "/bin/sh", [&configured, &requested], None);
        assert_eq!(on_machine["PATH"], "/opt/bin");
    }
}
