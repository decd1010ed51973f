//! The browser of whoever sits at this machine.

use std::ffi::OsStr;
use std::process::Stdio;

/// Opens what a person's desktop opens addresses with.
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

/// Whether a person could see a browser that opens here: not through SSH, and where there is a screen.
fn has_desktop() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if ["SSH_CONNECTION", "SSH_TTY"].into_iter().any(set) {
        return false;
    }
    cfg!(target_os = "macos") || ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER"].into_iter().any(set)
}

/// Shows an address to whoever sits at this machine: whether the opener was started. What becomes of it is nobody's
/// failure.
pub fn open(address: &str) -> bool {
    if !(has_desktop() && is_address(address)) {
        return false;
    }
    let mut command = tokio::process::Command::new(OsStr::new(OPENER));
    command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().is_ok()
}

/// The opener would take anything else for a file or an option.
fn is_address(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_addresses_is_opened() {
        for bad in ["file:///etc/passwd", "--help", "javascript:alert(1)"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
