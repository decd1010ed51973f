//! On which host a workspace is made: pure.
//!
//! What is asked for and what is known of every host goes in; the hosts that could take it come out, the best first, and
//! why each of the others cannot. The reservation is another matter (`reserve.rs`): of two who choose the same last place
//! one gets it, the other tries the next.
//!
//! Invariants: never a host that is draining, not ready, or too small; equal input gives equal output, in any order of hosts.

use rexec_api::ids::HostId;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

/// Of two hosts that both could.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// The one with the most left.
    #[default]
    Spread,
    /// The one with the least left: whole hosts stay empty.
    Pack,
}

/// A host as placement sees it.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub id: HostId,
    pub name: String,
    pub region: String,
    /// It has as many workspaces as it may have.
    pub region_is_full: bool,
    pub is_active: bool,
    /// Why it cannot be used at this moment.
    pub away: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Those that workspaces may have there.
    pub runtimes: Vec<String>,
    pub architecture: String,
    /// What one workspace can have at most; `None`: the engine does not tell.
    pub cores_milli: Option<i64>,
    pub memory_mb: Option<i64>,
    /// 0: without a limit.
    pub total: Amount,
    pub used: Amount,
    pub workspaces: i64,
    pub workspaces_max: Option<i64>,
}

/// Of cores, memory and disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    pub cpu_milli: i64,
    pub memory_mb: i64,
    pub disk_mb: i64,
}

impl Amount {
    pub fn and(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_mb: self.memory_mb.saturating_add(other.memory_mb),
            disk_mb: self.disk_mb.saturating_add(other.disk_mb),
        }
    }

    pub fn less(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli - other.cpu_milli,
            memory_mb: self.memory_mb - other.memory_mb,
            disk_mb: self.disk_mb - other.disk_mb,
        }
    }
}

/// What is about to be taken of a host by others who chose it before, and is not in its numbers yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ahead {
    pub amount: Amount,
    pub workspaces: i64,
}

impl Ahead {
    pub fn and(self, other: Self) -> Self {
        Self { amount: self.amount.and(other.amount), workspaces: self.workspaces + other.workspaces }
    }

    pub fn less(self, other: Self) -> Self {
        Self { amount: self.amount.less(other.amount), workspaces: self.workspaces - other.workspaces }
    }
}

/// What a workspace needs.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub region: Option<String>,
    /// A host by name, or as what lies there: a volume, a snapshot.
    pub host: Option<String>,
    pub near: Option<HostId>,
    /// Anywhere but there.
    pub not: Option<HostId>,
    pub runtime: Option<String>,
    pub architecture: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub amount: Amount,
    /// These were named; else they are a wish, and less will do.
    pub names_cpu: bool,
    pub names_memory: bool,
}

/// Why a host cannot take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// Another was asked for.
    Other,
    Region,
    Labels,
    Architecture,
    Draining,
    Away(String),
    /// Its region has as many as it may have.
    RegionFull,
    Runtime,
    /// It is smaller than what was asked for.
    TooSmall,
    /// Others have what it would need.
    Full(&'static str),
}

impl Rejection {
    /// Stable, for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Other => "not_asked_for",
            Self::Region => "region",
            Self::Labels => "labels",
            Self::Architecture => "architecture",
            Self::Draining => "draining",
            Self::Away(_) => "unreachable",
            Self::RegionFull => "region_full",
            Self::Runtime => "runtime",
            Self::TooSmall => "too_small",
            Self::Full(_) => "full",
        }
    }

    pub fn sentence(&self) -> String {
        match self {
            Self::Other => "another was asked for".into(),
            Self::Region => "it is in another region".into(),
            Self::Labels => "it has not the labels".into(),
            Self::Architecture => "it is of another architecture".into(),
            Self::Draining => "it takes no more workspaces".into(),
            Self::Away(why) => format!("it cannot be reached ({why})"),
            Self::RegionFull => "its region has as many workspaces as it may have".into(),
            Self::Runtime => "it has not the runtime, does not allow it, or loses what is written by it".into(),
            Self::TooSmall => "it is too small".into(),
            Self::Full(what) => format!("it has no {what} left"),
        }
    }
}

