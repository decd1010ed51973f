//! `guest egress`, which becomes a program of its own (`bin/gateway.rs`): PID 1 of a host's gateway, a container of the
//! server's own with that host's network. What it does is `rexec-egress`'s; here it is told by the server, over the control socket, and says what it decided
//! (`rexec_api::gateway` has the routes).
//!
//! Invariant: it keeps nothing and starts with nothing: until it is told, it listens nowhere, and whoever it does not know
//! reaches nothing. A server that goes away leaves it as it is; the next one says what is to stay.

use crate::control;
use crate::init::{Stop, close_memory, limit_memory};
use crate::refusal::{invalid, refuse};
use crate::terminal::unix_ms;
use rexec_api::error::ErrorCode;
use rexec_api::gateway::{
    BoundAddress, BoundGithub, BoundPolicy, BoundSecret, BoundSecrets, EgressEnd, EgressRecord, GatewaySettings,
    GatewayState, GithubTokens, KeptAddress, LeftTokens, ModelVendor, OfferedModels, TokensUsed, ToldGithub,
    UpstreamProxy,
};
use rexec_api::guest::GuestError;
use rexec_channel::{Call, RECORDS_FRAME_BYTES_MAX};
use rexec_egress::authority::Authority;
use rexec_egress::gateway::Gateway;
use rexec_egress::github::{AtGithub, BadBranches, BadRepositories, Grant, Pair, Site, Tokens};
use rexec_egress::host::BadHost;
use rexec_egress::models::{Api, BadBase, BadPattern};
use rexec_egress::policy::{Layer, Policy};
use rexec_egress::proxy::DIRECT_PORTS;
use rexec_egress::reading::{Reading, Roots};
use rexec_egress::record::{How, Record, Records};
use rexec_egress::resolve::{Resolver, servers_of};
use rexec_egress::rule::{Range, Rule, To};
use rexec_egress::secrets::{Secret, Secrets};
use rexec_egress::table::{Bound, Budget};
use rexec_egress::upstream::Upstream;
use rexec_egress::vendors::{Vendor, Vendors};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::LocalSet;
use uuid::Uuid;

/// Rules of one workspace, all layers together.
const RULES_MAX: usize = 5_000;
/// Records in one frame.
const RECORDS_AT_ONCE: usize = 128;
/// Where names are asked for.
const DNS_PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";

struct Keeper {
    life: Uuid,
    running: RefCell<Option<Running>>,
    /// One change of the settings at a time.
    changing: Mutex<()>,
    /// Of the gateway that runs; taken by the last who asked.
    records: Mutex<Option<Waiting>>,
    listener: watch::Sender<u64>,
}

/// Records that are to be told.
struct Waiting {
    from: mpsc::Receiver<Record>,
    /// Taken, and not yet told to anybody.
    taken: Vec<EgressRecord>,
    /// Of those that nobody can be told of.
    lost: u64,
}

struct Running {
    gateway: Arc<Gateway>,
    settings: GatewaySettings,
    proxy: SocketAddrV4,
    no_names: Option<String>,
    direct: Vec<u16>,
    no_direct: Option<String>,
}

/// Serves until asked to stop.
pub fn run() -> io::Result<()> {
    close_memory();
    limit_memory();
    raise_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut stop = Stop::listen()?;
        let keeper = Rc::new(Keeper {
            life: Uuid::new_v4(),
            running: RefCell::new(None),
            changing: Mutex::default(),
            records: Mutex::default(),
            listener: watch::Sender::new(0),
        });
        let listener = control::bind_at(Path::new(control::GATEWAY_PATH))?;
        let handler = move |call| route(keeper.clone(), call);
        tokio::task::spawn_local(control::listen(handler, listener));
        stop.asked().await;
        Ok(())
    })
}

/// Each connection takes two descriptors.
fn raise_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // What is refused leaves fewer connections, and nothing open.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

