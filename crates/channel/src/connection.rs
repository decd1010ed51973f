//! How both ends set HTTP/2 up.

use crate::*;

pub(crate) fn client() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(SERVER_DATA_BYTES_MAX)
        .max_header_list_size(SERVER_HEADER_BYTES_MAX)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .data_frame_budget(SMALL_FRAME_BUDGET_BYTES)
        .initial_max_send_streams(STREAMS_MAX as usize)
        .max_concurrent_streams(0)
        .enable_push(false);
    builder
}

pub(crate) fn server() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(GUEST_DATA_BYTES_MAX)
        .max_header_list_size(GUEST_HEADER_BYTES_MAX)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .data_frame_budget(SMALL_FRAME_BUDGET_BYTES)
        .max_concurrent_streams(STREAMS_MAX);
    builder
}
