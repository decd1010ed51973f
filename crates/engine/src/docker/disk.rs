//! The engine's disk: which limits it can hold, and what everything takes up.
//!
//! Both are asked in Docker's own way. Whether a size holds depends on the file system beneath and
//! how it is mounted, which the engine tells only by refusing; so it is tried. What is in use is told
//! by `/system/df` alone, whose answer bollard reads only in the layout of newer engines.

use super::faults::engine_error;
use super::transport::{Body, json};
use super::views::is_unnamed;
use super::waiting::unavailable;
use super::{BULK_TIMEOUT, DockerEngine, hijack, profile};
use crate::{ContainerSpec, DiskLimits, DiskSpace, DiskUsage, Engine, EngineError, Labels, Limits, Profile, Result};
use http::Request;
use http_body_util::{BodyExt, Empty};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A size that every file system with quotas takes.
const PROBE_BYTES: u64 = 64 * 1024 * 1024;
/// The longest account of an engine's disk that is read: some 50,000 containers and volumes.
const ACCOUNT_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Older engines ignore the choice and tell everything.
const ACCOUNT: &str = "/system/df?type=container&type=volume";
/// Docker's words when somebody else asks at this moment; its status is that of any failure.
const BUSY: &str = "operation is already running";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Account {
    containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(default)]
    names: Vec<String>,
    /// Absent when it has written nothing.
    #[serde(default)]
    size_rw: i64,
    mounts: Option<Vec<Mounted>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mounted {
    /// Absent for what is no volume.
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    name: String,
    usage_data: Option<UsageData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UsageData {
    /// -1 when not known: the volume is another driver's.
    size: i64,
}

impl DockerEngine {
    pub(super) async fn measure_disk(&self) -> Result<DiskUsage> {
        let told = tokio::time::timeout(BULK_TIMEOUT, self.account()).await.map_err(unavailable)?;
        told.map(usage).map_err(|error| match error {
            EngineError::Refused(message) if message.contains(BUSY) => EngineError::Conflict(message),
            other => other,
        })
    }

    /// An engine behind a socket is on our machine, and its directory is what it says unless we are in a container. Of
    /// another machine's disk its API tells nothing.
    pub(super) async fn measure_space(&self) -> Result<Option<DiskSpace>> {
        if !self.address().is_local() {
            return Ok(None);
        }
        let Ok(space) = rustix::fs::statvfs(self.own_words().await?.root_dir.as_str()) else { return Ok(None) };
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        let free_files = Some(space.f_favail).filter(|_| space.f_files > 0);
        Ok(Some(DiskSpace { total_bytes: bytes(space.f_blocks), free_bytes: bytes(space.f_bavail), free_files }))
    }

    /// Counted as it comes: of a million files the list is a hundred megabytes.
    pub(super) async fn count_changes(&self, id: &str) -> Result<Option<u64>> {
        let path = format!("/containers/{}/changes", profile::name(id)?);
        let body: Body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::get(path).body(body).map_err(|e| EngineError::Protocol(e.to_string()))?;
        let response = self.transport.send(request).await.map_err(engine_error)?;
        if !response.status().is_success() {
            return match hijack::refused(response).await {
                // Podman's, of a runtime that keeps no layer.
                EngineError::Refused(_) => Ok(None),
                error => Err(error),
            };
        }
        let mut body = response.into_body();
        let mut counter = Counter::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| EngineError::Unavailable(error.into()))?;
            if let Some(bytes) = frame.data_ref() {
                counter.take(bytes);
            }
        }
        Ok(Some(counter.count))
    }

    async fn account(&self) -> Result<Account> {
        let body: Body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::get(ACCOUNT).body(body).map_err(|e| EngineError::Protocol(e.to_string()))?;
        let response = self.transport.send(request).await.map_err(engine_error)?;
        json(response, ACCOUNT_BYTES_MAX, "the account of the disk").await
    }

    pub(super) async fn probe_disk_limits(&self, name: &str, image: &str, labels: &Labels) -> Result<DiskLimits> {
        // Left by a server that died while it probed.
        self.remove(name).await?;
        self.remove_volume(name).await?;
        let volumes = held(self.volume_create(name, labels, Some(PROBE_BYTES)).await)?;
        self.remove_volume(name).await?;
        let root = held(self.create(&probe(name, image, labels)).await)?;
        self.remove(name).await?;
        Ok(DiskLimits { volumes, root })
    }
}

