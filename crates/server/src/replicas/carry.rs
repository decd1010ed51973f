//! A connection's bytes over another that ends as one: what stands between two servers may close both halves once it has seen
//! the end of either.
//!
//! Each half is a series of frames, a length of four bytes and as many bytes (big-endian, tokio-util's length-delimited
//! codec); an empty one is that half's end. Invariant: what breaks off is never taken for an end.

use bytes::BytesMut;
use futures_util::{SinkExt as _, StreamExt as _};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex, split};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Of one read, and of a frame at most.
const PIECE_BYTES: usize = 64 * 1024;

/// Carries all of both halves; ends when both have ended, or with the first failure.
pub async fn carry<L, W>(local: L, wire: W) -> io::Result<()>
where
    L: AsyncRead + AsyncWrite,
    W: AsyncRead + AsyncWrite,
{
    let ((mut reads, mut writes), (from, to)) = (split(local), split(wire));
    let codec = || LengthDelimitedCodec::builder().max_frame_length(PIECE_BYTES).new_codec();
    let (mut frames, mut sink) = (FramedRead::new(from, codec()), FramedWrite::new(to, codec()));
    let out = async {
        let mut piece = BytesMut::new();
        loop {
            piece.reserve(PIECE_BYTES);
            let count = (&mut reads).take(PIECE_BYTES as u64).read_buf(&mut piece).await?;
            sink.send(piece.split().freeze()).await?;
            if count == 0 {
                return Ok(());
            }
        }
    };
    let back = async {
        loop {
            let frame = frames.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
            if frame.is_empty() {
                return writes.shutdown().await;
            }
            writes.write_all(&frame).await?;
            writes.flush().await?;
        }
    };
    tokio::try_join!(out, back).map(|_: ((), ())| ())
}

/// The near end of what is carried over a connection, which ends with it.
pub struct Carried {
    stream: DuplexStream,
    is_broken: Arc<AtomicBool>,
    _end: DropGuard,
}

impl Carried {
    pub fn over(wire: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (stream, far) = duplex(PIECE_BYTES);
        let (end, is_broken) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let (ended, broken) = (end.clone(), is_broken.clone());
        tokio::spawn(async move {
            // Its far end goes last, so that whoever sees that knows why.
            let mut far = far;
            tokio::select! {
                () = ended.cancelled() => {}
                carried = carry(&mut far, wire) => broken.store(carried.is_err(), Ordering::Release),
            }
        });
        Self { stream, is_broken, _end: end.drop_guard() }
    }
}

impl AsyncRead for Carried {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let is_end = matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() == before && buf.remaining() > 0;
        if is_end && self.is_broken.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        read
    }
}

impl AsyncWrite for Carried {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::copy;

    #[tokio::test]
    async fn one_half_ends_and_the_other_goes_on() {
        let (wire, far) = duplex(1024);
        let (local, engine) = duplex(1024);
        tokio::spawn(carry(local, far));
        let mut near = Carried::over(wire);
        // It answers once it has heard all, however much that is.
        let answers = tokio::spawn(async move {
            let (mut engine, mut heard) = (engine, Vec::new());
            engine.read_to_end(&mut heard).await.expect("goes through");
            engine.write_all(&heard).await.expect("goes through");
        });
        let sent: Vec<u8> = (0..300_000).map(|n| n as u8).collect();
        near.write_all(&sent).await.expect("goes through");
        near.shutdown().await.expect("goes through");
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).await.expect("goes through");
        assert!(heard == sent);
        answers.await.expect("it ends");
    }

    #[tokio::test]
    async fn what_breaks_off_is_no_end() {
        let (wire, far) = duplex(1024);
        let mut near = Carried::over(wire);
        let mut far = FramedWrite::new(far, LengthDelimitedCodec::new());
        far.send(&b"half of"[..]).await.expect("goes through");
        drop(far);
        let mut heard = Vec::new();
        let error = near.read_to_end(&mut heard).await.expect_err("it breaks off");
        assert_eq!((heard.as_slice(), error.kind()), (&b"half of"[..], io::ErrorKind::ConnectionReset));
    }

    #[tokio::test]
    async fn who_goes_away_ends_it() {
        let (wire, mut far) = duplex(1024);
        drop(Carried::over(wire));
        // It may have said that its half has ended, and nothing else.
        assert!(copy(&mut far, &mut tokio::io::sink()).await.expect("goes through") <= 4);
    }
}
