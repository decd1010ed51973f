//! CONNECT: a tunnel through our gateway against one through squid with the equivalent rules, both to the same host, and both
//! beside the direct way.

use super::gateway::{Process, Running, balanced, bound};
use super::world::{PLAIN, STREAM, STREAM_BYTES, World};
use super::{connect, hello, is_let, sources};
use crate::procs;
use crate::report::{Bound, Report, percentile, show};
use anyhow::{Context, Result, bail, ensure};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Workspaces that ask in turn: each may make so many connections and no more.
const SOURCES: usize = 200;
const ROUNDS: usize = 7;
const TUNNELS: usize = 200;
const STREAMS: usize = 3;
const READY_MAX: Duration = Duration::from_secs(20);

pub async fn run(program: &Path, report: &mut Report) -> Result<()> {
    ensure!(Path::new("/usr/sbin/squid").exists(), "squid is missing: apt-get install squid");
    let world = World::make()?;
    let directory = tempfile::tempdir()?;
    let squid_at = free()?;
    let ours = Running::start(program, &world, Default::default()).await?;
    for source in sources(SOURCES) {
        ours.client.bind_address(&bound(source, balanced(&[PLAIN.name], &[]))?).await?;
    }
    let squid = Process(squid(squid_at, directory.path())?);
    let peer = std::mem::replace(&mut report.peer, "squid");
    for at in [ours.at, squid_at] {
        until_ready(at).await?;
    }
    let idle = ours.resident_mb()?;
    latency(report, ours.at, squid_at).await?;
    throughput(report, ours.at, squid_at).await?;
    let sides = format!("with {SOURCES} workspaces and this machine's authorities");
    report.figure("memory of an idle gateway", &sides, idle, "MB", Bound::AtMost(10.0));
    report.note(format!(
        "after all of it: ours {:.1} MB, squid {:.1} MB",
        ours.resident_mb()?,
        procs::resident_kib(squid.0.id())? as f64 / 1024.0
    ));
    report.peer = peer;
    Ok(())
}

/// From dialling to the first byte back; what a proxy adds to the direct way.
async fn latency(report: &mut Report, ours_at: SocketAddr, squid_at: SocketAddr) -> Result<()> {
    let (mut direct, mut ours, mut squid) = (Vec::new(), Vec::new(), Vec::new());
    let mut sources = sources(SOURCES).cycle();
    for _ in 0..ROUNDS {
        for (through, times) in [(None, &mut direct), (Some(ours_at), &mut ours), (Some(squid_at), &mut squid)] {
            for _ in 0..TUNNELS {
                let source = sources.next().context("a source")?;
                let began = Instant::now();
                let _tunnel = tunnel(source, through).await?;
                times.push(began.elapsed());
            }
        }
    }
    for percent in [50.0, 99.0] {
        let base = percentile(&mut direct, percent);
        let added = |times: &mut [Duration]| percentile(times, percent).saturating_sub(base);
        let name = format!("added latency of an allowed CONNECT, p{percent}");
        report.times(&name, added(&mut ours), added(&mut squid), Bound::AtMost(1.0));
        report.note(format!("direct {}", show(base)));
    }
    Ok(())
}

async fn throughput(report: &mut Report, ours_at: SocketAddr, squid_at: SocketAddr) -> Result<()> {
    let (mut ours, mut squid) = (Vec::new(), Vec::new());
    for _ in 0..STREAMS {
        for (at, times) in [(ours_at, &mut ours), (squid_at, &mut squid)] {
            let mut stream = tunnel(sources(1).next().context("a source")?, Some(at)).await?;
            let began = Instant::now();
            stream.write_all(&[STREAM]).await?;
            let (mut buffer, mut got) = (vec![0; 256 * 1024], 0);
            while got < STREAM_BYTES {
                match stream.read(&mut buffer).await? {
                    0 => bail!("the stream ended after {got} bytes"),
                    count => got += count,
                }
            }
            times.push(began.elapsed());
        }
    }
    let (ours, squid) = (percentile(&mut ours, 50.0), percentile(&mut squid, 50.0));
    report.speed("512 MiB through a tunnel", ours, squid, Bound::AtLeast(1.0));
    Ok(())
}

/// A connection on which the server has answered the first bytes.
async fn tunnel(source: IpAddr, through: Option<SocketAddr>) -> Result<TcpStream> {
    let mut stream = match through {
        Some(proxy) => {
            let (stream, head) = connect(source, proxy, PLAIN.name, PLAIN.port).await?;
            ensure!(is_let(&head), "{head}");
            stream
        }
        None => {
            let stream = TcpStream::connect((PLAIN.address, PLAIN.port)).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    stream.write_all(&hello(PLAIN.name)).await?;
    stream.read_u8().await?;
    Ok(stream)
}

fn free() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn until_ready(at: SocketAddr) -> Result<()> {
    let began = Instant::now();
    let source = sources(1).next().context("a source")?;
    while let Err(error) = tunnel(source, Some(at)).await {
        if began.elapsed() > READY_MAX {
            return Err(error.context(format!("the proxy at {at} does not come up")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn squid(at: SocketAddr, directory: &Path) -> Result<Child> {
    let (hosts, rules) = (directory.join("hosts"), directory.join("squid.conf"));
    std::fs::write(&hosts, format!("{} {}\n", PLAIN.address, PLAIN.name))?;
    let text = format!(
        "http_port {at}\nhosts_file {}\nacl allowed dstdomain {}\nacl tls port {}\n\
         http_access deny CONNECT !tls\nhttp_access allow allowed\nhttp_access deny all\ncache deny all\n\
         access_log none\ncache_log /dev/null\npid_filename none\nshutdown_lifetime 1 second\n",
        hosts.display(),
        PLAIN.name,
        PLAIN.port
    );
    std::fs::write(&rules, text)?;
    // It is nobody in particular once it runs.
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new("/usr/sbin/squid");
    command.args(["-N", "-f"]).arg(&rules).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("squid")
}
