//! A `runc` before the machine's own, for a daemon of a test's own. While it is told to hold, what it has made or started
//! stands, and its daemon does not hear of it: so a daemon can be killed at exactly that moment.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// `DIR` is its own directory, `RUNC` the machine's.
const SCRIPT: &str = r#"#!/bin/sh
word=
for argument in "$@"; do
  case $argument in create | start) word=$argument && break ;; esac
done
'RUNC' "$@"
code=$?
if [ -n "$word" ] && [ -e "DIR/hold-$word" ]; then
  echo "$word" >>DIR/held
  while [ -e "DIR/hold-$word" ]; do sleep 0.05; done
fi
exit "$code"
"#;

/// What it holds after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The container is made, and its first process waits to be let go.
    Create,
    /// It runs.
    Start,
}

pub struct HeldRunc {
    dir: tempfile::TempDir,
}

impl HeldRunc {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runc = directories().map(|dir| dir.join("runc")).find(|path| path.exists()).expect("runc is installed");
        let script = SCRIPT.replace("RUNC", runc.to_str().unwrap()).replace("DIR", dir.path().to_str().unwrap());
        let path = dir.path().join("runc");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    /// Where programs are looked for by a daemon that is to find this one first.
    pub fn search_path(&self) -> String {
        let dirs = std::iter::once(self.dir.path().to_owned()).chain(directories());
        std::env::join_paths(dirs).unwrap().into_string().unwrap()
    }

    pub fn hold(&self, after: After) {
        std::fs::write(self.switch(after), "").unwrap();
    }

    pub fn release(&self, after: After) {
        std::fs::remove_file(self.switch(after)).unwrap();
        std::fs::remove_file(self.dir.path().join("held")).unwrap();
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        std::fs::read_to_string(self.dir.path().join("held")).map_or(0, |text| text.lines().count())
    }

    fn switch(&self, after: After) -> PathBuf {
        let word = match after {
            After::Create => "create",
            After::Start => "start",
        };
        self.dir.path().join(format!("hold-{word}"))
    }
}

fn directories() -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<_>>().into_iter()
}
