//! The commands of a push: what a `git-receive-pack` request begins with (gitprotocol-pack, gitprotocol-common).
//!
//! ```text
//!   request = *shallow 1*command flush anything | flush
//!   shallow = LINE("shallow" SP id)
//!   command = LINE(id SP id SP ref [NUL capabilities])     capabilities behind the first command alone
//!   LINE    = length in 4 digits of 16, itself counted; text; perhaps LF            flush = "0000"
//! ```
//!
//! A flush alone is how git asks whether it may push, before a push that is sent in chunks: nothing may follow it.
//!
//! Invariants: what is read does not depend on where the bytes were cut. Every ref that git would move is among the commands;
//! whatever a laxer or a stricter reader could take for something else is refused: signed pushes (whose commands are in the
//! certificate), other packets than lines and a flush, NULs and capabilities in other places, refs that git has not, a ref
//! that comes twice, ids of two lengths. No more than [`COMMANDS_BYTES_MAX`] are held.

use super::names::{REF_BYTES_MAX, is_ref};
use std::collections::HashSet;

/// All lines before the flush.
pub const COMMANDS_BYTES_MAX: usize = 128 * 1024;
pub const COMMANDS_MAX: usize = 1000;

/// The length in front of a line, and a flush.
const HEADER_BYTES: usize = 4;
const FLUSH: usize = 0;
/// SHA-1 and SHA-256 in digits of 16.
const ID_BYTES: [usize; 2] = [40, 64];
const SHALLOW: &[u8] = b"shallow ";
const CERTIFICATE: &[u8] = b"push-cert";

/// Reads them as they come.
#[derive(Debug, Clone, Default)]
pub struct Push {
    /// The beginning of a line.
    held: Vec<u8>,
    /// How many bytes were read before `held`.
    read_bytes: usize,
    shallow: bool,
    /// How long the ids are.
    id_bytes: Option<usize>,
    names: HashSet<String>,
    commands: Commands,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Lines,
    /// A flush came and no command.
    Asked,
    /// All was given.
    Read,
    Bad(BadPush),
}

/// What is to be done; without any command, git asks whether it may push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    pub all: Vec<Command>,
    /// An answer comes in `side-band-64k`.
    pub side_band: bool,
    /// An answer says what became of each command (`report-status`, or `report-status-v2`).
    pub report: bool,
}

/// Ids in digits of 16; of zeros alone: there is none, before or then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub old: String,
    pub new: String,
    /// In full, `refs/heads/main`.
    pub name: String,
}

/// Why a push is not passed on, for whoever pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPush {
    #[error("signed pushes are not passed on: push without --signed")]
    Signed,
    #[error("a push may have 1,000 refs and 128 KiB of their names: push fewer at once")]
    TooLong,
    #[error("a ref is named that git does not have, or that is not UTF-8")]
    Ref,
    #[error("a ref is named twice")]
    Twice,
    #[error("the push ends before its commands do")]
    Short,
    #[error("this is no push as git sends it: {0}")]
    Strange(&'static str),
}

impl Push {
    pub fn new() -> Self {
        Self::default()
    }