impl Wanted {
    /// What it would get there.
    pub fn fitted(&self, host: &Candidate) -> Amount {
        let fit = |wanted: i64, is_named: bool, most: Option<i64>| match most {
            Some(most) if !is_named => wanted.min(most),
            _ => wanted,
        };
        Amount {
            cpu_milli: fit(self.amount.cpu_milli, self.names_cpu, host.cores_milli),
            memory_mb: fit(self.amount.memory_mb, self.names_memory, host.memory_mb),
            disk_mb: self.amount.disk_mb,
        }
    }

    fn rejects(&self, host: &Candidate) -> Option<Rejection> {
        let differs = |wanted: &Option<String>, has: &str| wanted.as_ref().is_some_and(|wanted| wanted != has);
        if differs(&self.host, &host.name) || self.near.is_some_and(|near| near != host.id) || self.not == Some(host.id)
        {
            return Some(Rejection::Other);
        }
        if differs(&self.region, &host.region) {
            return Some(Rejection::Region);
        }
        if self.labels.iter().any(|(key, value)| host.labels.get(key) != Some(value)) {
            return Some(Rejection::Labels);
        }
        if !host.is_active {
            return Some(Rejection::Draining);
        }
        if let Some(why) = &host.away {
            return Some(Rejection::Away(why.clone()));
        }
        if differs(&self.architecture, &host.architecture) {
            return Some(Rejection::Architecture);
        }
        if self.runtime.as_ref().is_some_and(|runtime| !host.runtimes.contains(runtime)) {
            return Some(Rejection::Runtime);
        }
        let amount = self.fitted(host);
        let beyond = |amount: i64, most: Option<i64>| most.is_some_and(|most| amount > most);
        if beyond(amount.cpu_milli, host.cores_milli) || beyond(amount.memory_mb, host.memory_mb) {
            return Some(Rejection::TooSmall);
        }
        if host.region_is_full {
            return Some(Rejection::RegionFull);
        }
        host.lacks(amount).map(Rejection::Full)
    }
}

impl Candidate {
    /// What is not there as much as that; `None`: there is room.
    fn lacks(&self, amount: Amount) -> Option<&'static str> {
        let is_short = |total: i64, used: i64, more: i64| total > 0 && used.saturating_add(more) > total;
        if self.workspaces_max.is_some_and(|max| self.workspaces >= max) {
            return Some("place");
        }
        if is_short(self.total.cpu_milli, self.used.cpu_milli, amount.cpu_milli) {
            return Some("cores");
        }
        if is_short(self.total.memory_mb, self.used.memory_mb, amount.memory_mb) {
            return Some("memory");
        }
        is_short(self.total.disk_mb, self.used.disk_mb, amount.disk_mb).then_some("disk")
    }

    /// How full it is with that, in millionths of the scarcer of cores and memory; of the machine itself where nothing is
    /// limited.
    fn load_with(&self, amount: Amount) -> i64 {
        let share = |total: i64, machine: Option<i64>, used: i64| {
            let whole = if total > 0 { total } else { machine.unwrap_or(0) };
            used.max(0).saturating_mul(1_000_000).checked_div(whole).unwrap_or(0)
        };
        let cpu = share(self.total.cpu_milli, self.cores_milli, self.used.cpu_milli.saturating_add(amount.cpu_milli));
        let memory = share(self.total.memory_mb, self.memory_mb, self.used.memory_mb.saturating_add(amount.memory_mb));
        cpu.max(memory)
    }
}

/// Where it could be made, the best first; or why nowhere.
pub fn place<'a>(
    strategy: Strategy,
    wanted: &Wanted,
    hosts: &'a [Candidate],
) -> Result<Vec<&'a Candidate>, Vec<(&'a Candidate, Rejection)>> {
    place_behind(strategy, wanted, hosts, &HashMap::new())
}

