//! Where GitHub is (the public one, a company's own, or a test's), and what workspaces may do there at the operator's hand:
//! with one token, or with tokens that an App of the operator's is given for each.

use super::sources::Reader;
use crate::secret::Secret;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rexec_egress::github::{Repositories, Site};
use rexec_egress::host::Host;
use rustls::pki_types::PrivatePkcs1KeyDer;
use rustls::pki_types::pem::PemObject as _;

const GITHUB: &str = "https://github.com";
const GITHUB_API: &str = "https://api.github.com";
const PEM: &str = "-----BEGIN ";
/// Every repository that the operator's own access reaches.
const ALL: &str = "*";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GithubConfig {
    /// Where people look, such as `https://github.com`.
    pub url: String,
    /// `None`: at an address whose requests nobody reads, such as plain HTTP.
    pub site: Option<Site>,
    pub source: Option<TokenSource>,
    /// Those that may be asked for.
    pub repositories: Vec<Repositories>,
    /// Whether everybody may, or administrators alone.
    pub everyone: bool,
}

/// What tokens are had of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// One of the operator's, for all.
    Token(Secret),
    App {
        id: String,
        key: AppKey,
    },
}

/// An App's private key, in DER (PKCS #1).
#[derive(Clone, PartialEq, Eq)]
pub struct AppKey(Vec<u8>);

impl AppKey {
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Without what is secret.
impl std::fmt::Debug for AppKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AppKey")
    }
}

impl Default for GithubConfig {
    fn default() -> Self {
        Self { url: GITHUB.to_owned(), site: Some(Site::Public), source: None, repositories: all(), everyone: false }
    }
}

impl GithubConfig {
    /// Whether workspaces may be given anything there.
    pub fn is_offered(&self) -> bool {
        self.source.is_some() && self.site.is_some()
    }

    /// Where its API is asked.
    pub fn api(&self) -> String {
        match self.site {
            Some(Site::Public) => GITHUB_API.to_owned(),
            _ => format!("{}/api/v3", self.url),
        }
    }
}

fn all() -> Vec<Repositories> {
    ALL.parse().into_iter().collect()
}

pub(super) fn take(reader: &mut Reader) -> GithubConfig {
    let url = url(reader);
    let site = match url.as_str() {
        GITHUB => Some(Site::Public),
        // At another port, or without TLS, nothing is put in.
        other => other.strip_prefix("https://").and_then(|host| match host.parse() {
            Ok(Host::Name(name)) => Some(Site::Own(name)),
            _ => None,
        }),
    };
    let source = source(reader);
    if source.is_some() && site.is_none() {
        let why = "must be https:// and a host's name alone where workspaces are to use repositories there";
        reader.fault("REXEC_GITHUB_URL", why);
    }
    let repositories = reader.text(&["REXEC_GITHUB_REPOSITORIES"]).map_or_else(all, |(name, text)| {
        let words = text.split([',', ' ', '\n']).filter(|word| !word.is_empty());
        let mut repositories = Vec::new();
        for word in words {
            match word.parse() {
                Ok(one) => repositories.push(one),
                Err(error) => {
                    reader.fault(&name, &format!("must be repositories such as `acme/app,acme-labs/*`, and {error}"));
                }
            }
        }
        repositories
    });
    let everyone = match reader.text(&["REXEC_GITHUB_FOR"]) {
        None => false,
        Some((_, text)) if text.eq_ignore_ascii_case("administrators") => false,
        Some((_, text)) if text.eq_ignore_ascii_case("everyone") => true,
        Some((name, _)) => {
            reader.fault(&name, "must be `administrators` or `everyone`");
            false
        }
    };
    if matches!(source, Some(TokenSource::Token(_))) && repositories.iter().any(Repositories::is_all) {
        let who = if everyone { "Everybody" } else { "Administrators" };
        reader.notice(format!(
            "{who} may have workspaces do at GitHub what GITHUB_TOKEN may; REXEC_GITHUB_REPOSITORIES bounds that, and a GitHub \
             App (REXEC_GITHUB_APP_ID) gives each workspace tokens of its own."
        ));
    }
    GithubConfig { url, site, source, repositories, everyone }
}

fn url(reader: &mut Reader) -> String {
    let Some((name, text)) = reader.text(&["REXEC_GITHUB_URL"]) else {
        return GITHUB.to_owned();
    };
    let url = text.trim_end_matches('/');
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if host.is_none_or(|host| host.is_empty() || host.contains(['@', '?', '#', ' '])) {
        reader.fault(&name, "must be an address such as `https://github.example.com`");
    }
    match url.to_ascii_lowercase().as_str() {
        GITHUB | "https://www.github.com" => GITHUB.to_owned(),
        _ => url.to_owned(),
    }
}

