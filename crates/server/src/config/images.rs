//! Which images workspaces may be made from.

use super::sources::Reader;
use std::path::PathBuf;

/// Who may name any image, as against those of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CustomImages {
    Allow,
    /// Administrators only.
    Admins,
    Deny,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagesConfig {
    /// Templates in this directory come to ours, or take their place.
    pub templates_dir: Option<PathBuf>,
    pub custom: CustomImages,
}

pub(super) fn take(reader: &mut Reader) -> ImagesConfig {
    let custom =
        match reader.text(&["REXEC_CUSTOM_IMAGES"]).as_ref().map(|(_, text)| text.to_ascii_lowercase()).as_deref() {
            None | Some("allow") => CustomImages::Allow,
            Some("admins") => CustomImages::Admins,
            Some("deny") => CustomImages::Deny,
            Some(_) => {
                reader.fault("REXEC_CUSTOM_IMAGES", "must be `allow`, `admins` or `deny`");
                CustomImages::Deny
            }
        };
    let templates_dir = reader.text(&["REXEC_TEMPLATES_DIR"]).map(|(name, text)| {
        let path = PathBuf::from(text);
        if !path.is_dir() {
            reader.fault(&name, "is not a directory");
        }
        path
    });
    ImagesConfig { templates_dir, custom }
}