/// The same behind others, who count in the order of hosts and not in whether one fits.
pub fn place_behind<'a>(
    strategy: Strategy,
    wanted: &Wanted,
    hosts: &'a [Candidate],
    ahead: &HashMap<HostId, Ahead>,
) -> Result<Vec<&'a Candidate>, Vec<(&'a Candidate, Rejection)>> {
    let mut fit = Vec::new();
    let mut rejected = Vec::new();
    for host in hosts {
        match wanted.rejects(host) {
            Some(why) => rejected.push((host, why)),
            None => {
                let before = ahead.get(&host.id).copied().unwrap_or_default();
                let load = host.load_with(wanted.fitted(host).and(before.amount));
                fit.push((load, host.workspaces + before.workspaces, host));
            }
        }
    }
    if fit.is_empty() {
        rejected.sort_by(|(a, _), (b, _)| by_name(a, b));
        return Err(rejected);
    }
    fit.sort_by(|(load_a, many_a, a), (load_b, many_b, b)| {
        let by_load = match strategy {
            Strategy::Spread => load_a.cmp(load_b).then(many_a.cmp(many_b)),
            Strategy::Pack => load_b.cmp(load_a).then(many_b.cmp(many_a)),
        };
        by_load.then(by_name(a, b))
    });
    Ok(fit.into_iter().map(|(_, _, host)| host).collect())
}

