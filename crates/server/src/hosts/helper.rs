//! Helper containers: our own guest binary at work on a host's volumes, for the server.
//!
//! A helper sees the volumes it is given and nothing else: no network, no key, no capability that a
//! workspace lacks; but for those that set its host's rules (`closing.rs`) and end what its engine has left (`orphans.rs`), which see no volume. What is to be done in it are commands of the guest binary, one exec each; PID 1
//! only waits. It belongs to one job, by whose name it is found again.
//!
//! **Trust.** A helper on a tenant's image runs none of it: our program is static, and it and every other mount lie
//! below a directory of which nobody knew the name when the image was made. So no link in it leads a mount of
//! the engine elsewhere, and nothing in it takes the program's place.
//!
//! Invariant: a job has one helper at most, and one whose job this server does not know is left
//! over: it is removed when the host is prepared, or when its job begins again. Where several servers use an engine, each
//! helper bears its server's name, and is let be while that one is there.

use super::delivery::{EMPTY_IMAGE, VOLUME, program};
use super::{Host, LABEL_HELPER};
use rexec_api::guest::MOUNT;
use rexec_engine::{
    ByteStream, ContainerSpec, Engine, EngineError, ExecFailure, ExecStart, Labels, Limits, Mount, Profile, Result,
    SummaryState,
};
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

const NAME: &str = "rexec-helper-";
/// Which of several servers has it.
const LABEL_REPLICA: &str = "rexec.replica";
/// Copying needs little; the account of a million files some 200 MiB.
/// gVisor's own threads count among the processes: with 32 its kernel does not come up.
const LIMITS: Limits = Limits { cpu: 1.0, memory_bytes: 512 << 20, pids: 256 };

/// A helper to open.
#[derive(Debug, Clone, Default)]
pub struct HelperSpec {
    /// What it is for, as part of a container's name: unique among all jobs of the installation.
    pub job: String,
    /// `None` for the engine's own.
    pub runtime: Option<String>,
    /// The usual one, but for trials of nesting, for the host's rules and for its orphans.
    pub profile: Profile,
    /// Its root file system, which may be a tenant's; `None` for an empty one.
    pub image: Option<String>,
    /// With an image, where they lie is told by [`Helper::at`].
    pub mounts: Vec<Mount>,
}

/// The jobs that this server has open on one host.
#[derive(Clone, Default)]
pub struct LiveJobs(Arc<Mutex<HashSet<String>>>);

impl LiveJobs {
    /// `None` when it is open already.
    fn begin(&self, job: &str) -> Option<LiveJob> {
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(job.to_owned());
        is_new.then(|| LiveJob { jobs: self.clone(), job: job.to_owned() })
    }

    fn has(&self, job: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(job)
    }
}

/// Counts as open until dropped.
struct LiveJob {
    jobs: LiveJobs,
    job: String,
}

impl Drop for LiveJob {
    fn drop(&mut self) {
        self.jobs.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.job);
    }
}

/// A helper that runs. Dropped without [`Helper::close`] it is left over.
pub struct Helper {
    engine: Arc<dyn Engine>,
    id: String,
    /// Before the path of every mount.
    place: String,
    _job: LiveJob,
}

impl Helper {
    /// [`EngineError::Conflict`] when the job has one open.
    pub async fn open(host: &Host, spec: HelperSpec) -> Result<Self> {
        let job = host.helpers.begin(&spec.job).ok_or_else(|| EngineError::Conflict(format!("{} runs", spec.job)))?;
        let place = if spec.image.is_some() { unguessable() } else { String::new() };
        let mut container = container(host.labels_to_give(), spec, &place);
        if let Some(id) = host.replicas.id() {
            container.labels.insert(LABEL_REPLICA.into(), id.to_string());
        }
        let engine = host.engine.clone();
        let made = match engine.create(&container).await {
            // A server that died at this job left its helper behind; one that is there is at it.
            Err(EngineError::Conflict(why)) => {
                if is_at_work(host, &container.name).await? {
                    return Err(EngineError::Conflict(why));
                }
                engine.remove(&container.name).await?;
                engine.create(&container).await?
            }
            made => made?,
        };
        let helper = Self { engine, id: made, place, _job: job };
        match helper.engine.start(&helper.id).await {
            Ok(()) => Ok(helper),
            Err(error) => {
                helper.close().await?;
                Err(error)
            }
        }
    }

