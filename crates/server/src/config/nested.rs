//! Whether workspaces may hold containers of their own.

use super::sources::Reader;

/// On which hosts templates with containers inside are offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NestedPolicy {
    /// Where the runtime has a kernel of its own.
    #[default]
    Isolated,
    /// Wherever it works: with a shared kernel, workspaces reach more of it than others.
    Allow,
    Deny,
}

pub(super) fn take(reader: &mut Reader) -> NestedPolicy {
    match reader.text(&["REXEC_NESTED"]).as_ref().map(|(_, text)| text.to_ascii_lowercase()).as_deref() {
        None | Some("isolated") => NestedPolicy::Isolated,
        Some("allow") => NestedPolicy::Allow,
        Some("deny") => NestedPolicy::Deny,
        Some(_) => {
            reader.fault("REXEC_NESTED", "must be `isolated`, `allow` or `deny`");
            NestedPolicy::Deny
        }
    }
}
