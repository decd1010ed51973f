//! What one workspace may reach, decided: pure.
//!
//! A policy is layers, the strongest first: always, organisation, project, template, agent, workspace. What any layer
//! denies is denied; what none denies and one allows is allowed; everything else is denied. So a weaker layer never widens
//! what a stronger one has closed, and always may be stricter. Which layer decided is said.
//!
//! Names and addresses are two questions. A name is decided by rules about names, before it is resolved; the address that
//! it leads to is vetted by rules about ranges, before it is dialled. Invariants: what [`Class::closed`] says is closed, no
//! rule opens; a private address is reached only through an allowing rule that names its range, never by a name alone; a
//! denied range stays denied in whatever form its addresses come. Requests are a third: rules with a method or a path are
//! about them alone, a host that such a rule is about is one whose requests are read, and each of them is decided anew.

use crate::address::{Class, canonical, carried, class};
use crate::asks;
use crate::host::{Host, HostName};
use crate::presets;
use crate::rule::{Ports, Range, Rule, To};
use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Always,
    Organisation,
    Project,
    Template,
    Agent,
    Workspace,
    Preset,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Nothing but what rules allow.
    #[default]
    Locked,
    /// Package registries, code hosts, model vendors.
    Balanced,
    /// The public internet.
    Open,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub origin: Origin,
    pub allow: Vec<Rule>,
    pub deny: Vec<Rule>,
}

/// By default nothing is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    preset: Preset,
    rules: Rules,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// By this rule.
    Allow {
        origin: Origin,
        rule: String,
    },
    Deny(Denied),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// A rule says so.
    Rule { origin: Origin, rule: String },
    /// No rule allows it.
    NoRule,
    /// An address was asked for, and no rule names its range.
    Literal,
    /// It leads to where nothing may lead: metadata, this machine, link-local, multicast.
    Closed(Class),
    /// It leads into a private range that no rule names.
    Private,
    /// Some requests there are allowed, and this is none of them.
    Request,
    /// Its path could be taken for another.
    Path,
}

impl Policy {
    /// Layers in any order; rules that are known to be right. `open` allows every name and public address at every port.
    pub fn new(preset: Preset, layers: Vec<Layer>) -> Self {
        Self { preset, rules: Rules::new(layers) }
    }

    /// May this be asked for? For a name: before it is resolved.
    pub fn decide(&self, host: &Host, port: u16) -> Decision {
        match host {
            Host::Name(name) => self.decide_name(name, port),
            Host::Address(address) => self.decide_address(*address, port),
        }
    }

    /// May what was allowed by its name be dialled at this address? What `decide` allowed for the same address.
    ///
    /// Of an address that was asked for, only the one that is dialled is judged, should they differ.
    pub fn vet(&self, host: &Host, port: u16, address: IpAddr) -> Result<(), Denied> {
        match host {
            Host::Address(_) => match self.decide_address(address, port) {
                Decision::Allow { .. } => Ok(()),
                Decision::Deny(denied) => Err(denied),
            },
            Host::Name(_) => {
                let class = self.not_denied(address, port)?;
                match class == Class::Private && self.rules.allow.range(address, port, class).is_none() {
                    true => Err(Denied::Private),
                    false => Ok(()),
                }
            }
        }
    }

    /// A port at which this name may be asked for, if there is any, and by which rule. What is not known at all is not looked
    /// up for anybody.
    pub fn knows(&self, name: &HostName) -> Option<(u16, String)> {
        let preset = presets::rules(self.preset);
        let ports = [&self.rules.allow, &preset.allow].into_iter().flat_map(|allow| allow.ports(name));
        let ports = ports.chain(self.rules.allow_asks.about(name).map(|(rule, _)| rule.ports));
        let mut ports = ports.flat_map(|ports| match ports {
            Ports::Web => [80, 443],
            // Whatever is denied, hardly anything denies one of these and not all.
            Ports::Any => [22, 443],
            Ports::Between(first, last) => [first, last],
        });
        ports.find_map(|port| match self.decide_name(name, port) {
            Decision::Allow { rule, .. } => Some((port, rule)),
            Decision::Deny(_) => None,
        })
    }

    /// May this be reached at this address, both questions together? For what is open, or was decided a while ago. Without an
    /// address, which another proxy alone knows, the first.
    pub fn reach(&self, host: &Host, port: u16, address: Option<IpAddr>) -> Result<String, Denied> {
        match self.decide(host, port) {
            Decision::Allow { rule, .. } => {
                address.map_or(Ok(()), |address| self.vet(host, port, address)).map(|()| rule)
            }
            Decision::Deny(denied) => Err(denied),
        }
    }

    fn decide_name(&self, name: &HostName, port: u16) -> Decision {
        if let Some(at) = self.rules.deny.name(name, port) {
            return Decision::Deny(self.rules.denied(at));
        }
        let preset = presets::rules(self.preset);
        if let Some(at) = self.rules.allow.name(name, port) {
            return self.rules.allowed(at);
        }
        if let Some(at) = preset.allow.name(name, port) {
            return preset.allowed(at);
        }
        // Which requests, is decided when one is read.
        let some = self.rules.allow_asks.at(name, port).next();
        some.map_or(Decision::Deny(Denied::NoRule), |(_, at)| self.rules.allowed(at))
    }

