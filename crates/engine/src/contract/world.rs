//! A case's own corner of an engine: a name, a label and an image, gone when it is dropped.

use crate::{
    Addresses, ContainerInfo, ContainerSpec, ContainerState, Engine, EngineError, ExecStart, Labels, Limits,
    NetworkSpec, Profile,
};
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Makes a handle of the engine under test; called again to clean up, on another runtime.
pub type MakeEngine = fn() -> Arc<dyn Engine>;

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: &[&str] = &[
    "cat",
    "dd",
    "echo",
    "env",
    "grep",
    "head",
    "hostname",
    "id",
    "ip",
    "kill",
    "ls",
    "mkdir",
    "mount",
    "nc",
    "nslookup",
    "pidof",
    "readlink",
    "rm",
    "sh",
    "sha256sum",
    "sleep",
    "stat",
    "test",
    "touch",
    "tr",
    "true",
    "wc",
];
/// PID 1 of a test's container: ends with this code when it is asked to.
pub const TERM_CODE: i32 = 7;
const INIT: &str = "trap 'exit 7' TERM; while :; do sleep 3600 & wait $!; done";
const LABEL: &str = "rexec.contract";
/// No condition here takes this long on a working engine.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

pub struct World {
    pub engine: Arc<dyn Engine>,
    /// Tells this world's objects from all others.
    pub id: String,
    /// A busybox image of this world's own.
    pub image: String,
    make: MakeEngine,
    networks: Mutex<Vec<String>>,
    images: Mutex<Vec<String>>,
}

impl World {
    pub async fn new(make: MakeEngine) -> World {
        let engine = make();
        if let Err(error) = engine.ping().await {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            panic!("these tests need a container engine and none answers: {error}: {cause}");
        }
        let id = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let world = World {
            engine,
            image: format!("rexec-contract-{id}:1"),
            id,
            make,
            networks: Mutex::default(),
            images: Mutex::default(),
        };
        world.owns_image(&world.image);
        world.engine.import_image(&world.image, busybox_tar()).await.expect("the test image is imported");
        world
    }

    pub fn labels(&self) -> Labels {
        Labels::from([(LABEL.to_owned(), self.id.clone())])
    }

    pub fn name(&self, role: &str) -> String {
        format!("rexec-contract-{}-{role}", self.id)
    }

    /// Has an image removed with the world.
    pub fn owns_image(&self, reference: &str) {
        self.images.lock().expect("no test panics here").push(reference.to_owned());
    }

    /// A network to make, removed with the world. Its bridge has a name of this world's.
    pub fn network(&self, role: &str, internal: bool) -> NetworkSpec {
        let spec = NetworkSpec {
            name: self.name(role),
            bridge: format!("rx{}{}", &self.id[..11], &role[..1]),
            internal,
            addresses: Addresses::Engine,
            labels: self.labels(),
        };
        self.networks.lock().expect("no test panics here").push(spec.name.clone());
        spec
    }

    /// A container without a network that waits to be told to end.
    pub fn spec(&self, role: &str) -> ContainerSpec {
        ContainerSpec {
            name: self.name(role),
            hostname: role.to_owned(),
            image: self.image.clone(),
            command: vec!["/bin/sh".into(), "-c".into(), INIT.into()],
            env: vec!["PATH=/bin".into()],
            labels: self.labels(),
            network: "none".into(),
            address: None,
            runtime: None,
            profile: Profile::Usual,
            limits: Limits { cpu: 1.0, memory_bytes: 64 << 20, pids: 64 },
            mounts: Vec::new(),
            root_bytes: None,
            dial_dir: None,
        }
    }

    pub async fn create(&self, spec: &ContainerSpec) -> String {
        self.engine.create(spec).await.expect("a container is made")
    }

    pub async fn run(&self, spec: &ContainerSpec) -> String {
        let id = self.create(spec).await;
        self.engine.start(&id).await.expect("a container starts");
        id
    }

    pub async fn running(&self, role: &str) -> String {
        self.run(&self.spec(role)).await
    }

    pub async fn info(&self, id: &str) -> ContainerInfo {
        self.engine.inspect(id).await.expect("inspects").expect("the container is there")
    }

    pub async fn state(&self, id: &str) -> ContainerState {
        self.info(id).await.state
    }

    /// Runs a program as root without input, and gives what it wrote to stdout.
    pub async fn exec(&self, id: &str, command: &[&str]) -> std::io::Result<String> {
        self.exec_as(id, "0:0", command).await
    }

