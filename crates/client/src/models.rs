//! Models that workspaces ask for.

use crate::{Client, Result};
use rexec_api::models::ModelsView;

impl Client {
    pub async fn models(&self) -> Result<ModelsView> {
        self.get("/api/models").await
    }
}