    /// Whether requests there are read, each to be decided.
    pub fn reads(&self, host: &Host, port: u16) -> bool {
        let Host::Name(name) = host else { return false };
        [&self.rules.allow_asks, &self.rules.deny_asks].iter().any(|asks| asks.at(name, port).next().is_some())
    }

    /// May this be asked for at a host that was allowed? `path` as it is sent, without its query.
    pub fn decide_request(&self, host: &Host, port: u16, method: &str, path: &str) -> Result<(), Denied> {
        let Host::Name(name) = host else { return Ok(()) };
        if !self.reads(host, port) {
            return Ok(());
        }
        let path = match path {
            // About the whole host (`OPTIONS *`).
            "*" => path.to_owned(),
            path => asks::plain(path).ok_or(Denied::Path)?,
        };
        let fits = |(rule, _): &(&Rule, At)| rule.asks.as_ref().is_some_and(|asks| asks.fit(method, &path));
        if let Some((_, at)) = self.rules.deny_asks.at(name, port).find(fits) {
            return Err(self.rules.denied(at));
        }
        let is_allowed = self.rules.allow.name(name, port).is_some()
            || presets::rules(self.preset).allow.name(name, port).is_some()
            || self.rules.allow_asks.at(name, port).any(|one| fits(&one));
        if is_allowed { Ok(()) } else { Err(Denied::Request) }
    }

    fn decide_address(&self, address: IpAddr, port: u16) -> Decision {
        let class = match self.not_denied(address, port) {
            Ok(class) => class,
            Err(denied) => return Decision::Deny(denied),
        };
        match self.rules.allow.range(address, port, class) {
            Some(at) => self.rules.allowed(at),
            None if self.preset != Preset::Open => Decision::Deny(Denied::Literal),
            None if class == Class::Public => {
                Decision::Allow { origin: Origin::Preset, rule: presets::ANYTHING.to_owned() }
            }
            None => Decision::Deny(Denied::Private),
        }
    }

    /// The class of an address that is neither closed nor denied by its range, nor by the range of one that it carries.
    fn not_denied(&self, address: IpAddr, port: u16) -> Result<Class, Denied> {
        let class = class(address);
        if class.closed() {
            return Err(Denied::Closed(class));
        }
        let inner = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(carried(address).map(IpAddr::V4)),
        };
        let denied = std::iter::once(address)
            .chain(inner.into_iter().flatten())
            .filter_map(|address| self.rules.deny.address(address, port))
            .min();
        denied.map_or(Ok(class), |at| Err(self.rules.denied(at)))
    }
}

/// Layers, the strongest first, and where their rules are found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    layers: Vec<Layer>,
    allow: Index,
    deny: Index,
    allow_asks: AskIndex,
    deny_asks: AskIndex,
}

/// Rules about requests, the strongest first: few have any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct AskIndex(Vec<(Rule, At)>);

impl AskIndex {
    fn about(&self, name: &HostName) -> impl Iterator<Item = (&Rule, At)> {
        self.0.iter().filter(|(rule, _)| rule.is_about(name)).map(|(rule, at)| (rule, *at))
    }

    fn at(&self, name: &HostName, port: u16) -> impl Iterator<Item = (&Rule, At)> {
        self.about(name).filter(move |(rule, _)| rule.ports.contain(port))
    }
}

impl Rules {
    pub(crate) fn new(mut layers: Vec<Layer>) -> Self {
        layers.sort_by_key(|layer| layer.origin);
        let mut rules = Self { layers, ..Self::default() };
        for (layer, of) in rules.layers.iter().enumerate() {
            for (list, index, asks) in [
                (&of.allow, &mut rules.allow, &mut rules.allow_asks),
                (&of.deny, &mut rules.deny, &mut rules.deny_asks),
            ] {
                for (rule, of) in list.iter().enumerate() {
                    let at = At { layer, rule };
                    match of.asks {
                        Some(_) => asks.0.push((of.clone(), at)),
                        None => index.add(of, at),
                    }
                }
            }
        }
        rules
    }

    fn allowed(&self, at: At) -> Decision {
        let layer = &self.layers[at.layer];
        Decision::Allow { origin: layer.origin, rule: layer.allow[at.rule].to_string() }
    }

    fn denied(&self, at: At) -> Denied {
        let layer = &self.layers[at.layer];
        Denied::Rule { origin: layer.origin, rule: layer.deny[at.rule].to_string() }
    }
}

/// Where a rule stands: the smaller, the stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct At {
    layer: usize,
    rule: usize,
}

/// Rules of one kind by what they are about, so that a name costs as many look-ups as it has labels. Ranges are few, and
/// looking through thousands of them is nothing beside the dialling that it comes before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Index {
    any: Vec<(Ports, At)>,
    names: HashMap<HostName, Vec<(Ports, At)>>,
    below: HashMap<HostName, Vec<(Ports, At)>>,
    ranges: Vec<(Range, Ports, At)>,
}

