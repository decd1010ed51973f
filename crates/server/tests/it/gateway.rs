//! The closed network and its gateway on a real engine: what a container there reaches, and what not.

use crate::busybox;
use crate::support::apart::{GREETING, OUTSIDE, PLAIN_PORT};
use crate::support::dockerd::Dockerd;
use crate::support::workspaces::eventually;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use rexec_api::gateway::{BoundAddress, BoundLayer, BoundPolicy, KeptAddress};
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_engine::docker::DockerEngine;
use rexec_engine::{Addresses, ContainerSpec, Engine, ExecStart, Labels, Limits, NetworkSpec, Profile};
use rexec_server::config::{Config, Sources};
use rexec_server::hosts::gateway::{Gateway, PROXY_PORT};
use rexec_server::hosts::{Host, LOCAL, delivery, usual_socket};
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// Whose rules are to be set.
#[derive(PartialEq)]
enum Machine {
    This,
    Another,
}

/// A host of this test's own on the machine's engine, with a network of its own.
struct Bench {
    host: Arc<Host>,
    engine: Arc<DockerEngine>,
    image: String,
    bridge: std::sync::Mutex<Option<String>>,
    _data: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let socket = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let socket = socket.unwrap_or_else(|| format!("unix://{}", usual_socket().display()));
        Self::on(DockerEngine::connect(&socket).unwrap(), Machine::This).await
    }

    async fn on(engine: DockerEngine, machine: Machine) -> Self {
        let data = tempfile::tempdir().unwrap();
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let (network, image) = (format!("rexec-test-{id}"), format!("rexec-test-{id}:1"));
        let variables = [
            ("REXEC_DATA_DIR", data.path().to_str().unwrap()),
            ("REXEC_ENGINE_LABELS", "rexec.test=gateway"),
            ("REXEC_NETWORK", &network),
            ("REXEC_EGRESS_RESOLVERS", "127.0.0.1:9"),
        ];
        let config = Config::from_sources(&Sources::from_env(variables)).unwrap();
        let engine = Arc::new(engine);
        engine.import_image(&image, busybox::image().into()).await.unwrap();
        let host = Host::new(HostId::new(), LOCAL.into(), id, engine.clone(), machine == Machine::This, &config);
        // Of two that bring a new build at once one may have to come again.
        eventually("the guest is delivered", async || delivery::deliver(&host, None).await.ok()).await;
        Self { host, engine, image, bridge: Default::default(), _data: data }
    }

    async fn gateway(&self) -> Gateway {
        let info = self.engine.info().await.unwrap();
        let gateway = self.host.open_gateway(&info).await.unwrap();
        let network = self.engine.network(&gateway.network).await.unwrap().unwrap();
        *self.bridge.lock().unwrap() = network.bridge;
        gateway
    }

    /// A container on the closed network, as a workspace would be.
    async fn container(&self, gateway: &Gateway, place: u32) -> (String, Ipv4Addr) {
        let address = gateway.subnet.address(place).unwrap();
        (self.container_at(&gateway.network, address).await, address)
    }

    async fn container_at(&self, network: &str, address: Ipv4Addr) -> String {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let spec = ContainerSpec {
            name: format!("rexec-test-{id}"),
            hostname: "closed".into(),
            image: self.image.clone(),
            command: vec!["/bin/sleep".into(), "600".into()],
            env: vec!["PATH=/bin".into()],
            labels: self.host.labels_to_give(),
            network: network.to_owned(),
            address: Some(address),
            runtime: None,
            profile: Profile::Usual,
            limits: Limits { cpu: 1.0, memory_bytes: 64 << 20, pids: 64 },
            mounts: Vec::new(),
            root_bytes: None,
            dial_dir: None,
        };
        let made = self.engine.create(&spec).await.unwrap();
        self.engine.start(&made).await.unwrap();
        made
    }

    /// What is answered to a line that a container sends somewhere; nothing, where nobody is reached.
    async fn says(&self, container: &str, to: (&str, u16), line: &str) -> String {
        let script = format!("(printf '{line}'; sleep 2) | /bin/busybox nc -w 3 {} {}", to.0, to.1);
        let command = vec!["/bin/busybox".into(), "sh".into(), "-c".into(), script];
        let exec = ExecStart { command, user: "0:0".into(), env: vec!["PATH=/bin".into()] };
        let mut said = Vec::new();
        let mut stream = self.engine.exec_stream(container, &exec).await.unwrap();
        // Where nobody is reached it ends with another code than 0.
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    }

    async fn clean(self) {
        for container in self.engine.summaries(&self.host.labels()).await.unwrap() {
            self.engine.remove(&container.id).await.unwrap();
        }
        self.engine.remove_network(&self.host.closed_network()).await.unwrap();
        self.engine.remove_image(&self.image).await.unwrap();
        let bridge = self.bridge.lock().unwrap().take();
        rexec_engine::firewall::forget_bridge(&bridge.unwrap()).await.unwrap();
    }
}

