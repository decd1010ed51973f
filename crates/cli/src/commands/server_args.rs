//! What is said of a server on the command line, new or changed.

use crate::failure::{Failure, Result};
use rexec_api::servers::{NewServer, PatchServer, SshAccess};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct AddServer {
    name: String,
    /// `tcp://HOST[:PORT]` with TLS, `ssh://USER@HOST[:PORT][/SOCKET]`, or `unix:///PATH` on Rexec's own machine.
    address: String,
    #[command(flatten)]
    way: Way,
    #[command(flatten)]
    room: Room,
}

#[derive(Debug, clap::Args)]
pub struct EditServer {
    /// Its name or id.
    pub server: String,
    #[arg(long)]
    name: Option<String>,
    /// Where it is reached from now on, with all that it takes: `tcp://HOST[:PORT]`, `ssh://USER@HOST[:PORT][/SOCKET]` or `unix:///PATH`.
    #[arg(long)]
    address: Option<String>,
    #[command(flatten)]
    way: Way,
    #[command(flatten)]
    room: Room,
    /// As many workspaces as there is room for.
    #[arg(long, conflicts_with = "max_workspaces")]
    no_max_workspaces: bool,
    #[arg(long, conflicts_with = "labels")]
    no_labels: bool,
    /// Whatever runtimes the settings allow.
    #[arg(long, conflicts_with = "runtimes")]
    any_runtime: bool,
}

/// What it takes to be let in.
#[derive(Debug, Default, clap::Args)]
struct Way {
    /// Who signed the engine's certificate: a file of this machine, in PEM, which is sent and kept encrypted, as the other
    /// two are.
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key"])]
    tls_ca: Option<PathBuf>,
    /// The client's certificate.
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    tls_cert: Option<PathBuf>,
    /// The key of the client's certificate.
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    tls_key: Option<PathBuf>,
    /// The private key to log in with by SSH, which is sent and kept encrypted.
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// What the machine must show: `SHA256:...`, or a line of `ssh-keyscan`. Without, the first that it shows counts.
    #[arg(long, value_name = "KEY")]
    ssh_host_key: Option<String>,
}

/// What workspaces may have of it.
#[derive(Debug, Default, clap::Args)]
struct Room {
    /// For workspaces; of a new one what the machine has, when absent. 0: without a limit.
    #[arg(long, value_name = "CORES", allow_negative_numbers = true)]
    cpu: Option<f64>,
    /// MiB.
    #[arg(long, value_name = "MIB", allow_negative_numbers = true)]
    memory: Option<u64>,
    /// GiB.
    #[arg(long, value_name = "GIB", allow_negative_numbers = true)]
    disk: Option<u64>,
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    max_workspaces: Option<u32>,
    #[arg(long)]
    region: Option<String>,
    /// May be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// An OCI runtime that workspaces may have there; may be given several times.
    #[arg(long = "runtime", value_name = "NAME")]
    runtimes: Vec<String>,
}

