//! What may pass between a viewer and a guest, frame by frame: pure.
//!
//! Frames go through unchanged; what is decided here is only whether they go. Trust: a viewer's
//! frames are checked for kind and shape, and a watcher's are dropped but for acknowledgements;
//! a guest's frames are bounded by the channel and passed on by kind.

use rexec_api::frames::{CLIENT_FRAME_BYTES_MAX, ClientFrame, FrameError};
use rexec_api::guest::AttachMode;
use rexec_api::terminals::{COLS_MAX, ROWS_MAX};

/// What to do with a viewer's frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Ruling {
    Pass,
    Drop,
    /// The viewer broke the protocol: say why and close.
    Refuse(String),
}

pub fn judge(frame: &[u8], mode: AttachMode) -> Ruling {
    if frame.len() > CLIENT_FRAME_BYTES_MAX {
        return Ruling::Refuse(format!("a frame is larger than {CLIENT_FRAME_BYTES_MAX} bytes"));
    }
    match (ClientFrame::parse(frame), mode) {
        (Err(error), _) => Ruling::Refuse(fault(error)),
        (Ok(ClientFrame::Ack(_)), _) => Ruling::Pass,
        (Ok(_), AttachMode::View) => Ruling::Drop,
        (Ok(ClientFrame::Resize { cols, rows }), AttachMode::Control) => {
            if (1..=COLS_MAX).contains(&cols) && (1..=ROWS_MAX).contains(&rows) {
                Ruling::Pass
            } else {
                Ruling::Refuse(format!("a size must be from 1x1 to {COLS_MAX}x{ROWS_MAX}, not {cols}x{rows}"))
            }
        }
        (Ok(_), AttachMode::Control) => Ruling::Pass,
    }
}

fn fault(error: FrameError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_only_acknowledges() {
        let input = ClientFrame::Input(b"x").to_vec();
        let resize = ClientFrame::Resize { cols: 80, rows: 24 }.to_vec();
        let ack = ClientFrame::Ack(9).to_vec();
        assert_eq!(judge(&input, AttachMode::View), Ruling::Drop);
        assert_eq!(judge(&resize, AttachMode::View), Ruling::Drop);
        assert_eq!(judge(&ack, AttachMode::View), Ruling::Pass);
        for frame in [input, resize, ack] {
            assert_eq!(judge(&frame, AttachMode::Control), Ruling::Pass);
        }
    }

    #[test]
    fn garbage_is_refused() {
        let zero = ClientFrame::Resize { cols: 0, rows: 24 }.to_vec();
        let huge = ClientFrame::Resize { cols: 80, rows: 60_000 }.to_vec();
        let long = ClientFrame::Input(&[0; CLIENT_FRAME_BYTES_MAX]).to_vec();
        for frame in [b"".as_slice(), b"\xff", b"\x01\x00", b"\x03{", b"\x02", &zero, &huge, &long] {
            assert!(matches!(judge(frame, AttachMode::Control), Ruling::Refuse(_)), "{frame:?}");
        }
    }
}