fn bound(workspace: WorkspaceId, address: Ipv4Addr, version: u64, allow: &[&str]) -> BoundAddress {
    let allow = allow.iter().map(|&rule| rule.to_owned()).collect();
    let layers = vec![BoundLayer { origin: "workspace".into(), allow, deny: Vec::new() }];
    BoundAddress {
        address,
        workspace,
        version,
        policy: BoundPolicy { preset: "locked".into(), layers },
        secrets: None,
        models: None,
        github: None,
    }
}

/// What a container on the closed network is told when it asks the proxy for a tunnel there.
async fn asked(bench: &Bench, gateway: &Gateway, container: &str, host: &str) -> String {
    let connect = format!("CONNECT {host}:{PLAIN_PORT} HTTP/1.1\\r\\nHost: {host}:{PLAIN_PORT}\\r\\n\\r\\n");
    bench.says(container, (&gateway.subnet.gateway().to_string(), PROXY_PORT), &connect).await
}

/// Both ways of setting rules: on this machine, and by our guest on another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_closed_network_only_the_gateway_is_reached() {
    let bench = Bench::new().await;
    let listener = TcpListener::bind(("0.0.0.0", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    closed_but_for_the_gateway(&bench, port).await;
    bench.clean().await;

    let daemon = Dockerd::start_apart(&[]).await;
    let bench = Bench::on(daemon.engine(), Machine::Another).await;
    let outcome = AssertUnwindSafe(async {
        closed_but_for_the_gateway(&bench, PLAIN_PORT).await;
        allowed_is_reached(&bench).await;
    });
    let outcome = outcome.catch_unwind().await;
    daemon.remove().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// `port` is one that the machine listens at.
async fn closed_but_for_the_gateway(bench: &Bench, port: u16) {
    let gateway = bench.gateway().await;
    let (one, address) = bench.container(&gateway, 0).await;
    let (_, sibling) = bench.container(&gateway, 1).await;
    let (here, sibling) = (gateway.subnet.gateway().to_string(), sibling.to_string());
    for (to, what) in [
        (here.as_str(), "the machine, at the bridge"),
        (OUTSIDE, "outside"),
        ("169.254.169.254", "metadata"),
        (&sibling, "a sibling"),
    ] {
        assert_eq!(bench.says(&one, (to, port), "").await, "", "{what} is reached");
    }
    assert_eq!(asked(bench, &gateway, &one, OUTSIDE).await, "", "nobody's address is not answered");

    let id = WorkspaceId::new();
    let mut news = gateway.client.egress_records().await.unwrap();
    gateway.client.bind_address(&bound(id, address, 1, &[])).await.unwrap();
    let refused = asked(bench, &gateway, &one, OUTSIDE).await;
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("egress_address_literal"), "{refused}");
    let told = news.next().await.unwrap().unwrap().remove(0);
    assert_eq!((told.workspace, told.allowed, told.why.as_str()), (id, false, "egress_address_literal"));
    let preset = BoundPolicy { preset: "wide".into(), layers: Vec::new() };
    let wrong = BoundAddress { policy: preset, ..bound(id, address, 2, &[]) };
    assert!(gateway.client.bind_address(&wrong).await.is_err(), "what is no policy changes nothing");
    let all = ["0.0.0.0/0:*", &format!("{sibling}/32:*"), &format!("{here}/32:*"), "127.0.0.0/8:*"];
    gateway.client.bind_address(&bound(id, address, 3, &all)).await.unwrap();
    for inside in [here.as_str(), &sibling, "127.0.0.1", "169.254.169.254"] {
        let refused = asked(bench, &gateway, &one, inside).await;
        assert!(refused.contains("egress_closed_range"), "{inside}: {refused}");
    }
}

/// In a network apart, where there is something outside.
async fn allowed_is_reached(bench: &Bench) {
    let gateway = bench.gateway().await;
    let (one, address) = bench.container(&gateway, 2).await;
    let rules = [format!("{OUTSIDE}/32:{PLAIN_PORT}"), format!("203.0.113.0/24:{PLAIN_PORT}")];
    let rules = rules.each_ref().map(String::as_str);
    gateway.client.bind_address(&bound(WorkspaceId::new(), address, 1, &rules)).await.unwrap();
    let reached = asked(bench, &gateway, &one, OUTSIDE).await;
    assert!(reached.starts_with("HTTP/1.1 200") && reached.ends_with(&format!("{GREETING}\n")), "{reached}");
    let own = asked(bench, &gateway, &one, "203.0.113.2").await;
    assert!(own.contains("egress_closed_range"), "the machine's own public address: {own}");
    let beyond = asked(bench, &gateway, &one, "203.0.113.1").await;
    assert!(beyond.starts_with("HTTP/1.1 200"), "{beyond}");
}

/// A container of somebody else on the same engine, at a network of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_on_the_hosts_other_networks_is_reached() {
    let bench = Bench::new().await;
    let gateway = bench.gateway().await;
    let name = format!("{}-other", bench.host.network);
    let network = NetworkSpec {
        name: name.clone(),
        bridge: format!("rxo{}", &bench.host.instance[..11]),
        internal: false,
        addresses: Addresses::Ours,
        labels: bench.host.labels_to_give(),
    };
    bench.engine.ensure_network(&network).await.unwrap();
    let subnet = bench.engine.network(&name).await.unwrap().unwrap().subnet.unwrap();
    let theirs = subnet.address(5).unwrap();
    let (one, address) = bench.container(&gateway, 0).await;
    let other = bench.container_at(&name, theirs).await;
    let rule = format!("{theirs}/32:*");
    gateway.client.bind_address(&bound(WorkspaceId::new(), address, 1, &[&rule])).await.unwrap();
    let refused = asked(&bench, &gateway, &one, &theirs.to_string()).await;
    assert!(refused.contains("egress_closed_range"), "{refused}");
    bench.engine.remove(&other).await.unwrap();
    bench.engine.remove_network(&name).await.unwrap();
    drop(gateway);
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_outlives_its_server_and_forgets_with_its_own_end() {
    let bench = Bench::new().await;
    let gateway = bench.gateway().await;
    let (life, container) = (gateway.client.gateway().await.unwrap().life, gateway.container.clone());
    let (id, address) = (WorkspaceId::new(), gateway.subnet.address(0).unwrap());
    gateway.client.bind_address(&bound(id, address, 1, &["a.example"])).await.unwrap();
    drop(gateway);

    let gateway = bench.gateway().await;
    let state = gateway.client.gateway().await.unwrap();
    assert_eq!((state.life, state.bound), (life, 1), "another server finds it as it was");
    let kept = |version| [KeptAddress { address, workspace: id, version }];
    assert_eq!(gateway.client.keep_addresses(&kept(1)).await.unwrap(), [Ipv4Addr::UNSPECIFIED; 0]);
    assert_eq!(gateway.client.keep_addresses(&kept(2)).await.unwrap(), [address]);
    assert_eq!(gateway.client.keep_addresses(&[]).await.unwrap(), [Ipv4Addr::UNSPECIFIED; 0]);
    assert_eq!(gateway.client.gateway().await.unwrap().bound, 0);
    let mut news = gateway.client.egress_records().await.unwrap();
    let second = gateway.client.egress_records().await.unwrap();
    assert!(!matches!(news.next().await, Ok(Some(_))), "records are told to the last who asked");
    drop(second);

    gateway.client.bind_address(&bound(id, address, 1, &["a.example"])).await.unwrap();
    bench.engine.stop(&container, 1).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), gateway.client.closed()).await.unwrap();
    drop(gateway);
    let gateway = bench.gateway().await;
    let state = gateway.client.gateway().await.unwrap();
    assert!(state.life != life && state.bound == 0, "{state:?}");
    assert!(
        bench
            .engine
            .summaries(&Labels::from([("rexec.instance".into(), bench.host.instance.clone())]))
            .await
            .unwrap()
            .len()
            == 1
    );
    drop(gateway);
    bench.clean().await;
}

