//! A step's terminal, watched from here to its end as any viewer would, without ever holding it.

use super::tail::Tail;
use crate::workspaces::Report;
use rexec_api::frames::{ClientFrame, ServerFrame};
use rexec_api::guest::{AttachMode, AttachSpec};
use rexec_api::ids::TerminalId;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_channel::{ChannelError, FrameReceiver, FrameSender, GuestClient};
use std::time::Duration;
use tokio::sync::watch;

/// How a terminal was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Exit(i32),
    /// It ran longer than it may.
    TimedOut,
    /// Somebody closed it.
    Closed,
    /// The guest is out of reach; the terminal may go on.
    Lost,
}

/// Follows from the beginning. `tell` hears of what was printed.
pub async fn follow(
    guest: &GuestClient,
    terminal: TerminalId,
    limit: Duration,
    reports: &mut watch::Receiver<Report>,
    tail: &mut Tail,
    tell: impl FnMut(&Tail),
) -> Seen {
    let spec = AttachSpec { offset: Some(0), mode: AttachMode::View, client: None };
    let (to_guest, from_guest) = match guest.attach(terminal, &spec).await {
        Ok(streams) => streams,
        Err(ChannelError::Guest(_)) => return Seen::Closed,
        Err(_) => return Seen::Lost,
    };
    tail.clear();
    tokio::select! {
        seen = watch_frames(to_guest, from_guest, tail, tell) => match seen {
            Some(seen) => seen,
            None if guest.is_closed() => Seen::Lost,
            None => Seen::Closed,
        },
        () = guest.closed() => Seen::Lost,
        () = too_long(limit, reports) => Seen::TimedOut,
    }
}

/// `None`: the stream ended before the program did.
async fn watch_frames(
    mut to_guest: FrameSender,
    mut from_guest: FrameReceiver,
    tail: &mut Tail,
    mut tell: impl FnMut(&Tail),
) -> Option<Seen> {
    while let Ok(Some(frame)) = from_guest.recv().await {
        let drawn = match ServerFrame::parse(&frame) {
            Ok(ServerFrame::Exit(code)) => return Some(Seen::Exit(code)),
            Ok(ServerFrame::Output { offset, bytes }) => {
                tail.push(bytes);
                offset + bytes.len() as u64
            }
            // We were too slow, or it is older than what is kept: this is all that there is.
            Ok(ServerFrame::Snapshot { offset, bytes }) => {
                tail.clear();
                tail.push(bytes);
                offset
            }
            Ok(ServerFrame::Control(_) | ServerFrame::InputAccepted(_)) => continue,
            Err(_) => return None,
        };
        tell(tail);
        // A guest that takes no more says so by the end of its own direction.
        let _ = to_guest.send(ClientFrame::Ack(drawn).to_vec().into()).await;
    }
    None
}

/// A workspace that is paused is not held to its time: it begins anew when it goes on.
async fn too_long(limit: Duration, reports: &mut watch::Receiver<Report>) {
    loop {
        tokio::time::sleep(limit).await;
        if reports.borrow().status != WorkspaceStatus::Paused {
            return;
        }
        if reports.wait_for(|report| report.status != WorkspaceStatus::Paused).await.is_err() {
            return std::future::pending().await;
        }
    }
}
