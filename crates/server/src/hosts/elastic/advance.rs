//! The life of one machine, a step at a time: asked for, met, taken in as a server, and deleted.
//!
//! A step asks the provider and the machine what is true now, so it may be taken again after a crash at any line of it.

use super::super::access::{Access, Fault, Tls};
use super::super::by::By;
use super::super::store as hosts;
use super::material::Material;
use super::store::{self, Machine, State};
use super::{Inner, LABEL_INSTANCE, LABEL_MACHINE, Named, owner};
use crate::error::{Error, Result};
use crate::time::now_ms;
use rexec_api::servers::NewServer;
use rexec_engine::Engine as _;
use rexec_provision::hetzner::{self, NewMachine, Progress, UserData};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the engine of a machine that is starting may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);

pub(super) enum Step {
    Taken,
    /// A machine that was wanted does not come.
    Failed,
    /// A machine has become a server.
    Arrived,
}

impl Inner {
    pub(super) async fn advance(&self, named: Named, machine: Machine) -> Result<Step> {
        match machine.state {
            State::Asked => self.ask(named, machine).await,
            State::Booting => self.meet(machine).await,
            State::Serving => match hosts::find(self.db.read(), machine.id).await? {
                Some(_) => Ok(Step::Taken),
                None => self.dismiss(Machine { state: State::Going, ..machine }).await,
            },
            State::Going => self.dismiss(machine).await,
        }
    }

    async fn ask(&self, named: Named, machine: Machine) -> Result<Step> {
        let Some(region) = self.config.regions.iter().find(|region| region.name == machine.region) else {
            return self.give_up(machine, "region_gone").await;
        };
        let Some(material) = self.material(&machine) else {
            return self.give_up(machine, "material_unreadable").await;
        };
        let config = &self.config;
        let script = material.first_script(&machine.name, config.platform_ip.as_deref(), config.script.expose());
        let new = NewMachine {
            name: machine.name.clone(),
            server_type: config.server_type.clone(),
            image: config.image.clone(),
            location: region.location.clone(),
            ssh_keys: config.ssh_keys.clone(),
            network: named.network,
            firewall: named.firewall,
            labels: self.labels(&machine),
            user_data: UserData(script),
        };
        match self.api.create(&new).await {
            Ok(made) => {
                let provider_id = i64::try_from(made.machine.id).map_err(Error::internal)?;
                let action_id = made.action.and_then(|id| i64::try_from(id).ok());
                let machine = Machine { state: State::Booting, provider_id: Some(provider_id), action_id, ..machine };
                store::update(self.db.write(), &machine).await?;
                Ok(Step::Taken)
            }
            Err(error) if error.may_have_happened() || is_passing(&error) => {
                tracing::warn!(
                    machine = machine.name,
                    error = said(&error),
                    "whether a machine is made is not known yet"
                );
                match self.is_late(&machine) {
                    true => self.give_up(machine, "no_answer").await,
                    false => Ok(Step::Taken),
                }
            }
            Err(error) => {
                tracing::warn!(machine = machine.name, error = said(&error), "a machine was refused");
                // An earlier request, whose answer never came, may have made it: it is looked for before it is forgotten.
                self.give_up(machine, error.word()).await
            }
        }
    }

    /// Whether it can be taken in by now.
    async fn meet(&self, machine: Machine) -> Result<Step> {
        // It was, and the server ended before it could write that down.
        if hosts::find(self.db.read(), machine.id).await?.is_some() {
            return self.arrived(machine).await;
        }
        match self.try_to_meet(&machine).await {
            Ok(true) => self.arrived(machine).await,
            Ok(false) if self.is_late(&machine) => self.give_up(machine, "too_late").await,
            Ok(false) => Ok(Step::Taken),
            Err(Gone(reason)) => self.give_up(machine, &reason).await,
        }
    }

    /// `false`: not yet.
    async fn try_to_meet(&self, machine: &Machine) -> std::result::Result<bool, Gone> {
        let gone = |reason: &str| Err(Gone(reason.to_owned()));
        let (Some(id), Some(material)) = (natural(machine.provider_id), self.material(machine)) else {
            return gone("material_unreadable");
        };
        if let Some(action) = natural(machine.action_id)
            && let Ok(Progress::Failed(code)) = self.api.progress(action).await
        {
            return Err(Gone(code));
        }
        let there = match self.api.machine(id).await {
            Ok(Some(there)) => there,
            Ok(None) => return gone("vanished"),
            Err(error) => {
                tracing::debug!(machine = machine.name, error = said(&error), "a machine cannot be looked at");
                return Ok(false);
            }
        };
        let address = if self.config.network.is_some() { there.private_ip } else { there.public_ip };
        let Some(address) = address else { return Ok(false) };
        let access = Access::Tcp {
            host: address,
            port: Some(self.config.docker_port),
            tls: Some(Tls::Text {
                ca: material.ca,
                cert: material.client_certificate,
                key: material.client_key,
                name: Some(machine.name.clone()),
            }),
        };
        if let Err(why) = self.is_fit(&access).await {
            tracing::debug!(machine = machine.name, why, "a machine is not ready yet");
            return Ok(false);
        }
        let new =
            NewServer { name: machine.name.clone(), region: Some(machine.region.clone()), ..NewServer::default() };
        match self.servers.admit(By::Demand("elastic"), machine.id, new, access).await {
            Ok(_) => Ok(true),
            Err(error) => {
                tracing::info!(machine = machine.name, why = %error.message, "a machine is no server yet");
                Ok(false)
            }
        }
    }

