//! Machines of the fleet that are reached through a network: an engine of its own in a network of its own, behind mutual
//! TLS that the engine itself speaks or behind `sshd`, at the other end of a [`Wire`].

use super::apart::Apart;
use super::dockerd::Dockerd;
use super::wire::Wire;
use super::workspaces::{Stage, on_stage};
use super::{Backend, Place};
use futures_util::FutureExt as _;
use rexec_api::servers::{NewServer, ServerHealth, ServerView, SshAccess};
use rexec_engine::contract::remote::{Authority, Issued, Sshd, When};
use std::panic::{AssertUnwindSafe, resume_unwind};

/// Docker's port for TLS. There is nobody else in that network.
const TLS_PORT: u16 = 2376;

/// What leads to an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Tls,
    Ssh,
}

pub struct Far {
    pub daemon: Dockerd,
    pub wire: Wire,
    door: Door,
}

enum Door {
    Tls { engines: Authority, client: Issued },
    Ssh(Sshd),
}

impl Far {
    /// `more` is for the command line of its engine.
    pub async fn make(way: Way, more: &[&str]) -> Far {
        let apart = Apart::make().await;
        let wire = Wire::to(&apart).await;
        let address = wire.address().to_string();
        let mut more: Vec<String> = more.iter().map(|&word| word.to_owned()).collect();
        match way {
            Way::Tls => {
                let (engines, clients) = (Authority::new("engines"), Authority::new("clients"));
                let shown = engines.issue(&[&address], When::Now);
                let certs = tempfile::tempdir().unwrap();
                let mut file = |option: &str, text: &str| {
                    let path = certs.path().join(option);
                    std::fs::write(&path, text).unwrap();
                    more.push(format!("--{option}={}", path.display()));
                };
                file("tlscacert", clients.pem());
                file("tlscert", &shown.certificate);
                file("tlskey", &shown.key);
                more.extend(["--tlsverify".into(), format!("--host=tcp://{address}:{TLS_PORT}")]);
                let daemon = Dockerd::start_in(apart, more, Some(certs)).await;
                let client = clients.issue(&[], When::Now);
                Far { daemon, wire, door: Door::Tls { engines, client } }
            }
            Way::Ssh => {
                let daemon = Dockerd::start_in(apart, more, None).await;
                let sshd = Sshd::start_in(daemon.apart().enter(), wire.address(), daemon.socket().into());
                Far { daemon, wire, door: Door::Ssh(sshd) }
            }
        }
    }

    /// As an administrator adds it, in a region.
    pub fn server(&self, name: &str, region: &str) -> NewServer {
        let new = NewServer {
            name: name.into(),
            hostname: Some(self.wire.address().to_string()),
            region: Some(region.into()),
            ..NewServer::default()
        };
        match &self.door {
            Door::Tls { engines, client } => NewServer {
                docker_port: Some(TLS_PORT),
                tls_ca: Some(engines.pem().into()),
                tls_cert: Some(client.certificate.clone()),
                tls_key: Some(client.key.clone()),
                ..new
            },
            Door::Ssh(sshd) => {
                let ssh = SshAccess {
                    user: "root".into(),
                    port: Some(sshd.port()),
                    private_key: sshd.key(),
                    host_key: Some(sshd.host_key("ed25519").fingerprint()),
                    socket: Some(self.daemon.socket()),
                };
                NewServer { ssh: Some(ssh), ..new }
            }
        }
    }

    /// Adds it to a stage's fleet.
    pub async fn join(&self, stage: &Stage, name: &str, region: &str) -> ServerView {
        let server = stage.client.add_server(&self.server(name, region)).await.unwrap();
        assert_eq!((server.health, server.is_local), (ServerHealth::Ready, false), "{server:?}");
        server
    }

    pub async fn remove(self) {
        // Nothing of it may wait for an answer from there.
        self.wire.heal().await;
        drop(self.door);
        self.daemon.remove().await;
    }
}

/// Runs a test on a stage and a machine for each of these ways; all are gone afterwards.
pub async fn with_far<const N: usize>(
    backend: Backend,
    ways: [(Way, &[&str]); N],
    test: impl AsyncFnOnce(&Place, Stage, &mut [Far; N]) -> Stage,
) {
    on_stage(backend, &[], async |place, stage| {
        let made = ways.map(|(way, more)| Far::make(way, more));
        let made = futures_util::future::join_all(made).await;
        let mut far: [Far; N] = made.try_into().unwrap_or_else(|_| panic!("as many as ways"));
        let outcome = AssertUnwindSafe(test(place, stage, &mut far)).catch_unwind().await;
        for far in far {
            far.remove().await;
        }
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    })
    .await;
}
