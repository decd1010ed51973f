//! What a repository's `devcontainer.json` says of the workspace it wants: pure.
//!
//! Of the specification (containers.dev/implementors/json_reference) these are honoured: `image`,
//! `remoteUser`, `containerUser`, `containerEnv`, `remoteEnv`, `onCreateCommand`, `updateContentCommand`, `postCreateCommand` and `forwardPorts`.
//! The file is a tenant's: it is bounded, and what else it asks for is noted in a sentence and not done.

use super::store::Command;
use crate::templates::{RUN_BYTES_MAX, STEPS_MAX};
use crate::workspaces::validate;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Where it may lie in a repository, in the order of the specification.
pub const PLACES: [&str; 2] = [".devcontainer/devcontainer.json", ".devcontainer.json"];
/// The longest file that is read.
pub const FILE_BYTES_MAX: usize = 256 * 1024;
const PORTS_MAX: usize = 100;
const NOTES_MAX: usize = 50;
/// Commands that run once, in this order.
const COMMANDS: [&str; 3] = ["onCreateCommand", "updateContentCommand", "postCreateCommand"];
/// What we leave out, and why.
const LEFT_OUT: [(&str, &str); 12] = [
    ("features", "features are not installed; use an image that has them, or `postCreateCommand`"),
    ("build", "images are not built here; name a built one as `image`"),
    ("dockerFile", "images are not built here; name a built one as `image`"),
    ("dockerComposeFile", "a workspace is one machine and not a composition of services"),
    ("mounts", "a workspace mounts nothing but its home"),
    ("workspaceMount", "the repository lies in the home"),
    ("runArgs", "how a workspace is isolated is the server's to say"),
    ("privileged", "no workspace is privileged"),
    ("capAdd", "how a workspace is isolated is the server's to say"),
    ("securityOpt", "how a workspace is isolated is the server's to say"),
    ("postStartCommand", "nothing is run at each start"),
    ("initializeCommand", "nothing is run on the host"),
];

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    pub image: Option<String>,
    /// Who programs are to run as, where the image has that account.
    pub account: Option<String>,
    pub env: BTreeMap<String, String>,
    /// Names and commands, to be run one after another in the repository.
    pub commands: Vec<(String, Command)>,
    pub ports: Vec<u16>,
    /// What was left out, in sentences.
    pub notes: Vec<String>,
}

