//! A driver with an engine and a guest that behave as no real one can be told to: a pull that takes
//! as long as the test wants, and a guest that hangs up whenever it is met.

use super::*;
use crate::config::{Config, DatabaseUrl, Sources};
use crate::db::execute;
use crate::sealed::Sealer;
use crate::secret::Secret;
use crate::secrets::inside::Vault;
use crate::time::now_ms;
use crate::workspaces::slot::Report;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rexec_api::error::ErrorCode;
use rexec_api::guest::{Hello, PROTOCOL};
use rexec_api::ids::{HostId, UserId};
use rexec_channel::Call;
use rexec_engine::docker::{Address, Endpoint};
use rexec_engine::*;
use std::path::Path;
use std::pin::pin;
use std::sync::Mutex;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, LocalSet};

const PATIENCE: Duration = Duration::from_secs(60);
const PIPE_BYTES: usize = 64 * 1024;
/// How the engine is reached, as far as is said; nobody goes there.
const SOCKET: &str = "unix:///nowhere/engine.sock";

/// One container at most, and an image that is there once it has been pulled.
#[derive(Default)]
struct FakeEngine {
    state: Mutex<FakeState>,
}

#[derive(Default)]
struct FakeState {
    image: bool,
    /// One for each pull that was begun; it ends when this is dropped.
    pulls: Vec<mpsc::Sender<()>>,
    container: Option<ContainerState>,
    guest: Option<AbortHandle>,
    /// So many starts are refused because of an earlier one that nobody can end.
    stuck: usize,
    /// When the container is said to have run, if it has.
    ran_at: &'static str,
    /// What each container that was made is given of a key.
    keys: Vec<Vec<String>>,
    removed: usize,
    /// No container can be removed.
    keeps: bool,
}

impl FakeEngine {
    fn state(&self) -> std::sync::MutexGuard<'_, FakeState> {
        self.state.lock().unwrap()
    }

    fn hang_up(&self) {
        if let Some(guest) = self.state().guest.take() {
            guest.abort();
        }
    }
}

/// All that the guest is ever asked here is its configuration.
async fn answer(call: Call) {
    let hello = Hello {
        protocol: PROTOCOL,
        version: "fake".into(),
        boot_id: uuid::Uuid::nil(),
        configured: true,
        machine: None,
    };
    call.answer(Ok(hello)).await;
}

#[async_trait::async_trait]
impl Engine for FakeEngine {
    fn pull(&self, _: &str, _: Option<&RegistryAuth>) -> BoxStream<'static, Result<PullProgress>> {
        let (sender, mut ended) = mpsc::channel::<()>(1);
        self.state().pulls.push(sender);
        let end = async move { ended.recv().await.map(|()| Err(EngineError::NotFound("no layer comes here".into()))) };
        futures_util::stream::once(end).filter_map(std::future::ready).boxed()
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String> {
        let mut state = self.state();
        if spec.profile != Profile::Usual {
            return Err(EngineError::Refused("helpers are not had here".into()));
        }
        if !state.image {
            return Err(EngineError::ImageNotFound(spec.image.clone()));
        }
        state.keys.push(spec.env.clone());
        state.container = Some(ContainerState::Created);
        Ok(spec.name.clone())
    }

    async fn start(&self, _: &str) -> Result<()> {
        let mut state = self.state();
        if state.stuck > 0 {
            state.stuck -= 1;
            return Err(EngineError::HalfStarted("id already in use".into()));
        }
        state.container = Some(ContainerState::Running);
        Ok(())
    }

    async fn inspect(&self, id: &str) -> Result<Option<ContainerInfo>> {
        let ran_at = self.state().ran_at;
        Ok(self.state().container.clone().map(|state| ContainerInfo {
            id: id.into(),
            name: id.into(),
            image: String::new(),
            labels: Labels::new(),
            state,
            started_at: ran_at.into(),
            pid: 1,
            unnamed_volumes: Vec::new(),
            named_volumes: Default::default(),
        }))
    }