async fn route(keeper: Rc<Keeper>, mut call: Call) {
    let path = call.path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match (call.method().as_str(), parts.as_slice()) {
        ("GET", ["gateway"]) => call.answer(Ok(keeper.state())).await,
        ("PUT", ["gateway"]) => {
            let changed = match call.json().await {
                Ok(settings) => keeper.change(settings).await,
                Err(error) => Err(error),
            };
            call.answer(changed).await;
        }
        ("PUT", ["gateway", "bound"]) => {
            let missing = call.json::<Vec<KeptAddress>>().await.and_then(|kept| keeper.keep(&kept));
            call.answer(missing).await;
        }
        ("POST", ["gateway", "bound"]) => {
            let bound = call.json::<BoundAddress>().await.and_then(|bound| keeper.bind(bound));
            call.answer(bound.map(|()| json!({}))).await;
        }
        ("PUT", ["gateway", "bound", address, "tokens"]) => {
            let address = address.parse::<Ipv4Addr>().map_err(|_| invalid("That is no address."));
            let left = match address {
                Ok(address) => call.json::<LeftTokens>().await.and_then(|left| keeper.afford(address, left)),
                Err(error) => Err(error),
            };
            call.answer(left.map(|()| json!({}))).await;
        }
        ("PUT", ["gateway", "bound", address, "github"]) => {
            let address = address.parse::<Ipv4Addr>().map_err(|_| invalid("That is no address."));
            let told = match address {
                Ok(address) => call.json::<ToldGithub>().await.and_then(|told| keeper.tell_github(address, told)),
                Err(error) => Err(error),
            };
            call.answer(told.map(|()| json!({}))).await;
        }
        ("DELETE", ["gateway", "bound", address]) => {
            let address = address.parse::<Ipv4Addr>().map_err(|_| invalid("That is no address."));
            let unbound = address.and_then(|address| keeper.unbind(address));
            call.answer(unbound.map(|()| json!({}))).await;
        }
        ("GET", ["gateway", "records"]) => keeper.tell(call).await,
        _ => {
            let message = "This gateway does not know that request; it is made anew by a newer server.";
            call.answer::<()>(Err(refuse(ErrorCode::NoSuchRoute, message))).await;
        }
    }
}

impl Keeper {
    fn state(&self) -> GatewayState {
        self.state_of(self.running.borrow().as_ref())
    }

    fn state_of(&self, running: Option<&Running>) -> GatewayState {
        GatewayState {
            version: env!("CARGO_PKG_VERSION").into(),
            life: self.life,
            settings: running.map(|running| GatewaySettings {
                roots: String::new(),
                models: OfferedModels::default(),
                ..running.settings.clone()
            }),
            proxy: running.map(|running| running.proxy),
            no_names: running.and_then(|running| running.no_names.clone()),
            direct: running.map_or_else(Vec::new, |running| running.direct.clone()),
            no_direct: running.and_then(|running| running.no_direct.clone()),
            bound: running.map_or(0, |running| running.gateway.table.len() as u32),
        }
    }

    fn gateway(&self) -> Result<Arc<Gateway>, GuestError> {
        let running = self.running.borrow();
        let running = running.as_ref().ok_or_else(|| invalid("It has not been told where to listen."))?;
        Ok(running.gateway.clone())
    }

    /// Listens as is said; what ran before otherwise ends with all that it knew.
    async fn change(&self, settings: GatewaySettings) -> Result<GatewayState, GuestError> {
        let _one = self.changing.lock().await;
        if let Some(running) = self.running.borrow_mut().as_mut() {
            let vendors = vendors(&settings.models)?;
            let roots = std::mem::replace(&mut running.settings.roots, settings.roots.clone());
            let models = std::mem::replace(&mut running.settings.models, settings.models.clone());
            if running.settings == settings {
                // Whoever is connected stays so.
                if roots != settings.roots {
                    running.gateway.trust(Roots::of_pem(&settings.roots));
                }
                if models != settings.models {
                    running.gateway.offer(vendors);
                }
                return Ok(self.state_of(Some(running)));
            }
        }
        let before = self.running.borrow_mut().take();
        if let Some(before) = before {
            before.gateway.close().await;
        }
        let (records, taken) = Records::new();
        let running = start(settings, records).await?;
        *self.records.lock().await = Some(Waiting { from: taken, taken: Vec::new(), lost: 0 });
        *self.running.borrow_mut() = Some(running);
        Ok(self.state())
    }

    fn keep(&self, kept: &[KeptAddress]) -> Result<Vec<Ipv4Addr>, GuestError> {
        let ids: Vec<String> = kept.iter().map(|one| one.workspace.to_string()).collect();
        let all: Vec<_> =
            kept.iter().zip(&ids).map(|(one, id)| (IpAddr::V4(one.address), id.as_str(), one.version)).collect();
        let missing = self.gateway()?.table.keep(&all);
        Ok(missing.into_iter().map(|place| kept[place].address).collect())
    }

