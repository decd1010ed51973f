//! What a workspace may reach, put together from the operator's rules, its template's needs and its own: pure.

use crate::config::EgressConfig;
use crate::error::{Error, Result};
use crate::github;
use crate::secrets::inside::GITHUB_TOKENS;
use crate::time::rfc3339;
use rexec_api::egress::{EgressNetwork, EgressPreset, EgressSettings, LENT_MINUTES_MAX, LendRule, LentRule, RULES_MAX};
use rexec_api::error::ErrorCode;
use rexec_api::gateway::{BoundLayer, BoundPolicy};
use rexec_api::secrets::GIVEN_MAX;
use rexec_egress::rule::{Rule, To};
use serde_json::json;

/// Which network its container is to be on. On the open one nobody could say no to it, let it reach a private range, or lead
/// it to the operator's proxy.
pub fn network(own: &EgressSettings, operator: &EgressConfig) -> EgressNetwork {
    let ranges = |text: &String| text.parse().is_ok_and(|rule: Rule| matches!(rule.to, To::Range(_)));
    let is_plain = own.deny.is_empty() && !own.allow.iter().chain(own.lent.iter().map(|lent| &lent.rule)).any(ranges);
    // Nor put a secret in, or answer for a model.
    let is_plain = is_plain && own.secrets.is_empty() && !(own.models && operator.models.is_offered());
    let is_plain = is_plain && !(own.github.is_some() && operator.github.is_offered());
    let is_plain = is_plain && operator.deny.is_empty() && operator.upstream.is_none();
    let is_open = own.preset == EgressPreset::Open && is_plain;
    if is_open { EgressNetwork::Open } else { EgressNetwork::Closed }
}

/// What its gateway is told. `needs` are its template's.
pub fn policy(own: &EgressSettings, needs: &[String], operator: &EgressConfig, now_ms: i64) -> BoundPolicy {
    let lent = own.lent.iter().filter(|lent| until_ms(lent) > now_ms).map(|lent| lent.rule.clone());
    let github = own.github.as_ref().map_or_else(Vec::new, |access| github::rules(access, &operator.github));
    let allow: Vec<String> = own.allow.iter().cloned().chain(lent).chain(github).collect();
    let layer = |origin: &str, allow: &[String], deny: &[String]| BoundLayer {
        origin: origin.into(),
        allow: allow.to_vec(),
        deny: deny.to_vec(),
    };
    let mut layers = vec![layer("always", &operator.allow, &operator.deny), layer("workspace", &allow, &own.deny)];
    if own.preset == EgressPreset::Balanced {
        layers.push(layer("template", needs, &[]));
    }
    layers.retain(|layer| !layer.allow.is_empty() || !layer.deny.is_empty());
    BoundPolicy { preset: own.preset.as_str().into(), layers }
}

/// Whether any of its rules is about single requests, so that they are read.
pub fn judges_requests(policy: &BoundPolicy) -> bool {
    let is_one = |text: &String| text.contains(['@', '/']) && text.parse().is_ok_and(|rule: Rule| rule.asks.is_some());
    policy.layers.iter().flat_map(|layer| layer.allow.iter().chain(&layer.deny)).any(is_one)
}

/// When it ends; what cannot be read has ended.
fn until_ms(lent: &LentRule) -> i64 {
    lent.until.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_millisecond)
}

/// When the next of them ends.
pub fn next_end_ms(own: &EgressSettings) -> Option<i64> {
    own.lent.iter().map(until_ms).min()
}

/// Without what has ended.
pub fn without_ended(own: &EgressSettings, now_ms: i64) -> EgressSettings {
    let lent = own.lent.iter().filter(|lent| until_ms(lent) > now_ms).cloned().collect();
    EgressSettings { lent, ..own.clone() }
}

/// One more that ends by itself, or an earlier one of the same rule that ends later.
pub fn with_lent(own: &EgressSettings, lend: &LendRule, now_ms: i64) -> Result<EgressSettings> {
    if !(1..=LENT_MINUTES_MAX).contains(&lend.minutes) {
        return Err(Error::field("minutes", format!("`minutes` must be from 1 to {LENT_MINUTES_MAX}.")));
    }
    let rule = printed("rule", vec![lend.rule.clone()])?.remove(0);
    let mut all = without_ended(own, now_ms);
    all.lent.retain(|lent| lent.rule != rule);
    let until = rfc3339(now_ms + i64::from(lend.minutes) * 60_000);
    all.lent.push(LentRule { rule, until });
    Ok(all)
}

