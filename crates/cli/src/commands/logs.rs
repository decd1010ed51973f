//! `logs`: what has happened to a workspace, and what its set-up has printed; with `-f`, what comes.

use crate::connection::{Connection, workspace};
use crate::failure::{Failure, Result};
use crate::feed::{self, Entry};
use crate::show::{self, Tint};
use rexec_api::events::EventView;
use rexec_api::ids::{EventId, WorkspaceId};
use rexec_client::{Client, ClientError, Heard};
use std::collections::HashSet;
use std::time::Duration;

/// Between attempts to hear of news again.
const RETRY_EVERY: Duration = Duration::from_secs(2);
const LINES_DEFAULT: usize = 200;

#[derive(Debug, clap::Args)]
pub struct LogsArguments {
    workspace: String,
    /// Go on with what comes, until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// What its set-up printed instead; --follow ends with the set-up.
    #[arg(long)]
    setup: bool,
    /// The newest so many entries.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = LINES_DEFAULT, conflicts_with = "setup")]
    lines: usize,
}

/// With `--json`, one object a line, so that a program reads them as they come.
pub async fn run(connection: &Connection, arguments: LogsArguments) -> Result<()> {
    let client = connection.client()?;
    let id = workspace(&client, &arguments.workspace).await?.id;
    if arguments.setup {
        return super::setup_log::run(&client, id, arguments.follow, connection.json).await;
    }
    let mut log = Log { client: &client, id, json: connection.json, told: HashSet::new(), last: None };
    if !arguments.follow {
        return log.past(arguments.lines).await;
    }
    // Heard from before the past is read: what comes in between comes twice, and is told once.
    let mut live = client.follow_events(None).await?;
    log.past(arguments.lines).await?;
    loop {
        match live.next().await {
            Ok(Some(Heard::News(event))) => {
                if log.tell(&event)? {
                    return Ok(());
                }
            }
            Ok(Some(Heard::Resync {})) => {}
            Ok(Some(Heard::Ended { error })) if error.code.http_status() != 503 => {
                return Err(ClientError::Refused(Box::new(error)).into());
            }
            // The server restarts, or the network is away.
            Ok(Some(Heard::Ended { .. }) | None) | Err(ClientError::Transport(_)) => live = log.again().await?,
            Err(error) => return Err(error.into()),
        }
    }
}

struct Log<'a> {
    client: &'a Client,
    id: WorkspaceId,
    json: bool,
    /// Those that may come once more.
    told: HashSet<EventId>,
    last: Option<EventId>,
}

impl Log<'_> {
    /// The newest of the log, the oldest first.
    async fn past(&mut self, count: usize) -> Result<()> {
        for event in newest(self.client, self.id, count).await?.iter().rev() {
            self.tell(event)?;
        }
        Ok(())
    }

    async fn again(&self) -> Result<rexec_client::ServerEvents<Heard>> {
        loop {
            tokio::time::sleep(RETRY_EVERY).await;
            match self.client.follow_events(self.last).await {
                Err(ClientError::Transport(_) | ClientError::Strange(_)) => {}
                Err(ClientError::Refused(refused)) if refused.code.http_status() == 503 => {}
                begun => return Ok(begun?),
            }
        }
    }

    /// Whether that was the last there can be.
    fn tell(&mut self, event: &EventView) -> Result<bool> {
        if event.workspace_id != self.id || event.id.is_some_and(|id| !self.told.insert(id)) {
            return Ok(false);
        }
        self.last = event.id.or(self.last);
        if self.json {
            let line = serde_json::to_string(event).map_err(|error| Failure::Other(error.to_string()))?;
            show::print(&format!("{line}\n"))?;
        } else if let Some(entry) = feed::entry(event) {
            show::print(&format!("{}\n", line(&event.at, &entry)))?;
        }
        Ok(matches!(event.kind.as_str(), "workspace.deleted" | "workspace.lost"))
    }
}

/// The newest entries of a workspace's log, the newest first.
pub async fn newest(client: &Client, id: WorkspaceId, count: usize) -> Result<Vec<EventView>> {
    let (mut found, mut cursor) = (Vec::new(), None);
    while found.len() < count {
        let page = client.events_of(id, cursor.as_deref()).await?;
        found.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    found.truncate(count);
    Ok(found)
}

fn line(at: &str, entry: &Entry) -> String {
    let detail = entry.detail.as_ref().map_or(String::new(), |detail| format!(": {detail}"));
    let (time, text) = (show::tinted(&moment(at), Tint::Faint), show::tinted(&entry.text, entry.tint));
    format!("{time}  {text}{}", show::plain(&detail))
}

/// A time of the server's to the second, in UTC.
fn moment(at: &str) -> String {
    at.parse::<jiff::Timestamp>().map_or_else(|_| at.to_owned(), |time| time.strftime("%F %TZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let entry = Entry { text: "failed".into(), detail: Some("a\x1b[31m\nb".into()), tint: Tint::Bad };
        assert_eq!(line("2026-01-02T03:04:05.678Z", &entry), "2026-01-02 03:04:05Z  failed: a\u{fffd}[31m\u{fffd}b");
    }
}
