//! Idleness: after how long what happens to a workspace, and what is to come for one.

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// After how long what happens to a workspace, in seconds; 0 or null: never. What is absent is as
/// the server's settings say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct IdleSettings {
    /// Paused after so long without use; it wakes as soon as it is used.
    #[serde(deserialize_with = "null_is_never", skip_serializing_if = "Option::is_none")]
    pub pause_after_s: Option<u64>,
    /// Stopped after so long without use.
    #[serde(deserialize_with = "null_is_never", skip_serializing_if = "Option::is_none")]
    pub stop_after_s: Option<u64>,
    /// Stopped after it has run for so long, used or not.
    #[serde(deserialize_with = "null_is_never", skip_serializing_if = "Option::is_none")]
    pub lifetime_s: Option<u64>,
    /// Deleted after it has been stopped for so long, its owner being warned before; its home is kept
    /// for a while.
    #[serde(deserialize_with = "null_is_never", skip_serializing_if = "Option::is_none")]
    pub delete_after_s: Option<u64>,
}

impl IdleSettings {
    /// What these say, and where they do not, what those do.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            pause_after_s: self.pause_after_s.or(other.pause_after_s),
            stop_after_s: self.stop_after_s.or(other.stop_after_s),
            lifetime_s: self.lifetime_s.or(other.lifetime_s),
            delete_after_s: self.delete_after_s.or(other.delete_after_s),
        }
    }
}

impl Serialize for IdleSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// Derived alone it would take a list, too, for the fields in their order, and an empty one for no change.
impl<'de> Deserialize<'de> for IdleSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Settings;
        impl<'de> Visitor<'de> for Settings {
            type Value = IdleSettings;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object such as {\"stop_after_s\": 3600}")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<IdleSettings, A::Error> {
                IdleSettings::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Settings)
    }
}

/// What is to come for a workspace if nobody uses it from now on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IdleView {
    /// RFC 3339, as are all of these; absent while it has never run.
    pub last_active_at: Option<String>,
    pub pauses_at: Option<String>,
    pub stops_at: Option<String>,
    pub deletes_at: Option<String>,
    /// Its owner has been warned that it will be deleted.
    #[serde(default)]
    pub deletion_announced: bool,
    /// The same for people.
    pub sentence: String,
    /// What holds for it: each of them is there, 0 being never.
    #[serde(default)]
    pub in_force: IdleSettings,
    /// What it says itself of that.
    #[serde(default)]
    pub own: IdleSettings,
}

fn null_is_never<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or(0)))
}

/// For a field where null says something else than its absence.
pub(crate) fn null_is_said<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}
