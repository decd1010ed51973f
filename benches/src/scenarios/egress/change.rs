//! From the moment that a gateway is told another policy until that is in force, with a thousand workspaces behind it: of one,
//! until its next request is decided by it and what it has open is cut; and of all, told so many at once as a server does.
//!
//! The databases of the server, and the engine that carries what it says, are not in these figures.

use super::gateway::{Running, balanced, bound};
use super::world::{PLAIN, World};
use super::{connect, hello, is_let, sources};
use crate::report::{Bound, Report, percentile, show};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use rexec_api::gateway::{BoundAddress, BoundSecret, BoundSecrets};
use rexec_egress::authority;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WORKSPACES: usize = 1_000;
/// Of single ones.
const CHANGES: usize = 500;
/// Of all; with a tunnel each, of which there are only so many ports, fewer.
const ROUNDS: usize = 60;
const CUTS: usize = 5;
/// As the server tells (`hosts/guard.rs` there).
const TOLD_AT_ONCE: usize = 32;
/// Workspaces that are asked, after all were told, whether that is so.
const ASKED_EVERY: usize = 20;
const BOUND_MS: f64 = 100.0;

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Allowed,
    Denied,
}

pub async fn run(program: &Path, report: &mut Report) -> Result<()> {
    // Tunnels of all of them, both ends of each on the outer sides.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let world = World::make()?;
    let gateway = Running::start(program, &world, Default::default()).await?;
    let mut all = All { gateway, version: 0, told: Vec::new(), secrets: None };
    for source in sources(WORKSPACES) {
        all.told.push((source, bound(source, balanced(&[PLAIN.name], &[]))?));
    }
    all.tell(Rule::Allowed).await?;
    one(&mut all, report).await?;
    let plain = all.many().await?;
    tell(report, "1000 policies changed, until all are in force", plain);
    let busy = all.cutting().await?;
    tell(report, "1000 with a tunnel each, until all are cut", busy);
    all.secrets = Some(secrets()?);
    let reading = all.many().await?;
    tell(report, "1000 with three secrets each, until in force", reading);
    report.note(format!("the gateway with these: {:.1} MB", all.gateway.resident_mb()?));
    Ok(())
}

fn tell(report: &mut Report, name: &str, mut times: Vec<Duration>) {
    let [p50, p99] = [50.0, 99.0].map(|percent| percentile(&mut times, percent));
    for (word, time) in [("p50", p50), ("p99", p99)] {
        let sides = format!("of {} changes; p50 {}, p99 {}", times.len(), show(p50), show(p99));
        report.figure(&format!("{name}, {word}"), &sides, time.as_secs_f64() * 1e3, "ms", Bound::AtMost(BOUND_MS));
    }
}

/// Workspaces here and there among them all, one after the other.
async fn one(all: &mut All, report: &mut Report) -> Result<()> {
    let (mut denied, mut cut, mut allowed) = (Vec::new(), Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let at = change * 7 % WORKSPACES;
        let source = all.told[at].0;
        let mut open = all.tunnel(source).await?;
        let began = Instant::now();
        all.change(at, Rule::Denied).await?;
        ensure!(!all.may(source).await?, "a request is let through after its gateway was told otherwise");
        denied.push(began.elapsed());
        until_cut(&mut open).await?;
        cut.push(began.elapsed());
        let began = Instant::now();
        all.change(at, Rule::Allowed).await?;
        ensure!(all.may(source).await?, "a request is refused after its gateway was told otherwise");
        allowed.push(began.elapsed());
    }
    for (name, times) in [("refused", denied), ("its tunnel is cut", cut), ("let through", allowed)] {
        tell(report, &format!("one policy changed, until {name}"), times);
    }
    Ok(())
}

struct All {
    gateway: Running,
    version: u64,
    told: Vec<(IpAddr, BoundAddress)>,
    secrets: Option<BoundSecrets>,
}

impl All {
    fn next(&mut self, at: usize, rule: Rule) {
        self.version += 1;
        let one = &mut self.told[at].1;
        one.version = self.version;
        one.policy = balanced(&[PLAIN.name], if rule == Rule::Denied { &[PLAIN.name] } else { &[] });
        one.secrets.clone_from(&self.secrets);
    }

    async fn change(&mut self, at: usize, rule: Rule) -> Result<()> {
        self.next(at, rule);
        Ok(self.gateway.client.bind_address(&self.told[at].1).await?)
    }

    /// Tells it of all; how long that took.
    async fn tell(&mut self, rule: Rule) -> Result<Duration> {
        for at in 0..self.told.len() {
            self.next(at, rule);
        }
        let began = Instant::now();
        for some in self.told.chunks(TOLD_AT_ONCE) {
            try_join_all(some.iter().map(|(_, one)| self.gateway.client.bind_address(one))).await?;
        }
        Ok(began.elapsed())
    }

    /// All of them changed, and changed back, so often.
    async fn many(&mut self) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for rule in [Rule::Denied, Rule::Allowed].into_iter().cycle().take(ROUNDS) {
            let last = self.told.last().context("a workspace")?.0;
            let took = self.tell(rule).await?;
            let began = Instant::now();
            ensure!(self.may(last).await? == (rule == Rule::Allowed), "the last one is not in force");
            times.push(took + began.elapsed());
            for (source, _) in self.told.iter().step_by(ASKED_EVERY) {
                ensure!(self.may(*source).await? == (rule == Rule::Allowed), "one is not in force");
            }
        }
        Ok(times)
    }

    /// All of them denied what each has a tunnel to, until the last has ended.
    async fn cutting(&mut self) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for _ in 0..CUTS {
            self.tell(Rule::Allowed).await?;
            let mut tunnels = Vec::with_capacity(self.told.len());
            for (source, _) in &self.told {
                tunnels.push(self.tunnel(*source).await?);
            }
            let took = self.tell(Rule::Denied).await?;
            let began = Instant::now();
            for tunnel in &mut tunnels {
                until_cut(tunnel).await?;
            }
            times.push(took + began.elapsed());
        }
        self.tell(Rule::Allowed).await?;
        Ok(times)
    }

    async fn may(&self, source: IpAddr) -> Result<bool> {
        let (_, head) = self.ask(source).await?;
        Ok(is_let(&head))
    }

    async fn tunnel(&self, source: IpAddr) -> Result<TcpStream> {
        let (mut stream, head) = self.ask(source).await?;
        ensure!(is_let(&head), "{head}");
        stream.write_all(&hello(PLAIN.name)).await?;
        stream.read_u8().await?;
        Ok(stream)
    }

    async fn ask(&self, source: IpAddr) -> Result<(TcpStream, String)> {
        let proxy: SocketAddr = self.gateway.at;
        connect(source, proxy, PLAIN.name, PLAIN.port).await
    }
}

async fn until_cut(tunnel: &mut TcpStream) -> Result<()> {
    // However it ends.
    ensure!(!matches!(tunnel.read(&mut [0]).await, Ok(1)), "a byte that nobody asked for");
    Ok(())
}

fn secrets() -> Result<BoundSecrets> {
    let made = authority::make("the workspaces'", SystemTime::now())?;
    let one = |name: &str| BoundSecret {
        name: name.into(),
        placeholder: "0".repeat(40),
        value: "1".repeat(40),
        hosts: vec![format!("{}.example", name.to_lowercase())],
        headers: vec!["authorization".into(), "x-api-key".into()],
    };
    let all = ["ONE", "TWO", "THREE"].map(one).into();
    Ok(BoundSecrets { authority: "the workspaces'".into(), authority_key: made.key, all })
}