    async fn exec_stream(&self, _: &str, _: &ExecStart) -> Result<Box<dyn ByteStream>> {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let guest = tokio::task::spawn_local(async move { rexec_channel::serve(far, answer).await });
        self.state().guest = Some(guest.abort_handle());
        Ok(Box::new(near))
    }

    async fn ping(&self) -> Result<()> {
        unreachable!()
    }
    async fn without_volumes(&self, reference: &str) -> Result<Option<String>> {
        Ok(Some(reference.to_owned()))
    }
    async fn written_bytes(&self, _: &str) -> Result<Option<u64>> {
        unreachable!()
    }
    async fn written_files(&self, _: &str) -> Result<Option<u64>> {
        unreachable!()
    }
    async fn info(&self) -> Result<EngineInfo> {
        unreachable!()
    }
    async fn image(&self, _: &str) -> Result<Option<ImageInfo>> {
        unreachable!()
    }
    async fn images(&self) -> Result<Vec<ImageInfo>> {
        unreachable!()
    }
    async fn import_image(&self, _: &str, _: Bytes) -> Result<()> {
        unreachable!()
    }
    async fn tag_image(&self, _: &str, _: &str) -> Result<()> {
        unreachable!()
    }
    async fn remove_image(&self, _: &str) -> Result<()> {
        unreachable!()
    }
    async fn volume_create(&self, _: &str, _: &Labels, _: Option<u64>) -> Result<()> {
        unreachable!()
    }
    async fn has_volume(&self, _: &str) -> Result<bool> {
        Ok(true)
    }
    async fn volumes(&self, _: &Labels) -> Result<Vec<VolumeInfo>> {
        unreachable!()
    }
    async fn remove_volume(&self, _: &str) -> Result<()> {
        unreachable!()
    }
    async fn ensure_network(&self, _: &NetworkSpec) -> Result<()> {
        unreachable!()
    }
    async fn network(&self, _: &str) -> Result<Option<NetworkInfo>> {
        unreachable!()
    }
    async fn remove_network(&self, _: &str) -> Result<()> {
        unreachable!()
    }
    async fn put_on_network(&self, _: &str, _: &str, _: Option<std::net::Ipv4Addr>) -> rexec_engine::Result<()> {
        Ok(())
    }
    async fn stop(&self, _: &str, _: u32) -> Result<()> {
        unreachable!()
    }
    async fn pause(&self, _: &str) -> Result<()> {
        unreachable!()
    }
    async fn unpause(&self, _: &str) -> Result<()> {
        unreachable!()
    }
    async fn update(&self, _: &str, _: &Limits) -> Result<()> {
        unreachable!()
    }
    async fn remove(&self, _: &str) -> Result<()> {
        let mut state = self.state();
        if state.keeps {
            return Err(EngineError::Refused("the device is busy".into()));
        }
        (state.container, state.removed) = (None, state.removed + 1);
        Ok(())
    }
    async fn containers(&self, _: &Labels) -> Result<Vec<ContainerInfo>> {
        unreachable!()
    }
    async fn summaries(&self, _: &Labels) -> Result<Vec<Summary>> {
        unreachable!()
    }
    async fn archive_put(&self, _: &str, _: &str, _: Bytes) -> Result<()> {
        unreachable!()
    }
    async fn archive_get(&self, _: &str, _: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        unreachable!()
    }
    async fn commit(&self, _: &str, _: &str, _: &CommitConfig) -> Result<String> {
        unreachable!()
    }
    async fn disk_limits(&self, _: &str, _: &str, _: &Labels) -> Result<DiskLimits> {
        unreachable!()
    }
    async fn disk_usage(&self) -> Result<DiskUsage> {
        unreachable!()
    }
    async fn stats_once(&self, _: &str) -> Result<Stats> {
        unreachable!()
    }
    fn stats(&self, _: &str) -> BoxStream<'static, Result<Stats>> {
        unreachable!()
    }
    fn events(&self, _: &Labels) -> BoxStream<'static, Result<EngineEvent>> {
        unreachable!()
    }
}

/// A workspace that should run, and the two ends by which others meet its driver.
struct Bench {
    engine: Arc<FakeEngine>,
    db: Db,
    id: WorkspaceId,
    slot: Arc<Slot>,
    fleet: Fleet,
    dir: tempfile::TempDir,
}

