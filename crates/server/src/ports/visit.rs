//! One request for a preview: who asks, whether that one may, and the answer.
//!
//! Invariant: nothing reaches a workspace before [`Ports::admit`] has let it, and what was let in is
//! cut within a second of the end of what it was let in by: a login session, or a time.

use super::address::{Asked, Spot, split};
use super::headers::{self, HostSharing, Visitor};
use super::pass::{self, Holder};
use super::store::{self, Setting};
use super::{Ports, call, grpc, notice, proxy};
use crate::actor::Actor;
use crate::auth;
use crate::error::{Error, Result};
use crate::http::origin::Scene;
use crate::time::now_ms;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rexec_api::error::ErrorCode;
use rexec_api::ports::Visibility;
use rexec_api::tokens::Scope;
use rexec_channel::GuestClient;
use std::time::Duration;

/// How often a public preview's long answer asks whether it still is public, if nothing says so.
const PUBLIC_PERIOD: Duration = Duration::from_secs(30);
/// What a browser says when it fetches a service worker, which would outlive its preview on an origin
/// that the next preview may have.
const SERVICE_WORKER: &str = "service-worker";

/// A request's surroundings.
pub struct Visit {
    pub spot: Spot,
    pub visitor: Visitor,
    pub sharing: HostSharing,
    /// The server's port that was asked, where each preview has one.
    pub listen_port: Option<u16>,
    pub app_origin: String,
    /// The path and query that were asked for.
    pub target: String,
    /// Whether a person waits for a page, who can be sent elsewhere.
    pub is_page: bool,
    pub wants_html: bool,
    /// Whether a client of gRPC waits, which reads no pages and no JSON.
    pub is_call: bool,
}

/// By what a request was let in.
#[derive(Clone)]
pub enum Admission {
    Owner(Actor),
    /// It is public, until then if there is an end to it.
    Everyone {
        until_ms: Option<i64>,
    },
}

impl Visit {
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.visitor.https { "https" } else { "http" }, self.visitor.host)
    }

    /// The pass's cookie. Ports share cookies, so there each has a name of its own.
    fn cookie(&self) -> String {
        match self.listen_port {
            Some(port) => format!("rexec-preview-{port}"),
            None if self.visitor.https => "__Host-rexec-preview".into(),
            None => "rexec-preview".into(),
        }
    }
}

/// Whether whoever asks would rather have a page than JSON.
pub fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

impl Ports {
    /// Answers a request for a preview.
    pub async fn visit(&self, request: Request, spot: Spot, listen_port: Option<u16>) -> Response {
        let (parts, body) = request.into_parts();
        let scene = Scene::of(&parts, &self.config);
        let visit = self.surroundings(&parts, &scene, spot, listen_port);
        match self.answer(&visit, parts, body).await {
            Ok(response) => response,
            Err(error) => notice::answer(&visit, &error),
        }
    }

