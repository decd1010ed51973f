//! Images that a host is to have before anyone asks: those of the templates, and what administrators asked for.
//!
//! ```text
//!   ready -> which are missing -> fetch one after the other -> those that failed again, after growing pauses
//! ```
//!
//! A fetch is the one that a workspace which wants the same image waits for (`pulls.rs`). Nothing waits for this task:
//! a host is ready whatever becomes of it.
//!
//! Invariant: at most one image of a host is on its way because of this task, so that people's own come first.

use super::admin::{Servers, require_admin};
use super::{Host, explain, pulls};
use crate::actor::Actor;
use crate::config::PrepullConfig;
use crate::error::{Error, Result};
use crate::replicas::{Whose, of_host};
use crate::workspaces::validate;
use rexec_api::error::ErrorCode;
use rexec_api::ids::HostId;
use rexec_api::servers::{ImageState, ServerImage, ServerImages, WantedImage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How often those that are there are looked for again.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// What administrators may ask for besides the templates' images.
const ASKED_MAX: usize = 32;
/// What our own images are called that no registry has.
const BUILT: &str = "rexec/";
const TO_BUILD: &str =
    "It is built, not fetched: run `make images` on that machine, or push it to a registry and name it there.";

/// What is asked of whoever tends a host: which images it is to have, and this one too.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct AskImage {
    pub image: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Desk {
    /// The one that was asked for; `None` where too many were already.
    pub asked: Option<WantedImage>,
    pub wanted: Vec<WantedImage>,
}

/// Where a host's images and everyone else meet.
#[derive(Default)]
pub struct ImageDesk {
    wanted: Mutex<BTreeMap<String, WantedImage>>,
    bell: Notify,
}

impl ImageDesk {
    pub fn answer(&self, ask: &AskImage) -> Desk {
        let asked = ask.image.as_deref().and_then(|image| self.ask(image));
        Desk { asked, wanted: self.seen() }
    }

    /// By name.
    pub fn seen(&self) -> Vec<WantedImage> {
        self.lock().values().cloned().collect()
    }

    /// Whether it was to be there before anyone asks, and could not be had.
    pub fn has_failed(&self, image: &str) -> bool {
        self.lock().get(image).is_some_and(|image| image.state == ImageState::Failed)
    }

    /// Has it fetched as soon as may be. `None`: too many are asked for already.
    pub fn ask(&self, image: &str) -> Option<WantedImage> {
        let mut wanted = self.lock();
        if !wanted.contains_key(image) && wanted.values().filter(|image| image.asked).count() >= ASKED_MAX {
            return None;
        }
        let told = wanted.entry(image.to_owned()).or_insert_with(|| waiting(image));
        told.asked = true;
        if told.state != ImageState::Pulling {
            told.state = ImageState::Waiting;
        }
        let told = told.clone();
        drop(wanted);
        self.bell.notify_one();
        Some(told)
    }

    fn want(&self, images: &[String]) {
        let mut wanted = self.lock();
        for image in images {
            wanted.entry(image.clone()).or_insert_with(|| waiting(image));
        }
    }

    fn tell(
        &self,
        image: &str,
        state: ImageState,
        reason: Option<String>,
        pull: Option<rexec_api::progress::PullView>,
    ) {
        if let Some(told) = self.lock().get_mut(image) {
            (told.state, told.reason, told.pull) = (state, reason, pull);
        }
    }

    fn retry_failed(&self) {
        for image in self.lock().values_mut().filter(|image| image.state == ImageState::Failed) {
            image.state = ImageState::Waiting;
        }
    }

    /// Those to fetch, what was asked for first.
    fn to_fetch(&self) -> Vec<String> {
        let wanted = self.lock();
        let waits = |image: &&WantedImage| image.state == ImageState::Waiting;
        let (asked, others): (Vec<_>, Vec<_>) = wanted.values().filter(waits).partition(|image| image.asked);
        asked.into_iter().chain(others).map(|image| image.image.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, WantedImage>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn waiting(image: &str) -> WantedImage {
    WantedImage { image: image.to_owned(), state: ImageState::Waiting, reason: None, asked: false, pull: None }
}

impl Host {
    /// Sees to its images for ever; `images` are those that everybody may choose.
    pub async fn keep_images(self: Arc<Self>, images: Vec<String>, config: PrepullConfig) {
        if config.on {
            self.images.want(&images);
        }
        let (mut state, mut retry) = (self.watch(), config.retry_first);
        loop {
            // The sender lives in the host.
            let _ = state.wait_for(|state| state.facts().is_some()).await;
            let mut any_failed = self.look_for_images().await.is_err();
            while let Some(image) = self.images.to_fetch().into_iter().next() {
                any_failed |= !self.fetch(&image).await;
            }
            let pause = if any_failed { retry } else { LOOK_EVERY };
            let rung = tokio::time::timeout(pause, self.images.bell.notified()).await.is_ok();
            retry = if any_failed && !rung { (retry * 2).min(RETRY_MAX) } else { config.retry_first };
            if !rung {
                self.images.retry_failed();
            }
        }
    }

    /// Which of them are there: one request.
    async fn look_for_images(&self) -> rexec_engine::Result<()> {
        let there: std::collections::HashSet<String> =
            self.engine.images().await?.into_iter().flat_map(|image| image.references).collect();
        for wanted in self.images.seen().into_iter().filter(|wanted| wanted.state != ImageState::Failed) {
            let image = &wanted.image;
            match there.contains(&tagged(image)) {
                // What is asked for by name is fetched although one is there: a newer one may be.
                true if wanted.asked && wanted.state == ImageState::Waiting => {}
                true => self.images.tell(image, ImageState::Present, None, None),
                false if image.starts_with(BUILT) => {
                    self.images.tell(image, ImageState::Failed, Some(TO_BUILD.into()), None);
                }
                false => self.images.tell(image, ImageState::Waiting, None, None),
            }
        }
        Ok(())
    }

    /// `false`: it did not come.
    async fn fetch(&self, image: &str) -> bool {
        let pull = self.pulls.join(image, None, || self.engine.pull(image, None));
        let mut progress = pull.watch();
        loop {
            let (view, end) = {
                let state = progress.borrow_and_update();
                (state.view.clone(), state.end.clone())
            };
            match end {
                None => self.images.tell(image, ImageState::Pulling, Some(pulls::FETCHING.into()), Some(view)),
                Some(Ok(())) => {
                    self.images.tell(image, ImageState::Present, None, None);
                    tracing::info!(host = self.name, image, "an image was fetched ahead");
                    return true;
                }
                Some(Err(error)) => {
                    let reason = explain(&error);
                    tracing::info!(host = self.name, image, reason, "an image could not be fetched ahead");
                    self.images.tell(image, ImageState::Failed, Some(reason), None);
                    return false;
                }
            }
            if progress.changed().await.is_err() {
                self.images.tell(image, ImageState::Failed, Some("The fetch was broken off.".into()), None);
                return false;
            }
        }
    }
}

impl Servers {
    /// Those that its engine has, and those that it is to have.
    pub async fn images(&self, actor: &Actor, id: HostId) -> Result<ServerImages> {
        let host = self.host_of(actor, id).await?;
        host.ready().map_err(|reason| Error::new(ErrorCode::EngineUnavailable, reason))?;
        let there = host.engine.images().await;
        let there = there.map_err(|error| Error::new(ErrorCode::EngineUnavailable, explain(&error)))?;
        let mut items: Vec<ServerImage> = there
            .into_iter()
            .map(|image| ServerImage { id: image.id, references: image.references, size_bytes: image.size_bytes })
            .collect();
        items.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.id.cmp(&b.id)));
        let wanted = self.ask_desk(&host, AskImage::default()).await?.wanted;
        Ok(ServerImages { items, wanted })
    }

    /// Has one fetched, or looked for anew.
    pub async fn pull(&self, actor: &Actor, id: HostId, image: &str) -> Result<WantedImage> {
        let host = self.host_of(actor, id).await?;
        validate::image(image)?;
        let desk = self.ask_desk(&host, AskImage { image: Some(image.into()) }).await?;
        desk.asked.ok_or_else(|| {
            let message =
                format!("{ASKED_MAX} images were asked for on this server already. Restart Rexec to forget them.");
            Error::field("image", message)
        })
    }

    /// Whoever tends a host has the images fetched.
    async fn ask_desk(&self, host: &Host, ask: AskImage) -> Result<Desk> {
        let answer = match self.replicas.whose(&of_host(host.id)) {
            Whose::Theirs(peer) => self.replicas.images(&peer, host.id, &ask).await,
            _ if ask.image.is_some() => host.require_ours().map(|()| host.images.answer(&ask)).map(Ok)?,
            _ => Ok(host.images.answer(&ask)),
        };
        answer.map_err(|error| Error::new(ErrorCode::NotHere, error.to_string()).retry_after(Duration::from_secs(2)))
    }

    async fn host_of(&self, actor: &Actor, id: HostId) -> Result<Arc<Host>> {
        require_admin(actor)?;
        Ok(self.fleet().of(Some(self.find(id).await?.id)))
    }
}

/// As an engine lists it.
fn tagged(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains(':') || name.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_comes_first_and_is_bounded() {
        let desk = ImageDesk::default();
        desk.want(&["a".into(), "b".into()]);
        assert!(desk.ask("z").is_some_and(|image| image.asked));
        assert_eq!(desk.to_fetch(), ["z", "a", "b"]);
        desk.tell("a", ImageState::Failed, None, None);
        assert_eq!(desk.to_fetch(), ["z", "b"]);
        desk.retry_failed();
        assert_eq!(desk.to_fetch(), ["z", "a", "b"]);
        for n in 1..ASKED_MAX {
            assert!(desk.ask(&format!("x{n}")).is_some());
        }
        assert!(desk.ask("one-more").is_none() && desk.ask("z").is_some(), "one that is known is no more");
    }

    #[test]
    fn names_are_as_engines_list_them() {
        for (name, listed) in [
            ("alpine", "alpine:latest"),
            ("alpine:3", "alpine:3"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(tagged(name), listed);
        }
    }
}
