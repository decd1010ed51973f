//! One viewer's connection to a terminal: frames in, frames out, over any transport.
//!
//! Both directions run in one task, so that a transport that takes no more does not keep
//! acknowledgements from being read. Invariant: however this ends, dropping it tells the core.

use super::core::{AttachmentId, Departure};
use super::frames::{CATCH_UP_BYTES, Pull};
use super::live::Live;
use super::turns::BULK_BYTES;
use super::viewer::Intake;
use bytes::Bytes;
use rexec_api::error::ErrorCode;
use rexec_api::frames::{CLIENT_FRAME_BYTES_MAX, ClientControl, ClientFrame};
use rexec_api::guest::AttachMode;
use rexec_channel::keep_vigil;
use std::cell::Cell;
use std::future::{Future, pending};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{coop::consume_budget, yield_now};

/// Input of at most this length is a key, whose echo is waited for awake.
const KEY_BYTES_MAX: usize = 16;
/// What the kernel takes to echo a key, and some more.
const ECHO_PATIENCE: Duration = Duration::from_micros(200);

/// The connection went without a word; the client may be back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut;

/// Where a client's frames come from.
pub trait FrameSource {
    /// The next frame; nothing when the client closed its side.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Cut>>;
}

/// Where frames to a client go.
pub trait FrameSink {
    /// Returns when the transport has taken the frame, which is what slows a sender down.
    fn send(&mut self, frame: Bytes) -> impl Future<Output = Result<(), Cut>>;
    /// There will be no more frames.
    fn finish(&mut self) -> impl Future<Output = Result<(), Cut>>;
}

/// An attachment that has been let in and not been served yet.
pub struct Attachment {
    live: Rc<Live>,
    id: AttachmentId,
    mode: AttachMode,
    wake: Rc<Notify>,
    departure: Cell<Departure>,
}

impl Attachment {
    pub(super) fn new(live: Rc<Live>, spec: &rexec_api::guest::AttachSpec) -> Self {
        let wake = Rc::new(Notify::new());
        let id = live.with_core(|core, now| core.attach(spec, now));
        live.add_attachment(id, wake.clone());
        live.reconsider();
        Self { live, id, mode: spec.mode, wake, departure: Cell::new(Departure::Cut) }
    }

    /// Serves the client until the terminal has ended, the client closes or the connection is cut.
    pub async fn run(self, mut source: impl FrameSource, mut sink: impl FrameSink) {
        let departure = tokio::select! {
            biased;
            // First, because what is typed waits for nobody.
            departure = self.receive(&mut source) => departure,
            departure = self.send(&mut sink) => departure,
        };
        self.departure.set(departure);
    }

    async fn send(&self, sink: &mut impl FrameSink) -> Departure {
        loop {
            let live = &self.live;
            let bytes = live.turns.bytes(live.number, live.turns.now());
            let sent = match live.with_core(|core, now| core.pull(self.id, bytes, now)) {
                Pull::Frame(frame) => {
                    let is_bulk = frame.len() > BULK_BYTES;
                    let sent = sink.send(frame).await;
                    if is_bulk {
                        yield_now().await;
                    } else {
                        consume_budget().await;
                    }
                    sent
                }
                Pull::CatchUp => {
                    live.with_core(|core, _| core.catch_up(CATCH_UP_BYTES));
                    yield_now().await;
                    Ok(())
                }
                Pull::Wait => {
                    self.wake.notified().await;
                    Ok(())
                }
                Pull::End => {
                    // Whether the client still hears it makes no difference to the terminal.
                    let _ = sink.finish().await;
                    return Departure::Closed;
                }
            };
            if sent.is_err() {
                return Departure::Cut;
            }
        }
    }

    async fn receive(&self, source: &mut impl FrameSource) -> Departure {
        loop {
            match source.next().await {
                Ok(Some(frame)) => {
                    if let Err(reason) = self.accept(&frame).await {
                        self.live.with_core(|core, _| {
                            core.fail(self.id, ErrorCode::BadFrame, reason);
                        });
                        self.live.reconsider();
                        self.wake.notify_one();
                        // `send` says so to the client and ends the attachment.
                        return pending().await;
                    }
                    if frame.len() > BULK_BYTES {
                        yield_now().await;
                    } else {
                        consume_budget().await;
                    }
                }
                Ok(None) => return Departure::Closed,
                Err(Cut) => return Departure::Cut,
            }
        }
    }

    async fn accept(&self, frame: &[u8]) -> Result<(), String> {
        if frame.len() > CLIENT_FRAME_BYTES_MAX {
            return Err(format!("a frame has {CLIENT_FRAME_BYTES_MAX} bytes at most; cut input into pieces"));
        }
        let live = &self.live;
        match ClientFrame::parse(frame).map_err(|error| error.to_string())? {
            ClientFrame::Input(_) if self.mode == AttachMode::View => {}
            ClientFrame::Input(bytes) => self.input(bytes).await,
            ClientFrame::Resize { cols, rows } => {
                live.with_core(|core, _| core.resize(self.id, cols, rows));
                self.wake.notify_one();
            }
            ClientFrame::Ack(offset) => {
                live.with_core(|core, now| core.acknowledge(self.id, offset, now));
                live.reconsider();
                self.wake.notify_one();
            }
            ClientFrame::Control(ClientControl::Visibility { hidden }) => {
                live.with_core(|core, now| match hidden {
                    true => core.hide(self.id),
                    false => core.show(self.id, now),
                });
                live.reconsider();
            }
        }
        Ok(())
    }

    /// Takes input, once there is room for it: nothing is dropped.
    async fn input(&self, bytes: &[u8]) {
        let live = &self.live;
        let intake = |intake| live.with_core(|core, now| core.set_intake(self.id, intake, now));
        let mut is_blocked = false;
        loop {
            let room = live.room.notified();
            if live.with_core(|core, _| core.has_input_room()) {
                break;
            }
            if !is_blocked {
                is_blocked = true;
                intake(Intake::Blocked);
                live.reconsider();
            }
            room.await;
        }
        if is_blocked {
            intake(Intake::Open);
        }
        live.note_input();
        let end = live.with_core(|core, _| {
            core.input(self.id, bytes);
            core.end()
        });
        self.wake.notify_one();
        if bytes.len() <= KEY_BYTES_MAX && !live.turns.is_busy(live.number, live.turns.now()) {
            keep_vigil(ECHO_PATIENCE, || live.with_core(|core, _| core.end()) != end).await;
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.live.with_core(|core, now| core.detach(self.id, self.departure.get(), now));
        self.live.remove_attachment(self.id);
    }
}
