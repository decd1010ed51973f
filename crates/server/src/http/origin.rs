//! Where a request comes from: the client's address, the scheme, and whether a browser's `Origin`
//! is our own.
//!
//! Invariant: forwarded headers count only when the peer is a proxy that the configuration names.

use crate::config::Config;
use crate::error::{Error, Result};
use http::request::Parts;
use http::{HeaderMap, header};
use rexec_api::error::ErrorCode;
use std::net::{IpAddr, Ipv4Addr};

/// The peer of the connection, put into every request by the listener.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// The surroundings of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    pub address: IpAddr,
    /// Whether cookies may be `Secure`: HTTPS, or a loopback name that browsers trust alike.
    pub secure_cookies: bool,
    /// Whether the client came by HTTPS, as far as the configuration or a proxy tells.
    pub https: bool,
    /// The `Host` that the client asked for, lower-cased.
    pub host: Option<String>,
}

impl Scene {
    pub fn of(parts: &Parts, config: &Config) -> Self {
        let peer =
            parts.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.to_canonical());
        let trusted = config.trusted_proxies.contains(&peer);
        // A proxy may add a line of its own below those that the client sent.
        let forwarded = |name: &str| {
            let lines = trusted.then(|| parts.headers.get_all(name).iter());
            let lines: Vec<&str> = lines?.map(|line| line.to_str().unwrap_or_default()).collect();
            (!lines.is_empty()).then(|| lines.join(","))
        };
        let host = parts
            .uri
            .authority()
            .map(|a| a.as_str().to_owned())
            .or_else(|| text(&parts.headers, header::HOST))
            .map(|host| host.to_ascii_lowercase());
        let https_proxy =
            forwarded("x-forwarded-proto").is_some_and(|p| p.rsplit(',').next().map(str::trim) == Some("https"));
        let secure_cookies = match &config.public_url {
            Some(url) => url.https,
            None => https_proxy || host.as_deref().is_some_and(is_loopback_host),
        };
        Self {
            address: forwarded("x-forwarded-for")
                .and_then(|list| client_address(&list, &config.trusted_proxies))
                .unwrap_or(peer),
            secure_cookies,
            https: config.public_url.as_ref().map_or(https_proxy, |url| url.https),
            host,
        }
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// The last address of the list that is no proxy of ours: what stands before it is hearsay.
fn client_address(list: &str, trusted: &[IpAddr]) -> Option<IpAddr> {
    list.split(',')
        .rev()
        .map_while(|part| part.trim().parse::<IpAddr>().ok())
        .map(|address| address.to_canonical())
        .find(|address| !trusted.contains(address))
}

/// Browsers keep `Secure` cookies of these although the scheme is plain HTTP.
fn is_loopback_host(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(
        host,
        |(name, port)| {
            if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }
        },
    );
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Refuses a request whose `Origin` is not our own: neither `PUBLIC_URL` nor the host asked for.
/// Without the header it is refused too: browsers send it wherever this is asked.
pub fn require_own(headers: &HeaderMap, scene: &Scene, config: &Config) -> Result<()> {
    let origin = text(headers, header::ORIGIN).map(|o| o.to_ascii_lowercase());
    let own = origin.as_deref().is_some_and(|origin| is_own(origin, scene, config));
    if own {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::ForeignOrigin,
        "This request came from another site. Open Rexec's own page, or use a token in the Authorization header.",
    ))
}

fn is_own(origin: &str, scene: &Scene, config: &Config) -> bool {
    if config.public_url.as_ref().is_some_and(|url| url.origin == origin) {
        return true;
    }
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let plain = |name: &str| name.strip_suffix(default_port).unwrap_or(name).to_owned();
    scene.host.as_deref().is_some_and(|host| plain(host) == plain(authority))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_last_stranger() {
        let proxies = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let client = |list| client_address(list, &proxies).map(|a| a.to_string());
        assert_eq!(client("1.2.3.4"), Some("1.2.3.4".into()));
        assert_eq!(client("6.6.6.6, 1.2.3.4, 10.0.0.2"), Some("1.2.3.4".into()));
        assert_eq!(client("1.2.3.4, nonsense, 10.0.0.2"), None);
        assert_eq!(client("::ffff:1.2.3.4"), Some("1.2.3.4".into()));
    }

    #[test]
    fn lines_of_the_client_stand_before_those_of_the_proxy() {
        let data = tempfile::tempdir().unwrap();
        let env = [("REXEC_DATA_DIR", data.path().to_str().unwrap()), ("REXEC_TRUSTED_PROXIES", "10.0.0.1")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::from_sources(&crate::config::Sources::from_env(env)).unwrap();
        let request = http::Request::builder()
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-forwarded-for", "1.2.3.4")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-proto", "http");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.extensions.insert(Peer("10.0.0.1".parse().unwrap()));
        let scene = Scene::of(&parts, &config);
        assert_eq!(scene.address.to_string(), "1.2.3.4");
        assert!(!scene.secure_cookies);
    }

    #[test]
    fn loopback_names_are_told_from_others() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "[::1]"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["192.168.0.7:8080", "localhost.evil.example", "example.com"] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
