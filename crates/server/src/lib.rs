//! The Rexec server: the product, as one library that the command runs and tests embed.
//!
//! [`start`] builds every service in order and reads like the table of contents of the crate.
//! Services take only those above them; nothing is started before all of it is built.

pub mod accounts;
pub mod actor;
pub mod app;
pub mod auth;
pub mod config;
pub mod crash;
pub mod db;
pub mod disk;
pub mod egress;
pub mod error;
pub mod events;
pub mod exec;
pub mod files;
pub mod github;
mod guest_error;
pub mod hosts;
pub mod http;
pub mod machines;
pub mod migrations;
pub mod models;
mod page;
pub mod ports;
pub mod registries;
pub mod replicas;
pub mod sealed;
pub mod secret;
pub mod secrets;
pub mod setups;
pub mod snapshots;
pub mod ssh;
pub mod ssh_keys;
pub mod stats;
pub mod tasks;
pub mod templates;
pub mod terminals;
mod text;
pub mod time;
pub mod turns;
pub mod volumes;
pub mod workspaces;

use crate::accounts::Accounts;
use crate::app::{App, AppState};
use crate::auth::Auth;
use crate::config::{Config, SshListen};
use crate::crash::Crash;
use crate::db::Db;
use crate::egress::Egress;
use crate::events::Events;
use crate::events::bus::Bus;
use crate::exec::Execs;
use crate::files::Files;
use crate::hosts::admin::Servers;
use crate::hosts::elastic::Elastic;
use crate::hosts::{Fleet, Host};
use crate::http::health::Checks;
use crate::http::streams::Streams;
use crate::machines::Machines;
use crate::models::Models;
use crate::ports::Ports;
use crate::registries::Registries;
use crate::replicas::Replicas;
use crate::sealed::Sealer;
use crate::secrets::Secrets;
use crate::secrets::inside::Vault;
use crate::setups::Setups;
use crate::snapshots::Snapshots;
use crate::ssh::Ssh;
use crate::ssh_keys::SshKeys;
use crate::stats::WorkspaceStats;
use crate::tasks::Tasks;
use crate::templates::Templates;
use crate::terminals::Terminals;
use crate::volumes::Volumes;
use crate::workspaces::Workspaces;
use rexec_api::ids::HostId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// How long everything may take to end in good order.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);
/// How long what may be dropped at any moment may take to be.
const LET_GO_PATIENCE: Duration = Duration::from_secs(2);
/// How long the data directory may still be another server's.
const CLAIM_PATIENCE: Duration = Duration::from_secs(2);
const CLAIM_POLL: Duration = Duration::from_millis(50);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Database(#[from] db::OpenError),
    #[error("cannot keep the signing secret in {place}")]
    Secret {
        place: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read what the database says of this installation")]
    Installation(#[source] error::Error),
    #[error(transparent)]
    Replicas(#[from] replicas::JoinError),
    #[error("cannot use the container engine")]
    Engine(#[from] rexec_engine::EngineError),
    #[error("cannot use the container engine")]
    EngineAddress(#[from] rexec_engine::docker::AddressError),
    #[error("another server runs on the data directory {0}; stop it first, or give this one its own REXEC_DATA_DIR")]
    DataDirInUse(String),
    #[error("cannot make machines at Hetzner Cloud; look at HCLOUD_TOKEN")]
    Elastic(#[from] rexec_provision::hetzner::Error),
    #[error(transparent)]
    Templates(#[from] templates::TemplatesError),
    #[error(transparent)]
    Listen(#[from] http::listener::ListenError),
}

/// A server that runs. Dropped without [`Running::shutdown`], it runs until the process ends.
pub struct Running {
    /// Where it listens; with port 0 this tells which it got.
    pub addr: SocketAddr,
    pub app: AppState,
    /// Held as long as the server runs.
    _claim: std::fs::File,
}

/// Builds the server and starts it; once this returns, requests are answered.
pub async fn start(config: Config) -> Result<Running, StartError> {
    for notice in &config.notices {
        tracing::info!("{notice}");
    }
    http::metrics::recorder();
    let config = Arc::new(config);
    let listener = http::listener::bind(SocketAddr::new(config.host, config.port)).await?;
    let addr = listener.local_addr().map_err(|source| {
        let address = SocketAddr::new(config.host, config.port);
        http::listener::ListenError { address, port_variable: "PORT", source }
    })?;
    let ssh_listener = ssh_listener(&config).await?;
    let claim = claim_data_dir(&config).await?;
    let tasks = Tasks::new();
    let checks = Checks::default();
    let db = Db::open(&config.database).await?;
    let secret = auth::token::signing_secret(&config)
        .map_err(|source| StartError::Secret { place: config.data_dir.display().to_string(), source })?;
    let auth = Auth::new(db.clone(), Arc::clone(&config), &secret);
    let sealer = Sealer::new(&secret).map_err(|e| StartError::Installation(error::Error::internal(e)))?;
    let registries = Registries::new(db.clone(), sealer.clone());
    let vault =
        Vault::new(db.clone(), sealer.clone(), &auth.derived_key(secrets::inside::PURPOSE), config.egress.clone());
    let accounts = Accounts::new(db.clone(), auth.clone());
    let replicas = Replicas::join(&db, &config, &auth.derived_key(replicas::sign::PURPOSE)).await;
    let replicas = replicas?;
    let fleet = Fleet::new(local_host(&db, &config, &tasks, &replicas).await?)?;
    let servers = Servers::new(db.clone(), fleet.clone(), sealer.clone(), Arc::clone(&config), replicas.clone());
    servers.load().await.map_err(StartError::Installation)?;
    let elastic = Elastic::new(&config, db.clone(), fleet.clone(), servers.clone(), sealer.clone())?;
    let templates = Templates::load(fleet.clone(), config.images.templates_dir.as_deref())?;
    let bus = Bus::default();
    let events = Events::new(db.clone(), bus.clone());
    let crash = Crash::at(config.crash_at);
    let home_kept = config.storage.home_kept;
    let deps = workspaces::Deps {
        db: db.clone(),
        fleet: fleet.clone(),
        bus: bus.clone(),
        replicas: replicas.clone(),
        crash,
        registries: registries.clone(),
        vault: vault.clone(),
        templates: templates.clone(),
        setup_wanted: Arc::default(),
        home_kept,
        snapshot_news: tokio::sync::watch::Sender::default(),
        snapshot_bytes_max: config.storage.snapshot_bytes_max,
        host_free_bytes_min: config.disk.host_free_bytes_min,
        disk: disk::Gauge::default(),
        budgets: workspaces::Budgets::default(),
        moves: Arc::new(tokio::sync::Semaphore::new(workspaces::MOVES_MAX)),
    };
    let workspaces = Workspaces::new(deps, Arc::clone(&config), tasks.clone());
    let ports = Ports::new(ports::Deps {
        db: db.clone(),
        auth: auth.clone(),
        events: events.clone(),
        workspaces: workspaces.clone(),
        tasks: tasks.clone(),
        config: Arc::clone(&config),
        app_port: addr.port(),
    });
    let machines = Machines::new(db.clone(), workspaces.clone(), tasks.clone());
    let volumes = Volumes::new(workspaces.clone(), config.storage.purge_every);
    let snapshots = Snapshots::new(workspaces.clone(), &config, tasks.clone());
    let ssh_keys = SshKeys::new(db.clone(), workspaces.clone(), &config.egress.github.url, config.public_url.clone());
    let ssh = Ssh::new(
        ssh::Deps {
            db: db.clone(),
            auth: auth.clone(),
            accounts: accounts.clone(),
            events: events.clone(),
            workspaces: workspaces.clone(),
            ssh_keys: ssh_keys.clone(),
            sealer,
            tasks: tasks.clone(),
        },
        &config.ssh,
    );
    let egress = Egress::new(workspaces.clone());
    let secrets = Secrets::new(vault, workspaces.clone());
    let models = Models::new(db.clone(), config.egress.models.clone());
    let stats = WorkspaceStats::new(workspaces.clone(), tasks.clone());
    let app = Arc::new(App {
        config,
        db,
        auth,
        accounts,
        events,
        fleet,
        servers,
        registries,
        replicas,
        templates,
        setups: Setups::new(workspaces.clone(), tasks.clone()),
        terminals: Terminals::new(workspaces.clone()),
        execs: Execs::new(workspaces.clone()),
        files: Files::new(workspaces.clone()),
        ports,
        machines,
        volumes,
        snapshots,
        ssh_keys,
        ssh,
        stats,
        egress,
        secrets,
        models,
        workspaces,
        checks,
        tasks,
        streams: Streams::default(),
    });
    add_checks(&app);
    app.replicas.start(&app.tasks, bus, app.fleet.clone());
    // It has an engine that the others may not know of.
    app.replicas.tell_fleet();
    app.snapshots.repair().await.map_err(StartError::Installation)?;
    start_background(&app);
    app.tasks.spawn_abortable("certs-volume", app.servers.clone().look_for_certs_volume());
    if let Some(elastic) = elastic {
        let replicas = app.replicas.clone();
        app.tasks.spawn_abortable("elastic", async move {
            replicas.whenever_held(replicas::UPKEEP, || elastic.keep()).await;
        });
    }
    app.ports.reopen().await.map_err(StartError::Installation)?;
    app.workspaces.adopt().await.map_err(StartError::Installation)?;
    if let Some(listener) = ssh_listener {
        app.ssh.serve(listener).await.map_err(StartError::Installation)?;
    }
    let router = http::router(Arc::clone(&app));
    let serving = http::listener::serve(listener, router, app.tasks.clone());
    app.tasks.spawn("listener", serving);
    Ok(Running { addr, app, _claim: claim })
}

/// One server to a data directory: two would answer each other's guests. The kernel lets go of the
/// lock when the process ends, however it ends; one that is ending, or a program that it was just starting, may hold it
/// for a moment still.
async fn claim_data_dir(config: &Config) -> Result<std::fs::File, StartError> {
    let path = config.data_dir.join("server.lock");
    let in_use = || StartError::DataDirInUse(config.data_dir.display().to_string());
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(&path).map_err(|_| in_use())?;
    let deadline = Instant::now() + CLAIM_PATIENCE;
    while rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() >= deadline {
            return Err(in_use());
        }
        tokio::time::sleep(CLAIM_POLL).await;
    }
    Ok(file)
}

/// Where SSH connections are taken. A port that nobody named is not worth a server that does not start.
async fn ssh_listener(config: &Config) -> Result<Option<TcpListener>, http::listener::ListenError> {
    let bind = |port| http::listener::bind_as(SocketAddr::new(config.host, port), "REXEC_SSH_PORT");
    match config.ssh.listen {
        SshListen::Off => Ok(None),
        SshListen::At(port) => bind(port).await.map(Some),
        SshListen::IfFree(port) => Ok(bind(port).await.map_err(|error| tracing::warn!("no SSH gateway: {error}")).ok()),
    }
}

/// The host whose engine `DOCKER_HOST` or a usual socket names.
async fn local_host(db: &Db, config: &Config, tasks: &Tasks, replicas: &Replicas) -> Result<Arc<Host>, StartError> {
    let endpoint = hosts::remote::endpoint(&config.engine.access);
    let (is_here, endpoint) = (endpoint.is_local(), endpoint.to_string());
    let installation = async {
        let (name, kept) = match replicas.id() {
            None => {
                let kept = hosts::store::ensure_local(db.write(), hosts::LOCAL, &endpoint, time::now_ms()).await?;
                (hosts::LOCAL.to_owned(), kept)
            }
            Some(me) => own_host(db, config, me, is_here, &endpoint).await?,
        };
        Ok(((name, kept), hosts::store::ensure_instance(db.write()).await?))
    };
    let ((name, kept), instance) =
        installation.await.map_err(|e: sea_orm::DbErr| StartError::Installation(e.into()))?;
    let address = hosts::remote::address(&config.engine.access, kept.host_key.as_deref())?;
    let is_here = address.is_local();
    let engine = rexec_engine::docker::DockerEngine::at(address)?;
    let host = Host::new(kept.id, name, instance, Arc::new(engine.clone()), is_here, config);
    let host = host.reached_at(engine.address());
    let host = host.bound_to(replicas, replicas.id().filter(|_| is_here), false);
    let keeping = hosts::remote::keep_host_key(engine.clone(), host.clone(), db.clone(), kept.host_key);
    tasks.spawn_abortable("host-key", keeping);
    tasks.spawn_abortable("certificates", hosts::remote::watch_certificates(engine, host.clone()));
    Ok(host)
}

/// The row of a server among several for its own engine. That of a server which has just ended without a word, as this one
/// before it lost its data directory, is waited for.
async fn own_host(
    db: &Db,
    config: &Config,
    me: replicas::ReplicaId,
    is_here: bool,
    endpoint: &str,
) -> Result<(String, hosts::store::Kept), sea_orm::DbErr> {
    use hosts::store::Found;
    let instance = hosts::store::ensure_instance(db.write()).await?;
    let mut marked = hosts::mark::of_usual(&config.engine.access, &instance).await;
    let deadline = Instant::now() + replicas::TERM + CLAIM_PATIENCE;
    loop {
        let tx = db.begin().await?;
        let found = hosts::store::ensure_local_of(&tx, me, is_here, marked, endpoint, time::now_ms()).await?;
        tx.commit().await?;
        match found {
            Found::Mine(name, kept) => return Ok((name, kept)),
            Found::AnothersYet if Instant::now() < deadline => {
                tracing::info!("the engine is another server's; waiting in case that one has ended");
                tokio::time::sleep(CLAIM_PATIENCE).await;
            }
            // It says whose it is, once it is looked at.
            Found::AnothersYet => marked = None,
        }
    }
}

fn add_checks(app: &AppState) {
    if !app.replicas.is_alone() {
        let replicas = app.replicas.clone();
        app.checks.add("replica", move || {
            let why =
                "what this server holds is not certain: the database does not answer, or another runs as this one";
            let firm = if replicas.is_firm() { Ok(()) } else { Err(why.to_owned()) };
            Box::pin(async move { firm })
        });
    }
    let fleet = app.fleet.clone();
    app.checks.add("engine", move || {
        // One will do: what lies on another says so itself.
        let any = fleet.all().iter().any(|host| host.ready().is_ok());
        let ready = if any { Ok(()) } else { fleet.local().ready().map(|_| ()) };
        Box::pin(async move { ready })
    });
    let db = app.db.clone();
    app.checks.add("database", move || {
        let db = db.clone();
        Box::pin(async move { db.ping().await.map_err(|_| "does not answer".to_owned()) })
    });
    let db = app.db.clone();
    app.checks.add("migrations", move || {
        let db = db.clone();
        Box::pin(async move {
            match migrations::pending(&db).await {
                Ok(pending) if pending.is_empty() => Ok(()),
                Ok(pending) => Err(format!("to be applied: {}", pending.join(", "))),
                Err(_) => Err("cannot be read, or are those of another version".to_owned()),
            }
        })
    });
}

fn start_background(app: &AppState) {
    app.auth.start(&app.tasks);
    let (workspaces, volumes, stats, disk) =
        (app.workspaces.clone(), app.volumes.clone(), app.stats.clone(), app.config.disk);
    let (mut images, prepull) = (app.templates.images(), app.config.prepull);
    images.insert(0, app.config.engine.workspace_image.clone());
    let vault = app.secrets.vault().clone();
    let tending = Arc::new(move |host: Arc<Host>| {
        let vault = vault.clone();
        let (heard, disks) = (workspaces.clone(), disk::Disks::new(workspaces.clone(), host.clone(), disk));
        let sweeping = workspaces.clone().keep_sweeping(host.clone());
        let tidying = volumes.clone().keep_up(host.clone());
        let recording = stats.clone().keep_recording(host.clone());
        let imaging = host.clone().keep_images(images.clone(), prepull);
        let pooling = workspaces.clone().keep_pool(host.clone());
        async move {
            let tending = host.tend(&vault, move |what| heard.heard(what));
            tokio::join!(tending, sweeping, disks.keep_measuring(), tidying, recording, pooling, imaging);
        }
    });
    let (replicas, workspaces, snapshots) = (app.replicas.clone(), app.workspaces.clone(), app.snapshots.clone());
    app.fleet.keep(app.tasks.clone(), move |host| {
        let (replicas, tending) = (replicas.clone(), tending.clone());
        let (workspaces, snapshots) = (workspaces.clone(), snapshots.clone());
        let begin = move |host: HostId, hold: replicas::Hold| {
            let (workspaces, snapshots) = (workspaces.clone(), snapshots.clone());
            async move {
                while let Err(error) = snapshots.repair_on(host, &hold).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot look at what another server left");
                    tokio::time::sleep(CLAIM_PATIENCE).await;
                }
                workspaces.adopt_on(host).await;
            }
        };
        replicas::tenure::keep(replicas, host, begin, move |host| tending(host))
    });
    if !app.replicas.is_alone() {
        app.tasks.spawn_abortable("fleet", app.servers.clone().keep_sharing());
        let (replicas, workspaces) = (app.replicas.clone(), app.workspaces.clone());
        app.tasks.spawn_abortable("machines", async move {
            replicas.whenever_held(replicas::MACHINES, || workspaces.clone().keep_machines()).await;
        });
    }
    app.tasks.spawn("stats", app.stats.clone().keep_storing());
    app.tasks.spawn_abortable("idle", app.workspaces.clone().keep_idle());
    app.tasks.spawn_abortable("setups", app.setups.clone().keep_up());
    app.tasks.spawn_abortable("ports", app.ports.clone().keep_telling());
    app.tasks.spawn_abortable("metrics-upkeep", async {
        let mut period = tokio::time::interval(http::metrics::UPKEEP_PERIOD);
        loop {
            period.tick().await;
            http::metrics::recorder().run_upkeep();
        }
    });
}

impl Running {
    /// Stops accepting, lets what is under way end, and closes the database. `false` when
    /// something did not end in time and was left behind.
    pub async fn shutdown(self) -> bool {
        if self.app.tasks.let_go(LET_GO_PATIENCE).await {
            // Others take over what it tended while its connections still end.
            self.app.replicas.leave().await;
        }
        let orderly = self.app.tasks.shutdown(SHUTDOWN_PATIENCE).await;
        self.app.replicas.leave().await;
        self.app.replicas.close().await;
        self.app.db.close().await;
        orderly
    }
}
