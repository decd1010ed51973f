//! Which of several servers a workspace is made on.

use super::sources::Reader;
use crate::hosts::placement::Strategy;

pub(super) fn take(reader: &mut Reader) -> Strategy {
    match reader.text(&["REXEC_PLACEMENT"]).as_ref().map(|(_, text)| text.to_ascii_lowercase()).as_deref() {
        None | Some("spread") => Strategy::Spread,
        Some("pack") => Strategy::Pack,
        Some(_) => {
            reader.fault("REXEC_PLACEMENT", "must be `spread` or `pack`");
            Strategy::Spread
        }
    }
}
