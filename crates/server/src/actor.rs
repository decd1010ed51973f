//! Who acts, through what, and how far that reaches: the first argument of every service method.
//!
//! Invariant: what an actor may do is judged here and nowhere else, by [`Actor::authorise`] for what
//! concerns the account, by [`Actor::authorise_in`] for one workspace; every public service method
//! begins with one of them, itself or by way of `Workspaces::owned`.

use crate::error::{Error, Result};
use rexec_api::accounts::Role;
use rexec_api::error::ErrorCode;
use rexec_api::ids::{SessionId, SshKeyId, TokenId, UserId, WorkspaceId};
use rexec_api::tokens::Scope;
use serde_json::json;
use std::sync::Arc;

/// Made only by `auth` (from a token) and by tests; holding one means that it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub user: UserId,
    /// As far as what it came through lets it: a token without the scope `admin` makes an
    /// administrator a user.
    pub role: Role,
    pub via: Via,
    reach: Reach,
}

/// The entrance that an actor came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// A login session, by cookie, bearer header or subprotocol.
    Session(SessionId),
    /// An API token, by bearer header or subprotocol, or as a password of SSH.
    Token(TokenId),
    /// A key of the account's, at the SSH gateway.
    SshKey(SshKeyId),
    /// A certificate of an authority that the operator trusts, at the SSH gateway.
    SshCertificate {
        /// When it runs out, in milliseconds since 1970.
        until_ms: i64,
    },
}

/// How much of what the account may do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reach {
    Everything,
    Part(Arc<Grant>),
}

/// What a token was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub scopes: Vec<Scope>,
    /// The only workspaces that it reaches.
    pub workspaces: Option<Vec<WorkspaceId>>,
}

impl Grant {
    pub fn covers(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|held| held.covers(scope))
    }
}

impl Actor {
    /// A person, who may do all that the account may.
    pub fn of_session(user: UserId, role: Role, session: SessionId) -> Self {
        Self { user, role, via: Via::Session(session), reach: Reach::Everything }
    }

    /// A program, which may do what its token was given.
    pub fn of_token(user: UserId, role: Role, token: TokenId, grant: Arc<Grant>) -> Self {
        let role = if grant.covers(Scope::Admin) && grant.workspaces.is_none() { role } else { Role::User };
        Self { user, role, via: Via::Token(token), reach: Reach::Part(grant) }
    }

    /// A person at the SSH gateway, who may do all that the account may but what only administrators do.
    pub fn of_ssh_key(user: UserId, key: SshKeyId) -> Self {
        Self { user, role: Role::User, via: Via::SshKey(key), reach: Reach::Everything }
    }

    /// The same by a certificate.
    pub fn of_ssh_certificate(user: UserId, until_ms: i64) -> Self {
        Self { user, role: Role::User, via: Via::SshCertificate { until_ms }, reach: Reach::Everything }
    }

    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// Whether the actor may see and change what this user owns.
    pub fn owns(&self, owner: UserId) -> bool {
        self.user == owner
    }

    /// Lets pass what concerns the account as a whole, or something that is still to be made.
    pub fn authorise(&self, scope: Scope) -> Result<()> {
        self.require(scope)?;
        if self.limit().is_some() {
            let message = "This API token is limited to certain workspaces, and this concerns more than those.";
            return Err(Error::new(ErrorCode::InsufficientScope, message)
                .details(json!({ "scope": scope, "limited_to_workspaces": true })));
        }
        Ok(())
    }

    /// Lets pass what concerns this workspace, whose owner is to be looked at besides.
    pub fn authorise_in(&self, scope: Scope, workspace: WorkspaceId) -> Result<()> {
        self.require(scope)?;
        if self.reaches(workspace) { Ok(()) } else { Err(Error::not_found("workspace")) }
    }

    /// Lets pass a list, of which [`Actor::reaches`] tells what to show.
    pub fn authorise_list(&self, scope: Scope) -> Result<()> {
        self.require(scope)
    }

    /// Whether a workspace lies within the actor's limit, if it has one.
    pub fn reaches(&self, workspace: WorkspaceId) -> bool {
        self.limit().is_none_or(|only| only.contains(&workspace))
    }

    /// The only workspaces that the actor reaches; `None`: all of the account's.
    pub fn limit(&self) -> Option<&[WorkspaceId]> {
        match &self.reach {
            Reach::Everything => None,
            Reach::Part(grant) => grant.workspaces.as_deref(),
        }
    }

    /// Whether the actor has this scope.
    pub fn covers(&self, scope: Scope) -> bool {
        match &self.reach {
            Reach::Everything => true,
            Reach::Part(grant) => grant.covers(scope),
        }
    }

    fn require(&self, scope: Scope) -> Result<()> {
        if self.covers(scope) {
            return Ok(());
        }
        let scope = scope.as_str();
        let message = format!("This API token lacks the scope `{scope}`. Use one that has it.");
        Err(Error::new(ErrorCode::InsufficientScope, message).details(json!({ "scope": scope })))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn program(scopes: &[Scope], workspaces: Option<Vec<WorkspaceId>>) -> Actor {
        let grant = Grant { scopes: scopes.to_vec(), workspaces };
        Actor::of_token(UserId::new(), Role::Admin, TokenId::new(), Arc::new(grant))
    }

    #[test]
    fn a_person_may_everything() {
        let actor = Actor::of_session(UserId::new(), Role::Admin, SessionId::new());
        assert!(actor.is_admin());
        for scope in Scope::EVERY {
            assert!(actor.authorise(scope).is_ok() && actor.authorise_in(scope, WorkspaceId::new()).is_ok());
        }
    }

    #[test]
    fn a_program_may_what_its_scopes_say() {
        for held in Scope::EVERY {
            let actor = program(&[held], None);
            assert_eq!(actor.is_admin(), matches!(held, Scope::All | Scope::Admin));
            for wanted in Scope::EVERY {
                assert_eq!(actor.authorise(wanted).is_ok(), held.covers(wanted), "{held:?} {wanted:?}");
                assert_eq!(actor.authorise_in(wanted, WorkspaceId::new()).is_ok(), held.covers(wanted));
            }
        }
    }

    #[test]
    fn a_limit_holds_whatever_the_scopes() {
        let (mine, other) = (WorkspaceId::new(), WorkspaceId::new());
        let actor = program(&[Scope::All], Some(vec![mine]));
        assert!(!actor.is_admin());
        assert!(actor.authorise_in(Scope::Files, mine).is_ok());
        let unseen = actor.authorise_in(Scope::Files, other).unwrap_err();
        assert_eq!(unseen.code, ErrorCode::NotFound);
        let refused = actor.authorise(Scope::Account).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InsufficientScope);
        // A scope that is missing is told of every workspace alike: that tells nothing of any.
        let refused = program(&[Scope::Exec], Some(vec![mine])).authorise_in(Scope::Files, other).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InsufficientScope);
    }
}
