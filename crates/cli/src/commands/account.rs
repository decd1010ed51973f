//! `login`, `logout`, `whoami`.

use super::device_login;
use crate::connection::{Connection, checked};
use crate::failure::{Failure, Result};
use crate::logins::{Login, Logins};
use crate::{show, tty};
use rexec_api::accounts::{Role, UserView};
use rexec_api::device::{CLIENT_NAME_CHARS_MAX, LOGIN_DAYS};
use rexec_api::tokens::{NewToken, Scope};
use rexec_client::{Client, ClientError};

#[derive(Debug, clap::Args)]
pub struct LoginArguments {
    /// The server; this machine's own when absent.
    address: Option<String>,
    /// Sign in with this account's password instead of a browser.
    #[arg(long)]
    email: Option<String>,
    /// Read the password from standard input; the e-mail is asked for when absent.
    #[arg(long, conflicts_with = "token_stdin")]
    password_stdin: bool,
    /// Read an API token from standard input instead.
    #[arg(long, conflicts_with = "email")]
    token_stdin: bool,
    /// Open no browser by itself; any other will do.
    #[arg(long, conflicts_with_all = ["email", "password_stdin", "token_stdin"])]
    no_browser: bool,
}

/// By a browser unless another way is named. What is kept is an API token of this machine's own, which the page lists
/// and revokes.
pub async fn login(connection: &Connection, arguments: LoginArguments) -> Result<()> {
    let url = connection.url_or_default(arguments.address)?;
    let client = Client::new(&url)?;
    let (token, user) = if arguments.token_stdin {
        let token = checked(&tty::line()?)?;
        let user = client.with_token(&token).me().await?;
        (token, user)
    } else if arguments.email.is_some() || arguments.password_stdin {
        by_password(&client, arguments.email, arguments.password_stdin).await?
    } else {
        let granted = device_login::sign_in(&client, &client_name(), !arguments.no_browser).await?;
        (granted.access_token, granted.user)
    };
    let mut logins = Logins::load()?;
    logins.current = Some(url.clone());
    logins.servers.insert(url.clone(), Login { email: user.email.clone(), token });
    logins.store()?;
    if connection.json { show::json(&user) } else { show::print(&format!("Signed in to {url} as {}.\n", user.email)) }
}

/// The password itself is not kept.
async fn by_password(client: &Client, email: Option<String>, from_stdin: bool) -> Result<(String, UserView)> {
    let url = client.base();
    if client.auth_status().await?.first_account {
        return Err(Failure::Other(format!("{url} has no account yet. Open it in a browser and make the first one.")));
    }
    let email = match email {
        Some(email) => email,
        None => tty::ask(&format!("E-mail at {url}: "))?,
    };
    let password = if from_stdin { tty::line()? } else { tty::ask_secret("Password: ")? };
    let (session, user) = client.log_in(email.trim(), &password).await?;
    let (name, expires_in_days) = (client_name(), Some(LOGIN_DAYS));
    let made =
        session.create_token(&NewToken { name, scopes: vec![Scope::All], expires_in_days, workspaces: None }).await;
    // The session was only the way to the token.
    let ended = session.log_out().await;
    let made = made?;
    ended?;
    Ok((made.token, user))
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

/// What the token is called: by this machine's name.
fn client_name() -> String {
    let name = format!("rexec on {}", rustix::system::uname().nodename().to_string_lossy());
    name.chars().filter(|c| !c.is_control()).take(CLIENT_NAME_CHARS_MAX).collect()
}