/// Reads the file. `folder` is where the repository lies.
pub fn read(text: &str, folder: &str) -> Wanted {
    let mut wanted = Wanted::default();
    let object = match serde_json::from_str(&without_comments(text)) {
        Ok(Value::Object(object)) => object,
        Ok(_) => {
            wanted.note("devcontainer.json is not an object; it was left out.".into());
            return wanted;
        }
        Err(error) => {
            let message = format!("devcontainer.json cannot be read (line {}); it was left out.", error.line());
            wanted.note(message);
            return wanted;
        }
    };
    for (field, why) in LEFT_OUT {
        if object.get(field).is_some_and(|value| !is_empty(value)) {
            wanted.note(format!("`{field}` was left out: {why}."));
        }
    }
    wanted.take_image(&object);
    wanted.take_account(&object);
    for field in ["containerEnv", "remoteEnv"] {
        wanted.take_env(field, &object, folder);
    }
    for field in COMMANDS {
        wanted.take_commands(field, &object, folder);
    }
    wanted.take_ports(&object);
    wanted
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

impl Wanted {
    fn note(&mut self, text: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(text);
        }
    }

    fn take_image(&mut self, object: &Map<String, Value>) {
        match object.get("image") {
            None | Some(Value::Null) => {}
            Some(Value::String(image)) if validate::image(image).is_ok() => self.image = Some(image.clone()),
            Some(_) => self.note("`image` was left out: it is not an image reference.".into()),
        }
    }

    /// The one that tools use goes before the container's.
    fn take_account(&mut self, object: &Map<String, Value>) {
        let named =
            ["remoteUser", "containerUser"].into_iter().find_map(|field| Some((field, object.get(field)?.as_str()?)));
        let Some((field, name)) = named else { return };
        if name == "root" || name == "0" {
            self.note(format!("`{field}` was left out: programs run as the workspace's user, who may use `sudo`."));
        } else if is_account(name) {
            self.note(format!(
                "`{field}`: programs run as {name} from the next start of the machine on, where its image has that account."
            ));
            self.account = Some(name.to_owned());
        } else {
            self.note(format!("`{field}` was left out: it is not an account's name."));
        }
    }

    fn take_env(&mut self, field: &str, object: &Map<String, Value>, folder: &str) {
        let Some(Value::Object(variables)) = object.get(field) else { return };
        for (name, value) in variables {
            let Some(text) = value.as_str() else { continue };
            let text = in_folder(text, folder);
            // Names a file may hold are free; they must not break the sentence.
            let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
            if text.contains("${") {
                self.note(format!("`{field}.{shown}` was left out: it refers to another machine's variables."));
                continue;
            }
            let before = self.env.insert(name.clone(), text);
            if validate::env(&self.env).is_err() {
                self.env.remove(name);
                self.env.extend(before.map(|before| (name.clone(), before)));
                self.note(format!("`{field}.{shown}` was left out: it cannot be a variable of a process."));
            }
        }
    }

    fn take_commands(&mut self, field: &str, object: &Map<String, Value>, folder: &str) {
        match object.get(field) {
            None | Some(Value::Null) => {}
            // Run at once by other tools; one after another here, so that each can be watched.
            Some(Value::Object(named)) => {
                for (name, value) in named {
                    let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
                    self.take_command(&format!("{field}: {shown}"), value, folder);
                }
            }
            Some(value) => self.take_command(field, value, folder),
        }
    }

    fn take_command(&mut self, name: &str, value: &Value, folder: &str) {
        let command = match value {
            Value::String(text) => Some(Command::Shell(in_folder(text, folder))),
            Value::Array(items) => {
                let words: Option<Vec<String>> =
                    items.iter().map(|item| item.as_str().map(|text| in_folder(text, folder))).collect();
                words.map(Command::Program)
            }
            _ => None,
        };
        let fits = match &command {
            Some(Command::Shell(text)) => is_text(text),
            Some(Command::Program(words)) => {
                words.iter().map(String::len).sum::<usize>() <= RUN_BYTES_MAX
                    && words.first().is_some_and(|word| !word.is_empty())
                    && !words.iter().any(|word| word.contains('\0'))
            }
            _ => false,
        };
        match command {
            Some(command) if fits && self.commands.len() < STEPS_MAX => self.commands.push((name.to_owned(), command)),
            _ => self.note(format!("`{name}` was left out: it is not a command that can be run.")),
        }
    }

    fn take_ports(&mut self, object: &Map<String, Value>) {
        let Some(Value::Array(ports)) = object.get("forwardPorts") else { return };
        for port in ports.iter().take(PORTS_MAX) {
            match port.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0) {
                Some(port) if !self.ports.contains(&port) => self.ports.push(port),
                Some(_) => {}
                None => self.note("An entry of `forwardPorts` was left out: it is not a port of the workspace.".into()),
            }
        }
    }
}

/// As `useradd` has it, or a number.
fn is_account(name: &str) -> bool {
    let of_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=32).contains(&name.len()) && !name.starts_with('-') && name.chars().all(of_name)
}

fn is_text(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= RUN_BYTES_MAX && !text.contains('\0')
}

/// The variables of the specification that we know.
fn in_folder(text: &str, folder: &str) -> String {
    let name = folder.rsplit('/').next().unwrap_or(folder);
    text.replace("${containerWorkspaceFolder}", folder)
        .replace("${localWorkspaceFolder}", folder)
        .replace("${containerWorkspaceFolderBasename}", name)
        .replace("${localWorkspaceFolderBasename}", name)
}

