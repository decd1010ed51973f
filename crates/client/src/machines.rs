//! Joined machines: the tokens by which they come, and what a machine itself asks.

use crate::tunnel::Tunnel;
use crate::{Client, Result, accepted};
use http::Method;
use rexec_api::Page;
use rexec_api::ids::JoinTokenId;
use rexec_api::machines::{CreatedJoinToken, JoinMachine, JoinTokenView, JoinedMachine, NewJoinToken};

impl Client {
    pub async fn create_join_token(&self, new: &NewJoinToken) -> Result<CreatedJoinToken> {
        self.send(Method::POST, "/api/machines/tokens", new).await
    }

    pub async fn join_tokens(&self) -> Result<Page<JoinTokenView>> {
        self.get("/api/machines/tokens").await
    }

    pub async fn revoke_join_token(&self, id: JoinTokenId) -> Result<()> {
        accepted(self.request(Method::DELETE, &format!("/api/machines/tokens/{id}")).send().await?).await.map(drop)
    }

    /// Joins this machine; needs no sign-in but the token that it sends.
    pub async fn join_machine(&self, asked: &JoinMachine) -> Result<JoinedMachine> {
        self.send(Method::POST, "/api/machines/join", asked).await
    }

    /// The connection of the machine whose credential is this client's token.
    pub async fn machine_tunnel(&self) -> Result<Tunnel> {
        self.tunnel_to("/api/machines/ws").await
    }

    /// Removes the machine whose credential is this client's token.
    pub async fn leave_machine(&self) -> Result<()> {
        accepted(self.request(Method::POST, "/api/machines/leave").send().await?).await.map(drop)
    }
}
