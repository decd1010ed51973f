//! Images that ask for volumes (`VOLUME`), without them.
//!
//! Docker gives every container of such an image volumes without a name, and nothing in a request takes that back:
//! they count in nobody's limits and are in no commit. So the image is made once more, of the same layers under a
//! configuration of its own: an archive as `docker load` reads it, in which there are no layers, because an engine that
//! has them does not look for them there. One that keeps its images in another way refuses it, or makes
//! something else of it; what came of it is therefore looked at.

use super::faults::engine_error;
use super::transport::{Body, json as read_json};
use super::waiting::unavailable;
use super::{CALL_TIMEOUT, DockerEngine, WORK_TIMEOUT, hijack, profile};
use crate::{Engine, EngineError, PLAIN_IMAGES, Result};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full, Limited};
use serde_json::{Value, json};

/// The longest answer that is read: an image's description, or what comes of loading it.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

impl DockerEngine {
    pub(super) async fn make_plain(&self, reference: &str) -> Result<Option<String>> {
        let name = profile::image(reference)?;
        let Some(image) = self.described(&name).await? else {
            return Err(EngineError::ImageNotFound(name));
        };
        if !asks_for_volumes(&image) {
            return Ok(Some(reference.to_owned()));
        }
        let id = image["Id"].as_str().and_then(|id| id.rsplit(':').next()).unwrap_or_default();
        let plain = format!("{PLAIN_IMAGES}{id}");
        if self.is_plain(&plain, &image).await? {
            return Ok(Some(plain));
        }
        match self.load(reconfigured(&image, &plain, Value::Null)).await {
            Ok(()) if self.is_plain(&plain, &image).await? => Ok(Some(plain)),
            Ok(()) => {
                self.remove_image(&plain).await?;
                Ok(None)
            }
            Err(EngineError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn is_plain(&self, plain: &str, image: &Value) -> Result<bool> {
        let made = self.described(plain).await?;
        Ok(made.is_some_and(|made| !asks_for_volumes(&made) && made["RootFS"]["Layers"] == image["RootFS"]["Layers"]))
    }

    /// All that the engine says of an image.
    async fn described(&self, name: &str) -> Result<Option<Value>> {
        let body: Body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::get(format!("/images/{name}/json")).body(body);
        let request = request.map_err(|e| EngineError::Protocol(e.to_string()))?;
        let asked = async {
            let response = self.transport.send(request).await.map_err(engine_error)?;
            read_json(response, ANSWER_BYTES_MAX, "an image").await
        };
        match tokio::time::timeout(CALL_TIMEOUT, asked).await.map_err(unavailable)? {
            Ok(image) => Ok(Some(image)),
            Err(EngineError::NotFound(_) | EngineError::ImageNotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn load(&self, archive: Bytes) -> Result<()> {
        let body: Body = Full::new(archive).map_err(|never| match never {}).boxed_unsync();
        let request = Request::post("/images/load?quiet=1").header("content-type", "application/x-tar").body(body);
        let request = request.map_err(|e| EngineError::Protocol(e.to_string()))?;
        let asked = async {
            let response = self.transport.send(request).await.map_err(engine_error)?;
            if response.status() != StatusCode::OK {
                return Err(hijack::refused(response).await);
            }
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok(body.map_err(EngineError::Unavailable)?.to_bytes())
        };
        let text = tokio::time::timeout(WORK_TIMEOUT, asked).await.map_err(unavailable)??;
        // What fails after the answer has begun is told in its body.
        let error = serde_json::Deserializer::from_slice(&text)
            .into_iter::<Value>()
            .flatten()
            .find_map(|line| line["error"].as_str().map(str::to_owned));
        error.map_or(Ok(()), |error| Err(EngineError::Refused(error)))
    }
}

fn asks_for_volumes(image: &Value) -> bool {
    image["Config"]["Volumes"].as_object().is_some_and(|volumes| !volumes.is_empty())
}

/// An archive that makes `image` once more under this name, with these volumes. Its form is that of the Docker image
/// specification, version 1.2 (moby: `image/spec`).
fn reconfigured(image: &Value, name: &str, volumes: Value) -> Bytes {
    let mut config = image["Config"].clone();
    config["Volumes"] = volumes;
    let layers = &image["RootFS"]["Layers"];
    let whole = json!({
        "architecture": image["Architecture"],
        "os": image["Os"],
        "created": image["Created"],
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": layers },
        "history": [],
    });
    let paths: Vec<String> = (0..layers.as_array().map_or(0, Vec::len)).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = json!([{ "Config": "config.json", "RepoTags": [name], "Layers": paths }]);
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in [("config.json", whole), ("manifest.json", manifest)] {
        let content = content.to_string();
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        // Memory takes everything.
        let _ = archive.append_data(&mut header, path, content.as_bytes());
    }
    archive.into_inner().unwrap_or_default().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ContainerState;
    use crate::contract::World;

    fn connect() -> DockerEngine {
        let address = std::env::var("DOCKER_HOST").ok().filter(|address| !address.is_empty());
        DockerEngine::connect(&address.unwrap_or_else(|| "unix:///var/run/docker.sock".into())).unwrap()
    }

    /// The contract's world on this machine's engine, with an image of it that asks for a volume.
    async fn world() -> (World, DockerEngine, String) {
        let engine = connect();
        let world = World::new(|| std::sync::Arc::new(connect())).await;
        let asking = format!("rexec-contract-{}:asking", world.id);
        world.owns_image(&asking);
        let image = engine.described(&world.image).await.unwrap().unwrap();
        engine.load(reconfigured(&image, &asking, json!({ "/data": {} }))).await.unwrap();
        (world, engine, asking)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_image_is_had_without_its_volumes() {
        let (world, engine, asking) = world().await;
        assert_eq!(engine.make_plain(&world.image).await.unwrap(), Some(world.image.clone()), "it asks for none");
        assert!(matches!(engine.make_plain("rexec-contract/none:1").await, Err(EngineError::ImageNotFound(_))));
        let plain = engine.make_plain(&asking).await.unwrap().unwrap();
        world.owns_image(&plain);
        assert!(plain.starts_with(PLAIN_IMAGES), "{plain}");
        assert_eq!(engine.make_plain(&asking).await.unwrap(), Some(plain.clone()), "again is no other");
        let mut spec = world.spec("a");
        spec.image = plain;
        let id = world.run(&spec).await;
        assert_eq!(world.info(&id).await.state, ContainerState::Running);
        assert!(world.info(&id).await.unnamed_volumes.is_empty());
        world.sh(&id, "mkdir -p /data && echo mine > /data/file").await;
        assert!(engine.written_files(&id).await.unwrap() >= Some(2), "it is written to the root");
    }

    /// Where an image cannot be had without them, they count.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_lies_in_volumes_without_a_name_is_counted() {
        let (world, engine, asking) = world().await;
        let mut spec = world.spec("a");
        spec.image = asking;
        let id = world.run(&spec).await;
        assert_eq!(world.info(&id).await.unnamed_volumes, ["/data"]);
        world.sh(&id, "dd if=/dev/zero of=/data/file bs=1M count=24").await;
        let usage = loop {
            match engine.disk_usage().await {
                Err(EngineError::Conflict(_)) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                usage => break usage.unwrap(),
            }
        };
        assert!(usage.containers[&world.name("a")] >= 24 << 20, "{usage:?}");
        engine.remove(&id).await.unwrap();
    }
}
