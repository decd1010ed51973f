//! The Docker engine (and Podman's, through the same API).
//!
//! bollard types and sends the JSON calls over our own transport; every raw byte stream is our own
//! ([`hijack`], [`stdcopy`]). Every call has a time-out and every name is checked before it becomes
//! part of a path. It keeps no state but connections and which process a container was last seen to be:
//! a clone is the same engine.

mod disk;
mod faults;
mod hijack;
mod local;
mod networks;
mod plain;
mod podman;
mod profile;
mod seccomp;
mod stdcopy;
mod transport;
mod views;
mod waiting;

use crate::{
    ByteStream, CommitConfig, ContainerInfo, ContainerSpec, ContainerState, DiskLimits, DiskSpace, DiskUsage, Engine,
    EngineError, EngineEvent, EngineInfo, ExecStart, ImageInfo, Labels, Limits, NetworkInfo, NetworkSpec, PullProgress,
    RegistryAuth, Result, Stats, Summary, VolumeInfo,
};
use async_trait::async_trait;
use bollard::auth::DockerCredentials;
use bollard::models::{ContainerConfig, ContainerSummary, ExecConfig};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    DownloadFromContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions, InspectContainerOptionsBuilder,
    ListContainersOptionsBuilder, ListImagesOptions, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptions, RemoveVolumeOptions, StartContainerOptions, StatsOptionsBuilder, StopContainerOptionsBuilder,
    TagImageOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use bytes::Bytes;
use faults::{engine_error, pull_error, start_error};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http_body_util::BodyExt;
pub use rexec_ssh::PublicKey as HostKey;
pub use rexec_ssh::client::{DialError, KnownHost, KnownHostError, PrivateKey, PrivateKeyError};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};
use transport::Transport;
pub use transport::{
    Address, AddressError, Dialler, Endpoint, EndpointError, SshMaterial, TlsFault, TlsMaterial, Unreachable, Validity,
};
use waiting::{failed, unavailable, watched, within};

const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// For calls that only read or write the engine's records.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// For calls that start, end or free something on a busy machine.
const WORK_TIMEOUT: Duration = Duration::from_secs(120);
/// For calls that move whole file systems.
const BULK_TIMEOUT: Duration = Duration::from_secs(1800);
/// How long a pull or an archive may go without a word.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const STATS_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Events come when they come; a broken connection ends their stream.
const EVENTS_IDLE_TIMEOUT: Duration = Duration::MAX;
/// How long after the end of its stream an exec may take to report its code.
const EXIT_CODE_TIMEOUT: Duration = Duration::from_secs(5);
/// On a busy machine not every process stands still within the moment that runc grants them; it thaws them then and
/// gives up. It is asked again after each of these.
const FREEZE_PAUSES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Inspections at once of all callers: a server that starts looks at every workspace, and each look is a connection.
const LOOKS_MAX: usize = 32;
/// Inspections at once when listing.
const INSPECTIONS_MAX: usize = 8;
/// An archive with no entries: two zero blocks (POSIX.1-2001, pax interchange format).
const EMPTY_TAR: &[u8] = &[0; 1024];
/// What happens to a container that changes its state or its end; the last two are Podman's words.
const EVENTS: &[&str] =
    &["create", "start", "die", "oom", "pause", "unpause", "stop", "update", "destroy", "died", "remove"];

/// A Docker engine at an address.
#[derive(Clone)]
pub struct DockerEngine {
    docker: Docker,
    transport: Transport,
    looks: Arc<Semaphore>,
    processes: Arc<local::Processes>,
    /// What it once said of itself, for what does not change while it lives.
    told: Arc<OnceCell<EngineInfo>>,
}

impl DockerEngine {
    async fn inspect_image(&self, reference: &str) -> Result<Option<ImageInfo>> {
        let found = match within(CALL_TIMEOUT, self.docker.inspect_image(reference)).await {
            Err(error) if faults::is_going(&error) => None,
            found => found_or_none(found)?,
        };
        let Some(mut image) = found.map(views::image).transpose()? else { return Ok(None) };
        if self.is_podman().await? {
            image.references = image.references.into_iter().map(podman::familiar).collect();
        }
        Ok(Some(image))
    }

