//! What the client has the workspace listen at: `-R`, sockets, and the way to its agent.

use super::forward::{PATH_CHARS_MAX, is_here, used};
use crate::error::{Error, Result};
use crate::workspaces::{Reach, Waker};
use async_trait::async_trait;
use rexec_api::error::ErrorCode;
use rexec_api::guest::{AcceptSpec, ListenNews, ListenSpec};
use rexec_channel::{Arrivals, GuestClient};
use rexec_ssh::{Incoming, Listener, Place, Refusal};

/// Longest address that a guest may tell.
const ADDRESS_CHARS_MAX: usize = 64;

/// Where to listen, and what that is called in the audit log. On the workspace's loopback only: nobody else is to come
/// through to the client.
pub(super) fn judge(at: &Place) -> Result<(ListenSpec, String), Refusal> {
    match at {
        Place::Tcp { address, port } if matches!(address.as_str(), "" | "*") || is_here(address) => {
            Ok((ListenSpec::Tcp { port: *port }, format!("back from port {port}")))
        }
        Place::Tcp { .. } => Err(Refusal::forbidden("rexec: only the workspace's loopback is listened at.")),
        Place::Unix { path } => {
            let shown: String = path.chars().take(PATH_CHARS_MAX).collect();
            Ok((ListenSpec::Unix { path: path.clone() }, format!("back from {shown}")))
        }
        Place::Agent => Ok((ListenSpec::Private, "back to the agent".to_owned())),
    }
}

pub(super) async fn open(reach: Reach, spec: &ListenSpec) -> Result<Box<dyn Listener>> {
    let mut arrivals = reach.guest.listen_at(spec).await?;
    match arrivals.next().await? {
        Some(ListenNews::Listening { port, path }) => {
            Ok(Box::new(Inside { guest: reach.guest, waker: reach.waker, arrivals, port, path }))
        }
        _ => Err(Error::new(ErrorCode::WorkspaceUnreachable, "The workspace does not say where it listens.")),
    }
}

struct Inside {
    guest: GuestClient,
    waker: Waker,
    arrivals: Arrivals,
    port: u16,
    path: Option<String>,
}

#[async_trait]
impl Listener for Inside {
    fn port(&self) -> u16 {
        self.port
    }

    fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    async fn accept(&mut self) -> Option<Incoming> {
        loop {
            let Ok(Some(news)) = self.arrivals.next().await else { return None };
            let ListenNews::Came { id, address, port } = news else { continue };
            // One that has gone meanwhile is no end of the others.
            if let Ok((sender, receiver)) = self.guest.accepted(&AcceptSpec { id }).await {
                let address = address.chars().take(ADDRESS_CHARS_MAX).collect();
                return Some(Incoming { stream: used(sender, receiver, self.waker.clone()), from: (address, port) });
            }
        }
    }
}
