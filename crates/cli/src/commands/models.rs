//! `models`: which language models workspaces may ask, and what was used of them.

use crate::connection::Connection;
use crate::failure::Result;
use crate::show::{self, Cell, Table, Tint, count};
use rexec_api::models::{ModelUse, ModelsView};

pub async fn run(connection: &Connection) -> Result<()> {
    let view = connection.client()?.models().await?;
    if connection.json {
        return show::json(&view);
    }
    show::print(&told(&view))?;
    if view.used.is_empty() { Ok(()) } else { table(view.used).print() }
}

fn told(view: &ModelsView) -> String {
    let apis: Vec<_> = [(view.openai, "OpenAI"), (view.anthropic, "Anthropic")]
        .into_iter()
        .filter(|api| api.0)
        .map(|api| api.1)
        .collect();
    if apis.is_empty() {
        return "This server offers no language models.\n".into();
    }
    let mut text = format!("apis: {}, at http://llm.rexec.internal in workspaces that may ask\n", apis.join(", "));
    let is_every = view.models.split(',').any(|pattern| pattern == "*");
    let models = if is_every { "every model of the vendor".into() } else { view.models.replace(',', ", ") };
    text.push_str(&format!("models: {}\n", show::plain(&models)));
    let used = count(view.used_today);
    text.push_str(&match view.tokens_per_day {
        Some(most) => format!("today: {used} of {} tokens; begins anew at midnight (UTC)\n", count(most)),
        None => format!("today: {used} tokens, without a limit\n"),
    });
    if let Some(most) = view.tokens_per_workspace {
        text.push_str(&format!("a workspace: {} tokens in its life\n", count(most)));
    }
    if view.used.is_empty() {
        text.push_str("Nothing was used in the last 30 days. Let a workspace ask: rexec egress NAME --models on\n");
    }
    text
}

fn table(used: Vec<ModelUse>) -> Table {
    let mut table = Table::new(&["DAY", "WORKSPACE", "MODEL", "REQUESTS", "READ", "CACHED", "WRITTEN"]);
    for one in used {
        let workspace = one.workspace.map_or_else(|| Cell::new("deleted since", Tint::Faint), Cell::from);
        // Of some the vendor did not tell the tokens.
        let about = if one.estimated > 0 { "~" } else { "" };
        table.row(vec![
            one.day.into(),
            workspace,
            show::plain(&one.model).into(),
            count(one.requests).into(),
            format!("{about}{}", count(one.input)).into(),
            count(one.cached).into(),
            format!("{about}{}", count(one.output)).into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> ModelsView {
        ModelsView {
            openai: true,
            anthropic: true,
            models: "gpt-5*,claude-haiku-4-5".into(),
            tokens_per_day: Some(1_000_000),
            tokens_per_workspace: None,
            used_today: 312_400,
            day_ends_at: "2026-01-02T00:00:00Z".into(),
            used: Vec::new(),
        }
    }

    #[test]
    fn what_is_offered_is_told() {
        let text = told(&view());
        assert!(text.starts_with("apis: OpenAI, Anthropic, at http://llm.rexec.internal"), "{text}");
        assert!(text.contains("\nmodels: gpt-5*, claude-haiku-4-5\n"), "{text}");
        assert!(text.contains("\ntoday: 312 k of 1.0 M tokens; begins anew at midnight (UTC)\n"), "{text}");
        let free =
            ModelsView { models: "*".into(), tokens_per_day: None, tokens_per_workspace: Some(5_000_000), ..view() };
        let text = told(&free);
        assert!(text.contains("\nmodels: every model of the vendor\ntoday: 312 k tokens, without a limit\n"), "{text}");
        assert!(text.contains("\na workspace: 5.0 M tokens in its life\n"), "{text}");
        let none = ModelsView { openai: false, anthropic: false, ..view() };
        assert_eq!(told(&none), "This server offers no language models.\n");
    }
}