impl Bench {
    /// A host that is ready in the place of the one that there was; its engine has the workspace's container.
    fn replace_host(&self, socket: &str) {
        let engine = FakeEngine::default();
        engine.state().container = Some(ContainerState::Running);
        self.fleet.put(host(self.dir.path(), self.fleet.local().id, Arc::new(engine), socket));
    }

    /// Waits for what the driver says.
    async fn told(&self, what: &str, fits: impl Fn(&Report) -> bool) {
        let mut reports = self.slot.reports();
        let waiting = tokio::time::timeout(PATIENCE, reports.wait_for(fits)).await;
        let last = self.slot.reports().borrow().clone();
        waiting.unwrap_or_else(|_| panic!("waited in vain for: {what}; the driver last said {last:?}")).unwrap();
    }

    /// Asks as a request does; the ticket to wait for.
    async fn want(&self, desired: Desired) -> u64 {
        let text = "UPDATE workspaces SET desired = $1 WHERE id = $2";
        execute(self.db.write(), text, [desired.as_str().into(), self.id.to_string().into()]).await.unwrap();
        self.slot.ask()
    }
}

/// Runs `test` beside a driver, on one thread; behind it, where the driver ends with its workspace.
fn with_driver(test: impl AsyncFnOnce(&Bench)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (bench, driver) = bench().await;
        {
            let mut testing = pin!(test(&bench));
            tokio::select! {
                end = driver.run() => {
                    assert_eq!(end, End::Gone, "the driver has ended");
                    testing.await;
                }
                () = &mut testing => {}
            }
        }
        bench.db.close().await;
    });
}

async fn bench() -> (Bench, Driver) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&DatabaseUrl::Sqlite(dir.path().join("rexec.db"))).await.unwrap();
    let engine = Arc::new(FakeEngine::default());
    let host_id = hosts::store::ensure_local(db.write(), hosts::LOCAL, "", now_ms()).await.unwrap().id;
    let fleet = Fleet::new(host(dir.path(), host_id, engine.clone(), SOCKET)).unwrap();
    let id = WorkspaceId::new();
    record(&db, id, host_id).await;
    let slot = Arc::new(Slot::new(WorkspaceStatus::Pending));
    let deps = Deps {
        db: db.clone(),
        bus: Bus::default(),
        replicas: crate::replicas::Replicas::alone(),
        crash: Crash::default(),
        templates: Templates::load(fleet.clone(), None).unwrap(),
        fleet: fleet.clone(),
        setup_wanted: Arc::default(),
        registries: Registries::new(db.clone(), Sealer::new(&Secret::new("test")).unwrap()),
        vault: Vault::new(db.clone(), Sealer::new(&Secret::new("test")).unwrap(), &[0; 32], Default::default()),
        home_kept: Duration::ZERO,
        snapshot_news: tokio::sync::watch::Sender::default(),
        snapshot_bytes_max: 0,
        host_free_bytes_min: 0,
        disk: Gauge::default(),
        budgets: Budgets::default(),
        moves: Arc::new(tokio::sync::Semaphore::new(1)),
    };
    let deps = Arc::new(deps);
    let driver = Driver::new(id, deps, slot.clone(), crate::replicas::Hold::alone());
    (Bench { engine, db, id, slot, fleet, dir }, driver)
}

fn host(data: &Path, id: HostId, engine: Arc<FakeEngine>, socket: &str) -> Arc<Host> {
    let config = Config::from_sources(&Sources::from_env([("REXEC_DATA_DIR", data.to_str().unwrap())])).unwrap();
    let way = Address::new(&Endpoint::parse(socket).unwrap(), None, None).unwrap();
    let host = Host::new(id, hosts::LOCAL.into(), "test".into(), engine, true, &config).reached_at(&way);
    host.declare(HostFacts {
        engine: facts(),
        dials: false,
        disk: DiskLimits { volumes: false, root: false },
        weaker: Vec::new(),
    });
    host
}

