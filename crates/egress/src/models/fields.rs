//! The fields of one JSON object, each value as it was sent: nothing below the first level is taken apart, so that a
//! picture in a request costs no more than its bytes.
//!
//! Invariant: no two fields have the same name, however they are escaped: of two, one vendor takes the first and another
//! the last (RFC 8259, section 4).

use bytes::Bytes;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::borrow::Cow;
use std::fmt;

/// More than any object of these APIs has. One that has more is refused.
pub const FIELDS_MAX: usize = 128;

/// In their order.
#[derive(Debug)]
pub struct Fields<'a>(Vec<(String, Cow<'a, RawValue>)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadFields {
    /// It is no JSON object, or one of more than [`FIELDS_MAX`] fields.
    Shape,
    Twice,
}

impl<'a> Fields<'a> {
    pub fn read(json: &'a [u8]) -> Result<Self, BadFields> {
        let fields: Self = serde_json::from_slice(json).map_err(|_| BadFields::Shape)?;
        let mut names: Vec<&str> = fields.names().collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) { Err(BadFields::Twice) } else { Ok(fields) }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    /// `Ok(None)`: it is not there, or null. `Err(())`: it is something else.
    pub fn read_as<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ()> {
        let Some(value) = self.get(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map_err(|_| ())
    }

    /// In the place of what was there, or as the last.
    pub fn set(&mut self, name: &str, value: &impl Serialize) -> Result<(), BadFields> {
        let value = Cow::Owned(to_raw_value(value).map_err(|_| BadFields::Shape)?);
        match self.0.iter_mut().find(|(other, _)| other == name) {
            Some((_, before)) => *before = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    pub fn retain(&mut self, names: &[&str]) {
        self.0.retain(|(name, _)| names.contains(&name.as_str()));
    }

    pub fn write(&self) -> Result<Bytes, BadFields> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|_| BadFields::Shape)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Vec<(String, Cow<'de, RawValue>)>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "an object of at most {FIELDS_MAX} fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = from.next_entry::<String, &'de RawValue>()? {
            if fields.len() == FIELDS_MAX {
                return Err(A::Error::invalid_length(FIELDS_MAX + 1, &self));
            }
            fields.push((name, Cow::Borrowed(value)));
        }
        Ok(fields)
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Bytes, BadFields> {
        Fields::read(json.as_bytes()).and_then(|fields| fields.write())
    }

    #[test]
    fn values_stay_as_they_are() {
        assert_eq!(
            read(" {\"b\" : [1, 2.50e1] ,\"a\":{\"x\":1,\"x\":2}}\n").unwrap(),
            r#"{"b":[1, 2.50e1],"a":{"x":1,"x":2}}"#
        );
        let mut fields = Fields::read(br#"{"a":1,"b":null}"#).unwrap();
        fields.set("a", &"\"").unwrap();
        fields.set("c", &[1]).unwrap();
        assert_eq!(fields.write().unwrap(), r#"{"a":"\"","b":null,"c":[1]}"#);
        assert_eq!(fields.read_as::<u64>("b"), Ok(None));
        assert_eq!(fields.read_as::<u64>("d"), Ok(None));
        assert_eq!(fields.read_as::<u64>("a"), Err(()));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let many =
            |count: usize| format!("{{{}}}", (0..count).map(|at| format!("\"{at}\":0")).collect::<Vec<_>>().join(","));
        assert!(read(&many(FIELDS_MAX)).is_ok());
        for json in [
            "",
            "null",
            "[]",
            "1",
            "{",
            "{}x",
            "{} {}",
            "{\"a\"}",
            "{\"\\ud800\":1}",
            "\u{feff}{}",
            &many(FIELDS_MAX + 1),
        ] {
            assert_eq!(read(json), Err(BadFields::Shape), "{json}");
        }
        assert!(Fields::read(b"{\"a\":\"\xff\"}").is_err());
        for json in [r#"{"a":1,"a":1}"#, r#"{"model":1,"mod\u0065l":1}"#, r#"{"a":1,"b":{},"a":null}"#] {
            assert_eq!(read(json), Err(BadFields::Twice), "{json}");
        }
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(read(&deep).unwrap(), deep);
    }
}