/// What one that is made again has of what it was made of: all of its rules, and no wider a preset than may be asked for. What
/// cannot be read, as an archive may hold anything, allows nothing.
pub fn inherited(before: EgressSettings, operator: &EgressConfig) -> EgressSettings {
    let widest = operator.presets.iter().copied().max().unwrap_or_default();
    let EgressSettings { preset, allow, deny, models, .. } = before;
    let models = models && operator.models.is_offered();
    let is_short = allow.len() + deny.len() <= RULES_MAX;
    match (printed("allow", allow), printed("deny", deny)) {
        (Ok(allow), Ok(deny)) if is_short => {
            EgressSettings { preset: preset.min(widest), allow, deny, models, ..EgressSettings::default() }
        }
        _ => EgressSettings { preset: EgressPreset::Locked, ..EgressSettings::default() },
    }
}

/// As it is to be kept: each rule as it is printed, and once.
pub fn checked(
    asked: EgressSettings,
    before: &EgressSettings,
    operator: &EgressConfig,
    now_ms: i64,
) -> Result<EgressSettings> {
    if !operator.presets.contains(&asked.preset) {
        let names: Vec<_> = operator.presets.iter().map(|preset| preset.as_str()).collect();
        let message =
            format!("This server does not allow `{}`; you may ask for {}.", asked.preset.as_str(), names.join(", "));
        return Err(Error::new(ErrorCode::PresetNotAllowed, message)
            .details(json!({ "field": "egress", "presets": operator.presets })));
    }
    let count = asked.allow.len() + asked.deny.len() + asked.lent.len();
    if count > RULES_MAX {
        return Err(Error::field("egress", format!("There are {count} rules; {RULES_MAX} are the most.")));
    }
    let (allow, deny) = (printed("allow", asked.allow)?, printed("deny", asked.deny)?);
    let mut lent = Vec::new();
    for one in asked.lent {
        let most = now_ms + i64::from(LENT_MINUTES_MAX) * 60_000;
        if one.until.parse::<jiff::Timestamp>().is_err() || until_ms(&one) > most {
            return Err(Error::field(
                "egress.lent",
                "`until` must be a time, such as 2026-01-31T12:00:00Z, a day from now at most.",
            ));
        }
        lent.push(LentRule { rule: printed("lent", vec![one.rule])?.remove(0), until: one.until });
    }
    let mut secrets: Vec<String> = Vec::new();
    for name in asked.secrets {
        if !crate::secrets::is_name(&name) {
            let message = format!("`egress.secrets` has {name:?}, which is no secret's name.");
            return Err(Error::field("egress.secrets", message));
        }
        if !secrets.contains(&name) {
            secrets.push(name);
        }
    }
    if secrets.len() > GIVEN_MAX {
        return Err(Error::field("egress.secrets", format!("A workspace has {GIVEN_MAX} secrets at most.")));
    }
    // What was offered once may stay switched on.
    if asked.models && !before.models && !operator.models.is_offered() {
        let message = "This server offers no models. Its operator offers them by OPENAI_API_KEY, OPENROUTER_API_KEY, \
                       ANTHROPIC_API_KEY or LLM_BASE_URL.";
        return Err(Error::field("egress.models", message));
    }
    let github =
        asked.github.map(|asked| github::checked(asked, before.github.as_ref(), &operator.github)).transpose()?;
    if github.is_some()
        && let Some(name) = secrets.iter().find(|name| GITHUB_TOKENS.contains(&name.as_str()))
    {
        let message = format!("It is given a token of GitHub by `egress.github` or by the secret {name}, not by both.");
        return Err(Error::field("egress.github", message));
    }
    let models = asked.models;
    Ok(without_ended(&EgressSettings { preset: asked.preset, allow, deny, lent, secrets, models, github }, now_ms))
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

    /// Of one that had nothing before.
    fn checked(asked: EgressSettings, operator: &EgressConfig, now_ms: i64) -> Result<EgressSettings> {
        super::checked(asked, &EgressSettings::default(), operator, now_ms)
    }

    #[test]
    fn models_stay_on_that_are_offered_no_more() {
        let asked = EgressSettings { models: true, allow: vec!["a.example".into()], ..own(EgressPreset::Locked) };
        assert_eq!(checked(asked.clone(), &operator(), 0).unwrap_err().code, ErrorCode::InvalidRequest);
        let before = EgressSettings { models: true, ..own(EgressPreset::Locked) };
        assert_eq!(super::checked(asked.clone(), &before, &operator(), 0).unwrap(), asked);
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
        // Only a gateway can tell one workspace's private range from another's.
        let range = EgressSettings { allow: vec!["10.1.0.0/16:22".into()], ..own(EgressPreset::Open) };
        assert_eq!(network(&range), EgressNetwork::Closed);
        let name = EgressSettings { allow: vec!["a.example".into()], ..own(EgressPreset::Open) };
        assert_eq!(network(&name), EgressNetwork::Open);
        let strict = EgressConfig { deny: vec!["a.example".into()], ..operator() };
        assert_eq!(super::network(&own(EgressPreset::Open), &strict), EgressNetwork::Closed);
    }

    #[test]
    fn rules_about_requests_are_known_from_others() {
        for (rule, is_one) in [
            ("GET@api.example/repos/*", true),
            ("api.example/a", true),
            ("api.example/*", false),
            ("10.0.0.0/8", false),
            ("api.example", false),
        ] {
            let deny = EgressSettings { deny: vec![rule.into()], ..own(EgressPreset::Open) };
            assert_eq!(judges_requests(&policy(&deny, &[], &operator(), 0)), is_one, "{rule}");
        }
    }

    #[test]
    fn a_templates_needs_widen_no_lock() {
        let needs = ["a.example".to_owned()];
        let origins = |preset| {
            let policy = policy(&own(preset), &needs, &operator(), 0);
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
        assert_eq!(checked(asked, &operator(), 0).unwrap().allow, ["a.example", "10.0.0.0/8:22"]);
        let bad = EgressSettings { deny: vec!["https://a.example".into()], ..own(EgressPreset::Locked) };
        let error = checked(bad, &operator(), 0).unwrap_err();
        assert_eq!((error.code, error.message.contains("`deny`")), (ErrorCode::InvalidRequest, true));
        let many = EgressSettings { allow: vec!["a.example".into(); RULES_MAX + 1], ..own(EgressPreset::Open) };
        assert!(checked(many, &operator(), 0).is_err());
        let one = EgressConfig { presets: vec![EgressPreset::Locked], ..operator() };
        assert_eq!(checked(own(EgressPreset::Open), &one, 0).unwrap_err().code, ErrorCode::PresetNotAllowed);
    }

    #[test]
    fn what_is_lent_ends() {
        let now = 1_800_000_000_000;
        let lend = |rule: &str, minutes| LendRule { rule: rule.into(), minutes };
        let lent = with_lent(&own(EgressPreset::Locked), &lend("A.example", 10), now).unwrap();
        let lent = with_lent(&lent, &lend("b.example:22", 20), now).unwrap();
        let again = with_lent(&lent, &lend("a.example", 30), now + 1).unwrap();
        assert_eq!(again.lent.iter().map(|lent| lent.rule.as_str()).collect::<Vec<_>>(), ["b.example:22", "a.example"]);
        assert_eq!(next_end_ms(&lent), Some(now + 600_000));
        let allowed = |at| policy(&lent, &[], &operator(), at).layers.first().map_or(0, |layer| layer.allow.len());
        assert_eq!([allowed(now), allowed(now + 600_000), allowed(now + 1_200_000)], [2, 1, 0]);
        assert_eq!(without_ended(&lent, now + 600_000).lent.len(), 1);
        assert_eq!(checked(lent.clone(), &operator(), now).unwrap(), lent);
        assert_eq!(checked(lent.clone(), &operator(), now + 1_200_000).unwrap().lent, []);
        assert!(checked(lent, &operator(), now - 86_400_000).is_err(), "further than a day");
        for (rule, minutes) in [("a.example", 0), ("a.example", LENT_MINUTES_MAX + 1), ("a.*", 5)] {
            assert!(with_lent(&own(EgressPreset::Locked), &lend(rule, minutes), now).is_err(), "{rule} {minutes}");
        }
    }

    #[test]
    fn what_is_inherited_is_never_wider() {
        let of = |presets: &[EgressPreset]| EgressConfig { presets: presets.into(), ..EgressConfig::default() };
        let but = EgressSettings { deny: vec!["a.example".into()], ..own(EgressPreset::Open) };
        let narrow = inherited(but.clone(), &of(&[EgressPreset::Locked, EgressPreset::Balanced]));
        assert_eq!((narrow.preset, narrow.deny), (EgressPreset::Balanced, but.deny));
        let kept = inherited(own(EgressPreset::Locked), &of(&[EgressPreset::Balanced, EgressPreset::Open]));
        assert_eq!(kept.preset, EgressPreset::Locked);
        let odd = EgressSettings { allow: vec!["https://x".into()], ..own(EgressPreset::Open) };
        assert_eq!(inherited(odd, &operator()), own(EgressPreset::Locked));
    }
}
