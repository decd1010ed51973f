//! A client of Hetzner Cloud's API, for servers: the calls that making and removing machines takes.
//!
//! The API is documented at <https://docs.hetzner.cloud/reference/cloud>: JSON over HTTPS, a bearer token, errors as
//! `{"error":{"code","message"}}`, lists in pages (`meta.pagination.next_page`), slow work as actions, and 3600 requests an
//! hour, told by `RateLimit-Remaining` and `RateLimit-Reset` (seconds since 1970).
//!
//! Trust boundary: what comes back is bounded in time and size. The token goes to the base address only (no redirects, no
//! proxy) and is in no error, log or `Debug`.
//!
//! Invariants: a machine is made once, however often it is asked for by the same name, and found again when the answer to
//! its making was lost. What lacks the labels that the caller names is never deleted. After "too many requests" nothing is
//! sent until the time that the API named.

mod call;
mod wire;

pub use call::{Error, Hetzner, Settings, Token};

use std::collections::BTreeMap;
use wire::{ActionBody, CreateBody, Envelope, Named, PublicNet, ServerBody, TypeBody};

/// Machines of one installation that are looked at: pages of this many, and so many of them.
const PAGE: usize = 50;
const PAGES_MAX: usize = 40;
/// The API's own bound of `user_data`.
pub const USER_DATA_BYTES_MAX: usize = 32 * 1024;

/// A machine to make.
#[derive(Debug, Clone)]
pub struct NewMachine {
    /// No other machine's of the project, and a host name: it makes the making idempotent.
    pub name: String,
    pub server_type: String,
    pub image: String,
    pub location: String,
    /// Names or ids.
    pub ssh_keys: Vec<String>,
    /// Ids, see [`Hetzner::network`] and [`Hetzner::firewall`].
    pub network: Option<u64>,
    pub firewall: Option<u64>,
    /// Found again and deleted by these.
    pub labels: BTreeMap<String, String>,
    /// What runs at its first start; it may hold secrets.
    pub user_data: UserData,
}

/// Text that is in no `Debug`.
#[derive(Clone)]
pub struct UserData(pub String);

impl std::fmt::Debug for UserData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserData({} bytes)", self.0.len())
    }
}

/// A machine that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub id: u64,
    pub name: String,
    /// Such as `initializing`, `running`, `off`, `deleting`.
    pub status: String,
    pub labels: BTreeMap<String, String>,
    /// In the first private network it is in; it comes a moment after the machine.
    pub private_ip: Option<String>,
    pub public_ip: Option<String>,
}

/// What a kind of machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineType {
    pub name: String,
    pub cores: u32,
    pub memory_mb: u64,
    pub disk_gb: u64,
}

/// How a piece of slow work goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Running,
    Done,
    /// With the API's own code.
    Failed(String),
}

/// What a machine's making came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub machine: Machine,
    /// Absent where it had been made before.
    pub action: Option<u64>,
}

impl Hetzner {
    /// Makes a machine, or finds the one of that name and those labels that was made before.
    ///
    /// # Errors
    /// [`Error::Lost`]: it may or may not come; ask again with the same name. [`Error::Refused`] with `uniqueness_error`:
    /// somebody else's machine has the name.
    pub async fn create(&self, new: &NewMachine) -> Result<Made, Error> {
        let body = CreateBody {
            name: &new.name,
            server_type: &new.server_type,
            image: &new.image,
            location: &new.location,
            ssh_keys: &new.ssh_keys,
            networks: new.network.into_iter().collect(),
            firewalls: new.firewall.into_iter().map(|firewall| wire::FirewallRef { firewall }).collect(),
            labels: &new.labels,
            user_data: &new.user_data.0,
            start_after_create: true,
            public_net: PublicNet { enable_ipv4: true, enable_ipv6: true },
        };
        let refused = match self.post::<Envelope>("/servers", &body).await {
            Ok(answer) => {
                let action = answer.action.map(|action| action.id);
                return Ok(Made { machine: told(answer.server)?.into(), action });
            }
            Err(error) => error,
        };
        if !refused.may_have_happened() && refused.code() != Some("uniqueness_error") {
            return Err(refused);
        }
        match self.find(&new.name).await {
            Ok(Some(machine)) if has_labels(&machine, &new.labels) => Ok(Made { machine, action: None }),
            Ok(_) => Err(refused),
            // Whether it is there is as unknown as before, or it is not known whose it is.
            Err(_) => Err(Error::Lost(None)),
        }
    }

