//! The addresses of previews: pure, from names to ports and back.
//!
//! A preview has an origin of its own, so that what a workspace serves is never the application's:
//!
//! - with `REXEC_PREVIEW_DOMAIN`: `<port>-<workspace>.<domain>`;
//! - for a browser on the server's own machine: `<port>-<workspace>.localhost`, which browsers resolve
//!   by themselves;
//! - with `REXEC_PREVIEW_PORTS`: a port of the server for each preview.
//!
//! Invariant: a spot has exactly one label, so that one preview is one origin.

use crate::config::{Config, PublicUrl};
use crate::error::{Error, Result};
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;

/// Below this name browsers look for nothing but their own machine (RFC 6761, section 6.3).
const LOCALHOST: &str = "localhost";

/// One port of one workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spot {
    pub workspace: WorkspaceId,
    pub port: u16,
}

impl Spot {
    /// The first label of the preview's name: at most 38 of DNS's 63 bytes.
    pub fn label(self) -> String {
        format!("{}-{}", self.port, self.workspace.0.simple())
    }

    pub fn parse(label: &str) -> Option<Self> {
        let (port, workspace) = label.split_once('-')?;
        let canonical = !port.starts_with(['0', '+']) && workspace.len() == 32;
        let lower = workspace.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical || !lower {
            return None;
        }
        Some(Self { port: port.parse().ok()?, workspace: WorkspaceId(uuid::Uuid::try_parse(workspace).ok()?) })
    }
}

/// What a host name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    App,
    Preview(Spot),
    /// A name below that of the previews which is none of theirs.
    Nothing,
}

/// Where previews are for whoever uses the application by some address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Each has a name: the scheme, and what follows the label.
    Named { scheme: &'static str, rest: String },
    /// Each has a port of this host.
    Ports { host: String },
}

/// What the server is called.
#[derive(Debug, Clone)]
pub struct Names {
    domain: Option<String>,
    ports: bool,
    app: Option<PublicUrl>,
}

impl Names {
    pub fn of(config: &Config) -> Self {
        Self {
            domain: config.previews.domain.clone(),
            ports: config.previews.ports.is_some(),
            app: config.public_url.clone(),
        }
    }

    /// What a request for this host is for.
    pub fn asked(&self, host: &str) -> Asked {
        let (name, _) = split(host);
        if self.app.as_ref().is_some_and(|app| app.host() == name) {
            return Asked::App;
        }
        if let Some(domain) = &self.domain {
            return match name.strip_suffix(domain.as_str()).map(|rest| rest.strip_suffix('.')) {
                Some(Some(label)) => Spot::parse(label).map_or(Asked::Nothing, Asked::Preview),
                _ => Asked::App,
            };
        }
        match name.strip_suffix(LOCALHOST).map(|rest| rest.strip_suffix('.')) {
            Some(Some(label)) => Spot::parse(label).map_or(Asked::Nothing, Asked::Preview),
            _ => Asked::App,
        }
    }

    /// Where previews are for whoever asks the application by this host.
    pub fn place(&self, host: Option<&str>) -> Result<Place> {
        if let (Some(domain), Some(app)) = (&self.domain, &self.app) {
            let port = app.port().map(|port| format!(":{port}")).unwrap_or_default();
            return Ok(Place::Named { scheme: scheme(app), rest: format!("{domain}{port}") });
        }
        let (name, port) = match &self.app {
            Some(app) => (app.host(), app.port()),
            None => split(host.unwrap_or_default()),
        };
        if is_loopback(name) {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            return Ok(Place::Named {
                scheme: self.app.as_ref().map_or("http", scheme),
                rest: format!("{LOCALHOST}{port}"),
            });
        }
        if self.ports && !name.is_empty() {
            return Ok(Place::Ports { host: name.to_owned() });
        }
        Err(Error::new(
            ErrorCode::PreviewUnavailable,
            "Previews need an origin of their own, and this server has only one. Ask the administrator to set \
             REXEC_PREVIEW_DOMAIN (a name below which all names lead here) or REXEC_PREVIEW_PORTS; on the server's own \
             machine, open Rexec at localhost.",
        ))
    }

    /// The application's origin, for a visitor of a preview at this host.
    pub fn app_origin(&self, host: &str, app_port: u16) -> String {
        match (&self.app, split(host)) {
            (Some(app), _) => app.origin.clone(),
            (None, (name, port)) if name.ends_with(".localhost") => match port {
                Some(port) => format!("http://{LOCALHOST}:{port}"),
                None => format!("http://{LOCALHOST}"),
            },
            (None, (name, _)) => format!("http://{name}:{app_port}"),
        }
    }
}

fn scheme(app: &PublicUrl) -> &'static str {
    if app.https { "https" } else { "http" }
}

/// A host's name and port.
pub fn split(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => (name, port.parse().ok()),
        _ => (host, None),
    }
}

