//! What workspaces use, as their owners and Prometheus see it.

use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage, on_stage_as};
use crate::support::{Backend, PASSWORD, on_both};
use http::Method;
use rexec_api::ids::WorkspaceId;
use rexec_api::stats::{StatsHistory, StatsSample};
use rexec_client::{Client, Lifecycle};
use std::time::Duration;

on_both!(samples_are_shared_and_kept, what_nobody_watches_is_recorded, strangers_and_odd_requests);

/// A stream of samples, read one event at a time.
struct Watch {
    response: reqwest::Response,
    text: String,
}

impl Watch {
    async fn open(stage: &Stage, id: WorkspaceId, query: &str) -> Self {
        let path = format!("/api/workspaces/{id}/stats{query}");
        let response = stage.client.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        Self { response, text: String::new() }
    }

    /// The next event's name and data; `None` at the end.
    async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
                let event = line("event: ").zip(line("data: "));
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("nothing came").unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn sample(&mut self) -> StatsSample {
        let (name, data) = self.next().await.expect("a sample");
        assert_eq!(name, "sample", "{data}");
        serde_json::from_str(&data).unwrap()
    }

    async fn until(&mut self, fits: impl Fn(&StatsSample) -> bool) -> StatsSample {
        loop {
            let sample = self.sample().await;
            if fits(&sample) {
                return sample;
            }
        }
    }
}

async fn history(stage: &Stage, id: WorkspaceId) -> StatsHistory {
    let path = format!("/api/workspaces/{id}/stats/history");
    stage.client.request(Method::GET, &path).send().await.unwrap().json().await.unwrap()
}

async fn metrics(stage: &Stage) -> String {
    stage.server.get("/metrics").await.text
}

async fn samples_are_shared_and_kept(backend: Backend) {
    on_stage(backend, &[("REXEC_METRICS_WORKSPACES", "1")], async |place, stage| {
        let id = stage.workspace().await.id;
        let (mut first, mut second) = (Watch::open(&stage, id, "").await, Watch::open(&stage, id, "").await);
        let sample = first.sample().await;
        assert_eq!((sample.memory_limit_bytes, sample.disk_limit_bytes), (256 << 20, None), "{sample:?}");
        assert!(sample.memory_bytes > 0 && sample.pids > 0 && sample.pids_limit == 4096, "{sample:?}");
        second.until(|other| *other == sample).await;

        let busy = stage.terminal(id, &["/bin/sh", "-c", "while :; do :; done"]).await;
        let sample = first.until(|sample| sample.cpu > 0.2).await;
        assert!((sample.cpu_percent - sample.cpu * 50.0).abs() < 1e-6, "of two cores: {sample:?}");
        stage.client.delete_terminal(id, busy).await.unwrap();
        let kept = history(&stage, id).await.points;
        assert!(kept.iter().any(|point| point.cpu > 0.0 && point.memory_bytes > 0 && point.seconds == 10), "{kept:?}");
        let text = metrics(&stage).await;
        assert!(text.contains("rexec_workspaces{status=\"running\"} 1\n"), "{text}");
        assert!(text.contains(&format!("rexec_workspace_memory_bytes{{workspace=\"{id}\"}} ")), "{text}");

        // Paused, the last sample stands and is what a new viewer sees.
        stage.client.lifecycle(id, Lifecycle::Pause).await.unwrap();
        let paused = Watch::open(&stage, id, "?history=1").await.next().await.unwrap();
        assert_eq!(paused.0, "history");
        assert!(serde_json::from_str::<StatsHistory>(&paused.1).unwrap().points.len() >= kept.len());
        let mut late = Watch::open(&stage, id, "").await;
        let stands = late.sample().await;
        stage.client.lifecycle(id, Lifecycle::Resume).await.unwrap();
        late.until(|sample| sample.at > stands.at).await;

        drop((first, second, late));
        let stage = stage.restart_server(place, &[]).await;
        let kept = history(&stage, id).await.points;
        assert!(kept.iter().any(|point| point.seconds == 600 && point.memory_bytes > 0), "{kept:?}");
        assert!(!metrics(&stage).await.contains("rexec_workspace_memory"), "of each only where asked for");

        let mut last = Watch::open(&stage, id, "").await;
        last.sample().await;
        stage.client.purge_workspace(id).await.unwrap();
        eventually("the stream to end", async || {
            assert_eq!(stage.client.workspaces().await.unwrap().items.len(), 0);
            Some(())
        })
        .await;
        while last.next().await.is_some() {}
        stage
    })
    .await;
}

async fn what_nobody_watches_is_recorded(backend: Backend) {
    let soon = |config: &mut rexec_server::config::Config| config.stats_every = Duration::from_millis(300);
    on_stage_as(backend, &[], soon, async |place, stage| {
        let id = stage.workspace().await.id;
        eventually("a history", async || (!history(&stage, id).await.points.is_empty()).then_some(())).await;
        let stage = stage.restart_server(place, &[]).await;
        let kept = history(&stage, id).await.points;
        assert!(kept.iter().any(|point| point.memory_bytes > 0), "{kept:?}");
        stage
    })
    .await;
}

async fn strangers_and_odd_requests(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let anyone = Client::new(&stage.server.base).unwrap();
        let (other, _) = anyone.register("eve@example.com", PASSWORD).await.unwrap();
        let (mine, others) = (stage.client.token().unwrap(), other.token().unwrap());
        for (token, path, code) in [
            (others, "stats", "not_found"),
            (others, "stats/history", "not_found"),
            (mine, "stats/history?since=yesterday", "invalid_request"),
            (mine, "stats?history=yes", "invalid_request"),
        ] {
            let answer = stage.server.by(token, Method::GET, &format!("/api/workspaces/{id}/{path}")).await;
            assert_eq!(answer.code(), code, "{path}");
        }
        let later = format!("/api/workspaces/{id}/stats/history?since=2100-01-01T00:00:00Z");
        let none = stage.server.by(mine, Method::GET, &later).await;
        assert_eq!(none.json(), serde_json::json!({ "points": [] }));
        stage.client.purge_workspace(id).await.unwrap();
        stage
    })
    .await;
}
