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

/// All templates, and what the host can give a workspace that is made from one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateList {
    pub items: Vec<TemplateView>,
    /// Always absent: the list is whole.
    pub next: Option<String>,
    /// Absent while no host is ready.
    pub host: Option<HostCapacity>,
}

/// The most that one workspace may ask for on its host.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostCapacity {
    /// Cores; absent where the engine does not tell.
    pub cpu: Option<f64>,
    /// MiB; absent where the engine does not tell.
    pub memory_mb: Option<u32>,
}
