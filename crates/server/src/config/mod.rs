//! The configuration: one validated value from `rexec.toml`, `.env` and the environment.
//!
//! Invariant: a [`Config`] is valid as a whole; every fault of the sources is found in one pass
//! and told by the variable's name. Nothing else in the server reads the process environment.
//! What a variable is called, and its aliases, stand in [`Config::from_sources`]; those that
//! belong to capabilities this version does not have are in `later.rs`.

mod access;
mod cleanup;
mod disk;
mod egress;
mod elastic;
mod github;
mod images;
mod later;
mod models;
mod nested;
mod placement;
mod pool;
mod prepull;
mod previews;
mod replicas;
mod sources;
mod ssh;
mod storage;

pub use access::Access;
pub use cleanup::{CleanupConfig, SECONDS_MAX, Thresholds, Use, Uses};
pub use disk::DiskConfig;
pub use egress::EgressConfig;
pub use elastic::{ElasticConfig, ElasticRegion};
pub use github::{AppKey, GithubConfig, TokenSource};
pub use images::{CustomImages, ImagesConfig};
pub use models::{ModelVendor, ModelsConfig};
pub use nested::NestedPolicy;
pub use pool::PoolConfig;
pub use prepull::PrepullConfig;
pub use previews::PreviewConfig;
pub use sources::Sources;
pub use ssh::{SshConfig, SshListen};
pub use storage::StorageConfig;

use crate::hosts::placement::Strategy;
use crate::secret::Secret;
use sources::Reader;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The port when none is named.
const PORT_DEFAULT: u16 = 8080;
/// The image of a workspace that does not name one.
const WORKSPACE_IMAGE_DEFAULT: &str = "rexec/base:latest";
/// The fewest bytes of a signing secret. `openssl rand -hex 32` gives 64.
const JWT_SECRET_BYTES_MIN: usize = 16;
/// Where data is kept when the server may write there.
const DATA_DIR_SYSTEM: &str = "/var/lib/rexec";
/// How long a request's body may pause.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// Events tell of nearly everything; what they miss is found at this pace.
/// How often workspaces are sampled that nobody watches.
const STATS_EVERY: Duration = Duration::from_secs(60);
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// The database's file in the data directory.
const SQLITE_FILE: &str = "rexec.db";

/// Every fault that was found, in the order of the variables.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} fault(s):\n{}", .0.len(), .0.iter().map(|f| format!("  - {f}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<String>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Text logs with more detail; what nobody uses is tidied up soon.
    Debug,
    /// JSON logs; what nobody uses is left for longer.
    Release,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    Sqlite(PathBuf),
    /// A `postgres://` address; it may hold a password.
    Postgres(Secret),
}

impl DatabaseUrl {
    /// Where the database is, without its password: for messages.
    pub fn place(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres(url) => {
                let url = url.expose();
                let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
                let rest = rest.split(['?', '#']).next().unwrap_or_default();
                let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
                format!("postgres://{host}")
            }
        }
    }
}

/// The address that users type, as `PUBLIC_URL` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    /// `http` or `https`, host and port without a trailing slash, lower-cased: an Origin.
    pub origin: String,
    pub https: bool,
}

impl PublicUrl {
    /// The host, without its port.
    pub fn host(&self) -> &str {
        let authority = self.authority();
        match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority,
        }
    }

    /// The port, where it is not the scheme's own.
    pub fn port(&self) -> Option<u16> {
        self.authority()[self.host().len()..].strip_prefix(':')?.parse().ok()
    }

    fn authority(&self) -> &str {
        self.origin.split_once("://").map_or(&self.origin, |(_, authority)| authority)
    }
}

/// How many requests are let through. Zero means no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests per second of one user, and of one address; ten seconds' worth may come at once.
    pub requests_per_second: u32,
    /// Sign-in attempts per minute of one address for one e-mail address.
    pub sign_ins_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_per_second: 100, sign_ins_per_minute: 10 }
    }
}

/// What the server needs to know of the container engine and the workspaces on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    pub access: Access,
    pub workspace_image: String,
    /// The OCI runtime of workspaces that do not name one; the engine's own default when absent.
    pub runtime: Option<String>,
    /// Runtimes that users may ask for besides the default; absent: those with a kernel of their own.
    pub runtimes: Option<Vec<String>>,
    /// Workspaces that may exist at once on this server.
    pub workspaces_max: Option<u32>,
    /// The name of the workspaces' network.
    pub network: String,
    /// On which hosts workspaces may hold containers of their own.
    pub nested: NestedPolicy,
    /// Of several hosts that could take a workspace, which does.
    pub placement: Strategy,
    /// Labels for every container and volume that this server makes, besides its own.
    pub labels: BTreeMap<String, String>,
    /// Run workspaces although the host cannot keep all that the profile promises.
    pub allow_weaker_isolation: bool,
}

