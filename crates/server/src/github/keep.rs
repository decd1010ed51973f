//! How gateways have tokens: they are made when a workspace first wants them, anew before they end, and ended when nobody wants
//! them any more.

use super::app::{For, NoToken};
use super::{Broker, Had, Kept, both, owned};
use crate::config::TokenSource;
use crate::egress::settings_of;
use crate::hosts::gateway::Gateway;
use crate::time::now_ms;
use crate::workspaces::store::{self as workspaces, Workspace};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rexec_api::egress::GithubAccess;
use rexec_api::gateway::{GithubTokens, ToldGithub};
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_api::workspaces::WorkspaceStatus;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Of a token's hour: one that ends sooner is made anew.
const LEFT_MIN_MS: i64 = 15 * 60 * 1000;
/// Until one that is not to be had is asked for again.
const RETRY_MS: i64 = 60 * 1000;
/// How often it is seen to that gateways have tokens, where nothing tells.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Where one was not heard: its policy may be on the way.
const AGAIN: Duration = Duration::from_millis(500);

/// In a sentence.
const NO_LEAVE: &str = "this server gives its owner no access any more.";

/// By which tokens a gateway was told.
#[derive(Clone)]
struct Told {
    version: u64,
    had: Result<Arc<Had>, String>,
}

/// By the gateway.
struct NotHeard;

