//! What workspaces may reach outside: the operator's part of it.

use super::github::{self, GithubConfig};
use super::models::{self, ModelsConfig};
use super::sources::Reader;
use crate::secret::Secret;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use rexec_api::egress::{EgressPreset, RULES_MAX};
use rexec_api::gateway::UpstreamProxy;
use rexec_egress::host::{Host, authority};
use rexec_egress::rule::Rule;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

const DNS_PORT: u16 = 53;
/// Of proxies that are named without.
const PROXY_PORT: u16 = 3128;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressConfig {
    /// Of workspaces that do not say.
    pub preset: EgressPreset,
    /// Those that may be asked for; the one above among them.
    pub presets: Vec<EgressPreset>,
    /// Rules of all workspaces, stronger than their own.
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    /// What the closed network is called; made up from the open one's name when absent.
    pub network: Option<String>,
    /// Whom gateways ask for names; each machine's own servers when there are none.
    pub resolvers: Vec<SocketAddr>,
    /// Another proxy, by which gateways reach everything.
    pub upstream: Option<Upstream>,
    /// A file with authorities in PEM, besides those of the server's machine: whose word counts for what a host is that a
    /// secret is sent to.
    pub authorities: Option<PathBuf>,
    /// Whether gateways listen at the web's own ports for programs that know no proxies.
    pub direct: bool,
    /// Models that gateways ask for workspaces.
    pub models: ModelsConfig,
    /// What workspaces may do at GitHub.
    pub github: GithubConfig,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
    /// `Proxy-Authorization`, whole.
    pub authorization: Option<Secret>,
}

impl Upstream {
    /// As gateways are told.
    pub fn told(&self) -> UpstreamProxy {
        let authorization = self.authorization.as_ref().map(|secret| secret.expose().to_owned());
        UpstreamProxy { host: self.host.clone(), port: self.port, authorization }
    }
}

pub(super) fn take(reader: &mut Reader) -> EgressConfig {
    let network = reader.text(&["REXEC_EGRESS_NETWORK", "TTYD_INTERNAL_NETWORK"]);
    let asked = reader.text(&["REXEC_EGRESS"]);
    let preset = match &asked {
        Some((name, text)) => preset(reader, name, text),
        // Whoever names a closed network has had workspaces on it.
        None if network.as_ref().is_some_and(|(name, _)| name == "TTYD_INTERNAL_NETWORK") => {
            reader.notice(
                "TTYD_INTERNAL_NETWORK is set, so workspaces reach package registries, code hosts and model vendors only; \
                 REXEC_EGRESS says otherwise."
                    .into(),
            );
            EgressPreset::Balanced
        }
        None => EgressPreset::default(),
    };
    let mut presets = Vec::new();
    if let Some((name, text)) = reader.text(&["REXEC_EGRESS_PRESETS"]) {
        presets.extend(words(&text).map(|word| self::preset(reader, &name, word)));
        if !presets.contains(&preset) {
            reader.fault(&name, "must have the preset of REXEC_EGRESS among its own");
        }
    } else {
        presets.extend(EgressPreset::ALL);
    }
    let (allow, deny) = (rules(reader, "REXEC_EGRESS_ALLOW"), rules(reader, "REXEC_EGRESS_DENY"));
    let (resolvers, upstream) = (resolvers(reader), upstream(reader));
    let authorities = reader.text(&["REXEC_EGRESS_CA_FILE"]).map(|(name, path)| {
        if !std::fs::read_to_string(&path).is_ok_and(|text| text.contains("-----BEGIN CERTIFICATE-----")) {
            reader.fault(&name, "must be a file with certificates in PEM that this server may read");
        }
        path.into()
    });
    let network = network.map(|(_, text)| text);
    let direct = match reader.text(&["REXEC_EGRESS_DIRECT"]) {
        None => true,
        Some((_, text)) if text.eq_ignore_ascii_case("on") => true,
        Some((_, text)) if text.eq_ignore_ascii_case("off") => false,
        Some((name, _)) => {
            reader.fault(&name, "must be `on` or `off`");
            true
        }
    };
    let (models, github) = (models::take(reader), github::take(reader));
    EgressConfig { preset, presets, allow, deny, network, resolvers, upstream, authorities, direct, models, github }
}

/// `[http://][user:password@]host[:port]`, or host and port apart.
fn upstream(reader: &mut Reader) -> Option<Upstream> {
    let apart = reader.text(&["TTYD_EGRESS_PROXY_HOST"]);
    let port = reader.text(&["TTYD_EGRESS_PROXY_PORT"]);
    if let Some((name, text)) = reader.text(&["REXEC_EGRESS_UPSTREAM"]) {
        return proxy_of(&text).inspect_err(|why| reader.fault(&name, why)).ok();
    }
    let (name, host) = match (apart, port) {
        (Some(apart), Some((_, port))) => (apart.0, format!("{}:{port}", apart.1)),
        (Some(apart), None) => apart,
        (None, Some((name, _))) => {
            reader.fault(&name, "is of no use without TTYD_EGRESS_PROXY_HOST");
            return None;
        }
        (None, None) => return None,
    };
    let proxy = proxy_of(&host).inspect_err(|why| reader.fault(&name, why)).ok()?;
    reader.notice(format!("All workspaces reach what they may by {name}, behind a gateway."));
    Some(proxy)
}

