//! News of workspaces as a client follows them.

use crate::support::workspaces::{PATIENCE, on_stage};
use crate::support::{Backend, PASSWORD, on_both, with_server};
use http::Method;
use rexec_api::error::ErrorCode;
use rexec_api::events::EventView;
use rexec_api::ids::EventId;
use rexec_api::workspaces::NewWorkspace;
use rexec_client::{Client, Lifecycle};
use serde_json::Value;

on_both!(a_life_is_heard, what_came_to_nothing_is_no_news, the_log_of_a_workspace_has_pages);

/// A stream of events, read one at a time.
pub struct Heard {
    response: reqwest::Response,
    text: String,
}

impl Heard {
    pub async fn open(client: &Client, last: Option<&str>) -> Self {
        let mut request = client.request(Method::GET, "/api/events");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event's name and data; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
                let Some(name) = line("event: ") else { continue };
                let data: Value = serde_json::from_str(&line("data: ").unwrap()).unwrap();
                assert_eq!(line("id: ").as_deref(), data["id"].as_str(), "{block}");
                return Some((name, data));
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("nothing came").unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    pub async fn until(&mut self, kind: &str, fits: impl Fn(&EventView) -> bool) -> EventView {
        loop {
            let (name, data) = self.next().await.unwrap_or_else(|| panic!("ended before {kind}"));
            if name != kind {
                continue;
            }
            let view: EventView = serde_json::from_value(data).unwrap();
            assert_eq!(view.kind, name);
            if fits(&view) {
                return view;
            }
        }
    }
}

async fn a_life_is_heard(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let anyone = Client::new(&stage.server.base).unwrap();
        let (other, _) = anyone.register("eve@example.com", PASSWORD).await.unwrap();
        let mut heard = Heard::open(&stage.client, None).await;
        let mut others = Heard::open(&other, None).await;
        assert_eq!(heard.next().await.unwrap().0, "resync");
        assert_eq!(others.next().await.unwrap().0, "resync");

        let id = stage.workspace().await.id;
        let created = heard.until("workspace.created", |event| event.workspace_id == id).await;
        heard.until("workspace.status", |event| event.data["status"] == "running").await;
        stage.client.rename_workspace(id, "renamed").await.unwrap();
        let renamed = heard.until("workspace.renamed", |event| event.data["to"] == "renamed").await;
        stage.client.lifecycle(id, Lifecycle::Pause).await.unwrap();
        heard.until("workspace.paused", |_| true).await;
        heard.until("workspace.status", |event| event.data["status"] == "paused").await;

        // Who comes back hears what the log has since then, in order, and then what is new.
        let last = created.id.unwrap().to_string();
        let mut again = Heard::open(&stage.client, Some(&last)).await;
        let mut names = Vec::new();
        while names.last().is_none_or(|name| name != "resync") {
            let (name, data) = again.next().await.unwrap();
            if name == "workspace.renamed" {
                assert_eq!(data["id"], renamed.id.unwrap().to_string());
            }
            names.push(name);
        }
        assert_eq!(names, ["workspace.renamed", "workspace.paused", "resync"]);
        stage.client.lifecycle(id, Lifecycle::Resume).await.unwrap();
        again.until("workspace.status", |event| event.data["status"] == "running").await;

        // What is not one's own is not heard, neither live nor from the log.
        let mut theirs = Heard::open(&other, Some(&last)).await;
        assert_eq!(theirs.next().await.unwrap().0, "resync");

        // A stream ends with its session, and says so.
        other.log_out().await.unwrap();
        let (name, data) = others.next().await.unwrap();
        assert_eq!((name.as_str(), &data["error"]["code"]), ("error", &"session_revoked".into()), "{data}");
        assert!(others.next().await.is_none());
        stage
    })
    .await;
}

async fn what_came_to_nothing_is_no_news(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let before = EventId::new().to_string();
        let mut heard = Heard::open(&stage.client, None).await;
        let image = Some("localhost:1/no/such-image:1".to_owned());
        let refused = NewWorkspace { image, wait_ms: Some(PATIENCE.as_millis() as u64), ..Default::default() };
        stage.client.create_workspace(&refused).await.unwrap_err();
        let created = heard.until("workspace.created", |_| true).await;
        heard.until("workspace.unmade", |event| event.workspace_id == created.workspace_id).await;

        // What is so already is nobody's doing.
        let id = stage.workspace().await.id;
        for nothing in [Lifecycle::Start, Lifecycle::Resume] {
            stage.client.lifecycle(id, nothing).await.unwrap();
        }
        for _ in 0..2 {
            stage.client.lifecycle(id, Lifecycle::Pause).await.unwrap();
        }
        for _ in 0..2 {
            stage.client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        }
        let mut log = Heard::open(&stage.client, Some(&before)).await;
        let mut names = Vec::new();
        while names.last().is_none_or(|name| name != "resync") {
            let (name, data) = log.next().await.unwrap();
            assert!(name == "resync" || data["workspace_id"] == id.to_string(), "{name} {data}");
            names.push(name);
        }
        assert_eq!(names, ["workspace.created", "workspace.paused", "workspace.stopped", "resync"]);
        stage
    })
    .await;
}

async fn the_log_of_a_workspace_has_pages(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let (id, beside) = (stage.workspace().await.id, stage.workspace().await.id);
        for n in 0..105 {
            stage.client.rename_workspace(id, &format!("name-{n}")).await.unwrap();
        }
        let first = stage.client.events_of(id, None).await.unwrap();
        let second = stage.client.events_of(id, first.next.as_deref()).await.unwrap();
        assert_eq!((first.items.len(), second.items.len(), second.next), (100, 6, None));
        assert_eq!(first.items[0].data["to"], "name-104");
        assert_eq!(second.items[5].kind, "workspace.created");
        assert!(first.items.iter().chain(&second.items).all(|event| event.workspace_id == id));

        let anyone = Client::new(&stage.server.base).unwrap();
        let (other, _) = anyone.register("eve@example.com", PASSWORD).await.unwrap();
        for of in [id, beside] {
            assert_eq!(other.events_of(of, None).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        }
        let strange = stage.client.events_of(id, Some("yesterday")).await.unwrap_err();
        assert_eq!(strange.code(), Some(ErrorCode::InvalidCursor));
        stage.client.purge_workspace(beside).await.unwrap();
        assert_eq!(stage.client.events_of(beside, None).await.unwrap_err().code(), Some(ErrorCode::NotFound));
        stage
    })
    .await;
}

#[tokio::test]
async fn a_strange_place_to_resume_from_is_refused() {
    with_server(Backend::Sqlite, &[], async |server| {
        let token = server.register("ada@example.com").await.token();
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("last-event-id", "yesterday")];
        let answer = server.send(reqwest::Method::GET, "/api/events", &headers, None).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, "invalid_request"));
        assert_eq!(server.get("/api/events").await.code(), "unauthenticated");
    })
    .await;
}
