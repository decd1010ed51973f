//! The closed network and its gateway on a real engine: what a container there reaches, and what not.

use crate::busybox;
use crate::support::workspaces::eventually;
use rexec_api::gateway::{BoundAddress, BoundLayer, BoundPolicy, KeptAddress};
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_engine::docker::DockerEngine;
use rexec_engine::{ContainerSpec, Engine, ExecStart, Labels, Limits, Profile};
use rexec_server::config::{Config, Sources};
use rexec_server::hosts::gateway::{Gateway, PROXY_PORT, closed_name};
use rexec_server::hosts::{Host, LOCAL, delivery, usual_socket};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

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
        let data = tempfile::tempdir().unwrap();
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let (network, image) = (format!("rexec-test-{id}"), format!("rexec-test-{id}:1"));
        let variables = [
            ("REXEC_DATA_DIR", data.path().to_str().unwrap()),
            ("REXEC_ENGINE_LABELS", "rexec.test=gateway"),
            ("REXEC_NETWORK", &network),
        ];
        let config = Config::from_sources(&Sources::from_env(variables)).unwrap();
        let socket = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let socket = socket.unwrap_or_else(|| format!("unix://{}", usual_socket().display()));
        let engine = Arc::new(DockerEngine::connect(&socket).unwrap());
        engine.import_image(&image, busybox::image().into()).await.unwrap();
        let host = Host::new(HostId::new(), LOCAL.into(), id, engine.clone(), true, &config);
        // Of two that bring a new build at once one may have to come again.
        eventually("the guest is delivered", async || delivery::deliver(&host, None).await.ok()).await;
        Self { host, engine, image, bridge: Default::default(), _data: data }
    }

    async fn gateway(&self) -> Gateway {
        let info = self.engine.info().await.unwrap();
        let gateway = self.host.open_gateway(&info, vec!["127.0.0.1:9".parse().unwrap()]).await.unwrap();
        let network = self.engine.network(&gateway.network).await.unwrap().unwrap();
        *self.bridge.lock().unwrap() = network.bridge;
        gateway
    }

    /// A container on the closed network, as a workspace would be.
    async fn container(&self, gateway: &Gateway, place: u32) -> (String, Ipv4Addr) {
        let address = gateway.subnet.address(place).unwrap();
        let id = uuid::Uuid::new_v4().simple().to_string();
        let spec = ContainerSpec {
            name: format!("rexec-test-{id}"),
            hostname: "closed".into(),
            image: self.image.clone(),
            command: vec!["/bin/sleep".into(), "600".into()],
            env: vec!["PATH=/bin".into()],
            labels: self.host.labels_to_give(),
            network: gateway.network.clone(),
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
        (made, address)
    }

    /// What is answered to a line that a container sends somewhere; nothing, where nobody is reached.
    async fn says(&self, container: &str, to: (&str, u16), line: &str) -> String {
        let script = format!("printf '{line}' | /bin/busybox nc -w 3 {} {}", to.0, to.1);
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
        self.engine.remove_network(&closed_name(&self.host.network)).await.unwrap();
        self.engine.remove_image(&self.image).await.unwrap();
        let bridge = self.bridge.lock().unwrap().take();
        rexec_engine::firewall::forget_bridge(&bridge.unwrap()).await.unwrap();
    }
}

/// An address that counts as public, on this machine for as long as it is kept.
struct Outside(String);

impl Outside {
    fn new() -> Self {
        let address = format!("198.51.100.{}", 1 + uuid::Uuid::new_v4().as_bytes()[0] % 250);
        ip("add", &address);
        Self(address)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        ip("del", &self.0);
    }
}

fn ip(verb: &str, address: &str) {
    let words = ["addr", verb, &format!("{address}/32"), "dev", "lo"];
    let done = std::process::Command::new("ip").args(words).output().expect("`ip` is installed (iproute2)");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn bound(workspace: WorkspaceId, address: Ipv4Addr, version: u64, allow: &[&str]) -> BoundAddress {
    let allow = allow.iter().map(|&rule| rule.to_owned()).collect();
    let layers = vec![BoundLayer { origin: "workspace".into(), allow, deny: Vec::new() }];
    BoundAddress { address, workspace, version, policy: BoundPolicy { preset: "locked".into(), layers } }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_closed_network_only_the_gateway_is_reached() {
    let bench = Bench::new().await;
    let gateway = bench.gateway().await;
    let outside = Outside::new();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let greeter = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"hello from outside\n").await;
        }
    });
    let (one, address) = bench.container(&gateway, 0).await;
    let (_, sibling) = bench.container(&gateway, 1).await;
    let here = gateway.subnet.gateway().to_string();

    for (to, what) in [
        (here.as_str(), "the host, at the bridge"),
        (outside.0.as_str(), "outside"),
        ("169.254.169.254", "metadata"),
        (&sibling.to_string(), "a sibling"),
    ] {
        assert_eq!(bench.says(&one, (to, port), "").await, "", "{what} is reached");
    }
    let proxy = (here.as_str(), PROXY_PORT);
    let connect = format!("CONNECT {}:{port} HTTP/1.1\\r\\nHost: {}:{port}\\r\\n\\r\\n", outside.0, outside.0);
    assert_eq!(bench.says(&one, proxy, &connect).await, "", "nobody's address is not answered");

    let id = WorkspaceId::new();
    let mut news = gateway.client.egress_records().await.unwrap();
    gateway.client.bind_address(&bound(id, address, 1, &[])).await.unwrap();
    let refused = bench.says(&one, proxy, &connect).await;
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("egress_address_literal"), "{refused}");
    let told = news.next().await.unwrap().unwrap().remove(0);
    assert_eq!((told.workspace, told.allowed, told.why.as_str()), (id, false, "egress_address_literal"));

    let rule = format!("{}/32:{port}", outside.0);
    gateway.client.bind_address(&bound(id, address, 2, &[&rule])).await.unwrap();
    let reached = bench.says(&one, proxy, &connect).await;
    assert!(reached.starts_with("HTTP/1.1 200") && reached.ends_with("hello from outside\n"), "{reached}");
    for inside in [here.as_str(), "127.0.0.1", &sibling.to_string()] {
        let connect = format!("CONNECT {inside}:{port} HTTP/1.1\\r\\nHost: {inside}:{port}\\r\\n\\r\\n");
        let refused = bench.says(&one, proxy, &connect).await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{inside}: {refused}");
    }
    let wrong = BoundAddress {
        policy: BoundPolicy { preset: "wide".into(), layers: Vec::new() },
        ..bound(id, address, 3, &[])
    };
    assert!(gateway.client.bind_address(&wrong).await.is_err(), "what is no policy changes nothing");
    assert!(bench.says(&one, proxy, &connect).await.starts_with("HTTP/1.1 200"));

    greeter.abort();
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
