//! What an attachment is sent next: the order of frames.
//!
//! Every answer is derived from what the client was last told, so a frame exists only from the
//! moment the transport has room for it. Order: `attached`, input accepted, a snapshot, notices,
//! company and title, then sizes and output as they happened, then the exit.

use super::core::{AttachmentId, Core};
use super::sizes::Size;
use super::viewer::{Stage, Start};
use bytes::{BufMut, Bytes, BytesMut};
use rexec_api::frames::{ServerControl, ServerFrame};
use std::time::Duration;

/// Emulation done in one go before others get their turn: about a millisecond.
pub const CATCH_UP_BYTES: u64 = 128 * 1024;
/// A frame's kind and offset.
const HEADER_BYTES: usize = 9;
const KIND_OUTPUT: u8 = 0x00;
const KIND_SNAPSHOT: u8 = 0x01;

/// The next step of an attachment.
#[derive(Debug, PartialEq, Eq)]
pub enum Pull {
    Frame(Bytes),
    /// Call `catch_up` with [`CATCH_UP_BYTES`], let others run, and pull again.
    CatchUp,
    /// Nothing until the next wake.
    Wait,
    /// Nothing ever again.
    End,
}

impl Core {
    /// The next frame for this attachment, with `output_bytes` of output at most.
    pub fn pull(&mut self, id: AttachmentId, output_bytes: usize, now: Duration) -> Pull {
        let Some(viewer) = self.viewers.get_mut(&id) else {
            return Pull::End;
        };
        match &viewer.stage {
            Stage::Ended => return Pull::End,
            Stage::Failing(code, message) => {
                let frame = error_frame(*code, message.clone());
                viewer.stage = Stage::Ended;
                return frame;
            }
            Stage::Opening(start) => {
                let start = *start;
                return self.open(id, start, now);
            }
            Stage::Live => {}
        }
        if let Some(frame) = self.news(id) {
            return frame;
        }
        self.stream(id, output_bytes)
    }

    fn open(&mut self, id: AttachmentId, start: Start, now: Duration) -> Pull {
        // What was in the ring at the attach may have left it before the first pull.
        let lost = matches!(start, Start::At(offset) if offset < self.ring.start());
        if (start == Start::Snapshot || lost) && !self.redraw(id) {
            return Pull::CatchUp;
        }
        let (end, controller) = (self.ring.end(), self.is_controller(id));
        let Some(viewer) = self.viewers.get_mut(&id) else {
            return Pull::End;
        };
        viewer.stage = Stage::Live;
        viewer.accepted_due = viewer.client.is_some();
        viewer.flow.forgive(now);
        control(ServerControl::Attached { end, cols: viewer.size.cols, rows: viewer.size.rows, controller })
    }

    /// Everything that is not the stream itself.
    fn news(&mut self, id: AttachmentId) -> Option<Pull> {
        let company = (self.viewer_count(), self.is_controller(id));
        let viewer = self.viewers.get_mut(&id)?;
        if std::mem::take(&mut viewer.accepted_due)
            && let Some(client) = viewer.client
        {
            let taken = self.accounts.taken(client);
            return Some(frame(&ServerFrame::InputAccepted(taken)));
        }
        if let Some(snapshot) = viewer.snapshot.take() {
            return Some(Pull::Frame(snapshot));
        }
        if let Some((code, message)) = viewer.notice.take() {
            return Some(error_frame(code, message));
        }
        if viewer.told_company != Some(company) {
            viewer.told_company = Some(company);
            let (count, controller) = company;
            return Some(control(ServerControl::Viewers { count, controller }));
        }
        if viewer.told_title != self.emulation.title_serial() {
            viewer.told_title = self.emulation.title_serial();
            let title = self.emulation.title().unwrap_or_default().to_owned();
            return Some(control(ServerControl::Title { title }));
        }
        None
    }

