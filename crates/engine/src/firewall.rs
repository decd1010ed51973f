//! Closes this machine to the workspaces of one bridge: its own ports, at every address it has; the metadata addresses of
//! clouds; private ranges, but for those that are let pass; and them to each other. What they reach of the internet is not
//! decided here. From a bridge that is closed nothing passes through at all, and of this machine only the gateway's ports
//! are open.
//!
//! Questions for names pass to wherever the engine sends them: a server of names is at a private address as a rule, and in
//! some clouds at that of the metadata service.
//!
//! Every bridge has two chains of its own: `RXI-<bridge>` in the `filter` table for what is for this machine, and
//! `RXF-<bridge>` in `mangle` for what passes through; one jump each, first in `INPUT` and in `FORWARD`. The engines
//! order the latter's `filter` rules anew as they like, and accept there what containers send; `mangle` comes
//! before, and is nobody else's. IPv6 is off on these networks, so nothing of it is let in or through.
//!
//! Invariant: a table's chains are written in one transaction, so no packet ever sees half of one, and the
//! jumps are added last. All of it may be repeated, by several servers at once. It works only where
//! the engine is on this machine; rules of others are left alone. The DNS that Docker answers at
//! 127.0.0.11 lives inside the container and is not touched.

use rustix::fs::{FlockOperation, flock};
use std::fmt;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Clouds' metadata services: link-local (AWS, GCP, Azure, OpenStack, ...), Alibaba's, Azure's WireServer, Oracle's.
const METADATA_V4: &[&str] = &["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"];
/// Private, shared (carrier-grade NAT), and for measurement within networks.
const PRIVATE_V4: &[&str] = &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15"];
/// How long the tools wait for each other's lock, in seconds.
const LOCK_WAIT_SECONDS: &str = "20";
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Held while the jumps are looked at and added, so that two servers do not add them twice.
const LOCK_FILE: &str = "/run/rexec-firewall.lock";
/// Where the tools are, beside `PATH`: services often run without these.
const TOOL_DIRS: &[&str] = &["/usr/sbin", "/sbin", "/usr/local/sbin"];
/// The kernel's IFNAMSIZ, less its closing zero; with it a chain's name stays under its 28.
const BRIDGE_BYTES_MAX: usize = 15;
/// Whether packets between two ports of one bridge are asked after, too (the kernel's module `br_netfilter`).
const BRIDGES_FILTERED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// Exists when the kernel has IPv6.
const KERNEL_V6: &str = "/proc/net/if_inet6";

/// Where names are asked for.
const DNS_PORT: u16 = 53;

/// What may leave a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    /// What is for the public internet, and for these.
    Open(Vec<Pass>),
    /// What is for the gateway, at this address of the machine: these ports by TCP, and names.
    Gateway { address: Ipv4Addr, ports: Vec<u16> },
}

/// Private addresses that may be reached all the same; no bit after those that count is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    pub base: Ipv4Addr,
    pub bits: u8,
    /// By TCP at ports from the one to the other; by every protocol when absent.
    pub ports: Option<(u16, u16)>,
}

/// As a rule of egress says it: `10.1.0.0/16:8000-8100`.
impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:", self.base, self.bits)?;
        match self.ports {
            Some((first, last)) => write!(f, "{first}-{last}"),
            None => f.write_str("*"),
        }
    }
}

pub type Result<T> = std::result::Result<T, FirewallError>;

#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    #[error("only root can close this machine's ports to workspaces")]
    NotRoot,
    #[error("{0} is not installed: it is in the package `iptables`")]
    NoTool(&'static str),
    #[error("{0:?} is no name of a bridge")]
    BadBridge(String),
    /// A tool refused; its own words.
    #[error("`{command}` failed: {message}")]
    Failed { command: String, message: String },
    #[error("`{0}` did not end in time")]
    TimedOut(String),
    #[error("cannot {what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
}

/// Both families' tools and what differs between them.
struct Family {
    tool: &'static str,
    restore: &'static str,
    /// Nothing of it passes.
    is_closed: bool,
}

const V4: Family = Family { tool: "iptables", restore: "iptables-restore", is_closed: false };
const V6: Family = Family { tool: "ip6tables", restore: "ip6tables-restore", is_closed: true };