/// JSON with comments and trailing commas as plain JSON, line for line.
fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                plain.push(c);
            }
            '\\' if quoted => {
                plain.push(c);
                plain.extend(characters.next());
            }
            '/' if !quoted && characters.peek() == Some(&'/') => while characters.next_if(|c| *c != '\n').is_some() {},
            '/' if !quoted && characters.peek() == Some(&'*') => {
                characters.next();
                let mut before = ' ';
                for c in characters.by_ref() {
                    if before == '*' && c == '/' {
                        break;
                    }
                    if c == '\n' {
                        plain.push(c);
                    }
                    before = c;
                }
            }
            ']' | '}' if !quoted => {
                let end = plain.trim_end().len();
                if plain[..end].ends_with(',') {
                    plain.replace_range(end - 1..end, " ");
                }
                plain.push(c);
            }
            _ => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_file() {
        let text = r#"// A comment, with a "quote".
        {
          "name": "site", /* and
          another */
          "image": "mcr.microsoft.com/devcontainers/python:3.12",
          "features": { "ghcr.io/devcontainers/features/node:1": {} },
          "containerEnv": { "A": "http://x//y", "B": "${localEnv:HOME}", "C": "${containerWorkspaceFolder}/bin", },
          "remoteEnv": { "A": "2", "GONE": null },
          "onCreateCommand": ["make", "deps"],
          "postCreateCommand": { "one": "echo a, ]", "two": ["echo", "b"] },
          "forwardPorts": [3000, "db:5432", 3000, 70000],
          "remoteUser": "vscode",
          "mounts": [],
        }"#;
        let wanted = read(text, "/home/user/site");
        assert_eq!(wanted.image.as_deref(), Some("mcr.microsoft.com/devcontainers/python:3.12"));
        let env: Vec<_> = wanted.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(env, [("A", "2"), ("C", "/home/user/site/bin")]);
        let words = |words: &[&str]| Command::Program(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(
            wanted.commands,
            [
                ("onCreateCommand".to_owned(), words(&["make", "deps"])),
                ("postCreateCommand: one".to_owned(), Command::Shell("echo a, ]".into())),
                ("postCreateCommand: two".to_owned(), words(&["echo", "b"])),
            ]
        );
        assert_eq!(wanted.ports, [3000]);
        assert_eq!(wanted.account.as_deref(), Some("vscode"));
        for (text, account) in [
            (r#"{"remoteUser": "root", "containerUser": "dev"}"#, None),
            (r#"{"containerUser": "1001"}"#, Some("1001")),
            (r#"{"remoteUser": "${localEnv:USER}"}"#, None),
        ] {
            let wanted = read(text, "/home/user/x");
            assert_eq!((wanted.account.as_deref(), wanted.notes.len()), (account, 1), "{text}");
        }
        let notes = wanted.notes.join("\n");
        for part in ["features", "remoteUser", "containerEnv.B", "forwardPorts"] {
            assert!(notes.contains(part), "{part}: {notes}");
        }
        assert!(!notes.contains("mounts"), "{notes}");
    }

    #[test]
    fn what_makes_no_sense_is_noted_and_left_out() {
        for text in ["", "[]", "{", "{\"image\": 3}", "{\"image\": \"-x\"}", "{\"postCreateCommand\": [1]}"] {
            let wanted = read(text, "/home/user/x");
            assert!(
                wanted.notes.len() == 1 && wanted.image.is_none() && wanted.commands.is_empty(),
                "{text}: {wanted:?}"
            );
        }
        let long = format!("{{\"postCreateCommand\": {:?}}}", "x".repeat(RUN_BYTES_MAX + 1));
        assert!(read(&long, "/x").commands.is_empty());
        assert_eq!(read("{}", "/x"), Wanted::default());
        assert_eq!(read("{\"containerEnv\": {\"A=B\": \"x\"}}", "/x").env.len(), 0);
    }
}