    /// An engine that lets in whoever reaches it: `unix:///path`, or `tcp://` on this machine. Contacts nobody: an
    /// engine that is down is found by the calls.
    pub fn connect(address: &str) -> Result<DockerEngine> {
        let refused = |why: String| EngineError::Refused(format!("engine address {address:?}: {why}"));
        let endpoint = Endpoint::parse(address).map_err(|error| refused(error.to_string()))?;
        DockerEngine::at(Address::new(&endpoint, None, None).map_err(|error| refused(error.to_string()))?)
    }

    /// An engine at an address. Contacts nobody, as well.
    pub fn at(address: Address) -> Result<DockerEngine> {
        let transport = Transport::new(address);
        let sender = transport.clone();
        let send = move |request: BollardRequest| {
            let sender = sender.clone();
            async move { sender.send(request.map(|body| body.map_err(Into::into).boxed_unsync())).await }
        };
        // Ours are the time-outs; bollard's own must only not be shorter.
        let docker = Docker::connect_with_custom_transport(
            send,
            Some("http://engine"),
            2 * BULK_TIMEOUT.as_secs(),
            API_DEFAULT_VERSION,
        )
        .map_err(engine_error)?;
        Ok(DockerEngine {
            docker,
            transport,
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
            processes: Arc::default(),
            told: Arc::default(),
        })
    }

    /// How it is reached.
    pub fn address(&self) -> &Address {
        self.transport.address()
    }

    async fn own_words(&self) -> Result<&EngineInfo> {
        self.told.get_or_try_init(|| self.info()).await
    }

    async fn state(&self, id: &str) -> Result<Option<ContainerState>> {
        Ok(self.inspect(id).await?.map(|info| info.state))
    }