    fn bind(&self, bound: BoundAddress) -> Result<(), GuestError> {
        let policy = policy(&bound.policy)?;
        let models = bound.models.map(|models| Budget { left: models.left });
        let github = bound.github.map(github).transpose()?;
        let (workspace, version) = (bound.workspace.to_string(), bound.version);
        let (gateway, address) = (self.gateway()?, bound.address.into());
        let before = gateway.table.find(address).and_then(|tenant| tenant.bound());
        let before = before.as_ref().and_then(|bound| bound.reading.as_ref());
        let reading = bound.secrets.map(|told| reading(told, before)).transpose()?;
        // A newer one that is there already stays: whoever tells this one was slower.
        gateway.table.bind(address, Bound { workspace, version, policy, reading, models, github });
        Ok(())
    }

    /// Of another workspace, or one that is gone, nothing is changed.
    fn afford(&self, address: Ipv4Addr, left: LeftTokens) -> Result<(), GuestError> {
        let tenant = self.gateway()?.table.find(address.into());
        if let Some(tenant) = tenant.filter(|tenant| tenant.is(&left.workspace.to_string())) {
            tenant.afford(Budget { left: left.models.left });
        }
        Ok(())
    }

    /// The same; and of another version.
    fn tell_github(&self, address: Ipv4Addr, told: ToldGithub) -> Result<(), GuestError> {
        let tenant = self.gateway()?.table.find(address.into());
        let tenant = tenant.filter(|tenant| tenant.is(&told.workspace.to_string()));
        let is_heard = tenant.is_some_and(|tenant| tenant.tell_github(told.version, tokens(told.tokens)));
        // Whoever tells it is to tell it again.
        if is_heard { Ok(()) } else { Err(invalid("It is not there, or by another version of its policy.")) }
    }

    fn unbind(&self, address: Ipv4Addr) -> Result<(), GuestError> {
        self.gateway()?.table.unbind(address.into());
        Ok(())
    }

    /// Tells records until somebody else asks for them.
    async fn tell(&self, call: Call) {
        let Ok((mut sender, _)) = call.frames() else { return };
        self.listener.send_modify(|count| *count += 1);
        let mut newer = self.listener.subscribe();
        let taking = async {
            // Whoever had them lets go.
            let mut waiting = self.records.lock().await;
            let Some(waiting) = waiting.as_mut() else { return };
            while waiting.fill().await {
                let Ok((frame, count)) = waiting.frame() else { return };
                if sender.send(frame.into()).await.is_err() {
                    return;
                }
                waiting.taken.drain(..count);
            }
        };
        tokio::select! {
            () = taking => {}
            _ = newer.changed() => {}
        }
    }
}

impl Waiting {
    /// As many of them as one frame holds, and how many that are.
    fn frame(&self) -> serde_json::Result<(Vec<u8>, usize)> {
        let (mut frame, mut count) = (b"[".to_vec(), 0);
        for record in &self.taken {
            let record = serde_json::to_vec(record)?;
            // One by itself is far shorter.
            if count > 0 && frame.len() + record.len() + 2 > RECORDS_FRAME_BYTES_MAX {
                break;
            }
            if count > 0 {
                frame.push(b',');
            }
            frame.extend(record);
            count += 1;
        }
        frame.push(b']');
        Ok((frame, count))
    }

    /// Waits until there is something to tell; `false` when there will be nothing more.
    async fn fill(&mut self) -> bool {
        while self.taken.is_empty() {
            let mut some = Vec::new();
            if self.from.recv_many(&mut some, RECORDS_AT_ONCE).await == 0 {
                return false;
            }
            for record in some {
                let lost = record.lost;
                match told(record) {
                    Some(mut record) => {
                        record.lost += std::mem::take(&mut self.lost);
                        self.taken.push(record);
                    }
                    None => self.lost += lost + 1,
                }
            }
        }
        true
    }
}