impl PartialEq for Told {
    fn eq(&self, other: &Self) -> bool {
        let is_same = match (&self.had, &other.had) {
            (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
            (Err(one), Err(other)) => one == other,
            _ => false,
        };
        is_same && self.version == other.version
    }
}

impl Broker {
    /// Sees to it that this gateway has the tokens of its workspaces, until it is lost. One that GitHub is slow about keeps no
    /// other from its own.
    pub async fn keep(&self, host: HostId, gateway: &Gateway) {
        if !self.0.config.is_offered() {
            return std::future::pending().await;
        }
        let mut wanted = self.0.wanted.subscribe();
        let (mut told, mut busy) = (HashMap::new(), HashSet::new());
        let (mut telling, mut ending) = (FuturesUnordered::new(), FuturesUnordered::new());
        loop {
            wanted.mark_unchanged();
            let mut passed_over = HashSet::new();
            let over = std::mem::take(&mut *self.0.over.lock().unwrap_or_else(PoisonError::into_inner));
            ending.extend(over.into_iter().map(async |token: String| self.revoke(&token).await));
            match workspaces::behind_gateway(self.0.db.read(), host).await {
                Ok(rows) => {
                    told.retain(|id, _| rows.iter().any(|row| row.id == *id));
                    for row in rows.into_iter().filter(|row| settings_of(row).github.is_some()) {
                        if !busy.insert(row.id) {
                            // It may be another by now.
                            passed_over.insert(row.id);
                            continue;
                        }
                        let before = told.get(&row.id).cloned();
                        telling.push(async move { (row.id, self.tell(&row, gateway, before).await) });
                    }
                }
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "who uses GitHub is not known now");
                }
            }
            let mut look = Instant::now() + LOOK_EVERY;
            loop {
                tokio::select! {
                    Some((id, now)) = telling.next() => {
                        busy.remove(&id);
                        match now {
                            Ok(Some(now)) => drop(told.insert(id, now)),
                            Ok(None) => {}
                            Err(NotHeard) => look = look.min(Instant::now() + AGAIN),
                        }
                        if passed_over.contains(&id) {
                            break;
                        }
                    }
                    Some(()) = ending.next() => {}
                    _ = wanted.changed() => break,
                    () = tokio::time::sleep_until(look) => break,
                }
            }
        }
    }

    /// What it is told by now; `None`: nothing.
    async fn tell(&self, row: &Workspace, gateway: &Gateway, before: Option<Told>) -> Result<Option<Told>, NotHeard> {
        let Some(address) = row.address else { return Ok(None) };
        let (had, before_it) = match self.access(row).await {
            Ok(Some(access)) => self.tokens(row.id, &access).await,
            // Its owner, or the server, may give it none any more.
            Ok(None) => {
                self.forget(row.id);
                (Err(NO_LEAVE.to_owned()), None)
            }
            Err(_) => return Ok(None),
        };
        let now = Told { version: u64::try_from(row.egress_seq).unwrap_or(0), had };
        if before.as_ref() == Some(&now) {
            return Ok(before);
        }
        let tokens = now.had.as_ref().map(|had| had.tokens.clone()).map_err(Clone::clone);
        let message = ToldGithub { workspace: row.id, version: now.version, tokens };
        let heard = gateway.client.set_github(address, &message).await;
        // No sooner than others are there.
        self.end(before_it.map_or_else(Vec::new, |had| had.made.clone()));
        // It may have stopped while they were made.
        let is_over = |there: &Workspace| {
            use WorkspaceStatus::{Deleted, Pending, Stopped, Stopping};
            there.address != Some(address) || matches!(there.status, Pending | Stopping | Stopped | Deleted)
        };
        let is_there = |there: Option<Workspace>| there.is_some_and(|there| !is_over(&there));
        if !workspaces::find(self.0.db.read(), row.id).await.map_or(true, is_there) {
            self.forget(row.id);
            return Ok(None);
        }
        heard
            .inspect_err(|error| {
                let error = error as &dyn std::error::Error;
                tracing::debug!(workspace.id = %row.id, error, "a gateway has no token of GitHub's yet");
            })
            .map(|()| Some(now))
            .map_err(|_| NotHeard)
    }

    /// Those that are there and last, or new ones; and those whose place they took.
    async fn tokens(&self, id: WorkspaceId, access: &GithubAccess) -> (Result<Arc<Had>, String>, Option<Arc<Had>>) {
        let before = self.kept(id, access);
        if let Some(kept) = before.as_ref().filter(|kept| kept.again_ms > now_ms()) {
            return (kept.had.clone(), None);
        }
        let (had, again_ms) = match self.make(access).await {
            // A company's own may have them end sooner than usual.
            Ok(had) => {
                let again_ms = had.ends_ms.saturating_sub(LEFT_MIN_MS).max(now_ms() + RETRY_MS);
                (Ok(Arc::new(had)), again_ms)
            }
            Err(no) => {
                tracing::warn!(workspace.id = %id, why = %no, "no token of GitHub is to be had");
                let had = match before.map(|kept| kept.had) {
                    // One that still lasts a while is better than none.
                    Some(Ok(had)) if !no.is_lasting() && had.ends_ms > now_ms() => Ok(had),
                    _ => Err(no.to_string()),
                };
                (had, now_ms() + RETRY_MS)
            }
        };
        let kept = Kept { access: access.clone(), had: had.clone(), again_ms };
        let before = self.lock().insert(id, kept).and_then(|before| before.had.ok());
        let before = before.filter(|before| !had.as_ref().is_ok_and(|had| Arc::ptr_eq(had, before)));
        (had, before)
    }

    /// Tokens for this.
    pub(super) async fn make(&self, access: &GithubAccess) -> Result<Had, NoToken> {
        let (id, key) = match &self.0.config.source {
            Some(TokenSource::App { id, key }) => (id.as_str(), key),
            Some(TokenSource::Token(token)) => {
                return Ok(Had { tokens: both(token.expose()), made: Vec::new(), ends_ms: i64::MAX });
            }
            None => return Err(NoToken::NoApp),
        };
        let _turn = self.0.turns.acquire().await.map_err(|_| NoToken::Unreachable)?;
        let (owner, names) = owned(access).ok_or(NoToken::NoApp)?;
        let ask = async |what| self.0.api.token((id, key), &owner, names.as_deref(), what).await;
        // Where branches are limited, what the gateway does not judge moves none.
        let (git, api) = match (access.read_only, access.branches.is_empty()) {
            (true, _) => (ask(For::Reading).await?, None),
            (false, true) => (ask(For::All).await?, None),
            (false, false) => {
                let git = ask(For::Pushing).await?;
                match ask(For::Talking).await {
                    Ok(api) => (git, Some(api)),
                    Err(no) => {
                        self.end(vec![git.value]);
                        return Err(no);
                    }
                }
            }
        };
        let ends_ms = api.iter().map(|api| api.ends_ms).fold(git.ends_ms, i64::min);
        let tokens = GithubTokens { api: api.as_ref().unwrap_or(&git).value.clone(), git: git.value.clone() };
        let made = std::iter::once(git.value).chain(api.map(|api| api.value)).collect();
        Ok(Had { tokens, made, ends_ms })
    }

    async fn revoke(&self, token: &str) {
        if let Ok(_turn) = self.0.turns.acquire().await {
            self.0.api.revoke(token).await;
        }
    }
}
