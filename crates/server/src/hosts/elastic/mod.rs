//! Elastic hosts: machines at Hetzner Cloud that are made where room is short and removed where it is plenty.
//!
//! One task looks at every region in rounds: it takes each machine one step further (`advance.rs`), then asks the decision
//! (`rexec_provision::decision`, pure) what is to be done, does that one thing, and records it. It never retries within a
//! round; whatever happened, the next one finds it in the database and at the provider.
//!
//! Invariants: a machine is recorded before it is asked for, under the id of the host that it becomes, and its row stays until
//! nothing is left of it, so that a crash at any line leaves no machine that nobody knows. Only what carries this
//! installation's labels, both the installation's and the machine's own, is ever deleted, and a host only when nothing lies
//! on it. This task alone writes these rows: with many servers on one database it is the work of whoever holds a lease,
//! which is to be taken in `keep`.

mod advance;
mod material;
pub mod missed;
pub mod store;

use super::admin::{CORES_SHARED, Servers};
use super::by::By;
use super::placement::Amount;
use super::{Fleet, store as hosts};
use crate::config::{Config, ElasticConfig, ElasticRegion};
use crate::db::Db;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::sealed::Sealer;
use crate::secret::Secret;
use crate::time::now_ms;
use crate::workspaces::{CPU_MILLI_DEFAULT, MEMORY_MB_DEFAULT, held_warm};
use advance::Step;
use material::Material;
use rexec_api::ids::HostId;
use rexec_api::servers::ServerState;
use rexec_provision::decision::{self, Action, Failures, Need, Policy, Rest, Room, Round, Whose};
use rexec_provision::hetzner::{self, Hetzner, Settings, Token};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use store::{Machine, State};

/// Who makes machines, as views and metrics say it.
pub const PROVISIONER: &str = "hetzner";
/// On every machine of ours: whose it is, and which.
const LABEL_INSTANCE: &str = "rexec-instance";
const LABEL_MACHINE: &str = "rexec-machine";

/// From somebody's being refused to the round that sees to it.
const NEWS_PAUSE: Duration = Duration::from_secs(2);

/// Of so many shares of a machine's memory one is its firmware's and its kernel's. Were it promised, a machine could be made
/// for somebody whom it then does not hold.
const MEMORY_SHARES: u64 = 8;

/// Why nothing can be done before the operator has seen to it, or the provider answers.
type Trouble = String;

#[derive(Clone)]
pub struct Elastic(Arc<Inner>);

struct Inner {
    api: Hetzner,
    config: ElasticConfig,
    /// Without this runtime no workspace would start on a machine.
    runtime: Option<String>,
    instance: String,
    db: Db,
    fleet: Fleet,
    servers: Servers,
    sealer: Sealer,
}

/// What the provider calls what the configuration names.
#[derive(Clone, Copy)]
struct Named {
    machine: Room,
    network: Option<u64>,
    firewall: Option<u64>,
}

/// What one run of the task remembers.
#[derive(Default)]
struct Memory {
    named: Option<Named>,
    regions: BTreeMap<String, Known>,
    /// When each host was first seen to be drained by a person.
    drained: HashMap<HostId, i64>,
    /// Said in the log last; said again only when it is another.
    told: Option<Trouble>,
}

struct Known {
    failures: Failures,
    acted_ms: i64,
    rest: Option<Rest>,
}

impl Elastic {
    /// Absent where the operator wants none. Contacts nobody.
    pub fn new(
        config: &Config,
        db: Db,
        fleet: Fleet,
        servers: Servers,
        sealer: Sealer,
    ) -> std::result::Result<Option<Self>, hetzner::Error> {
        let Some(elastic) = config.elastic.clone() else { return Ok(None) };
        let api = Hetzner::new(&Settings { base: elastic.api.clone(), token: Token::new(elastic.token.expose()) })?;
        Ok(Some(Self(Arc::new(Inner {
            api,
            config: elastic,
            runtime: config.engine.runtime.clone(),
            instance: fleet.local().instance.clone(),
            db,
            fleet,
            servers,
            sealer,
        }))))
    }

