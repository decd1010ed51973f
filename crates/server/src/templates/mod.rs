//! The catalogue of templates: those in this program, and an operator's own over them.
//!
//! Read once, at the start. Invariant: a catalogue exists only if every file of it is sound, so that a fault is
//! found by whoever starts the server and not by whoever makes a workspace.

pub mod http;
mod parse;

pub use parse::{Nested, RUN_BYTES_MAX, STEPS_MAX, SetupStep, Template};

use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::hosts::Fleet;
use crate::hosts::nesting::NoNesting;
use crate::workspaces::Capacity;
use rexec_api::error::ErrorCode;
use rexec_api::templates::{TemplateList, TemplateView};
use rexec_api::tokens::Scope;
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Names files of `images/` and takes them in.
macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../../images/", $name)))),*]
    };
}

/// Ours, by the names of their files.
const EMBEDDED: [(&str, &str); 14] = embedded![
    "alpine.toml",
    "data.toml",
    "debian-12.toml",
    "debian-13.toml",
    "devops.toml",
    "fedora.toml",
    "go.toml",
    "minimal.toml",
    "node.toml",
    "podman.toml",
    "python.toml",
    "rust.toml",
    "ubuntu-22.04.toml",
    "ubuntu-24.04.toml",
];

const SUFFIX: &str = ".toml";
/// The longest file that is read.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Every fault that was found, each with its file.
#[derive(Debug, thiserror::Error)]
#[error("the templates have {} fault(s):\n{}", .0.len(), .0.iter().map(|f| format!("  - {f}")).collect::<Vec<_>>().join("\n"))]
pub struct TemplatesError(pub Vec<String>);

#[derive(Clone)]
pub struct Templates {
    by_id: Arc<BTreeMap<String, Template>>,
    fleet: Fleet,
}

impl Templates {
    /// A file of `overlay` takes the place of ours with the same name.
    pub fn load(fleet: Fleet, overlay: Option<&Path>) -> std::result::Result<Self, TemplatesError> {
        let mut faults = Vec::new();
        let mut by_id = BTreeMap::new();
        for (name, text) in EMBEDDED {
            take(name, name, text.into(), &mut by_id, &mut faults);
        }
        if let Some(directory) = overlay {
            read_overlay(directory, &mut by_id, &mut faults);
        }
        if faults.is_empty() { Ok(Self { by_id: Arc::new(by_id), fleet }) } else { Err(TemplatesError(faults)) }
    }

    /// All of them, in the order of their ids. Every user may see them.
    pub async fn list(&self, actor: &Actor) -> Result<TemplateList> {
        actor.authorise_list(Scope::WorkspacesRead)?;
        let host = self.fleet.local();
        let images = match host.ready() {
            Ok(_) => host.engine.images().await.unwrap_or_else(|error| {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot list the host's images");
                Vec::new()
            }),
            Err(_) => Vec::new(),
        };
        let there: HashSet<String> = images.into_iter().flat_map(|image| image.references).collect();
        let no_nesting = match self.by_id.values().any(|template| template.nested.is_some()) {
            true => host.nesting("").await.err(),
            false => None,
        };
        let why = no_nesting.as_ref().map(NoNesting::reason);
        let items = self.by_id.values().map(|template| view(template, &there, why)).collect();
        let host = host.ready().ok().map(|facts| Capacity::of(&facts.engine).view());
        Ok(TemplateList { items, next: None, host })
    }

    /// What workspaces are made from that name a template, each once.
    pub fn images(&self) -> Vec<String> {
        let images: std::collections::BTreeSet<&String> = self.by_id.values().map(|template| &template.image).collect();
        images.into_iter().cloned().collect()
    }

    pub fn find(&self, id: &str) -> Result<&Template> {
        self.by_id.get(id).ok_or_else(|| {
            let ids: Vec<&str> = self.by_id.keys().map(String::as_str).collect();
            let message = format!("There is no such template. There are: {}.", ids.join(", "));
            Error::new(ErrorCode::TemplateNotFound, message).details(json!({ "field": "template", "templates": ids }))
        })
    }
}

fn view(template: &Template, there: &HashSet<String>, no_nesting: Option<&str>) -> TemplateView {
    TemplateView {
        id: template.id.clone(),
        name: template.name.clone(),
        description: template.description.clone(),
        icon: template.icon.clone(),
        image: template.image.clone(),
        size_mb: template.size_mb,
        available: there.contains(&whole_reference(&template.image)),
        setup: template.setup.iter().map(|step| step.name.clone()).collect(),
        egress: template.egress.clone(),
        nested: template.nested.map(|nested| nested.as_str().to_owned()),
        nested_unavailable: template.nested.and(no_nesting).map(str::to_owned),
    }
}

/// As the engine lists it.
fn whole_reference(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

fn read_overlay(directory: &Path, by_id: &mut BTreeMap<String, Template>, faults: &mut Vec<String>) {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return faults.push(format!("{}: {error}", directory.display())),
    };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str().filter(|name| name.ends_with(SUFFIX)) else { continue };
        let place = path.display().to_string();
        match read_bounded(&path) {
            Ok(file) => take(&place, name, file, by_id, faults),
            Err(error) => faults.push(format!("{place}: {error}")),
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let length = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if length as u64 > FILE_BYTES_MAX { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

fn take(place: &str, name: &str, file: Vec<u8>, by_id: &mut BTreeMap<String, Template>, faults: &mut Vec<String>) {
    let id = name.strip_suffix(SUFFIX).unwrap_or(name);
    let text = String::from_utf8(file).map_err(|_| "is not UTF-8".to_owned());
    match text.and_then(|text| parse::template(id, &text)) {
        Ok(template) => drop(by_id.insert(id.to_owned(), template)),
        Err(fault) => faults.push(format!("{place}: {fault}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_sound_and_an_overlay_replaces_them() {
        let (mut by_id, mut faults) = (BTreeMap::new(), Vec::new());
        for (name, text) in EMBEDDED {
            take(name, name, text.into(), &mut by_id, &mut faults);
        }
        assert!(faults.is_empty(), "{faults:?}");
        for id in [
            "ubuntu-22.04",
            "ubuntu-24.04",
            "debian-12",
            "debian-13",
            "alpine",
            "fedora",
            "node",
            "python",
            "go",
            "rust",
            "devops",
            "data",
            "minimal",
        ] {
            assert!(by_id.contains_key(id), "{id}");
        }
        let directory = tempfile::tempdir().unwrap();
        let small = "name = 'A'\ndescription = 'B'\nicon = 'c'\nimage = 'own:1'\nsize_mb = 1\n";
        std::fs::write(directory.path().join("alpine.toml"), small).unwrap();
        std::fs::write(directory.path().join("broken.toml"), "name = 3").unwrap();
        std::fs::write(directory.path().join("README"), "no template").unwrap();
        read_overlay(directory.path(), &mut by_id, &mut faults);
        assert_eq!(by_id["alpine"].image, "own:1");
        assert!(faults.len() == 1 && faults[0].contains("broken.toml") && faults[0].contains("name"), "{faults:?}");
        read_overlay(&directory.path().join("none"), &mut by_id, &mut faults);
        assert_eq!(faults.len(), 2);
    }

    #[test]
    fn references_without_a_tag_mean_the_latest() {
        assert_eq!(whole_reference("rexec/node"), "rexec/node:latest");
        assert_eq!(whole_reference("localhost:5000/x"), "localhost:5000/x:latest");
        assert_eq!(whole_reference("debian:12"), "debian:12");
    }
}