    /// Whether its engine answers and has what workspaces need, which its script may still be about to give it.
    async fn is_fit(&self, access: &Access) -> std::result::Result<(), String> {
        let engine = access.engine().map_err(|fault| fault.message)?;
        let info = tokio::time::timeout(ANSWER_MAX, engine.info()).await.map_err(|_| "no answer".to_owned())?;
        let info = info.map_err(|error| Fault::of(&error).message)?;
        match &self.runtime {
            Some(runtime) if !info.runtimes.contains(runtime) => Err(format!("it has no runtime `{runtime}`")),
            _ => Ok(()),
        }
    }

    async fn arrived(&self, machine: Machine) -> Result<Step> {
        let machine = Machine { state: State::Serving, action_id: None, material_sealed: None, ..machine };
        let tx = self.db.begin().await?;
        store::update(&tx, &machine).await?;
        self.tell(&tx, "elastic.arrived", &machine, "answers").await?;
        tx.commit().await?;
        tracing::info!(machine = machine.name, "a machine is a server now");
        Ok(Step::Arrived)
    }

    /// It is not to become a server any more, and whatever is there of it goes.
    async fn give_up(&self, machine: Machine, reason: &str) -> Result<Step> {
        if hosts::find(self.db.read(), machine.id).await?.is_some() {
            self.servers.take_out(By::Demand("unfit"), machine.id).await?;
        }
        let machine = Machine { state: State::Going, ..machine };
        let tx = self.db.begin().await?;
        store::update(&tx, &machine).await?;
        self.tell(&tx, "elastic.failed", &machine, reason).await?;
        tx.commit().await?;
        tracing::warn!(machine = machine.name, reason, "a machine does not become a server and is removed");
        metrics::counter!("rexec_elastic_failures_total", "region" => machine.region.clone(), "reason" => "not_met")
            .increment(1);
        self.dismiss(machine).await?;
        Ok(Step::Failed)
    }

    async fn dismiss(&self, machine: Machine) -> Result<Step> {
        let machine = Machine { action_id: None, material_sealed: None, ..machine };
        store::update(self.db.write(), &machine).await?;
        if let Err(error) = self.delete_there(&machine).await {
            // Not ours: whoever changed its labels has taken it over.
            if !matches!(error, hetzner::Error::NotOurs) {
                tracing::warn!(machine = machine.name, error = said(&error), "a machine cannot be deleted yet");
                return Ok(Step::Taken);
            }
            tracing::warn!(machine = machine.name, "a machine lost our labels; it is left to whoever took them off");
        }
        let tx = self.db.begin().await?;
        store::delete(&tx, machine.id).await?;
        self.tell(&tx, "elastic.removed", &machine, "deleted").await?;
        tx.commit().await?;
        tracing::info!(machine = machine.name, "a machine is gone");
        Ok(Step::Taken)
    }

    async fn delete_there(&self, machine: &Machine) -> std::result::Result<(), hetzner::Error> {
        let labels = self.labels(machine);
        let id = match natural(machine.provider_id) {
            Some(id) => Some(id),
            // Its making was never answered.
            None => self.api.list(&labels).await?.first().map(|there| there.id),
        };
        match id {
            Some(id) => self.api.delete(id, &labels).await,
            None => Ok(()),
        }
    }

    fn material(&self, machine: &Machine) -> Option<Material> {
        let text = self.sealer.open(&owner(machine.id), machine.material_sealed.as_deref()?)?;
        serde_json::from_str(text.expose()).ok()
    }

    fn labels(&self, machine: &Machine) -> BTreeMap<String, String> {
        [(LABEL_INSTANCE, self.instance.clone()), (LABEL_MACHINE, machine.id.0.to_string())]
            .map(|(key, value)| (key.to_owned(), value))
            .into()
    }

    fn is_late(&self, machine: &Machine) -> bool {
        now_ms() - machine.created_ms >= i64::try_from(self.config.boot_max.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Why it is not worth waiting for.
struct Gone(String);

/// Nothing was said on the matter itself.
fn is_passing(error: &hetzner::Error) -> bool {
    matches!(error, hetzner::Error::Unreachable(_) | hetzner::Error::TooMany(_))
}

/// With its cause, for the log.
fn said(error: &hetzner::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn natural(id: Option<i64>) -> Option<u64> {
    u64::try_from(id?).ok()
}
