//! What an archive says of itself, and what is believed of it: pure.

use super::super::plan::SnapshotPlan;
use crate::error::{Error, Result};
use crate::workspaces::validate;
use rexec_api::egress::EgressSettings;
use rexec_api::error::ErrorCode;
use rexec_api::guest::{FILE_BYTES_MIN, KEY_VARIABLE};
use rexec_api::workspaces::{ENV_BYTES_MAX, ENV_VARIABLES_MAX, NAME_CHARS_MAX, NewWorkspace};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

const FORMAT: &str = "rexec-snapshot";
const VERSION: u32 = 1;
/// A disk that nobody has.
const DISK_MB_MAX: i64 = 1 << 40;

/// `manifest.json`. The environment is in it with its values, as it is in a clone: an archive is its owner's,
/// and holds the home with whatever secrets lie there anyway.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u32,
    pub name: String,
    pub workspace_name: String,
    /// RFC 3339.
    pub created_at: String,
    /// What the root file system was made from once; only told.
    pub image: String,
    /// For how long its workspace stood still; absent when that did not run, and in older archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u32>,
    /// Such as `amd64`.
    pub architecture: String,
    /// The image's own environment, `NAME=value`.
    pub image_env: Vec<String>,
    pub plan: Plan,
}

/// What a clone has that does not say otherwise. Of what its server alone could judge, such as templates,
/// nothing goes along.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    cpu_milli: Option<i64>,
    memory_mb: Option<i64>,
    disk_mb: i64,
    pids: Option<i64>,
    runtime: String,
    env: BTreeMap<String, String>,
    /// What it might reach; absent in older archives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    egress: Option<EgressSettings>,
}

/// What a tree of the archive comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Told {
    /// Names, that of the tree itself among them.
    pub entries: u64,
    pub bytes: u64,
    /// With the holes of its files, which an image does not keep.
    pub size: u64,
}

impl Told {
    /// What counts of a tree that was measured at `bytes`: files and directories take up something, however empty.
    pub fn at_least(&self, bytes: u64) -> u64 {
        bytes.max(self.entries.saturating_sub(1).saturating_mul(FILE_BYTES_MIN))
    }
}

/// A manifest as it comes back.
#[derive(Debug, Clone, Deserialize)]
pub struct Arrived {
    #[serde(flatten)]
    pub manifest: Manifest,
    pub root: Told,
    pub home: Told,
}

/// What is known of a snapshot that leaves, besides its plan.
pub struct About {
    pub name: String,
    pub workspace_name: String,
    pub created_at: String,
    pub image: String,
    pub pause_ms: Option<u32>,
    pub architecture: String,
    pub image_env: Vec<String>,
}

impl Manifest {
    pub fn new(about: About, plan: SnapshotPlan) -> Self {
        let About { name, workspace_name, created_at, image, pause_ms, architecture, image_env } = about;
        Self {
            format: FORMAT.into(),
            version: VERSION,
            name,
            workspace_name,
            created_at,
            image,
            pause_ms,
            architecture,
            image_env: image_env.into_iter().filter(|pair| !is_key(pair)).collect(),
            plan: Plan {
                cpu_milli: plan.cpu_milli,
                memory_mb: plan.memory_mb,
                disk_mb: plan.disk_mb,
                pids: plan.pids,
                runtime: plan.runtime,
                env: plan.env,
                egress: plan.egress,
            },
        }
    }
}

impl Arrived {
    /// Reads a manifest and believes nothing of it that a request could not ask for.
    pub fn read(text: &str, architecture: &str) -> Result<Self> {
        let invalid = |what: &str| refused(format!("its manifest {what}"));
        let head: serde_json::Value = serde_json::from_str(text).map_err(|_| invalid("is not JSON"))?;
        if head["format"] != FORMAT {
            return Err(invalid("is not that of a snapshot"));
        }
        if head["version"] != VERSION {
            return Err(invalid("is of another version. Import it on a newer server"));
        }
        let arrived: Self =
            serde_json::from_value(head).map_err(|error| invalid("lacks what it must have").source(error))?;
        if arrived.manifest.architecture != architecture {
            let message = format!(
                "The snapshot is of a machine for {:?}, and this host is for {architecture}. Import it on another.",
                arrived.manifest.architecture
            );
            return Err(Error::new(ErrorCode::ImageArchitecture, message));
        }
        arrived.manifest.check().map_err(|error| invalid(&format!("is refused. {}", error.message)))?;
        Ok(arrived)
    }

    /// What it takes up.
    pub fn bytes(&self) -> u64 {
        self.root.at_least(self.root.size).saturating_add(self.home.at_least(self.home.bytes))
    }
}

impl Manifest {
    fn check(&self) -> Result<()> {
        let plan = &self.plan;
        let whole = |value: Option<i64>, field: &str| match value.map(u32::try_from) {
            Some(Err(_)) => Err(Error::field(field, format!("`{field}` is out of range."))),
            value => Ok(value.and_then(std::result::Result::ok)),
        };
        validate::name(&self.name)?;
        validate::new_workspace(&NewWorkspace {
            cpu: plan.cpu_milli.map(|milli| milli as f64 / 1000.0),
            memory_mb: whole(plan.memory_mb, "memory_mb")?,
            pids: whole(plan.pids, "pids")?,
            runtime: Some(plan.runtime.clone()).filter(|runtime| !runtime.is_empty()),
            env: plan.env.clone(),
            ..Default::default()
        })?;
        if !(0..=DISK_MB_MAX).contains(&plan.disk_mb) {
            return Err(Error::field("disk_mb", "`disk_mb` is out of range."));
        }
        let is_pair = |pair: &String| {
            let name = pair.split_once('=').map(|(name, _)| name);
            name.is_some_and(|name| !name.is_empty()) && pair.len() <= ENV_BYTES_MAX && !pair.contains('\0')
        };
        if self.image_env.len() > ENV_VARIABLES_MAX || !self.image_env.iter().all(is_pair) {
            return Err(Error::field("image_env", "`image_env` must be pairs of names and values."));
        }
        Ok(())
    }