#[derive(Debug, Clone)]
pub struct Config {
    pub host: IpAddr,
    /// 0 takes any free port.
    pub port: u16,
    pub mode: Mode,
    pub data_dir: PathBuf,
    pub database: DatabaseUrl,
    /// Absent with the embedded database: then made once and kept in the data directory.
    pub jwt_secret: Option<Secret>,
    pub public_url: Option<PublicUrl>,
    /// How other servers on the same database reach this one.
    pub advertise_url: Option<String>,
    /// Serve the page from this folder instead of the embedded one.
    pub web_dir: Option<PathBuf>,
    /// Peers whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpAddr>,
    pub limits: Limits,
    /// How long a request's body may pause before it is given up on. No variable sets it.
    pub body_patience: Duration,
    pub engine: EngineConfig,
    /// What workspaces may reach outside.
    pub egress: EgressConfig,
    pub images: ImagesConfig,
    pub storage: StorageConfig,
    pub disk: DiskConfig,
    pub pool: PoolConfig,
    /// Machines that come and go with demand, where the operator wants that.
    pub elastic: Option<ElasticConfig>,
    pub prepull: PrepullConfig,
    /// How often each workspace that runs is sampled for its history. No variable sets it.
    pub stats_every: Duration,
    /// Tell of each workspace on `/metrics`: too many labels for a large fleet.
    pub metrics_workspaces: bool,
    pub cleanup: CleanupConfig,
    pub previews: PreviewConfig,
    pub ssh: SshConfig,
    /// How often every container is compared with what was last reported of it. No variable sets it.
    pub sweep_every: Duration,
    /// Where the server dies, for tests of what it then finds; builds with debug assertions only.
    pub crash_at: Option<&'static str>,
    /// Sentences for the log: what was accepted and is not used, and why.
    pub notices: Vec<String>,
}

impl Config {
    /// Reads the process environment, `.env` and `rexec.toml` (or the file `REXEC_CONFIG` names).
    pub fn load() -> Result<Self, ConfigError> {
        Self::from_sources(&Sources::of_process()?)
    }

    /// Reads a configuration from given sources: the same for the process and for tests.
    pub fn from_sources(sources: &Sources) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(sources);
        let data_dir = data_dir(&mut reader);
        let database = database(&mut reader, &data_dir);
        let mode = mode(&mut reader);
        let public_url = public_url(&mut reader);
        let config = Self {
            host: host(&mut reader),
            port: reader.number(&["PORT"], 0, u64::from(u16::MAX)).map_or(PORT_DEFAULT, |p| p as u16),
            mode,
            jwt_secret: jwt_secret(&mut reader, &database),
            advertise_url: replicas::take(&mut reader),
            web_dir: web_dir(&mut reader),
            trusted_proxies: trusted_proxies(&mut reader),
            limits: limits(&mut reader),
            body_patience: BODY_PATIENCE,
            engine: engine(&mut reader),
            egress: egress::take(&mut reader),
            images: images::take(&mut reader),
            storage: storage::take(&mut reader),
            disk: disk::take(&mut reader),
            pool: pool::take(&mut reader),
            elastic: elastic::take(&mut reader),
            prepull: prepull::take(&mut reader),
            stats_every: STATS_EVERY,
            metrics_workspaces: flag(&mut reader, "REXEC_METRICS_WORKSPACES"),
            cleanup: cleanup::take(&mut reader, mode),
            previews: previews::take(&mut reader, public_url.as_ref()),
            ssh: ssh::take(&mut reader),
            public_url,
            sweep_every: SWEEP_EVERY,
            crash_at: crash_at(&mut reader),
            data_dir,
            database,
            notices: Vec::new(),
        };
        later::take(&mut reader);
        let notices = reader.finish()?;
        Ok(Self { notices, ..config })
    }
}

fn host(reader: &mut Reader) -> IpAddr {
    let default = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let Some((name, text)) = reader.text(&["HOST"]) else {
        return default;
    };
    match text.as_str() {
        "localhost" => default,
        text => text.parse().unwrap_or_else(|_| {
            reader.fault(&name, "is not an IP address; use 127.0.0.1, or 0.0.0.0 to listen on every interface");
            default
        }),
    }
}