    /// Runs a command of the guest binary, such as `["volume", "copy", "/from", "/to"]`. What it says and
    /// how it ends is told by the stream, as [`Engine::exec_stream`] describes.
    pub async fn run(&self, command: &[&str]) -> Result<Box<dyn ByteStream>> {
        let command = [program(&self.place)].into_iter().chain(command.iter().map(|&word| word.to_owned())).collect();
        self.engine.exec_stream(&self.id, &ExecStart { command, user: "0:0".into(), env: Vec::new() }).await
    }

    /// Where in the helper a mount lies that was asked for at `path`.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.place)
    }

    /// The container, for what the engine does with one, such as a commit.
    pub fn container(&self) -> &str {
        &self.id
    }

    /// Ends whatever runs in it.
    pub async fn close(self) -> Result<()> {
        self.engine.remove(&self.id).await
    }

    /// Removes the helper of a job that nobody has open any more.
    pub async fn remove_of(host: &Host, job: &str) -> Result<()> {
        let name = format!("{NAME}{job}");
        if host.helpers.has(job) || is_at_work(host, &name).await? {
            return Ok(());
        }
        match host.engine.remove(&name).await {
            Err(EngineError::NotFound(_)) => Ok(()),
            done => done,
        }
    }

    /// Removes the helpers of this installation whose jobs this server does not have open. Gives those that did not run: of
    /// a start that was cut off something may be left which the engine knows nothing of.
    pub async fn leftovers(host: &Host) -> Result<Vec<String>> {
        let mut still = Vec::new();
        for found in host.engine.summaries(&host.labels()).await? {
            // A container has its image's labels, and that may be anyone's. Its name it has from us.
            let Some(job) = found.labels.get(LABEL_HELPER) else { continue };
            if found.name == format!("{NAME}{job}") && !host.helpers.has(job) && !is_anothers(host, &found.labels) {
                host.engine.remove(&found.id).await?;
                if found.state != SummaryState::Running {
                    still.push(found.id);
                }
            }
        }
        Ok(still)
    }
}

fn is_anothers(host: &Host, labels: &Labels) -> bool {
    labels.get(LABEL_REPLICA).is_some_and(|id| host.replicas.is_another(id))
}

/// Whether another server that is there has the helper of this name.
async fn is_at_work(host: &Host, name: &str) -> Result<bool> {
    match host.replicas.is_alone() {
        true => Ok(false),
        false => Ok(host.engine.inspect(name).await?.is_some_and(|found| is_anothers(host, &found.labels))),
    }
}

/// Why a helper's command failed, by the last line of what it said; any other failure is the engine's.
pub(super) fn fault_of(error: io::Error) -> Result<String> {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ExecFailure>()) {
        Some(failure) => {
            let line = failure.stderr.lines().last().unwrap_or_default();
            Ok(line.trim_start_matches("rexec-guest: ").to_owned())
        }
        None => Err(EngineError::Unavailable(error.into())),
    }
}

/// 122 random bits.
fn unguessable() -> String {
    format!("/.rexec-{}", uuid::Uuid::new_v4().simple())
}

