//! `token ls|new|rm`.

use crate::connection::{Connection, named};
use crate::failure::{Failure, Result};
use crate::show::{self, Cell, Table, Tint, age};
use rexec_api::tokens::{NewToken, Scope};

#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// List your API tokens.
    Ls,
    /// Make one; it is printed once.
    New {
        /// Where it is to be used, for people.
        name: String,
        /// What it may do, such as `workspaces:read`; may be given several times.
        #[arg(long = "scope", value_name = "SCOPE", default_value = "all", value_parser = scope)]
        scopes: Vec<Scope>,
        /// Days until it runs out; when absent never, or with the token that makes it.
        #[arg(long, value_name = "DAYS")]
        days: Option<u32>,
        /// The only workspaces that it reaches; may be given several times.
        #[arg(long = "workspace", value_name = "WORKSPACE")]
        workspaces: Vec<String>,
    },
    /// Revoke one.
    Rm {
        /// Its id or name.
        #[arg(value_name = "TOKEN")]
        named: String,
    },
}

fn scope(text: &str) -> std::result::Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| {
        let all: Vec<_> = Scope::EVERY.iter().map(|scope| scope.as_str()).collect();
        format!("there is no such scope; those there are: {}", all.join(", "))
    })
}

pub async fn run(connection: &Connection, command: TokenCommand) -> Result<()> {
    let client = connection.client()?;
    match command {
        TokenCommand::Ls => {
            let tokens = client.tokens().await?.items;
            if connection.json {
                return show::json(&tokens);
            }
            let mut table = Table::new(&["ID", "NAME", "SCOPES", "REACHES", "BEGINS", "USED", "EXPIRES"]);
            for token in tokens {
                let scopes: Vec<_> = token.scopes.iter().map(|scope| scope.as_str()).collect();
                let used = token.last_used_at.as_deref().map_or("never".into(), |time| format!("{} ago", age(time)));
                let ends = match (token.expired, token.expires_at) {
                    (true, _) => Cell::new("expired", Tint::Bad),
                    (false, None) => "never".into(),
                    (false, Some(time)) => time.into(),
                };
                let reaches = match token.workspaces.as_deref().map(<[_]>::len) {
                    None => "all workspaces".to_owned(),
                    Some(1) => "1 workspace".to_owned(),
                    Some(count) => format!("{count} workspaces"),
                };
                let name = if token.current { format!("{} (this one)", token.name) } else { token.name };
                table.row(vec![
                    token.id.to_string().into(),
                    name.into(),
                    scopes.join(" ").into(),
                    reaches.into(),
                    token.hint.into(),
                    used.into(),
                    ends,
                ]);
            }
            table.print()
        }
        TokenCommand::New { name, scopes, days, workspaces } => {
            let mut ids = Vec::new();
            for word in &workspaces {
                ids.push(crate::connection::workspace(&client, word).await?.id);
            }
            let workspaces = Some(ids).filter(|ids| !ids.is_empty());
            let made = client.create_token(&NewToken { name, scopes, expires_in_days: days, workspaces }).await?;
            if connection.json {
                return show::json(&made);
            }
            eprintln!("Keep it now: it is not shown again.");
            show::print(&format!("{}\n", made.token))
        }
        TokenCommand::Rm { named: word } => {
            let all = client.tokens().await?.items;
            let token = named(all, &word, |one| (one.id.to_string(), &one.name), "token", "rexec token ls")?;
            client.revoke_token(token.id).await.map_err(Failure::from)
        }
    }
}
