use super::*;
use rexec_api::files::{ChangeKind, FileEvent};
use rexec_channel::Changes;

/// Events until one fits, all of them.
async fn until(changes: &mut Changes, fits: impl Fn(&FileEvent) -> bool) -> Vec<FileEvent> {
    let mut seen = Vec::new();
    loop {
        let event = changes.next().await.unwrap().expect("the watch goes on");
        seen.push(event.clone());
        if fits(&event) {
            return seen;
        }
    }
}

fn change(kind: ChangeKind, path: &str) -> FileEvent {
    FileEvent::Change { kind, path: path.into(), to: None }
}

#[test]
fn what_happens_in_a_directory_is_told_in_order() {
    with_configured(|bench| async move {
        std::fs::create_dir(bench.real("d")).unwrap();
        let mut changes = bench.client.watch(&bench.path("d"), false).await.unwrap();
        let (one, two) = (bench.path("d/one"), bench.path("d/two"));
        std::fs::write(&one, "1").unwrap();
        assert_eq!(changes.next().await.unwrap(), Some(change(ChangeKind::Created, &one)));
        std::fs::rename(&one, &two).unwrap();
        let moved = FileEvent::Change { kind: ChangeKind::Moved, path: one.clone(), to: Some(two.clone()) };
        until(&mut changes, |event| *event == moved).await;
        std::fs::write(&two, "2").unwrap();
        until(&mut changes, |event| *event == change(ChangeKind::Modified, &two)).await;
        std::fs::remove_file(&two).unwrap();
        until(&mut changes, |event| *event == change(ChangeKind::Removed, &two)).await;
        // Into and out of what is watched.
        std::fs::write(bench.real("else"), "").unwrap();
        std::fs::rename(bench.real("else"), &one).unwrap();
        until(&mut changes, |event| *event == change(ChangeKind::Created, &one)).await;
        std::fs::rename(&one, bench.real("else")).unwrap();
        until(&mut changes, |event| *event == change(ChangeKind::Removed, &one)).await;
        // It ends with what it is on.
        std::fs::remove_dir(bench.real("d")).unwrap();
        until(&mut changes, |event| *event == change(ChangeKind::Removed, &bench.path("d"))).await;
        assert_eq!(changes.next().await.unwrap(), None);
    });
}

#[test]
fn directories_below_are_followed_wherever_they_go() {
    with_configured(|bench| async move {
        std::fs::create_dir_all(bench.real("d/a/b")).unwrap();
        let mut changes = bench.client.watch(&bench.path("d"), true).await.unwrap();
        std::fs::write(bench.real("d/a/b/deep"), "").unwrap();
        until(&mut changes, |event| *event == change(ChangeKind::Created, &bench.path("d/a/b/deep"))).await;
        // A tree that is made faster than it can be watched is told of all the same.
        std::fs::create_dir_all(bench.real("d/new/x/y")).unwrap();
        std::fs::write(bench.real("d/new/x/y/z"), "").unwrap();
        until(&mut changes, |event| *event == change(ChangeKind::Created, &bench.path("d/new/x/y/z"))).await;
        std::fs::rename(bench.real("d/a"), bench.real("d/c")).unwrap();
        until(&mut changes, |event| matches!(event, FileEvent::Change { kind: ChangeKind::Moved, .. })).await;
        std::fs::write(bench.real("d/c/b/after"), "").unwrap();
        until(&mut changes, |event| *event == change(ChangeKind::Created, &bench.path("d/c/b/after"))).await;
        // What has left is not heard of again.
        std::fs::rename(bench.real("d/c"), bench.real("left")).unwrap();
        until(&mut changes, |event| *event == change(ChangeKind::Removed, &bench.path("d/c"))).await;
        std::fs::write(bench.real("left/b/silent"), "").unwrap();
        std::fs::write(bench.real("d/last"), "").unwrap();
        let seen = until(&mut changes, |event| *event == change(ChangeKind::Created, &bench.path("d/last"))).await;
        assert!(!format!("{seen:?}").contains("silent"), "{seen:?}");
    });
}

#[test]
fn more_than_can_be_told_is_told_as_such_and_the_watch_goes_on() {
    with_configured(|bench| async move {
        std::fs::create_dir(bench.real("d")).unwrap();
        let mut changes = bench.client.watch(&bench.path("d"), true).await.unwrap();
        let queue: usize =
            std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        // On this one thread, so that nobody reads meanwhile.
        for number in 0..queue {
            std::fs::write(bench.real(&format!("d/{number}")), "").unwrap();
        }
        std::fs::create_dir(bench.real("d/missed")).unwrap();
        until(&mut changes, |event| *event == FileEvent::Overflow).await;
        std::fs::write(bench.real("d/missed/but-found"), "").unwrap();
        until(&mut changes, |event| *event == change(ChangeKind::Created, &bench.path("d/missed/but-found"))).await;
    });
}

#[test]
fn a_file_is_watched_and_what_cannot_be_is_refused() {
    with_configured(|bench| async move {
        std::fs::write(bench.real("f"), "").unwrap();
        let mut changes = bench.client.watch(&bench.path("f"), false).await.unwrap();
        std::fs::write(bench.real("f"), "x").unwrap();
        until(&mut changes, |event| *event == change(ChangeKind::Modified, &bench.path("f"))).await;
        assert_eq!(code(bench.client.watch(&bench.path("none"), false).await), ErrorCode::FileNotFound);
        assert_eq!(code(bench.client.watch("/proc/self/fd", false).await), ErrorCode::FileDenied);
    });
}
