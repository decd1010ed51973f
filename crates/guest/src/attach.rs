//! Joining a stream of the channel, or a lane, to a terminal.

use crate::link::Dialler;
use crate::terminal::{Cut, FrameSink, FrameSource, Terminals};
use bytes::Bytes;
use rexec_api::guest::AttachSpec;
use rexec_api::ids::TerminalId;
use rexec_channel::{Call, FrameReceiver, FrameSender};

struct Incoming(FrameReceiver);

impl FrameSource for Incoming {
    async fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        self.0.recv().await.map_err(|_| Cut)
    }
}

/// `None` once finished.
struct Outgoing(Option<FrameSender>);

impl FrameSink for Outgoing {
    async fn send(&mut self, frame: Bytes) -> Result<(), Cut> {
        match &mut self.0 {
            Some(sender) => sender.send(frame).await.map_err(|_| Cut),
            None => Err(Cut),
        }
    }

    async fn finish(&mut self) -> Result<(), Cut> {
        match self.0.take() {
            Some(sender) => sender.finish().map_err(|_| Cut),
            None => Ok(()),
        }
    }
}

pub async fn run(terminals: &Terminals, id: TerminalId, spec: AttachSpec, call: Call, dialler: Option<&Dialler>) {
    let lane = match (dialler, call.lane()) {
        // A server that cannot be dialled once more gets the frames by the stream.
        (Some(dialler), Some(lane)) => dialler.lane(lane).await.ok(),
        _ => None,
    };
    let attachment = match terminals.attach(id, &spec) {
        Ok(attachment) => attachment,
        Err(error) => return call.answer::<()>(Err(error)).await,
    };
    let frames = match lane {
        Some(lane) => call.frames_over(lane),
        None => call.frames(),
    };
    // Failing means that the server has gone: dropping the attachment tells the terminal.
    if let Ok((sender, receiver)) = frames {
        attachment.run(Incoming(receiver), Outgoing(Some(sender))).await;
    }
}
