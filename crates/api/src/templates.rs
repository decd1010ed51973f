//! Templates: what workspaces can be made from by name.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateView {
    /// What a request for a workspace names.
    pub id: String,
    pub name: String,
    pub description: String,
    /// A word that the page has a picture for, such as `debian`.
    pub icon: String,
    pub image: String,
    /// About what the image takes up on the host, in MiB.
    pub size_mb: u32,
    /// Whether the host has the image; if not, it is fetched first.
    pub available: bool,
    /// Names of the steps that run once after the first start.
    pub setup: Vec<String>,
    /// Hosts that it needs to reach for its set-up and usual work.
    pub egress: Vec<String>,
    /// What runs containers inside of it, such as `podman`; absent: nothing.
    pub nested: Option<String>,
    /// Why the host does not run containers inside, for a template that has them; absent: it does.
    pub nested_unavailable: Option<String>,
}