fn label(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl AddServer {
    pub fn request(self) -> Result<NewServer> {
        let room = self.room;
        Ok(NewServer {
            name: self.name,
            total_cpu: room.cpu,
            total_memory_mb: room.memory,
            total_disk_gb: room.disk,
            max_workspaces: room.max_workspaces,
            region: room.region,
            labels: room.labels.into_iter().collect(),
            runtimes: Some(room.runtimes).filter(|names| !names.is_empty()),
            ..self.way.to(&self.address)?
        })
    }
}

impl EditServer {
    pub fn request(self) -> Result<PatchServer> {
        let room = self.room;
        let reached = match self.address {
            Some(address) => self.way.to(&address)?,
            None if self.way.is_named() => {
                return Err(usage("Name the --address, too: all of how it is reached is said anew."));
            }
            None => NewServer::default(),
        };
        let labels = (self.no_labels || !room.labels.is_empty()).then(|| room.labels.into_iter().collect());
        let runtimes = (self.any_runtime || !room.runtimes.is_empty()).then_some(room.runtimes);
        let change = PatchServer {
            name: self.name,
            hostname: reached.hostname,
            docker_port: reached.docker_port,
            tls_ca: reached.tls_ca,
            tls_cert: reached.tls_cert,
            tls_key: reached.tls_key,
            ssh: reached.ssh,
            socket: reached.socket,
            total_cpu: room.cpu,
            total_memory_mb: room.memory,
            total_disk_gb: room.disk,
            max_workspaces: room.max_workspaces.map(Some).or(self.no_max_workspaces.then_some(None)),
            region: room.region,
            labels,
            runtimes: runtimes.map(|names| Some(names).filter(|names| !names.is_empty())),
            ..PatchServer::default()
        };
        match serde_json::to_value(&change) {
            Ok(serde_json::Value::Object(said)) if said.is_empty() => {
                Err(usage("Say what is to change; --help lists what can."))
            }
            _ => Ok(change),
        }
    }
}

impl Way {
    fn is_named(&self) -> bool {
        self.tls_ca.is_some() || self.ssh_key.is_some() || self.ssh_host_key.is_some()
    }

    /// A server of no name that is reached at this address.
    fn to(self, address: &str) -> Result<NewServer> {
        let mut new = NewServer::default();
        let (by_tls, by_ssh) = (self.tls_ca.is_some(), self.ssh_key.is_some() || self.ssh_host_key.is_some());
        if by_tls && !address.starts_with("tcp://") || by_ssh && !address.starts_with("ssh://") {
            return Err(usage("--tls-... is for a tcp:// address, --ssh-... for an ssh:// one."));
        }
        let file = |path: Option<PathBuf>| path.map(|path| read(&path)).transpose();
        match address.split_once("://") {
            Some(("unix", path)) => new.socket = Some(path.to_owned()),
            Some(("tcp", place)) => {
                let (host, port) = place_of(place)?;
                (new.hostname, new.docker_port) = (Some(host), port);
                (new.tls_ca, new.tls_cert, new.tls_key) =
                    (file(self.tls_ca)?, file(self.tls_cert)?, file(self.tls_key)?);
            }
            Some(("ssh", place)) => {
                let (user, place) = place.split_once('@').ok_or_else(|| usage("Write ssh://USER@HOST."))?;
                let (place, socket) = match place.split_once('/') {
                    Some((place, path)) => (place, Some(format!("/{path}")).filter(|path| path != "/")),
                    None => (place, None),
                };
                let (host, port) = place_of(place)?;
                let key = self.ssh_key.ok_or_else(|| usage("Name the private key with --ssh-key."))?;
                new.hostname = Some(host);
                new.ssh = Some(SshAccess {
                    user: user.to_owned(),
                    port,
                    private_key: read(&key)?,
                    host_key: self.ssh_host_key,
                    socket,
                });
            }
            _ => return Err(usage("An address begins with tcp://, ssh:// or unix://.")),
        }
        Ok(new)
    }
}

fn usage(what: &str) -> Failure {
    Failure::Usage(what.into())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Failure::Other(format!("{} cannot be read: {error}", path.display())))
}

/// An IPv6 address stands in brackets.
fn place_of(place: &str) -> Result<(String, Option<u16>)> {
    let place = place.trim_end_matches('/');
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (place, None),
    };
    let port = port.map(|port| port.parse().map_err(|_| usage("The port is a number up to 65535."))).transpose()?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::{Value, json};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        edit: EditServer,
    }

    fn edit(words: &str) -> Result<Value> {
        let line = Line::try_parse_from(["edit", "one"].into_iter().chain(words.split_whitespace())).unwrap();
        Ok(serde_json::to_value(line.edit.request()?).unwrap())
    }

    #[test]
    fn what_is_not_named_stays() {
        let said = |words| edit(words).unwrap_or_else(|_| panic!("{words}"));
        assert_eq!(
            said("--region cellar --max-workspaces 3 --label a=b --runtime runc"),
            json!({ "region": "cellar", "max_workspaces": 3, "labels": { "a": "b" }, "runtimes": ["runc"] })
        );
        assert_eq!(
            said("--no-max-workspaces --no-labels --any-runtime"),
            json!({ "max_workspaces": null, "labels": {}, "runtimes": null })
        );
        assert_eq!(said("--address unix:///run/docker.sock"), json!({ "socket": "/run/docker.sock" }));
        for wrong in [
            "",
            "--ssh-host-key SHA256:x",
            "--address somewhere",
            "--address ssh://root@host",
            "--address unix:///x --ssh-host-key k",
        ] {
            assert!(matches!(edit(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
        assert!(Line::try_parse_from(["edit", "one", "--no-labels", "--label", "a=b"]).is_err());
    }
}
