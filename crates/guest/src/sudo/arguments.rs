//! `sudo`'s command line: pure.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    pub mode: Mode,
    pub user: Option<String>,
    pub keep_env: bool,
    /// Variables kept by name (`--preserve-env=A,B`).
    pub keep: Vec<String>,
    pub cwd: Option<String>,
    /// `VAR=value` before the command.
    pub env: BTreeMap<String, String>,
    pub command: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Run,
    Shell,
    Login,
    Validate,
    List,
    /// `-k` and `-K`: there is nothing remembered that could be forgotten.
    Forget,
    Help,
    Version,
}

pub const USAGE: &str = "usage: sudo [-EHn] [-u user] [-D directory] [-i | -s] [VAR=value] [command ...]\n       \
     sudo -v | -l | -k | -h | -V";

/// What follows an option that takes a value: the rest of the word, or the next word.
fn value(name: &str, attached: &str, rest: &mut impl Iterator<Item = String>) -> Result<String, String> {
    if !attached.is_empty() {
        return Ok(attached.trim_start_matches('=').to_owned());
    }
    rest.next().ok_or_else(|| format!("option {name} needs a value"))
}

pub fn parse(words: Vec<String>) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next_if(|word| word.starts_with('-') && word != "-") {
        if word == "--" {
            break;
        }
        match word.strip_prefix("--") {
            Some(long) => parse_long(long, &mut words, &mut parsed)?,
            None => parse_short(&word[1..], &mut words, &mut parsed)?,
        }
    }
    while let Some(word) = words.next_if(|word| is_assignment(word)) {
        if let Some((name, value)) = word.split_once('=') {
            parsed.env.insert(name.to_owned(), value.to_owned());
        }
    }
    parsed.command = words.collect();
    if parsed.mode == Mode::Run && parsed.command.is_empty() {
        return Err("no command given".into());
    }
    Ok(parsed)
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

fn parse_long(word: &str, rest: &mut impl Iterator<Item = String>, parsed: &mut Arguments) -> Result<(), String> {
    let (name, attached) = match word.split_once('=') {
        Some((name, attached)) => (name, Some(attached)),
        None => (word, None),
    };
    match (name, attached) {
        ("preserve-env", Some(names)) => {
            parsed.keep.extend(names.split(',').map(str::to_owned));
            Ok(())
        }
        (_, Some(attached)) => match name {
            "user" => parse_short(&format!("u{attached}"), rest, parsed),
            "chdir" => parse_short(&format!("D{attached}"), rest, parsed),
            "prompt" => Ok(()),
            _ => Err(format!("unknown option --{name}")),
        },
        ("user", None) => parse_short("u", rest, parsed),
        ("chdir", None) => parse_short("D", rest, parsed),
        ("prompt", None) => parse_short("p", rest, parsed),
        ("preserve-env", None) => parse_short("E", rest, parsed),
        ("login", None) => parse_short("i", rest, parsed),
        ("shell", None) => parse_short("s", rest, parsed),
        ("validate", None) => parse_short("v", rest, parsed),
        ("list", None) => parse_short("l", rest, parsed),
        ("reset-timestamp" | "remove-timestamp", None) => parse_short("k", rest, parsed),
        ("help", None) => parse_short("h", rest, parsed),
        ("version", None) => parse_short("V", rest, parsed),
        ("non-interactive" | "set-home" | "stdin" | "askpass", None) => Ok(()),
        _ => Err(format!("unknown option --{name}")),
    }
}

fn parse_short(letters: &str, rest: &mut impl Iterator<Item = String>, parsed: &mut Arguments) -> Result<(), String> {
    let mut letters = letters.chars();
    while let Some(letter) = letters.next() {
        match letter {
            'u' => parsed.user = Some(value("-u", letters.as_str(), rest)?),
            'D' => parsed.cwd = Some(value("-D", letters.as_str(), rest)?),
            // No password is ever asked for, so its prompt is of no use.
            'p' => drop(value("-p", letters.as_str(), rest)?),
            'E' => parsed.keep_env = true,
            'i' => parsed.mode = Mode::Login,
            's' => parsed.mode = Mode::Shell,
            'v' => parsed.mode = Mode::Validate,
            'l' => parsed.mode = Mode::List,
            // With a command, `-k` only means to ask for the password again.
            'k' | 'K' => {
                if parsed.mode == Mode::Run {
                    parsed.mode = Mode::Forget;
                }
            }
            'h' => parsed.mode = Mode::Help,
            'V' => parsed.mode = Mode::Version,
            'n' | 'H' | 'S' | 'A' | 'B' => {}
            _ => return Err(format!("unknown option -{letter}")),
        }
        if matches!(letter, 'u' | 'D' | 'p') {
            break;
        }
    }
    Ok(())
}

/// One command line for a shell out of separate words, as `sudo -i` and `sudo -s` have it.
pub fn shell_line(words: &[String]) -> String {
    let escape = |word: &String| {
        let mut escaped = String::with_capacity(word.len());
        for c in word.chars() {
            if !c.is_alphanumeric() && !matches!(c, '_' | '-' | '$') {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        escaped
    };
    words.iter().map(escape).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        parse(line.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect())
    }

    #[test]
    fn the_usual_command_lines_are_understood() {
        let plain = parsed("apt-get install -y vim").unwrap();
        assert_eq!(plain.command, ["apt-get", "install", "-y", "vim"]);
        assert_eq!(plain.mode, Mode::Run);

        let full = parsed("-nEu www A=1 B_2= env -i").unwrap();
        assert_eq!(full.user.as_deref(), Some("www"));
        assert!(full.keep_env);
        assert_eq!(full.env["A"], "1");
        assert_eq!(full.env["B_2"], "");
        assert_eq!(full.command, ["env", "-i"]);

        assert_eq!(parsed("-uroot id").unwrap().user.as_deref(), Some("root"));
        assert_eq!(parsed("--user=ann id").unwrap().user.as_deref(), Some("ann"));
        assert_eq!(parsed("--user ann id").unwrap().user.as_deref(), Some("ann"));
        assert_eq!(parsed("-D /tmp pwd").unwrap().cwd.as_deref(), Some("/tmp"));
        assert_eq!(parsed("-- -x").unwrap().command, ["-x"]);
        assert_eq!(parsed("-i").unwrap().mode, Mode::Login);
        assert_eq!(parsed("-s id").unwrap().command, ["id"]);
        assert_eq!(parsed("-v").unwrap().mode, Mode::Validate);
        assert_eq!(parsed("-nv").unwrap().mode, Mode::Validate);
        assert_eq!(parsed("-l").unwrap().mode, Mode::List);
        assert_eq!(parsed("-k").unwrap().mode, Mode::Forget);
        assert_eq!(parsed("--preserve-env=A,B id").unwrap().keep, ["A", "B"]);
        assert_eq!(parsed("-p x id").unwrap().command, ["id"]);
        assert_eq!(parsed("./a=b").unwrap().command, ["./a=b"]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in ["", "-u", "-x id", "--nope id", "A=1", "-g adm id"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn words_stay_words_in_a_shell() {
        let words = ["echo", "a b;c", "$HOME"].map(str::to_owned);
        assert_eq!(shell_line(&words), r"echo a\ b\;c $HOME");
    }
}
