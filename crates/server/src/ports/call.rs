//! One gRPC call through the guest to what listens in a workspace, and its answer back.
//!
//! Like every request of a preview it has a connection of its own: HTTP/2 without TLS, known beforehand
//! (RFC 9113, section 3.3). Messages and trailers pass as they come, both ways.
//!
//! Invariant: what serves the connection ends with it. HTTP/2 takes several tasks, the connection and the
//! bodies on their way, and dropping one ends no other: all run in [`Beside`], which the end of the
//! [`Watch`] ends; and nothing here keeps a handle by which a connection would outlive its call.
//!
//! Only messages count as use of the workspace: pings of a connection that is merely open do not.

use super::headers;
use super::meter::Moved;
use super::proxy::{Watch, dial};
use crate::error::{Error, Result};
use crate::tasks::Tasks;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use rexec_api::error::ErrorCode;
use rexec_channel::GuestClient;
use std::future::Future;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a program may send before its visitor has read it; more waits with the program.
const WINDOW_BYTES: u32 = 256 * 1024;
/// What a visitor may send before the program has read it; more waits with the visitor.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// The tasks of one connection.
#[derive(Clone)]
struct Beside {
    tasks: Tasks,
    working: TaskTracker,
    over: CancellationToken,
}

impl Beside {
    fn new(tasks: Tasks) -> Self {
        let working = TaskTracker::new();
        // Closed, it tells when its last task has ended.
        working.close();
        Self { tasks, working, over: CancellationToken::new() }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Beside {
    fn execute(&self, work: F) {
        let over = self.over.clone();
        let until_over = self.working.track_future(async move {
            over.run_until_cancelled(work).await;
        });
        self.tasks.spawn("preview-http2", until_over);
    }
}

/// Sends a call to the spot and gives its answer as soon as that begins.
pub async fn forward(guest: &GuestClient, mut request: Request, watch: Watch) -> Result<Response> {
    let port = watch.spot.port;
    let io = TokioIo::new(dial(guest, port).await?);
    let tasks = watch.ports.tasks.clone();
    let beside = Beside::new(tasks.clone());
    let shaking = http2::Builder::new(beside.clone())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(UNSENT_BYTES_MAX)
        .handshake::<_, Body>(io);
    let (mut calls, connection) = shaking.await.map_err(|error| no_http2(port, error))?;
    let moved = Moved::default();
    let traffic = moved.clone();
    tasks.spawn("preview-call", async move {
        let _over = beside.over.drop_guard();
        let serving = async {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a preview's call ended badly");
            }
            // It ends when no further call can come; the one under way may still have much to say.
            beside.working.wait().await;
        };
        tokio::select! {
            () = watch.tell(traffic) => {}
            () = serving => {}
            () = watch.over() => {}
        }
    });
    request.extensions_mut().clear();
    let request = request.map(|body| passing(body, moved.clone()));
    let answer = calls.send_request(request).await.map_err(|error| no_http2(port, error))?;
    Ok(answer.map(|body| passing(body, moved)))
}

/// A body whose passing is use, and whose trailers say only what they may.
fn passing<B>(body: B, moved: Moved) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    Body::new(body.map_frame(move |frame| {
        moved.mark();
        match frame.into_trailers() {
            Ok(mut trailers) => {
                headers::strip_trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }
    }))
}

fn no_http2(port: u16, error: hyper::Error) -> Error {
    let message = format!(
        "What listens on port {port} of the workspace ended the connection, or does not speak HTTP/2, which gRPC \
         needs. Start a gRPC server there, without TLS."
    );
    Error::new(ErrorCode::PreviewFailed, message).source(error)
}