fn is_loopback(name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == LOCALHOST || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(domain: Option<&str>, app: Option<&str>, ports: bool) -> Names {
        let app = app.map(|origin| PublicUrl { origin: origin.into(), https: origin.starts_with("https") });
        Names { domain: domain.map(str::to_owned), ports, app }
    }

    const ID: &str = "0197f0c26b1e7c3a8f001234567890ab";

    #[test]
    fn a_label_is_canonical_or_none() {
        let spot = Spot::parse(&format!("8080-{ID}")).unwrap();
        assert_eq!((spot.port, spot.label()), (8080, format!("8080-{ID}")));
        assert!(Spot { port: u16::MAX, ..spot }.label().len() <= 63);
        let upper = ID.to_uppercase();
        let hyphens = "0197f0c2-6b1e-7c3a-8f00-1234567890ab";
        for bad in [
            format!("0-{ID}"),
            format!("08080-{ID}"),
            format!("65536-{ID}"),
            format!("+80-{ID}"),
            format!("-80-{ID}"),
            format!("80-{upper}"),
            format!("80-{hyphens}"),
            format!("80-{{{ID}}}"),
            format!("80-{ID}0"),
            format!("80{ID}"),
            String::new(),
        ] {
            assert_eq!(Spot::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_host_asks_for_the_application_or_a_preview() {
        let spot = Spot::parse(&format!("80-{ID}")).unwrap();
        let local = names(None, None, false);
        assert_eq!(local.asked(&format!("80-{ID}.localhost:8080")), Asked::Preview(spot));
        for app in ["localhost:8080", "127.0.0.1", "[::1]:80", "otherlocalhost", &format!("80-{ID}.example.com"), ""] {
            assert_eq!(local.asked(app), Asked::App, "{app}");
        }
        for nothing in ["zzz.localhost:8080", &format!("99999-{ID}.localhost"), &format!("a.80-{ID}.localhost")] {
            assert_eq!(local.asked(nothing), Asked::Nothing, "{nothing}");
        }
        let own = names(None, Some("http://rexec.localhost"), false);
        assert_eq!(own.asked("rexec.localhost"), Asked::App);
        let named = names(Some("preview.example.com"), Some("https://app.preview.example.com"), false);
        assert_eq!(named.asked(&format!("80-{ID}.preview.example.com")), Asked::Preview(spot));
        assert_eq!(named.asked("app.preview.example.com:443"), Asked::App);
        assert_eq!(named.asked(&format!("80-{ID}.localhost")), Asked::App);
        assert_eq!(named.asked(&format!("80-{ID}.evilpreview.example.com")), Asked::App);
        for nothing in ["x.preview.example.com", &format!("a.80-{ID}.preview.example.com")] {
            assert_eq!(named.asked(nothing), Asked::Nothing, "{nothing}");
        }
    }

    #[test]
    fn a_place_is_found_or_the_reason_why_not() {
        let https = names(Some("p.example.com"), Some("https://rexec.example.com:8443"), true);
        let rest = "p.example.com:8443".to_owned();
        assert_eq!(https.place(Some("anything")).unwrap(), Place::Named { scheme: "https", rest });
        let bare = names(None, None, false);
        for (host, rest) in
            [("localhost:8080", "localhost:8080"), ("127.0.0.1", "localhost"), ("[::1]:9", "localhost:9")]
        {
            assert_eq!(bare.place(Some(host)).unwrap(), Place::Named { scheme: "http", rest: rest.into() });
        }
        assert_eq!(bare.place(Some("192.168.0.7:8080")).unwrap_err().code, ErrorCode::PreviewUnavailable);
        let ranged = names(None, None, true);
        assert_eq!(ranged.place(Some("192.168.0.7:8080")).unwrap(), Place::Ports { host: "192.168.0.7".into() });
        assert_eq!(ranged.place(None).unwrap_err().code, ErrorCode::PreviewUnavailable);
        assert_eq!(bare.app_origin(&format!("80-{ID}.localhost:81"), 8080), "http://localhost:81");
        assert_eq!(ranged.app_origin("192.168.0.7:20000", 8080), "http://192.168.0.7:8080");
        assert_eq!(https.app_origin("x", 1), "https://rexec.example.com:8443");
    }

    proptest! {
        #[test]
        fn every_spot_has_one_label(port in 1..=u16::MAX, id in any::<u128>()) {
            let spot = Spot { port, workspace: WorkspaceId(uuid::Uuid::from_u128(id)) };
            prop_assert_eq!(Spot::parse(&spot.label()), Some(spot));
        }

        #[test]
        fn what_is_read_is_what_would_be_written(label in "[0-9a-fA-F+-]{0,3}[0-9]{0,5}-[0-9a-f-]{30,34}") {
            if let Some(spot) = Spot::parse(&label) {
                prop_assert_eq!(spot.label(), label);
            }
        }

        #[test]
        fn any_host_is_answered(host in ".{0,80}") {
            for names in [names(None, None, true), names(Some("d.example"), Some("https://a.example"), false)] {
                names.asked(&host);
                let _ = names.place(Some(&host));
                names.app_origin(&host, 1);
            }
        }
    }
}
