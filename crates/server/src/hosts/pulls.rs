//! Pulls of images: one for each image and host, shared by all who want it and dropped when nobody does.
//!
//! Credentials are part of what is shared: whoever has none, or others, does not get in by those of somebody
//! else. What the engine has already fetched of a dropped pull it keeps, and a later one goes on from there.
//!
//! Invariant: a pull is in the table for as long as it goes on and somebody holds it, and no longer: one that
//! has failed is not what the next who asks gets.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rexec_api::ids::RegistryId;
use rexec_api::progress::{LayerView, PullView};
use rexec_engine::{EngineError, PullProgress};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Layers that are told apart; an image has 127 at most (the limit of overlayfs in Docker).
const LAYERS_MAX: usize = 256;

/// What is known of a pull.
#[derive(Debug, Clone)]
pub struct PullState {
    pub view: PullView,
    pub end: Option<Result<(), Arc<EngineError>>>,
    /// Of each layer: what was downloaded and its size, which the engine forgets when it unpacks it.
    downloads: Vec<(u64, u64)>,
}

/// What an engine tells of a pull.
type Layers = BoxStream<'static, rexec_engine::Result<PullProgress>>;
type Key = (String, Option<RegistryId>);

/// The pulls of one host.
#[derive(Default)]
pub struct Pulls {
    live: Mutex<HashMap<Key, Weak<Pull>>>,
}

/// A pull that goes on for as long as somebody holds it.
pub struct Pull {
    state: watch::Receiver<PullState>,
    task: JoinHandle<()>,
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pull {
    pub fn watch(&self) -> watch::Receiver<PullState> {
        self.state.clone()
    }
}

impl Pulls {
    /// The pull of `image` with the credentials `id` that goes on, or a new one.
    pub fn join(&self, image: &str, id: Option<RegistryId>, begin: impl FnOnce() -> Layers) -> Arc<Pull> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|_, pull| pull.strong_count() > 0);
        let key = (image.to_owned(), id);
        if let Some(pull) = live.get(&key).and_then(Weak::upgrade)
            && pull.state.borrow().end.is_none()
            && pull.state.has_changed().is_ok()
        {
            return pull;
        }
        let (sender, state) = watch::channel(PullState::new(image));
        let task = tokio::spawn(run(begin(), sender));
        let pull = Arc::new(Pull { state, task });
        live.insert(key, Arc::downgrade(&pull));
        pull
    }
}

async fn run(mut layers: Layers, state: watch::Sender<PullState>) {
    while let Some(layer) = layers.next().await {
        match layer {
            Ok(layer) => state.send_modify(|state| state.note(layer)),
            Err(error) => {
                state.send_modify(|state| state.end = Some(Err(Arc::new(error))));
                return;
            }
        }
    }
    state.send_modify(|state| state.end = Some(Ok(())));
}

impl PullState {
    fn new(image: &str) -> Self {
        let view = PullView { image: image.to_owned(), layers: Vec::new(), layers_done: 0, bytes: 0, total_bytes: 0 };
        Self { view, end: None, downloads: Vec::new() }
    }

    fn note(&mut self, news: PullProgress) {
        let at = self.view.layers.iter().position(|layer| layer.id == news.layer).unwrap_or(self.view.layers.len());
        if at == self.view.layers.len() {
            if at == LAYERS_MAX {
                return;
            }
            let status = String::new();
            self.view.layers.push(LayerView { id: news.layer.clone(), status, bytes: 0, total_bytes: 0 });
            self.downloads.push((0, 0));
        }
        let download = &mut self.downloads[at];
        if news.status == "Downloading" {
            *download = (news.current_bytes.max(download.0), news.total_bytes.max(download.1));
        } else if !matches!(news.status.as_str(), "Pulling fs layer" | "Waiting" | "Retrying") {
            // It is whole: verified, unpacked or done.
            download.0 = download.1;
        }
        let layer = &mut self.view.layers[at];
        layer.status = news.status;
        layer.bytes = news.current_bytes;
        layer.total_bytes = news.total_bytes;
        let done = self.view.layers.iter().filter(|layer| is_done(&layer.status)).count();
        self.view.layers_done = u32::try_from(done).unwrap_or(u32::MAX);
        self.view.bytes = self.downloads.iter().map(|(bytes, _)| bytes).sum();
        self.view.total_bytes = self.downloads.iter().map(|(_, total)| total).sum();
    }

