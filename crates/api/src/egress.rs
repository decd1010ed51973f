//! What a workspace may reach outside: what may be asked for, and what is seen of it.
//!
//! A rule is `host[:ports]`: `github.com`, `*.github.com`, `db.example.com:5432`, `10.1.0.0/16:8000-8100`, `*:*`. Without
//! ports it is about 80 and 443.

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most rules of one workspace, those that allow and those that deny together.
pub const RULES_MAX: usize = 500;
/// Most repositories of one workspace's access to GitHub, and most branches.
pub const REPOSITORIES_MAX: usize = 50;
pub const BRANCHES_MAX: usize = 50;
/// The longest that something is allowed for a while.
pub const LENT_MINUTES_MAX: u32 = 24 * 60;

/// What is allowed without a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum EgressPreset {
    /// Nothing but what rules allow.
    Locked,
    /// Package registries, code hosts and model vendors, and what its template needs.
    Balanced,
    /// The public internet.
    #[default]
    Open,
}

impl EgressPreset {
    pub const ALL: [Self; 3] = [Self::Locked, Self::Balanced, Self::Open];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Balanced => "balanced",
            Self::Open => "open",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == text)
    }
}

/// What a workspace may reach. In a request for a workspace a preset's name alone will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct EgressSettings {
    pub preset: EgressPreset,
    /// Reached besides: `host[:ports]`, `*.suffix[:ports]`, `address/bits[:ports]`; ports 80 and 443 unless told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Never reached, whatever allows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Reached besides for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lent: Vec<LentRule>,
    /// Names of its owner's secrets that it may use without having them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Whether it may ask the operator's models at `http://llm.rexec.internal`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub models: bool,
    /// What it may do at GitHub with a token of the operator's, which it never has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<GithubAccess>,
}

/// Repositories that a workspace uses by a token that stays outside: its gateway adds it to requests about these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GithubAccess {
    /// `owner/name`, or all of an owner: `owner/*`. At least one.
    pub repositories: Vec<String>,
    /// Branches that it may push to: `main`, or all that begin so: `agent/*`. All branches and tags unless told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<String>,
    /// Whether it changes nothing there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A rule that allows, and ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LentRule {
    pub rule: String,
    /// RFC 3339; a day from now at most.
    pub until: String,
}

/// Something that is to be reached for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LendRule {
    pub rule: String,
    /// 1 to 1440.
    pub minutes: u32,
}

impl Serialize for EgressSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for EgressSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = EgressSettings;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a preset's name, or an object with `preset`, `allow` and `deny`")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<EgressSettings, E> {
                let preset = EgressPreset::deserialize(StrDeserializer::new(name))?;
                Ok(EgressSettings { preset, ..EgressSettings::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EgressSettings, A::Error> {
                EgressSettings::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// From when on the settings are what is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum EgressState {
    /// They are.
    InForce,
    /// In a moment: the gateway of its server is being told.
    Pending,
    /// From its next start on: it runs on the other network until then.
    NextStart,
}

/// Which network a workspace is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum EgressNetwork {
    /// From it nothing is reached but its server's gateway, which decides.
    Closed,
    /// From it all is reached but its server, other workspaces and clouds' metadata.
    Open,
}

/// What a workspace may reach, by whom, and how much it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EgressView {
    pub preset: EgressPreset,
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    /// Those that end by themselves.
    pub lent: Vec<LentRule>,
    /// Names of secrets that it uses without having them.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Whether it may ask the operator's models.
    #[serde(default)]
    pub models: bool,
    /// Whether this server has any to offer.
    #[serde(default)]
    pub models_offered: bool,
    /// What it may do at GitHub with a token of the operator's.
    #[serde(default)]
    pub github: Option<GithubAccess>,
    /// Whether its owner may be given any.
    #[serde(default)]
    pub github_offered: bool,
    /// The operator's rules, which are stronger.
    pub server_allow: Vec<String>,
    pub server_deny: Vec<String>,
    /// What its template needs; allowed under `balanced`.
    pub template_allow: Vec<String>,
    /// The presets that may be asked for.
    pub presets: Vec<EgressPreset>,
    pub state: EgressState,
    /// The one that it is on, or is to be on when it starts.
    pub network: EgressNetwork,
    /// Raised by each change.
    pub version: u64,
    pub totals: EgressTotals,
}

/// Since the workspace was made, as far as it went through a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EgressTotals {
    pub allowed: u64,
    pub denied: u64,
    /// From the workspace, and to it.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Decisions that are neither here nor in the log, as there were too many at once.
    pub untold: u64,
}

/// What a workspace asked for within one minute, all of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EgressEntry {
    /// When it last did.
    pub at: String,
    /// `http`, `https` (requests that a secret may be in), `connect`, `socks`, `direct` (TLS of a
    /// program that knows no proxies), `model` or `dns`.
    pub how: String,
    pub host: String,
    pub port: u16,
    pub allowed: bool,
    /// The rule that allowed it, or the code of why not.
    pub why: String,
    /// How often.
    pub count: u64,
    /// Of what has ended.
    pub bytes_up: u64,
    pub bytes_down: u64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_presets_name_will_do() {
        let read = |text: &str| serde_json::from_str::<EgressSettings>(text);
        let locked = EgressSettings { preset: EgressPreset::Locked, ..EgressSettings::default() };
        assert_eq!(read(r#""locked""#).unwrap(), locked);
        assert_eq!(read(r#"{"preset":"locked"}"#).unwrap(), locked);
        let with = EgressSettings { allow: vec!["a.example".into()], ..locked.clone() };
        assert_eq!(read(&serde_json::to_string(&with).unwrap()).unwrap(), with);
        for (bad, said) in [
            (r#""shut""#, "unknown variant"),
            (r#"{"preset":"open","allows":[]}"#, "unknown field"),
            (r#"{"allow":[]}"#, "missing field `preset`"),
            ("7", "a preset's name"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(said), "{bad}: {error}");
        }
    }
}
