//! Containers come, run, wait, end and go; what cannot be done is told by kind.

use super::world::{TERM_CODE, World, exec};
use super::{assert_kind, kind};
use crate::{CommitConfig, ContainerState, Labels, Limits, SummaryState};
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::time::Duration;

/// How long an engine may take to notice that a process was ended because its memory was full.
const NOTICED_MAX: Duration = Duration::from_secs(5);
const GRACE_SECONDS: u32 = 30;

fn exited(state: &ContainerState) -> Option<(i32, bool)> {
    match state {
        ContainerState::Exited { code, oom_killed, .. } => Some((*code, *oom_killed)),
        _ => None,
    }
}

pub async fn lives_and_ends(world: &World) {
    let engine = &world.engine;
    let id = world.create(&world.spec("a")).await;
    let made = world.info(&world.name("a")).await;
    assert_eq!((made.id, made.name, made.image), (id.clone(), world.name("a"), world.image.clone()));
    assert_eq!((made.state, made.pid, made.started_at), (ContainerState::Created, 0, String::new()));
    assert_eq!(made.labels.get("rexec.contract"), Some(&world.id));

    engine.start(&id).await.expect("starts");
    let running = world.info(&id).await;
    assert_eq!(running.state, ContainerState::Running);
    assert!(running.pid > 0 && !running.started_at.is_empty());
    engine.start(&id).await.expect("a second start is no failure");

    engine.stop(&id, GRACE_SECONDS).await.expect("stops");
    assert_eq!(exited(&world.state(&id).await), Some((TERM_CODE, false)), "it was asked, not killed");
    engine.stop(&id, GRACE_SECONDS).await.expect("a second stop is no failure");
    assert_eq!(world.info(&id).await.pid, 0);

    engine.start(&id).await.expect("starts again");
    assert_eq!(world.state(&id).await, ContainerState::Running);
    engine.remove(&id).await.expect("a running one is removed");
    assert!(engine.inspect(&id).await.expect("inspects").is_none());
    engine.remove(&id).await.expect("a second removal is no failure");
}

pub async fn ends_have_reasons(world: &World) {
    let mut spec = world.spec("code");
    spec.command = vec!["/bin/sh".into(), "-c".into(), "exit 3".into()];
    let id = world.run(&spec).await;
    assert_eq!(exited(&world.until_exited(&id).await), Some((3, false)));

    // Deaf to requests: it is killed once the grace is over.
    let mut spec = world.spec("deaf");
    spec.command = vec!["/bin/sh".into(), "-c".into(), "trap '' TERM; sleep 3600".into()];
    let id = world.run(&spec).await;
    world.engine.stop(&id, 1).await.expect("stops");
    assert_eq!(exited(&world.state(&id).await), Some((137, false)));

    if world.engine.info().await.expect("tells").memory_limit {
        let mut spec = world.spec("greedy");
        // Its first process outlives the greedy one, until the engine has noticed: of a container that ends sooner it may
        // miss the reason. Some never say that they have, and get time for it.
        let script =
            "dd if=/dev/zero of=/dev/null bs=64M count=1; code=$?; while ! test -e /go; do sleep 0.1; done; exit $code";
        spec.command = vec!["/bin/sh".into(), "-c".into(), script.into()];
        spec.limits.memory_bytes = 16 << 20;
        let mut events = world.engine.events(&world.labels());
        let id = world.run(&spec).await;
        let noticed = async {
            while let Some(Ok(event)) = events.next().await {
                if event.action == "oom" && event.container_id == id {
                    return;
                }
            }
            std::future::pending().await
        };
        let _ = tokio::time::timeout(NOTICED_MAX, noticed).await;
        world.sh(&id, "touch /go").await;
        assert_eq!(exited(&world.until_exited(&id).await), Some((137, true)));
    }
}

