//! Which repositories can be cloned, and how that is done: pure.
//!
//! An address is one of `https://`, `http://`, `ssh://` and `git://`, or `user@host:path`. It holds no password:
//! it is stored, shown and logged. It is handed to git in a variable and behind `--`, never as text of a script.

use crate::error::{Error, Result};
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{GIT_BRANCH_BYTES_MAX, GIT_URL_BYTES_MAX};
use std::collections::BTreeMap;

/// How long a clone may take.
pub const CLONE_TIMEOUT_S: u32 = 3600;
/// What a clone's script ends with when there is no git.
pub const NO_GIT: i32 = 127;
/// And when something else lies where the repository is to be.
pub const IN_THE_WAY: i32 = 73;

/// Cloned beside and renamed, so that a clone that was ended leaves nothing that looks like one.
pub const SCRIPT: &str = r#"
command -v git >/dev/null 2>&1 || { echo "There is no git in this image." >&2; exit 127; }
to=$HOME/$REXEC_GIT_DIRECTORY
from=$HOME/.rexec-clone-$REXEC_GIT_NAME
if [ -e "$to" ]; then
  [ "$(git -C "$to" config --get rexec.clone 2>/dev/null)" = "$REXEC_GIT_NAME" ] && exit 0
  echo "There is something at $to already." >&2
  exit 73
fi
rm -rf "$from"
if [ -n "$REXEC_GIT_CREDENTIALS" ]; then
  trap 'rm -f "$REXEC_GIT_CREDENTIALS"' EXIT
  trap 'exit 143' HUP INT TERM
  helper='!f() { test "$1" != get || cat "$REXEC_GIT_CREDENTIALS"; }; f'
  git() { command git -c credential.helper= -c "credential.$REXEC_GIT_ORIGIN.helper=$helper" "$@"; }
fi
if [ -n "$REXEC_GIT_BRANCH" ]; then
  git clone --progress --branch "$REXEC_GIT_BRANCH" -- "$REXEC_GIT_URL" "$from"
else
  git clone --progress -- "$REXEC_GIT_URL" "$from"
fi
git -C "$from" config rexec.clone "$REXEC_GIT_NAME"
mv "$from" "$to"
"#;

/// Where the script's credentials lie until it has ended: in memory where the workspace has such a place.
/// They are in no argument, variable or configuration, and no snapshot finds them.
pub const CREDENTIALS_IN: [&str; 2] = ["/dev/shm", "/tmp"];

/// What git says of a host that wants credentials, or others.
const REFUSALS: [&str; 3] = ["Authentication failed for", "could not read Username", "could not read Password"];

/// Whether the end of git's output says that credentials are wanted.
pub fn wants_credentials(output: &str) -> bool {
    REFUSALS.iter().any(|refusal| output.contains(refusal))
}

/// The host that credentials may be sent to: over TLS, or within the workspace.
pub fn host_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split('/').next().filter(|host| !host.is_empty())?;
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.contains(']') { host } else { name });
    let is_inside = matches!(name, "localhost" | "[::1]")
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    match scheme {
        "https" => Some(host),
        "http" if is_inside => Some(host),
        _ => None,
    }
}

/// What git asks its helper for. A name or password has no line breaks, which `registries` sees to.
pub fn credentials(username: &str, password: &str) -> String {
    format!("username={username}\npassword={password}\n")
}

/// What the script reads when there are credentials at `path`.
pub fn credential_variables(url: &str, path: &str) -> [(String, String); 2] {
    let origin_end = url.find("://").map_or(0, |at| at + 3);
    let end = url[origin_end..].find('/').map_or(url.len(), |at| origin_end + at);
    [("REXEC_GIT_CREDENTIALS".to_owned(), path.to_owned()), ("REXEC_GIT_ORIGIN".to_owned(), url[..end].to_owned())]
}

/// What the script reads.
pub fn variables(workspace: WorkspaceId, url: &str, branch: Option<&str>) -> BTreeMap<String, String> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    BTreeMap::from([
        pair("REXEC_GIT_URL", url),
        pair("REXEC_GIT_BRANCH", branch.unwrap_or_default()),
        pair("REXEC_GIT_DIRECTORY", &directory(url)),
        pair("REXEC_GIT_NAME", &workspace.0.simple().to_string()),
        // Nobody may be there to answer: what wants a password fails and says so.
        pair("GIT_TERMINAL_PROMPT", "0"),
        // What git says is looked at.
        pair("LC_ALL", "C.UTF-8"),
        pair("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new"),
    ])
}

/// Where the repository comes to lie, in the home.
pub fn directory(url: &str) -> String {
    let path = url.trim_end_matches('/');
    let last = path.rsplit(['/', ':']).next().unwrap_or_default();
    let name = last.strip_suffix(".git").unwrap_or(last);
    let fits = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= 100
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if fits { name.to_owned() } else { "repository".into() }
}