    fn surroundings(&self, parts: &Parts, scene: &Scene, spot: Spot, listen_port: Option<u16>) -> Visit {
        let sharing = if listen_port.is_some() { HostSharing::Shared } else { HostSharing::Own };
        let host = scene.host.clone().unwrap_or_default();
        let said = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let wants_html = wants_html(&parts.headers);
        let navigates = said("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
        Visit {
            spot,
            // The preview's own ports speak plain HTTP, whatever the application does.
            visitor: Visitor {
                address: scene.address,
                https: sharing == HostSharing::Own && scene.secure_cookies,
                host,
            },
            sharing,
            listen_port,
            app_origin: self.names.app_origin(scene.host.as_deref().unwrap_or_default(), self.app_port),
            target: parts.uri.path_and_query().map_or_else(|| "/".to_owned(), |target| target.as_str().to_owned()),
            is_page: wants_html && navigates && matches!(parts.method, Method::GET | Method::HEAD),
            wants_html,
            is_call: matches!(grpc::is_call(parts), Ok(true)),
        }
    }

    async fn answer(&self, visit: &Visit, mut parts: Parts, body: Body) -> Result<Response> {
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            return Err(crate::http::web::method_not_allowed());
        }
        grpc::is_call(&parts)?;
        if let (Some(code), target) = code_of(&visit.target)
            && parts.method == Method::GET
        {
            self.auth.limits.request_from(visit.visitor.address)?;
            return self.exchange(visit, code, &target).await;
        }
        if visit.sharing == HostSharing::Shared && parts.headers.contains_key(SERVICE_WORKER) {
            return Err(Error::new(ErrorCode::Forbidden, "Previews at a port of the server have no service workers."));
        }
        let setting = self.setting(visit).await?;
        let admission = self.admit(visit, &parts, setting.as_ref()).await?;
        let guest = self.reach(visit.spot, &admission).await?;
        let spot = visit.spot;
        let watch = proxy::Watch { ports: self.clone(), admission, spot };
        let asked = parts.headers.get(header::CONTENT_LENGTH).is_some();
        headers::toward_workspace(&mut parts, &visit.visitor, |token| self.auth.is_ours(token));
        if asked && hyper::body::Body::size_hint(&body).exact() == Some(0) {
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut response = if visit.is_call {
            grpc::toward_program(&mut parts, &visit.visitor.host);
            call::forward(&guest, Request::from_parts(parts, body), watch).await?
        } else {
            proxy::forward(&guest, Request::from_parts(parts, body), watch).await?
        };
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let protocol = response.headers().get(header::UPGRADE).cloned().filter(|_| switched);
        headers::toward_visitor(response.headers_mut(), &visit.visitor.host);
        if let Some(protocol) = protocol {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(header::UPGRADE, protocol);
        }
        Ok(response)
    }

    async fn setting(&self, visit: &Visit) -> Result<Option<Setting>> {
        let setting = store::find(self.db.read(), visit.spot.workspace, visit.spot.port).await?;
        // A port of the server whose preview has gone leads nowhere.
        if visit.listen_port.is_some() && setting.as_ref().and_then(|s| s.listen_port) != visit.listen_port {
            return Err(Error::not_found("preview"));
        }
        Ok(setting)
    }

    /// Who may pass: everyone where it is public, else its owner, by a token or by this preview's pass.
    async fn admit(&self, visit: &Visit, parts: &Parts, setting: Option<&Setting>) -> Result<Admission> {
        if let Some(setting) = setting.filter(|setting| setting.visibility_at(now_ms()) == Visibility::Public) {
            self.auth.limits.request_from(visit.visitor.address)?;
            return Ok(Admission::Everyone { until_ms: setting.expires_ms });
        }
        let sent = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some(token) = sent.and_then(headers::bearer).filter(|token| self.auth.is_ours(token)) {
            return Ok(Admission::Owner(self.auth.actor_of_token(token).await?));
        }
        let cookie = auth::cookie(&parts.headers, &visit.cookie());
        let Some(Holder { user, session }) = cookie.and_then(|pass| self.passes.read(&pass, visit.spot)) else {
            self.auth.limits.request_from(visit.visitor.address)?;
            return Err(Error::new(
                ErrorCode::Unauthenticated,
                "This preview is private. Open it from Rexec, signed in as its owner.",
            ));
        };
        if self.is_foreign(visit, parts) {
            return Err(Error::new(ErrorCode::ForeignOrigin, "This request came from another site than the preview."));
        }
        Ok(Admission::Owner(self.auth.actor_of_session(user, session).await?))
    }

    /// Whether a page of somebody else makes a browser change something with the visitor's pass.
    /// Previews of one workspace are one another's own: a page may use its API on another port.
    fn is_foreign(&self, visit: &Visit, parts: &Parts) -> bool {
        if parts.method.is_safe() && headers::upgrade(parts).is_none() {
            return false;
        }
        let Some(origin) = parts.headers.get(header::ORIGIN) else { return false };
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let Some((scheme, host)) = origin.split_once("://") else { return true };
        let (name, port) = split(host);
        let (own, own_port) = split(&visit.visitor.host);
        let usual = if scheme == "https" { 443 } else { 80 };
        if (name, port.unwrap_or(usual)) == (own, own_port.unwrap_or(usual)) {
            return false;
        }
        !matches!(self.names.asked(host), Asked::Preview(spot) if spot.workspace == visit.spot.workspace)
    }

    async fn reach(&self, spot: Spot, admission: &Admission) -> Result<GuestClient> {
        let actor = match admission {
            Admission::Owner(actor) => Some(actor),
            Admission::Everyone { .. } => None,
        };
        self.workspaces.reach_preview(actor, spot.workspace).await
    }

    /// Gives a pass for a code, and sends the browser to where it wanted to go.
    async fn exchange(&self, visit: &Visit, code: &str, target: &str) -> Result<Response> {
        let expired = || {
            Error::new(
                ErrorCode::InvalidToken,
                "This link has been used already or is too old. Open the preview from Rexec again.",
            )
        };
        let now = now_ms();
        let holder = pass::redeem(&self.db, code, visit.spot, now).await?.ok_or_else(expired)?;
        let actor = self.auth.actor_of_session(holder.user, holder.session).await?;
        self.workspaces.owned(&actor, Scope::Ports, visit.spot.workspace).await?;
        let pass = self.passes.sign(holder, visit.spot, now)?;
        let secure = if visit.visitor.https { "; Secure" } else { "" };
        let name = visit.cookie();
        let cookie = format!("{name}={pass}; Path=/; HttpOnly; SameSite=Lax; Max-Age={}{secure}", pass::PASS_SECONDS);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SEE_OTHER;
        let headers = response.headers_mut();
        // The whole address: of a path such as `//elsewhere` alone, a browser would make another host.
        let place = format!("{}{target}", visit.origin());
        headers.insert(header::LOCATION, HeaderValue::from_str(&place).map_err(Error::internal)?);
        headers.insert(header::SET_COOKIE, HeaderValue::from_str(&cookie).map_err(Error::internal)?);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Ok(response)
    }

    /// Resolves once that by which a request was let in holds no more.
    pub async fn over(&self, admission: &Admission, spot: Spot) {
        let until_ms = match admission {
            Admission::Owner(actor) => {
                self.auth.ended(actor).await;
                return;
            }
            Admission::Everyone { until_ms } => *until_ms,
        };
        let mut changes = self.changes.subscribe();
        loop {
            let left = until_ms.map_or(i64::MAX, |until| until - now_ms());
            let wait = Duration::from_millis(left.max(0).unsigned_abs()).min(PUBLIC_PERIOD);
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
            match store::find(self.db.read(), spot.workspace, spot.port).await {
                Ok(Some(setting)) if setting.visibility_at(now_ms()) == Visibility::Public => {}
                Ok(_) => return,
                // A database that does not answer ends nothing.
                Err(_) => tokio::time::sleep(PUBLIC_PERIOD).await,
            }
        }
    }
}

/// The code of a path and query, and both without it.
pub fn code_of(target: &str) -> (Option<&str>, String) {
    let Some((path, query)) = target.split_once('?') else {
        return (None, target.to_owned());
    };
    match pass::take_code(query) {
        (code, rest) if rest.is_empty() => (code, path.to_owned()),
        (code, rest) => (code, format!("{path}?{rest}")),
    }
}