pub async fn bad_specs_are_refused(world: &World) {
    let engine = &world.engine;
    world.create(&world.spec("taken")).await;
    assert_kind(engine.create(&world.spec("taken")).await, "Conflict");

    let mut spec = world.spec("image");
    spec.image = format!("rexec-contract-no-such-{}:1", world.id);
    assert_kind(engine.create(&spec).await, "ImageNotFound");

    let mut spec = world.spec("runtime");
    spec.runtime = Some("no-such-runtime".into());
    assert_kind(engine.create(&spec).await, "RuntimeUnavailable");

    for name in ["", "../images", "a b", "-a"] {
        let mut spec = world.spec("name");
        spec.name = name.into();
        assert_kind(engine.create(&spec).await, "Refused");
    }
    for network in ["host", "container:abc"] {
        let mut spec = world.spec("network");
        spec.network = network.into();
        assert_kind(engine.create(&spec).await, "Refused");
    }
    let mut spec = world.spec("dial");
    spec.dial_dir = Some((format!("/no-such-directory-{}", world.id), "/dial".into()));
    match engine.create(&spec).await {
        // Some look for it only then.
        Ok(id) => assert_kind(engine.start(&id).await, "Refused"),
        refused => {
            assert_kind(refused, "Refused");
            assert!(engine.inspect(&world.name("dial")).await.expect("inspects").is_none(), "nothing half made");
        }
    }

    let mut spec = world.spec("program");
    spec.command = vec!["/no/such/program".into()];
    let id = world.create(&spec).await;
    assert_kind(engine.start(&id).await, "Refused");
    assert_ne!(world.state(&id).await, ContainerState::Running);

    // A missing network must not read as a missing container.
    let mut spec = world.spec("nonet");
    spec.network = world.name("no-such-network");
    let made = engine.create(&spec).await;
    let refused = match made {
        Ok(id) => engine.start(&id).await,
        Err(error) => Err(error),
    };
    assert!(matches!(kind(&refused), "Refused" | "Conflict"), "{refused:?}");
}

pub async fn what_is_not_there_is_told(world: &World) {
    let engine = &world.engine;
    let nobody = world.name("nobody");
    assert!(engine.inspect(&nobody).await.expect("inspects").is_none());
    assert_kind(engine.start(&nobody).await, "NotFound");
    assert_kind(engine.stop(&nobody, 1).await, "NotFound");
    assert_kind(engine.pause(&nobody).await, "NotFound");
    assert_kind(engine.unpause(&nobody).await, "NotFound");
    assert_kind(engine.update(&nobody, &world.spec("x").limits).await, "NotFound");
    assert_kind(engine.archive_put(&nobody, "/", Bytes::from_static(&[0; 1024])).await, "NotFound");
    assert_kind(engine.archive_get(&nobody, "/").await.map(|_| ()), "NotFound");
    assert_kind(engine.commit(&nobody, &world.image, &CommitConfig::default()).await, "NotFound");
    assert_kind(engine.exec_stream(&nobody, &exec("0:0", &["/bin/true"])).await.map(|_| ()), "NotFound");
    assert_kind(engine.stats_once(&nobody).await, "NotFound");
    assert_kind(engine.tag_image(&format!("{nobody}:1"), &format!("{nobody}:2")).await, "ImageNotFound");
    assert!(engine.image(&format!("{nobody}:1")).await.expect("looks").is_none());
    // What is to be gone is gone.
    engine.remove(&nobody).await.expect("no failure");
    engine.remove_volume(&nobody).await.expect("no failure");
    engine.remove_network(&nobody).await.expect("no failure");
    engine.remove_image(&format!("{nobody}:1")).await.expect("no failure");
}

pub async fn pauses(world: &World) {
    let engine = &world.engine;
    let id = world.running("a").await;
    if !engine.info().await.expect("tells").control_groups {
        assert_kind(engine.pause(&id).await, "Refused");
        assert_eq!(world.state(&id).await, ContainerState::Running);
        return;
    }
    engine.pause(&id).await.expect("pauses");
    assert_eq!(world.state(&id).await, ContainerState::Paused);
    engine.pause(&id).await.expect("a second pause is no failure");
    assert_kind(engine.exec_stream(&id, &exec("0:0", &["/bin/true"])).await.map(|_| ()), "Conflict");
    engine.unpause(&id).await.expect("goes on");
    assert_eq!(world.state(&id).await, ContainerState::Running);
    engine.unpause(&id).await.expect("a second unpause is no failure");
    assert!(world.succeeds(&id, "true").await);

    engine.stop(&id, GRACE_SECONDS).await.expect("stops");
    assert!(matches!(kind(&engine.pause(&id).await), "Conflict" | "Refused"), "a stopped one cannot pause");
    assert_kind(engine.exec_stream(&id, &exec("0:0", &["/bin/true"])).await.map(|_| ()), "Conflict");

    engine.start(&id).await.expect("starts");
    engine.pause(&id).await.expect("pauses");
    engine.stop(&id, GRACE_SECONDS).await.expect("a paused one stops");
    assert!(exited(&world.state(&id).await).is_some());
    engine.start(&id).await.expect("starts");
    engine.pause(&id).await.expect("pauses");
    engine.remove(&id).await.expect("a paused one is removed");
}

