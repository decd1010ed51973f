//! A registry's name, as written by people and as image references imply it: pure.

use rexec_api::registries::SERVER_CHARS_MAX;

/// The registry of references that name none.
pub const DOCKER_HUB: &str = "docker.io";

/// The one spelling of a server's address; `None` when it is no address.
pub fn address(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = (1..=SERVER_CHARS_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c));
    fits.then(|| text.to_ascii_lowercase())
}

/// As [`address`], where Docker Hub has one name.
pub fn normal(text: &str) -> Option<String> {
    let text = address(text)?;
    let hub = matches!(text.as_str(), "index.docker.io" | "registry-1.docker.io" | "hub.docker.com");
    Some(if hub { DOCKER_HUB.into() } else { text })
}

/// The registry of an image: what stands before the first slash, if it can be no folder of Docker Hub's.
pub fn of_image(image: &str) -> String {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => {
            normal(first).unwrap_or_else(|| first.to_owned())
        }
        _ => DOCKER_HUB.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_their_registry() {
        for (image, server) in [
            ("debian:12", "docker.io"),
            ("acme/dev", "docker.io"),
            ("docker.io/library/debian", "docker.io"),
            ("index.docker.io/acme/dev", "docker.io"),
            ("GHCR.io/acme/dev:1", "ghcr.io"),
            ("localhost/dev", "localhost"),
            ("127.0.0.1:5000/a/b@sha256:00", "127.0.0.1:5000"),
        ] {
            assert_eq!(of_image(image), server, "{image}");
        }
    }

    #[test]
    fn addresses_have_no_scheme_and_no_path() {
        assert_eq!(normal(" Registry.Example.com:5000 ").as_deref(), Some("registry.example.com:5000"));
        for bad in ["", "https://ghcr.io", "ghcr.io/acme", "a b", "-x", "a\nb"] {
            assert_eq!(normal(bad), None, "{bad:?}");
        }
    }
}