fn source(reader: &mut Reader) -> Option<TokenSource> {
    let (token, id, key) =
        (reader.text(&["GITHUB_TOKEN"]), reader.text(&["REXEC_GITHUB_APP_ID"]), reader.text(&["REXEC_GITHUB_APP_KEY"]));
    match (id, key) {
        (Some((id_name, id)), Some((key_name, key))) => {
            if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
                reader.fault(&id_name, "must be the App's id, a number, or its client id, such as `Iv23liABCDEF`");
            }
            let key = app_key(&key).inspect_err(|why| reader.fault(&key_name, why)).ok()?;
            if token.is_some() {
                reader.notice("GITHUB_TOKEN is accepted and not used: REXEC_GITHUB_APP_ID is stronger.".into());
            }
            Some(TokenSource::App { id, key })
        }
        (Some((name, _)), None) => {
            reader.fault(&name, "is of no use without REXEC_GITHUB_APP_KEY, the private key that GitHub gave for it");
            None
        }
        (None, Some((name, _))) => {
            reader.fault(&name, "is of no use without REXEC_GITHUB_APP_ID");
            None
        }
        (None, None) => {
            let (name, token) = token?;
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                reader.fault(&name, "must be a token of visible ASCII characters, without spaces");
                return None;
            }
            Some(TokenSource::Token(Secret::new(token)))
        }
    }
}

/// In PEM (line feeds may be written as `\n`), the same in base64, or a file with it.
fn app_key(text: &str) -> Result<AppKey, &'static str> {
    let how =
        "must be the private key that GitHub gave, in PEM (line feeds as \\n), that in base64, or the path of its file";
    let pem = match text {
        path if path.starts_with('/') => {
            std::fs::read_to_string(path).map_err(|_| "must be a file that this server may read")?
        }
        pem if pem.starts_with(PEM) => pem.replace("\\n", "\n"),
        coded => {
            let packed: String = coded.split_whitespace().collect();
            let bytes = BASE64_STANDARD.decode(packed).map_err(|_| how)?;
            String::from_utf8(bytes).map_err(|_| how)?
        }
    };
    if pem.contains("-----BEGIN PRIVATE KEY-----") {
        return Err("must begin with -----BEGIN RSA PRIVATE KEY-----, as GitHub gave it; \
                    `openssl rsa -in FILE -traditional` makes that of another form");
    }
    let key = PrivatePkcs1KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| how)?;
    Ok(AppKey(key.secret_pkcs1_der().to_vec()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Config, ConfigError, Sources};
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = [("REXEC_DATA_DIR", "/tmp/x")].iter().chain(variables).copied();
        Config::from_sources(&Sources::from_env(variables))
    }

    fn github(variables: &[(&str, &str)]) -> GithubConfig {
        of(variables).unwrap().egress.github
    }

    #[test]
    fn a_token_or_an_app_lets_workspaces_in() {
        assert_eq!(github(&[]), GithubConfig::default());
        assert!(!github(&[]).is_offered());
        let token = github(&[("GITHUB_TOKEN", "ghp_a")]);
        assert_eq!(token.source, Some(TokenSource::Token(Secret::new("ghp_a"))));
        assert!(token.is_offered() && !token.everyone && token.api() == "https://api.github.com");
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let (lines, packed) = (pem.replace('\n', "\\n"), BASE64_STANDARD.encode(pem));
        for key in [pem, &lines, &packed] {
            let app = github(&[
                ("GITHUB_TOKEN", "ghp_a"),
                ("REXEC_GITHUB_APP_ID", "12345"),
                ("REXEC_GITHUB_APP_KEY", key),
                ("REXEC_GITHUB_URL", "https://code.example.com/"),
                ("REXEC_GITHUB_REPOSITORIES", "acme/app, acme-labs/*"),
                ("REXEC_GITHUB_FOR", "Everyone"),
            ]);
            let key = AppKey(vec![0; 3]);
            assert_eq!(app.source, Some(TokenSource::App { id: "12345".into(), key }));
            assert!(app.is_offered() && app.everyone && app.api() == "https://code.example.com/api/v3");
            assert_eq!(app.repositories.len(), 2);
            assert_eq!(app.site, Some(Site::Own("code.example.com".parse().unwrap())));
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_name_and_without_the_key() {
        let pkcs8 = "-----BEGIN PRIVATE KEY-----\\nZ2VoZWlt\\n-----END PRIVATE KEY-----";
        for (variables, name) in [
            (&[("GITHUB_TOKEN", "geheim 1")][..], "GITHUB_TOKEN"),
            (&[("GITHUB_TOKEN", "geheim"), ("REXEC_GITHUB_URL", "http://127.0.0.1:80")], "REXEC_GITHUB_URL"),
            (&[("REXEC_GITHUB_APP_ID", "1")], "REXEC_GITHUB_APP_ID"),
            (&[("REXEC_GITHUB_APP_KEY", "geheim")], "REXEC_GITHUB_APP_KEY"),
            (&[("REXEC_GITHUB_APP_ID", "1"), ("REXEC_GITHUB_APP_KEY", "geheim")], "REXEC_GITHUB_APP_KEY"),
            (&[("REXEC_GITHUB_APP_ID", "1"), ("REXEC_GITHUB_APP_KEY", pkcs8)], "REXEC_GITHUB_APP_KEY"),
            (&[("REXEC_GITHUB_APP_ID", "1"), ("REXEC_GITHUB_APP_KEY", "/nowhere")], "REXEC_GITHUB_APP_KEY"),
            (&[("REXEC_GITHUB_REPOSITORIES", "acme")], "REXEC_GITHUB_REPOSITORIES"),
            (&[("REXEC_GITHUB_FOR", "me")], "REXEC_GITHUB_FOR"),
        ] {
            let faults = of(variables).unwrap_err().to_string();
            assert!(faults.contains(name) && !faults.contains("geheim"), "{faults}");
        }
    }
}
