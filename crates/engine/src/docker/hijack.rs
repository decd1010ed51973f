//! An exec's stdin and stdout as one byte stream, on a connection of its own.
//!
//! The request is HTTP/1.1 with `Upgrade: tcp`; after `101` the connection carries raw stdin
//! towards the engine and [`super::stdcopy`] frames back. The stream ends well only if the program
//! did: at its end the engine is asked for the exit code, and another than 0 is an error that
//! carries [`ExecFailure`]. Shutting down the writing side closes the program's stdin.

use super::faults::refusal;
use super::stdcopy::{Broken, Stdcopy};
use super::transport::{Transport, Wire};
use crate::{EngineError, ExecFailure, Result};
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read from the engine at once; it sends frames of up to 32 KiB.
const READ_BYTES: usize = 64 * 1024;
/// The longest refusal that is read.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Starts an exec that was made, and takes its connection.
pub(super) async fn start(transport: &Transport, exec_id: &str) -> Result<(Wire, Bytes)> {
    let wire = transport.dial().await.map_err(unavailable)?;
    let uri = transport.versioned(&format!("/exec/{exec_id}/start")).await.map_err(super::faults::engine_error)?;
    let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let request = Request::post(path)
        .header(header::HOST, "engine")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "tcp")
        .body(Full::new(Bytes::from_static(br#"{"Detach":false,"Tty":false}"#)))
        .map_err(|e| EngineError::Protocol(e.to_string()))?;

    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(wire)).await.map_err(unavailable)?;
    let upgraded = async move {
        let response = sender.send_request(request).await.map_err(unavailable)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(response).await);
        }
        hyper::upgrade::on(response).await.map_err(unavailable)
    };
    // The connection is driven here and ends with the upgrade or the refusal; no task is left behind.
    let (upgraded, _) = tokio::join!(upgraded, connection.with_upgrades());
    let parts = upgraded?
        .downcast::<TokioIo<Wire>>()
        .map_err(|_| EngineError::Protocol("the upgraded connection is not the one that was dialled".into()))?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// The failure that an answer tells of.
pub(super) async fn refused(response: Response<Incoming>) -> EngineError {
    #[derive(Deserialize)]
    struct Told {
        message: String,
    }
    let status = response.status();
    let body = match Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return EngineError::Unavailable(error),
    };
    if status.is_success() {
        return EngineError::Protocol(format!("the engine answered {status} to a request to upgrade"));
    }
    let message = match serde_json::from_slice::<Told>(&body) {
        Ok(told) => told.message,
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    refusal(status.as_u16(), message)
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::Unavailable(Box::new(error))
}

/// Tells an exec's exit code; `None` while it runs on although its stream has ended.
pub(super) type ExitCode = BoxFuture<'static, Result<Option<i32>>>;

enum State {
    Streaming(Option<ExitCode>),
    Ending(ExitCode),
    Ended,
}

pub(super) struct ExecStream {
    wire: Wire,
    decoder: Stdcopy,
    /// Read and not yet decoded: `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    state: State,
}

impl ExecStream {
    /// `early` was read with the engine's answer; `exit_code` is asked once, at the end.
    pub(super) fn new(wire: Wire, early: Bytes, exit_code: ExitCode) -> ExecStream {
        let buffer = Vec::from(early);
        ExecStream {
            wire,
            decoder: Stdcopy::default(),
            start: 0,
            end: buffer.len(),
            buffer,
            state: State::Streaming(Some(exit_code)),
        }
    }

    fn poll_streaming(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<Progress>> {
        loop {
            if self.start < self.end || self.decoder.is_broken() {
                let step = self
                    .decoder
                    .decode(&self.buffer[self.start..self.end], out.initialize_unfilled())
                    .map_err(broken)?;
                self.start += step.consumed;
                if step.written > 0 {
                    out.advance(step.written);
                    return Poll::Ready(Ok(Progress::Wrote));
                }
            }
            if self.buffer.len() < READ_BYTES {
                self.buffer.resize(READ_BYTES, 0);
            }
            let mut window = ReadBuf::new(&mut self.buffer);
            ready!(Pin::new(&mut self.wire).poll_read(cx, &mut window))?;
            (self.start, self.end) = (0, window.filled().len());
            if self.end == 0 {
                return Poll::Ready(if self.decoder.between_frames() { Ok(Progress::End) } else { Err(cut()) });
            }
        }
    }

    fn ended(&self, code: Result<Option<i32>>) -> io::Result<()> {
        match code {
            Ok(None | Some(0)) => Ok(()),
            Ok(Some(exit_code)) => Err(io::Error::other(ExecFailure { exit_code, stderr: self.decoder.stderr() })),
            Err(error) => Err(io::Error::new(io::ErrorKind::ConnectionReset, error)),
        }
    }
}

enum Progress {
    Wrote,
    End,
}

fn broken(broken: Broken) -> io::Error {
    match broken {
        Broken::Header(bytes) => {
            let error = EngineError::Protocol(format!("an exec frame begins with {bytes:?}"));
            io::Error::new(io::ErrorKind::InvalidData, error)
        }
        Broken::Fault(message) => io::Error::other(EngineError::Refused(message)),
    }
}

fn cut() -> io::Error {
    let error = EngineError::Protocol("an exec stream ended within a frame".into());
    io::Error::new(io::ErrorKind::UnexpectedEof, error)
}

impl AsyncRead for ExecStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match &mut self.state {
                State::Streaming(exit_code) => {
                    let exit_code = exit_code.take();
                    let progress = self.poll_streaming(cx, out);
                    self.state = match (&progress, exit_code) {
                        (Poll::Ready(Ok(Progress::End)), Some(exit_code)) => State::Ending(exit_code),
                        (Poll::Ready(Err(_)), _) | (_, None) => State::Ended,
                        (_, exit_code) => State::Streaming(exit_code),
                    };
                    if let Progress::Wrote = ready!(progress)? {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Ending(exit_code) => {
                    let code = ready!(exit_code.as_mut().poll(cx));
                    self.state = State::Ended;
                    return Poll::Ready(self.ended(code));
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for ExecStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