    /// The commands, once, as soon as they are whole. What follows them is not looked at, and what was fed is the caller's to
    /// keep and pass on. `Err`: nothing of this request may be passed on.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Commands>, BadPush> {
        let fed = self.take(bytes);
        if let Err(bad) = fed {
            self.stage = Stage::Bad(bad);
        }
        fed
    }

    /// The body has ended, and `feed` gave no commands: those of a request that only asks.
    pub fn end(self) -> Result<Commands, BadPush> {
        match self.stage {
            Stage::Asked => Ok(self.commands),
            Stage::Lines => Err(BadPush::Short),
            Stage::Read => Err(BadPush::Strange("it ends twice")),
            Stage::Bad(bad) => Err(bad),
        }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<Option<Commands>, BadPush> {
        loop {
            match self.stage {
                Stage::Bad(bad) => return Err(bad),
                Stage::Read => return Ok(None),
                Stage::Asked if bytes.is_empty() => return Ok(None),
                Stage::Asked => return Err(BadPush::Strange("something follows where no command came")),
                Stage::Lines => {}
            }
            if !self.hold(&mut bytes, HEADER_BYTES) {
                return Ok(None);
            }
            let length = length(&self.held)?;
            if self.read_bytes + length.max(HEADER_BYTES) > COMMANDS_BYTES_MAX {
                return Err(BadPush::TooLong);
            }
            if length == FLUSH {
                self.stage = self.flush()?;
                if self.stage == Stage::Read {
                    return Ok(Some(std::mem::take(&mut self.commands)));
                }
                continue;
            }
            if !self.hold(&mut bytes, length) {
                return Ok(None);
            }
            let line = std::mem::take(&mut self.held);
            self.read_bytes += line.len();
            self.line(&line[HEADER_BYTES..])?;
        }
    }

    /// Takes from `bytes` until so many are held; whether they are.
    fn hold(&mut self, bytes: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.held.len()).min(bytes.len());
        let (here, rest) = bytes.split_at(missing);
        self.held.extend_from_slice(here);
        *bytes = rest;
        self.held.len() >= wanted
    }

    fn flush(&self) -> Result<Stage, BadPush> {
        match (self.commands.all.is_empty(), self.shallow) {
            (true, true) => Err(BadPush::Strange("it has no command")),
            (true, false) => Ok(Stage::Asked),
            (false, _) => Ok(Stage::Read),
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), BadPush> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.starts_with(CERTIFICATE) {
            return Err(BadPush::Signed);
        }
        if let Some(id) = line.strip_prefix(SHALLOW) {
            if !self.commands.all.is_empty() {
                return Err(BadPush::Strange("a shallow line comes after a command"));
            }
            self.shallow = true;
            return self.id(id).map(|_| ());
        }
        let mut parts = line.splitn(2, |&byte| byte == 0);
        let command = self.command(parts.next().unwrap_or_default())?;
        if self.commands.all.len() == COMMANDS_MAX {
            return Err(BadPush::TooLong);
        }
        match parts.next() {
            Some(_) if !self.commands.all.is_empty() => {
                return Err(BadPush::Strange("capabilities come after the first command"));
            }
            Some(capabilities) => self.capabilities(capabilities)?,
            None if self.commands.all.is_empty() => self.capabilities(b"")?,
            None => {}
        }
        if !self.names.insert(command.name.clone()) {
            return Err(BadPush::Twice);
        }
        self.commands.all.push(command);
        Ok(())
    }

    fn command(&mut self, text: &[u8]) -> Result<Command, BadPush> {
        const WRONG: BadPush = BadPush::Strange("a line is no command");
        let mut parts = text.splitn(3, |&byte| byte == b' ');
        let (Some(old), Some(new), Some(name)) = (parts.next(), parts.next(), parts.next()) else { return Err(WRONG) };
        let (old, new) = (self.id(old)?, self.id(new)?);
        if name.len() > REF_BYTES_MAX {
            return Err(BadPush::Ref);
        }
        match std::str::from_utf8(name) {
            Ok(name) if is_ref(name) => Ok(Command { old, new, name: name.to_owned() }),
            _ => Err(BadPush::Ref),
        }
    }

    /// All are as long as the first.
    fn id(&mut self, text: &[u8]) -> Result<String, BadPush> {
        let is_id = ID_BYTES.contains(&text.len()) && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_id || *self.id_bytes.get_or_insert(text.len()) != text.len() {
            return Err(BadPush::Strange("an id is not 40 or 64 small digits of 16, as all others are"));
        }
        Ok(text.iter().copied().map(char::from).collect())
    }

    /// Of the first command, after its ids. Without a word about it, ids are SHA-1.
    fn capabilities(&mut self, text: &[u8]) -> Result<(), BadPush> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.chars().all(|one| matches!(one, ' '..='~')));
        let text = text.ok_or(BadPush::Strange("its capabilities are not plain text"))?;
        let mut format = "sha1";
        for word in text.split(' ') {
            match word {
                "side-band-64k" => self.commands.side_band = true,
                "report-status" | "report-status-v2" => self.commands.report = true,
                _ => format = word.strip_prefix("object-format=").unwrap_or(format),
            }
        }
        match (format, self.id_bytes) {
            ("sha1", Some(40)) | ("sha256", Some(64)) => Ok(()),
            _ => Err(BadPush::Strange("its ids are not of the format that it names")),
        }
    }
}

/// Small digits, as git writes them; 0 is a flush. Every other packet without text is refused.
fn length(header: &[u8]) -> Result<usize, BadPush> {
    let mut length = 0;
    for &byte in header.iter().take(HEADER_BYTES) {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return Err(BadPush::Strange("the length of a line is not four small digits of 16")),
        };
        length = length << 4 | usize::from(digit);
    }
    match length {
        FLUSH => Ok(FLUSH),
        1..=HEADER_BYTES => Err(BadPush::Strange("a packet is neither a line nor a flush")),
        _ => Ok(length),
    }
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