    /// Sizes, output and exit, which are one order.
    fn stream(&mut self, id: AttachmentId, output_bytes: usize) -> Pull {
        let Some(viewer) = self.viewers.get_mut(&id) else {
            return Pull::End;
        };
        let allowed = viewer.flow.may_send();
        if viewer.cursor < self.ring.start() {
            return if allowed == 0 { Pull::Wait } else { self.skip(id) };
        }
        let change = self.sizes.after(viewer.size_serial);
        if let Some(change) = change
            && change.offset <= viewer.cursor
        {
            viewer.size = change.size;
            viewer.size_serial = change.serial;
            return size_frame(change.offset, change.size);
        }
        let stop = change.map_or(self.ring.end(), |change| change.offset);
        let count = (stop - viewer.cursor).min(allowed).min(output_bytes as u64);
        if count > 0 {
            return self.output_frame(id, count);
        }
        match self.exit_code {
            Some(code) if viewer.cursor == self.ring.end() => {
                viewer.stage = Stage::Ended;
                frame(&ServerFrame::Exit(code))
            }
            _ => Pull::Wait,
        }
    }

    fn output_frame(&mut self, id: AttachmentId, count: u64) -> Pull {
        let Some(viewer) = self.viewers.get_mut(&id) else {
            return Pull::End;
        };
        let from = viewer.cursor;
        let mut bytes = header(KIND_OUTPUT, from, count as usize);
        for piece in self.ring.pieces(from, from + count) {
            bytes.put_slice(piece);
        }
        viewer.cursor += count;
        viewer.flow.sent(count);
        Pull::Frame(bytes.freeze())
    }

    /// Passes over output that is no longer remembered: a snapshot takes its place.
    fn skip(&mut self, id: AttachmentId) -> Pull {
        let told = self.viewers.get(&id).map(|v| v.size);
        if !self.redraw(id) {
            return Pull::CatchUp;
        }
        match self.viewers.get(&id) {
            Some(viewer) if Some(viewer.size) != told => size_frame(viewer.cursor, viewer.size),
            _ => self.news(id).unwrap_or(Pull::Wait),
        }
    }

    /// Prepares a snapshot for this attachment; false when the emulator is too far behind for one
    /// to be made without keeping others waiting.
    fn redraw(&mut self, id: AttachmentId) -> bool {
        if self.lag() > CATCH_UP_BYTES {
            return false;
        }
        self.emulate(u64::MAX);
        let snapshot = self.emulation.snapshot();
        // What the emulator holds back is shorter than any ring that `Memory` allows.
        let offset = snapshot.offset.max(self.ring.start());
        let latest = self.sizes.latest();
        if let Some(start) = self.sizes.note_snapshot(offset) {
            self.ring.forget_before(start);
        }
        let Some(viewer) = self.viewers.get_mut(&id) else {
            return true;
        };
        let mut bytes = header(KIND_SNAPSHOT, offset, snapshot.bytes.len());
        bytes.put_slice(&snapshot.bytes);
        viewer.snapshot = Some(bytes.freeze());
        viewer.size = latest.size;
        viewer.size_serial = latest.serial;
        viewer.cursor = offset;
        viewer.flow.skip_to(offset);
        true
    }
}

fn header(kind: u8, offset: u64, payload_bytes: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + payload_bytes);
    bytes.put_u8(kind);
    bytes.put_u64(offset);
    bytes
}

fn frame(frame: &ServerFrame<'_>) -> Pull {
    Pull::Frame(frame.to_vec().into())
}

fn control(message: ServerControl) -> Pull {
    frame(&ServerFrame::Control(message))
}

fn size_frame(offset: u64, size: Size) -> Pull {
    let Size { cols, rows } = size;
    control(ServerControl::Size { offset, cols, rows })
}

fn error_frame(code: rexec_api::error::ErrorCode, message: String) -> Pull {
    control(ServerControl::Error { code, message })
}
