//! Volumes, archives and images.

use super::world::{TarBuilder, World};
use super::{assert_kind, kind};
use crate::{CommitConfig, ContainerState, DiskUsage, EngineError, Labels, Mount};
use bytes::Bytes;
use futures_util::StreamExt;
use std::io::Read;
use std::time::Duration;

/// Some count an image's description.
const EMPTY_IMAGE_BYTES_MAX: u64 = 16 * 1024;
const BIG_FILE_BYTES: usize = 3 * 1024 * 1024 + 7;
/// Images that come and go while others are listed.
const FLEETING: usize = 10;
/// Between looks whether somebody else's measuring has ended.
const MEASURED_ELSEWHERE: Duration = Duration::from_millis(50);

fn mount(world: &World, role: &str, path: &str) -> Mount {
    Mount { volume: world.name(role), path: path.into(), read_only: false, labels: world.labels() }
}

pub async fn volumes_survive(world: &World) {
    let engine = &world.engine;
    let home = world.name("home");
    assert!(!engine.has_volume(&home).await.expect("looks"));
    engine.volume_create(&home, &world.labels(), None).await.expect("is made");
    assert!(engine.has_volume(&home).await.expect("looks"));
    engine.volume_create(&home, &world.labels(), None).await.expect("a second time is no failure");
    let mut spec = world.spec("a");
    spec.mounts = vec![mount(world, "home", "/home"), mount(world, "made", "/made")];
    let id = world.run(&spec).await;
    world.sh(&id, "echo kept > /home/file").await;
    assert_kind(engine.remove_volume(&home).await, "Conflict");
    engine.remove(&id).await.expect("is removed");

    let names = async || {
        let volumes = engine.volumes(&world.labels()).await.expect("lists");
        let mut names: Vec<String> = volumes.into_iter().map(|v| v.name).collect();
        names.sort();
        names
    };
    assert_eq!(names().await, [world.name("home"), world.name("made")], "named volumes stay, with their labels");
    spec.mounts[0].read_only = true;
    let id = world.run(&spec).await;
    assert_eq!(world.sh(&id, "cat /home/file").await, "kept");
    assert!(!world.succeeds(&id, "touch /home/other").await, "it is read-only this time");
    engine.remove(&id).await.expect("is removed");
    engine.remove_volume(&home).await.expect("is removed");
    engine.remove_volume(&home).await.expect("a second time is no failure");
    assert_eq!(names().await, [world.name("made")]);
}

