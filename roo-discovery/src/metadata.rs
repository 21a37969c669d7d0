//! What an instance says about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Pairs of texts, sorted by name: a version, a zone, whatever the readers agree on. At most 64 of them; a name has
/// 1 to 64 bytes, a value at most 512; neither holds control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// Checks the pairs.
    ///
    /// # Errors
    /// Names the first pair that breaks a limit.
    pub fn try_new(pairs: BTreeMap<String, String>) -> Result<Metadata, MetadataError> {
        if pairs.len() > PAIRS_MAX {
            return Err(MetadataError::TooMany { count: pairs.len() });
        }
        for (name, value) in &pairs {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
                return Err(MetadataError::Name { name: name.chars().take(200).collect() });
            }
            if value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control) {
                return Err(MetadataError::Value { name: name.clone() });
            }
        }
        Ok(Metadata(pairs))
    }

    /// The value under a name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl TryFrom<BTreeMap<String, String>> for Metadata {
    type Error = MetadataError;

    fn try_from(pairs: BTreeMap<String, String>) -> Result<Metadata, MetadataError> {
        Metadata::try_new(pairs)
    }
}

impl From<Metadata> for BTreeMap<String, String> {
    fn from(metadata: Metadata) -> BTreeMap<String, String> {
        metadata.0
    }
}

/// Why pairs are not metadata.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// More than 64.
    #[error("the metadata has {count} pairs, more than 64")]
    TooMany {
        /// How many were found.
        count: usize,
    },
    /// Empty, longer than 64 bytes, or with a control character.
    #[error("{name:?} can't be a name in metadata: use 1 to 64 bytes without control characters")]
    Name {
        /// The name as found.
        name: String,
    },
    /// Longer than 512 bytes, or with a control character.
    #[error("the value of {name:?} in the metadata has more than 512 bytes or a control character")]
    Value {
        /// The name of the pair.
        name: String,
    },
}

const PAIRS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn limits_are_kept() {
        let of = |pairs: &[(&str, &str)]| {
            Metadata::try_new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        assert_eq!(of(&[("zone", "a"), ("version", "1")]).unwrap().value("zone"), Some("a"));
        assert!(of(&[("n", &"v".repeat(512))]).is_ok());
        assert!(matches!(of(&[("n", &"v".repeat(513))]), Err(MetadataError::Value { .. })));
        assert!(matches!(of(&[("n", "a\nb")]), Err(MetadataError::Value { .. })));
        for name in ["", "a\tb", &"n".repeat(65)] {
            assert!(matches!(of(&[(name, "")]), Err(MetadataError::Name { .. })), "{name:?}");
        }
        let many = (0..65).map(|k| (k.to_string(), String::new())).collect();
        assert_eq!(Metadata::try_new(many), Err(MetadataError::TooMany { count: 65 }));
    }
}
