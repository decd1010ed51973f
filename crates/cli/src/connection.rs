//! The server that a command speaks to, signed in, and the workspaces that its words mean.

use crate::failure::{Failure, Result};
use crate::logins::Logins;
use rexec_api::workspaces::WorkspaceView;
use rexec_client::{Client, ClientError};

/// A server on this machine, as `make run` starts it.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Options of every command that speaks to a server.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// The server; the one signed in to last when absent.
    #[arg(long, global = true, env = "REXEC_URL", value_name = "ADDRESS")]
    url: Option<String>,
    /// An API token to use instead of a sign-in.
    #[arg(long, global = true, env = "REXEC_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Connection {
    /// Whether the server was named, by option or variable.
    pub fn names_server(&self) -> bool {
        self.url.is_some()
    }

    /// Where to sign in when nothing is known yet.
    pub fn url_or_default(&self, named: Option<String>) -> Result<String> {
        let url = named.or_else(|| self.url.clone());
        Ok(match url {
            Some(url) => address(&url)?,
            None => Logins::load()?.current.unwrap_or_else(|| DEFAULT_URL.into()),
        })
    }

    /// A token that was given for this command alone.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// A client that is signed in, as far as is known here.
    pub fn client(&self) -> Result<Client> {
        let logins = Logins::load()?;
        let url = match &self.url {
            Some(url) => address(url)?,
            None => match (&logins.current, &self.token) {
                (Some(url), _) => url.clone(),
                (None, Some(_)) => DEFAULT_URL.into(),
                (None, None) => {
                    let message = "You are not signed in. Sign in with `rexec login ADDRESS`, or set REXEC_TOKEN to an API token.";
                    return Err(Failure::SignedOut(message.into()));
                }
            },
        };
        let token = match &self.token {
            Some(token) => checked(token)?,
            None => match logins.servers.get(&url) {
                Some(login) => login.token.clone(),
                None => {
                    let advice = format!("Sign in with `rexec login {url}`, or set REXEC_TOKEN to an API token.");
                    return Err(Failure::SignedOut(format!("You are not signed in to {url}. {advice}")));
                }
            },
        };
        Ok(Client::new(url)?.with_token(token))
    }

    /// A client that is signed in to this server, whichever others there are.
    pub fn client_of(&self, url: &str) -> Result<Client> {
        Self { url: Some(url.to_owned()), ..self.clone() }.client()
    }
}

/// A token as it was given: an API token's typing error is told without asking anybody.
pub fn checked(token: &str) -> Result<String> {
    let token = token.trim();
    if token.is_empty() || token.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Failure::Usage("The token is empty, or more than one word.".into()));
    }
    if token.starts_with(rexec_api::tokens::PREFIX) && !rexec_api::tokens::is_well_formed(token) {
        return Err(Failure::Usage("The token has a typing error, or is not whole: its checksum does not fit.".into()));
    }
    Ok(token.to_owned())
}

/// An address as it is stored: with its scheme, without a path or a trailing slash.
fn address(text: &str) -> Result<String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let parsed: http::Uri = whole.parse().map_err(|_| not_an_address(text))?;
    let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
        return Err(not_an_address(text));
    };
    if !matches!(scheme, "http" | "https") || !matches!(parsed.path(), "" | "/") || parsed.query().is_some() {
        return Err(not_an_address(text));
    }
    if authority.as_str().contains('@') {
        return Err(Failure::Usage("Leave user and password out of the address.".into()));
    }
    Ok(format!("{scheme}://{authority}"))
}

fn not_an_address(text: &str) -> Failure {
    Failure::Usage(format!("{text:?} is no server's address, such as https://rexec.example.org."))
}

/// All workspaces, the newest first as the server lists them.
pub async fn workspaces(client: &Client) -> Result<Vec<WorkspaceView>> {
    Ok(client.every("/api/workspaces").await?)
}

/// The workspace that a word means: its name, its id, or the beginning of its id if that is one's alone.
pub async fn workspace(client: &Client, word: &str) -> Result<WorkspaceView> {
    if let Ok(id) = word.parse() {
        return client.workspace(id).await.map_err(|error| match error {
            ClientError::Refused(refused) if refused.code.http_status() == 404 => unknown(word),
            error => error.into(),
        });
    }
    choose(workspaces(client).await?, word)
}

fn unknown(word: &str) -> Failure {
    Failure::NotFound(format!("There is no workspace {word:?}. `rexec ls` lists those there are."))
}

fn choose(all: Vec<WorkspaceView>, word: &str) -> Result<WorkspaceView> {
    let fits = |by_name: bool| {
        let fits = move |w: &&WorkspaceView| if by_name { w.name == word } else { w.id.to_string().starts_with(word) };
        all.iter().filter(fits).collect::<Vec<_>>()
    };
    let found = match fits(true) {
        none if none.is_empty() && !word.is_empty() => fits(false),
        named => named,
    };
    match found.as_slice() {
        [] => Err(unknown(word)),
        [one] => Ok((*one).clone()),
        several => {
            let names: Vec<_> = several.iter().map(|w| format!("  {}  {}", w.id, w.name)).collect();
            Err(Failure::NotFound(format!("{word:?} means several; name one by its id:\n{}", names.join("\n"))))
        }
    }
}

/// The one that a word means by its id or by the whole of its name. `of` gives both; `noun` and `listed_by` are for people.
pub fn named<T>(all: Vec<T>, word: &str, of: impl Fn(&T) -> (String, &str), noun: &str, listed_by: &str) -> Result<T> {
    let fits = |one: &T| {
        let (id, name) = of(one);
        id == word || name == word
    };
    let mut found: Vec<T> = all.into_iter().filter(fits).collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => {
            Err(Failure::NotFound(format!("There is no {noun} {word:?}. `{listed_by}` lists those there are.")))
        }
        (Some(last), false) => {
            found.push(last);
            let ids: Vec<_> = found.iter().map(|one| format!("  {}", of(one).0)).collect();
            let message = format!("Several are called {word:?}; name one by its id:\n{}", ids.join("\n"));
            Err(Failure::NotFound(message))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_in_one_form() {
        for (given, kept) in [
            ("https://rexec.example.org/", "https://rexec.example.org"),
            ("rexec.example.org", "https://rexec.example.org"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ] {
            assert_eq!(address(given).unwrap(), kept);
        }
        for bad in ["", "ftp://a", "https://a/b", "https://u:p@a", "https://a?b", "https://"] {
            assert!(matches!(address(bad), Err(Failure::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn a_name_means_one_thing_or_nothing() {
        let all = vec![("1", "a"), ("2", "b"), ("3", "b")];
        let find = |word: &str| named(all.clone(), word, |one| (one.0.into(), one.1), "thing", "rexec thing ls");
        assert_eq!((find("a").unwrap(), find("3").unwrap()), (("1", "a"), ("3", "b")));
        let told = |word: &str| find(word).unwrap_err().to_string();
        assert!(told("b").contains("  2\n  3") && told("c").contains("`rexec thing ls`"), "{}", told("b"));
    }

    #[test]
    fn a_damaged_token_is_told_at_once() {
        let token = rexec_api::tokens::encode([7; 32]);
        assert_eq!(checked(&format!(" {token}\n")).unwrap(), token);
        assert_eq!(checked("eyJ.a.b").unwrap(), "eyJ.a.b");
        for bad in ["", "a b", &token[..token.len() - 1]] {
            assert!(matches!(checked(bad), Err(Failure::Usage(_))), "{bad}");
        }
    }
}