fn proxy_of(text: &str) -> Result<Upstream, String> {
    let how = "must be an HTTP proxy, such as `http://proxy.example.com:3128` or `http://user:password@10.0.0.1:3128`";
    let rest = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some(_) => return Err(format!("{how}; to be spoken to by plain HTTP")),
        None => text,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (who, place) = rest.rsplit_once('@').map_or((None, rest), |(who, place)| (Some(who), place));
    let (host, port) = authority(place, Some(PROXY_PORT)).map_err(|why| format!("{how}: {why}"))?;
    let authorization = match who {
        Some(who) => {
            let who = percent_decode_str(who).decode_utf8().map_err(|_| format!("{how}, whose name is UTF-8"))?;
            if !who.contains(':') || who.chars().any(char::is_control) {
                return Err(format!("{how}, with a colon between name and password"));
            }
            Some(Secret::new(format!("Basic {}", BASE64_STANDARD.encode(who.as_bytes()))))
        }
        None => None,
    };
    let host = match host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.to_string(),
    };
    Ok(Upstream { host, port, authorization })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\n']).filter(|word| !word.is_empty())
}

fn preset(reader: &mut Reader, name: &str, text: &str) -> EgressPreset {
    EgressPreset::parse(&text.to_ascii_lowercase()).unwrap_or_else(|| {
        reader.fault(name, "must be `locked`, `balanced` or `open`");
        EgressPreset::default()
    })
}

fn rules(reader: &mut Reader, name: &str) -> Vec<String> {
    let Some((_, text)) = reader.text(&[name]) else { return Vec::new() };
    let rules: Vec<String> = words(&text).map(str::to_owned).collect();
    if rules.len() > RULES_MAX {
        reader.fault(name, &format!("must have at most {RULES_MAX} rules"));
    }
    if let Some(bad) = rules.iter().find_map(|rule| rule.parse::<Rule>().err()) {
        reader.fault(name, &format!("must be rules such as `github.com,*.example.com:8443,10.1.0.0/16`, and {bad}"));
    }
    rules
}

fn resolvers(reader: &mut Reader) -> Vec<SocketAddr> {
    let Some((name, text)) = reader.text(&["REXEC_EGRESS_RESOLVERS"]) else { return Vec::new() };
    let server = |word: &str| {
        let address = word.parse::<IpAddr>().map(|address| SocketAddr::new(address, DNS_PORT));
        address.or_else(|_| word.parse::<SocketAddr>()).ok()
    };
    let servers: Option<Vec<SocketAddr>> = words(&text).map(server).collect();
    servers.unwrap_or_else(|| {
        reader.fault(
            &name,
            "must be addresses of servers of names, separated by commas, such as `10.0.0.2,10.0.0.3:5353`",
        );
        Vec::new()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::config::{Config, Sources};
    use rexec_api::egress::EgressPreset;

    fn of(variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = [("REXEC_DATA_DIR", "/tmp/x")].iter().chain(variables).copied();
        Config::from_sources(&Sources::from_env(variables)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_operators_part_is_read() {
        assert!(of(&[]).unwrap().egress.direct && !of(&[("REXEC_EGRESS_DIRECT", "off")]).unwrap().egress.direct);
        assert!(of(&[("REXEC_EGRESS_DIRECT", "no")]).is_err());
        assert_eq!(of(&[]).unwrap().egress.preset, EgressPreset::Open);
        let config = of(&[
            ("REXEC_EGRESS", "locked"),
            ("REXEC_EGRESS_PRESETS", "locked, balanced"),
            ("REXEC_EGRESS_ALLOW", "mirror.example,*.example.com:8443"),
            ("REXEC_EGRESS_RESOLVERS", "10.0.0.2,[fd00::1]:5353"),
        ]);
        let egress = config.unwrap().egress;
        assert_eq!(egress.presets, [EgressPreset::Locked, EgressPreset::Balanced]);
        assert_eq!((egress.allow.len(), egress.resolvers.len()), (2, 2));
        let seeded = of(&[("TTYD_INTERNAL_NETWORK", "inner")]).unwrap().egress;
        assert_eq!((seeded.preset, seeded.network.as_deref()), (EgressPreset::Balanced, Some("inner")));
        let upstream = |variables: &[(&str, &str)]| of(variables).unwrap().egress.upstream.unwrap();
        let apart = upstream(&[("TTYD_EGRESS_PROXY_HOST", "egress-proxy"), ("TTYD_EGRESS_PROXY_PORT", "3129")]);
        assert_eq!((apart.host.as_str(), apart.port, apart.authorization), ("egress-proxy", 3129, None));
        let with = upstream(&[("REXEC_EGRESS_UPSTREAM", "http://me:p%40ss@[fd00::1]/")]);
        assert_eq!((with.host.as_str(), with.port), ("fd00::1", 3128));
        assert_eq!(with.told().authorization.unwrap(), "Basic bWU6cEBzcw==");
        assert!(!format!("{with:?} {:?}", with.told()).contains("bWU6"));
        for (name, value) in [
            ("REXEC_EGRESS", "shut"),
            ("REXEC_EGRESS_UPSTREAM", "https://proxy.example:3128"),
            ("REXEC_EGRESS_UPSTREAM", "proxy.example:0"),
            ("REXEC_EGRESS_UPSTREAM", "http://me@proxy.example"),
            ("REXEC_EGRESS_UPSTREAM", "http://proxy.example/path"),
            ("TTYD_EGRESS_PROXY_PORT", "3128"),
            ("REXEC_EGRESS_PRESETS", "locked"),
            ("REXEC_EGRESS_ALLOW", "a.*.example"),
            ("REXEC_EGRESS_DENY", "a.example:0"),
            ("REXEC_EGRESS_CA_FILE", "/nowhere/ca.pem"),
            ("REXEC_EGRESS_RESOLVERS", "one.example"),
        ] {
            assert!(of(&[(name, value)]).unwrap_err().contains(name), "{name}");
        }
    }
}
