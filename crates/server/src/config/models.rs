//! Models of language that workspaces may ask by their gateway: whose, which, and how much of them.

use super::sources::Reader;
use crate::secret::Secret;
use rexec_api::gateway::{self, OfferedModels};
use rexec_egress::host::Host;
use rexec_egress::models::{Base, Models};

const OPENAI: &str = "https://api.openai.com/v1";
const OPENROUTER: &str = "https://openrouter.ai/api/v1";
const ANTHROPIC: &str = "https://api.anthropic.com/v1";
const ANY: &str = "*";
const TOKENS_MAX: u64 = 1 << 50;
const KEYS: [&str; 3] = ["OPENAI_API_KEY", "OPENROUTER_API_KEY", "ANTHROPIC_API_KEY"];

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelsConfig {
    /// Who answers the API of OpenAI.
    pub openai: Option<ModelVendor>,
    pub anthropic: Option<ModelVendor>,
    /// Which models may be asked for, as patterns.
    pub allow: String,
    /// Whether vendors may reach hosts of their own for whoever asks.
    pub outward: bool,
    /// Tokens of one user in a day.
    pub tokens_per_day: Option<u64>,
    /// Tokens of one workspace in its life.
    pub tokens_per_workspace: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelVendor {
    pub base: String,
    /// Some at home ask for none.
    pub key: Option<Secret>,
}

impl ModelsConfig {
    pub fn is_offered(&self) -> bool {
        self.openai.is_some() || self.anthropic.is_some()
    }

    pub fn is_bounded(&self) -> bool {
        self.tokens_per_day.is_some() || self.tokens_per_workspace.is_some()
    }

    /// As gateways are told.
    pub fn told(&self) -> OfferedModels {
        let told = |vendor: &Option<ModelVendor>| {
            vendor.as_ref().map(|vendor| gateway::ModelVendor {
                base: vendor.base.clone(),
                key: vendor.key.as_ref().map(|key| key.expose().to_owned()),
            })
        };
        OfferedModels {
            openai: told(&self.openai),
            anthropic: told(&self.anthropic),
            allow: self.allow.clone(),
            outward: self.outward,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Provider {
    OpenAi,
    OpenRouter,
    Anthropic,
}

pub(super) fn take(reader: &mut Reader) -> ModelsConfig {
    let provider = reader.text(&["LLM_PROVIDER"]).and_then(|(name, text)| match text.to_ascii_lowercase().as_str() {
        "openai" => Some(Provider::OpenAi),
        "openrouter" => Some(Provider::OpenRouter),
        "anthropic" => Some(Provider::Anthropic),
        _ => {
            reader.fault(&name, "must be `openai`, `openrouter` or `anthropic`; another server with the API of OpenAI is named by LLM_BASE_URL");
            None
        }
    });
    let [openai, openrouter, anthropic] = KEYS.map(|name| key(reader, name));
    let base = reader.text(&["LLM_BASE_URL"]).map(|(name, text)| match text.parse::<Base>() {
        Ok(base) if base.tls && matches!(base.host, Host::Address(_)) => {
            reader.fault(&name, "must name its host: a certificate is for a name; by plain http:// an address will do");
            String::new()
        }
        Ok(base) => base.to_string(),
        Err(error) => {
            reader.fault(&name, &format!("must be an address such as `http://10.0.0.5:11434/v1`; {error}"));
            String::new()
        }
    });
    let is_openrouter = provider == Some(Provider::OpenRouter) || (provider.is_none() && openai.is_none());
    let (at, key) = if is_openrouter { (OPENROUTER, openrouter) } else { (OPENAI, openai) };
    let own = base.as_ref().filter(|_| provider != Some(Provider::Anthropic));
    // Whoever names a server of their own may have one that asks for no key.
    let answers_openai = key.is_some() || own.is_some();
    let openai = answers_openai.then(|| ModelVendor { base: own.cloned().unwrap_or_else(|| at.to_owned()), key });
    let own = base.filter(|_| provider == Some(Provider::Anthropic));
    let anthropic = (anthropic.is_some() || own.is_some())
        .then(|| ModelVendor { base: own.unwrap_or_else(|| ANTHROPIC.to_owned()), key: anthropic });
    let wanted = match provider {
        Some(Provider::OpenAi) if openai.is_none() => Some("OPENAI_API_KEY"),
        Some(Provider::OpenRouter) if openai.is_none() => Some("OPENROUTER_API_KEY"),
        Some(Provider::Anthropic) if anthropic.is_none() => Some("ANTHROPIC_API_KEY"),
        _ => None,
    };
    if let Some(wanted) = wanted {
        reader.fault(
            "LLM_PROVIDER",
            &format!("is of no use without {wanted}, or LLM_BASE_URL of one that asks for no key"),
        );
    }
    let allow = reader.text(&["REXEC_MODELS"]).map_or_else(
        || ANY.to_owned(),
        |(name, text)| match text.parse::<Models>() {
            Ok(models) => models.to_string(),
            Err(error) => {
                reader.fault(&name, &format!("must be names of models such as `gpt-5*,claude-haiku-4-5`, and {error}"));
                ANY.to_owned()
            }
        },
    );
    let tokens_per_day = reader.number(&["REXEC_MODELS_TOKENS_PER_DAY"], 1, TOKENS_MAX);
    let tokens_per_workspace = reader.number(&["REXEC_MODELS_TOKENS_PER_WORKSPACE"], 1, TOKENS_MAX);
    let outward = match reader.text(&["REXEC_MODELS_OUTWARD"]) {
        None => false,
        Some((_, text)) if text.eq_ignore_ascii_case("refuse") => false,
        Some((_, text)) if text.eq_ignore_ascii_case("allow") => true,
        Some((name, _)) => {
            reader.fault(&name, "must be `refuse` or `allow`");
            false
        }
    };
    let config = ModelsConfig { openai, anthropic, allow, outward, tokens_per_day, tokens_per_workspace };
    if config.is_offered() && !config.is_bounded() {
        reader.notice(
            "Workspaces whose owners let them may use models at your expense, as much as they like; \
             REXEC_MODELS_TOKENS_PER_DAY and REXEC_MODELS_TOKENS_PER_WORKSPACE bound that."
                .into(),
        );
    }
    config
}

fn key(reader: &mut Reader, name: &str) -> Option<Secret> {
    let (name, text) = reader.text(&[name])?;
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        reader.fault(&name, "must be a key of visible ASCII characters, without spaces");
        return None;
    }
    Some(Secret::new(text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Config, ConfigError, Sources};
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<ModelsConfig, ConfigError> {
        let variables = [("REXEC_DATA_DIR", "/tmp/x")].iter().chain(variables).copied();
        Config::from_sources(&Sources::from_env(variables)).map(|config| config.egress.models)
    }

    fn bases(variables: &[(&str, &str)]) -> [Option<String>; 2] {
        let models = of(variables).unwrap();
        [models.openai, models.anthropic].map(|vendor| vendor.map(|vendor| vendor.base))
    }

    #[test]
    fn keys_say_who_answers() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(bases(&[]), [None, None]);
        assert!(!of(&[]).unwrap().is_offered());
        assert_eq!(bases(&[("OPENAI_API_KEY", "sk-a")]), [some(OPENAI), None]);
        assert_eq!(bases(&[("OPENROUTER_API_KEY", "sk-or-a")]), [some(OPENROUTER), None]);
        let both = [("OPENROUTER_API_KEY", "sk-or-a"), ("OPENAI_API_KEY", "sk-a"), ("ANTHROPIC_API_KEY", "sk-ant-a")];
        assert_eq!(bases(&both), [some(OPENAI), some(ANTHROPIC)]);
        let asked = [&both[..], &[("LLM_PROVIDER", "openrouter")]].concat();
        assert_eq!(bases(&asked), [some(OPENROUTER), some(ANTHROPIC)]);
        let own = [("LLM_BASE_URL", "http://10.0.0.5:11434/v1/")];
        assert_eq!(bases(&own), [some("http://10.0.0.5:11434/v1"), None]);
        assert!(of(&own).unwrap().openai.unwrap().key.is_none());
        let claude =
            [("LLM_PROVIDER", "Anthropic"), ("LLM_BASE_URL", "https://claude.example"), ("OPENAI_API_KEY", "sk-a")];
        assert_eq!(bases(&claude), [some(OPENAI), some("https://claude.example")]);
        let told = of(&both).unwrap().told();
        assert_eq!((told.openai.unwrap().key.as_deref(), told.allow.as_str()), (Some("sk-a"), "*"));
    }

    #[test]
    fn what_is_wrong_is_told_by_name() {
        for (variables, name) in [
            (&[("LLM_PROVIDER", "gpt")][..], "LLM_PROVIDER"),
            (&[("LLM_PROVIDER", "openai")], "OPENAI_API_KEY"),
            (&[("LLM_PROVIDER", "anthropic"), ("OPENAI_API_KEY", "sk-a")], "ANTHROPIC_API_KEY"),
            (&[("LLM_BASE_URL", "localhost:11434")], "LLM_BASE_URL"),
            (&[("LLM_BASE_URL", "https://10.0.0.5/v1")], "LLM_BASE_URL"),
            (&[("OPENAI_API_KEY", "sk a")], "OPENAI_API_KEY"),
            (&[("REXEC_MODELS", "gpt*5")], "REXEC_MODELS"),
            (&[("REXEC_MODELS_OUTWARD", "yes")], "REXEC_MODELS_OUTWARD"),
            (&[("REXEC_MODELS_TOKENS_PER_DAY", "many")], "REXEC_MODELS_TOKENS_PER_DAY"),
        ] {
            let faults = of(variables).unwrap_err().to_string();
            assert!(faults.contains(name), "{faults}");
        }
    }
}
