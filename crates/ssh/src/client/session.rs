//! One connection of a client: known host, login, and streams by either way.

use super::known::{self, KnownHost};
use super::stream::{Command, Complaint, Stream};
use super::{DialError, PrivateKey, Seen, Settings, tame};
use crate::flow::{Flow, Granting, WINDOW_BYTES};
use crate::keys::PublicKey;
use crate::settings::{CIPHERS, IDENTIFICATION, MACS, PACKET_BYTES_MAX, QUEUED_MESSAGES_MAX, REKEY_BYTES, REKEY_TIME};
use bytes::Bytes;
use russh::client::{self, Msg};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg};
use russh::{AlgorithmKind, Channel, ChannelId, ChannelMsg, Disconnect, Preferred, SshId, compression, kex};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// From the first byte to the login, however often it is begun for another kind of host key.
const LOGIN_TIME: Duration = Duration::from_secs(20);
/// A server that has been silent this long is asked whether it lives...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// ... this many times.
const KEEPALIVES_MAX: usize = 3;
/// A server has this long to open a channel, and again to start a command.
const OPEN_TIME: Duration = Duration::from_secs(20);
/// Streams on one connection. OpenSSH's server has no bound on those to sockets.
const STREAMS_MAX: usize = 4096;
/// What is kept of what a command complains.
const COMPLAINT_BYTES_MAX: usize = 2 * 1024;
/// A good-bye that does not go out in this time is not said.
const FAREWELL_TIME: Duration = Duration::from_millis(500);

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::DH_G16_SHA512,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Protocol(#[from] russh::Error),
    #[error("another host key")]
    OtherKey(Box<PublicKey>),
}

struct Handler {
    known: Option<KnownHost>,
    shown: Arc<Mutex<Option<PublicKey>>>,
    flow: Flow,
    complaints: Arc<Mutex<HashMap<ChannelId, Complaint>>>,
}

