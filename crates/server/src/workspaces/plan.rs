//! What a workspace is made from, resolved once when it was asked for, so that later edits of a template change
//! nothing. Stored as JSON; fields are added with defaults.

use super::store::Workspace;
use crate::templates::{SetupStep, Template};
use rexec_api::guest::UserSpec;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Who programs run as; the usual user when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserSpec>,
    /// An account of the image that programs run as, where there is one of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Started once at each start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Hosts that it needs to reach.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<String>,
    /// What prepares a root file system made from its image. Empty where the image is prepared already.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<SetupStep>,
    /// Ports that its repository says are of interest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Whether the image that its repository names may take the place of its own: nobody asked for another, and
    /// its owner may name any.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repository_image: bool,
    /// What its repository's description asks for and was not done, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Plan {
    pub fn of(template: &Template) -> Self {
        Self {
            user: template.user.clone(),
            entrypoint: template.entrypoint.clone(),
            egress: template.egress.clone(),
            setup: template.setup.clone(),
            ..Self::default()
        }
    }

    /// A record that cannot be read is as one that says nothing: the workspace stays usable.
    pub fn of_row(row: &Workspace) -> Self {
        Self::parse(&row.plan_json)
    }

    pub fn parse(text: &str) -> Self {
        if text == "{}" {
            return Self::default();
        }
        serde_json::from_str(text).unwrap_or_else(|error| {
            tracing::warn!(%error, "a workspace's plan cannot be read");
            Self::default()
        })
    }

    pub fn to_json(&self) -> String {
        // Plain text and numbers, which always have a JSON form.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read_as_they_were_written() {
        assert_eq!(Plan::default().to_json(), "{}");
        let plan = Plan { ports: vec![80], user: Some(UserSpec::default()), ..Plan::default() };
        assert_eq!(Plan::parse(&plan.to_json()), plan);
        assert_eq!(Plan::parse(r#"{"later":1,"ports":[1]}"#).ports, [1]);
        assert_eq!(Plan::parse("broken"), Plan::default());
    }
}
