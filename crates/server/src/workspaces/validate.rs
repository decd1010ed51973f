//! What a request for a workspace must satisfy, as pure checks that name the field at fault.

use crate::config::SECONDS_MAX;
use crate::error::{Error, Result};
use crate::setups::git;
use crate::text::misleads;
use rexec_api::idle::IdleSettings;
use rexec_api::servers::{LABELS_MAX, NAME_CHARS_MAX as SERVER_WORD_BYTES_MAX};
use rexec_api::workspaces::{
    CPU_MAX, CPU_MIN, DISK_GB_MAX, DISK_GB_MIN, ENV_BYTES_MAX, ENV_VARIABLES_MAX, MEMORY_MB_MAX, MEMORY_MB_MIN,
    NAME_CHARS_MAX, NewWorkspace, PIDS_MAX, PIDS_MIN, PatchWorkspace, WAIT_MS_MAX,
};
use std::collections::BTreeMap;

/// The longest image reference: a registry, a path, a tag and a digest fit many times.
const IMAGE_BYTES_MAX: usize = 512;
const RUNTIME_BYTES_MAX: usize = 64;

pub fn new_workspace(new: &NewWorkspace) -> Result<()> {
    if let Some(text) = &new.name {
        name(text)?;
    }
    if let Some(text) = &new.image {
        image(text)?;
    }
    if new.image.is_some() && new.snapshot.is_some() {
        return Err(Error::field("image", "A snapshot has its image; name one of the two."));
    }
    if new.template.is_some() && (new.image.is_some() || new.snapshot.is_some()) {
        return Err(Error::field("template", "A template has its image; name one of template, image and snapshot."));
    }
    if new.git_url.is_some() && new.snapshot.is_some() {
        return Err(Error::field("git_url", "A snapshot has its files; name one of the two."));
    }
    if let Some(text) = &new.git_url {
        git::url(text)?;
    }
    match &new.branch {
        Some(_) if new.git_url.is_none() => {
            return Err(Error::field("branch", "`branch` is of a repository; name that as `git_url`."));
        }
        Some(text) => git::branch(text)?,
        None => {}
    }
    if let Some(text) = &new.runtime {
        runtime(text)?;
    }
    place(new)?;
    limits(new.cpu, new.memory_mb, new.pids)?;
    if let Some(gb) = new.disk_gb {
        disk_gb(gb)?;
    }
    if new.wait_ms.is_some_and(|ms| ms > WAIT_MS_MAX) {
        return Err(Error::field("wait_ms", format!("`wait_ms` must be at most {WAIT_MS_MAX}.")));
    }
    if let Some(settings) = &new.idle {
        idle(settings)?;
    }
    env(&new.env)
}

/// Where it is to be made: no server has longer names or more labels.
fn place(new: &NewWorkspace) -> Result<()> {
    let is_word = |text: &str| text.len() <= SERVER_WORD_BYTES_MAX && !text.chars().any(misleads);
    for (field, text) in [("region", &new.region), ("host", &new.host), ("architecture", &new.architecture)] {
        if text.as_ref().is_some_and(|text| !is_word(text)) {
            let message =
                format!("`{field}` has at most {SERVER_WORD_BYTES_MAX} characters, and no control characters.");
            return Err(Error::field(field, message));
        }
    }
    let labels = &new.host_labels;
    if labels.len() > LABELS_MAX || !labels.iter().all(|(key, value)| is_word(key) && is_word(value)) {
        let message = format!(
            "`host_labels` names at most {LABELS_MAX} labels; keys and values have at most {SERVER_WORD_BYTES_MAX} characters."
        );
        return Err(Error::field("host_labels", message));
    }
    Ok(())
}

/// What may be changed; what the workspace itself has to say about it is not asked here.
pub fn change(change: &PatchWorkspace) -> Result<()> {
    if let Some(text) = &change.name {
        name(text)?;
    }
    if let Some(Some(settings)) = &change.idle {
        idle(settings)?;
    }
    if let Some(Some(gb)) = change.disk_gb {
        disk_gb(gb)?;
    }
    limits(change.cpu, change.memory_mb, change.pids)
}

