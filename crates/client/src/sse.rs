//! Streams of server-sent events (HTML Living Standard, section 9.2), as far as this API uses them: the data of each
//! event is one line of JSON.

use crate::{ClientError, Result};
use bytes::BytesMut;
use http::StatusCode;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// The longest event.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Events of one kind as they come. Dropping it ends the stream.
pub struct ServerEvents<T> {
    response: reqwest::Response,
    came: BytesMut,
    /// Bytes at the beginning of `came` in which no event ends.
    searched: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> ServerEvents<T> {
    pub(crate) fn of(response: reqwest::Response) -> Self {
        Self { response, came: BytesMut::new(), searched: 0, kind: PhantomData }
    }

    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Result<Option<T>> {
        loop {
            while let Some(end) = self.came[self.searched..].windows(2).position(|window| window == b"\n\n") {
                let event = self.came.split_to(self.searched + end + 2);
                self.searched = 0;
                let data = event.as_ref().split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"data: "));
                if let Some(data) = data {
                    return serde_json::from_slice(data).map(Some).map_err(|_| strange());
                }
            }
            self.searched = self.came.len().saturating_sub(1);
            match self.response.chunk().await? {
                Some(bytes) if self.came.len() + bytes.len() <= EVENT_BYTES_MAX => self.came.extend_from_slice(&bytes),
                Some(_) => return Err(strange()),
                None => return Ok(None),
            }
        }
    }
}

fn strange() -> ClientError {
    ClientError::Strange(StatusCode::OK)
}
