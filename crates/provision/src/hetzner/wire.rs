//! The API's bodies, as far as they matter here; what else is in them is left alone.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Of a code or a status that the API says.
const WORD_CHARS_MAX: usize = 64;

#[derive(Serialize)]
pub struct CreateBody<'a> {
    pub name: &'a str,
    pub server_type: &'a str,
    pub image: &'a str,
    pub location: &'a str,
    pub ssh_keys: &'a [String],
    pub networks: Vec<u64>,
    pub firewalls: Vec<FirewallRef>,
    pub labels: &'a BTreeMap<String, String>,
    pub user_data: &'a str,
    pub start_after_create: bool,
    pub public_net: PublicNet,
}

#[derive(Serialize)]
pub struct FirewallRef {
    pub firewall: u64,
}

#[derive(Serialize)]
pub struct PublicNet {
    pub enable_ipv4: bool,
    pub enable_ipv6: bool,
}

/// Every answer that is not an error. A list that is absent is not an empty one: what is not listed counts as gone.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Envelope {
    pub server: Option<ServerBody>,
    pub servers: Option<Vec<ServerBody>>,
    pub action: Option<ActionBody>,
    pub server_types: Option<Vec<TypeBody>>,
    pub networks: Option<Vec<Named>>,
    pub firewalls: Option<Vec<Named>>,
    pub meta: Option<Meta>,
}

#[derive(Deserialize)]
pub struct Meta {
    pub pagination: Option<Pagination>,
}

#[derive(Deserialize)]
pub struct Pagination {
    pub next_page: Option<u64>,
}

#[derive(Deserialize)]
pub struct ServerBody {
    pub id: u64,
    pub name: String,
    #[serde(default)]
    pub status: String,
    #[serde(default, deserialize_with = "or_none")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_none")]
    pub private_net: Vec<PrivateNet>,
    pub public_net: Option<PublicNetBody>,
}

#[derive(Deserialize)]
pub struct PrivateNet {
    pub ip: Option<String>,
}

#[derive(Deserialize)]
pub struct PublicNetBody {
    pub ipv4: Option<Ipv4>,
}

#[derive(Deserialize)]
pub struct Ipv4 {
    pub ip: Option<String>,
}

#[derive(Deserialize)]
pub struct ActionBody {
    pub id: u64,
    #[serde(default)]
    pub status: String,
    pub error: Option<Fault>,
}

#[derive(Deserialize)]
pub struct TypeBody {
    pub name: String,
    pub cores: u32,
    pub memory: f64,
    pub disk: u64,
}

#[derive(Deserialize)]
pub struct Named {
    pub id: u64,
    pub name: String,
}

#[derive(Deserialize)]
pub struct Failure {
    pub error: Fault,
}

#[derive(Deserialize)]
pub struct Fault {
    pub code: String,
    #[serde(default)]
    pub message: String,
}

/// `null` is as good as absent.
fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A word of the API's, tamed for logs and labels.
pub fn word(text: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    text.chars().filter(plain).take(WORD_CHARS_MAX).collect()
}