fn by_name(a: &Candidate, b: &Candidate) -> Ordering {
    a.name.cmp(&b.name).then(a.id.0.cmp(&b.id.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert_eq, prop_compose, proptest};

    fn host(name: &str, total: Amount, used: Amount) -> Candidate {
        Candidate {
            id: HostId::new(),
            name: name.into(),
            region: "eu".into(),
            region_is_full: false,
            is_active: true,
            away: None,
            labels: BTreeMap::new(),
            runtimes: vec!["runc".into()],
            architecture: "amd64".into(),
            cores_milli: Some(8000),
            memory_mb: Some(32_768),
            total,
            used,
            workspaces: 0,
            workspaces_max: None,
        }
    }

    fn amount(cpu_milli: i64, memory_mb: i64) -> Amount {
        Amount { cpu_milli, memory_mb, disk_mb: 0 }
    }

    fn names(placed: Result<Vec<&Candidate>, Vec<(&Candidate, Rejection)>>) -> Vec<String> {
        placed.unwrap().into_iter().map(|host| host.name.clone()).collect()
    }

    #[test]
    fn spread_takes_the_emptier_and_pack_the_fuller() {
        let total = amount(8000, 32_768);
        let hosts = [host("a", total, amount(4000, 1024)), host("b", total, amount(1000, 2048))];
        let wanted = Wanted { amount: amount(1000, 1024), ..Default::default() };
        assert_eq!(names(place(Strategy::Spread, &wanted, &hosts)), ["b", "a"]);
        assert_eq!(names(place(Strategy::Pack, &wanted, &hosts)), ["a", "b"]);
        let even = [host("b", total, amount(0, 0)), host("a", total, amount(0, 0))];
        assert_eq!(names(place(Strategy::Spread, &wanted, &even)), ["a", "b"], "by name, in whatever order they come");
    }

    #[test]
    fn each_host_that_cannot_says_why() {
        let free = |name: &str| host(name, Amount::default(), Amount::default());
        let labelled = Wanted { labels: [("gpu".into(), "a100".into())].into(), ..Default::default() };
        let hosts = [
            Candidate { region: "us".into(), ..free("a") },
            Candidate { is_active: false, ..free("b") },
            Candidate { away: Some("down".into()), ..free("c") },
            Candidate { architecture: "arm64".into(), ..free("d") },
            Candidate { runtimes: vec!["runc".into()], ..free("e") },
            Candidate { cores_milli: Some(1000), runtimes: vec!["runsc".into()], ..free("f") },
            Candidate { workspaces_max: Some(3), workspaces: 3, runtimes: vec!["runsc".into()], ..free("g") },
            Candidate { runtimes: vec!["runsc".into()], ..host("h", amount(4000, 0), amount(3000, 0)) },
            Candidate { region_is_full: true, runtimes: vec!["runsc".into()], ..free("i") },
        ];
        let wanted = Wanted {
            region: Some("eu".into()),
            architecture: Some("amd64".into()),
            runtime: Some("runsc".into()),
            amount: amount(2000, 64),
            names_cpu: true,
            ..Default::default()
        };
        let rejected = place(Strategy::Spread, &wanted, &hosts).unwrap_err();
        let codes: Vec<&str> = rejected.iter().map(|(_, why)| why.code()).collect();
        let expected = [
            "region",
            "draining",
            "unreachable",
            "architecture",
            "runtime",
            "too_small",
            "full",
            "full",
            "region_full",
        ];
        assert_eq!(codes, expected);
        assert_eq!(rejected[7].1.sentence(), "it has no cores left");
        assert!(
            place(Strategy::Spread, &labelled, &hosts).unwrap_err().iter().any(|(_, why)| *why == Rejection::Labels)
        );
    }

    #[test]
    fn what_nobody_named_is_cut_to_what_a_host_has() {
        let small = Candidate { cores_milli: Some(1000), ..host("small", Amount::default(), Amount::default()) };
        let wish = Wanted { amount: amount(2000, 64), ..Default::default() };
        assert_eq!(wish.fitted(&small).cpu_milli, 1000);
        assert!(place(Strategy::Spread, &wish, std::slice::from_ref(&small)).is_ok());
    }

    prop_compose! {
        fn any_host()(
            name in "[a-e]", region in "[xy]", region_is_full: bool, is_active: bool, is_away: bool, runsc: bool,
            total_cpu in 0..9000i64, used_cpu in 0..9000i64, total_memory in 0..9000i64, used_memory in 0..9000i64,
            total_disk in 0..900i64, used_disk in 0..900i64, workspaces in 0..5i64, max in proptest::option::of(0..5i64),
        ) -> Candidate {
            Candidate {
                region, region_is_full, is_active, away: is_away.then(|| "away".into()),
                runtimes: if runsc { vec!["runc".into(), "runsc".into()] } else { vec!["runc".into()] },
                used: Amount { cpu_milli: used_cpu, memory_mb: used_memory, disk_mb: used_disk },
                workspaces, workspaces_max: max,
                ..host(&name, Amount { cpu_milli: total_cpu, memory_mb: total_memory, disk_mb: total_disk }, Amount::default())
            }
        }
    }

    prop_compose! {
        fn any_wanted()(
            region in proptest::option::of("[xy]"), runsc: bool, cpu in 1..9000i64, memory in 1..9000i64, disk in 0..900i64,
            names_cpu: bool, names_memory: bool,
        ) -> Wanted {
            Wanted {
                region, runtime: runsc.then(|| "runsc".into()), names_cpu, names_memory,
                amount: Amount { cpu_milli: cpu, memory_mb: memory, disk_mb: disk },
                ..Default::default()
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_chosen_can_take_it_and_what_is_not_cannot(
            mut hosts in proptest::collection::vec(any_host(), 0..12), wanted in any_wanted(), pack: bool,
        ) {
            let strategy = if pack { Strategy::Pack } else { Strategy::Spread };
            let ids = |hosts: &[Candidate]| match place(strategy, &wanted, hosts) {
                Ok(fit) => fit.iter().map(|host| host.id).collect::<Vec<_>>(),
                Err(_) => Vec::new(),
            };
            let placed = ids(&hosts);
            for host in &hosts {
                let amount = wanted.fitted(host);
                let fits = |total: i64, used: i64, more: i64| total == 0 || used + more <= total;
                let could = host.is_active
                    && host.away.is_none()
                    && !host.region_is_full
                    && wanted.region.as_ref().is_none_or(|region| *region == host.region)
                    && wanted.runtime.as_ref().is_none_or(|runtime| host.runtimes.contains(runtime))
                    && amount.cpu_milli <= host.cores_milli.unwrap()
                    && amount.memory_mb <= host.memory_mb.unwrap()
                    && fits(host.total.cpu_milli, host.used.cpu_milli, amount.cpu_milli)
                    && fits(host.total.memory_mb, host.used.memory_mb, amount.memory_mb)
                    && fits(host.total.disk_mb, host.used.disk_mb, amount.disk_mb)
                    && host.workspaces_max.is_none_or(|max| host.workspaces < max);
                prop_assert_eq!(placed.contains(&host.id), could, "{:?}", host);
            }
            hosts.reverse();
            prop_assert_eq!(ids(&hosts), placed, "in another order");
        }
    }
}
