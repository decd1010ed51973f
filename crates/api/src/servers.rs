//! Servers that workspaces run on: what an administrator says of one, and what is seen of it.
//!
//! A server is reached in one of three ways: by TCP with mutual TLS (`hostname`, `docker_port` and the `tls_` fields), by
//! SSH (`hostname` and `ssh`), or, on the machine of Rexec itself, by a unix socket (`socket`).

use crate::error::ErrorCode;
use crate::idle::null_is_said;
use crate::ids::{HostId, WorkspaceId};
use crate::progress::PullView;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most characters of a server's name, of a region's, and of a label's key and value.
pub const NAME_CHARS_MAX: usize = 63;
pub const LABELS_MAX: usize = 32;
pub const RUNTIMES_MAX: usize = 16;
/// Most bytes of a certificate, a chain of them, or a key.
pub const PEM_BYTES_MAX: usize = 64 * 1024;
pub const PATH_BYTES_MAX: usize = 1024;
pub const HOSTNAME_CHARS_MAX: usize = 253;
/// Most cores, MiB and GiB that may be given to workspaces, and most workspaces.
pub const TOTAL_CPU_MAX: f64 = 65_536.0;
pub const TOTAL_MEMORY_MB_MAX: u64 = 1 << 30;
pub const TOTAL_DISK_GB_MAX: u64 = 1 << 24;
pub const WORKSPACES_MAX: u32 = 1_000_000;

/// How to log in by SSH.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SshAccess {
    pub user: String,
    /// 22 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// In OpenSSH's or PEM's form, without a passphrase. Stored encrypted and never given back.
    pub private_key: String,
    /// What the server must show: `SHA256:...`, or a line of `ssh-keyscan`. When absent, the key that it shows first counts
    /// from then on, and is told in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// The engine's socket there; `/var/run/docker.sock` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
}

/// A server to add.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NewServer {
    /// Letters, digits, dots, hyphens and underscores; no other server's.
    pub name: String,
    /// A name or address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// 2376 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_port: Option<u16>,
    /// Files on the machine of Rexec, in PEM, read anew whenever it connects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key_path: Option<String>,
    /// The same as text instead of files. Stored encrypted and never given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshAccess>,
    /// The absolute path of a unix socket on the machine of Rexec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// Cores, MiB and GiB for workspaces: more than the machine has lets them share. When absent, four times its cores, and
    /// the memory and disk that it has; 0: without a limit. A workspace's share is what it may use, while it runs (cores, memory) or is there (disk).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_cpu: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_memory_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_disk_gb: Option<u64>,
    /// Workspaces at once, those that are stopped too; without a limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_workspaces: Option<u32>,
    /// `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// OCI runtimes that workspaces may have there, all of which it must have; whatever the server's settings allow, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtimes: Option<Vec<String>>,
    /// Refused unless the machine is of this one, such as `amd64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
}

/// What is to change of a server; it takes effect at once. How it is reached changes as a whole: with `hostname`, `ssh` or `socket`
/// all that goes with it is named anew, and tried before anything changes.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PatchServer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshAccess>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_cpu: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_memory_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_disk_gb: Option<u64>,
    /// Null: without a limit.
    #[serde(deserialize_with = "null_is_said", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u32>))]
    pub max_workspaces: Option<Option<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// All of them anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// All of them anew; null: whatever the server's settings allow.
    #[serde(deserialize_with = "null_is_said", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>))]
    pub runtimes: Option<Option<Vec<String>>>,
}

/// What an administrator wants of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// Workspaces are made there.
    Active,
    /// None are made there any more; those that are there stay, and start and stop as ever.
    Draining,
}

impl ServerState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
        }
    }
}

