//! Secrets of users, which their workspaces use without having them.
//!
//! ```text
//!   PUT /api/secrets/NAME -> sealed in the database -+-> `inside`: NAME=<placeholder> and an authority, to the guest
//!   egress.secrets: [NAME] of a workspace -----------+-> `bound`:  placeholder, value, hosts, headers, to its gateway
//! ```
//!
//! A workspace that is given one is behind its host's gateway. Invariant: a value can be written and never read back, by
//! nobody; it is in the database encrypted, in the gateway's memory, and in requests to the hosts that it is bound to.

pub mod http;
pub mod inside;
mod known;
mod shape;
pub(crate) mod store;

use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::time::{now_ms, rfc3339};
use crate::workspaces::Workspaces;
use ::http::HeaderName;
use inside::Vault;
use rexec_api::Page;
use rexec_api::error::ErrorCode;
use rexec_api::secrets::{
    HEADERS, HEADERS_MAX, HOSTS_MAX, NAME_CHARS_MAX, PutSecret, SECRETS_MAX, SecretView, VALUE_BYTES_MAX,
    VALUE_BYTES_MIN,
};
use rexec_api::tokens::Scope;
use rexec_egress::rule::{Ports, Rule, To};
use serde_json::json;
use store::Stored;

const HTTPS_PORT: u16 = 443;
const HTTP_PORT: u16 = 80;
/// What frames a request, or says who asks: nothing is put in there.
const NOT_HEADERS: [&str; 10] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "proxy-authorization",
    "expect",
    "content-type",
];

/// Variables that are somebody else's.
const NOT_NAMES: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "SHELL",
    "PWD",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
];
const NOT_BEGINNINGS: [&str; 5] = ["LD_", "HTTP_", "HTTPS_", "REXEC_", "GIT_CONFIG_"];

#[derive(Clone)]
pub struct Secrets {
    vault: Vault,
    workspaces: Workspaces,
}

impl Secrets {
    pub fn new(vault: Vault, workspaces: Workspaces) -> Self {
        Self { vault, workspaces }
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.vault
    }

    pub async fn list(&self, actor: &Actor) -> Result<Page<SecretView>> {
        actor.authorise(Scope::Account)?;
        let all = store::list(self.vault.db.read(), actor.user).await?;
        Ok(Page { items: all.iter().map(view).collect(), next: None })
    }

    /// Stores one, or changes what is said. Workspaces that have it use it as it is now; `true`: there was none.
    pub async fn put(&self, actor: &Actor, name: &str, put: PutSecret) -> Result<(SecretView, bool)> {
        actor.authorise(Scope::Account)?;
        require_name(name)?;
        let hosts = put.hosts.map(hosts).transpose()?;
        let headers = put.headers.map(headers).transpose()?;
        let value = put.value.map(|value| self.sealed(actor, name, value)).transpose()?;
        let now = now_ms();
        let tx = self.vault.db.begin().await?;
        store::lock(&tx, actor.user).await?;
        let before = store::find(&tx, actor.user, name).await?;
        let is_new = before.is_none();
        let mut secret = match before {
            Some(before) => before,
            None => {
                let count = store::list(&tx, actor.user).await?.len();
                if count >= SECRETS_MAX as usize {
                    let message = format!("You have {SECRETS_MAX} secrets already. Delete some first.");
                    let details = json!({ "quota": "secrets", "used": count, "max": SECRETS_MAX });
                    return Err(Error::new(ErrorCode::QuotaExceeded, message).details(details));
                }
                if value.is_none() {
                    return Err(Error::field("value", "A new secret needs a `value`."));
                }
                Stored {
                    owner: actor.user,
                    name: name.to_owned(),
                    value_sealed: String::new(),
                    shape: String::new(),
                    hosts: hosts.clone().or_else(|| known::hosts(name)).ok_or_else(|| {
                        let message = "`hosts` must say where it may be sent, such as `api.example.com`: this name is not \
                                       one that is widely known.";
                        Error::field("hosts", message)
                    })?,
                    headers: HEADERS.map(str::to_owned).into(),
                    created_ms: now,
                    value_set_ms: now,
                    used_ms: None,
                }
            }
        };
        if let Some((sealed, shape)) = value {
            // Programs that run go on with the placeholder that they know.
            if is_new || !shape::is_alike(&secret.shape, &shape) {
                secret.shape = shape;
            }
            (secret.value_sealed, secret.value_set_ms) = (sealed, now);
        }
        secret.hosts = hosts.unwrap_or(secret.hosts);
        secret.headers = headers.unwrap_or(secret.headers);
        store::put(&tx, &secret).await?;
        let stored = NewEvent::of_user(actor.user, "secret.stored");
        events::append(&tx, &stored.data(json!({ "name": name, "hosts": secret.hosts }))).await?;
        tx.commit().await?;
        self.tell(actor, name).await?;
        Ok((view(&secret), is_new))
    }

    /// Gateways forget it; inside its placeholder is worth nothing.
    pub async fn remove(&self, actor: &Actor, name: &str) -> Result<()> {
        actor.authorise(Scope::Account)?;
        let tx = self.vault.db.begin().await?;
        store::lock(&tx, actor.user).await?;
        if !store::remove(&tx, actor.user, name).await? {
            return Err(Error::not_found("secret"));
        }
        events::append(&tx, &NewEvent::of_user(actor.user, "secret.deleted").data(json!({ "name": name }))).await?;
        tx.commit().await?;
        self.tell(actor, name).await
    }