fn mode(reader: &mut Reader) -> Mode {
    let names = ["REXEC_MODE", "GIN_MODE", "ENVIRONMENT", "COMPUTE_ENVIRONMENT"];
    let Some((name, text)) = reader.text(&names) else {
        return Mode::Release;
    };
    match text.to_ascii_lowercase().as_str() {
        "release" | "production" | "prod" | "staging" => Mode::Release,
        "debug" | "development" | "dev" | "local" | "test" | "testing" => Mode::Debug,
        // A name as common as this may be set for something else.
        _ if name == "ENVIRONMENT" => Mode::Release,
        _ => {
            reader.fault(&name, "must be `release` or `debug`");
            Mode::Release
        }
    }
}

fn data_dir(reader: &mut Reader) -> PathBuf {
    if let Some((name, text)) = reader.text(&["REXEC_DATA_DIR"]) {
        let path = PathBuf::from(text);
        if !path.is_absolute() {
            reader.fault(&name, "must be an absolute path");
        } else if let Err(reason) = make_private_dir(&path) {
            reader.fault(&name, &format!("cannot be used: {reason}"));
        }
        return path;
    }
    let system = PathBuf::from(DATA_DIR_SYSTEM);
    let home = reader.ambient("HOME").map(|home| PathBuf::from(home).join(".local/share/rexec"));
    for path in [Some(system.clone()), home].into_iter().flatten() {
        if make_private_dir(&path).is_ok() {
            return path;
        }
    }
    reader.fault(
        "REXEC_DATA_DIR",
        "is unset, and neither /var/lib/rexec nor ~/.local/share/rexec can be written; name a directory",
    );
    system
}

/// Makes a directory for its owner alone and proves that it can be written.
fn make_private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?;
    Ok(())
}

fn database(reader: &mut Reader, data_dir: &Path) -> DatabaseUrl {
    let embedded = DatabaseUrl::Sqlite(data_dir.join(SQLITE_FILE));
    let Some((name, text)) = reader.text(&["DATABASE_URL"]) else {
        return embedded;
    };
    let Some((scheme, rest)) = text.split_once(':') else {
        reader
            .fault(&name, "is not an address such as `postgres://user:password@host/name` or `sqlite:/path/rexec.db`");
        return embedded;
    };
    // `postgresql+asyncpg` names a Python driver; the address means the same without it.
    match scheme.split('+').next().unwrap_or_default() {
        "postgres" | "postgresql" if rest.starts_with("//") => {
            DatabaseUrl::Postgres(Secret::new(format!("postgres:{rest}")))
        }
        "sqlite" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            let path = path.split('?').next().unwrap_or_default();
            if path.is_empty() || path.contains(":memory:") {
                reader.fault(&name, "must name a file: a database in memory would lose every account at a restart");
                return embedded;
            }
            DatabaseUrl::Sqlite(PathBuf::from(path))
        }
        _ => {
            reader.fault(&name, "must begin with `postgres://` or `sqlite:`; other databases are not supported");
            embedded
        }
    }
}

fn jwt_secret(reader: &mut Reader, database: &DatabaseUrl) -> Option<Secret> {
    let names = ["JWT_SECRET", "JWT_SECRET_KEY", "BETTER_AUTH_SECRET"];
    let Some((name, text)) = reader.text(&names) else {
        if matches!(database, DatabaseUrl::Postgres(_)) {
            reader.fault(
                "JWT_SECRET",
                "is required with an external database, so that every server signs alike; make one with `openssl rand -hex 32`",
            );
        }
        return None;
    };
    if text.len() < JWT_SECRET_BYTES_MIN {
        reader.fault(&name, "is too short to be secret; make one with `openssl rand -hex 32`");
    }
    Some(Secret::new(text))
}

fn public_url(reader: &mut Reader) -> Option<PublicUrl> {
    let names = ["PUBLIC_URL", "FRONTEND_URL", "BETTER_AUTH_URL", "NEXT_PUBLIC_APP_URL"];
    let (name, text) = reader.text(&names)?;
    let parsed: Option<http::Uri> = text.parse().ok();
    let origin = parsed.as_ref().and_then(|uri| {
        let scheme = uri.scheme_str().filter(|s| matches!(*s, "http" | "https"))?;
        let authority = uri.authority().filter(|a| !a.as_str().contains('@'))?;
        (uri.path() == "/" && uri.query().is_none())
            .then(|| (scheme == "https", format!("{scheme}://{authority}").to_ascii_lowercase()))
    });
    let Some((https, origin)) = origin else {
        reader.fault(&name, "must be an address such as `https://rexec.example.com`, without a path");
        return None;
    };
    let default_port = if https { ":443" } else { ":80" };
    let origin = origin.strip_suffix(default_port).unwrap_or(&origin).to_owned();
    Some(PublicUrl { origin, https })
}