    /// Looks after the regions until dropped.
    pub async fn keep(&self) {
        let mut memory = Memory::default();
        let mut every = tokio::time::interval(self.0.config.every);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = self.0.fleet.missed().news.notified() => {
                    // However many are refused, and for whatever.
                    tokio::time::sleep(NEWS_PAUSE.min(self.0.config.every)).await;
                }
            }
            let trouble = match self.0.round(&mut memory).await {
                Ok(trouble) => trouble,
                Err(error) => Some(told(&error)),
            };
            if trouble != memory.told {
                match &trouble {
                    Some(trouble) => tracing::warn!(trouble, "elastic hosts are not looked after as they should be"),
                    None => tracing::info!("elastic hosts are looked after again"),
                }
            }
            memory.told = trouble;
        }
    }
}

impl Inner {
    async fn round(&self, memory: &mut Memory) -> Result<Option<Trouble>> {
        let named = match memory.named {
            Some(named) => named,
            None => match self.look_up().await {
                Ok(named) => *memory.named.insert(named),
                Err(trouble) => return Ok(Some(trouble)),
            },
        };
        let mut trouble = None;
        let machines = store::all(self.db.read()).await?;
        let steps = machines.into_iter().map(|machine| async move {
            let region = machine.region.clone();
            (region, self.advance(named, machine).await)
        });
        for (region, step) in futures_util::future::join_all(steps).await {
            match step {
                Ok(step) => memory.of(&region).learn(&step),
                Err(error) => trouble = Some(told(&error)),
            }
        }
        for region in &self.config.regions {
            // What fails in one region is not the others'.
            if let Err(error) = self.look_after(memory, named, region).await {
                trouble = Some(told(&error));
            }
        }
        self.measure().await?;
        Ok(trouble)
    }

    /// Asks the provider once for what does not change.
    async fn look_up(&self) -> std::result::Result<Named, Trouble> {
        let config = &self.config;
        let said = |error: hetzner::Error| error.to_string();
        let none = |what: &str, name: &str| format!("Hetzner Cloud knows no {what} `{name}`");
        let kind = self.api.machine_type(&config.server_type).await.map_err(said)?;
        let kind = kind.ok_or_else(|| none("server type", &config.server_type))?;
        let network = match &config.network {
            Some(name) => Some(self.api.network(name).await.map_err(said)?.ok_or_else(|| none("network", name))?),
            None => None,
        };
        let firewall = match &config.firewall {
            Some(name) => Some(self.api.firewall(name).await.map_err(said)?.ok_or_else(|| none("firewall", name))?),
            None => None,
        };
        let machine = Room {
            cpu_milli: u64::from(kind.cores) * 1000 * CORES_SHARED as u64,
            memory_mb: kind.memory_mb / MEMORY_SHARES * (MEMORY_SHARES - 1),
        };
        Ok(Named { machine, network, firewall })
    }

    async fn look_after(&self, memory: &mut Memory, named: Named, region: &ElasticRegion) -> Result<()> {
        let machines: Vec<_> =
            store::all(self.db.read()).await?.into_iter().filter(|machine| machine.region == region.name).collect();
        let round = self.observe(memory, region, &machines).await?;
        let action = decision::decide(&self.policy(named), &round);
        let known = memory.of(&region.name);
        let rest = match action {
            Action::Nothing(rest) => Some(rest),
            _ => None,
        };
        if let Some(rest) = rest.filter(|rest| known.rest != Some(*rest)) {
            tracing::info!(region = region.name, reason = rest.word(), "elastic hosts stay as they are");
        }
        known.rest = rest;
        if rest.is_some() {
            return Ok(());
        }
        known.acted_ms = now_ms();
        match action {
            Action::Create(need) => self.create(memory, named, region, need).await,
            Action::Reinstate(id, need) => self.reinstate(machine(&machines, id)?, need).await,
            Action::Drain(id) => self.drain(machine(&machines, id)?).await,
            Action::Delete(id) => self.delete(named, machine(&machines, id)?).await,
            Action::Nothing(_) => Ok(()),
        }
    }