impl client::Handler for Handler {
    type Error = Fault;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Fault> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let key = PublicKey::new(key);
        if key.acceptable().is_err() {
            return Ok(false);
        }
        if self.known.as_ref().is_some_and(|known| !known.is(&key)) {
            return Err(Fault::OtherKey(Box::new(key)));
        }
        *lock(&self.shown) = Some(key);
        Ok(true)
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _packet_bytes_max: u32,
        _window_bytes: u32,
        _session: &mut client::Session,
    ) -> Result<(), Fault> {
        self.flow.expect(id);
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _session: &mut client::Session) -> Result<(), Fault> {
        self.flow.push(id, Bytes::copy_from_slice(data));
        Ok(())
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        _kind: u32,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), Fault> {
        // Its window is not granted again: who complains without end is not heard to the end.
        if let Some(complaint) = lock(&self.complaints).get(&id) {
            let mut complaint = lock(complaint);
            let room = COMPLAINT_BYTES_MAX.saturating_sub(complaint.len());
            complaint.extend_from_slice(&data[..data.len().min(room)]);
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _session: &mut client::Session) -> Result<(), Fault> {
        self.flow.end(id);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut client::Session) -> Result<(), Fault> {
        self.flow.close(id);
        lock(&self.complaints).remove(&id);
        Ok(())
    }

    async fn disconnected(&mut self, reason: client::DisconnectReason<Fault>) -> Result<(), Fault> {
        tracing::debug!(?reason, "the SSH connection is gone");
        self.flow.end_all();
        Ok(())
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.flow.end_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that has logged in.
pub(super) struct Session {
    handle: client::Handle<Handler>,
    flow: Flow,
    complaints: Arc<Mutex<HashMap<ChannelId, Complaint>>>,
    socket: String,
    fallback: String,
    /// The server has refused a socket and run the command: it is asked for the command at once from then on.
    by_command: AtomicBool,
    pub(super) seen: Seen,
}

impl Session {
    /// One attempt.
    pub(super) async fn connect(settings: &Settings, known: Option<KnownHost>) -> Result<Session, DialError> {
        let attempts = async {
            let mut last = DialError::NotSsh;
            for kinds in known::asked_for(known.as_ref()) {
                match attempt(settings, known.clone(), kinds).await {
                    // The server may have the key that is asked for beside the one that it showed.
                    Err(error @ (DialError::HostKeyChanged { .. } | DialError::Weak { what: "host key", .. })) => {
                        last = first_of(last, error);
                    }
                    other => return other,
                }
            }
            Err(last)
        };
        let limit = tokio::time::timeout(LOGIN_TIME, attempts);
        limit.await.unwrap_or(Err(DialError::TimedOut(LOGIN_TIME.as_secs())))
    }

    /// Cancelled when it is gone.
    pub(super) fn gone(&self) -> CancellationToken {
        self.flow.gone.clone()
    }

    pub(super) async fn farewell(&self) {
        let bye = self.handle.disconnect(Disconnect::ByApplication, "", "");
        let _ = tokio::time::timeout(FAREWELL_TIME, bye).await;
    }

    /// A stream to the socket, or by the command.
    pub(super) async fn open(&self) -> Result<Stream, DialError> {
        if self.flow.channels() >= STREAMS_MAX {
            return Err(DialError::Full);
        }
        let mut why = "refused before".to_owned();
        if !self.by_command.load(Ordering::Relaxed) {
            match within(self.handle.channel_open_direct_streamlocal(self.socket.clone())).await {
                Ok(channel) => return Ok(self.stream(channel, None)),
                Err(Opening::Refused(reason)) => why = reason,
                Err(Opening::Broken(reason)) => return Err(DialError::Broken(reason)),
            }
        }
        match self.run().await {
            Ok(stream) => {
                if !self.by_command.swap(true, Ordering::Relaxed) {
                    tracing::debug!(why, "the SSH server lets nobody reach its sockets; a command is used");
                }
                Ok(stream)
            }
            Err(Opening::Broken(reason)) => Err(DialError::Broken(reason)),
            Err(Opening::Refused(fallback_why)) => Err(DialError::NoWay {
                socket: self.socket.clone(),
                why,
                fallback: self.fallback.clone(),
                fallback_why,
            }),
        }
    }

    async fn run(&self) -> Result<Stream, Opening> {
        let mut channel = within(self.handle.channel_open_session()).await.map_err(|fault| match fault {
            Opening::Refused(why) => Opening::Refused(format!("{why}; sshd's MaxSessions bounds how many run at once")),
            broken => broken,
        })?;
        let complaint = Complaint::default();
        lock(&self.complaints).insert(channel.id(), complaint.clone());
        let started = async {
            channel.exec(true, self.fallback.as_bytes()).await.map_err(|error| error.to_string())?;
            loop {
                match channel.wait().await {
                    Some(ChannelMsg::Success) => return Ok(()),
                    Some(ChannelMsg::Failure) => return Err("commands are not allowed".to_owned()),
                    Some(ChannelMsg::Close) | None => return Err("closed".to_owned()),
                    Some(_) => {}
                }
            }
        };
        let started = tokio::time::timeout(OPEN_TIME, started).await;
        let command = Command { line: self.fallback.clone(), socket: self.socket.clone(), complaint };
        let stream = self.stream(channel, Some(command));
        match started {
            Ok(Ok(())) => Ok(stream),
            Ok(Err(why)) => Err(Opening::Refused(why)),
            Err(_) => Err(Opening::Refused("no answer".into())),
        }
    }

    fn stream(&self, channel: Channel<Msg>, command: Option<Command>) -> Stream {
        let grants = self.handle.grants();
        let inbound = self.flow.open(channel.id(), Granting::from(grants.clone()));
        // Its reading half is dropped: data comes by the handler.
        let (_, write) = channel.split();
        Stream::new(write, inbound, grants, command)
    }
}

/// Why a channel was not opened.
enum Opening {
    Refused(String),
    Broken(String),
}

async fn within(opening: impl Future<Output = Result<Channel<Msg>, russh::Error>>) -> Result<Channel<Msg>, Opening> {
    match tokio::time::timeout(OPEN_TIME, opening).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(russh::Error::ChannelOpenFailure(reason))) => Err(Opening::Refused(refusal(reason).into())),
        Ok(Err(error)) => Err(Opening::Broken(error.to_string())),
        Err(_) => Err(Opening::Broken("the server answers nothing".into())),
    }
}

