//! Where keys of widely known names are sent: facts of their vendors' documentation, for whoever does not say.

/// The name of the variable that a vendor's own programs read, and the hosts of its API.
const KNOWN: [(&str, &[&str]); 17] = [
    ("OPENAI_API_KEY", &["api.openai.com"]),
    ("ANTHROPIC_API_KEY", &["api.anthropic.com"]),
    ("GEMINI_API_KEY", &["generativelanguage.googleapis.com"]),
    ("GOOGLE_API_KEY", &["generativelanguage.googleapis.com"]),
    ("MISTRAL_API_KEY", &["api.mistral.ai"]),
    ("GROQ_API_KEY", &["api.groq.com"]),
    ("DEEPSEEK_API_KEY", &["api.deepseek.com"]),
    ("OPENROUTER_API_KEY", &["openrouter.ai"]),
    ("XAI_API_KEY", &["api.x.ai"]),
    ("COHERE_API_KEY", &["api.cohere.com"]),
    ("TOGETHER_API_KEY", &["api.together.xyz"]),
    ("HF_TOKEN", &["huggingface.co", "router.huggingface.co"]),
    ("GITHUB_TOKEN", &["api.github.com", "github.com", "uploads.github.com"]),
    ("GH_TOKEN", &["api.github.com", "github.com", "uploads.github.com"]),
    ("GITLAB_TOKEN", &["gitlab.com"]),
    ("NPM_TOKEN", &["registry.npmjs.org"]),
    ("CARGO_REGISTRY_TOKEN", &["crates.io"]),
];

pub fn hosts(name: &str) -> Option<Vec<String>> {
    let (_, hosts) = KNOWN.iter().find(|(known, _)| *known == name)?;
    Some(hosts.iter().map(|host| format!("{host}:443")).collect())
}
