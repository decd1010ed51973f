//! What runs workspaces, seen from the server: the [`Engine`] trait and its Docker implementation.
//!
//! An engine is told what to do and says what it sees; it decides nothing, keeps no state of its
//! own and knows nothing of users or workspaces. Every engine passes the suite in `contract`.
//! Raw byte streams (exec, archives) are ours from the socket up: no third-party decoder stands
//! between an untrusted container and the server.

#[cfg(feature = "contract")]
pub mod contract;
pub mod docker;
mod error;
pub mod firewall;
mod subnet;
mod types;

pub use error::{EngineError, Result};
pub use subnet::Subnet;
pub use types::*;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::net::Ipv4Addr;
use tokio::io::{AsyncRead, AsyncWrite};

/// A container engine. All methods may be repeated; "already so" is success.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Whether the engine answers. Cheap: for health checks.
    async fn ping(&self) -> Result<()>;
    /// What the engine is and can enforce.
    async fn info(&self) -> Result<EngineInfo>;

    /// `None` when the image is not there.
    async fn image(&self, reference: &str) -> Result<Option<ImageInfo>>;
    /// Images by reference.
    async fn images(&self) -> Result<Vec<ImageInfo>>;
    /// Pulls an image; the stream ends after the last layer, or with the error.
    fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> BoxStream<'static, Result<PullProgress>>;
    /// Makes an image of one tar archive; with no entries, an empty image.
    async fn import_image(&self, tag: &str, tar: Bytes) -> Result<()>;
    /// Gives an image one more name; another image that has it loses it.
    async fn tag_image(&self, from: &str, to: &str) -> Result<()>;
    /// Takes the name away, and the image with its last one. [`EngineError::Conflict`] while a
    /// container uses it.
    async fn remove_image(&self, reference: &str) -> Result<()>;

    /// The name of an image that is this one but for the volumes that it asks for (`VOLUME`): what lies there is part
    /// of a container's root file system then. Its own name when it asks for none, else one of [`PLAIN_IMAGES`];
    /// `None` where the engine cannot make one: its containers have volumes without a name, which go with them.
    async fn without_volumes(&self, reference: &str) -> Result<Option<String>>;
    /// With a size only where [`Engine::disk_limits`] says that it holds; else [`EngineError::Refused`].
    async fn volume_create(&self, name: &str, labels: &Labels, size_bytes: Option<u64>) -> Result<()>;
    /// Whether there is one of this name, whoever made it.
    async fn has_volume(&self, name: &str) -> Result<bool>;
    async fn volumes(&self, labels: &Labels) -> Result<Vec<VolumeInfo>>;
    async fn remove_volume(&self, name: &str) -> Result<()>;

    /// A bridge network whose containers cannot reach each other.
    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<()>;
    /// `None` where there is none of that name.
    async fn network(&self, name: &str) -> Result<Option<NetworkInfo>>;
    async fn remove_network(&self, name: &str) -> Result<()>;
    /// Has a container that does not run be on this network alone from its next start on, at this address or at one of
    /// the engine's choice.
    async fn put_on_network(&self, id: &str, network: &str, address: Option<Ipv4Addr>) -> Result<()>;

    /// Makes a container, not started. A taken name is [`EngineError::Conflict`]; an image for another
    /// processor is [`EngineError::WrongPlatform`], and nothing is made.
    async fn create(&self, spec: &ContainerSpec) -> Result<String>;
    async fn start(&self, id: &str) -> Result<()>;
    /// Asks PID 1 to end, then kills after `grace_seconds`.
    async fn stop(&self, id: &str, grace_seconds: u32) -> Result<()>;
    /// [`EngineError::Refused`] where [`EngineInfo::control_groups`] says that it cannot.
    async fn pause(&self, id: &str) -> Result<()>;
    async fn unpause(&self, id: &str) -> Result<()>;
    async fn update(&self, id: &str, limits: &Limits) -> Result<()>;
    /// Removes a container, running or not. Named volumes stay.
    async fn remove(&self, id: &str) -> Result<()>;
    /// By id or name; `None` when there is no such container.
    async fn inspect(&self, id: &str) -> Result<Option<ContainerInfo>>;
    /// Containers that carry all of the labels, in any state.
    async fn containers(&self, labels: &Labels) -> Result<Vec<ContainerInfo>>;
    /// The same in one call and without a look at each: cheap for a thousand.
    async fn summaries(&self, labels: &Labels) -> Result<Vec<Summary>>;

    /// Runs a program in a running container as a given user, and gives its stdin and stdout as
    /// one byte stream; no TTY. Shutting down the stream closes stdin. The stream ends well when
    /// the program ends with 0, else with an error that holds [`ExecFailure`]. Dropping the stream
    /// closes both ends: the program is expected to end with its stdin.
    async fn exec_stream(&self, id: &str, exec: &ExecStart) -> Result<Box<dyn ByteStream>>;

    /// Unpacks a tar archive at a path of a container, running or not; one that is not there is
    /// [`EngineError::NotFound`], or is made.
    async fn archive_put(&self, id: &str, path: &str, tar: Bytes) -> Result<()>;
    /// A path of a container as a tar archive; [`EngineError::NotFound`] when it is not there. Links on the way are
    /// followed within the container; one at the end is given as it is, or as what it leads to.
    async fn archive_get(&self, id: &str, path: &str) -> Result<BoxStream<'static, Result<Bytes>>>;

    /// What a container has written to its root file system, as a commit of it would: files by their length, holes
    /// and all. `None` where the engine does not tell; one that keeps its images in containerd tells what is on disk.
    async fn written_bytes(&self, id: &str) -> Result<Option<u64>>;
    /// How many files and directories of its root file system a container has made, changed or removed. Walks them.
    /// `None` where the engine does not tell.
    async fn written_files(&self, id: &str) -> Result<Option<u64>>;
    /// Makes an image of a container's file system and gives its id.
    async fn commit(&self, id: &str, tag: &str, config: &CommitConfig) -> Result<String>;

    /// Which disk limits this engine can hold, found by trying: makes and removes a volume and a
    /// never started container of `image`, both under `name`, which must be the caller's alone.
    async fn disk_limits(&self, name: &str, image: &str, labels: &Labels) -> Result<DiskLimits>;
    /// What every container and volume takes up. Walks them all, so it can take long; while another
    /// such walk goes on it is [`EngineError::Conflict`].
    async fn disk_usage(&self) -> Result<DiskUsage>;
    /// How full the engine's disk is; cheap. `None` where that cannot be seen from here.
    async fn disk_space(&self) -> Result<Option<DiskSpace>> {
        Ok(None)
    }
    /// Resource use now; of a container that does not run, zeros. [`EngineError::Refused`] where
    /// [`EngineInfo::control_groups`] says that there is nothing to measure by.
    async fn stats_once(&self, id: &str) -> Result<Stats>;
    /// Resource use about once a second, until dropped.
    fn stats(&self, id: &str) -> BoxStream<'static, Result<Stats>>;
    /// Container events with these labels, until dropped or the engine goes.
    fn events(&self, labels: &Labels) -> BoxStream<'static, Result<EngineEvent>>;
}

/// A full-duplex byte stream to a process.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}