/// Counts the entries of a list of changes. No path in it can hold the mark: a quote in JSON's text is escaped.
#[derive(Default)]
struct Counter {
    count: u64,
    /// How much of the mark has just been seen.
    seen: usize,
}

impl Counter {
    const MARK: &[u8] = b"\"Kind\":";

    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.seen = match byte {
                byte if byte == Self::MARK[self.seen] => self.seen + 1,
                b'"' => 1,
                _ => 0,
            };
            if self.seen == Self::MARK.len() {
                (self.count, self.seen) = (self.count + 1, 0);
            }
        }
    }
}

/// Refused means that the limit cannot be had; any other failure means that nothing is known.
fn held<T>(done: Result<T>) -> Result<bool> {
    match done {
        Ok(_) => Ok(true),
        Err(EngineError::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn probe(name: &str, image: &str, labels: &Labels) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        hostname: "probe".into(),
        image: image.to_owned(),
        command: vec!["/never-started".into()],
        env: Vec::new(),
        labels: labels.clone(),
        network: "none".into(),
        runtime: None,
        profile: Profile::Usual,
        limits: Limits { cpu: 0.1, memory_bytes: 32 << 20, pids: 8 },
        mounts: Vec::new(),
        root_bytes: Some(PROBE_BYTES),
        address: None,
        dial_dir: None,
    }
}

fn usage(account: Account) -> DiskUsage {
    let bytes = |size: i64| u64::try_from(size).ok();
    let volumes = account.volumes.unwrap_or_default().into_iter();
    let volumes: BTreeMap<_, _> =
        volumes.filter_map(|volume| Some((volume.name, bytes(volume.usage_data?.size)?))).collect();
    let containers = account.containers.unwrap_or_default().into_iter().filter_map(|container| {
        let name = container.names.first()?.trim_start_matches('/').to_owned();
        let mounted = container.mounts.iter().flatten().filter_map(|mounted| mounted.name.as_ref());
        let unnamed: u64 = mounted.filter(|name| is_unnamed(name)).filter_map(|name| volumes.get(name)).sum();
        Some((name, bytes(container.size_rw)?.saturating_add(unnamed)))
    });
    DiskUsage { containers: containers.collect(), volumes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_however_they_come() {
        let list = br#"[{"Path":"/a","Kind":0},{"Path":"/\"Kind\":1","Kind":1},{"Path":"/\"\"Kind","Kind":2}]"#;
        for piece in 1..list.len() {
            let mut counter = Counter::default();
            list.chunks(piece).for_each(|bytes| counter.take(bytes));
            assert_eq!(counter.count, 3, "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_not_told_is_not_known() {
        let told = r#"{"LayersSize": 1, "Containers": [{"Names": ["/a"], "SizeRw": 7}, {"Names": ["/b"]}, {}],
            "Volumes": [{"Name": "v", "UsageData": {"Size": 9, "RefCount": 1}}, {"Name": "w", "UsageData": null},
                        {"Name": "x", "UsageData": {"Size": -1, "RefCount": -1}}]}"#;
        let usage = usage(serde_json::from_str(told).expect("parses"));
        assert_eq!(usage.containers, [("a".to_owned(), 7), ("b".to_owned(), 0)].into());
        assert_eq!(usage.volumes, [("v".to_owned(), 9)].into());
        let unnamed = "0123456789abcdef".repeat(4);
        let told = format!(
            r#"{{"Containers": [{{"Names": ["/a"], "SizeRw": 7, "Mounts": [{{"Name": "{unnamed}"}}, {{"Name": "v"}}, {{}}]}}],
            "Volumes": [{{"Name": "{unnamed}", "UsageData": {{"Size": 30}}}}, {{"Name": "v", "UsageData": {{"Size": 9}}}}]}}"#
        );
        assert_eq!(super::usage(serde_json::from_str(&told).expect("parses")).containers["a"], 37);
        let empty = serde_json::from_str(r#"{"Containers": null, "Volumes": null}"#).expect("parses");
        assert!(super::usage(empty).volumes.is_empty());
    }
}
