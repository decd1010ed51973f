//! What workspaces may reach outside: the operator's part of it.

use super::sources::Reader;
use rexec_api::egress::{EgressPreset, RULES_MAX};
use rexec_egress::rule::Rule;
use std::net::{IpAddr, SocketAddr};

const DNS_PORT: u16 = 53;

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
    let resolvers = resolvers(reader);
    EgressConfig { preset, presets, allow, deny, network: network.map(|(_, text)| text), resolvers }
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
        for (name, value) in [
            ("REXEC_EGRESS", "shut"),
            ("REXEC_EGRESS_PRESETS", "locked"),
            ("REXEC_EGRESS_ALLOW", "a.*.example"),
            ("REXEC_EGRESS_DENY", "a.example:0"),
            ("REXEC_EGRESS_RESOLVERS", "one.example"),
        ] {
            assert!(of(&[(name, value)]).unwrap_err().contains(name), "{name}");
        }
    }
}
