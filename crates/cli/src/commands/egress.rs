//! `egress`: what a workspace may reach outside, and what it did.

use super::github::{self as at_github, GithubArguments};
use crate::connection::{Connection, workspace};
use crate::failure::{Failure, Result};
use crate::show::{self, Cell, Table, Tint, age, size};
use rexec_api::egress::{EgressNetwork, EgressPreset, EgressSettings, EgressState, EgressView, LendRule};
use rexec_api::ids::WorkspaceId;
use rexec_client::Client;

#[derive(Debug, clap::Args)]
pub struct EgressArguments {
    /// Its name or id.
    workspace: String,
    /// `locked`: nothing but its rules; `balanced`: registries, code hosts and model vendors besides; `open`: the internet.
    #[arg(value_parser = preset)]
    preset: Option<EgressPreset>,
    /// Let it reach this, too: host, *.suffix or range, with ports after a colon; 80 and 443 without. May be given several
    /// times, as may the next two.
    #[arg(long, value_name = "RULE")]
    allow: Vec<String>,
    /// What --allow names only for so many minutes, a day at most.
    #[arg(long, value_name = "MINUTES", requires = "allow", conflicts_with_all = ["preset", "deny", "secrets", "models", "github", "forget"])]
    minutes: Option<u32>,
    /// Never let it reach this.
    #[arg(long, value_name = "RULE")]
    deny: Vec<String>,
    /// Let it use this secret of yours without having it.
    #[arg(long = "secret", value_name = "NAME")]
    secrets: Vec<String>,
    /// Whether it may ask the operator's language models; `rexec models` tells which there are.
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    models: Option<Switch>,
    #[command(flatten)]
    github: GithubArguments,
    /// Take this rule of its own, this secret, or this repository or branch at GitHub away.
    #[arg(long, value_name = "RULE")]
    forget: Vec<String>,
    /// Print what it asked for instead, the newest first.
    #[arg(long, conflicts_with_all = ["preset", "allow", "deny", "secrets", "models", "github", "forget"])]
    log: bool,
    /// Of that, what it was refused.
    #[arg(long, requires = "log")]
    denied: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

pub fn preset(text: &str) -> std::result::Result<EgressPreset, String> {
    EgressPreset::parse(text).ok_or_else(|| "it must be locked, balanced or open".into())
}

pub async fn run(connection: &Connection, arguments: EgressArguments) -> Result<()> {
    let client = connection.client()?;
    let id = workspace(&client, &arguments.workspace).await?.id;
    if arguments.log {
        return log(connection, &client, id, arguments.denied).await;
    }
    let mut view = client.egress(id).await?;
    if let Some(minutes) = arguments.minutes {
        for rule in arguments.allow {
            view = client.lend(id, &LendRule { rule, minutes }).await?;
        }
    } else if let Some(settings) = changed(&view, &arguments)? {
        view = client.set_egress(id, &settings).await?;
    }
    if connection.json { show::json(&view) } else { show::print(&told(&view)) }
}

/// `None`: nothing is asked for.
fn changed(view: &EgressView, arguments: &EgressArguments) -> Result<Option<EgressSettings>> {
    let EgressArguments { preset, allow, deny, secrets, models, github, forget, .. } = arguments;
    let is_nothing = [allow, deny, secrets, forget].iter().all(|list| list.is_empty());
    if preset.is_none() && models.is_none() && github.is_nothing() && is_nothing {
        return Ok(None);
    }
    let mut all = EgressSettings {
        preset: preset.unwrap_or(view.preset),
        allow: view.allow.clone(),
        deny: view.deny.clone(),
        lent: view.lent.clone(),
        secrets: view.secrets.clone(),
        models: models.map_or(view.models, |switch| switch == Switch::On),
        github: view.github.clone(),
    };
    for rule in forget {
        let count = |all: &EgressSettings| all.allow.len() + all.deny.len() + all.lent.len() + all.secrets.len();
        let before = count(&all);
        all.allow.retain(|own| own != rule);
        all.deny.retain(|own| own != rule);
        all.lent.retain(|lent| lent.rule != *rule);
        all.secrets.retain(|own| own != rule);
        let was_at_github = at_github::forget(&mut all.github, rule)?;
        if count(&all) == before && !was_at_github {
            return Err(Failure::Other(format!(
                "It has no rule, secret or repository {rule:?} of its own. `rexec egress` prints those that it has."
            )));
        }
    }
    all.allow.extend(allow.iter().cloned());
    all.deny.extend(deny.iter().cloned());
    all.secrets.extend(secrets.iter().cloned());
    all.github = github.added_to(all.github.as_ref())?;
    Ok(Some(all))
}

fn told(view: &EgressView) -> String {
    let network = match view.network {
        EgressNetwork::Closed => "behind its server's gateway",
        EgressNetwork::Open => "on the open network, where nothing is recorded",
    };
    let state = match view.state {
        EgressState::InForce => "in force",
        EgressState::Pending => "the gateway is being told",
        EgressState::NextStart => "FROM ITS NEXT START ON: restart it",
    };
    let mut text = format!("{}: {network}; {state}\n", view.preset.as_str());
    for (what, rules) in [
        ("allowed", &view.allow),
        ("denied", &view.deny),
        ("uses", &view.secrets),
        ("allowed by the server", &view.server_allow),
        ("denied by the server", &view.server_deny),
        ("its template needs", &view.template_allow),
    ] {
        if !rules.is_empty() {
            text.push_str(&format!("{what}: {}\n", show::plain(&rules.join(", "))));
        }
    }
    if view.models {
        text.push_str("models: may be asked for\n");
    }
    if let Some(access) = &view.github {
        text.push_str(&format!("uses at GitHub: {}\n", show::plain(&at_github::told(access))));
    }
    for lent in &view.lent {
        text.push_str(&format!("allowed until {}: {}\n", show::plain(&lent.until), show::plain(&lent.rule)));
    }
    if view.network == EgressNetwork::Closed {
        let totals = &view.totals;
        text.push_str(&format!(
            "so far: {} allowed, {} refused; {} sent, {} received\n",
            totals.allowed,
            totals.denied,
            size(totals.bytes_up),
            size(totals.bytes_down)
        ));
    }
    text
}

async fn log(connection: &Connection, client: &Client, id: WorkspaceId, denied: bool) -> Result<()> {
    let page = client.egress_log(id, denied).await?;
    if connection.json {
        return show::json(&page.items);
    }
    let mut table = Table::new(&["AGE", "HOW", "HOST", "PORT", "TIMES", "SENT", "RECEIVED", "WHY"]);
    for entry in page.items {
        let tint = if entry.allowed { Tint::Plain } else { Tint::Bad };
        table.row(vec![
            age(&entry.at).into(),
            entry.how.into(),
            Cell::new(show::plain(&entry.host), tint),
            entry.port.to_string().into(),
            entry.count.to_string().into(),
            size(entry.bytes_up).into(),
            size(entry.bytes_down).into(),
            Cell::new(show::plain(&entry.why), tint),
        ]);
    }
    table.print()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rexec_api::egress::{EgressTotals, GithubAccess};

    fn view() -> EgressView {
        EgressView {
            preset: EgressPreset::Balanced,
            allow: vec!["a.example".into()],
            deny: vec!["b.example".into()],
            lent: Vec::new(),
            secrets: Vec::new(),
            models: true,
            models_offered: true,
            github: Some(GithubAccess { repositories: vec!["acme/app".into()], ..GithubAccess::default() }),
            github_offered: true,
            server_allow: Vec::new(),
            server_deny: Vec::new(),
            template_allow: Vec::new(),
            presets: EgressPreset::ALL.into(),
            state: EgressState::InForce,
            network: EgressNetwork::Closed,
            version: 1,
            totals: EgressTotals::default(),
        }
    }

    fn arguments() -> EgressArguments {
        EgressArguments {
            workspace: "x".into(),
            preset: None,
            allow: Vec::new(),
            minutes: None,
            deny: Vec::new(),
            secrets: Vec::new(),
            models: None,
            github: GithubArguments::default(),
            forget: Vec::new(),
            log: false,
            denied: false,
        }
    }

    #[test]
    fn what_is_not_named_stays() {
        assert_eq!(changed(&view(), &arguments()).unwrap(), None);
        let asked = EgressArguments {
            preset: Some(EgressPreset::Locked),
            allow: vec!["c.example".into()],
            forget: vec!["b.example".into()],
            ..arguments()
        };
        let after = changed(&view(), &asked).unwrap().unwrap();
        assert_eq!((after.preset, after.deny.len(), after.models), (EgressPreset::Locked, 0, true));
        assert_eq!(after.allow, ["a.example", "c.example"]);
        let off = EgressArguments { models: Some(Switch::Off), ..arguments() };
        let after = changed(&view(), &off).unwrap().unwrap();
        assert_eq!((after.preset, after.models), (EgressPreset::Balanced, false));
        assert_eq!(after.github, view().github);
        let unknown = EgressArguments { forget: vec!["z.example".into()], ..arguments() };
        assert!(changed(&view(), &unknown).is_err());
    }

    #[test]
    fn models_and_repositories_are_told_of_where_they_are_let() {
        assert!(told(&view()).contains("\nuses at GitHub: acme/app, pushing to all branches\n"));
        assert!(!told(&EgressView { github: None, ..view() }).contains("GitHub"));
        assert!(told(&view()).contains("\nmodels: may be asked for\n"));
        assert!(!told(&EgressView { models: false, ..view() }).contains("models"));
    }
}