    pub async fn exec_as(&self, id: &str, user: &str, command: &[&str]) -> std::io::Result<String> {
        let mut stream = self.engine.exec_stream(id, &exec(user, command)).await.map_err(std::io::Error::other)?;
        stream.shutdown().await?;
        let mut out = String::new();
        stream.read_to_string(&mut out).await?;
        Ok(out)
    }

    /// Runs a shell script as root that must succeed, and gives its output without the last newline.
    pub async fn sh(&self, id: &str, script: &str) -> String {
        let out = self.exec(id, &["/bin/sh", "-c", script]).await;
        out.unwrap_or_else(|e| panic!("{script}: {e}")).trim_end().to_owned()
    }

    /// Whether a shell script succeeds.
    pub async fn succeeds(&self, id: &str, script: &str) -> bool {
        self.exec(id, &["/bin/sh", "-c", script]).await.is_ok()
    }

    /// Waits until a condition holds.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let held = async {
            while !condition().await {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, held).await.is_ok(), "waited in vain: {what}");
    }

    pub async fn until_exited(&self, id: &str) -> ContainerState {
        self.until("the container ends", async || matches!(self.state(id).await, ContainerState::Exited { .. })).await;
        self.state(id).await
    }
}

pub fn exec(user: &str, command: &[&str]) -> ExecStart {
    ExecStart {
        command: command.iter().map(|&c| c.to_owned()).collect(),
        user: user.to_owned(),
        env: vec!["PATH=/bin".into()],
    }
}

/// Busybox, its applets, two users and the usual places.
fn busybox_tar() -> Bytes {
    let busybox = std::fs::read(BUSYBOX).expect("/bin/busybox is there (Debian's package busybox-static)");
    let mut tar = TarBuilder::default();
    for dir in ["bin/", "etc/", "proc/", "sys/", "dev/"] {
        tar = tar.dir(dir, 0o755);
    }
    tar = tar.dir("tmp/", 0o1777).file("bin/busybox", 0o755, &busybox);
    for applet in APPLETS {
        tar = tar.link(&format!("bin/{applet}"), "busybox");
    }
    tar.file("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nuser:x:1000:\n")
        .bytes()
}

/// Archives for tests.
pub struct TarBuilder(tar::Builder<Vec<u8>>);

impl Default for TarBuilder {
    fn default() -> TarBuilder {
        TarBuilder(tar::Builder::new(Vec::new()))
    }
}

impl TarBuilder {
    fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header
    }

    pub fn dir(mut self, path: &str, mode: u32) -> TarBuilder {
        let mut header = Self::header(tar::EntryType::Directory, mode, 0);
        self.0.append_data(&mut header, path, &[][..]).expect("memory takes it");
        self
    }

    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> TarBuilder {
        let mut header = Self::header(tar::EntryType::Regular, mode, content.len());
        self.0.append_data(&mut header, path, content).expect("memory takes it");
        self
    }

    pub fn link(mut self, path: &str, target: &str) -> TarBuilder {
        let mut header = Self::header(tar::EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, path, target).expect("memory takes it");
        self
    }

    pub fn bytes(self) -> Bytes {
        self.0.into_inner().expect("memory takes it").into()
    }
}

impl Drop for World {
    /// Cleans up on a runtime of its own: this one may be the one that is ending.
    fn drop(&mut self) {
        let (make, labels) = (self.make, self.labels());
        let networks = std::mem::take(&mut *self.networks.lock().expect("no test panics here"));
        let images = std::mem::take(&mut *self.images.lock().expect("no test panics here"));
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let cleaned = async { tokio::time::timeout(PATIENCE, clean(make(), labels, networks, images)).await };
            runtime.block_on(cleaned).map_err(std::io::Error::other)?.map_err(std::io::Error::other)
        });
        let cleaned = cleaner.join().unwrap_or_else(|_| Err(std::io::Error::other("the cleaner panicked")));
        if let Err(error) = cleaned {
            let message = format!("the test world {} leaves something behind: {error:?}", self.id);
            // A second panic while the first unwinds would hide what failed.
            if std::thread::panicking() { eprintln!("{message}") } else { panic!("{message}") }
        }
    }
}

async fn clean(
    engine: Arc<dyn Engine>,
    labels: Labels,
    networks: Vec<String>,
    images: Vec<String>,
) -> Result<(), EngineError> {
    for container in engine.containers(&labels).await? {
        engine.remove(&container.id).await?;
    }
    for volume in engine.volumes(&labels).await? {
        engine.remove_volume(&volume.name).await?;
    }
    for network in networks {
        engine.remove_network(&network).await?;
    }
    for image in images {
        engine.remove_image(&image).await?;
    }
    Ok(())
}
