//! What several calls take behind `?`.

use roo_kv::ReadLevel;
use serde::{Deserialize, Deserializer};

/// `level=linearizable|leader|stale`.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LevelName {
    #[default]
    Linearizable,
    Leader,
    Stale,
}

impl From<LevelName> for ReadLevel {
    fn from(name: LevelName) -> Self {
        match name {
            LevelName::Linearizable => Self::Linearizable,
            LevelName::Leader => Self::Leader,
            LevelName::Stale => Self::Stale,
        }
    }
}

/// `name=1` or `name=true`; without the name it is off.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "1" | "true" | "" => Ok(true),
        "0" | "false" => Ok(false),
        other => Err(serde::de::Error::custom(format!("`{other}` is neither 1 nor 0"))),
    }
}