    /// Has gateways and guests be told. After the change, and not with it: a workspace that is given the secret at this moment
    /// is seen, or sees the change itself.
    async fn tell(&self, actor: &Actor, name: &str) -> Result<()> {
        let tx = self.vault.db.begin().await?;
        let told = store::changed(&tx, actor.user, name).await?;
        tx.commit().await?;
        told.into_iter().for_each(|id| self.workspaces.nudge(id));
        Ok(())
    }

    /// And its shape.
    fn sealed(&self, actor: &Actor, name: &str, value: String) -> Result<(String, String)> {
        // What a header's value may hold (RFC 9110, section 5.5), but for spaces, which are none of a key's.
        let is_key =
            (VALUE_BYTES_MIN..=VALUE_BYTES_MAX).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic());
        let Some(shape) = Some(&value).filter(|_| is_key).and_then(|value| shape::of(value)) else {
            let message = format!(
                "`value` must have {VALUE_BYTES_MIN} to {VALUE_BYTES_MAX} visible ASCII characters, {} of them letters or \
                 digits: what stands for a shorter one could be guessed. Put that into the workspace's environment, where \
                 whoever has the workspace can read it.",
                shape::EXCHANGED_MIN
            );
            return Err(Error::field("value", message));
        };
        Ok((self.vault.seal(actor.user, name, value).map_err(Error::internal)?, shape))
    }
}

/// A variable's, which programs of every kind can read, and none that a shell or a loader lives by.
pub(crate) fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    let is_of_others = NOT_NAMES.contains(&name) || NOT_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    !is_of_others
        && chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && name.len() <= NAME_CHARS_MAX
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn require_name(name: &str) -> Result<()> {
    match is_name(name) {
        true => Ok(()),
        false => Err(Error::field(
            "name",
            format!(
                "A secret's name is that of a variable: letters, digits and `_`, no digit first, {NAME_CHARS_MAX} at most, \
                 such as `OPENAI_API_KEY`, and none that shells, loaders or proxies live by."
            ),
        )),
    }
}

/// As they are kept: each once, with its port.
fn hosts(asked: Vec<String>) -> Result<Vec<String>> {
    let bad = |host: &str, why: &str| {
        let message = format!("`hosts` has {host:?}, which {why}; write `api.example.com`, `*.example.com:8443`.");
        Error::field("hosts", message)
    };
    if asked.is_empty() || asked.len() > HOSTS_MAX {
        return Err(Error::field("hosts", format!("`hosts` must name 1 to {HOSTS_MAX} hosts.")));
    }
    let mut all = Vec::new();
    for text in asked {
        let mut rule: Rule = text.trim().parse().map_err(|error: rexec_egress::rule::BadRule| bad(&text, error.why))?;
        match (&rule.to, rule.ports) {
            (To::AnyName, _) => return Err(bad(&text, "is every host")),
            (To::Range(_), _) => return Err(bad(&text, "is no name")),
            // A suffix that anybody may have a name below is nobody's.
            (To::Below(suffix), _) if !suffix.as_str().contains('.') => return Err(bad(&text, "is everybody's")),
            (_, Ports::Web) => rule.ports = Ports::Between(HTTPS_PORT, HTTPS_PORT),
            (_, Ports::Between(HTTP_PORT, HTTP_PORT)) => return Err(bad(&text, "is not encrypted")),
            _ => {}
        }
        let printed = rule.to_string();
        if !all.contains(&printed) {
            all.push(printed);
        }
    }
    Ok(all)
}

fn headers(asked: Vec<String>) -> Result<Vec<String>> {
    if asked.is_empty() || asked.len() > HEADERS_MAX {
        return Err(Error::field("headers", format!("`headers` must name 1 to {HEADERS_MAX} headers.")));
    }
    let mut all = Vec::new();
    for text in asked {
        let name = text.trim().to_ascii_lowercase();
        if HeaderName::from_bytes(name.as_bytes()).is_err() || NOT_HEADERS.contains(&name.as_str()) {
            let message = format!("`headers` has {text:?}, which is no header for a secret; write `authorization`.");
            return Err(Error::field("headers", message));
        }
        if !all.contains(&name) {
            all.push(name);
        }
    }
    Ok(all)
}

fn view(secret: &Stored) -> SecretView {
    SecretView {
        name: secret.name.clone(),
        hosts: secret.hosts.clone(),
        headers: secret.headers.clone(),
        created_at: rfc3339(secret.created_ms),
        value_set_at: rfc3339(secret.value_set_ms),
        used_at: secret.used_ms.map(rfc3339),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_secret_may_be_bound_to() {
        let of = |texts: &[&str]| hosts(texts.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(of(&[" API.Example.com ", "api.example.com:443"]).unwrap(), ["api.example.com:443"]);
        assert_eq!(of(&["*.example.com:8443"]).unwrap(), ["*.example.com:8443"]);
        for bad in ["*", "10.0.0.1", "10.0.0.0/8", "*.com", "a.example:80", "https://a.example", ""] {
            assert_eq!(of(&[bad]).unwrap_err().details["field"], "hosts", "{bad}");
        }
        assert!(of(&[]).is_err() && of(&["a.example"; HOSTS_MAX + 1]).is_err());
        let of = |texts: &[&str]| headers(texts.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(of(&["X-Api-Key", "x-api-key"]).unwrap(), ["x-api-key"]);
        for bad in ["Host", "a b", "", "content-length"] {
            assert!(of(&[bad]).is_err(), "{bad}");
        }
        assert!(
            is_name("OPENAI_API_KEY")
                && is_name("_x")
                && !is_name("1A")
                && !is_name("A-B")
                && !is_name("")
                && !is_name("LD_PRELOAD")
                && !is_name("PATH")
        );
    }
}