    /// All machines with these labels.
    pub async fn list(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Machine>, Error> {
        let selector = labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        let mut machines = Vec::new();
        let mut page = 1;
        for _ in 0..PAGES_MAX {
            let query =
                [("label_selector", selector.clone()), ("per_page", PAGE.to_string()), ("page", page.to_string())];
            let answer: Envelope = self.get("/servers", &query).await?;
            machines.extend(told(answer.servers)?.into_iter().map(Machine::from));
            match answer.meta.and_then(|meta| meta.pagination).and_then(|pages| pages.next_page) {
                Some(next) if next > page => page = next,
                // What the selector does not hold back would be taken for ours.
                _ => return Ok(machines.into_iter().filter(|machine| has_labels(machine, labels)).collect()),
            }
        }
        Err(Error::Strange("there are more machines than an installation has"))
    }

    /// The machine of that name, whosever.
    pub async fn find(&self, name: &str) -> Result<Option<Machine>, Error> {
        let answer: Envelope = self.get("/servers", &[("name", name.to_owned())]).await?;
        Ok(told(answer.servers)?.into_iter().map(Machine::from).find(|machine| machine.name == name))
    }

    pub async fn machine(&self, id: u64) -> Result<Option<Machine>, Error> {
        match self.get::<Envelope>(&format!("/servers/{id}"), &[]).await {
            Ok(answer) => Ok(Some(told(answer.server)?.into())),
            Err(error) if error.code() == Some("not_found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a machine that has these labels at this moment. One that is gone already is deleted.
    ///
    /// # Errors
    /// [`Error::NotOurs`] without the labels; [`Error::Refused`] with `locked` while something else is done to it: try again.
    pub async fn delete(&self, id: u64, labels: &BTreeMap<String, String>) -> Result<(), Error> {
        let Some(machine) = self.machine(id).await? else { return Ok(()) };
        if labels.is_empty() || !has_labels(&machine, labels) {
            return Err(Error::NotOurs);
        }
        match self.remove(&format!("/servers/{id}")).await {
            Err(error) if error.code() == Some("not_found") => Ok(()),
            other => other,
        }
    }

    pub async fn progress(&self, action: u64) -> Result<Progress, Error> {
        let answer: Envelope = self.get(&format!("/actions/{action}"), &[]).await?;
        let ActionBody { status, error, .. } = told(answer.action)?;
        Ok(match status.as_str() {
            "success" => Progress::Done,
            "error" => Progress::Failed(error.map_or_else(|| "unknown_error".into(), |error| wire::word(&error.code))),
            _ => Progress::Running,
        })
    }

    /// What machines of a type have; `None`: there is no such type.
    pub async fn machine_type(&self, name: &str) -> Result<Option<MachineType>, Error> {
        let answer: Envelope = self.get("/server_types", &[("name", name.to_owned())]).await?;
        Ok(told(answer.server_types)?.into_iter().find(|kind| kind.name == name).map(MachineType::from))
    }

    /// The id of a network, by its name or its id.
    pub async fn network(&self, name: &str) -> Result<Option<u64>, Error> {
        Ok(id_in(told(self.get::<Envelope>("/networks", &by_name(name)).await?.networks)?, name))
    }

    /// The id of a firewall, by its name or its id.
    pub async fn firewall(&self, name: &str) -> Result<Option<u64>, Error> {
        Ok(id_in(told(self.get::<Envelope>("/firewalls", &by_name(name)).await?.firewalls)?, name))
    }
}

fn told<T>(part: Option<T>) -> Result<T, Error> {
    part.ok_or(Error::Strange("it lacks what was asked for"))
}

fn by_name(name: &str) -> Vec<(&'static str, String)> {
    let per_page = ("per_page", PAGE.to_string());
    match name.parse::<u64>() {
        Ok(_) => vec![per_page],
        Err(_) => vec![("name", name.to_owned()), per_page],
    }
}

fn id_in(found: Vec<Named>, name: &str) -> Option<u64> {
    let id: Option<u64> = name.parse().ok();
    found.into_iter().find(|one| one.name == name || Some(one.id) == id).map(|one| one.id)
}

fn has_labels(machine: &Machine, labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(key, value)| machine.labels.get(key) == Some(value))
}

impl From<ServerBody> for Machine {
    fn from(body: ServerBody) -> Self {
        Self {
            id: body.id,
            private_ip: body.private_net.into_iter().find_map(|net| net.ip),
            public_ip: body.public_net.and_then(|net| net.ipv4).and_then(|v4| v4.ip),
            name: body.name,
            status: wire::word(&body.status),
            labels: body.labels,
        }
    }
}

impl From<TypeBody> for MachineType {
    fn from(body: TypeBody) -> Self {
        Self {
            name: body.name,
            cores: body.cores,
            // GiB, with a fraction for the smallest.
            memory_mb: (body.memory.max(0.0) * 1024.0) as u64,
            disk_gb: body.disk,
        }
    }
}
