//! What serde, numbers and ids say of a value that does not fit, in plain words: pure.
//!
//! A message names the field and what it must be. One that is not known here is kept as it is: those of our own
//! types are plain already.

/// An id as an example.
pub const ID: &str = "01a1c3f0-6b1e-7c3a-8f00-1234567890ab";

/// A whole sentence about a field; empty for the value as a whole.
pub fn of(field: &str, message: &str) -> String {
    let it = if field.is_empty() { "The body".to_owned() } else { format!("`{field}`") };
    if let Some(rest) = message.strip_prefix("missing field ") {
        return format!("`{}` is missing.", within_parent(field, &quoted(rest)));
    }
    if let Some(rest) = message.strip_prefix("duplicate field ") {
        return format!("`{}` is there twice.", within_parent(field, &quoted(rest)));
    }
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let known = known(rest).map_or_else(|| "There is none to set.".into(), |known| format!("Known are {known}."));
        return format!("`{}` is not known here. {known}", quoted(rest));
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let known = known(rest).unwrap_or_default();
        let must = if known.contains(", ") { format!("one of {known}") } else { known };
        return format!("{it} must be {must}, and not `{}`.", quoted(rest));
    }
    for start in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((given, wanted)) = message.strip_prefix(start).and_then(|rest| rest.rsplit_once(", expected ")) {
            return format!("{it} must be {}{}.", expected(wanted), seen(given, start));
        }
    }
    let wanted = match message {
        text if text.starts_with("UUID parsing failed") => format!("an id such as {ID}"),
        "invalid digit found in string" | "cannot parse integer from empty string" => "a whole number".into(),
        "number too large to fit in target type" => "a smaller number".into(),
        "number too small to fit in target type" => "a larger number".into(),
        "invalid float literal" | "cannot parse float from empty string" => "a number".into(),
        "provided string was not `true` or `false`" => "`true` or `false`".into(),
        text if text.starts_with("data did not match any variant") => "in one of the forms that are described".into(),
        text => return format!("{it} does not fit: {}.", text.trim_end_matches('.')),
    };
    format!("{it} must be {wanted}.")
}

/// A parameter of a path, such as `id` in `/api/workspaces/{id}`.
pub fn of_path(route: &str, name: &str) -> String {
    if name == "port" {
        return "`port` must be a port's number, from 1 to 65535.".into();
    }
    let before = route.split_once(&format!("/{{{name}}}")).and_then(|(before, _)| before.rsplit('/').next());
    let what = match before {
        _ if name == "workspace" => "a workspace's id".into(),
        Some(plural) => match plural.strip_suffix("ies") {
            Some(stem) => format!("a {stem}y's id"),
            None => format!("a {}'s id", plural.trim_end_matches('s')),
        },
        None => "an id".into(),
    };
    format!("`{name}` must be {what}, such as {ID}.")
}

/// A field's name below its parent's; serde blames the parent, whose name may end with it already.
pub fn within_parent(parent: &str, name: &str) -> String {
    match parent {
        "" => name.to_owned(),
        parent if parent == name || parent.ends_with(&format!(".{name}")) => parent.to_owned(),
        parent => format!("{parent}.{name}"),
    }
}

/// The first name between backticks.
fn quoted(text: &str) -> String {
    text.split('`').nth(1).unwrap_or(text).to_owned()
}

/// The names after `expected`.
fn known(text: &str) -> Option<String> {
    let names = text.split_once(", expected ")?.1;
    let names: Vec<String> = names.split('`').skip(1).step_by(2).map(|name| format!("`{name}`")).collect();
    Some(names.join(", ")).filter(|names| !names.is_empty())
}

fn expected(what: &str) -> String {
    let plain = match what {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "u128" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "a borrowed string" | "string" | "str" => "text",
        "a character" => "one character",
        "a sequence" => "a list",
        "a map" | "internally tagged enum" | "adjacently tagged enum" => "an object",
        "unit" | "null" => "null",
        "a formatted UUID string" | "a UUID string" => return format!("an id such as {ID}"),
        what if what.starts_with("struct ") => "an object",
        what if what.starts_with("a tuple") || what.starts_with("tuple ") => "a list",
        what if what.starts_with("variant") || what.starts_with("string or map") => "text or an object",
        what => what,
    };
    plain.to_owned()
}

