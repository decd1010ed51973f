//! Where settings come from, and the reader that takes them by name and gathers every fault.
//!
//! The environment wins over `.env`, which wins over `rexec.toml`. An empty value counts as unset,
//! because compose files pass on variables that nobody set. A key of the file is a variable's name
//! in either case, without `REXEC_` if it has it; a table prefixes its keys, so that `[stripe]`
//! with `secret_key` is `STRIPE_SECRET_KEY`.

use super::ConfigError;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The file that is read when `REXEC_CONFIG` names none.
const FILE_DEFAULT: &str = "rexec.toml";
/// Variables of ours that configure the tests and builds, not the server.
const FOREIGN_PREFIXES: [&str; 11] = [
    "REXEC_TEST_",
    "REXEC_BENCH_",
    "REXEC_BUILD_",
    "REXEC_GUEST_",
    "REXEC_ROOT",
    "REXEC_CACHE",
    "REXEC_BIN",
    "REXEC_CHROMIUM",
    "REXEC_DEV_",
    "REXEC_APT_",
    "REXEC_IMAGE",
];

/// The raw settings by source.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    pub env: BTreeMap<String, String>,
    /// The text of `.env`.
    pub dotenv: String,
    /// The text of `rexec.toml`.
    pub file: String,
}

impl Sources {
    /// For tests and embedders: these variables and nothing else.
    pub fn from_env<K: Into<String>, V: Into<String>>(env: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { env: env.into_iter().map(|(k, v)| (k.into(), v.into())).collect(), ..Self::default() }
    }

    pub(super) fn of_process() -> Result<Self, ConfigError> {
        let env: BTreeMap<String, String> =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        let dotenv = read_optional(".env".into())?;
        let named = env.get("REXEC_CONFIG").filter(|path| !path.is_empty());
        let file = match named {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| ConfigError(vec![format!("REXEC_CONFIG={path}: cannot be read: {e}")]))?,
            None => read_optional(FILE_DEFAULT.into())?,
        };
        Ok(Self { env, dotenv, file })
    }
}

fn read_optional(path: PathBuf) -> Result<String, ConfigError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(ConfigError(vec![format!("{}: cannot be read: {e}", path.display())])),
    }
}

/// Takes settings by name; what nobody took is found at the end.
pub(super) struct Reader {
    env: BTreeMap<String, String>,
    dotenv: BTreeMap<String, String>,
    /// By upper-case key, as flattened from the tables.
    file: BTreeMap<String, String>,
    taken: BTreeSet<String>,
    faults: Vec<String>,
    notices: Vec<String>,
}

impl Reader {
    pub fn new(sources: &Sources) -> Self {
        let mut reader = Self {
            env: sources.env.clone(),
            dotenv: BTreeMap::new(),
            file: BTreeMap::new(),
            taken: BTreeSet::from(["REXEC_CONFIG".to_owned()]),
            faults: Vec::new(),
            notices: Vec::new(),
        };
        reader.read_dotenv(&sources.dotenv);
        match sources.file.parse::<toml::Table>() {
            Ok(table) => reader.flatten("", &table),
            Err(e) => reader.faults.push(format!("rexec.toml: {}", e.message())),
        }
        reader
    }

    fn read_dotenv(&mut self, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let Some((name, value)) = line.split_once('=') else {
                self.faults.push(format!(".env line {}: not NAME=value", number + 1));
                continue;
            };
            self.dotenv.insert(name.trim().to_owned(), unquote(value.trim()));
        }
    }

    fn flatten(&mut self, prefix: &str, table: &toml::Table) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.to_ascii_uppercase().replace('-', "_"));
            let text = match value {
                toml::Value::Table(inner) => {
                    self.flatten(&format!("{name}_"), inner);
                    continue;
                }
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(n) => n.to_string(),
                toml::Value::Float(n) => n.to_string(),
                toml::Value::Boolean(b) => b.to_string(),
                toml::Value::Array(items) => items
                    .iter()
                    .map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned))
                    .collect::<Vec<_>>()
                    .join(","),
                toml::Value::Datetime(time) => time.to_string(),
            };
            self.file.insert(name, text);
        }
    }

    /// The first of these names that is set, with the name it was found under. All of the names
    /// count as known, set or not.
    pub fn text(&mut self, names: &[&str]) -> Option<(String, String)> {
        let mut found = None;
        for name in names {
            self.taken.insert((*name).to_owned());
            if found.is_none() {
                found = self.value(name).map(|v| ((*name).to_owned(), v));
            }
        }
        found
    }

    fn value(&self, name: &str) -> Option<String> {
        let in_file = || self.file.get(name).or_else(|| self.file.get(name.strip_prefix("REXEC_")?));
        let set = |v: &&String| !v.trim().is_empty();
        self.env
            .get(name)
            .filter(set)
            .or_else(|| self.dotenv.get(name).filter(set))
            .or_else(|| in_file().filter(set))
            .map(|v| v.trim().to_owned())
    }

    /// A variable of the surroundings that is no setting of ours, such as `HOME`.
    pub fn ambient(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// A whole number within bounds.
    pub fn number(&mut self, names: &[&str], min: u64, max: u64) -> Option<u64> {
        let (name, text) = self.text(names)?;
        match text.parse::<u64>() {
            Ok(n) if (min..=max).contains(&n) => Some(n),
            _ => {
                self.fault(&name, &format!("must be a whole number from {min} to {max}"));
                None
            }
        }
    }

    /// Names that are set and satisfy this: for families such as `OIDC_`.
    pub fn matching(&mut self, belongs: impl Fn(&str) -> bool) -> Vec<String> {
        let names: BTreeSet<String> = [&self.env, &self.dotenv, &self.file]
            .into_iter()
            .flat_map(|source| source.keys())
            .filter(|name| belongs(name))
            .cloned()
            .collect();
        names.into_iter().filter(|name| self.text(&[name]).is_some()).collect()
    }

    /// The value itself is never repeated: it may be a secret.
    pub fn fault(&mut self, name: &str, what: &str) {
        self.faults.push(format!("{name} {what}."));
    }

    pub fn notice(&mut self, sentence: String) {
        self.notices.push(sentence);
    }

    /// The notices, or every fault: those reported, and settings that nobody knows.
    pub fn finish(mut self) -> Result<Vec<String>, ConfigError> {
        let known = |name: &str| self.taken.contains(name) || self.taken.contains(&format!("REXEC_{name}"));
        for name in self.file.keys().filter(|name| !known(name)) {
            self.faults.push(format!("rexec.toml: {} is not a setting.", name.to_ascii_lowercase()));
        }
        for (name, value) in self.env.iter().chain(&self.dotenv) {
            let ours = name.starts_with("REXEC_") && !FOREIGN_PREFIXES.iter().any(|p| name.starts_with(p));
            if ours && !value.trim().is_empty() && !self.taken.contains(name) {
                self.notices.push(format!("{name} is not a setting of this version and was ignored."));
            }
        }
        if self.faults.is_empty() { Ok(self.notices) } else { Err(ConfigError(self.faults)) }
    }
}

/// Takes off one pair of quotes, or a trailing comment where there are none.
fn unquote(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote)) {
            return inner.to_owned();
        }
    }
    value.split(" #").next().unwrap_or_default().trim().to_owned()
}
