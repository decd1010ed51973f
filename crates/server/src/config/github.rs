//! Where GitHub is: the public one, a company's own, or a test's.

use super::sources::Reader;

const GITHUB: &str = "https://github.com";

pub(super) fn take(reader: &mut Reader) -> String {
    let Some((name, text)) = reader.text(&["REXEC_GITHUB_URL"]) else {
        return GITHUB.to_owned();
    };
    let url = text.trim_end_matches('/');
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if host.is_none_or(|host| host.is_empty() || host.contains(['@', '?', '#', ' '])) {
        reader.fault(&name, "must be an address such as `https://github.example.com`");
    }
    url.to_owned()
}