/// What was given instead, for the end of the sentence.
fn seen(given: &str, start: &str) -> String {
    let (kind, value) = given.split_once(' ').unwrap_or((given, ""));
    match kind {
        "string" if start == "invalid value: " => format!(", and not {value}"),
        "string" | "character" => ", and not text".into(),
        "integer" | "floating" => format!(", and not {}", value.trim_start_matches("point ").trim_matches('`')),
        "boolean" => format!(", and not {}", value.trim_matches('`')),
        "null" | "unit" => ", and not null".into(),
        "sequence" => ", and not a list".into(),
        "map" => ", and not an object".into(),
        _ => String::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Body {
        cpu: Option<f64>,
        port: Option<u16>,
        pids: Option<u64>,
        command: Vec<String>,
        nested: Option<bool>,
        kind: Option<Kind>,
        id: Option<uuid::Uuid>,
        idle: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        minutes: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Big,
        Small,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Asked {
        limit: Option<u32>,
        all: Option<bool>,
    }

    #[test]
    fn a_body_that_does_not_fit_is_told_plainly() {
        let id = format!("`id` must be an id such as {ID}.");
        for (body, field, told) in [
            (r#"{"cpu":"two","command":[]}"#, "cpu", "`cpu` must be a number, and not text."),
            (r#"{"command":"ls"}"#, "command", "`command` must be a list, and not text."),
            (r#"{"command":[1]}"#, "command[0]", "`command[0]` must be text, and not 1."),
            (r#"{"command":null}"#, "command", "`command` must be a list, and not null."),
            (r#"{"command":[],"port":70000}"#, "port", "`port` must be a whole number from 0 to 65535, and not 70000."),
            (r#"{"command":[],"pids":-1}"#, "pids", "`pids` must be a whole number, 0 or more, and not -1."),
            (r#"{"command":[],"pids":1.5}"#, "pids", "`pids` must be a whole number, 0 or more, and not 1.5."),
            (r#"{"command":[],"nested":"yes"}"#, "nested", "`nested` must be true or false, and not text."),
            (r#"{"command":[],"kind":"huge"}"#, "kind", "`kind` must be one of `big`, `small`, and not `huge`."),
            (r#"{"command":[],"id":"x"}"#, "id", &id),
            (r#"{"command":[],"idle":[]}"#, "idle", "`idle` must be an object."),
            (r#"{"command":[],"idle":{}}"#, "idle.minutes", "`idle.minutes` is missing."),
            (r#"{}"#, "command", "`command` is missing."),
            (r#"{"command":[],"command":[]}"#, "command", "`command` is there twice."),
            (r#""text""#, "", "The body must be an object, and not text."),
        ] {
            let error = crate::http::extract::parse_json::<Body>(body.as_bytes()).unwrap_err();
            assert_eq!((error.details["field"].as_str(), &*error.message), (Some(field), told), "{body}");
        }
        let error = crate::http::extract::parse_json::<Body>(br#"{"command":[],"size":1}"#).unwrap_err();
        assert!(error.message.starts_with("`size` is not known here. Known are `cpu`, `port`,"), "{}", error.message);
    }

    #[test]
    fn a_query_that_does_not_fit_too() {
        let asked = |query: &str| {
            let uri: http::Uri = format!("http://a/?{query}").parse().unwrap();
            let error = axum::extract::Query::<Asked>::try_from_uri(&uri).unwrap_err();
            crate::http::extract::query_error(&error.body_text())
        };
        for (query, field, told) in [
            ("limit=many", "limit", "`limit` must be a whole number."),
            ("limit=99999999999", "limit", "`limit` must be a smaller number."),
            ("all=perhaps", "all", "`all` must be `true` or `false`."),
        ] {
            let error = asked(query);
            assert_eq!((error.details["field"].as_str(), &*error.message), (Some(field), told), "{query}");
        }
    }

    #[test]
    fn a_path_names_what_it_wants() {
        let told = |noun: &str| format!("`id` must be {noun}, such as {ID}.");
        assert_eq!(of_path("/api/workspaces/{id}/files", "id"), told("a workspace's id"));
        assert_eq!(of_path("/api/registries/{id}", "id"), told("a registry's id"));
        assert_eq!(of_path("/api/ssh/keys/{id}", "id"), told("a key's id"));
        assert_eq!(of_path("", "id"), told("an id"));
        assert!(of_path("/api/ssh/sync/{workspace}", "workspace").starts_with("`workspace` must be a workspace's id"));
        assert!(of_path("/api/workspaces/{id}/ports/{port}", "port").contains("from 1 to 65535"));
    }

    #[test]
    fn our_own_words_are_kept() {
        assert_eq!(of("x", "it is too long."), "`x` does not fit: it is too long.");
    }
}
