//! Waiting for an engine, never for ever: a call as a whole, and a stream between its items.

use super::faults::engine_error;
use crate::{EngineError, Result};
use bollard::errors::Error;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use std::time::Duration;

pub(super) fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::Unavailable(Box::new(error))
}

pub(super) async fn within<T>(limit: Duration, call: impl Future<Output = std::result::Result<T, Error>>) -> Result<T> {
    tokio::time::timeout(limit, call).await.map_err(unavailable)?.map_err(engine_error)
}

/// A stream that fails when it is silent for too long, and ends with its first failure.
pub(super) fn watched<T: Send + 'static>(
    stream: impl stream::Stream<Item = std::result::Result<T, Error>> + Send + 'static,
    idle: Duration,
    failure: impl Fn(Error) -> EngineError + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    stream::unfold(Some((stream.boxed(), failure)), move |state| async move {
        let (mut stream, failure) = state?;
        match tokio::time::timeout(idle, stream.next()).await {
            Ok(Some(Ok(item))) => Some((Ok(item), Some((stream, failure)))),
            Ok(Some(Err(error))) => Some((Err(failure(error)), None)),
            Ok(None) => None,
            Err(elapsed) => Some((Err(unavailable(elapsed)), None)),
        }
    })
    .boxed()
}

pub(super) fn failed<T: Send + 'static>(error: EngineError) -> BoxStream<'static, Result<T>> {
    stream::iter([Err(error)]).boxed()
}