    /// How far it is, in a sentence.
    pub fn sentence(&self) -> String {
        let PullView { layers, layers_done, bytes, total_bytes, .. } = &self.view;
        match (layers.len(), bytes.saturating_mul(100).checked_div(*total_bytes)) {
            (0, _) => FETCHING.into(),
            (count, None) => format!("Fetching the image: {layers_done} of {count} layers."),
            (count, Some(percent)) => format!("Fetching the image: {layers_done} of {count} layers, {percent} %."),
        }
    }
}

/// What is said before anything is known.
pub const FETCHING: &str = "Fetching the image.";

fn is_done(status: &str) -> bool {
    matches!(status, "Pull complete" | "Already exists")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn news(layer: &str, status: &str, current_bytes: u64, total_bytes: u64) -> PullProgress {
        PullProgress { layer: layer.into(), status: status.into(), current_bytes, total_bytes }
    }

    #[test]
    fn layers_add_up_and_never_go_back() {
        let mut state = PullState::new("x");
        assert_eq!(state.sentence(), "Fetching the image.");
        state.note(news("a", "Already exists", 0, 0));
        state.note(news("b", "Pulling fs layer", 0, 0));
        assert_eq!(state.sentence(), "Fetching the image: 1 of 2 layers.");
        state.note(news("b", "Downloading", 30, 100));
        assert_eq!(state.sentence(), "Fetching the image: 1 of 2 layers, 30 %.");
        state.note(news("b", "Download complete", 0, 0));
        state.note(news("b", "Extracting", 10, 100));
        assert_eq!((state.view.bytes, state.view.total_bytes), (100, 100));
        assert_eq!(state.view.layers[1].bytes, 10, "of what is being done");
        state.note(news("b", "Pull complete", 0, 0));
        assert_eq!(state.sentence(), "Fetching the image: 2 of 2 layers, 100 %.");
    }

    #[tokio::test]
    async fn who_wants_the_same_shares_and_what_nobody_wants_ends() {
        let pulls = Pulls::default();
        let began = std::sync::atomic::AtomicU32::new(0);
        let (sender, _) = tokio::sync::broadcast::channel::<()>(4);
        let begin = || {
            began.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let heard = sender.subscribe();
            futures_util::stream::unfold(heard, |mut heard| async move {
                heard.recv().await.ok().map(|_| (failed(), heard))
            })
            .boxed()
        };
        let count = || began.load(std::sync::atomic::Ordering::Relaxed);
        let (first, second) = (pulls.join("x", None, begin), pulls.join("x", None, begin));
        assert!(Arc::ptr_eq(&first, &second));
        let _other_image = pulls.join("y", None, begin);
        let _other_credentials = pulls.join("x", Some(RegistryId::new()), begin);
        assert_eq!(count(), 3);
        sender.send(()).unwrap();
        for pull in [&first, &second] {
            let mut state = pull.watch();
            let ended = state.wait_for(|state| state.end.is_some()).await.unwrap();
            assert!(matches!(ended.end, Some(Err(_))), "both hear of it");
        }
        let again = pulls.join("x", None, begin);
        assert!(!Arc::ptr_eq(&first, &again) && count() == 4, "a failure is not kept");
        let mut state = again.watch();
        drop(again);
        assert!(state.changed().await.is_err(), "nobody wants it, and it goes on");
    }

    fn failed() -> rexec_engine::Result<PullProgress> {
        Err(EngineError::PullFailed("on purpose".into()))
    }

    #[test]
    fn layers_are_bounded() {
        let mut state = PullState::new("x");
        for n in 0..LAYERS_MAX + 5 {
            state.note(news(&n.to_string(), "Waiting", 0, 0));
        }
        assert_eq!(state.view.layers.len(), LAYERS_MAX);
    }
}
