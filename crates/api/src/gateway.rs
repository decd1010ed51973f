//! Messages between the server and the gateway of a host, which guards what its workspaces reach outside; carried by the
//! `channel` crate, as those to a guest ([`crate::guest`]).
//!
//! **Trust.** The gateway is our own program in a container of its own: its word is the host's, which is believed as far as
//! the host is. It keeps nothing: what it is told is gone when it ends, and it lets nobody through until it is told again.
//!
//! **Routes.** JSON, each may be repeated:
//!
//! ```text
//! GET    /gateway                                -> GatewayState
//! PUT    /gateway            GatewaySettings     -> GatewayState   it listens there from now on
//! PUT    /gateway/bound      [KeptAddress]       -> [Ipv4Addr]     all that there are: others reach nothing from now on;
//!                                                                  the answer names those that it is to be told of
//! POST   /gateway/bound      BoundAddress        -> {}             one more, or one changed
//! PUT    /gateway/bound/{address}/tokens  LeftTokens -> {}         of that very workspace, if it is there
//! PUT    /gateway/bound/{address}/github  ToldGithub -> {}         the same, and of that very version
//! DELETE /gateway/bound/{address}                -> {}             it reaches nothing from now on
//! GET    /gateway/records    stream of frames from the gateway, each [EgressRecord]; to the last who asked
//! ```

use crate::ids::WorkspaceId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use uuid::Uuid;

/// Where it listens, and whom it asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewaySettings {
    /// For proxy requests; names are answered at the same address.
    pub proxy: SocketAddrV4,
    /// Ports that do where another program has that one.
    #[serde(default)]
    pub other_ports: Vec<u16>,
    /// Whether it is to listen at the web's own ports, too, and have names lead there: for programs that know no proxies.
    #[serde(default)]
    pub direct: bool,
    /// Servers of names; those that its machine uses when there is none.
    #[serde(default)]
    pub resolvers: Vec<SocketAddr>,
    /// Ranges that are never dialled, in CIDR notation: the networks of workspaces.
    #[serde(default)]
    pub closed: Vec<String>,
    /// Another proxy that everything leaves by.
    #[serde(default)]
    pub upstream: Option<UpstreamProxy>,
    /// Authorities whose word counts for what a host is, in PEM; not told back.
    #[serde(default)]
    pub roots: String,
    /// Models that workspaces may be let ask for; not told back.
    #[serde(default)]
    pub models: OfferedModels,
}

/// Whom models are had of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedModels {
    #[serde(default)]
    pub openai: Option<ModelVendor>,
    #[serde(default)]
    pub anthropic: Option<ModelVendor>,
    /// Which models may be asked for: names, and beginnings of names with `*`, parted by commas.
    #[serde(default)]
    pub allow: String,
    /// Whether vendors may reach hosts of their own for whoever asks: by their search, or an address of a picture.
    #[serde(default)]
    pub outward: bool,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelVendor {
    /// Such as `https://api.openai.com/v1`.
    pub base: String,
    /// The operator's key, if the vendor asks for one.
    #[serde(default)]
    pub key: Option<String>,
}

/// Without what is secret.
impl fmt::Debug for ModelVendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamProxy {
    pub host: String,
    pub port: u16,
    /// What it asks for as `Proxy-Authorization`, whole.
    #[serde(default)]
    pub authorization: Option<String>,
}

/// Without what is secret.
impl fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayState {
    pub version: String,
    /// Another after each start: what it was told before is gone.
    pub life: Uuid,
    /// What it was told; `None` until then.
    pub settings: Option<GatewaySettings>,
    /// Where it listens.
    #[serde(default)]
    pub proxy: Option<SocketAddrV4>,
    /// Why it answers no names there, such as another program at that port.
    #[serde(default)]
    pub no_names: Option<String>,
    /// The web's ports, at which it listens: all that it is to listen at, or none.
    #[serde(default)]
    pub direct: Vec<u16>,
    /// Why none, such as another program at one of them.
    #[serde(default)]
    pub no_direct: Option<String>,
    pub bound: u32,
}