pub fn limits(cpu: Option<f64>, memory_mb: Option<u32>, pids: Option<u32>) -> Result<()> {
    if cpu.is_some_and(|cpu| !(CPU_MIN..=CPU_MAX).contains(&cpu)) {
        return Err(Error::field("cpu", format!("`cpu` must be from {CPU_MIN} to {CPU_MAX} cores.")));
    }
    if memory_mb.is_some_and(|mb| !(MEMORY_MB_MIN..=MEMORY_MB_MAX).contains(&mb)) {
        return Err(Error::field(
            "memory_mb",
            format!("`memory_mb` must be from {MEMORY_MB_MIN} to {MEMORY_MB_MAX} MiB."),
        ));
    }
    if pids.is_some_and(|pids| !(PIDS_MIN..=PIDS_MAX).contains(&pids)) {
        return Err(Error::field("pids", format!("`pids` must be from {PIDS_MIN} to {PIDS_MAX}.")));
    }
    Ok(())
}

pub fn disk_gb(gb: u32) -> Result<()> {
    if (DISK_GB_MIN..=DISK_GB_MAX).contains(&gb) {
        return Ok(());
    }
    Err(Error::field("disk_gb", format!("`disk_gb` must be from {DISK_GB_MIN} to {DISK_GB_MAX} GiB.")))
}

pub fn idle(settings: &IdleSettings) -> Result<()> {
    let IdleSettings { pause_after_s, stop_after_s, lifetime_s, delete_after_s } = *settings;
    let fields = [
        ("idle.pause_after_s", pause_after_s),
        ("idle.stop_after_s", stop_after_s),
        ("idle.lifetime_s", lifetime_s),
        ("idle.delete_after_s", delete_after_s),
    ];
    match fields.into_iter().find(|(_, seconds)| seconds.is_some_and(|seconds| seconds > SECONDS_MAX)) {
        Some((field, _)) => Err(Error::field(field, format!("`{field}` must be at most {SECONDS_MAX} seconds."))),
        None => Ok(()),
    }
}