async fn start(settings: GatewaySettings, records: Records) -> Result<Running, GuestError> {
    let of_machine = servers_of(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default());
    let servers = if settings.resolvers.is_empty() { &of_machine } else { &settings.resolvers };
    let upstream = match &settings.upstream {
        Some(told) => Some(upstream(told, resolver(&of_machine)?)?),
        None => None,
    };
    let (listener, proxy) = listen(settings.proxy, &settings.other_ports).await?;
    let closed = settings.closed.iter().map(|range| self::range(range)).collect::<Result<_, _>>()?;
    let gateway = Gateway::new(resolver(servers)?, records, closed, upstream, Roots::of_pem(&settings.roots));
    gateway.offer(vendors(&settings.models)?);
    // Its own tasks: closed is when the last listener is.
    gateway.spawn(gateway.clone().serve_proxy(listener));
    let no_names = match names_at(*settings.proxy.ip()).await {
        Ok((udp, tcp)) => {
            gateway.spawn(gateway.clone().serve_udp(Arc::new(udp)));
            gateway.spawn(gateway.clone().serve_tcp(tcp));
            None
        }
        Err(error) => Some(format!("Port {DNS_PORT} at {} cannot be had: {error}.", settings.proxy.ip())),
    };
    let (direct, no_direct) = match settings.direct {
        true => match listen_direct(*settings.proxy.ip()).await {
            Ok(all) => {
                let ports = all.iter().map(|(_, port)| *port).collect();
                all.into_iter().for_each(|(listener, port)| {
                    drop(gateway.spawn(gateway.clone().serve_direct(listener, port)));
                });
                gateway.lead_to(*settings.proxy.ip());
                (ports, None)
            }
            Err(error) => (Vec::new(), Some(error.to_string())),
        },
        false => (Vec::new(), None),
    };
    Ok(Running { gateway, settings, proxy, no_names, direct, no_direct })
}

/// At all of the web's ports, or at none.
async fn listen_direct(address: Ipv4Addr) -> io::Result<Vec<(TcpListener, u16)>> {
    let mut all = Vec::new();
    for port in DIRECT_PORTS {
        let listener = TcpListener::bind(SocketAddrV4::new(address, port)).await;
        let listener = listener.map_err(|error| {
            io::Error::new(error.kind(), format!("Port {port} at {address} cannot be had: {error}."))
        })?;
        all.push((listener, port));
    }
    Ok(all)
}

fn vendors(told: &OfferedModels) -> Result<Vendors, GuestError> {
    let vendor = |api: Api, told: &Option<ModelVendor>| {
        let Some(told) = told else { return Ok(None) };
        let base = told.base.parse().map_err(|error: BadBase| invalid(error.to_string()))?;
        let vendor = Vendor::new(api, base, told.key.as_deref());
        vendor.map(Some).map_err(|error| invalid(error.to_string()))
    };
    let allow = match told.allow.as_str() {
        "" | "*" => None,
        text => Some(text.parse().map_err(|error: BadPattern| invalid(error.to_string()))?),
    };
    Ok(Vendors {
        openai: vendor(Api::OpenAi, &told.openai)?,
        anthropic: vendor(Api::Anthropic, &told.anthropic)?,
        outward: told.outward,
        allow,
    })
}

fn resolver(servers: &[SocketAddr]) -> Result<Resolver, GuestError> {
    Resolver::new(servers).map_err(|error| invalid(error.to_string()))
}

fn upstream(told: &UpstreamProxy, resolver: Resolver) -> Result<Upstream, GuestError> {
    let host = told.host.parse().map_err(|error: BadHost| invalid(error.to_string()))?;
    let authorization = told.authorization.as_deref().map(str::parse).transpose();
    let authorization = authorization.map_err(|_| invalid("The proxy's authorization is no header's value."))?;
    Ok(Upstream::new(host, told.port, authorization, resolver))
}

/// At the first of these ports that nobody has.
async fn listen(at: SocketAddrV4, others: &[u16]) -> Result<(TcpListener, SocketAddrV4), GuestError> {
    let mut failed = None;
    for port in [at.port()].iter().chain(others) {
        let at = SocketAddrV4::new(*at.ip(), *port);
        match TcpListener::bind(at).await {
            Ok(listener) => return Ok((listener, at)),
            Err(error) => drop(failed.get_or_insert_with(|| invalid(format!("{at} cannot be listened at: {error}.")))),
        }
    }
    Err(failed.unwrap_or_else(|| invalid("There is nowhere to listen.")))
}

async fn names_at(address: Ipv4Addr) -> io::Result<(UdpSocket, TcpListener)> {
    let at = SocketAddr::new(address.into(), DNS_PORT);
    Ok((UdpSocket::bind(at).await?, TcpListener::bind(at).await?))
}

/// Rules as they were written; one that is none refuses all of them.
fn policy(told: &BoundPolicy) -> Result<Policy, GuestError> {
    let count: usize = told.layers.iter().map(|layer| layer.allow.len() + layer.deny.len()).sum();
    if count > RULES_MAX {
        return Err(invalid(format!("There are {count} rules; {RULES_MAX} are the most.")));
    }
    let layers = told.layers.iter().map(|layer| {
        Ok(Layer { origin: word(&layer.origin)?, allow: rules(&layer.allow)?, deny: rules(&layer.deny)? })
    });
    Ok(Policy::new(word(&told.preset)?, layers.collect::<Result<_, GuestError>>()?))
}

