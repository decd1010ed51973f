//! Variables of capabilities that this version does not have, and of deployments that had several
//! services where there is one now.
//!
//! Invariant: none is ignored silently: a notice says what happens instead.

use super::sources::Reader;

/// Accepted, and without effect for now.
const NOT_YET: [(&[&str], &str); 8] = [
    (
        &["REDIS_URL", "COMPUTE_REDIS_URL", "REDIS_HOSTNAME"],
        "sessions, leases and news between servers go by the database, and limits are each server's own",
    ),
    (&["DOCKER_TLS_CERTDIR"], "certificates are read where DOCKER_CERT_PATH says, and no container is given them"),
    (&["REXEC_WORKSPACE_STORAGE", "COMPUTE_WORKSPACE_STORAGE"], "workspaces keep their files on the engine's volumes"),
    (
        &[
            "AGENT_STATE_PATH",
            "AGENT_WORKSPACE",
            "DOCKER_AGENT_STATE_PATH",
            "DOCKER_AGENT_WORKSPACE",
            "DOCKER_AGENTS_DIR",
            "AGENT_DEFINITIONS_PATH",
        ],
        "agents are not part of this version",
    ),
    (
        &[
            "STRIPE_SECRET_KEY",
            "STRIPE_WEBHOOK_SECRET",
            "STRIPE_PRICE_PRO",
            "STRIPE_PRICE_ENTERPRISE",
            "STRIPE_API_BASE",
        ],
        "billing is not part of this version, and nobody is charged",
    ),
    (
        &["GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET", "GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"],
        "this version signs in by e-mail and password",
    ),
    (&["VOICE_PROVIDER"], "voice is not part of this version"),
    (&["ADMIN_TOKEN"], "the first account made is the administrator"),
];

/// Families of variables, with the same effect.
const NOT_YET_PREFIXES: [(&str, &str); 2] = [
    ("OIDC_", "this version signs in by e-mail and password"),
    ("SAML_", "this version signs in by e-mail and password"),
];

/// They tied separate services together; there is one server now.
const NOT_NEEDED: [&str; 10] = [
    "COMPUTE_SERVICE_URL",
    "AGENT_SERVICE_URL",
    "COMPUTE_API_BASE_URL",
    "COMPUTE_MODE",
    "INTERNAL_SERVICE_TOKEN",
    "COMPUTE_INTERNAL_API_KEY",
    "COMPUTE_INTERNAL_SERVICE_TOKEN",
    "NEXT_PUBLIC_API_URL",
    "NEXT_PUBLIC_WS_URL",
    "NODE_ENV",
];

/// Whether a name is of the family `*_INTERNAL_*`.
fn is_internal(name: &str) -> bool {
    name.contains("_INTERNAL_")
        && ["AGENT_", "COMPUTE_", "API_", "PODEX_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Takes every such variable that is set, and says what becomes of it.
pub(super) fn take(reader: &mut Reader) {
    for (names, why) in NOT_YET {
        for name in names {
            if reader.text(&[name]).is_some() {
                reader.notice(format!("{name} is accepted and not used: {why}."));
            }
        }
    }
    for (prefix, why) in NOT_YET_PREFIXES {
        for name in reader.matching(|name| name.starts_with(prefix)) {
            reader.notice(format!("{name} is accepted and not used: {why}."));
        }
    }
    let mut not_needed: Vec<String> =
        NOT_NEEDED.iter().filter(|name| reader.text(&[name]).is_some()).map(|name| (*name).to_owned()).collect();
    let internal = reader.matching(is_internal);
    not_needed.extend(internal.into_iter().filter(|name| !NOT_NEEDED.contains(&name.as_str())));
    if !not_needed.is_empty() {
        reader.notice(format!("Not needed, because one server does it all: {}.", not_needed.join(", ")));
    }
}