/// An archive's bytes.
async fn get(world: &World, id: &str, path: &str) -> Result<Vec<u8>, EngineError> {
    let mut stream = world.engine.archive_get(id, path).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

/// Path, link and content of every entry.
fn entries(bytes: &[u8]) -> Vec<(String, Option<String>, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().expect("an archive").map(|entry| {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let link = entry.link_name().expect("a link").map(|l| l.to_string_lossy().into_owned());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        (path, link, content)
    });
    entries.collect()
}

pub async fn archives_go_both_ways(world: &World) {
    let big: Vec<u8> = (0..BIG_FILE_BYTES).map(|i| ((i * 31) >> 3) as u8).collect();
    let tar = TarBuilder::default()
        .dir("v1/", 0o755)
        .file("v1/tool", 0o755, b"#!/bin/sh\necho it runs\n")
        .file("v1/big", 0o600, &big)
        .link("v1/again", "tool")
        .link("current", "v1")
        .bytes();
    let mut spec = world.spec("a");
    spec.mounts = vec![mount(world, "tools", "/tools")];
    let id = world.create(&spec).await;
    world.engine.archive_put(&id, "/tools", tar).await.expect("a created container takes it");
    world
        .engine
        .archive_put(&id, "/tmp", TarBuilder::default().file("f", 0o644, b"root fs").bytes())
        .await
        .expect("too");

    let through = entries(&get(world, &id, "/tools/current/tool").await.expect("links on the way are followed"));
    assert!(through.len() == 1 && through[0].2.ends_with(b"it runs\n"), "{through:?}");
    let big_back = entries(&get(world, &id, "/tools/v1/big").await.expect("is there"));
    assert!(big_back.len() == 1 && big_back[0].2 == big);
    let names: Vec<String> =
        entries(&get(world, &id, "/tools/v1").await.expect("is there")).into_iter().map(|e| e.0).collect();
    assert!(names.len() == 4 && names.contains(&"v1/again".to_owned()), "{names:?}");

    world.engine.start(&id).await.expect("starts");
    assert_eq!(
        world.sh(&id, "/tools/current/again; cat /tmp/f; stat -c %a /tools/v1/big").await,
        "it runs\nroot fs600"
    );
    world.sh(&id, "echo made inside > /tmp/inside").await;
    assert_eq!(entries(&get(world, &id, "/tmp/inside").await.expect("is there"))[0].2, b"made inside\n");

    assert_kind(get(world, &id, "/no/such/path").await, "NotFound");
    let tar = TarBuilder::default().file("f", 0o644, b"").bytes();
    let put = world.engine.archive_put(&id, "/no/such/path", tar).await;
    assert!(matches!(kind(&put), "NotFound" | "success"), "{put:?}");
    let garbage = Bytes::from(vec![b'x'; 4096]);
    assert!(world.engine.archive_put(&id, "/tmp", garbage).await.is_err(), "garbage is no archive");
}

pub async fn commits_keep_the_file_system(world: &World) {
    let mut spec = world.spec("a");
    spec.env.push("KEY=secret".into());
    spec.labels.insert("owner".into(), "somebody".into());
    let id = world.run(&spec).await;
    world.sh(&id, "echo kept > /kept; rm /bin/wc").await;
    // A commit would write the hole out.
    world.sh(&id, "dd if=/dev/zero of=/hole bs=1 count=1 seek=1073741823 2>/dev/null").await;
    let written = world.engine.written_bytes(&id).await.expect("tells");
    assert!(written.is_some_and(|bytes| bytes >= 1 << 30), "{written:?}");
    world.sh(&id, "rm /hole").await;
    let written = world.engine.written_bytes(&id).await.expect("tells");
    assert!(written.is_some_and(|bytes| bytes < 1 << 30), "{written:?}");
    let files = world.engine.written_files(&id).await.expect("tells");
    world.sh(&id, "mkdir /many && cd /many && for n in $(seq 50); do : > \"$n\"; done").await;
    let more = world.engine.written_files(&id).await.expect("tells");
    assert_eq!(more.zip(files).map(|(more, files)| more - files), Some(51), "a directory and its empty files");
    let tag = format!("rexec-contract-{}:snapshot", world.id);
    world.owns_image(&tag);
    let labels = Labels::from([("kind", "snapshot"), ("owner", "")].map(|(key, value)| (key.into(), value.into())));
    let config = CommitConfig { labels, env: vec!["KEY=0".into()], pause: true };
    let image_id = world.engine.commit(&id, &tag, &config).await.expect("commits");
    let image = world.engine.image(&tag).await.expect("looks").expect("is there");
    assert_eq!(image.id, image_id);
    assert!(image.env.contains(&"KEY=0".to_owned()), "{:?}", image.env);
    assert!(image.env.iter().all(|entry| entry != "KEY=secret"), "the container's secret stays out: {:?}", image.env);
    assert!(world.succeeds(&id, "true").await, "and runs on");

    // One that is frozen already stays so, if that is wanted.
    if world.engine.info().await.expect("tells").control_groups {
        world.engine.pause(&id).await.expect("pauses");
        let frozen = format!("rexec-contract-{}:frozen", world.id);
        world.owns_image(&frozen);
        world.engine.commit(&id, &frozen, &CommitConfig::default()).await.expect("commits");
        assert_eq!(world.state(&id).await, ContainerState::Paused);
    }
    world.engine.remove(&id).await.expect("is removed");

    let mut spec = world.spec("b");
    spec.image = tag;
    let id = world.run(&spec).await;
    assert_eq!(world.info(&id).await.labels.get("owner").map(String::as_str), Some(""));
    assert_eq!(world.sh(&id, "cat /kept; test -e /bin/wc || echo gone").await, "kept\ngone");
}

/// What the case's own container and volume take up. Others measure the same engine, one at a time.
async fn measured(world: &World) -> DiskUsage {
    loop {
        match world.engine.disk_usage().await {
            Err(EngineError::Conflict(_)) => tokio::time::sleep(MEASURED_ELSEWHERE).await,
            other => return other.expect("measures"),
        }
    }
}

pub async fn disk_use_is_told(world: &World) {
    if let Some(space) = world.engine.disk_space().await.expect("tells") {
        assert!(space.free_bytes > 0 && space.free_bytes <= space.total_bytes, "{space:?}");
    }
    let mut spec = world.spec("a");
    spec.mounts = vec![mount(world, "home", "/home")];
    let id = world.run(&spec).await;
    world.sh(&id, "dd if=/dev/zero of=/home/file bs=1M count=24; dd if=/dev/zero of=/file bs=1M count=12").await;
    let usage = measured(world).await;
    let near = |bytes: Option<&u64>, mebibytes: u64| {
        bytes.is_some_and(|&bytes| (mebibytes << 20..(mebibytes + 1) << 20).contains(&bytes))
    };
    assert!(near(usage.volumes.get(&world.name("home")), 24), "{usage:?}");
    assert!(near(usage.containers.get(&world.name("a")), 12), "{usage:?}");
}

/// What the engine says that it can limit, it does; the rest it refuses to promise.
pub async fn disk_limits_are_true(world: &World) {
    let engine = &world.engine;
    let probe = world.name("probe");
    let limits = engine.disk_limits(&probe, &world.image, &world.labels()).await.expect("tries");
    assert_eq!(engine.disk_limits(&probe, &world.image, &world.labels()).await.expect("tries again"), limits);
    assert!(engine.inspect(&probe).await.expect("looks").is_none(), "nothing is left of it");
    assert!(engine.volumes(&world.labels()).await.expect("lists").is_empty(), "nothing is left of it");

    let size = Some(32 << 20);
    let home = engine.volume_create(&world.name("home"), &world.labels(), size).await;
    if !limits.volumes {
        assert_kind(home, "Refused");
    }
    let mut spec = world.spec("a");
    spec.root_bytes = size;
    if !limits.root {
        assert_kind(engine.create(&spec).await, "Refused");
        spec.root_bytes = None;
    }
    spec.mounts = if limits.volumes { vec![mount(world, "home", "/home")] } else { Vec::new() };
    let id = world.run(&spec).await;
    for (dir, holds) in [("/home", limits.volumes), ("/tmp", limits.root)] {
        let write = format!("dd if=/dev/zero of={dir}/file bs=1M count=48");
        assert!(!holds || !world.succeeds(&id, &write).await, "{dir} takes more than it may");
    }
}

pub async fn images_come_and_go(world: &World) {
    let engine = &world.engine;
    let empty = format!("rexec-contract-{}:empty", world.id);
    world.owns_image(&empty);
    engine.import_image(&empty, Bytes::new()).await.expect("an empty image");
    let first = engine.image(&empty).await.expect("looks").expect("is there");
    // The second takes the first's name.
    world.owns_image(&first.id);
    engine.import_image(&empty, Bytes::from_static(&[0; 1024])).await.expect("again is no failure");
    let image = engine.image(&empty).await.expect("looks").expect("is there");
    assert!(image.size_bytes < EMPTY_IMAGE_BYTES_MAX, "{image:?}");
    assert!(!image.architecture.is_empty() && image.os == "linux", "{image:?}");
    let second = format!("rexec-contract-{}:second", world.id);
    world.owns_image(&second);
    engine.tag_image(&empty, &second).await.expect("is tagged");
    engine.tag_image(&empty, &second).await.expect("a second time is no failure");
    assert_eq!(engine.image(&second).await.expect("looks").map(|image| image.id), Some(image.id.clone()));
    engine.remove_image(&second).await.expect("is removed");
    assert!(engine.image(&empty).await.expect("looks").is_some(), "its other name stays");
    assert!(image.references.contains(&empty), "{:?}", image.references);
    let all = engine.images().await.expect("lists");
    assert!(all.iter().any(|i| i.references.contains(&world.image) && i.size_bytes > 0));

    let mut spec = world.spec("never-started");
    spec.image = empty.clone();
    spec.mounts = vec![mount(world, "empty", "/deep/inside")];
    let id = world.create(&spec).await;
    // By the beginning of an id, anyone would have anyone's images.
    let beginning = image.id.trim_start_matches("sha256:")[..12].to_owned();
    assert!(engine.image(&beginning).await.expect("looks").is_none());
    let by_id = crate::ContainerSpec { name: format!("{}-by-id", spec.name), image: beginning, ..spec.clone() };
    let refused = engine.create(&by_id).await.expect_err("an id is no name");
    assert!(matches!(refused, EngineError::ImageNotFound(_)), "{refused:?}");
    let tar = TarBuilder::default().file("f", 0o644, b"through an empty image").bytes();
    engine.archive_put(&id, "/deep/inside", tar).await.expect("its volume takes an archive");
    assert_eq!(entries(&get(world, &id, "/deep/inside/f").await.expect("is there"))[0].2, b"through an empty image");
    engine.remove(&id).await.expect("is removed");
    engine.remove_image(&empty).await.expect("is removed");
    assert!(engine.image(&empty).await.expect("looks").is_none());

    for bad in ["../containers/json", "UPPER CASE", ""] {
        assert_kind(engine.image(bad).await, "Refused");
        let first = engine.pull(bad, None).next().await.expect("an answer");
        assert_kind(first, "Refused");
    }
}

pub async fn images_are_listed_while_others_go(world: &World) {
    let engine = &world.engine;
    let come_and_go = async |role: &str| {
        for n in 0..FLEETING {
            let name = format!("rexec-contract-{}:{role}-{n}", world.id);
            world.owns_image(&name);
            let tar = TarBuilder::default().file("f", 0o644, name.as_bytes()).bytes();
            engine.import_image(&name, tar).await.expect("is made");
            engine.remove_image(&name).await.expect("is removed");
        }
    };
    let list = async || {
        loop {
            engine.images().await.expect("lists what stays");
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all(["a", "b", "c", "d", "e", "f"].map(come_and_go)) => {}
        () = list() => {}
    }
}
