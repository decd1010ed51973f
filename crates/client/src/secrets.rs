//! Secrets that workspaces use and never have.

use crate::{Client, Result, accepted, percent};
use http::Method;
use rexec_api::Page;
use rexec_api::secrets::{PutSecret, SecretView};

impl Client {
    pub async fn secrets(&self) -> Result<Page<SecretView>> {
        self.get("/api/secrets").await
    }

    /// Stores one, or changes what is said of it.
    pub async fn put_secret(&self, name: &str, secret: &PutSecret) -> Result<SecretView> {
        self.send(Method::PUT, &path(name), secret).await
    }

    pub async fn delete_secret(&self, name: &str) -> Result<()> {
        accepted(self.request(Method::DELETE, &path(name)).send().await?).await.map(drop)
    }
}

fn path(name: &str) -> String {
    format!("/api/secrets/{}", percent(name))
}
