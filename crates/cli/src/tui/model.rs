//! What the dashboard knows and shows, and what keys mean in it. Pure: news comes in, wishes go out.

use crate::show::Tint;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use rexec_api::events::EventView;
use rexec_api::ids::WorkspaceId;
use rexec_api::stats::StatsSample;
use rexec_api::workspaces::{WorkspaceStatus, WorkspaceView};
use rexec_client::Lifecycle;
use std::collections::{HashMap, VecDeque};

/// Samples kept of each workspace, two seconds apart.
const SAMPLES_MAX: usize = 120;
/// Most characters of a name that is typed; the server says what fits.
const NAME_CHARS_MAX: usize = 100;
/// How far a page key goes.
const PAGE_ROWS: isize = 10;

/// What has become known.
#[derive(Debug)]
pub enum News {
    List(Vec<WorkspaceView>),
    Sample(WorkspaceId, StatsSample),
    /// The newest entries of a workspace's log, the newest first.
    Log(WorkspaceId, Vec<EventView>),
    Said(String, Tint),
    /// There is no list to be had, and why.
    Lost(String),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Start,
    Stop,
    Pause,
    Resume,
    Restart,
    Delete,
}

impl Action {
    pub const fn lifecycle(self) -> Option<Lifecycle> {
        Some(match self {
            Self::Start => Lifecycle::Start,
            Self::Stop => Lifecycle::Stop,
            Self::Pause => Lifecycle::Pause,
            Self::Resume => Lifecycle::Resume,
            Self::Restart => Lifecycle::Restart,
            Self::Delete => return None,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Quit,
    /// Hand the terminal over to a shell of the workspace.
    Open(WorkspaceId),
    Do(WorkspaceId, Action),
    /// Of this name, or one that is made up.
    New(Option<String>),
    Log(WorkspaceId),
}

/// What the screen is about.
#[derive(Debug)]
pub enum Mode {
    List,
    /// A name is typed.
    Naming(String),
    /// `y` deletes it.
    Deleting(WorkspaceId),
    Log {
        id: WorkspaceId,
        /// `None` until it has come.
        entries: Option<Vec<EventView>>,
        /// Lines scrolled down.
        top: usize,
    },
    Help,
}

/// What a workspace uses.
#[derive(Debug)]
pub struct Usage {
    pub last: StatsSample,
    /// Percent of its cores, the oldest first.
    pub cpu: VecDeque<u64>,
}

pub struct Model {
    /// Who looks at what server.
    pub account: String,
    /// `None` until the server has answered.
    pub workspaces: Option<Vec<WorkspaceView>>,
    pub usage: HashMap<WorkspaceId, Usage>,
    selected: Option<WorkspaceId>,
    pub mode: Mode,
    /// The last thing said, and how.
    pub said: Option<(String, Tint)>,
    /// That is that there is no list.
    is_lost: bool,
}

impl Model {
    pub fn new(account: String) -> Self {
        Self {
            account,
            workspaces: None,
            usage: HashMap::new(),
            selected: None,
            mode: Mode::List,
            said: None,
            is_lost: false,
        }
    }

    pub fn list(&self) -> &[WorkspaceView] {
        self.workspaces.as_deref().unwrap_or_default()
    }

    pub fn get(&self, id: WorkspaceId) -> Option<&WorkspaceView> {
        self.list().iter().find(|one| one.id == id)
    }

    /// Where the selected one stands in the list.
    pub fn place(&self) -> Option<usize> {
        self.list().iter().position(|one| Some(one.id) == self.selected)
    }

    pub fn selected(&self) -> Option<&WorkspaceView> {
        self.list().get(self.place()?)
    }

    pub fn hear(&mut self, news: News) {
        match news {
            News::List(list) => self.list_is(list),
            News::Sample(id, sample) => {
                let percent = sample.cpu_percent.clamp(0.0, 100.0).round() as u64;
                let usage =
                    self.usage.entry(id).or_insert_with(|| Usage { last: sample.clone(), cpu: VecDeque::new() });
                usage.last = sample;
                usage.cpu.push_back(percent);
                if usage.cpu.len() > SAMPLES_MAX {
                    usage.cpu.pop_front();
                }
            }
            News::Log(of, newest) => {
                if let Mode::Log { id, entries, .. } = &mut self.mode
                    && *id == of
                {
                    *entries = Some(newest);
                }
            }
            News::Said(text, tint) => self.said = Some((text, tint)),
            News::Lost(why) => {
                self.said = Some((why, Tint::Bad));
                self.is_lost = true;
            }
        }
    }

    /// The selection stays with its workspace, or, when that is gone, in its place.
    fn list_is(&mut self, list: Vec<WorkspaceView>) {
        if std::mem::take(&mut self.is_lost) {
            self.said = None;
        }
        let place = self.place().unwrap_or(0);
        self.usage.retain(|id, _| list.iter().any(|one| one.id == *id && is_measured(one.status)));
        if let Mode::Deleting(id) | Mode::Log { id, .. } = &self.mode
            && !list.iter().any(|one| one.id == *id)
        {
            self.mode = Mode::List;
        }
        self.workspaces = Some(list);
        if self.place().is_none() {
            self.selected = self.list().get(place).or(self.list().last()).map(|one| one.id);
        }
    }

    pub fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c' | 'q')).then_some(Wish::Quit);
        }
        match &mut self.mode {
            Mode::List => self.key_of_list(key.code),
            Mode::Naming(name) => {
                match key.code {
                    KeyCode::Esc => self.mode = Mode::List,
                    KeyCode::Backspace => drop(name.pop()),
                    KeyCode::Char(c) if name.chars().count() < NAME_CHARS_MAX => name.push(c),
                    KeyCode::Enter => {
                        let name = Some(name.trim().to_owned()).filter(|name| !name.is_empty());
                        self.mode = Mode::List;
                        return Some(Wish::New(name));
                    }
                    _ => {}
                }
                None
            }
            Mode::Deleting(id) => {
                let id = *id;
                self.mode = Mode::List;
                matches!(key.code, KeyCode::Char('y' | 'Y')).then_some(Wish::Do(id, Action::Delete))
            }
            Mode::Log { id, entries, top } => {
                let last = entries.as_ref().map_or(0, |entries| entries.len().saturating_sub(1));
                let by = step(key.code);
                match key.code {
                    KeyCode::Char('r') => return Some(Wish::Log(*id)),
                    _ if by != 0 => *top = top.saturating_add_signed(by).min(last),
                    _ => self.mode = Mode::List,
                }
                None
            }
            Mode::Help => {
                self.mode = Mode::List;
                None
            }
        }
    }

    fn key_of_list(&mut self, code: KeyCode) -> Option<Wish> {
        match code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('n') => self.mode = Mode::Naming(String::new()),
            _ => {}
        }
        let by = step(code);
        if by != 0 {
            let place = self.place().unwrap_or(0).saturating_add_signed(by);
            let place = place.min(self.list().len().saturating_sub(1));
            self.selected = self.list().get(place).map(|one| one.id);
            return None;
        }
        let (id, status) = self.selected().map(|one| (one.id, one.status))?;
        let is_paused = status == WorkspaceStatus::Paused;
        let action = match code {
            KeyCode::Enter | KeyCode::Char('o') => return Some(Wish::Open(id)),
            KeyCode::Char('l') => {
                self.mode = Mode::Log { id, entries: None, top: 0 };
                return Some(Wish::Log(id));
            }
            KeyCode::Char('d') | KeyCode::Delete => {
                self.mode = Mode::Deleting(id);
                return None;
            }
            KeyCode::Char('s' | 'p') if is_paused => Action::Resume,
            KeyCode::Char('s') => Action::Start,
            KeyCode::Char('x') => Action::Stop,
            KeyCode::Char('p') => Action::Pause,
            KeyCode::Char('r') => Action::Restart,
            _ => return None,
        };
        Some(Wish::Do(id, action))
    }
}

