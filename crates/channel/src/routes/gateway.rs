//! What the gateway of a host can be asked (`rexec_api::gateway`).

use super::{body, get, post, request};
use crate::client::GuestClient;
use crate::error::Result;
use crate::frames::FrameReceiver;
use crate::{CALL_TIMEOUT, RECORDS_FRAME_BYTES_MAX, json};
use http::Method;
use rexec_api::gateway::{
    BoundAddress, EgressRecord, GatewaySettings, GatewayState, KeptAddress, LeftTokens, ToldGithub,
};
use std::net::Ipv4Addr;

impl GuestClient {
    pub async fn gateway(&self) -> Result<GatewayState> {
        self.call(get("/gateway"), None, CALL_TIMEOUT).await
    }

    /// Has it listen there. Other settings than before end all connections.
    pub async fn set_gateway(&self, settings: &GatewaySettings) -> Result<GatewayState> {
        self.call(request(Method::PUT, "/gateway"), Some(body(settings)?), CALL_TIMEOUT).await
    }

    /// All that there are; those in the answer it is to be told of by [`GuestClient::bind_address`].
    pub async fn keep_addresses(&self, kept: &[KeptAddress]) -> Result<Vec<Ipv4Addr>> {
        self.call(request(Method::PUT, "/gateway/bound"), Some(body(&kept)?), CALL_TIMEOUT).await
    }

    pub async fn bind_address(&self, bound: &BoundAddress) -> Result<()> {
        self.done(self.call(post("/gateway/bound"), Some(body(bound)?), CALL_TIMEOUT).await)
    }

    /// Says what is left of a budget, and nothing of whose address it is.
    pub async fn set_tokens(&self, address: Ipv4Addr, left: &LeftTokens) -> Result<()> {
        let head = request(Method::PUT, format!("/gateway/bound/{address}/tokens"));
        self.done(self.call(head, Some(body(left)?), CALL_TIMEOUT).await)
    }

    pub async fn set_github(&self, address: Ipv4Addr, told: &ToldGithub) -> Result<()> {
        let head = request(Method::PUT, format!("/gateway/bound/{address}/github"));
        self.done(self.call(head, Some(body(told)?), CALL_TIMEOUT).await)
    }

    pub async fn unbind_address(&self, address: Ipv4Addr) -> Result<()> {
        let head = request(Method::DELETE, format!("/gateway/bound/{address}"));
        self.done(self.call(head, None, CALL_TIMEOUT).await)
    }

    /// What it decides, from now on; whoever was told before is told no more.
    pub async fn egress_records(&self) -> Result<EgressNews> {
        Ok(EgressNews(self.listen(get("/gateway/records"), RECORDS_FRAME_BYTES_MAX).await?))
    }
}

/// What a gateway decides. Dropping it ends the telling.
pub struct EgressNews(FrameReceiver);

impl EgressNews {
    /// Some more; `None` when it tells no more.
    pub async fn next(&mut self) -> Result<Option<Vec<EgressRecord>>> {
        match self.0.recv().await? {
            Some(frame) => Ok(Some(json::parse(&frame)?)),
            None => Ok(None),
        }
    }
}
