//! The gateway's program as a host runs it, but for the container: a process with shared memory of its own, told over its
//! control socket. The engine's stream, which carries what the server says to a gateway's container, is not between them.

use super::world::World;
use crate::procs;
use anyhow::{Context, Result, ensure};
use rexec_api::gateway::{BoundAddress, BoundLayer, BoundPolicy, GatewaySettings, OfferedModels};
use rexec_api::ids::WorkspaceId;
use rexec_channel::GuestClient;
use rexec_egress::authority::BUNDLES;
use rustix::process::{Pid, Signal, kill_process};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// Where no workspace of this program's is, so that a server of names of this machine's is not in the way.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 3, 254);
const PORT: u16 = 3128;
/// Its control socket, and what it is greeted with (`control.rs` of the guest).
const CONTROL: &str = "dev/shm/rexec-control";
const CONNECT: u8 = b'C';
const RELAY: u8 = b'R';
/// As much of a program's name as the kernel keeps.
const NAME_BYTES_MAX: usize = 15;
const READY_MAX: Duration = Duration::from_secs(20);

pub struct Running {
    process: Process,
    pub at: SocketAddr,
    pub client: GuestClient,
}

impl Running {
    pub async fn start(program: &Path, world: &World, models: OfferedModels) -> Result<Self> {
        ensure!(program.exists(), "there is no gateway at {}", program.display());
        // Its socket is where every gateway has it, in a container's own memory.
        let script = "mount -t tmpfs none /dev/shm && exec \"$0\"";
        let words = ["--mount", "sh", "-c", script];
        let process = Command::new("unshare").args(words).arg(program).stdin(Stdio::null()).spawn();
        let process = Process(process.context("unshare (util-linux)")?);
        let proxy = SocketAddrV4::new(ADDRESS, PORT);
        let bundle = BUNDLES.iter().find_map(|path| std::fs::read_to_string(Path::new("/").join(path)).ok());
        let settings = GatewaySettings {
            proxy,
            other_ports: Vec::new(),
            direct: false,
            resolvers: vec![world.names],
            closed: Vec::new(),
            upstream: None,
            // Those that a server tells it, too.
            roots: bundle.unwrap_or_default() + &world.authority,
            models,
        };
        let (tell, told) = oneshot::channel();
        let name = program.file_name().and_then(|name| name.to_str()).context("the gateway's name")?;
        let (pid, name) = (process.0.id(), name[..name.len().min(NAME_BYTES_MAX)].to_owned());
        std::thread::spawn(move || server(pid, &name, &settings, tell));
        let client = told.await.context("the gateway's channel has ended")??;
        Ok(Self { process, at: proxy.into(), client })
    }

    pub fn resident_mb(&self) -> Result<f64> {
        Ok(procs::resident_kib(self.process.0.id())? as f64 / 1024.0)
    }
}

/// The server's end of the channel, on a thread of its own: it hears what is decided, and has no part in what is measured.
fn server(pid: u32, name: &str, settings: &GatewaySettings, tell: oneshot::Sender<Result<GuestClient>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let met = async {
            let (client, driver) = GuestClient::connect(greeted(pid, name).await?).await?;
            tokio::spawn(driver);
            client.set_gateway(settings).await?;
            anyhow::Ok((client.clone(), client.egress_records().await?))
        };
        match met.await {
            Ok((client, mut records)) => {
                let _ = tell.send(Ok(client));
                while let Ok(Some(_)) = records.next().await {}
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    });
    Ok(())
}

async fn greeted(pid: u32, name: &str) -> Result<UnixStream> {
    let began = Instant::now();
    loop {
        // Before it is the gateway, it sees this machine's memory.
        let now = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        match UnixStream::connect(format!("/proc/{pid}/root/{CONTROL}")).await {
            Ok(mut stream) if now.trim() == name => {
                stream.write_all(&[CONNECT]).await?;
                ensure!(stream.read_u8().await? == RELAY, "the gateway answers otherwise than was agreed");
                return Ok(stream);
            }
            failed => ensure!(began.elapsed() < READY_MAX, "the gateway does not come up: {failed:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a workspace of the balanced preset has beside it: the operator's rules, and its own.
pub fn balanced(allow: &[&str], deny: &[&str]) -> BoundPolicy {
    let rules = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect();
    let own: Vec<String> = (0..RULES).map(|at| format!("*.service-{at}.example")).collect();
    let always = BoundLayer {
        origin: "always".into(),
        allow: rules(&["*.corp.example", "10.20.0.0/16:443"]),
        deny: rules(&["*.tracker.example", "203.0.113.128/25"]),
    };
    let own = BoundLayer {
        origin: "workspace".into(),
        allow: rules(allow).into_iter().chain(own).collect(),
        deny: rules(deny),
    };
    BoundPolicy { preset: "balanced".into(), layers: vec![always, own] }
}

/// Of a workspace's own.
const RULES: usize = 20;

/// A workspace that is told nothing but its policy.
pub fn bound(source: IpAddr, policy: BoundPolicy) -> Result<BoundAddress> {
    let IpAddr::V4(address) = source else { anyhow::bail!("{source} is none of ours") };
    Ok(BoundAddress {
        address,
        workspace: WorkspaceId::new(),
        version: 1,
        policy,
        secrets: None,
        models: None,
        github: None,
    })
}

/// Ends with this.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // By request: killed, squid would leave shared memory behind that it does not start beside.
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let asked = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
        if !asked {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}