/// Whether its figures are of now.
pub const fn is_measured(status: WorkspaceStatus) -> bool {
    matches!(status, WorkspaceStatus::Running | WorkspaceStatus::Paused)
}

/// How far a key moves.
const fn step(code: KeyCode) -> isize {
    match code {
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -PAGE_ROWS,
        KeyCode::PageDown => PAGE_ROWS,
        KeyCode::Home | KeyCode::Char('g') => isize::MIN,
        KeyCode::End | KeyCode::Char('G') => isize::MAX,
        _ => 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod tests {
    use super::*;
    use serde_json::json;

    pub fn workspace(name: &str, status: &str) -> WorkspaceView {
        let id = name.bytes().fold(0u128, |id, byte| id << 8 | u128::from(byte));
        let id = uuid::Uuid::from_u128(id);
        serde_json::from_value(json!({
            "id": id, "name": name, "owner_id": uuid::Uuid::nil(), "status": status, "status_reason": null,
            "image": "rexec/base:latest", "region": "local", "host": null, "runtime": "runc", "cpu": 1.0, "memory_mb": 512,
            "created_at": "2026-01-01T00:00:00Z", "started_at": null,
        }))
        .unwrap()
    }

    pub fn sample(percent: f64, memory: u64) -> StatsSample {
        serde_json::from_value(json!({
            "at": "2026-01-01T00:00:00Z", "cpu": percent / 100.0, "cpu_percent": percent, "memory_bytes": memory,
            "memory_limit_bytes": 512 << 20, "network_rx_bytes": 0, "network_tx_bytes": 0, "network_rx_rate": 0.0,
            "network_tx_rate": 0.0, "pids": 3, "pids_limit": 100,
        }))
        .unwrap()
    }

    pub fn model(of: &[(&str, &str)]) -> Model {
        let mut model = Model::new("ada@example.com".into());
        model.hear(News::List(of.iter().map(|(name, status)| workspace(name, status)).collect()));
        model
    }

    fn press(model: &mut Model, keys: &str) -> Option<Wish> {
        let mut wish = None;
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '\x08' => KeyCode::Backspace,
                c => KeyCode::Char(c),
            };
            wish = model.key(KeyEvent::new(code, KeyModifiers::NONE));
        }
        wish
    }

    #[test]
    fn keys_ask_for_what_fits_the_selected_one() {
        let mut model = model(&[("a", "running"), ("b", "paused"), ("c", "stopped")]);
        let ids: Vec<_> = model.list().iter().map(|one| one.id).collect();
        assert_eq!(press(&mut model, "\n"), Some(Wish::Open(ids[0])));
        assert_eq!(press(&mut model, "p"), Some(Wish::Do(ids[0], Action::Pause)));
        assert_eq!(press(&mut model, "jp"), Some(Wish::Do(ids[1], Action::Resume)));
        assert_eq!(press(&mut model, "jjjs"), Some(Wish::Do(ids[2], Action::Start)));
        assert_eq!(press(&mut model, "gx"), Some(Wish::Do(ids[0], Action::Stop)));
        assert_eq!(press(&mut model, "q"), Some(Wish::Quit));
        assert_eq!(model.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Wish::Quit));
    }

    #[test]
    fn a_deletion_wants_a_yes() {
        let mut model = model(&[("a", "running")]);
        let id = model.list()[0].id;
        assert_eq!(press(&mut model, "d"), None);
        assert!(matches!(model.mode, Mode::Deleting(of) if of == id));
        assert_eq!(press(&mut model, "n"), None);
        assert!(matches!(model.mode, Mode::List));
        assert_eq!(press(&mut model, "dy"), Some(Wish::Do(id, Action::Delete)));
        // It went meanwhile: there is nothing to say yes to.
        press(&mut model, "d");
        model.hear(News::List(vec![workspace("other", "running")]));
        assert!(matches!(model.mode, Mode::List));
    }

    #[test]
    fn a_name_is_typed() {
        let mut model = model(&[]);
        assert_eq!(press(&mut model, "nboxy\x08\n"), Some(Wish::New(Some("box".into()))));
        assert_eq!(press(&mut model, "n \n"), Some(Wish::New(None)));
        assert_eq!(press(&mut model, "nq\x1b"), None);
        assert!(matches!(model.mode, Mode::List));
        assert_eq!(press(&mut model, "\n"), None, "there is none to open");
    }

    #[test]
    fn the_selection_stays_with_its_workspace() {
        let mut model = model(&[("a", "running"), ("b", "running"), ("c", "running")]);
        press(&mut model, "j");
        model.hear(News::List(vec![workspace("new", "pending"), workspace("a", "running"), workspace("b", "running")]));
        assert_eq!(model.selected().unwrap().name, "b");
        model.hear(News::List(vec![workspace("new", "pending"), workspace("a", "running")]));
        assert_eq!(model.selected().unwrap().name, "a");
    }

    #[test]
    fn figures_go_with_what_they_are_of() {
        let mut model = model(&[("a", "running")]);
        let id = model.list()[0].id;
        for _ in 0..SAMPLES_MAX + 5 {
            model.hear(News::Sample(id, sample(150.0, 1)));
        }
        assert_eq!((model.usage[&id].cpu.len(), model.usage[&id].cpu[0]), (SAMPLES_MAX, 100));
        model.hear(News::List(vec![workspace("a", "stopped")]));
        assert!(model.usage.is_empty());
    }
}
