//! Whether images are fetched before anyone asks for them.

use super::sources::Reader;
use std::time::Duration;

/// After a fetch that failed; each failure in a row doubles it.
const RETRY_FIRST: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrepullConfig {
    pub on: bool,
    /// No variable sets it.
    pub retry_first: Duration,
}

pub(super) fn take(reader: &mut Reader) -> PrepullConfig {
    let on = match reader.text(&["REXEC_PREPULL"]).as_ref().map(|(_, text)| text.to_ascii_lowercase()).as_deref() {
        None | Some("true" | "on" | "1") => true,
        Some("false" | "off" | "0") => false,
        Some(_) => {
            reader.fault("REXEC_PREPULL", "must be `true` or `false`");
            false
        }
    };
    PrepullConfig { on, retry_first: RETRY_FIRST }
}