    /// The image's environment without what is never a tenant's to set.
    pub fn image_env(&self) -> Vec<String> {
        self.image_env.iter().filter(|pair| !is_key(pair)).cloned().collect()
    }

    /// What clones are made by.
    pub fn plan(&self) -> SnapshotPlan {
        SnapshotPlan {
            cpu_milli: self.plan.cpu_milli,
            memory_mb: self.plan.memory_mb,
            disk_mb: self.plan.disk_mb,
            pids: self.plan.pids,
            runtime: self.plan.runtime.clone(),
            env: self.plan.env.clone(),
            egress: self.plan.egress.clone(),
            workspace: "{}".into(),
            ..Default::default()
        }
    }

    /// The name of the workspace that it was taken of, as far as it is one.
    pub fn workspace_name(&self) -> String {
        self.workspace_name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()
    }
}

/// The guest's key is never an image's.
fn is_key(pair: &str) -> bool {
    pair.split('=').next() == Some(KEY_VARIABLE)
}

/// The archive is not one that is taken.
pub fn refused(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::ArchiveInvalid, format!("The archive cannot be imported: {what}."))
}

pub fn too_large(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::ArchiveTooLarge, format!("The archive cannot be imported: {what}."))
}

/// The archive is larger than what is left of the owner's quota.
pub fn over_quota(used: u64, wanted: u64, max: u64) -> Error {
    let message = "Your snapshots would take up more than they may. Delete one first.";
    let details = json!({ "quota": "snapshot_bytes", "used": used, "wanted": wanted, "max": max });
    Error::new(ErrorCode::QuotaExceeded, message).details(details)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn manifest() -> Value {
        let about = About {
            name: "mine".into(),
            workspace_name: "box".into(),
            created_at: "2026-01-01T00:00:00Z".into(),
            image: "rexec/base".into(),
            pause_ms: Some(329),
            architecture: "amd64".into(),
            image_env: vec!["PATH=/bin".into(), format!("{KEY_VARIABLE}=0")],
        };
        let env = [("A".to_owned(), "b".to_owned())].into();
        let plan = SnapshotPlan { cpu_milli: Some(1500), memory_mb: Some(256), env, ..Default::default() };
        let mut value = serde_json::to_value(Manifest::new(about, plan)).unwrap();
        value["root"] = json!({ "entries": 3, "bytes": 4, "size": 5 });
        value["home"] = json!({ "entries": 1, "bytes": 2, "size": 9 });
        value
    }

    #[test]
    fn a_manifest_goes_out_and_in() {
        let arrived = Arrived::read(&manifest().to_string(), "amd64").unwrap();
        assert_eq!((arrived.bytes(), arrived.manifest.pause_ms), (2 * FILE_BYTES_MIN + 2, Some(329)));
        let mut older = manifest();
        older.as_object_mut().unwrap().remove("pause_ms");
        assert_eq!(Arrived::read(&older.to_string(), "amd64").unwrap().manifest.pause_ms, None);
        assert_eq!(arrived.manifest.image_env(), ["PATH=/bin"]);
        let plan = arrived.manifest.plan();
        assert_eq!((plan.cpu_milli, plan.memory_mb, plan.env["A"].as_str()), (Some(1500), Some(256), "b"));
    }

    #[test]
    fn what_no_request_may_ask_for_is_refused() {
        type Change = fn(&mut Value);
        let changes: [(Change, ErrorCode); 10] = [
            (|m| m["format"] = json!("other"), ErrorCode::ArchiveInvalid),
            (|m| m["version"] = json!(2), ErrorCode::ArchiveInvalid),
            (|m| m["architecture"] = json!("arm64"), ErrorCode::ImageArchitecture),
            (|m| drop(m.as_object_mut().unwrap().remove("root")), ErrorCode::ArchiveInvalid),
            (|m| m["name"] = json!("a\u{7}"), ErrorCode::ArchiveInvalid),
            (|m| m["plan"]["memory_mb"] = json!(-1), ErrorCode::ArchiveInvalid),
            (|m| m["plan"]["cpu_milli"] = json!(1e9 as i64), ErrorCode::ArchiveInvalid),
            (|m| m["plan"]["env"] = json!({ "A=B": "c" }), ErrorCode::ArchiveInvalid),
            (|m| m["plan"]["runtime"] = json!("../x"), ErrorCode::ArchiveInvalid),
            (|m| m["image_env"] = json!(["none"]), ErrorCode::ArchiveInvalid),
        ];
        for (change, code) in changes {
            let mut value = manifest();
            change(&mut value);
            assert_eq!(Arrived::read(&value.to_string(), "amd64").unwrap_err().code, code, "{value}");
        }
        assert!(Arrived::read("", "amd64").is_err() && Arrived::read("[]", "amd64").is_err());
    }
}
