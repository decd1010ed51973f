//! A body on its way in, however large, as its handler takes it.

use crate::error::{Error, Result};
use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt as _;
use rexec_api::error::ErrorCode;
use std::time::Duration;

/// How long a body may pause between two pieces on its way in.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(60);

/// A body on its way in, piece by piece.
pub struct Incoming(BodyDataStream);

impl Incoming {
    pub fn new(body: Body) -> Self {
        Self(body.into_data_stream())
    }

    /// The next piece; `None` at the end of a body that is whole. `kept` says what became of the
    /// part that had come when it was not.
    pub async fn next(&mut self, kept: &'static str) -> Result<Option<Bytes>> {
        match tokio::time::timeout(UPLOAD_PATIENCE, self.0.next()).await {
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(None) => Ok(None),
            Ok(Some(Err(error))) => {
                let message = format!("The upload broke off. {kept}");
                Err(Error::new(ErrorCode::InvalidRequest, message).source(error))
            }
            Err(_) => Err(Error::new(ErrorCode::RequestTimeout, format!("The upload paused for too long. {kept}"))),
        }
    }
}
