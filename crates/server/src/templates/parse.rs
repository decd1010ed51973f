//! A template's file, read strictly: pure.
//!
//! ```toml
//! name = "Debian 12"                # shown to people
//! description = "A stable base."
//! icon = "debian"
//! image = "debian:12"
//! size_mb = 120                     # about
//! egress = ["deb.debian.org"]       # hosts that its set-up and usual work need
//! entrypoint = ["my-daemon"]        # started once at each start; optional
//! nested = "podman"                 # or "docker"; optional
//!
//! [user]                            # who programs run as; optional
//! name = "user"
//! uid = 1000
//!
//! [env]
//! EDITOR = "vim"
//!
//! [[setup]]                         # once, after the first start, in this order
//! name = "Tools"
//! run = "sudo apt-get update && sudo apt-get install -y git"
//! timeout_s = 600
//! ```

use rexec_api::guest::UserSpec;
use rexec_egress::rule::{Ports, Rule, To};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bounds of what a file may say.
const ID_CHARS_MAX: usize = 63;
const TEXT_CHARS_MAX: usize = 500;
pub const STEPS_MAX: usize = 32;
pub const RUN_BYTES_MAX: usize = 16 * 1024;
const TIMEOUT_S_DEFAULT: u32 = 600;
const TIMEOUT_S_MAX: u32 = 24 * 3600;

/// What workspaces are made from by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub id: String,
    pub name: String,
    pub description: String,
    pub icon: String,
    pub image: String,
    pub size_mb: u32,
    pub user: Option<UserSpec>,
    pub entrypoint: Option<Vec<String>>,
    pub env: BTreeMap<String, String>,
    pub egress: Vec<String>,
    pub nested: Option<Nested>,
    pub setup: Vec<SetupStep>,
}

/// What runs containers inside of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nested {
    Docker,
    Podman,
}

impl Nested {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// A command that runs once after the first start, by `/bin/sh -e`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetupStep {
    pub name: String,
    pub run: String,
    #[serde(default = "timeout_default")]
    pub timeout_s: u32,
}

const fn timeout_default() -> u32 {
    TIMEOUT_S_DEFAULT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    description: String,
    icon: String,
    image: String,
    size_mb: u32,
    #[serde(default)]
    user: Option<UserTable>,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    egress: Vec<String>,
    #[serde(default)]
    nested: Option<Nested>,
    #[serde(default)]
    setup: Vec<SetupStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserTable {
    name: String,
    uid: u32,
    #[serde(default)]
    gid: Option<u32>,
    #[serde(default)]
    shell: Option<String>,
}

/// Reads the file of the template `id`. The fault names the field.
pub fn template(id: &str, text: &str) -> Result<Template, String> {
    let id_fits = (1..=ID_CHARS_MAX).contains(&id.len())
        && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c));
    if !id_fits {
        return Err("a template's file is named by lower-case letters, digits, `.`, `-` and `_`".into());
    }
    let document = toml::Deserializer::parse(text).map_err(|error| error.to_string().trim().replace('\n', " "))?;
    let file: File = serde_path_to_error::deserialize(document).map_err(|error| {
        let field = error.path().to_string();
        format!("`{field}`: {}", error.inner().message())
    })?;
    let File { name, description, icon, image, size_mb, user, entrypoint, env, egress, nested, setup } = file;
    for (field, text) in [("name", &name), ("description", &description), ("icon", &icon)] {
        line(field, text)?;
    }
    crate::workspaces::validate::image(&image).map_err(|error| format!("`image`: {}", error.message))?;
    crate::workspaces::validate::env(&env).map_err(|error| format!("`env`: {}", error.message))?;
    if entrypoint.as_ref().is_some_and(|command| command.first().is_none_or(String::is_empty)) {
        return Err("`entrypoint` must name a program".into());
    }
    if let Some(host) = egress.iter().find(|host| !is_host(host)) {
        return Err(format!("`egress`: {host:?} is not a host's name"));
    }
    if setup.len() > STEPS_MAX {
        return Err(format!("`setup` has more than {STEPS_MAX} steps"));
    }
    for (n, step) in setup.iter().enumerate() {
        check_step(&format!("setup[{n}]"), step)?;
    }
    let user = user.map(user_of).transpose()?;
    let id = id.to_owned();
    Ok(Template { id, name, description, icon, image, size_mb, user, entrypoint, env, egress, nested, setup })
}

