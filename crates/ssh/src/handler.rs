//! One connection as russh calls it: authentication, then channels. Nothing here waits for a workspace, but the
//! answers to global requests, which the protocol wants in order.

use crate::backend::{Destination, Peer, Place, Proof, Pty, Size, Target, Work};
use crate::door::{Failure, Visit};
use crate::flow::Flow;
use crate::forward::{self, Forwards, Reception};
use crate::keys::{Certificate, Permits, PublicKey};
use crate::outbound::{Outbound, signal_name};
use crate::server::Shared;
use crate::session::{self, Prepared};
use crate::settings::methods;
use bytes::Bytes;
use russh::keys::{Algorithm, ssh_key};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Error, Sig};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longest login; a token may be one.
const LOGIN_BYTES_MAX: usize = 512;
/// Longest token or password.
const TOKEN_BYTES_MAX: usize = 1024;
/// What keyboard-interactive asks for, without echo.
const PROMPT: (Cow<'static, str>, bool) = (Cow::Borrowed("Token: "), false);
/// After the sentence that ends a connection, this long until it is cut.
const FAREWELL_TIME: Duration = Duration::from_secs(3);

pub(crate) struct Connection {
    shared: Arc<Shared>,
    peer: Peer,
    visit: Arc<Visit>,
    entered: CancellationToken,
    flow: Flow,
    target: Option<Arc<dyn Target>>,
    permits: Permits,
    sessions: HashMap<ChannelId, Prepared>,
    forwards: Forwards,
}

impl Connection {
    pub(crate) fn new(
        shared: Arc<Shared>,
        peer: Peer,
        visit: Arc<Visit>,
        entered: CancellationToken,
        flow: Flow,
    ) -> Self {
        let (sessions, forwards) = Default::default();
        Self { shared, peer, visit, entered, flow, target: None, permits: Permits::ALL, sessions, forwards }
    }

    fn refuse(&self) -> Auth {
        self.visit.failed(Failure::Refused);
        self.refuse_without_blame()
    }

    fn refuse_without_blame(&self) -> Auth {
        Auth::Reject { proceed_with_methods: Some(methods()), partial_success: false }
    }

    async fn judge(&mut self, login: &str, proof: Proof<'_>) -> bool {
        if login.len() > LOGIN_BYTES_MAX {
            return false;
        }
        self.target = self.shared.backend.enter(&self.peer, login, proof).await;
        self.target.is_some()
    }

    async fn judge_token(&mut self, login: &str, token: &str) -> Auth {
        let fits = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
        if fits && self.judge(login, Proof::Token(token)).await { Auth::Accept } else { self.refuse() }
    }

    /// A target for a new channel, if there may be one more.
    fn admit(&self) -> Option<Arc<dyn Target>> {
        self.target.clone().filter(|_| self.flow.has_room())
    }

    /// Both ways of a channel that has been or will be accepted.
    fn ways(&self, channel: Channel<Msg>, session: &Session) -> (crate::flow::Inbound, Outbound) {
        let inbound = self.flow.open(channel.id(), session.handle());
        // Its reading half is dropped: data comes by `data` and `extended_data`.
        let (_, write) = channel.split();
        let outbound = Outbound::new(write, session.handle(), inbound.closed.clone());
        (inbound, outbound)
    }

    fn dial(&self, channel: Channel<Msg>, to: Destination, reply: ChannelOpenHandle, session: &Session) {
        let Some(target) = self.admit().filter(|_| self.permits.forwarding) else { return };
        let (inbound, outbound) = self.ways(channel, session);
        self.shared.tasks.spawn(forward::dial(target, to, reply, inbound, outbound));
    }

    fn start(&mut self, id: ChannelId, work: Work, session: &mut Session) -> Result<(), Error> {
        let started = self.sessions.get_mut(&id).and_then(|prepared| prepared.start(work));
        let (Some(start), Some(target)) = (started, self.target.clone()) else {
            return session.channel_failure(id);
        };
        let reception = self.reception(session);
        session.channel_success(id)?;
        self.shared.tasks.spawn(session::run(target, start, reception));
        Ok(())
    }

    fn reception(&self, session: &Session) -> Reception {
        Reception { handle: session.handle(), flow: self.flow.clone(), tasks: self.shared.tasks.clone() }
    }

    async fn listen(&mut self, at: Place, reception: Reception) -> Option<u16> {
        let target = self.target.clone().filter(|_| self.permits.forwarding)?;
        self.forwards.add(target, at, reception).await
    }
}

fn size(cols: u32, rows: u32) -> Size {
    let bounded = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    Size { cols: bounded(cols), rows: bounded(rows) }
}

impl Handler for Connection {
    type Error = Error;

    async fn auth_none(&mut self, login: &str) -> Result<Auth, Error> {
        let entered = self.judge(login, Proof::Login).await;
        Ok(if entered { Auth::Accept } else { self.refuse_without_blame() })
    }

    async fn auth_password(&mut self, login: &str, password: &str) -> Result<Auth, Error> {
        Ok(self.judge_token(login, password).await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        login: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        let Some(answer) = response else {
            let prompts = Cow::Borrowed(&[PROMPT][..]);
            return Ok(Auth::Partial { name: "".into(), instructions: "".into(), prompts });
        };
        let answer: Option<Bytes> = { answer }.next();
        let token = answer.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        Ok(self.judge_token(login, token).await)
    }

    async fn auth_publickey_offered(&mut self, login: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        let key = PublicKey::new(offer.public_key);
        if *offer.algorithm == (Algorithm::Rsa { hash: None }) || key.acceptable().is_err() {
            return Ok(self.refuse());
        }
        // russh shows a certificate's key here, not the certificate: with authorities, any may turn out to be one.
        let welcome = !self.shared.authorities.is_empty()
            || login.len() <= LOGIN_BYTES_MAX && self.shared.backend.offered(&self.peer, login, &key).await;
        Ok(if welcome { Auth::Accept } else { self.refuse() })
    }

    async fn auth_publickey(&mut self, login: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        let key = PublicKey::new(key.public_key);
        let entered = key.acceptable().is_ok() && self.judge(login, Proof::Key(&key)).await;
        Ok(if entered { Auth::Accept } else { self.refuse() })
    }

    async fn auth_openssh_certificate(
        &mut self,
        login: &str,
        certificate: &ssh_key::Certificate,
    ) -> Result<Auth, Error> {
        let accepted = Certificate::accept(certificate, &self.shared.authorities);
        match accepted {
            Some(certificate) if self.judge(login, Proof::Certificate(&certificate)).await => {
                self.permits = certificate.permits;
                Ok(Auth::Accept)
            }
            _ => Ok(self.refuse()),
        }
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Error> {
        let Some(target) = self.target.clone() else { return Err(Error::Inconsistent) };
        self.visit.entered();
        self.entered.cancel();
        let (handle, gone) = (session.handle(), self.flow.gone.clone());
        self.shared.tasks.spawn(async move {
            let farewell = async {
                let reason = target.revoked().await;
                let _ = handle.disconnect(Disconnect::ByApplication, reason, "en".into()).await;
                tokio::time::sleep(FAREWELL_TIME).await;
            };
            tokio::select! {
                () = gone.cancelled() => {}
                () = farewell => gone.cancel(),
            }
        });
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        // Channels that we closed first are not told of again.
        self.sessions.retain(|_, prepared| !prepared.is_gone());
        if self.admit().is_none() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        let (inbound, outbound) = self.ways(channel, session);
        self.sessions.insert(id, Prepared::new(inbound, outbound));
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        if let Ok(port) = u16::try_from(port) {
            self.dial(channel, Destination::Tcp { host: host.to_owned(), port }, reply, session);
        }
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.dial(channel, Destination::Unix { path: path.to_owned() }, reply, session);
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _packet_bytes_max: u32,
        _window_bytes: u32,
        _session: &mut Session,
    ) -> Result<(), Error> {
        // One of ours: what the client sends on it is kept from now on.
        self.flow.expect(id);
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _session: &mut Session) -> Result<(), Error> {
        if !data.is_empty() {
            self.flow.push(id, Bytes::copy_from_slice(data));
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.flow.end(id);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.flow.close(id);
        self.sessions.remove(&id);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        cols: u32,
        rows: u32,
        _width_pixels: u32,
        _height_pixels: u32,
        _modes: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let pty = Pty { term: term.to_owned(), size: size(cols, rows) };
        let may = self.permits.terminals;
        let taken = may && self.sessions.get_mut(&id).is_some_and(|prepared| prepared.set_pty(pty));
        if taken { session.channel_success(id) } else { session.channel_failure(id) }
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let taken = self.sessions.get_mut(&id).is_some_and(|prepared| prepared.set_env(name, value));
        if taken { session.channel_success(id) } else { session.channel_failure(id) }
    }

    async fn agent_request(&mut self, id: ChannelId, _session: &mut Session) -> Result<bool, Error> {
        Ok(self.permits.agent && self.sessions.get_mut(&id).is_some_and(Prepared::set_agent))
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.start(id, Work::Shell, session)
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Error> {
        self.start(id, Work::Command(command.to_vec()), session)
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), Error> {
        if name != "sftp" {
            return session.channel_failure(id);
        }
        self.start(id, Work::Sftp, session)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        cols: u32,
        rows: u32,
        _width_pixels: u32,
        _height_pixels: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        if let Some(prepared) = self.sessions.get_mut(&id) {
            prepared.resize(size(cols, rows));
        }
        session.channel_success(id)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _session: &mut Session) -> Result<(), Error> {
        if let (Some(prepared), Some(name)) = (self.sessions.get_mut(&id), signal_name(&signal)) {
            prepared.signal(name);
        }
        Ok(())
    }

    async fn tcpip_forward(&mut self, address: &str, port: &mut u32, session: &mut Session) -> Result<bool, Error> {
        let Ok(wanted) = u16::try_from(*port) else { return Ok(false) };
        let reception = self.reception(session);
        let bound = self.listen(Place::Tcp { address: address.to_owned(), port: wanted }, reception).await;
        *port = bound.map_or(*port, u32::from);
        Ok(bound.is_some())
    }

    async fn cancel_tcpip_forward(&mut self, address: &str, port: u32, _: &mut Session) -> Result<bool, Error> {
        let Ok(port) = u16::try_from(port) else { return Ok(false) };
        Ok(self.forwards.remove(&Place::Tcp { address: address.to_owned(), port }))
    }

    async fn streamlocal_forward(&mut self, path: &str, session: &mut Session) -> Result<bool, Error> {
        let reception = self.reception(session);
        Ok(self.listen(Place::Unix { path: path.to_owned() }, reception).await.is_some())
    }

    async fn cancel_streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, Error> {
        Ok(self.forwards.remove(&Place::Unix { path: path.to_owned() }))
    }
}
