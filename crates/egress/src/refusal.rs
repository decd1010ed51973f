//! Why something is not reached: a code for programs, and a sentence for people.

use crate::host::Host;
use crate::policy::Denied;
use http::StatusCode;

/// Why something is not to be had, as whoever asked is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Denied(Denied),
    NoSuchName,
    NoAnswer,
    /// None of its addresses answers.
    Unreachable,
    /// Nobody accepts connections there.
    ConnectionRefused,
    TimedOut,
    TooMany,
    /// The address is nobody's any more.
    Gone,
    /// Its requests are to be judged, and cannot be read.
    Unreadable,
    /// Its certificate, or how it speaks TLS: what is wrong.
    Untrusted(String),
    /// The operator's proxy does not answer.
    NoUpstream,
    /// It does, and refuses.
    Upstream(StatusCode),
    /// Not what it may do at GitHub: why.
    Github(String),
    /// What it may do there takes a token, and there is none: why.
    NoGithub(String),
}

impl Refusal {
    pub const GITHUB: &str = "egress_github_refused";

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied(denied) => denied.code(),
            Self::NoSuchName => "egress_no_such_name",
            Self::NoAnswer => "egress_no_resolver",
            Self::Unreachable | Self::ConnectionRefused => "egress_unreachable",
            Self::TimedOut => "egress_timed_out",
            Self::TooMany => "egress_too_many",
            Self::Gone => "egress_not_bound",
            Self::Unreadable => "egress_unreadable",
            Self::Untrusted(_) => "egress_untrusted",
            Self::NoUpstream => "egress_no_upstream",
            Self::Upstream(_) => "egress_upstream_refused",
            Self::Github(_) => Self::GITHUB,
            Self::NoGithub(_) => "egress_github_unavailable",
        }
    }

    /// Why not, and what can be done, in a sentence.
    pub fn sentence(&self, host: &Host, port: u16) -> String {
        match self {
            Self::Denied(denied) => denied.sentence(host, port),
            Self::NoSuchName => format!("There is no {host}; check how it is spelled."),
            Self::NoAnswer => "No server of names answers the gateway; try again, or tell the operator.".into(),
            Self::Unreachable => format!("{host}:{port} cannot be reached from this server."),
            Self::ConnectionRefused => format!("{host} accepts no connections at port {port}."),
            Self::TimedOut => format!("{host}:{port} does not answer in time; try again."),
            Self::TooMany => "This workspace has too many connections, or makes them too quickly; try again.".into(),
            Self::Gone => "This address is not a workspace's.".into(),
            Self::Unreadable => {
                format!(
                    "Rules are about single requests to {host}:{port}, which cannot be read here; tell the operator."
                )
            }
            Self::Untrusted(why) => {
                format!("{host}:{port} does not prove who it is ({why}), so nothing is sent there; tell the operator.")
            }
            Self::NoUpstream => "The proxy that everything leaves by does not answer; tell the operator.".into(),
            Self::Upstream(status) => {
                format!("The operator's proxy refuses {host}:{port} ({}); tell the operator.", status.as_u16())
            }
            Self::Github(why) => format!("GitHub: {why}."),
            Self::NoGithub(why) => format!("There is no token of GitHub for this workspace: {why}"),
        }
    }
}
