//! What a workspace may reach, put together from the operator's rules, its template's needs and its own: pure.

use crate::config::EgressConfig;
use crate::error::{Error, Result};
use rexec_api::egress::{EgressNetwork, EgressPreset, EgressSettings, RULES_MAX};
use rexec_api::error::ErrorCode;
use rexec_api::gateway::{BoundLayer, BoundPolicy};
use rexec_egress::rule::Rule;
use serde_json::json;

/// Which network its container is to be on. On the open one nobody could say no to it.
pub fn network(own: &EgressSettings, operator: &EgressConfig) -> EgressNetwork {
    let is_open = own.preset == EgressPreset::Open && own.deny.is_empty() && operator.deny.is_empty();
    if is_open { EgressNetwork::Open } else { EgressNetwork::Closed }
}

/// What its gateway is told. `needs` are its template's.
pub fn policy(own: &EgressSettings, needs: &[String], operator: &EgressConfig) -> BoundPolicy {
    let layer = |origin: &str, allow: &[String], deny: &[String]| BoundLayer {
        origin: origin.into(),
        allow: allow.to_vec(),
        deny: deny.to_vec(),
    };
    let mut layers = vec![layer("always", &operator.allow, &operator.deny), layer("workspace", &own.allow, &own.deny)];
    if own.preset == EgressPreset::Balanced {
        layers.push(layer("template", needs, &[]));
    }
    layers.retain(|layer| !layer.allow.is_empty() || !layer.deny.is_empty());
    BoundPolicy { preset: own.preset.as_str().into(), layers }
}

/// As it is to be kept: each rule as it is printed, and once.
pub fn checked(asked: EgressSettings, operator: &EgressConfig) -> Result<EgressSettings> {
    if !operator.presets.contains(&asked.preset) {
        let names: Vec<_> = operator.presets.iter().map(|preset| preset.as_str()).collect();
        let message =
            format!("This server does not allow `{}`; you may ask for {}.", asked.preset.as_str(), names.join(", "));
        return Err(Error::new(ErrorCode::PresetNotAllowed, message)
            .details(json!({ "field": "egress", "presets": operator.presets })));
    }
    let count = asked.allow.len() + asked.deny.len();
    if count > RULES_MAX {
        return Err(Error::field("egress", format!("There are {count} rules; {RULES_MAX} are the most.")));
    }
    let (allow, deny) = (printed("allow", asked.allow)?, printed("deny", asked.deny)?);
    Ok(EgressSettings { preset: asked.preset, allow, deny })
}

fn printed(field: &str, rules: Vec<String>) -> Result<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for rule in rules {
        let rule: Rule = rule.trim().parse().map_err(|bad: rexec_egress::rule::BadRule| {
            Error::field("egress", format!("`{field}` has a rule that is none: {bad}.")).details(json!({
                "field": format!("egress.{field}"), "rule": bad.rule,
            }))
        })?;
        let rule = rule.to_string();
        if !all.contains(&rule) {
            all.push(rule);
        }
    }
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn operator() -> EgressConfig {
        EgressConfig { presets: EgressPreset::ALL.into(), ..EgressConfig::default() }
    }

    fn own(preset: EgressPreset) -> EgressSettings {
        EgressSettings { preset, ..EgressSettings::default() }
    }

    #[test]
    fn only_what_denies_nothing_is_on_the_open_network() {
        let network = |own: &EgressSettings| network(own, &operator());
        assert_eq!(network(&own(EgressPreset::Open)), EgressNetwork::Open);
        assert_eq!(network(&own(EgressPreset::Balanced)), EgressNetwork::Closed);
        let but = EgressSettings { deny: vec!["a.example".into()], ..own(EgressPreset::Open) };
        assert_eq!(network(&but), EgressNetwork::Closed);
        let strict = EgressConfig { deny: vec!["a.example".into()], ..operator() };
        assert_eq!(super::network(&own(EgressPreset::Open), &strict), EgressNetwork::Closed);
    }

    #[test]
    fn a_templates_needs_widen_no_lock() {
        let needs = ["a.example".to_owned()];
        let origins = |preset| {
            let policy = policy(&own(preset), &needs, &operator());
            policy.layers.into_iter().map(|layer| layer.origin).collect::<Vec<_>>()
        };
        assert_eq!(origins(EgressPreset::Balanced), ["template"]);
        assert_eq!(origins(EgressPreset::Locked), [""; 0]);
    }

    #[test]
    fn rules_are_kept_as_they_are_printed() {
        let asked = EgressSettings {
            allow: vec![" A.Example ".into(), "a.example".into(), "10.0.0.0/8:22".into()],
            ..own(EgressPreset::Locked)
        };
        assert_eq!(checked(asked, &operator()).unwrap().allow, ["a.example", "10.0.0.0/8:22"]);
        let bad = EgressSettings { deny: vec!["https://a.example".into()], ..own(EgressPreset::Locked) };
        let error = checked(bad, &operator()).unwrap_err();
        assert_eq!((error.code, error.message.contains("`deny`")), (ErrorCode::InvalidRequest, true));
        let many = EgressSettings { allow: vec!["a.example".into(); RULES_MAX + 1], ..own(EgressPreset::Open) };
        assert!(checked(many, &operator()).is_err());
        let one = EgressConfig { presets: vec![EgressPreset::Locked], ..operator() };
        assert_eq!(checked(own(EgressPreset::Open), &one).unwrap_err().code, ErrorCode::PresetNotAllowed);
    }
}