pub fn url(text: &str) -> Result<()> {
    let plain = (1..=GIT_URL_BYTES_MAX).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
    match text.split_once("://") {
        Some(("http" | "https" | "git", rest)) if rest.split('/').next().is_some_and(|part| part.contains('@')) => {
            Err(refused("`git_url` must hold no user name or password: it is stored and shown as it is."))
        }
        Some(("http" | "https" | "git", rest)) if plain && is_place(rest, '/') => Ok(()),
        Some(("ssh", rest)) if plain && is_ssh(rest, '/') => Ok(()),
        Some(_) => Err(unusable()),
        None if plain && text.contains('@') && is_ssh(text, ':') => Ok(()),
        None => Err(unusable()),
    }
}

/// `user@host` and a path, the user without a password.
fn is_ssh(text: &str, before_path: char) -> bool {
    match text.split_once('@') {
        Some((user, place)) => {
            let name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            user.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && user.chars().all(name)
                && is_place(place, before_path)
        }
        None => is_place(text, before_path),
    }
}

/// A host, perhaps with a port, and a path.
fn is_place(text: &str, before_path: char) -> bool {
    let Some((host, path)) = text.split_once(before_path) else { return false };
    let of_host = |c: char| c.is_ascii_alphanumeric() || ".-[]".contains(c) || (c == ':' && before_path == '/');
    host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && host.chars().all(of_host)
        && !path.is_empty()
        && !path.starts_with('-')
}

/// A branch or tag, as `git check-ref-format` would have it.
pub fn branch(text: &str) -> Result<()> {
    let fits = (1..=GIT_BRANCH_BYTES_MAX).contains(&text.len())
        && !text.starts_with(['-', '/', '.'])
        && !text.ends_with(['/', '.'])
        && !text.contains(|c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c))
        && !["..", "@{", "//", "/."].iter().any(|part| text.contains(part))
        && !text.split('/').any(|part| part.ends_with(".lock"));
    if fits { Ok(()) } else { Err(Error::field("branch", "`branch` must be the name of a branch or tag.")) }
}

fn unusable() -> Error {
    refused(
        "`git_url` must be a repository's address that begins with `https://`, `http://`, `ssh://` or `git://`, or is like `git@host:path`.",
    )
}

fn refused(message: &'static str) -> Error {
    Error::field("git_url", message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_git_may_be_given() {
        for good in [
            "https://github.com/acme/site.git",
            "http://127.0.0.1:8000/site",
            "git://host/a/b",
            "ssh://git@host:2222/a/b.git",
            "ssh://host/a",
            "git@github.com:acme/site.git",
        ] {
            url(good).unwrap();
        }
        for bad in [
            "",
            "-x",
            "--upload-pack=touch /tmp/x",
            "/srv/repository",
            "../site",
            "file:///srv/site",
            "ext::sh -c id",
            "ext::x@h:p",
            "https://",
            "https://host",
            "https://-host/x",
            "https://host/a b",
            "https://host/\na",
            "https://user:secret@host/a",
            "https://token@host/a",
            "ssh://git:secret@host/a",
            "ssh://-oProxyCommand=x/a",
            "git@-host:a",
            "-x@host:a",
            "git@host:-a",
            "host:path",
        ] {
            let refused = url(bad).unwrap_err();
            assert_eq!(refused.details["field"], "git_url", "{bad:?}");
            assert!(!refused.message.contains("secret"));
        }
    }

    #[test]
    fn credentials_go_over_tls_or_stay_inside() {
        for (address, host) in [
            ("https://github.com/acme/site.git", Some("github.com")),
            ("https://git.example.com:8443/a", Some("git.example.com:8443")),
            ("http://127.0.0.1:8000/site", Some("127.0.0.1:8000")),
            ("http://[::1]:8000/site", Some("[::1]:8000")),
            ("http://localhost/site", Some("localhost")),
            ("http://github.com/a", None),
            ("http://127.0.0.1.example.com/a", None),
            ("ssh://git@host/a", None),
            ("git://host/a", None),
            ("git@host:a", None),
        ] {
            assert_eq!(host_of(address), host, "{address}");
        }
        let [(_, path), (_, origin)] = credential_variables("https://h:1/a/b", "/dev/shm/x");
        assert_eq!((path.as_str(), origin.as_str()), ("/dev/shm/x", "https://h:1"));
    }

    #[test]
    fn branches() {
        for good in ["main", "feature/x-1", "v1.0", "@"] {
            branch(good).unwrap();
        }
        for bad in ["", "-x", "a b", "a..b", "a~1", "x.lock", "a/.b", "/a", "a/", "a@{1}", "a\n", "a:b", "a.lock/b"] {
            branch(bad).unwrap_err();
        }
    }

    #[test]
    fn a_repository_lies_under_its_name() {
        for (address, name) in [
            ("https://h/acme/site.git", "site"),
            ("https://h/acme/site/", "site"),
            ("git@h:site.git", "site"),
            ("https://h/..", "repository"),
            ("https://h/.git", "repository"),
            ("https://h/-x", "repository"),
            ("https://h/a?b", "repository"),
        ] {
            assert_eq!(directory(address), name, "{address}");
        }
    }
}