pub fn name(text: &str) -> Result<()> {
    let fits =
        (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && text.trim() == text && !text.chars().any(misleads);
    if fits {
        return Ok(());
    }
    Err(Error::field(
        "name",
        format!(
            "`name` must have 1 to {NAME_CHARS_MAX} characters, none of them control characters, and no space at its ends."
        ),
    ))
}

/// The shape of a reference, `[registry[:port]/]path[:tag][@digest]`, after the grammar of the
/// distribution project: enough to keep out what is no name at all; whether there is such an
/// image, the engine knows.
pub fn image(text: &str) -> Result<()> {
    let fits = (1..=IMAGE_BYTES_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@+".contains(c))
        && !text.contains("//");
    if fits && !is_ours(text) {
        return Ok(());
    }
    if fits {
        return Err(Error::field(
            "image",
            "`image` must name an image that anyone may have. To begin as a snapshot, give `snapshot` its id.",
        ));
    }
    Err(Error::field(
        "image",
        "`image` must be a container image reference, such as `debian:12` or `ghcr.io/acme/dev:1.4`.",
    ))
}

/// Images that the server makes for itself, and ids: a snapshot is its owner's, whoever knows its name.
fn is_ours(text: &str) -> bool {
    let hub = ["docker.io/", "index.docker.io/", "registry-1.docker.io/"];
    let path = hub.iter().find_map(|hub| text.strip_prefix(hub)).unwrap_or(text);
    let name = path.split([':', '@']).next().unwrap_or(path);
    let name = name.strip_prefix("library/").unwrap_or(name);
    matches!(name, "rexec/snapshot" | "rexec/empty" | "rexec/plain" | "sha256" | "sha384" | "sha512")
}

fn runtime(text: &str) -> Result<()> {
    let fits = (1..=RUNTIME_BYTES_MAX).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if fits {
        Ok(())
    } else {
        Err(Error::field("runtime", "`runtime` must be an OCI runtime's name, such as `runc` or `runsc`."))
    }
}

/// Variables that a process can be given (also used for terminals and exec).
pub fn env(env: &BTreeMap<String, String>) -> Result<()> {
    if env.len() > ENV_VARIABLES_MAX {
        return Err(Error::field("env", format!("`env` may hold {ENV_VARIABLES_MAX} variables at most.")));
    }
    for (key, value) in env {
        if key.is_empty() || key.contains(['=', '\0']) || key.chars().any(char::is_control) {
            return Err(Error::field("env", "a name in `env` must not be empty nor hold `=` or control characters."));
        }
        if value.contains('\0') || key.len() + value.len() > ENV_BYTES_MAX {
            let message = format!("`env.{key}` must hold no NUL byte and at most {ENV_BYTES_MAX} bytes.");
            return Err(Error::field(&format!("env.{key}"), message));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn field_at_fault(new: NewWorkspace) -> String {
        new_workspace(&new).unwrap_err().details["field"].as_str().unwrap().to_owned()
    }

    #[test]
    fn bad_values_are_named() {
        let new = NewWorkspace::default;
        for bad in ["", " x", "x ", "a\u{7}b", "\u{9b}", &"x".repeat(64)] {
            assert_eq!(field_at_fault(NewWorkspace { name: Some(bad.into()), ..new() }), "name", "{bad:?}");
        }
        for bad in ["", "-x", "a b", "x\n", "a//b", "x:", "../x", "$(x)"] {
            assert_eq!(field_at_fault(NewWorkspace { image: Some(bad.into()), ..new() }), "image", "{bad:?}");
        }
        for ours in [
            "rexec/snapshot:01",
            "docker.io/rexec/snapshot:01",
            "rexec/snapshot@sha256:01",
            "rexec/empty:1",
            "rexec/plain:01",
            "sha256:9",
        ] {
            assert_eq!(field_at_fault(NewWorkspace { image: Some(ours.into()), ..new() }), "image", "{ours:?}");
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 300.0] {
            assert_eq!(field_at_fault(NewWorkspace { cpu: Some(bad), ..new() }), "cpu", "{bad}");
        }
        assert_eq!(field_at_fault(NewWorkspace { memory_mb: Some(0), ..new() }), "memory_mb");
        assert_eq!(field_at_fault(NewWorkspace { pids: Some(0), ..new() }), "pids");
        assert_eq!(field_at_fault(NewWorkspace { disk_gb: Some(0), ..new() }), "disk_gb");
        let idle = IdleSettings { lifetime_s: Some(u64::MAX), ..Default::default() };
        assert_eq!(field_at_fault(NewWorkspace { idle: Some(idle), ..new() }), "idle.lifetime_s");
        assert_eq!(field_at_fault(NewWorkspace { runtime: Some("a/b".into()), ..new() }), "runtime");
        let env = |k: &str, v: &str| BTreeMap::from([(k.to_owned(), v.to_owned())]);
        assert_eq!(field_at_fault(NewWorkspace { env: env("A=B", ""), ..new() }), "env");
        assert_eq!(field_at_fault(NewWorkspace { env: env("A", "\0"), ..new() }), "env.A");
    }

    #[test]
    fn good_values_pass() {
        for image in ["debian:12", "rexec/base:latest", "localhost:5000/a/b@sha256:0123", "ghcr.io/acme/dev_x:1.4-rc_1"]
        {
            new_workspace(&NewWorkspace { image: Some(image.into()), ..Default::default() }).unwrap();
        }
        new_workspace(&NewWorkspace { name: Some("Büro 🦀".into()), cpu: Some(0.5), ..Default::default() }).unwrap();
    }
}