pub async fn labels_filter(world: &World) {
    let mut blue = world.spec("blue");
    blue.labels.insert("colour".into(), "blue=navy".into());
    let mut red = world.spec("red");
    red.labels.insert("colour".into(), "red".into());
    let blue = world.create(&blue).await;
    let red = world.run(&red).await;
    let ids = async |extra: Option<&str>| {
        let mut labels = world.labels();
        labels.extend(extra.map(|colour| ("colour".to_owned(), colour.to_owned())));
        let found = world.engine.containers(&labels).await.expect("lists");
        let mut ids: Vec<String> = found.into_iter().map(|c| c.id).collect();
        ids.sort();
        ids
    };
    let mut both = vec![blue.clone(), red.clone()];
    both.sort();
    assert_eq!(ids(None).await, both, "in any state");
    assert_eq!(ids(Some("blue=navy")).await, [blue]);
    assert_eq!(ids(Some("red")).await, [red]);
    assert!(ids(Some("green")).await.is_empty());
}

/// One listing tells of all what a look at each would.
pub async fn summaries_tell_states(world: &World) {
    let engine = &world.engine;
    let made = world.create(&world.spec("made")).await;
    let running = world.running("running").await;
    let paused = world.running("paused").await;
    let pauses = engine.info().await.expect("tells").control_groups;
    if pauses {
        engine.pause(&paused).await.expect("pauses");
    }
    let mut spec = world.spec("ended");
    spec.command = vec!["/bin/true".into()];
    let ended = world.run(&spec).await;
    world.until_exited(&ended).await;

    let listed = engine.summaries(&world.labels()).await.expect("lists");
    assert_eq!(listed.len(), 4);
    for (id, role, state) in [
        (made, "made", SummaryState::Created),
        (running, "running", SummaryState::Running),
        (paused, "paused", if pauses { SummaryState::Paused } else { SummaryState::Running }),
        (ended, "ended", SummaryState::Exited),
    ] {
        let summary = listed.iter().find(|summary| summary.id == id).expect("is listed");
        assert_eq!((&summary.name, &summary.image, summary.state), (&world.name(role), &world.image, state));
        assert_eq!(summary.labels.get("rexec.contract"), Some(&world.id));
    }
    let nobody = Labels::from([("rexec.contract".to_owned(), "nobody".to_owned())]);
    assert!(engine.summaries(&nobody).await.expect("lists").is_empty());
}

/// The limit files of cgroup v2, or v1, as a script that prints memory, processes and CPU per 100 ms.
const LIMITS: &str = "cd /sys/fs/cgroup; if test -e memory.max; then cat memory.max pids.max; cat cpu.max | tr ' ' '\\n' | head -n1; \
     else cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us; fi";

pub async fn limits_hold(world: &World) {
    let info = world.engine.info().await.expect("tells");
    let mut spec = world.spec("a");
    spec.limits = Limits { cpu: 0.5, memory_bytes: 48 << 20, pids: 33 };
    let id = world.run(&spec).await;
    if !info.control_groups {
        assert!(!info.memory_limit && !info.cpu_limit && !info.pids_limit, "{info:?}");
        return;
    }
    let check = async |limits: &Limits| {
        let seen = world.sh(&id, LIMITS).await;
        let seen: Vec<&str> = seen.lines().collect();
        let cpu = format!("{}", (limits.cpu * 100_000.0) as u64);
        let wanted = [limits.memory_bytes.to_string(), limits.pids.to_string(), cpu];
        let holds = [info.memory_limit, info.pids_limit, info.cpu_limit];
        for ((seen, wanted), holds) in seen.iter().zip(&wanted).zip(holds) {
            assert!(!holds || seen == wanted, "{seen} instead of {wanted}");
        }
        assert_eq!(seen.len(), wanted.len());
    };
    check(&spec.limits).await;
    for limits in
        [Limits { cpu: 1.5, memory_bytes: 96 << 20, pids: 44 }, Limits { cpu: 0.25, memory_bytes: 32 << 20, pids: 22 }]
    {
        world.engine.update(&id, &limits).await.expect("updates, up and down");
        check(&limits).await;
    }
    let none = Limits { cpu: 0.0, memory_bytes: 0, pids: 0 };
    assert_kind(world.engine.update(&id, &none).await, "Refused");
    if info.pids_limit {
        let forks = "i=0; while test $i -lt 60; do sleep 60 & i=$((i+1)); done";
        assert!(!world.succeeds(&id, forks).await, "more processes than allowed");
    }
}

pub async fn engines_describe_themselves(world: &World) {
    let info = world.engine.info().await.expect("tells");
    assert!(!info.kind.is_empty() && !info.version.is_empty() && !info.api_version.is_empty());
    assert!(info.cpus > 0 && info.memory_bytes > 0 && !info.architecture.is_empty());
    assert!(info.runtimes.contains(&info.default_runtime), "{info:?}");
    assert!(info.root_dir.starts_with('/') && !info.storage_driver.is_empty());
}