    /// A refused change is no failure if the container is already as wanted.
    async fn unless_already(&self, id: &str, done: Result<()>, wanted: ContainerState) -> Result<()> {
        match done {
            Err(EngineError::Conflict(_) | EngineError::Refused(_))
                if self.state(id).await?.as_ref() == Some(&wanted) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    async fn says_env(&self, image: &str, env: &[String]) -> Result<bool> {
        let image = self.inspect_image(image).await?;
        Ok(image.is_some_and(|image| env.iter().all(|entry| image.env.contains(entry))))
    }

    async fn list(&self, labels: &Labels) -> Result<Vec<ContainerSummary>> {
        if self.is_podman().await? {
            return self.list_at_podman(labels).await;
        }
        let options = ListContainersOptionsBuilder::default().all(true).filters(&label_filters(labels)).build();
        within(CALL_TIMEOUT, self.docker.list_containers(Some(options))).await
    }

    async fn inspect_all(&self, ids: Vec<String>) -> Result<Vec<ContainerInfo>> {
        let inspections = ids.into_iter().map(|id| async move { self.inspect(&id).await });
        let mut seen = Vec::new();
        let mut inspections = stream::iter(inspections).buffered(INSPECTIONS_MAX);
        while let Some(info) = inspections.next().await {
            // One that went between the listing and the look is no longer there.
            seen.extend(info?);
        }
        Ok(seen)
    }

    async fn wait_removed(&self, id: &str) -> Result<()> {
        let gone = async {
            while self.state(id).await?.is_some() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            Ok(())
        };
        tokio::time::timeout(WORK_TIMEOUT, gone).await.map_err(unavailable)?
    }

    async fn exit_code(self, exec_id: String) -> Result<Option<i32>> {
        let deadline = tokio::time::Instant::now() + EXIT_CODE_TIMEOUT;
        loop {
            let exec = within(CALL_TIMEOUT, self.docker.inspect_exec(&exec_id)).await?;
            match exec.exit_code {
                Some(code) if exec.running != Some(true) => {
                    return Ok(Some(i32::try_from(code).unwrap_or(-1)));
                }
                _ if tokio::time::Instant::now() >= deadline => return Ok(None),
                // The engine learns of the end a moment after the stream has ended.
                _ => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }
}

fn found_or_none<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(EngineError::NotFound(_) | EngineError::ImageNotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn gone_is_done(done: Result<()>) -> Result<()> {
    found_or_none(done).map(|_| ())
}

fn label_filters(labels: &Labels) -> HashMap<String, Vec<String>> {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { HashMap::new() } else { HashMap::from([("label".to_owned(), pairs)]) }
}

/// Splits `name[:tag]`; a colon before the last slash belongs to a registry's port.
fn split_tag(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

#[async_trait]
impl Engine for DockerEngine {
    async fn ping(&self) -> Result<()> {
        within(PING_TIMEOUT, self.docker.ping()).await.map(|_| ())
    }

    async fn info(&self) -> Result<EngineInfo> {
        let info = within(CALL_TIMEOUT, self.docker.info()).await?;
        let version = within(CALL_TIMEOUT, self.docker.version()).await?;
        let mut info = views::engine(info, version.api_version.unwrap_or_default());
        if let Some(podman) = self.podman().await? {
            podman.correct(&mut info);
        }
        Ok(info)
    }

    async fn image(&self, reference: &str) -> Result<Option<ImageInfo>> {
        self.inspect_image(&profile::image(reference)?).await
    }

    async fn images(&self) -> Result<Vec<ImageInfo>> {
        let listed = within(CALL_TIMEOUT, self.docker.list_images(None::<ListImagesOptions>)).await?;
        let looks = listed.into_iter().map(|image| async move { self.inspect_image(&image.id).await });
        let mut images = Vec::new();
        let mut looks = stream::iter(looks).buffered(INSPECTIONS_MAX);
        while let Some(image) = looks.next().await {
            images.extend(image?.filter(|image| !image.references.is_empty()));
        }
        Ok(images)
    }

    fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> BoxStream<'static, Result<PullProgress>> {
        if let Err(error) = profile::reference(reference) {
            return failed(error);
        }
        // Without a tag Docker would pull all of them; a digest stays part of the name.
        let whole = reference.to_owned();
        let (name, tag) = if reference.contains('@') { (reference, "") } else { split_tag(reference) };
        let options = CreateImageOptionsBuilder::default().from_image(name).tag(tag).build();
        let credentials = auth.map(|auth| DockerCredentials {
            username: Some(auth.username.clone()),
            password: Some(auth.password.clone()),
            serveraddress: Some(auth.server.clone()),
            ..Default::default()
        });
        let pulled = self.docker.create_image(Some(options), None, credentials);
        watched(pulled, STREAM_IDLE_TIMEOUT, move |error| pull_error(&whole, error))
            .filter_map(async |item| item.map(views::pull_progress).transpose())
            .boxed()
    }

    async fn import_image(&self, tag: &str, tar: Bytes) -> Result<()> {
        // The tag within the name: Podman does not look at it elsewhere.
        let options = CreateImageOptionsBuilder::default().from_src("-").repo(profile::reference(tag)?).build();
        let tar = if tar.is_empty() { Bytes::from_static(EMPTY_TAR) } else { tar };
        let mut news = watched(
            self.docker.create_image(Some(options), Some(bollard::body_full(tar)), None),
            STREAM_IDLE_TIMEOUT,
            engine_error,
        );
        while let Some(item) = news.next().await {
            item?;
        }
        Ok(())
    }

    async fn tag_image(&self, from: &str, to: &str) -> Result<()> {
        let (name, tag) = split_tag(profile::reference(to)?);
        let options = TagImageOptionsBuilder::default().repo(name).tag(tag).build();
        within(CALL_TIMEOUT, self.docker.tag_image(profile::reference(from)?, Some(options))).await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let reference = profile::reference(reference)?;
        let removed = within(WORK_TIMEOUT, self.docker.remove_image(reference, None::<RemoveImageOptions>, None)).await;
        gone_is_done(removed.map(|_| ()))
    }

    async fn without_volumes(&self, reference: &str) -> Result<Option<String>> {
        self.make_plain(reference).await
    }

    async fn volume_create(&self, name: &str, labels: &Labels, size_bytes: Option<u64>) -> Result<()> {
        let request = profile::volume(name, labels, size_bytes)?;
        // It would make the volume, and fail to mount it.
        if size_bytes.is_some() && self.is_podman().await? {
            return Err(EngineError::Refused("Podman holds no volume to a size".into()));
        }
        within(CALL_TIMEOUT, self.docker.create_volume(request)).await.map(|_| ())
    }

    async fn has_volume(&self, name: &str) -> Result<bool> {
        let name = profile::name(name)?;
        Ok(found_or_none(within(CALL_TIMEOUT, self.docker.inspect_volume(name)).await)?.is_some())
    }

    async fn volumes(&self, labels: &Labels) -> Result<Vec<VolumeInfo>> {
        let options = ListVolumesOptionsBuilder::default().filters(&label_filters(labels)).build();
        let listed = within(CALL_TIMEOUT, self.docker.list_volumes(Some(options))).await?;
        let view = |v: bollard::models::Volume| VolumeInfo { name: v.name, labels: v.labels.into_iter().collect() };
        Ok(listed.volumes.unwrap_or_default().into_iter().map(view).collect())
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        let name = profile::name(name)?;
        gone_is_done(within(WORK_TIMEOUT, self.docker.remove_volume(name, None::<RemoveVolumeOptions>)).await)
    }

    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<()> {
        self.make_network(spec).await
    }

    async fn network(&self, name: &str) -> Result<Option<NetworkInfo>> {
        let there = self.seen_network(name).await?;
        Ok(there.map(|there| NetworkInfo { bridge: there.bridge, subnet: there.subnet }))
    }

    async fn remove_network(&self, name: &str) -> Result<()> {
        gone_is_done(within(WORK_TIMEOUT, self.docker.remove_network(profile::name(name)?)).await)
    }

    async fn put_on_network(&self, id: &str, network: &str, address: Option<Ipv4Addr>) -> Result<()> {
        self.change_network(id, network, address).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String> {
        let options = CreateContainerOptionsBuilder::default().name(profile::name(&spec.name)?).build();
        let mut body = profile::container(spec)?;
        if self.is_podman().await? {
            self.suit_podman(spec, &mut body).await?;
        }
        let made = within(WORK_TIMEOUT, self.docker.create_container(Some(options), body)).await?;
        // Docker makes it all the same, and its programs would end with "exec format error".
        if let Some(warning) = made.warnings.iter().find(|warning| faults::is_platform_warning(warning)) {
            self.remove(&made.id).await?;
            return Err(EngineError::WrongPlatform(format!("{}: {warning}", spec.image)));
        }
        Ok(made.id)
    }

    async fn start(&self, id: &str) -> Result<()> {
        let id = profile::name(id)?;
        let started = within(WORK_TIMEOUT, self.docker.start_container(id, None::<StartContainerOptions>)).await;
        started.map_err(start_error)
    }

    async fn stop(&self, id: &str, grace_seconds: u32) -> Result<()> {
        let id = profile::name(id)?;
        let grace = i32::try_from(grace_seconds).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(grace).build();
        let limit = WORK_TIMEOUT + Duration::from_secs(grace_seconds.into());
        // Podman would kill it and fail to tidy up.
        if self.is_podman().await? && self.state(id).await? == Some(ContainerState::Paused) {
            self.unpause(id).await?;
        }
        within(limit, self.docker.stop_container(id, Some(options))).await
    }

    async fn pause(&self, id: &str) -> Result<()> {
        let name = profile::name(id)?;
        let mut done = within(CALL_TIMEOUT, self.docker.pause_container(name)).await;
        for pause in FREEZE_PAUSES {
            if !done.as_ref().is_err_and(faults::is_unfrozen) {
                break;
            }
            tokio::time::sleep(pause).await;
            done = within(CALL_TIMEOUT, self.docker.pause_container(name)).await;
        }
        self.unless_already(id, done, ContainerState::Paused).await
    }

    async fn unpause(&self, id: &str) -> Result<()> {
        let done = within(CALL_TIMEOUT, self.docker.unpause_container(profile::name(id)?)).await;
        self.unless_already(id, done, ContainerState::Running).await
    }

    async fn update(&self, id: &str, limits: &Limits) -> Result<()> {
        let body = profile::update(limits)?;
        if self.is_podman().await? {
            return self.update_at_podman(profile::name(id)?, body).await;
        }
        within(CALL_TIMEOUT, self.docker.update_container(profile::name(id)?, body)).await
    }

    async fn remove(&self, id: &str) -> Result<()> {
        // `v` removes the volumes that have no name: those that an image asked for.
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removed = within(WORK_TIMEOUT, self.docker.remove_container(profile::name(id)?, Some(options))).await;
        match gone_is_done(removed) {
            Err(EngineError::Conflict(message)) if message.contains("already in progress") => {
                self.wait_removed(id).await
            }
            other => other,
        }
    }

    async fn inspect(&self, id: &str) -> Result<Option<ContainerInfo>> {
        let id = profile::name(id)?;
        // Never closed.
        let _turn = self.looks.acquire().await;
        if self.is_podman().await? {
            let found = found_or_none(self.inspect_at_podman(id).await)?.map(views::container).transpose()?;
            return Ok(found.map(|info| ContainerInfo { image: podman::familiar(info.image), ..info }));
        }
        let found = within(CALL_TIMEOUT, self.docker.inspect_container(id, None::<InspectContainerOptions>)).await;
        found_or_none(found)?.map(views::container).transpose()
    }

    async fn containers(&self, labels: &Labels) -> Result<Vec<ContainerInfo>> {
        self.inspect_all(self.list(labels).await?.into_iter().filter_map(|c| c.id).collect()).await
    }

    async fn summaries(&self, labels: &Labels) -> Result<Vec<Summary>> {
        let is_podman = self.is_podman().await?;
        let view = |container| {
            let summary = views::summary(container)?;
            let image = if is_podman { podman::familiar(summary.image) } else { summary.image };
            Ok(Summary { image, ..summary })
        };
        self.list(labels).await?.into_iter().map(view).collect()
    }

    async fn exec_stream(&self, id: &str, exec: &ExecStart) -> Result<Box<dyn ByteStream>> {
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            privileged: Some(false),
            cmd: Some(exec.command.clone()),
            env: Some(exec.env.clone()),
            user: Some(exec.user.clone()),
            ..Default::default()
        };
        let made = within(CALL_TIMEOUT, self.docker.create_exec(profile::name(id)?, config)).await?;
        let started = hijack::start(&self.transport, profile::name(&made.id)?);
        let (wire, early) = tokio::time::timeout(WORK_TIMEOUT, started).await.map_err(unavailable)??;
        let exit_code = self.clone().exit_code(made.id.clone());
        Ok(Box::new(hijack::ExecStream::new(wire, early, Box::pin(exit_code))))
    }

    async fn archive_put(&self, id: &str, path: &str, tar: Bytes) -> Result<()> {
        let options = UploadToContainerOptionsBuilder::default().path(path).build();
        let body = bollard::body_full(tar);
        within(BULK_TIMEOUT, self.docker.upload_to_container(profile::name(id)?, Some(options), body)).await
    }

    async fn archive_get(&self, id: &str, path: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let download = self.docker.download_from_container(profile::name(id)?, Some(options));
        let mut archive = watched(download, STREAM_IDLE_TIMEOUT, engine_error);
        // The first piece comes with the answer: what is not there is an error of this call.
        let first = archive.next().await.transpose()?;
        Ok(stream::iter(first.map(Ok)).chain(archive).boxed())
    }

    async fn written_bytes(&self, id: &str) -> Result<Option<u64>> {
        let options = InspectContainerOptionsBuilder::default().size(true).build();
        let found = within(WORK_TIMEOUT, self.docker.inspect_container(profile::name(id)?, Some(options))).await?;
        Ok(found.size_rw.and_then(|bytes| u64::try_from(bytes).ok()))
    }

    async fn written_files(&self, id: &str) -> Result<Option<u64>> {
        tokio::time::timeout(WORK_TIMEOUT, self.count_changes(id)).await.map_err(unavailable)?
    }

    async fn commit(&self, id: &str, tag: &str, config: &CommitConfig) -> Result<String> {
        let (name, tag) = split_tag(profile::reference(tag)?);
        let id = profile::name(id)?;
        let options = CommitContainerOptionsBuilder::default().container(id).repo(name).tag(tag).pause(config.pause);
        let body = ContainerConfig {
            labels: Some(config.labels.clone().into_iter().collect()),
            env: Some(config.env.clone()),
            ..Default::default()
        };
        let is_podman = self.is_podman().await?;
        let options = if is_podman { options.changes(&podman::changes(config)?) } else { options };
        let made = within(BULK_TIMEOUT, self.docker.commit_container(options.build(), body)).await?;
        let made = podman::whole_id(made.id);
        if is_podman && !self.says_env(&made, &config.env).await? {
            self.remove_image(&made).await?;
            return Err(EngineError::Refused("the image would hold what its container was given in secret".into()));
        }
        Ok(made)
    }

    async fn disk_limits(&self, name: &str, image: &str, labels: &Labels) -> Result<DiskLimits> {
        self.probe_disk_limits(name, image, labels).await
    }

    async fn disk_usage(&self) -> Result<DiskUsage> {
        self.measure_disk().await
    }

    async fn disk_space(&self) -> Result<Option<DiskSpace>> {
        self.measure_space().await
    }

    async fn stats_once(&self, id: &str) -> Result<Stats> {
        let id = profile::name(id)?;
        if let Some(stats) = self.stats_from_kernel(id).await? {
            return Ok(stats);
        }
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut stats = self.docker.stats(id, Some(options));
        let sample = tokio::time::timeout(CALL_TIMEOUT, stats.next()).await.map_err(unavailable)?;
        let sample = sample.ok_or_else(|| EngineError::Protocol("the engine told no statistics".into()))?;
        sample.map(views::stats).map_err(engine_error)
    }

    fn stats(&self, id: &str) -> BoxStream<'static, Result<Stats>> {
        let id = match profile::name(id) {
            Ok(id) => id,
            Err(error) => return failed(error),
        };
        let options = StatsOptionsBuilder::default().stream(true).build();
        let stats = watched(self.docker.stats(id, Some(options)), STATS_IDLE_TIMEOUT, engine_error);
        stats.map(|item| item.map(views::stats)).boxed()
    }

    fn events(&self, labels: &Labels) -> BoxStream<'static, Result<EngineEvent>> {
        let mut filters = label_filters(labels);
        filters.insert("type".into(), vec!["container".into()]);
        filters.insert("event".into(), EVENTS.iter().map(|&e| e.to_owned()).collect());
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        watched(self.docker.events(Some(options)), EVENTS_IDLE_TIMEOUT, engine_error)
            .filter_map(async |item| item.map(views::event).transpose())
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::split_tag;

    #[test]
    fn tags() {
        assert_eq!(split_tag("a"), ("a", "latest"));
        assert_eq!(split_tag("a:1"), ("a", "1"));
        assert_eq!(split_tag("localhost:5000/a"), ("localhost:5000/a", "latest"));
        assert_eq!(split_tag("localhost:5000/a:1"), ("localhost:5000/a", "1"));
    }
}