/// Whoever meets a gateway tells it of all that are up; what one of them may reach changes for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_are_told() {
    const MANY: u32 = 1_000;
    let bench = Bench::new().await;
    let gateway = bench.gateway().await;
    let all: Vec<_> = (0..MANY).map(|place| (WorkspaceId::new(), gateway.subnet.address(place).unwrap())).collect();
    let rules: Vec<String> = (0..20).map(|n| format!("host-{n}.example")).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    for version in [1, 2] {
        let began = std::time::Instant::now();
        let tells = all.iter().map(|(id, address)| bound(*id, *address, version, &rules));
        let tells = stream::iter(tells.collect::<Vec<_>>());
        let told = tells.map(async |one| gateway.client.bind_address(&one).await.unwrap()).buffer_unordered(32);
        told.collect::<Vec<()>>().await;
        println!("{MANY} policies told in {:.0?}", began.elapsed());
        let kept: Vec<KeptAddress> =
            all.iter().map(|&(workspace, address)| KeptAddress { address, workspace, version }).collect();
        assert_eq!(gateway.client.keep_addresses(&kept).await.unwrap(), [Ipv4Addr::UNSPECIFIED; 0]);
    }
    assert_eq!(gateway.client.gateway().await.unwrap().bound, MANY);
    drop(gateway);
    bench.clean().await;
}