/// A user and their workspace, which should run.
async fn record(db: &Db, id: WorkspaceId, host: HostId) {
    let owner = UserId::new().to_string();
    let user = "INSERT INTO users (id, email, password_hash, role, created_ms) VALUES ($1, 'a@b.c', '', 'user', 0)";
    execute(db.write(), user, [owner.clone().into()]).await.unwrap();
    let workspace = "INSERT INTO workspaces (id, owner_id, host_id, name, image, runtime, cpu_milli, memory_mb, env_json, \
        desired, status, generation, boot_seq, booted_seq, volume, guest_key, created_ms, updated_ms) \
        VALUES ($1, $2, $3, 'test', 'test/image:1', '', 1000, 64, '{}', 'running', 'pending', 0, 1, 0, 'test', '', 0, 0)";
    execute(db.write(), workspace, [id.to_string().into(), owner.into(), host.to_string().into()]).await.unwrap();
}

fn facts() -> EngineInfo {
    EngineInfo {
        kind: "fake".into(),
        version: String::new(),
        api_version: String::new(),
        architecture: String::new(),
        kernel: String::new(),
        cpus: 1,
        memory_bytes: 1 << 30,
        runtimes: vec!["runc".into()],
        default_runtime: "runc".into(),
        rootless: false,
        user_remapped: false,
        storage_driver: String::new(),
        root_dir: String::new(),
        memory_limit: true,
        cpu_limit: true,
        pids_limit: true,
        control_groups: true,
        networks_apart: true,
        seccomp: true,
    }
}

#[test]
fn who_asks_of_what_has_just_gone_is_answered() {
    with_driver(async |bench| {
        let text = "UPDATE workspaces SET deleted_ms = 1 WHERE id = $1";
        execute(bench.db.write(), text, [bench.id.to_string().into()]).await.unwrap();
        bench.slot.nudge();
        let gone = |ticket| move |r: &Report| r.done && r.status == WorkspaceStatus::Deleted && r.ticket >= ticket;
        bench.told("that it is gone", gone(0)).await;
        bench.told("the same to one who comes late", gone(bench.slot.ask())).await;
    });
}

#[test]
fn requests_during_a_pull_do_not_begin_it_again() {
    with_driver(async |bench| {
        let pulling = |ticket| move |r: &Report| r.status == WorkspaceStatus::Pulling && r.ticket >= ticket;
        bench.told("the pull", pulling(0)).await;
        for _ in 0..3 {
            let ticket = bench.want(Desired::Running).await;
            bench.told("a look after the request", pulling(ticket)).await;
        }
        assert_eq!(bench.engine.state().pulls.len(), 1);

        let abandoned = bench.engine.state().pulls[0].clone();
        bench.want(Desired::Stopped).await;
        bench.told("the stop", |r| r.done && r.status == WorkspaceStatus::Stopped).await;
        // It is another task, which may hear of it a moment later.
        let closed = tokio::time::timeout(PATIENCE, abandoned.closed()).await;
        closed.expect("nobody wants it, and the pull goes on");

        let ticket = bench.want(Desired::Running).await;
        bench.told("another pull", pulling(ticket)).await;
        {
            let mut state = bench.engine.state();
            assert_eq!(state.pulls.len(), 2);
            state.image = true;
            state.pulls.clear();
        }
        bench.told("the workspace", |r| r.done && r.status == WorkspaceStatus::Running).await;
        assert!(bench.engine.state().pulls.is_empty());
    });
}

#[test]
fn a_guest_that_hangs_up_when_met_is_met_again_after_pauses_and_that_is_said() {
    with_driver(async |bench| {
        bench.engine.state().image = true;
        // One that has never run would be on its way there still.
        bench.told("the workspace", |r| r.done && r.status == WorkspaceStatus::Running).await;
        let mut link = bench.slot.link();
        let unsteady = async {
            loop {
                link.wait_for(Option::is_some).await.unwrap();
                bench.engine.hang_up();
                link.wait_for(Option::is_none).await.unwrap();
            }
        };
        let away =
            |r: &Report| r.status == WorkspaceStatus::Unreachable && r.error == Some(ErrorCode::WorkspaceUnreachable);
        tokio::select! {
            () = unsteady => {}
            () = bench.told("that it cannot be reached", away) => {}
        }
        bench.told("the workspace", |r| r.done && r.status == WorkspaceStatus::Running).await;
    });
}

