//! On whose word a server is added, changed or taken out: what the audit log says of it.

use crate::events::NewEvent;
use rexec_api::ids::UserId;
use serde_json::Value;

#[derive(Clone, Copy)]
pub(super) enum By {
    User(UserId),
    /// Our own, with the reason in a word.
    Demand(&'static str),
}

impl By {
    pub(super) fn event(self, kind: &'static str, mut data: Value) -> NewEvent {
        match self {
            Self::User(user) => NewEvent::of_user(user, kind),
            Self::Demand(reason) => {
                data["reason"] = reason.into();
                NewEvent::of_server(kind)
            }
        }
        .data(data)
    }
}