fn check_step(at: &str, step: &SetupStep) -> Result<(), String> {
    line(&format!("{at}.name"), &step.name)?;
    if step.run.trim().is_empty() || step.run.len() > RUN_BYTES_MAX || step.run.contains('\0') {
        return Err(format!("`{at}.run` must be a command of 1 to {RUN_BYTES_MAX} bytes"));
    }
    if !(1..=TIMEOUT_S_MAX).contains(&step.timeout_s) {
        return Err(format!("`{at}.timeout_s` must be from 1 to {TIMEOUT_S_MAX} seconds"));
    }
    Ok(())
}

/// The home is a volume at one place, whatever the user is called.
fn user_of(table: UserTable) -> Result<UserSpec, String> {
    let UserTable { name, uid, gid, shell } = table;
    let fits = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_control() || c == ':');
    if !fits(&name) || name.contains('/') {
        return Err("`user.name` must be an account's name".into());
    }
    if uid == 0 {
        return Err("`user.uid` must not be 0: programs become root by `sudo`".into());
    }
    if shell.as_ref().is_some_and(|shell| !fits(shell) || !shell.starts_with('/')) {
        return Err("`user.shell` must be an absolute path".into());
    }
    Ok(UserSpec { name, uid, gid: gid.unwrap_or(uid), shell, ..UserSpec::default() })
}

fn line(field: &str, text: &str) -> Result<(), String> {
    if (1..=TEXT_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!("`{field}` must be one line of 1 to {TEXT_CHARS_MAX} characters"))
}

/// A host's name, perhaps with `*.` before it, and no ports, methods or path.
fn is_host(text: &str) -> bool {
    let names =
        |rule: Rule| matches!(rule.to, To::Name(_) | To::Below(_)) && rule.ports == Ports::Web && rule.asks.is_none();
    text.parse().is_ok_and(names)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SMALL: &str = "name = 'A'\ndescription = 'B'\nicon = 'c'\nimage = 'debian:12'\nsize_mb = 1\n";

    #[test]
    fn a_small_file_is_enough() {
        let read = template("a-1.2_b", SMALL).unwrap();
        assert_eq!((read.id.as_str(), read.image.as_str(), read.user), ("a-1.2_b", "debian:12", None));
        let whole = format!(
            "{SMALL}egress = ['*.debian.org']\nnested = 'podman'\n[user]\nname = 'dev'\nuid = 1001\n[env]\nA = 'b'\n\
             [[setup]]\nname = 'x'\nrun = 'true'\n"
        );
        let read = template("a", &whole).unwrap();
        assert_eq!(read.setup[0].timeout_s, TIMEOUT_S_DEFAULT);
        let user = read.user.unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (1001, 1001, "/home/user"));
    }

    #[test]
    fn faults_name_the_field() {
        for (more, field) in [
            ("colour = 'red'", "colour"),
            ("size_mb = 2", "size_mb"),
            ("nested = 'lxc'", "nested"),
            ("egress = ['https://x']", "egress"),
            ("egress = ['a.example:22']", "egress"),
            ("egress = ['192.0.2.1']", "egress"),
            ("egress = ['*']", "egress"),
            ("entrypoint = []", "entrypoint"),
            ("[user]\nname = 'root'\nuid = 0", "user.uid"),
            ("[user]\nname = 'a:b'\nuid = 1", "user.name"),
            ("[user]\nname = 'a'", "uid"),
            ("[env]\n'A=B' = 'x'", "env"),
            ("[[setup]]\nname = 'x'\nrun = ''", "setup[0].run"),
            ("[[setup]]\nname = 'x'\nrun = 'y'\ntimeout_s = 0", "setup[0].timeout_s"),
            ("[[setup]]\nname = 'x'\nrun = 'y'\ntimeout_s = 'long'", "setup[0].timeout_s"),
        ] {
            let fault = template("a", &format!("{SMALL}{more}\n")).unwrap_err();
            assert!(fault.contains(field), "{more}: {fault}");
        }
        for missing in ["name", "image", "icon"] {
            let text: String = SMALL.lines().filter(|l| !l.starts_with(missing)).map(|l| format!("{l}\n")).collect();
            assert!(template("a", &text).unwrap_err().contains(missing));
        }
        assert!(template("a", &SMALL.replace("debian:12", "-x")).unwrap_err().contains("image"));
        assert!(template("A b", SMALL).is_err());
    }
}