/// Whose an address is, and by which version of its policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAddress {
    pub address: Ipv4Addr,
    pub workspace: WorkspaceId,
    pub version: u64,
}

/// Whose an address is and what it may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundAddress {
    pub address: Ipv4Addr,
    pub workspace: WorkspaceId,
    /// Of the policy; named by what it decides.
    pub version: u64,
    pub policy: BoundPolicy,
    /// Of one whose requests are read: that uses secrets, or has rules about single requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<BoundSecrets>,
    /// Of one that may ask for models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<BoundModels>,
    /// Of one that may use repositories at GitHub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<BoundGithub>,
}

/// What a workspace may do at GitHub with a token that it has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundGithub {
    /// A company's own; `None`: the public one.
    #[serde(default)]
    pub host: Option<String>,
    pub repositories: Vec<String>,
    /// None: all, and tags.
    #[serde(default)]
    pub branches: Vec<String>,
    pub write: bool,
    /// The tokens are made for this workspace, and can no more than this.
    pub apart: bool,
    /// What it has in their place.
    pub placeholder: String,
    /// What is known of them by now; told later else.
    #[serde(default)]
    pub tokens: Option<GithubTokens>,
}

/// For git, and for the API; the latter moves no branch where these are limited.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GithubTokens {
    pub git: String,
    pub api: String,
}

/// Without what is secret.
impl fmt::Debug for GithubTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GithubTokens")
    }
}

/// Tokens of a workspace by this version of its policy, or why there are none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldGithub {
    pub workspace: WorkspaceId,
    pub version: u64,
    pub tokens: Result<GithubTokens, String>,
}

/// How much of the models a workspace may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundModels {
    /// Tokens from now on; `None`: as many as it likes.
    #[serde(default)]
    pub left: Option<u64>,
}

/// Secrets, and the authority by whose certificates the requests are read that they are put into.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundSecrets {
    /// The name that its certificate was made with, and its key in PEM.
    pub authority: String,
    pub authority_key: String,
    pub all: Vec<BoundSecret>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundSecret {
    pub name: String,
    pub placeholder: String,
    pub value: String,
    /// Rules about names.
    pub hosts: Vec<String>,
    pub headers: Vec<String>,
}

/// Without what is secret.
impl fmt::Debug for BoundSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.all).finish()
    }
}

impl fmt::Debug for BoundSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What is left of a budget from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftTokens {
    pub workspace: WorkspaceId,
    pub models: BoundModels,
}

/// As rules are written; what is no rule is refused as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundPolicy {
    /// `locked`, `balanced` or `open`.
    pub preset: String,
    pub layers: Vec<BoundLayer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundLayer {
    /// `always`, `organisation`, `project`, `template`, `agent` or `workspace`.
    pub origin: String,
    #[serde(default)]
    pub allow: Vec<String>,
    #[serde(default)]
    pub deny: Vec<String>,
}

/// One decision of the gateway, or the end of what it allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRecord {
    /// Milliseconds since 1970, by the gateway's clock.
    pub at_ms: i64,
    pub workspace: WorkspaceId,
    /// Of the policy that decided.
    pub version: u64,
    /// `http`, `https`, `connect`, `socks`, `direct`, `model` or `dns`.
    pub how: String,
    pub host: String,
    pub port: u16,
    pub allowed: bool,
    /// The rule that allowed it, or the code of why not.
    pub why: String,
    #[serde(default)]
    pub end: Option<EgressEnd>,
    /// Names of the secrets whose values it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Of the end of a request for a model: what it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokensUsed>,
    /// Records before this one that nobody took in time.
    #[serde(default)]
    pub lost: u64,
}

/// Tokens of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokensUsed {
    pub model: String,
    pub input: u64,
    /// Of the input: read from the vendor's cache.
    pub cached: u64,
    pub output: u64,
    /// The vendor did not tell all of it.
    pub estimated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressEnd {
    /// `None`: another proxy dialled it.
    pub address: Option<IpAddr>,
    /// From the workspace, and to it.
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub lasted_ms: u64,
}