/// One of our chains: where it is, what leads packets of the bridge to it, and its rules.
struct Chain {
    table: &'static str,
    from: &'static str,
    name: String,
    rules: Vec<Vec<String>>,
}

/// Closes this machine's ports, metadata addresses, private ranges and the bridge's other containers to what comes from it,
/// but for what may leave it. The bridge need not exist yet. Containers are apart only where bridges are filtered
/// ([`filter_bridges`]).
pub async fn close_host(bridge: &str, leave: &Leave) -> Result<()> {
    check_bridge(bridge)?;
    check_root()?;
    let _lock = lock().await?;
    for family in families() {
        let chains = family.chains(bridge, leave);
        let script: String = chains.iter().map(Chain::script).collect();
        run(family.restore, &["-w", LOCK_WAIT_SECONDS, "--noflush"], Some(&script)).await?;
        for chain in &chains {
            if !family.leads_to(chain, bridge).await? {
                family.change("-I", chain, bridge).await?;
            }
        }
    }
    Ok(())
}

/// Has the kernel ask the rules also about packets from one container to another of the same bridge. Docker does
/// so itself.
pub async fn filter_bridges() -> Result<()> {
    let is_on = || std::fs::read_to_string(BRIDGES_FILTERED).is_ok_and(|value| value.trim() == "1");
    if is_on() {
        return Ok(());
    }
    check_root()?;
    if !Path::new(BRIDGES_FILTERED).exists() {
        // Where it is built in, or there is no such tool, the file tells.
        let _ = output("modprobe", &["br_netfilter"], None).await;
    }
    std::fs::write(BRIDGES_FILTERED, "1")
        .map_err(|source| FirewallError::Io { what: format!("write 1 to {BRIDGES_FILTERED}"), source })
}

