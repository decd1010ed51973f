//! Who acts, and through what: the first argument of every service method.

use rexec_api::accounts::Role;
use rexec_api::ids::{SessionId, UserId};

/// Made only by `auth` (from a token) and by tests; holding one means that it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub user: UserId,
    pub role: Role,
    pub via: Via,
}

/// The entrance that an actor came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// A login session, by cookie, bearer header or subprotocol.
    Session(SessionId),
}

impl Actor {
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// Whether the actor may see and change what this user owns.
    pub fn owns(&self, owner: UserId) -> bool {
        self.user == owner
    }
}
