//! One more connection to a guest, through a client that has one: a server in between answers as the guest would.
//!
//! Each stream that is opened here is opened there, its bytes pass both ways as fast as each end takes them, and an end or
//! a reset of one is that of the other. Nothing of what passes is looked at.

use crate::client::GuestClient;
use crate::error::{ChannelError, Result};
use crate::keepalive::Pace;
use crate::piece::Piece;
use crate::stream::{Inlet, Outlet};
use crate::*;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use std::future::poll_fn;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Serves one connection with what the guest answers, until it or the guest's own ends.
pub async fn relay<IO>(io: IO, guest: GuestClient) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = connection::server().handshake::<_, Piece>(io);
    let mut connection = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| ChannelError::TimedOut)??;
    let (_never_held, held) = watch::channel(false);
    let mut silence = pin!(keepalive::watch(connection.ping_pong(), Pace::default(), held));
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    streams.spawn(pass(request, respond, guest.clone()));
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            Some(_) = streams.join_next() => {}
            () = guest.closed() => return Ok(()),
            () = &mut silence => return Err(ChannelError::TimedOut),
        }
    }
}

/// One stream. Whatever is dropped before its end is reset.
async fn pass(request: Request<RecvStream>, mut respond: SendResponse<Piece>, guest: GuestClient) -> Result<()> {
    let (head, body) = request.into_parts();
    let ends = body.is_end_stream();
    let mut onward = Request::new(());
    *onward.method_mut() = head.method;
    *onward.uri_mut() = head.uri;
    *onward.headers_mut() = head.headers;
    let (mut there, answer) = guest.forward(onward, ends).await?;
    let mut from = Inlet::new(body);
    let up = async {
        loop {
            tokio::select! {
                biased;
                // It has answered, and takes no more.
                () = poll_fn(|cx| there.poll_closed(cx)), if !ends => return Ok::<_, ChannelError>(()),
                chunk = from.chunk() => match chunk? {
                    Some(chunk) => there.send(Piece::plain(chunk)).await?,
                    None if ends => return Ok(()),
                    None => return there.finish(),
                },
            }
        }
    };
    let down = async {
        let answer = tokio::select! {
            answer = answer => answer?,
            _ = poll_fn(|cx| respond.poll_reset(cx)) => return Err(ChannelError::Closed),
        };
        let (head, body) = answer.into_parts();
        let ends = body.is_end_stream();
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        let stream = respond.send_response(response, ends)?;
        if ends {
            return Ok(());
        }
        let (mut back, mut inlet) = (Outlet::new(stream), Inlet::new(body));
        loop {
            tokio::select! {
                biased;
                () = poll_fn(|cx| back.poll_closed(cx)) => return Err(ChannelError::Closed),
                chunk = inlet.chunk() => match chunk? {
                    Some(chunk) => back.send(Piece::plain(chunk)).await?,
                    None => return back.finish(),
                },
            }
        }
    };
    tokio::try_join!(up, down).map(drop)
}
