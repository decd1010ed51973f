//! A GitHub App of the operator's, as far as it makes tokens: for some repositories, with some permissions, for an hour.
//!
//! ```text
//!   RS256(id, key) -> GET  orgs|users/{owner}/installation           -> its number, and what its owner granted
//!                  -> POST app/installations/{n}/access_tokens       -> token, when it ends
//!   token          -> DELETE installation/token                      it is none any more
//! ```
//!
//! The formats are those of GitHub's REST API, version 2022-11-28 ("Authenticating as a GitHub App", "Apps"). What comes back is
//! bounded in time and size, never followed elsewhere, and its words are not passed on.

use crate::config::{AppKey, EgressConfig, GithubConfig};
use crate::time::now_ms;
use futures_util::StreamExt as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Certificate, Client, Method, Proxy, RequestBuilder, StatusCode, redirect};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::sync::OnceCell;

const PATIENCE: Duration = Duration::from_secs(10);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 1 << 20;
const VERSION: &str = "2022-11-28";
/// How long what we sign holds, and how far our clock may be ahead: ten minutes are the most that GitHub takes.
const SIGNED_S: i64 = 9 * 60;
const CLOCK_S: i64 = 60;
/// Of tokens whose end cannot be read: less than what they have.
const TOKEN_MS: i64 = 50 * 60 * 1000;

/// Asks GitHub. Its client is made when it is first needed.
pub struct Api {
    base: String,
    host: String,
    operator: EgressConfig,
    client: OnceCell<Client>,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// To fetch and to look.
    Reading,
    /// To push, and to look after pulls and issues.
    All,
    /// To push alone.
    Pushing,
    /// To look after pulls and issues; branches stay as they are.
    Talking,
}

/// One that GitHub gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub value: String,
    pub ends_ms: i64,
}

/// Why there is no token: a sentence for the owner of the workspace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    #[error(
        "The GitHub App is not installed at `{owner}`. Install it there, from the App's own page at {host}, and try again."
    )]
    NotInstalled { owner: String, host: String },
    #[error("The GitHub App's installation at `{0}` is suspended. Its owner may resume it.")]
    Suspended(String),
    #[error("The GitHub App was not granted access to contents of repositories at `{0}`. Its owner may grant it.")]
    NotGranted(String),
    #[error(
        "The GitHub App does not reach all of these repositories at `{0}`. Select them in its installation, or ask for fewer."
    )]
    NoRepository(String),
    #[error(
        "GitHub does not know the App: REXEC_GITHUB_APP_ID and REXEC_GITHUB_APP_KEY do not fit each other, or this server's clock is wrong."
    )]
    NoApp,
    #[error("GitHub cannot be reached from this server at the moment.")]
    Unreachable,
    #[error("GitHub answers with status {0} at the moment.")]
    Odd(u16),
}

impl NoToken {
    /// Whether it is about what was asked for; else it may be well the next time.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Self::Unreachable | Self::Odd(_))
    }
}

#[derive(Deserialize)]
struct Installation {
    id: u64,
    #[serde(default)]
    permissions: Map<String, Value>,
    #[serde(default)]
    suspended_at: Option<String>,
}

#[derive(Deserialize)]
struct Made {
    token: String,
    expires_at: String,
}

impl Api {
    pub fn new(config: &GithubConfig, operator: EgressConfig) -> Self {
        let host = config.url.trim_start_matches("https://").to_owned();
        Self { base: config.api(), host, operator, client: OnceCell::new() }
    }