/// What is not as it should be refuses all of them. An authority that was there `before` is not read again: that takes longer
/// than all else.
fn reading(told: BoundSecrets, before: Option<&Reading>) -> Result<Reading, GuestError> {
    let secret = |one: BoundSecret| {
        let headers = one.headers.iter().map(|name| name.parse()).collect::<Result<_, _>>();
        Ok(Secret {
            id: one.name,
            placeholder: one.placeholder,
            value: one.value,
            hosts: rules(&one.hosts)?,
            headers: headers.map_err(|_| invalid("A secret is bound to a header that has no such name."))?,
        })
    };
    let (name, key) = (&told.authority, &told.authority_key);
    let all = told.all.into_iter().map(secret).collect::<Result<_, GuestError>>()?;
    let secrets = Secrets::new(all);
    if let Some(before) = before.filter(|before| before.speaks_by(name, key)) {
        return Ok(before.with(secrets));
    }
    let authority = Authority::read(name, key).map_err(|error| invalid(error.to_string()))?;
    Ok(Reading::new(secrets, authority))
}

/// The same.
fn github(told: BoundGithub) -> Result<AtGithub, GuestError> {
    let site = match told.host {
        None => Site::Public,
        Some(host) => Site::Own(host.parse().map_err(|error: BadHost| invalid(error.to_string()))?),
    };
    let repositories = told.repositories.iter().map(|one| one.parse()).collect::<Result<_, BadRepositories>>();
    let branches = told.branches.iter().map(|one| one.parse()).collect::<Result<_, BadBranches>>();
    let grant = Grant {
        site,
        repositories: repositories.map_err(|bad| invalid(bad.to_string()))?,
        branches: branches.map_err(|bad| invalid(bad.to_string()))?,
        write: told.write,
        apart: told.apart,
    };
    let tokens = told.tokens.map_or(Tokens::Awaited, |told| tokens(Ok(told)));
    Ok(AtGithub::new(grant, told.placeholder, tokens))
}

fn tokens(told: Result<GithubTokens, String>) -> Tokens {
    match told {
        Ok(told) => Tokens::Had(Arc::new(Pair { git: told.git, api: told.api })),
        // It goes into answers.
        Err(why) => Tokens::None(why.chars().filter(|c| !c.is_control()).collect::<String>().into()),
    }
}

fn rules(texts: &[String]) -> Result<Vec<Rule>, GuestError> {
    texts.iter().map(|text| text.parse().map_err(|bad: rexec_egress::rule::BadRule| invalid(bad.to_string()))).collect()
}

fn range(text: &str) -> Result<Range, GuestError> {
    match text.parse::<Rule>() {
        Ok(Rule { to: To::Range(range), .. }) => Ok(range),
        _ => Err(invalid(format!("{text:?} is no range of addresses."))),
    }
}

fn word<T: DeserializeOwned>(text: &str) -> Result<T, GuestError> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|_| invalid(format!("{text:?} is not known.")))
}

/// As it is told. `None` for what was bound under a name that no server gave.
fn told(record: Record) -> Option<EgressRecord> {
    let at_ms = record.at.duration_since(UNIX_EPOCH).map_or_else(|_| unix_ms(), |at| at.as_millis() as i64);
    let how = match record.how {
        How::Http => "http",
        How::Https => "https",
        How::Connect => "connect",
        How::Socks => "socks",
        How::Direct => "direct",
        How::Model => "model",
        How::Dns => "dns",
    };
    let allowed = record.outcome.is_ok();
    Some(EgressRecord {
        at_ms,
        workspace: record.workspace.parse().ok()?,
        version: record.version,
        how: how.into(),
        host: record.host,
        port: record.port,
        allowed,
        why: record.outcome.unwrap_or_else(str::to_owned),
        end: record.end.map(|end| EgressEnd {
            address: end.address,
            bytes_up: end.bytes_up,
            bytes_down: end.bytes_down,
            lasted_ms: end.lasted.as_millis() as u64,
        }),
        secrets: record.secrets,
        tokens: record.tokens.map(|tokens| TokensUsed {
            model: tokens.model,
            input: tokens.input,
            cached: tokens.cached,
            output: tokens.output,
            estimated: tokens.estimated,
        }),
        lost: record.lost,
    })
}