impl Index {
    fn add(&mut self, rule: &Rule, at: At) {
        let entry = (rule.ports, at);
        match &rule.to {
            To::AnyName => self.any.push(entry),
            To::Name(name) => self.names.entry(name.clone()).or_default().push(entry),
            To::Below(suffix) => self.below.entry(suffix.clone()).or_default().push(entry),
            To::Range(range) => self.ranges.push((*range, rule.ports, at)),
        }
    }

    /// The strongest rule that is about this name.
    fn name(&self, name: &HostName, port: u16) -> Option<At> {
        self.about(name).filter(|(ports, _)| ports.contain(port)).map(|(_, at)| *at).min()
    }

    /// Which ports the rules about this name are about.
    fn ports(&self, name: &HostName) -> impl Iterator<Item = Ports> {
        self.about(name).map(|(ports, _)| *ports)
    }

    fn about(&self, name: &HostName) -> impl Iterator<Item = &(Ports, At)> {
        let below = name.above().filter_map(|suffix| self.below.get(suffix));
        std::iter::once(&self.any).chain(self.names.get(name)).chain(below).flatten()
    }

    /// The strongest rule that opens this address. A private one is opened by ranges that are private themselves: whoever
    /// allows every address there is means the internet.
    fn range(&self, address: IpAddr, port: u16, of: Class) -> Option<At> {
        let address = canonical(address);
        let fits = |range: &Range| of != Class::Private || class(range.base) == Class::Private;
        let mut found = self.ranges.iter().filter(|(range, ports, _)| ports.contain(port) && range.contains(address));
        found.find(|(range, ..)| fits(range)).map(|(.., at)| *at)
    }

    /// The strongest rule that is about this address.
    fn address(&self, address: IpAddr, port: u16) -> Option<At> {
        let address = canonical(address);
        let mut found = self.ranges.iter().filter(|(range, ports, _)| ports.contain(port) && range.contains(address));
        // They were added in order.
        found.next().map(|(.., at)| *at)
    }
}

impl Origin {
    /// Whose rules they are, as it stands in a sentence.
    fn words(self) -> &'static str {
        match self {
            Self::Always => "this server's",
            Self::Organisation => "the organisation's",
            Self::Project => "the project's",
            Self::Template => "the template's",
            Self::Agent => "the agent's",
            Self::Workspace => "the workspace's",
            Self::Preset => "the preset's",
        }
    }
}

impl Decision {
    /// What was decided, in a sentence for whoever asked.
    pub fn sentence(&self, host: impl Display, port: u16) -> String {
        match self {
            Self::Allow { origin, rule } => {
                format!("{host}:{port} is allowed by {rule}, one of {} rules.", origin.words())
            }
            Self::Deny(denied) => denied.sentence(host, port),
        }
    }
}

impl Denied {
    /// The code that programs are told.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rule { .. } => "egress_denied_by_rule",
            Self::NoRule => "egress_not_allowed",
            Self::Literal => "egress_address_literal",
            Self::Closed(_) => "egress_closed_range",
            Self::Private => "egress_private_range",
            Self::Request => "egress_request_not_allowed",
            Self::Path => "egress_path_ambiguous",
        }
    }

    /// Why not, and what can be done about it, in a sentence for whoever was refused.
    pub fn sentence(&self, host: impl Display, port: u16) -> String {
        match self {
            Self::Rule { origin, rule } => {
                let who = match origin {
                    Origin::Always => "only this server's administrator can change that",
                    Origin::Organisation => "only whoever keeps the organisation's rules can change that",
                    _ => "remove that rule, if it should be reached",
                };
                format!("{rule}, one of {} rules, denies {host}:{port}; {who}.", origin.words())
            }
            Self::NoRule => format!("No rule allows {host}:{port}; add it to the workspace's rules."),
            Self::Literal => format!(
                "No rule names the address {host}:{port}; ask for a name instead, or add the address to the workspace's rules."
            ),
            Self::Closed(class) => {
                let what = match class {
                    Class::Metadata => "a cloud's metadata service",
                    Class::Own => "the machine that workspaces run on",
                    Class::LinkLocal => "the link that machines share",
                    Class::Unusable | Class::Public | Class::Private => "an address that is nobody's",
                };
                format!("{host}:{port} leads to {what}, which no rule can open; ask for something else.")
            }
            Self::Request => {
                format!(
                    "Some requests to {host}:{port} are allowed, and this is none of them; add it to the workspace's rules."
                )
            }
            Self::Path => format!(
                "Requests to {host}:{port} are judged by their paths, and this one could be taken for another; write it without \
                 `.`, `..`, empty parts and encoded slashes."
            ),
            Self::Private => format!(
                "{host}:{port} leads into a private network; add a rule with its range, such as 10.1.0.0/16:{port}, to the \
                 workspace's rules."
            ),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
