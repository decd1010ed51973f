//! Telling what changes in a directory, as the kernel tells it (`inotify(7)`).
//!
//! **Order.** Events come as the kernel gave them. They are gathered for a moment, so that many
//! writes to one file are one event. What could not be kept up with is told as `overflow`; a
//! recursive watch then looks for directories anew. A watch ends with what it was on.
//!
//! Directories are looked for with the user's rights. All workspaces of a host share the kernel's
//! number of watches, so each has a bound of its own.

mod news;
mod tree;

use super::path_of;
use crate::descriptors;
use crate::refusal::internal;
use crate::rights::Rights;
use news::News;
use rexec_api::files::FileEvent;
use rexec_api::guest::GuestError;
use rexec_channel::{Call, ChannelError, FrameSender};
use rustix::fs::inotify::Reader;
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;
use tree::Tree;

/// Watches of a workspace at once; more are refused.
const WATCHES_MAX: usize = 16;
/// How long events are gathered after the first.
const GATHER: Duration = Duration::from_millis(20);
/// Events taken at once at most.
const BATCH_EVENTS_MAX: usize = 4096;
/// Room for the kernel's events in one read.
const READ_BYTES: usize = 16 * 1024;

static WATCHES: Semaphore = Semaphore::const_new(WATCHES_MAX);

/// Answers with what changes from now on.
pub async fn send(rights: &Rights, call: Call, recursive: bool) {
    let Ok(_watch) = WATCHES.try_acquire() else {
        let message = format!("{WATCHES_MAX} watches are open already; close one first.");
        return call.answer::<()>(Err(tree::refuse(message))).await;
    };
    let begun = match path_of(&call, "path") {
        Ok(path) => rights.run(move || Tree::begin(&path, recursive)).await,
        Err(error) => Err(error),
    };
    let (tree, queue) = match begun.and_then(|tree| Ok((watched(&tree)?, tree))) {
        Ok((queue, tree)) => (tree, queue),
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    if let Ok((mut sender, _)) = call.frames() {
        // Failing means that nobody listens any more.
        let _ = tell(rights, tree, &queue, &mut sender).await;
        let _ = sender.finish();
    }
}

fn watched(tree: &Tree) -> Result<AsyncFd<OwnedFd>, GuestError> {
    tree.queue().and_then(descriptors::watched).map_err(|e| internal("could not watch", e))
}

/// Ends without an error when what was watched is no more.
async fn tell(
    rights: &Rights,
    mut tree: Tree,
    queue: &AsyncFd<OwnedFd>,
    sender: &mut FrameSender,
) -> Result<(), ChannelError> {
    loop {
        let heard = tokio::select! {
            heard = gather(queue) => heard,
            () = sender.closed() => return Err(ChannelError::Closed),
        };
        let (next, told) = rights
            .run(move || {
                let told = tree.tell(heard);
                Ok((tree, told))
            })
            .await
            .map_err(|_| ChannelError::Closed)?;
        tree = next;
        for event in told.events {
            sender.send(frame(&event)).await?;
        }
        if told.ended {
            return Ok(());
        }
    }
}

fn frame(event: &FileEvent) -> bytes::Bytes {
    serde_json::to_vec(event).unwrap_or_default().into()
}

/// Waits for news and gives it a moment to be followed by more.
async fn gather(queue: &AsyncFd<OwnedFd>) -> Vec<News> {
    loop {
        let Ok(mut ready) = queue.readable().await else {
            return vec![News::lost()];
        };
        tokio::time::sleep(GATHER).await;
        let (heard, emptied) = read(queue.get_ref());
        if emptied {
            ready.clear_ready();
        }
        if !heard.is_empty() {
            return heard;
        }
    }
}

/// What is there to read, up to a bound; `true` when that was all.
fn read(queue: &OwnedFd) -> (Vec<News>, bool) {
    let mut heard = Vec::new();
    let mut room = vec![MaybeUninit::uninit(); READ_BYTES];
    let mut reader = Reader::new(queue, &mut room);
    while heard.len() < BATCH_EVENTS_MAX {
        match reader.next() {
            Ok(event) => heard.push(News::of(&event)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return (heard, true),
            Err(_) => {
                heard.push(News::lost());
                return (heard, true);
            }
        }
    }
    // What was read and not handed out would be lost with the reader.
    while !reader.is_buffer_empty() {
        match reader.next() {
            Ok(event) => heard.push(News::of(&event)),
            Err(_) => break,
        }
    }
    (heard, false)
}
