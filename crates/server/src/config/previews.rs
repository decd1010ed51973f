//! Where previews of workspaces' ports are to be found.

use super::PublicUrl;
use super::sources::Reader;

/// Bytes of a preview's own label and its dot: `65535-` and 32 hexadecimal digits.
const LABEL_BYTES: usize = 39;
/// The longest name that DNS knows.
const NAME_BYTES_MAX: usize = 253;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreviewConfig {
    /// Previews are `<port>-<workspace>` below this name.
    pub domain: Option<String>,
    /// Without names: the server's own ports, first and last, of which each preview takes one.
    pub ports: Option<(u16, u16)>,
}

pub(super) fn take(reader: &mut Reader, public_url: Option<&PublicUrl>) -> PreviewConfig {
    PreviewConfig { domain: domain(reader, public_url), ports: ports(reader) }
}

fn domain(reader: &mut Reader, public_url: Option<&PublicUrl>) -> Option<String> {
    let (name, text) = reader.text(&["REXEC_PREVIEW_DOMAIN"])?;
    let domain = text.trim_start_matches("*.").trim_end_matches('.').to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = domain.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if !domain.split('.').all(label) || numeric || domain.len() + LABEL_BYTES > NAME_BYTES_MAX {
        reader.fault(&name, "must be a name such as `previews.example.net`, all names below which lead to this server");
        return None;
    }
    match public_url {
        None => reader.fault(&name, "needs PUBLIC_URL, so that visitors can be sent to the page to sign in"),
        Some(url) if url.host() == domain => {
            reader.fault(
                &name,
                "must not be the page's own name; use one of a domain of its own, such as `previews.example.net`",
            );
        }
        Some(_) => {}
    }
    Some(domain)
}

/// `first-last`.
fn ports(reader: &mut Reader) -> Option<(u16, u16)> {
    let (name, text) = reader.text(&["REXEC_PREVIEW_PORTS"])?;
    let bounds = text.split_once('-').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    match bounds {
        Some((first, last)) if 0 < first && first <= last => Some((first, last)),
        _ => {
            reader.fault(&name, "must be a range of ports such as `20000-20099`");
            None
        }
    }
}
