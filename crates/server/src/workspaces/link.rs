//! The link to a workspace's guest: how it is made, and the place where others find it.
//!
//! A link comes about in one of two ways: the guest dials in (same machine), or we run
//! `guest connect` through the engine. Whichever stands is published in a watch; when it breaks,
//! the watch says so and the driver makes it anew. Nobody else holds a connection.
//!
//! Invariant: a published client belongs to a guest that proved the workspace's key (dial-in) or
//! was reached through the engine by the container's id, and that has its configuration.

use crate::hosts::dial::{self, Dialled, GuestKey};
use rexec_api::guest::{Configure, MachineFacts, PROGRAM, PROTOCOL, WayOut};
use rexec_channel::{Budget, ChannelError, GuestClient, Lanes};
use rexec_engine::{Engine, ExecStart};
use std::path::Path;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Connections that wait to be taken by the driver; more are dropped and dial again.
const DIALLED_MAX: usize = 4;
/// How long a first answer of the guest may take.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes proven dial-ins of one workspace; ends when dropped.
pub struct DialDesk {
    dialled: mpsc::Receiver<UnixStream>,
    lanes: Lanes,
    task: JoinHandle<()>,
}

impl Drop for DialDesk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl DialDesk {
    pub fn open(dir: &Path, key: GuestKey) -> std::io::Result<Self> {
        let listener = dial::listen(dir)?;
        let (accepted, dialled) = mpsc::channel(DIALLED_MAX);
        let lanes = Lanes::default();
        let task = tokio::spawn(take_dials(listener, key, accepted, lanes.clone()));
        Ok(Self { dialled, lanes, task })
    }

    /// Where lanes are expected that this desk delivers.
    pub fn lanes(&self) -> Lanes {
        self.lanes.clone()
    }

    /// The newest proven link, waiting for one if there is none.
    pub async fn next(&mut self) -> Option<UnixStream> {
        let mut stream = self.dialled.recv().await?;
        while let Ok(newer) = self.dialled.try_recv() {
            stream = newer;
        }
        Some(stream)
    }
}

/// One at a time: a dialler that dawdles holds up only its own workspace, and for 2 s at most.
async fn take_dials(listener: UnixListener, key: GuestKey, accepted: mpsc::Sender<UnixStream>, lanes: Lanes) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match dial::authenticate(stream, &key).await {
                Ok(Dialled::Link(stream)) => {
                    if let Err(mpsc::error::TrySendError::Closed(_)) = accepted.try_send(stream) {
                        return;
                    }
                }
                Ok(Dialled::Lane(name, stream)) => match stream.into_std() {
                    Ok(stream) => lanes.deliver(name, stream),
                    Err(error) => tracing::warn!(%error, "a lane is lost"),
                },
                Err(error) => tracing::debug!(%error, "a dial-in did not prove itself"),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a guest's dial-in");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What a guest is told when it is met.
pub struct Opening<'a> {
    pub configure: &'a Configure,
    /// What it is to try before it is configured for the first time in its life.
    pub trial: Option<&'a WayOut>,
}

/// A live link; its connection ends when this is dropped.
pub struct Link {
    pub client: GuestClient,
    /// Differs when the guest has booted anew: its terminals are new too.
    pub boot_id: uuid::Uuid,
    /// What a joined machine says of itself, and its guest's version.
    pub machine: MachineFacts,
    pub version: String,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the guest did not answer in time")]
    Timeout,
    #[error("the guest hangs up as soon as it is met")]
    Unsteady,
    #[error("the guest speaks protocol {0}, which this server does not")]
    Protocol(u32),
    #[error("it reaches what it must not: {0:?}")]
    Leaks(Vec<String>),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Engine(#[from] rexec_engine::EngineError),
}

impl Link {
    /// Over a connection that the guest dialled.
    pub async fn over_dial(
        stream: UnixStream,
        lanes: Lanes,
        opening: &Opening<'_>,
        budget: Budget,
    ) -> Result<Self, LinkError> {
        let mut link = Self::meet(stream, Some(opening), budget).await?;
        link.client = link.client.clone().with_lanes(lanes);
        Ok(link)
    }

    /// Over the stdio of `guest connect`, run by the engine as root.
    pub async fn over_exec(
        engine: &dyn Engine,
        container: &str,
        opening: &Opening<'_>,
        budget: Budget,
    ) -> Result<Self, LinkError> {
        let exec = ExecStart { command: vec![PROGRAM.into(), "connect".into()], user: "0:0".into(), env: Vec::new() };
        let stream = engine.exec_stream(container, &exec).await?;
        Self::meet(stream, Some(opening), budget).await
    }

    /// Over a byte stream that a joined machine has brought.
    pub async fn over_stream(stream: DuplexStream, configure: &Configure, budget: Budget) -> Result<Self, LinkError> {
        Self::meet(stream, Some(&Opening { configure, trial: None }), budget).await
    }

    /// Through the link of another server, whose driver has configured the guest.
    pub async fn over_peer<T>(stream: T, budget: Budget) -> Result<Self, LinkError>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        Self::meet(stream, None, budget).await
    }

    async fn meet<T>(io: T, opening: Option<&Opening<'_>>, budget: Budget) -> Result<Self, LinkError>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        tokio::time::timeout(HELLO_TIMEOUT, async {
            let (client, connection) = GuestClient::connect(io).await?;
            // Owned by the link from here on: dropping it on any later error ends the task.
            let driver = tokio::spawn(connection);
            let mut link = Self {
                client: client.within(budget),
                boot_id: uuid::Uuid::nil(),
                machine: MachineFacts::default(),
                version: String::new(),
                driver,
            };
            if let Some(ways) = opening.and_then(|opening| opening.trial)
                && !link.client.hello().await?.configured
            {
                let leaks = link.client.try_way_out(ways).await?;
                if !leaks.reached.is_empty() {
                    return Err(LinkError::Leaks(leaks.reached));
                }
            }
            // Configuring is idempotent and answers as hello does: one round trip instead of two.
            let hello = match opening {
                Some(opening) => link.client.configure(opening.configure).await?,
                None => link.client.hello().await?,
            };
            if hello.protocol != PROTOCOL {
                return Err(LinkError::Protocol(hello.protocol));
            }
            link.boot_id = hello.boot_id;
            link.machine = hello.machine.unwrap_or_default();
            link.version = hello.version;
            Ok(link)
        })
        .await
        .map_err(|_| LinkError::Timeout)?
    }
}
