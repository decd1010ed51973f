//! Two hundred workspaces over three servers, asked for at once: all come to run, spread evenly, and all go again.

use crate::busybox;
use crate::support::Backend;
use crate::support::far::{Way, with_far};
use crate::support::workspaces::Stage;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use rexec_api::servers::PatchServer;
use rexec_api::workspaces::NewWorkspace;
use rexec_engine::{Engine as _, Labels, docker::DockerEngine};
use rexec_server::db;
use sea_orm::FromQueryResult;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

const MANY: usize = 200;
const CPU: f64 = 0.1;
const MEMORY_MB: u64 = 64;
/// How long all of them may take to come, and to go.
const PATIENCE: Duration = Duration::from_secs(150);
const POLL: Duration = Duration::from_millis(250);
/// How many more one server may get of a burst than another: those that are recorded while another is chosen for.
const UNEVEN_MAX: i64 = 4;
/// Every so many is asked for something.
const SAMPLE: usize = 20;
/// Deletions at once.
const GOING: usize = 50;

/// What is recorded of a server, and the sums of what its workspaces hold.
#[derive(Debug, FromQueryResult)]
struct Sums {
    name: String,
    used_cpu_milli: i64,
    used_memory_mb: i64,
    used_workspaces: i64,
    held_cpu_milli: i64,
    held_memory_mb: i64,
    held_places: i64,
    running: i64,
}

async fn sums(stage: &Stage) -> Vec<Sums> {
    let text = "SELECT h.name, h.used_cpu_milli, h.used_memory_mb, h.used_workspaces, \
        CAST(COALESCE(SUM(w.held_cpu_milli), 0) AS BIGINT) AS held_cpu_milli, \
        CAST(COALESCE(SUM(w.held_memory_mb), 0) AS BIGINT) AS held_memory_mb, \
        CAST(COALESCE(SUM(w.held_place), 0) AS BIGINT) AS held_places, \
        CAST(COALESCE(SUM(CASE WHEN w.status = 'running' THEN 1 ELSE 0 END), 0) AS BIGINT) AS running \
        FROM hosts h LEFT JOIN workspaces w ON w.host_id = h.id \
        GROUP BY h.name, h.used_cpu_milli, h.used_memory_mb, h.used_workspaces ORDER BY h.name";
    db::fetch_all(stage.server.running.app.db.read(), text, []).await.unwrap()
}

/// Looks until it is so, and takes its time between two looks: the machine is busy.
async fn patiently(what: &str, stage: &Stage, fits: impl Fn(&Sums) -> bool) -> Vec<Sums> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sums = sums(stage).await;
        if sums.iter().all(&fits) {
            return sums;
        }
        assert!(Instant::now() < deadline, "in vain waited for: {what}; {sums:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// The workspaces' containers on each engine, and what else has their labels.
async fn there(engine: &DockerEngine, instance: &str) -> (usize, usize) {
    let labels = Labels::from([("rexec.instance".to_owned(), instance.to_owned())]);
    let containers = engine.summaries(&labels).await.unwrap();
    let containers = containers.iter().filter(|found| found.labels.contains_key("rexec.workspace")).count();
    (containers, engine.volumes(&labels).await.unwrap().len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_over_three_servers() {
    // It is about the machine, and takes its time: once, and where many write at once if there is that.
    let backend = match std::env::var_os("REXEC_TEST_POSTGRES_URL") {
        Some(_) => Backend::Postgres,
        None => Backend::Sqlite,
    };
    with_far(backend, [(Way::Tls, &[]), (Way::Ssh, &[])], async |_, stage, far| {
        let image = format!("rexec-test-many:{}", stage.instance);
        let [tls, ssh] = far.each_ref().map(|far| far.daemon.engine());
        let engines = BTreeMap::from([("local", stage.engine.clone()), ("ssh", ssh), ("tls", tls)]);
        for engine in engines.values() {
            engine.import_image(&image, busybox::image().into()).await.unwrap();
        }
        far[0].join(&stage, "tls", "far").await;
        far[1].join(&stage, "ssh", "far").await;
        let client = &stage.client;
        // The three are one machine: each has room for all.
        let room = PatchServer {
            total_cpu: Some(CPU * MANY as f64),
            total_memory_mb: Some(MEMORY_MB * MANY as u64),
            ..Default::default()
        };
        for server in client.servers().await.unwrap().items {
            client.change_server(server.id, &room).await.unwrap();
        }

        let new = NewWorkspace {
            image: Some(image.clone()),
            memory_mb: Some(MEMORY_MB as u32),
            cpu: Some(CPU),
            wait_ms: Some(0),
            ..Default::default()
        };
        let made = join_all((0..MANY).map(|_| client.create_workspace(&new))).await;
        let made: Vec<_> = made.into_iter().map(|view| view.unwrap().id).collect();
        let even = patiently("all to run", &stage, |server| server.running == server.used_workspaces).await;
        assert_eq!(even.iter().map(|server| server.running).sum::<i64>(), MANY as i64);
        for server in &even {
            let each = server.used_workspaces;
            assert!((each - (MANY / 3) as i64).abs() <= UNEVEN_MAX, "{even:?}");
            let amount = (each * (CPU * 1000.0) as i64, each * MEMORY_MB as i64, each);
            assert_eq!((server.used_cpu_milli, server.used_memory_mb, server.used_workspaces), amount);
            assert_eq!((server.held_cpu_milli, server.held_memory_mb, server.held_places), amount);
            let (containers, homes) = there(&engines[server.name.as_str()], &stage.instance).await;
            assert_eq!((containers as i64, homes as i64), (each, each), "{}", server.name);
        }
        let asked = made.iter().step_by(SAMPLE).map(|&id| stage.run(id, "cd && echo ok >said && cat said"));
        for told in join_all(asked).await {
            assert_eq!(told.stdout, "ok\n", "{told:?}");
        }

        let going = stream::iter(made).map(|id| client.purge_workspace(id)).buffer_unordered(GOING);
        going.for_each(async |gone| gone.unwrap()).await;
        let none = |server: &Sums| {
            (server.used_cpu_milli, server.used_memory_mb, server.used_workspaces, server.held_places) == (0, 0, 0, 0)
        };
        patiently("all to be gone", &stage, none).await;
        for (name, engine) in &engines {
            assert_eq!(there(engine, &stage.instance).await, (0, 0), "{name}");
        }
        stage.engine.remove_image(&image).await.unwrap();
        stage
    })
    .await;
}