/// Whether all that [`close_host`] does is in force: another firewall's reload may have undone it.
pub async fn host_is_closed(bridge: &str, leave: &Leave) -> Result<bool> {
    check_bridge(bridge)?;
    check_root()?;
    for family in families() {
        for chain in family.chains(bridge, leave) {
            for rule in &chain.rules {
                if !family.holds(&chain, rule).await? {
                    return Ok(false);
                }
            }
            if !family.leads_to(&chain, bridge).await? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Takes back what [`close_host`] did, for a bridge that is gone.
pub async fn forget_bridge(bridge: &str) -> Result<()> {
    check_bridge(bridge)?;
    check_root()?;
    let _lock = lock().await?;
    for family in families() {
        // Their names are all that counts.
        for chain in family.chains(bridge, &Leave::Open(Vec::new())) {
            if family.leads_to(&chain, bridge).await? {
                family.change("-D", &chain, bridge).await?;
            }
            if family.exists(&chain).await? {
                family.run(&["-t", chain.table, "-F", &chain.name]).await?;
                family.run(&["-t", chain.table, "-X", &chain.name]).await?;
            }
        }
    }
    Ok(())
}

impl Chain {
    /// For `iptables-restore --noflush`: naming a chain makes it, or empties it.
    fn script(&self) -> String {
        let mut text = format!("*{}\n:{} - [0:0]\n", self.table, self.name);
        for rule in &self.rules {
            text.push_str(&format!("-A {} {}\n", self.name, rule.join(" ")));
        }
        text.push_str("COMMIT\n");
        text
    }
}

impl Family {
    fn chains(&self, bridge: &str, leave: &Leave) -> [Chain; 2] {
        let rule = |of: &[&str], verdict| -> Vec<String> {
            of.iter().chain(&["-j", verdict]).map(|&word| word.to_owned()).collect()
        };
        let drop = |of: &[&str]| rule(of, "DROP");
        let mut through = Vec::new();
        match leave {
            Leave::Open(passes) if !self.is_closed => {
                through.push(drop(&["-o", bridge]));
                let names = DNS_PORT.to_string();
                through.extend(["udp", "tcp"].map(|of| rule(&["-p", of, "-m", of, "--dport", &names], "RETURN")));
                through.extend(METADATA_V4.iter().map(|to| drop(&["-d", to])));
                for Pass { base, bits, ports } in passes {
                    let to = format!("{base}/{bits}");
                    through.push(match ports {
                        None => rule(&["-d", &to], "RETURN"),
                        Some((first, last)) => {
                            let ports = format!("{first}:{last}");
                            rule(&["-d", &to, "-p", "tcp", "-m", "tcp", "--dport", &ports], "RETURN")
                        }
                    });
                }
                through.extend(PRIVATE_V4.iter().map(|to| drop(&["-d", to])));
            }
            _ => through.push(drop(&[])),
        }
        let mut inward = Vec::new();
        if let (false, Leave::Gateway { address, ports }) = (self.is_closed, leave) {
            // As they are read back.
            let address = format!("{address}/32");
            let ports = ports.iter().map(|port| ("tcp", *port));
            for (protocol, port) in ports.chain([("tcp", DNS_PORT), ("udp", DNS_PORT)]) {
                let port = port.to_string();
                inward.push(rule(&["-d", &address, "-p", protocol, "-m", protocol, "--dport", &port], "ACCEPT"));
            }
        }
        inward.push(drop(&[]));
        let input = Chain { table: "filter", from: "INPUT", name: format!("RXI-{bridge}"), rules: inward };
        [input, Chain { table: "mangle", from: "FORWARD", name: format!("RXF-{bridge}"), rules: through }]
    }

    async fn exists(&self, chain: &Chain) -> Result<bool> {
        self.asks(&["-t", chain.table, "-n", "-L", &chain.name]).await
    }

    async fn leads_to(&self, chain: &Chain, bridge: &str) -> Result<bool> {
        // Asking after a jump to a chain that is not there is an error in some versions.
        Ok(self.exists(chain).await?
            && self.asks(&["-t", chain.table, "-C", chain.from, "-i", bridge, "-j", &chain.name]).await?)
    }

    async fn holds(&self, chain: &Chain, rule: &[String]) -> Result<bool> {
        let args: Vec<&str> =
            ["-t", chain.table, "-C", &chain.name].into_iter().chain(rule.iter().map(String::as_str)).collect();
        self.asks(&args).await
    }

    async fn change(&self, how: &str, chain: &Chain, bridge: &str) -> Result<()> {
        self.run(&["-t", chain.table, how, chain.from, "-i", bridge, "-j", &chain.name]).await
    }

    async fn run(&self, args: &[&str]) -> Result<()> {
        let args = [&["-w", LOCK_WAIT_SECONDS], args].concat();
        run(self.tool, &args, None).await
    }

    /// Runs a question: the tools answer no with code 1, and everything else with other codes.
    async fn asks(&self, args: &[&str]) -> Result<bool> {
        let args = [&["-w", LOCK_WAIT_SECONDS], args].concat();
        let output = output(self.tool, &args, None).await?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(failed(self.tool, &args, &output)),
        }
    }
}

fn families() -> impl Iterator<Item = Family> {
    let v6 = Path::new(KERNEL_V6).exists().then_some(V6);
    [V4].into_iter().chain(v6)
}

fn check_bridge(bridge: &str) -> Result<()> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let good = bridge.len() <= BRIDGE_BYTES_MAX
        && bridge.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bridge.bytes().all(inner);
    if good { Ok(()) } else { Err(FirewallError::BadBridge(bridge.to_owned())) }
}

fn check_root() -> Result<()> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(FirewallError::NotRoot) }
}

/// The lock ends with the file.
async fn lock() -> Result<File> {
    let locked = tokio::task::spawn_blocking(|| {
        let file = File::create(LOCK_FILE)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    });
    let locked = locked.await.unwrap_or_else(|ended| Err(io::Error::other(ended)));
    locked.map_err(|source| FirewallError::Io { what: format!("lock {LOCK_FILE}"), source })
}

async fn run(tool: &'static str, args: &[&str], stdin: Option<&str>) -> Result<()> {
    let output = output(tool, args, stdin).await?;
    if output.status.success() { Ok(()) } else { Err(failed(tool, args, &output)) }
}