    /// A token for these repositories of an owner, by their names; `None`: all that the App reaches there.
    pub async fn token(
        &self,
        (id, key): (&str, &AppKey),
        owner: &str,
        names: Option<&[String]>,
        what: For,
    ) -> Result<Token, NoToken> {
        let signed = signed(id, key).ok_or(NoToken::NoApp)?;
        let there = self.installation(&signed, owner).await?;
        if there.suspended_at.is_some() {
            return Err(NoToken::Suspended(owner.to_owned()));
        }
        let permissions = permissions(what, &there.permissions);
        if !permissions.contains_key("contents") {
            return Err(NoToken::NotGranted(owner.to_owned()));
        }
        let mut asked = json!({ "permissions": permissions });
        if let Some(names) = names {
            asked["repositories"] = json!(names);
        }
        let path = format!("app/installations/{}/access_tokens", there.id);
        let request = self.request(Method::POST, &path, &signed).await?;
        let (status, body) = answer(request.json(&asked)).await?;
        match status {
            StatusCode::CREATED => {}
            StatusCode::UNAUTHORIZED => return Err(NoToken::NoApp),
            StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY => {
                return Err(NoToken::NoRepository(owner.to_owned()));
            }
            other => return Err(NoToken::Odd(other.as_u16())),
        }
        let made: Made = serde_json::from_slice(&body).map_err(|_| NoToken::Odd(status.as_u16()))?;
        if made.token.is_empty() || !made.token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NoToken::Odd(status.as_u16()));
        }
        let ends = made.expires_at.parse().map(jiff::Timestamp::as_millisecond);
        Ok(Token { value: made.token, ends_ms: ends.unwrap_or_else(|_| now_ms() + TOKEN_MS) })
    }

    async fn installation(&self, signed: &str, owner: &str) -> Result<Installation, NoToken> {
        for kind in ["orgs", "users"] {
            let request = self.request(Method::GET, &format!("{kind}/{owner}/installation"), signed).await?;
            let (status, body) = answer(request).await?;
            match status {
                StatusCode::OK => return serde_json::from_slice(&body).map_err(|_| NoToken::Odd(status.as_u16())),
                StatusCode::NOT_FOUND => {}
                StatusCode::UNAUTHORIZED => return Err(NoToken::NoApp),
                other => return Err(NoToken::Odd(other.as_u16())),
            }
        }
        Err(NoToken::NotInstalled { owner: owner.to_owned(), host: self.host.clone() })
    }

    /// It is no token from now on, if GitHub hears of it: else within the hour.
    pub async fn revoke(&self, token: &str) {
        let Ok(request) = self.request(Method::DELETE, "installation/token", token).await else { return };
        if let Err(error) = answer(request).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a token of GitHub's ends by itself");
        }
    }

    async fn request(&self, method: Method, path: &str, token: &str) -> Result<RequestBuilder, NoToken> {
        let client = self.client.get_or_try_init(|| self.open()).await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "GitHub cannot be asked");
            NoToken::Unreachable
        })?;
        Ok(client
            .request(method, format!("{}/{path}", self.base))
            .header("Accept", "application/vnd.github+json")
            .header("X-GitHub-Api-Version", VERSION)
            .bearer_auth(token))
    }

    /// It leaves as gateways do, and trusts whom they trust.
    async fn open(&self) -> reqwest::Result<Client> {
        let mut client = Client::builder()
            .timeout(PATIENCE)
            .connect_timeout(CONNECT_PATIENCE)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("rexec/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &self.operator.authorities
            && let Ok(text) = tokio::fs::read(path).await
        {
            client = client.tls_certs_merge(Certificate::from_pem_bundle(&text)?);
        }
        client = match &self.operator.upstream {
            Some(upstream) => {
                let mut proxy = Proxy::all(format!("http://{}:{}", upstream.host, upstream.port))?;
                let authorization = upstream.authorization.as_ref().and_then(|secret| secret.expose().parse().ok());
                if let Some(authorization) = authorization {
                    proxy = proxy.custom_http_auth(authorization);
                }
                client.proxy(proxy)
            }
            None => client.no_proxy(),
        };
        client.build()
    }
}

/// What the App says that it is.
fn signed(id: &str, key: &AppKey) -> Option<String> {
    let now = now_ms() / 1000;
    let claims = json!({ "iat": now - CLOCK_S, "exp": now + SIGNED_S, "iss": id });
    let key = EncodingKey::from_rsa_der(key.expose());
    jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key)
        .inspect_err(|error| {
            tracing::error!(error = error as &dyn std::error::Error, "the GitHub App's key does not sign")
        })
        .ok()
}

/// Of what a token is to be for, as much as the App was granted: one that asks for more is refused whole.
fn permissions(what: For, granted: &Map<String, Value>) -> Map<String, Value> {
    let (contents, talk) = match what {
        For::Reading => ("read", Some("read")),
        For::All => ("write", Some("write")),
        For::Pushing => ("write", None),
        For::Talking => ("read", Some("write")),
    };
    let mut wanted = vec![("metadata", "read"), ("contents", contents)];
    if let Some(talk) = talk {
        wanted.extend([("pull_requests", talk), ("issues", talk)]);
        wanted.extend(["checks", "statuses", "actions"].map(|name| (name, "read")));
    }
    let as_granted = |(name, level): (&str, &str)| {
        let level = match granted.get(name)?.as_str()? {
            "read" => "read",
            "write" | "admin" => level,
            _ => return None,
        };
        Some((name.to_owned(), json!(level)))
    };
    wanted.into_iter().filter_map(as_granted).collect()
}

async fn answer(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), NoToken> {
    let lost = |error: reqwest::Error| {
        tracing::debug!(error = &error as &dyn std::error::Error, "GitHub does not answer");
        NoToken::Unreachable
    };
    let response = request.send().await.map_err(lost)?;
    let status = response.status();
    let (mut body, mut pieces) = (Vec::new(), response.bytes_stream());
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece.map_err(lost)?);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(NoToken::Odd(status.as_u16()));
        }
    }
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_what_it_is_for_and_no_more_than_the_app() {
        let all = |level: &str| {
            let names = ["metadata", "contents", "pull_requests", "issues", "administration", "workflows"];
            names.into_iter().map(|name| (name.to_owned(), json!(level))).collect::<Map<_, _>>()
        };
        let asked = |what, granted: &Map<String, Value>| Value::Object(permissions(what, granted));
        let full = all("write");
        let written = json!({ "metadata": "read", "contents": "write", "pull_requests": "write", "issues": "write" });
        assert_eq!(asked(For::All, &full), written, "settings and workflows are nobody's");
        let read = json!({ "metadata": "read", "contents": "read", "pull_requests": "read", "issues": "read" });
        assert_eq!([For::Reading, For::All].map(|what| asked(what, &all("read"))), [read.clone(), read.clone()]);
        assert_eq!(asked(For::Reading, &full), read);
        assert_eq!(asked(For::Pushing, &full), json!({ "metadata": "read", "contents": "write" }));
        let talking = json!({ "metadata": "read", "contents": "read", "pull_requests": "write", "issues": "write" });
        assert_eq!(asked(For::Talking, &full), talking);
        assert_eq!(asked(For::All, &Map::new()), json!({}));
    }
}