fn web_dir(reader: &mut Reader) -> Option<PathBuf> {
    let (name, text) = reader.text(&["WEB_DIR"])?;
    let path = PathBuf::from(text);
    if !path.join("index.html").is_file() {
        reader.fault(&name, "has no index.html; build the page first, or unset it to serve the embedded one");
    }
    Some(path)
}

fn trusted_proxies(reader: &mut Reader) -> Vec<IpAddr> {
    let Some((name, text)) = reader.text(&["REXEC_TRUSTED_PROXIES"]) else {
        return Vec::new();
    };
    let parsed: Result<Vec<IpAddr>, _> =
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::parse).collect();
    parsed.unwrap_or_else(|_| {
        reader.fault(&name, "must be IP addresses separated by commas");
        Vec::new()
    })
}

fn limits(reader: &mut Reader) -> Limits {
    let default = Limits::default();
    let mut read = |name, default| reader.number(&[name], 0, 1_000_000).map_or(default, |n| n as u32);
    Limits {
        requests_per_second: read("REXEC_REQUESTS_PER_SECOND", default.requests_per_second),
        sign_ins_per_minute: read("REXEC_SIGN_INS_PER_MINUTE", default.sign_ins_per_minute),
    }
}

fn engine(reader: &mut Reader) -> EngineConfig {
    EngineConfig {
        access: access::take(reader),
        workspace_image: reader
            .text(&["REXEC_WORKSPACE_IMAGE", "COMPUTE_WORKSPACE_IMAGE"])
            .map_or_else(|| WORKSPACE_IMAGE_DEFAULT.to_owned(), |(_, text)| text),
        runtime: reader.text(&["REXEC_RUNTIME", "COMPUTE_DOCKER_RUNTIME"]).map(|(_, text)| text),
        runtimes: runtimes(reader),
        workspaces_max: reader
            .number(&["REXEC_MAX_WORKSPACES", "COMPUTE_MAX_WORKSPACES"], 1, 1_000_000)
            .map(|n| n as u32),
        network: reader.text(&["REXEC_NETWORK"]).map_or_else(|| "rexec".to_owned(), |(_, text)| text),
        nested: nested::take(reader),
        placement: placement::take(reader),
        labels: labels(reader),
        allow_weaker_isolation: flag(reader, "REXEC_ALLOW_WEAKER_ISOLATION"),
    }
}

/// Names separated by commas; `none` for none.
fn runtimes(reader: &mut Reader) -> Option<Vec<String>> {
    let (name, text) = reader.text(&["REXEC_RUNTIMES"])?;
    if text.trim() == "none" {
        return Some(Vec::new());
    }
    let names: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
    let fits = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !names.iter().all(fits) {
        reader.fault(&name, "must be names of OCI runtimes, separated by commas, such as `runc,runsc`, or `none`");
    }
    Some(names)
}

/// `name=value,name=value`.
fn labels(reader: &mut Reader) -> BTreeMap<String, String> {
    let Some((name, text)) = reader.text(&["REXEC_ENGINE_LABELS"]) else { return BTreeMap::new() };
    let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
    let pairs: Option<BTreeMap<_, _>> = text.split(',').map(pair).collect();
    pairs.filter(|pairs| pairs.keys().all(|key| !key.is_empty())).unwrap_or_else(|| {
        reader.fault(&name, "must be labels such as `team=web,stage=test`");
        BTreeMap::new()
    })
}

fn flag(reader: &mut Reader, name: &str) -> bool {
    match reader.text(&[name]).as_ref().map(|(_, text)| text.to_ascii_lowercase()).as_deref() {
        None | Some("false" | "0" | "no" | "off") => false,
        Some("true" | "1" | "yes" | "on") => true,
        Some(_) => {
            reader.fault(name, "must be `true` or `false`");
            false
        }
    }
}

fn crash_at(reader: &mut Reader) -> Option<&'static str> {
    let (name, text) = reader.text(&["REXEC_CRASH_AT"])?;
    if !cfg!(debug_assertions) {
        reader.fault(&name, "makes a server die on purpose, which only a build for tests can; unset it");
        return None;
    }
    let point = crate::crash::POINTS.into_iter().find(|point| *point == text);
    if point.is_none() {
        reader.fault(&name, &format!("must be one of {}", crate::crash::POINTS.join(", ")));
    }
    point
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