fn refusal(reason: russh::ChannelOpenFailure) -> &'static str {
    use russh::ChannelOpenFailure::{AdministrativelyProhibited, ConnectFailed, ResourceShortage};
    match reason {
        AdministrativelyProhibited => "not allowed",
        ConnectFailed => "it is not there, may not be opened by this user, or AllowStreamLocalForwarding is off",
        ResourceShortage => "too many are open",
        _ => "refused",
    }
}

fn first_of(first: DialError, second: DialError) -> DialError {
    match first {
        DialError::HostKeyChanged { .. } => first,
        _ => second,
    }
}

fn config(host_keys: Vec<Algorithm>) -> client::Config {
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed(IDENTIFICATION)),
        limits: russh::Limits::new(REKEY_BYTES, REKEY_BYTES, REKEY_TIME),
        window_size: WINDOW_BYTES,
        maximum_packet_size: PACKET_BYTES_MAX,
        channel_buffer_size: QUEUED_MESSAGES_MAX,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Owned(host_keys),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        keepalive_max: KEEPALIVES_MAX,
        nodelay: true,
        ..Default::default()
    }
}

async fn attempt(
    settings: &Settings,
    known: Option<KnownHost>,
    host_keys: Vec<Algorithm>,
) -> Result<Session, DialError> {
    let socket = (settings.connect)().await.map_err(|error| DialError::Connect(Arc::new(error)))?;
    let flow = Flow::new(CancellationToken::new());
    let complaints = Arc::<Mutex<HashMap<ChannelId, Complaint>>>::default();
    let shown = Arc::<Mutex<Option<PublicKey>>>::default();
    let handler =
        Handler { known: known.clone(), shown: shown.clone(), flow: flow.clone(), complaints: complaints.clone() };
    let made = client::connect_stream(Arc::new(config(host_keys)), socket, handler).await;
    let mut handle = made.map_err(|fault| refused(fault, known.as_ref()))?;
    log_in(&mut handle, &settings.user, &settings.key).await?;
    let host_key = lock(&shown).clone().ok_or(DialError::NotSsh)?;
    Ok(Session {
        handle,
        flow,
        complaints,
        socket: settings.socket.clone(),
        fallback: settings.fallback.clone(),
        by_command: AtomicBool::new(false),
        seen: Seen { host_key },
    })
}

async fn log_in(handle: &mut client::Handle<Handler>, user: &str, key: &PrivateKey) -> Result<(), DialError> {
    let broken = |error: russh::Error| DialError::Broken(error.to_string());
    let hash = match key.is_rsa() {
        true => handle.best_supported_rsa_hash().await.map_err(broken)?.flatten().or(Some(HashAlg::Sha256)),
        false => None,
    };
    let with = PrivateKeyWithHashAlg::new(key.inner(), hash);
    let answer = handle.authenticate_publickey(user, with).await.map_err(broken)?;
    match answer.success() {
        true => Ok(()),
        false => Err(DialError::KeyRefused { user: tame(user.as_bytes()), fingerprint: key.public().fingerprint() }),
    }
}

fn refused(fault: Fault, known: Option<&KnownHost>) -> DialError {
    match fault {
        Fault::OtherKey(shown) => DialError::HostKeyChanged {
            known: known.map(KnownHost::fingerprint).unwrap_or_default(),
            shown: shown.fingerprint(),
        },
        Fault::Protocol(russh::Error::NoCommonAlgo { kind, theirs, .. }) => {
            let what = match kind {
                AlgorithmKind::Kex => "key exchange",
                AlgorithmKind::Key => "host key",
                AlgorithmKind::Cipher => "cipher",
                AlgorithmKind::Compression => "compression",
                AlgorithmKind::Mac => "message authentication",
            };
            DialError::Weak { what, theirs: tame(theirs.join(", ").as_bytes()) }
        }
        Fault::Protocol(russh::Error::UnknownKey) => {
            DialError::Weak { what: "host key", theirs: "a key that is too short, or a certificate".into() }
        }
        Fault::Protocol(russh::Error::Version | russh::Error::HUP | russh::Error::Disconnect) => DialError::NotSsh,
        Fault::Protocol(error) => DialError::Broken(error.to_string()),
    }
}
