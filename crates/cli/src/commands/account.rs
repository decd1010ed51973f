//! `login`, `logout`, `whoami`.

use crate::connection::{Connection, checked};
use crate::failure::{Failure, Result};
use crate::logins::{Login, Logins};
use crate::{show, tty};
use rexec_api::accounts::Role;
use rexec_api::tokens::{NewToken, Scope};
use rexec_client::{Client, ClientError};

/// How long a sign-in of the command line lasts.
const LOGIN_DAYS: u32 = 90;

#[derive(Debug, clap::Args)]
pub struct LoginArguments {
    /// The server; this machine's own when absent.
    address: Option<String>,
    /// Your account's e-mail address; asked for when absent.
    #[arg(long)]
    email: Option<String>,
    /// Read the password from standard input.
    #[arg(long, conflicts_with = "token_stdin")]
    password_stdin: bool,
    /// Read an API token from standard input instead of signing in with a password.
    #[arg(long, conflicts_with = "email")]
    token_stdin: bool,
}

/// A password makes an API token of this machine's own, which the page lists and revokes; it is not kept itself.
pub async fn login(connection: &Connection, arguments: LoginArguments) -> Result<()> {
    let url = connection.url_or_default(arguments.address)?;
    let client = Client::new(&url)?;
    let (token, user) = if arguments.token_stdin {
        let token = checked(&tty::line()?)?;
        let user = client.with_token(&token).me().await?;
        (token, user)
    } else {
        if client.auth_status().await?.first_account {
            return Err(Failure::Other(format!(
                "{url} has no account yet. Open it in a browser and make the first one."
            )));
        }
        let email = match arguments.email {
            Some(email) => email,
            None => tty::ask(&format!("E-mail at {url}: "))?,
        };
        let password = if arguments.password_stdin { tty::line()? } else { tty::ask_secret("Password: ")? };
        let (session, user) = client.log_in(email.trim(), &password).await?;
        let name = format!("rexec on {}", machine());
        let new = NewToken { name, scopes: vec![Scope::All], expires_in_days: Some(LOGIN_DAYS), workspaces: None };
        let made = session.create_token(&new).await;
        // The session was only the way to the token.
        let ended = session.log_out().await;
        let made = made?;
        ended?;
        (made.token, user)
    };
    let mut logins = Logins::load()?;
    logins.current = Some(url.clone());
    logins.servers.insert(url.clone(), Login { email: user.email.clone(), token });
    logins.store()?;
    if connection.json { show::json(&user) } else { show::print(&format!("Signed in to {url} as {}.\n", user.email)) }
}

/// Revokes the token and forgets it; one that the server no longer knows is only forgotten.
pub async fn logout(connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    let url = client.base().to_owned();
    let revoked = async {
        for token in client.tokens().await?.items {
            if token.current {
                client.revoke_token(token.id).await?;
            }
        }
        Ok::<_, ClientError>(())
    };
    let revoked = match revoked.await {
        Err(ClientError::Refused(refused)) if matches!(refused.code.http_status(), 401 | 403) => Ok(()),
        done => done,
    };
    let mut logins = Logins::load()?;
    logins.servers.remove(&url);
    if logins.current.as_deref() == Some(&url) {
        logins.current = None;
    }
    logins.store()?;
    if let Err(error) = revoked {
        return Err(Failure::Other(format!(
            "Forgotten here, but {url} could not be told ({error}). Revoke the token in the page, under Account."
        )));
    }
    show::print(&format!("Signed out of {url}.\n"))
}

pub async fn whoami(connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    let user = client.me().await?;
    if connection.json {
        return show::json(&user);
    }
    show::print(&format!(
        "{} at {} ({})\n",
        user.email,
        client.base(),
        match user.role {
            Role::Admin => "administrator",
            Role::User => "user",
        }
    ))
}

fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
