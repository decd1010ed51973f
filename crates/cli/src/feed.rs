//! What an event of a workspace means to a person: a sentence, its particulars and its colour. Pure.
//!
//! The page says the same (`web/src/lib/state/feed.ts`).

use crate::show::Tint;
use rexec_api::events::EventView;
use serde_json::Value;

/// What is said of an event, after the workspace's name.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub text: String,
    pub detail: Option<String>,
    pub tint: Tint,
}

impl Entry {
    fn new(text: &str, tint: Tint) -> Self {
        Self { text: text.to_owned(), detail: None, tint }
    }
}

/// `None` for news that only moves what is shown anyway.
pub fn entry(event: &EventView) -> Option<Entry> {
    if event.kind == "workspace.status" {
        return unasked(&event.data);
    }
    let Some(mut entry) = known(&event.kind) else {
        // A kind that came with a newer server: its name says what happened.
        let text = event.kind.trim_start_matches("workspace.").replace(['.', '_'], " ");
        return event.id.map(|_| Entry::new(&text, Tint::Plain));
    };
    let word = |name: &str| event.data[name].as_str();
    entry.detail = match event.kind.as_str() {
        "workspace.renamed" => word("to").map(|to| format!("to {to}")),
        kind if kind.starts_with("ssh.") => Some(by_what(&event.data)),
        "port.set" | "port.reset" => event.data["port"].as_u64().map(|port| format!("port {port}")),
        kind if kind.starts_with("snapshot.") => word("name").map(str::to_owned),
        _ => word("deletes_at").map(|time| format!("at {time}, unless it is started before")),
    };
    Some(entry)
}

fn known(kind: &str) -> Option<Entry> {
    let (text, tint) = match kind {
        "workspace.created" => ("created", Tint::Good),
        "workspace.deleted" => ("deleted", Tint::Faint),
        "workspace.lost" => ("lost with its server", Tint::Bad),
        "workspace.restored" => ("restored", Tint::Good),
        "workspace.renamed" => ("renamed", Tint::Plain),
        "workspace.moved" => ("moved to another server", Tint::Plain),
        "workspace.started" => ("started", Tint::Good),
        "workspace.stopped" => ("stopped", Tint::Faint),
        "workspace.restarted" => ("restarted", Tint::Good),
        "workspace.paused" => ("paused", Tint::Faint),
        "workspace.resumed" => ("resumed", Tint::Good),
        "workspace.woken" => ("woke up", Tint::Good),
        "workspace.resized" => ("has a new size", Tint::Plain),
        "workspace.egress_changed" => ("has other settings for what it may reach", Tint::Plain),
        "workspace.idle_changed" => ("has other settings for when it is unused", Tint::Plain),
        "workspace.setup_retried" => ("tries its set-up again", Tint::Warm),
        "workspace.deletion_announced" => ("is going to be deleted", Tint::Warm),
        "workspace.deletion_withdrawn" => ("is not going to be deleted any more", Tint::Good),
        "workspace.disk_changed" => ("has another limit of its disk", Tint::Plain),
        "workspace.disk_nearly_full" => ("has a disk that is nearly full", Tint::Warm),
        "workspace.disk_full" => ("has a full disk", Tint::Bad),
        "workspace.disk_stopped" => ("was stopped: its disk is full", Tint::Bad),
        "snapshot.created" => ("snapshot taken", Tint::Good),
        "snapshot.deleted" => ("snapshot deleted", Tint::Faint),
        "port.set" => ("preview changed", Tint::Warm),
        "port.reset" => ("preview is private again", Tint::Plain),
        "ssh.shell" => ("terminal opened by SSH", Tint::Plain),
        "ssh.exec" => ("command run by SSH", Tint::Plain),
        "ssh.sftp" => ("files reached by SFTP", Tint::Plain),
        "ssh.forward" => ("port forwarded by SSH", Tint::Plain),
        "volume.purged" => ("home removed for good", Tint::Faint),
        _ => return None,
    };
    Some(Entry::new(text, tint))
}

/// A status that nobody asked for.
fn unasked(data: &Value) -> Option<Entry> {
    let detail = data["reason"].as_str().or(data["error"].as_str()).map(str::to_owned);
    let (text, tint) = match data["status"].as_str()? {
        "error" => ("failed", Tint::Bad),
        "unreachable" => ("is out of reach", Tint::Bad),
        "stopped" if detail.is_some() => ("was stopped", Tint::Faint),
        "paused" if detail.is_some() => ("was paused", Tint::Faint),
        _ => return None,
    };
    Some(Entry { detail, ..Entry::new(text, tint) })
}

/// What let somebody in by SSH, from where, and what they were led to.
fn by_what(data: &Value) -> String {
    let word = |name: &str| data[name].as_str();
    let kinds = ["key", "certificate", "token"];
    let by = kinds.into_iter().find_map(|kind| Some(format!("with the {kind} {:?}", word(kind)?)));
    let by = by.unwrap_or_else(|| "with a sign-in".into());
    let to = word("to").map_or(String::new(), |to| format!("{to}, "));
    let from = word("address").map_or(String::new(), |address| format!(", from {address}"));
    format!("{to}{by}{from}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rexec_api::ids::{EventId, WorkspaceId};
    use serde_json::json;

    fn said(kind: &str, data: Value, kept: bool) -> Option<String> {
        let (id, at) = (kept.then(EventId::new), "2026-01-01T00:00:00Z".to_owned());
        let event = EventView { id, kind: kind.into(), workspace_id: WorkspaceId::new(), at, data };
        entry(&event).map(|entry| entry.detail.map_or(entry.text.clone(), |detail| format!("{}: {detail}", entry.text)))
    }

    #[test]
    fn events_are_sentences() {
        assert_eq!(said("workspace.created", json!({ "name": "box" }), true).unwrap(), "created");
        assert_eq!(said("workspace.renamed", json!({ "to": "b" }), true).unwrap(), "renamed: to b");
        assert_eq!(said("port.set", json!({ "port": 80 }), true).unwrap(), "preview changed: port 80");
        let ssh = json!({ "key": "laptop", "address": "192.0.2.1" });
        assert_eq!(
            said("ssh.shell", ssh, true).unwrap(),
            "terminal opened by SSH: with the key \"laptop\", from 192.0.2.1"
        );
        assert_eq!(said("workspace.mended_itself", json!({}), true).unwrap(), "mended itself");
        assert_eq!(said("workspace.ports", json!({ "items": [] }), false), None);
    }

    #[test]
    fn a_status_is_told_when_nobody_asked_for_it() {
        let status = |data| said("workspace.status", data, false);
        assert_eq!(status(json!({ "status": "running" })), None);
        assert_eq!(status(json!({ "status": "stopped", "reason": null })), None);
        assert_eq!(status(json!({ "status": "stopped", "reason": "idle" })).unwrap(), "was stopped: idle");
        assert_eq!(status(json!({ "status": "error", "error": "no image" })).unwrap(), "failed: no image");
    }
}
