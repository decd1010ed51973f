//! WebSockets of the API: the token goes as a subprotocol, and a refusal is the server's own error.

use crate::{Client, ClientError, Result};
use http::HeaderValue;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use rexec_api::error::ErrorBody;
use rexec_api::frames::TOKEN_SUBPROTOCOL_PREFIX;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connects to a path below the server's address.
pub async fn open(client: &Client, path: &str, subprotocol: &str, config: WebSocketConfig) -> Result<Socket> {
    // http -> ws, https -> wss.
    let url = format!("{}{path}", client.base()).replacen("http", "ws", 1);
    let mut request = url.into_client_request().map_err(Box::new)?;
    let mut protocols = subprotocol.to_owned();
    if let Some(token) = client.token() {
        protocols.push_str(&format!(", {TOKEN_SUBPROTOCOL_PREFIX}{token}"));
    }
    let protocols = HeaderValue::from_str(&protocols).map_err(|error| Box::new(Error::HttpFormat(error.into())))?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocols);
    match tokio_tungstenite::connect_async_with_config(request, Some(config), true).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            match serde_json::from_slice::<ErrorBody>(body) {
                Ok(body) => Err(ClientError::Refused(Box::new(body.error))),
                Err(_) => Err(ClientError::Strange(response.status())),
            }
        }
        Err(error) => Err(Box::new(error).into()),
    }
}