fn container(mut labels: Labels, spec: HelperSpec, place: &str) -> ContainerSpec {
    let mut mounts = spec.mounts;
    // An engine makes a volume that went a moment ago anew: with these it is found again.
    mounts.iter_mut().for_each(|mount| mount.labels.clone_from(&labels));
    labels.insert(LABEL_HELPER.into(), spec.job.clone());
    mounts.push(Mount { volume: VOLUME.into(), path: MOUNT.into(), read_only: true, labels: Labels::new() });
    mounts.iter_mut().for_each(|mount| mount.path.insert_str(0, place));
    let network = if spec.profile == Profile::Firewall { "host" } else { "none" };
    ContainerSpec {
        name: format!("{NAME}{}", spec.job),
        hostname: "helper".into(),
        image: spec.image.unwrap_or_else(|| EMPTY_IMAGE.into()),
        command: vec![program(place), "helper".into()],
        env: Vec::new(),
        labels,
        network: network.into(),
        runtime: spec.runtime,
        profile: spec.profile,
        limits: LIMITS,
        mounts,
        root_bytes: None,
        address: None,
        dial_dir: None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{LOCAL, delivery, usual_socket};
    use super::*;
    use crate::config::{Config, Sources};
    use rexec_api::guest::FILE_BYTES_MIN;
    use rexec_api::ids::HostId;
    use rexec_engine::docker::DockerEngine;
    use serde_json::{Value, json};
    use std::path::Path;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

    /// A host of this test's own on the machine's engine, by whose label everything goes again.
    struct Bench {
        host: Arc<Host>,
        data: tempfile::TempDir,
    }

    fn host(data: &Path, id: HostId, instance: String) -> Arc<Host> {
        // Should this process be killed, `scripts/leftovers.sh` knows by the label what to take away.
        let labels = ("REXEC_ENGINE_LABELS", "rexec.test=helper");
        let variables = [("REXEC_DATA_DIR", data.to_str().unwrap()), labels];
        let config = Config::from_sources(&Sources::from_env(variables)).unwrap();
        let socket = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let socket = socket.unwrap_or_else(|| format!("unix://{}", usual_socket().display()));
        let engine = Arc::new(DockerEngine::connect(&socket).unwrap());
        Host::new(id, LOCAL.into(), instance, engine, true, &config)
    }

    impl Bench {
        async fn new() -> Self {
            let data = tempfile::tempdir().unwrap();
            let host = host(data.path(), HostId::new(), uuid::Uuid::new_v4().to_string());
            delivery::deliver(&host, None).await.unwrap();
            Self { host, data }
        }

        async fn volume(&self, role: &str) -> String {
            let name = format!("rexec-test-{}-{role}", self.host.instance);
            self.host.engine.volume_create(&name, &self.host.labels_to_give(), None).await.unwrap();
            name
        }

        async fn containers(&self) -> usize {
            self.host.engine.summaries(&self.host.labels()).await.unwrap().len()
        }

        async fn clean(self) {
            Helper::leftovers(&self.host).await.unwrap();
            assert_eq!(self.containers().await, 0);
            for volume in self.host.engine.volumes(&self.host.labels()).await.unwrap() {
                self.host.engine.remove_volume(&volume.name).await.unwrap();
            }
        }
    }

    fn mount(volume: &str, path: &str, read_only: bool) -> Mount {
        Mount { volume: volume.into(), path: path.into(), read_only, labels: Labels::new() }
    }

    fn tar(files: &[(&str, &[u8])]) -> bytes::Bytes {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o640);
            header.set_uid(1000);
            header.set_gid(1000);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, *content).unwrap();
        }
        tar.into_inner().unwrap().into()
    }

    /// The files of a path in a container: content and owner, by name.
    async fn files(engine: &dyn Engine, container: &str, path: &str) -> Vec<(String, Vec<u8>, u64)> {
        let mut bytes = Vec::new();
        let mut archive = engine.archive_get(container, path).await.unwrap();
        while let Some(piece) = futures_util::StreamExt::next(&mut archive).await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.header().entry_type().is_file() {
                let mut content = Vec::new();
                std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
                let name = entry.path().unwrap().file_name().unwrap().to_string_lossy().into_owned();
                found.push((name, content, entry.header().uid().unwrap()));
            }
        }
        found.sort();
        found
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_helper_copies_a_volume_in_two_passes() {
        let bench = Bench::new().await;
        let engine = bench.host.engine.clone();
        let (from, to) = (bench.volume("from").await, bench.volume("to").await);
        let spec = |job: &str, read_only| HelperSpec {
            job: format!("{job}-{}", bench.host.instance),
            mounts: vec![mount(&from, "/from", read_only), mount(&to, "/to", false)],
            ..HelperSpec::default()
        };
        let owner = Helper::open(&bench.host, spec("owner", false)).await.unwrap();
        engine.archive_put(owner.container(), "/from", tar(&[("kept", b"old"), ("gone", b"old")])).await.unwrap();

        let helper = Helper::open(&bench.host, spec("copy", true)).await.unwrap();
        assert!(matches!(Helper::open(&bench.host, spec("copy", true)).await, Err(EngineError::Conflict(_))));
        let mut copying = BufReader::new(helper.run(&["volume", "copy", "--twice", "/from", "/to"]).await.unwrap());
        let mut said = String::new();
        copying.read_line(&mut said).await.unwrap();
        assert_eq!(said, "ready\n");
        engine.archive_put(owner.container(), "/from", tar(&[("kept", b"new"), ("more", b"more")])).await.unwrap();
        copying.write_all(b"go on\n").await.unwrap();
        copying.shutdown().await.unwrap();
        said.clear();
        copying.read_to_string(&mut said).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), json!({"files": 3, "bytes": 3 * FILE_BYTES_MIN}));
        let copied = files(&*engine, helper.container(), "/to").await;
        let expected = [("gone", "old"), ("kept", "new"), ("more", "more")];
        assert_eq!(copied, expected.map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec(), 1000)));

        // Its failures are told, and what it may not write it cannot.
        let mut failing = helper.run(&["volume", "copy", "/to", "/from"]).await.unwrap();
        let error = failing.read_to_end(&mut Vec::new()).await.unwrap_err();
        let failure = error.get_ref().and_then(|inner| inner.downcast_ref::<ExecFailure>()).unwrap();
        assert!(failure.exit_code == 1 && failure.stderr.contains("Read-only file system"), "{failure:?}");

        helper.close().await.unwrap();
        owner.close().await.unwrap();
        assert_eq!(bench.containers().await, 0);
        bench.clean().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_takes_a_hosts_place_knows_the_jobs_there() {
        let bench = Bench::new().await;
        let spec = HelperSpec { job: format!("going-{}", bench.host.instance), ..HelperSpec::default() };
        let going = Helper::open(&bench.host, spec).await.unwrap();
        let next = host(bench.data.path(), bench.host.id, bench.host.instance.clone()).in_place_of(&bench.host);
        assert!(Helper::leftovers(&next).await.unwrap().is_empty());
        assert_eq!(bench.containers().await, 1, "it is at work");
        going.close().await.unwrap();
        bench.clean().await;
    }

    /// An image that has links where helpers and workspaces mount, and a program of its own behind them.
    fn trap() -> bytes::Bytes {
        let mut tar = tar::Builder::new(Vec::new());
        let mut append = |path: &str, kind, target: Option<&str>, content: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            match target {
                Some(target) => tar.append_link(&mut header, path, target).unwrap(),
                None => tar.append_data(&mut header, path, content).unwrap(),
            }
        };
        append("trap/", tar::EntryType::Directory, None, b"");
        append(&format!("trap/v-{}/guest", delivery::GUEST_HASH), tar::EntryType::Regular, None, b"not ours");
        append(".rexec", tar::EntryType::Symlink, Some("/trap"), b"");
        append("home/", tar::EntryType::Directory, None, b"");
        // Mounted after the guest's volume, its path being longer: over it.
        append("home/user", tar::EntryType::Symlink, Some("/.rexec"), b"");
        tar.into_inner().unwrap().into()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_image_leads_no_mount_of_a_helper_elsewhere() {
        let bench = Bench::new().await;
        let engine = bench.host.engine.clone();
        let (image, home) = (format!("rexec-test-trap:{}", bench.host.instance), bench.volume("home").await);
        engine.import_image(&image, trap()).await.unwrap();
        let spec = HelperSpec {
            job: format!("trap-{}", bench.host.instance),
            image: Some(image.clone()),
            mounts: vec![mount(&home, "/home/user", true)],
            ..HelperSpec::default()
        };
        let helper = Helper::open(&bench.host, spec).await.unwrap();
        let mut packing = helper.run(&["volume", "pack", "/", &helper.at("/home/user")]).await.unwrap();
        packing.write_all(b"{}").await.unwrap();
        packing.shutdown().await.unwrap();
        let mut archive = Vec::new();
        packing.read_to_end(&mut archive).await.unwrap();
        assert!(archive.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), "{archive:?}");
        helper.close().await.unwrap();
        engine.remove_image(&image).await.unwrap();
        bench.clean().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_dead_server_left_goes() {
        let bench = Bench::new().await;
        let spec = |job: &str| HelperSpec { job: format!("{job}-{}", bench.host.instance), ..HelperSpec::default() };
        let open = Helper::open(&bench.host, spec("open")).await.unwrap();
        drop(Helper::open(&bench.host, spec("lost")).await.unwrap());
        drop(Helper::open(&bench.host, spec("again")).await.unwrap());
        let again = Helper::open(&bench.host, spec("again")).await.unwrap();
        // A workspace whose image says that it is a helper.
        let theirs = ContainerSpec {
            name: format!("rexec-test-{}", bench.host.instance),
            ..container(bench.host.labels_to_give(), spec("theirs"), "")
        };
        let theirs = bench.host.engine.create(&theirs).await.unwrap();
        assert_eq!(bench.containers().await, 4);
        Helper::leftovers(&bench.host).await.unwrap();
        assert_eq!(bench.containers().await, 3, "those whose jobs are open stay, and what is no helper");
        bench.host.engine.remove(&theirs).await.unwrap();
        open.close().await.unwrap();
        again.close().await.unwrap();
        bench.clean().await;
    }
}