async fn output(tool: &'static str, args: &[&str], stdin: Option<&str>) -> Result<Output> {
    let io_error = |source| FirewallError::Io { what: format!("run {tool}"), source };
    let mut child = Command::new(find(tool).ok_or(FirewallError::NoTool(tool))?)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(io_error)?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), stdin) {
        // A few hundred bytes: they fit the pipe, whether the tool reads them or not.
        pipe.write_all(text.as_bytes()).await.map_err(io_error)?;
    }
    match tokio::time::timeout(COMMAND_TIMEOUT, child.wait_with_output()).await {
        Ok(output) => output.map_err(io_error),
        Err(_) => Err(FirewallError::TimedOut(command_line(tool, args))),
    }
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(TOOL_DIRS.iter().map(PathBuf::from));
    dirs.map(|dir| dir.join(tool)).find(|file| file.is_file())
}

fn command_line(tool: &str, args: &[&str]) -> String {
    format!("{tool} {}", args.join(" "))
}

fn failed(tool: &str, args: &[&str], output: &Output) -> FirewallError {
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    FirewallError::Failed { command: command_line(tool, args), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_are_names() {
        for good in ["rexec0", "br-1.2_3"] {
            assert!(check_bridge(good).is_ok(), "{good}");
        }
        for bad in ["", "-i", "a b", "a\nb", "sixteen-letters!", "0123456789abcdef"] {
            assert!(matches!(check_bridge(bad), Err(FirewallError::BadBridge(_))), "{bad:?}");
        }
    }

    #[test]
    fn chains_drop_all_for_this_machine_and_what_is_not_public_on_the_way_through() {
        let pass = |bits, ports| Pass { base: Ipv4Addr::new(10, 1, 0, 0), bits, ports };
        let leave = Leave::Open(vec![pass(16, Some((80, 90))), pass(24, None)]);
        let script = |family: Family| family.chains("rx0", &leave).iter().map(Chain::script).collect::<String>();
        let v4 = script(V4);
        assert!(v4.starts_with("*filter\n:RXI-rx0 - [0:0]\n-A RXI-rx0 -j DROP\nCOMMIT\n*mangle\n"), "{v4}");
        let through: Vec<&str> = v4.lines().filter_map(|line| line.strip_prefix("-A RXF-rx0 ")).collect();
        assert_eq!(
            through,
            [
                "-o rx0 -j DROP",
                "-p udp -m udp --dport 53 -j RETURN",
                "-p tcp -m tcp --dport 53 -j RETURN",
                "-d 169.254.0.0/16 -j DROP",
                "-d 100.100.100.200/32 -j DROP",
                "-d 168.63.129.16/32 -j DROP",
                "-d 192.0.0.192/32 -j DROP",
                "-d 10.1.0.0/16 -p tcp -m tcp --dport 80:90 -j RETURN",
                "-d 10.1.0.0/24 -j RETURN",
                "-d 10.0.0.0/8 -j DROP",
                "-d 172.16.0.0/12 -j DROP",
                "-d 192.168.0.0/16 -j DROP",
                "-d 100.64.0.0/10 -j DROP",
                "-d 198.18.0.0/15 -j DROP",
            ]
        );
        assert_eq!(pass(16, Some((80, 90))).to_string(), "10.1.0.0/16:80-90");
        assert_eq!(pass(24, None).to_string(), "10.1.0.0/24:*");
        assert!(script(V6).contains("-A RXF-rx0 -j DROP\n"));
    }

    #[test]
    fn from_a_closed_bridge_only_the_gateway_is_reached() {
        let leave = Leave::Gateway { address: Ipv4Addr::new(172, 18, 0, 1), ports: vec![3128, 80] };
        let script = |family: Family| family.chains("rx0", &leave).iter().map(Chain::script).collect::<String>();
        assert_eq!(
            script(V4),
            "*filter\n:RXI-rx0 - [0:0]\n\
             -A RXI-rx0 -d 172.18.0.1/32 -p tcp -m tcp --dport 3128 -j ACCEPT\n\
             -A RXI-rx0 -d 172.18.0.1/32 -p tcp -m tcp --dport 80 -j ACCEPT\n\
             -A RXI-rx0 -d 172.18.0.1/32 -p tcp -m tcp --dport 53 -j ACCEPT\n\
             -A RXI-rx0 -d 172.18.0.1/32 -p udp -m udp --dport 53 -j ACCEPT\n\
             -A RXI-rx0 -j DROP\nCOMMIT\n*mangle\n:RXF-rx0 - [0:0]\n-A RXF-rx0 -j DROP\nCOMMIT\n"
        );
        assert!(!script(V6).contains("ACCEPT"));
    }
}
