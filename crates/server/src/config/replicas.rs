//! How the other servers on the same database reach this one.

use super::sources::Reader;

/// An address without a path: of this one server, not of the balancer before all.
pub fn take(reader: &mut Reader) -> Option<String> {
    let (name, text) = reader.text(&["REXEC_ADVERTISE_URL"])?;
    let parsed: Option<http::Uri> = text.parse().ok();
    let url = parsed.as_ref().and_then(|uri| {
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        (uri.path() == "/" && uri.query().is_none() && authority.port_u16() != Some(0))
            .then(|| format!("{scheme}://{authority}"))
    });
    if url.is_none() {
        reader.fault(
            &name,
            "must be the address at which the other servers reach this one, such as `http://10.0.1.5:8080`, without a path",
        );
    }
    url
}