/// Whether a server can be used at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServerHealth {
    /// It has not answered yet since Rexec was started.
    Connecting,
    Ready,
    /// Its workspaces say `unreachable` and come back with it; nothing is deleted meanwhile.
    Offline,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerFound {
    /// Such as `docker`, and its version.
    pub engine: String,
    pub version: String,
    pub api_version: String,
    pub architecture: String,
    pub kernel: String,
    pub cpu: u32,
    pub memory_mb: u64,
    /// Of the disk that the engine keeps its data on; absent where that cannot be seen.
    pub disk_free_gb: Option<u64>,
    pub runtimes: Vec<String>,
    pub default_runtime: String,
    /// Of those, the ones that were tried and by which nothing runs there, and why: what is written must outlive a stop.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runtimes_unfit: BTreeMap<String, String>,
    pub rootless: bool,
    pub storage_driver: String,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerView {
    pub id: HostId,
    pub name: String,
    /// The engine that `DOCKER_HOST` or a usual socket names: it cannot be deleted, nor its address be changed here.
    pub is_local: bool,
    /// Such as `tcp://10.0.1.10:2376`, without anything secret.
    pub address: String,
    pub state: ServerState,
    pub health: ServerHealth,
    /// Why it is not ready.
    pub reason: Option<String>,
    /// What its engine took to answer lately, there and back, in milliseconds; absent until it has.
    #[serde(default)]
    pub latency_ms: Option<f64>,
    /// RFC 3339; when it last answered, while this server has run.
    pub last_seen_at: Option<String>,
    /// What it does not hold workspaces to, in sentences.
    pub weaker: Vec<String>,
    pub region: String,
    pub labels: BTreeMap<String, String>,
    pub runtimes: Option<Vec<String>>,
    /// 0: without a limit.
    pub total_cpu: f64,
    pub total_memory_mb: u64,
    pub total_disk_gb: u64,
    pub max_workspaces: Option<u32>,
    /// What workspaces have of it: cores and memory of those that run, disk of all.
    pub used_cpu: f64,
    pub used_memory_mb: u64,
    pub used_disk_gb: u64,
    pub workspaces: u32,
    /// Workspaces that run there before anyone asks; absent where there are to be none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolView>,
    /// Absent while it is not ready.
    pub found: Option<ServerFound>,
    /// The fingerprint of the key that it must show, of one that is reached by SSH.
    pub ssh_host_key: Option<String>,
    /// RFC 3339; until when Rexec's own certificate and the server's are valid, of one that is reached by TLS.
    pub certificate_expires_at: Option<String>,
    pub server_certificate_expires_at: Option<String>,
    /// The volume that Rexec's certificate is mounted from, of the local server whose engine hands it over by one, as
    /// `docker:dind` does: `DIND_CERTS_VOLUME`, or what Rexec found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certs_volume: Option<String>,
    /// Who made its machine, such as `hetzner`, and what it is called there, of one that Rexec has made and will remove with
    /// demand.
    pub provisioner: Option<String>,
    pub machine_id: Option<String>,
    pub created_at: String,
}

/// Workspaces of a server that are warm: they run, and become somebody's without their container being touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PoolView {
    /// To be had at this moment.
    pub ready: u32,
    /// How many there should be, by the settings and recent demand.
    pub target: u32,
    /// Why there are fewer, where something is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was written off with a server that is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerLost {
    /// Workspaces that lay there with their homes, and are deleted now. Warm ones, which were nobody's, are not counted.
    pub workspaces: u64,
    /// Kept homes, and snapshots.
    pub homes: u64,
    pub snapshots: u64,
    /// Workspaces among those that had moved there and not run since: what they were at their old places is kept as a home.
    pub saved: u64,
}

/// The images of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerImages {
    /// Those that its engine has, the largest first.
    pub items: Vec<ServerImage>,
    /// Those that it is to have before anyone asks: the templates', and what administrators asked for.
    pub wanted: Vec<WantedImage>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerImage {
    pub id: String,
    /// Its names with their tags.
    pub references: Vec<String>,
    /// Unpacked; layers that it shares with others count in full.
    pub size_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WantedImage {
    pub image: String,
    pub state: ImageState,
    /// Why it is not there, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// An administrator asked for it.
    pub asked: bool,
    /// While it is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<PullView>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    Present,
    Pulling,
    /// It will be looked for or fetched soon.
    Waiting,
    /// It could not be fetched, and is tried again.
    Failed,
}

/// An image to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PullImage {
    /// A name with a tag or digest; `latest` where there is none.
    pub image: String,
}

/// How the fleet is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ComputeHealth {
    /// `ok`: every server is ready; `degraded`: some are; `down`: none is.
    pub status: String,
    pub servers: u32,
    pub ready: u32,
    /// Of each region, how many servers are ready and take workspaces.
    pub regions: BTreeMap<String, u32>,
    /// Of each region with a ready server, what the nearest one's engine took to answer lately, there and back, in
    /// milliseconds. To the way between you and Rexec this comes on top.
    #[serde(default)]
    pub latency_ms: BTreeMap<String, f64>,
    /// Regions that have as many workspaces as they may have.
    #[serde(default)]
    pub full_regions: Vec<String>,
    /// One by one, for administrators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<ServerView>,
}

/// A region: the servers in it, and how many workspaces they may have together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegionView {
    pub name: String,
    pub servers: u32,
    /// Servers that are ready and take workspaces.
    pub ready: u32,
    /// Those that are warm and nobody's do not count.
    pub workspaces: u64,
    /// `null`: as many as its servers take.
    pub max_workspaces: Option<u32>,
    /// As in the fleet's health; `null` while none of its servers is ready.
    pub latency_ms: Option<f64>,
}

/// What a region is limited to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutRegion {
    /// `null`: as many as its servers take. Those that are there stay, however few it says.
    #[serde(deserialize_with = "stated")]
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub max_workspaces: Option<u32>,
}

/// `null` must be said: what is left out is no wish.
fn stated<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Option::deserialize(deserializer)
}

/// What lies on a server still that is to be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerLeft {
    /// On their way to another server.
    pub moving: Vec<LeftWorkspace>,
    /// Not stopped: whoever they belong to stops them, or you do.
    pub running: Vec<LeftWorkspace>,
    /// Stopped, and not to be moved; `reason` says why.
    pub stuck: Vec<LeftWorkspace>,
    /// They lie at another server and have not run there yet, so that what they were made of is kept here (`drop_sources`).
    pub unproven: Vec<LeftWorkspace>,
    /// What is being removed and needs nobody.
    pub going: u64,
    /// Homes of deleted workspaces that are kept for a while.
    pub homes: u64,
    pub snapshots: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeftWorkspace {
    pub id: WorkspaceId,
    pub name: String,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub error_code: Option<ErrorCode>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_must_be_said() {
        let limit = |text| serde_json::from_str::<PutRegion>(text).ok().map(|put| put.max_workspaces);
        assert_eq!(limit("{}"), None);
        assert_eq!(limit(r#"{"max_workspaces":null}"#), Some(None));
        assert_eq!(limit(r#"{"max_workspaces":7}"#), Some(Some(7)));
        assert_eq!(limit(r#"{"max_workspaces":-1}"#), None);
    }
}