#[test]
fn a_host_that_is_reached_as_the_one_before_it_cuts_nobody_off() {
    with_driver(async |bench| {
        bench.engine.state().image = true;
        bench.told("the workspace", |r| r.done && r.status == WorkspaceStatus::Running).await;
        let guest = bench.slot.link().borrow().clone().unwrap();
        let seen = |ticket| move |r: &Report| r.done && r.status == WorkspaceStatus::Running && r.ticket >= ticket;
        bench.replace_host(SOCKET);
        bench.told("that it runs there", seen(bench.slot.ask())).await;
        assert!(!guest.is_closed(), "who is in the middle of something goes on");

        bench.replace_host("unix:///nowhere/another.sock");
        tokio::time::timeout(PATIENCE, guest.closed()).await.expect("another engine's guest is another");
        bench.told("that it runs there", seen(bench.slot.ask())).await;
    });
}

#[test]
fn a_workspace_whose_host_is_not_in_the_fleet_says_so_and_comes_back_with_it() {
    with_driver(async |bench| {
        bench.engine.state().image = true;
        bench.told("the workspace", |r| r.done && r.status == WorkspaceStatus::Running).await;
        let other = hosts::store::ensure_local(bench.db.write(), "elsewhere", "", now_ms()).await.unwrap().id;
        let local = hosts::store::ensure_local(bench.db.write(), hosts::LOCAL, "", now_ms()).await.unwrap().id;
        let moved = "UPDATE workspaces SET host_id = $1 WHERE id = $2";
        let put = async |host: HostId| {
            let values = [host.to_string().into(), bench.id.to_string().into()];
            execute(bench.db.write(), moved, values).await.unwrap();
            bench.slot.nudge()
        };
        put(other).await;
        let away = |r: &Report| {
            r.status == WorkspaceStatus::Unreachable
                && r.error == Some(ErrorCode::EngineUnavailable)
                && r.reason.as_ref().is_some_and(|reason| reason.contains("not one of this server's"))
        };
        bench.told("that its host is not there", away).await;
        // Not even what should be gone is taken for gone: an engine that were asked would panic.
        let ticket = bench.want(Desired::Deleted).await;
        bench.told("that it waits", move |r| r.ticket >= ticket && away(r)).await;
        bench.want(Desired::Running).await;
        put(local).await;
        bench.told("the workspace", |r| r.done && r.status == WorkspaceStatus::Running).await;
    });
}

#[test]
fn a_container_that_can_never_start_is_made_anew() {
    with_driver(async |bench| {
        {
            let mut state = bench.engine.state();
            (state.image, state.stuck) = (true, 4);
        }
        bench.told("the workspace", |r| r.done && r.status == WorkspaceStatus::Running).await;
        let state = bench.engine.state();
        assert_eq!((state.removed, state.stuck), (2, 0));
        let keys: std::collections::HashSet<_> = state.keys.iter().collect();
        assert_eq!((state.keys.len(), keys.len()), (3, 3), "what may run of one is not the guest of another");
    });
}

#[test]
fn one_that_never_will_is_given_up_and_that_is_said() {
    for (ran_at, keeps, removed) in [("", false, 3), ("", true, 0), ("2026-01-01T00:00:00Z", false, 0)] {
        with_driver(async |bench| {
            {
                let mut state = bench.engine.state();
                (state.image, state.stuck, state.ran_at, state.keeps) = (true, usize::MAX, ran_at, keeps);
            }
            let given_up = |r: &Report| {
                r.done
                    && (r.status, r.error) == (WorkspaceStatus::Error, Some(ErrorCode::EngineError))
                    && r.reason.as_ref().is_some_and(|reason| reason.contains("started anew, then start"))
            };
            bench.told("that it is given up", given_up).await;
            assert_eq!(bench.engine.state().removed, removed);
            bench.engine.state().stuck = 0;
            bench.want(Desired::Running).await;
            bench.told("the workspace", |r| r.done && r.status == WorkspaceStatus::Running).await;
        });
    }
}
