//! The server's own ports for previews, where previews have no names (`REXEC_PREVIEW_PORTS`).
//!
//! A preview gets one when it is first opened or made public, and keeps it until it is reset or its
//! workspace is deleted; which has which stands in the database, so that a restart changes none. Ports
//! are given out in turn: what a browser remembers of one preview should not soon meet another.

use super::address::Spot;
use super::{Ports, store};
use crate::error::{Error, Result};
use crate::http::listener;
use crate::time::now_ms;
use axum::Router;
use axum::extract::Request;
use rexec_api::error::ErrorCode;
use std::collections::HashMap;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The ports that are open. One at a time opens or closes them.
#[derive(Default)]
pub struct Open {
    listening: HashMap<u16, (Spot, DropGuard)>,
    /// The last that was given out.
    last: u16,
}

impl Ports {
    /// Opens what previews had before a restart. One that another program has meanwhile stays closed
    /// until its preview is opened again.
    pub async fn reopen(&self) -> Result<()> {
        let mut open = self.open.lock().await;
        for (port, spot) in store::listen_ports(self.db.read()).await? {
            if self.in_range(port)
                && let Ok(listener) = self.bind(port).await
            {
                self.serve(&mut open, listener, port, spot);
            }
        }
        Ok(())
    }

    /// The server's port for a preview, open.
    pub(super) async fn listen_port(&self, spot: Spot) -> Result<u16> {
        let mut open = self.open.lock().await;
        let taken = store::listen_ports(self.db.read()).await?;
        let own = taken.iter().find(|(_, of)| *of == spot).map(|(port, _)| *port);
        if let Some(port) = own.filter(|port| open.listening.get(port).is_some_and(|(of, _)| *of == spot)) {
            return Ok(port);
        }
        for port in self.candidates(own, open.last) {
            if own != Some(port) && taken.iter().any(|(other, _)| *other == port) {
                continue;
            }
            // What a deleted workspace had is still open.
            open.listening.remove(&port);
            let Ok(listener) = self.bind(port).await else { continue };
            store::give_listen_port(self.db.write(), spot, port, now_ms()).await?;
            open.last = port;
            self.serve(&mut open, listener, port, spot);
            return Ok(port);
        }
        Err(Error::new(
            ErrorCode::PreviewUnavailable,
            "All ports of this server for previews are taken. Reset a preview that is no longer needed, or ask the \
             administrator for more in REXEC_PREVIEW_PORTS.",
        ))
    }

    /// Closes a preview's port after it was reset.
    pub(super) async fn close(&self, spot: Spot) {
        self.open.lock().await.listening.retain(|_, (of, _)| *of != spot);
    }

    /// The own one first, then all in turn after the last.
    fn candidates(&self, own: Option<u16>, last: u16) -> impl Iterator<Item = u16> + use<> {
        let (first, end) = self.config.previews.ports.unwrap_or((1, 0));
        let after = (last.saturating_add(1)..=end).filter(move |port| *port >= first);
        let before = first..=last.min(end);
        own.filter(|port| (first..=end).contains(port)).into_iter().chain(after).chain(before)
    }

    fn in_range(&self, port: u16) -> bool {
        self.config.previews.ports.is_some_and(|(first, last)| (first..=last).contains(&port))
    }

    async fn bind(&self, port: u16) -> Result<TcpListener, listener::ListenError> {
        listener::bind(SocketAddr::new(self.config.host, port)).await
    }

    fn serve(&self, open: &mut Open, listener: TcpListener, port: u16, spot: Spot) {
        let stop = CancellationToken::new();
        let ports = self.clone();
        let answer = move |request: Request| async move { ports.visit(request, spot, Some(port)).await };
        let serving = listener::serve(listener, Router::new().fallback(answer), self.tasks.clone());
        let closed = stop.clone();
        self.tasks.spawn_abortable("preview-port", async move {
            tokio::select! {
                () = serving => {}
                () = closed.cancelled() => {}
            }
        });
        open.listening.insert(port, (spot, stop.drop_guard()));
    }
}