    fn policy(&self, named: Named) -> Policy {
        let config = &self.config;
        let spare = Room { cpu_milli: config.spare_cpu_milli, memory_mb: config.spare_memory_mb };
        Policy {
            min: config.min,
            max: config.max,
            machine: named.machine,
            spare,
            headroom: Room { cpu_milli: spare.cpu_milli / 2, memory_mb: spare.memory_mb / 2 },
            piece: Room { cpu_milli: CPU_MILLI_DEFAULT as u64, memory_mb: MEMORY_MB_DEFAULT.into() },
            up_pause: config.up_pause,
            down_pause: config.down_pause,
        }
    }

    /// All that the decision is to know of a region.
    async fn observe(
        &self,
        memory: &mut Memory,
        region: &ElasticRegion,
        machines: &[Machine],
    ) -> Result<Round<HostId>> {
        let now_ms = now_ms();
        let mut seen = Vec::new();
        let rows = hosts::all(self.db.read()).await?;
        // Anyone's who asks: a pool that fills what is free is no demand.
        let warm = held_warm(self.db.read()).await?;
        memory.drained.retain(|id, _| rows.iter().any(|row| row.id == *id && row.state == ServerState::Draining));
        for row in rows.into_iter().filter(|row| row.region == region.name) {
            let ours = machines.iter().find(|machine| machine.id == row.id);
            let lies = match ours {
                Some(_) => {
                    let load = hosts::load(self.db.read(), row.id).await?;
                    load.workspaces + load.homes + load.snapshots
                }
                None => row.workspaces,
            };
            let drained_ms = ours.and_then(|machine| machine.drained_ms);
            let state = match row.state {
                ServerState::Active => {
                    // Somebody has activated it, or a draining was recorded and not done.
                    if let (Some(machine), Some(_)) = (ours, drained_ms) {
                        store::update(self.db.write(), &Machine { drained_ms: None, ..machine.clone() }).await?;
                    }
                    decision::State::Active
                }
                ServerState::Draining => decision::State::Draining {
                    since_ms: drained_ms.unwrap_or_else(|| *memory.drained.entry(row.id).or_insert(now_ms)),
                    by_us: drained_ms.is_some(),
                },
            };
            seen.push(decision::Host {
                id: row.id,
                whose: if ours.is_some() { Whose::Ours } else { Whose::Operators },
                state,
                is_ready: self.fleet.of(Some(row.id)).ready().is_ok(),
                capacity: room(row.total),
                used: room(warm.get(&row.id).map_or(row.used, |(held, _)| row.used.less(*held))),
                lies: u64::try_from(lies).unwrap_or(0),
                since_ms: row.created_ms,
            });
        }
        let is_host = |machine: &&Machine| seen.iter().any(|host| host.id == machine.id);
        let count = |states: &[State]| {
            let of = machines.iter().filter(|machine| states.contains(&machine.state) && !is_host(machine));
            u32::try_from(of.count()).unwrap_or(u32::MAX)
        };
        // Who named no region is the first one's.
        let is_first = self.config.regions.first() == Some(region);
        let missed = self.fleet.missed();
        let refused = missed.of(Some(&region.name), now_ms).or_else(|| missed.of(None, now_ms).filter(|_| is_first));
        let known = memory.of(&region.name);
        Ok(Round {
            now_ms,
            coming: count(&[State::Asked, State::Booting]),
            going: count(&[State::Going, State::Serving]),
            hosts: seen,
            refused: refused.map(room),
            acted_ms: Some(known.acted_ms),
            created_ms: machines.iter().map(|machine| machine.created_ms).max(),
            failures: known.failures,
        })
    }

    async fn create(&self, memory: &mut Memory, named: Named, region: &ElasticRegion, need: Need) -> Result<()> {
        let id = HostId::new();
        // The end of a UUIDv7 is random.
        let tail = id.0.simple().to_string().split_off(24);
        let name = format!("rexec-{}-{tail}", region.name);
        let material = Material::new(&name).map_err(Error::internal)?;
        let text = serde_json::to_string(&material).map_err(Error::internal)?;
        let sealed = self.sealer.seal(&owner(id), &Secret::new(text)).map_err(Error::internal)?;
        let machine = Machine {
            id,
            name,
            region: region.name.clone(),
            state: State::Asked,
            provider_id: None,
            action_id: None,
            material_sealed: Some(sealed),
            drained_ms: None,
            created_ms: now_ms(),
        };
        let tx = self.db.begin().await?;
        store::insert(&tx, &machine).await?;
        self.tell(&tx, "elastic.created", &machine, need.word()).await?;
        tx.commit().await?;
        self.count("create", &machine, need.word());
        let step = self.advance(named, machine).await?;
        memory.of(&region.name).learn(&step);
        Ok(())
    }

    async fn drain(&self, machine: &Machine) -> Result<()> {
        // First, so that it is known whose decision it was.
        store::update(self.db.write(), &Machine { drained_ms: Some(now_ms()), ..machine.clone() }).await?;
        self.servers.turn(By::Demand("plenty_free"), machine.id, ServerState::Draining).await?;
        self.count("drain", machine, "plenty_free");
        Ok(())
    }

    async fn reinstate(&self, machine: &Machine, need: Need) -> Result<()> {
        self.servers.turn(By::Demand(need.word()), machine.id, ServerState::Active).await?;
        store::update(self.db.write(), &Machine { drained_ms: None, ..machine.clone() }).await?;
        self.count("reinstate", machine, need.word());
        Ok(())
    }

    async fn delete(&self, named: Named, machine: &Machine) -> Result<()> {
        self.servers.take_out(By::Demand("empty"), machine.id).await?;
        self.count("delete", machine, "empty");
        // It is no host any more, which has it deleted.
        self.advance(named, machine.clone()).await.map(|_| ())
    }

    fn count(&self, action: &'static str, machine: &Machine, reason: &'static str) {
        tracing::info!(machine = machine.name, region = machine.region, action, reason, "elastic hosts change");
        let labels = [("region", machine.region.clone()), ("action", action.into()), ("reason", reason.into())];
        metrics::counter!("rexec_elastic_actions_total", &labels).increment(1);
    }

    async fn tell(
        &self,
        tx: &sea_orm::DatabaseTransaction,
        kind: &'static str,
        machine: &Machine,
        reason: &str,
    ) -> Result<()> {
        let data = json!({
            "server": machine.id, "name": machine.name, "region": machine.region, "provisioner": PROVISIONER,
            "machine_id": machine.provider_id.map(|id| id.to_string()), "reason": reason,
        });
        events::append(tx, &NewEvent::of_server(kind).data(data)).await?;
        Ok(())
    }

    /// How many machines there are, as figures.
    async fn measure(&self) -> Result<()> {
        let machines = store::all(self.db.read()).await?;
        for region in &self.config.regions {
            for state in State::ALL {
                let count = machines.iter().filter(|one| one.region == region.name && one.state == state).count();
                let labels = [("region", region.name.clone()), ("state", state.as_str().into())];
                metrics::gauge!("rexec_elastic_machines", &labels).set(count as f64);
            }
        }
        Ok(())
    }
}

impl Known {
    /// What a machine's step says of those to come.
    fn learn(&mut self, step: &Step) {
        self.failures = match step {
            Step::Taken => self.failures,
            Step::Failed => Failures { in_a_row: self.failures.in_a_row.saturating_add(1), last_ms: now_ms() },
            Step::Arrived => Failures::default(),
        };
    }
}

impl Memory {
    /// One that is new has just acted: after a start nothing is taken away in haste.
    fn of(&mut self, region: &str) -> &mut Known {
        let known = || Known { failures: Failures::default(), acted_ms: now_ms(), rest: None };
        self.regions.entry(region.to_owned()).or_insert_with(known)
    }
}

/// With its cause, for the log.
fn told(error: &Error) -> Trouble {
    match &error.source {
        Some(source) => format!("{} ({source})", error.message),
        None => error.message.to_string(),
    }
}

fn machine(machines: &[Machine], id: HostId) -> Result<&Machine> {
    machines.iter().find(|machine| machine.id == id).ok_or_else(|| Error::not_found("server"))
}

fn room(amount: Amount) -> Room {
    let natural = |number: i64| u64::try_from(number).unwrap_or(0);
    Room { cpu_milli: natural(amount.cpu_milli), memory_mb: natural(amount.memory_mb) }
}

fn owner(id: HostId) -> String {
    format!("machine {id}")
}
