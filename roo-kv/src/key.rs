//! The name of an entry.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4096;

/// The name of an entry: any UTF-8 text of 1 to [`KEY_BYTES_MAX`] bytes without a NUL. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(Arc<str>);

impl Key {
    /// Checks the text and makes a key of it.
    ///
    /// # Errors
    /// [`KeyError`] names the fault.
    pub fn try_new(text: impl Into<Arc<str>>) -> Result<Self, KeyError> {
        let text = text.into();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong { bytes: text.len() });
        }
        match text.bytes().position(|b| b == 0) {
            Some(offset) => Err(KeyError::Nul { offset }),
            None => Ok(Self(text)),
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text cannot be a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text has no bytes.
    #[error("a key cannot be empty")]
    Empty,
    /// The text is longer than [`KEY_BYTES_MAX`].
    #[error("a key has at most {KEY_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// Bytes in the refused text.
        bytes: usize,
    },
    /// The text holds a NUL character.
    #[error("a key cannot contain a NUL character; there is one at byte {offset}")]
    Nul {
        /// Where the first one is.
        offset: usize,
    },
    /// The bytes are not UTF-8.
    #[error("a key must be UTF-8 text; the bytes after {valid_up_to} are not")]
    NotUtf8 {
        /// Bytes before the fault.
        valid_up_to: usize,
    },
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        Self::try_new(text)
    }
}

impl TryFrom<&str> for Key {
    type Error = KeyError;

    fn try_from(text: &str) -> Result<Self, KeyError> {
        Self::try_new(text)
    }
}

impl TryFrom<&[u8]> for Key {
    type Error = KeyError;

    fn try_from(bytes: &[u8]) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(bytes).map_err(|e| KeyError::NotUtf8 { valid_up_to: e.valid_up_to() })?;
        Self::try_new(text)
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::try_new(text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.as_str().to_owned()
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ordinary_and_strange_keys_are_accepted() {
        for text in ["a", "com.roo.host:shop.example:https", "a/b c", "ключ", &"x".repeat(KEY_BYTES_MAX)] {
            assert_eq!(text.parse::<Key>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn faults_are_named() {
        assert_eq!("".parse::<Key>(), Err(KeyError::Empty));
        assert_eq!("ab\0c".parse::<Key>(), Err(KeyError::Nul { offset: 2 }));
        assert_eq!("x".repeat(4097).parse::<Key>(), Err(KeyError::TooLong { bytes: 4097 }));
        assert_eq!(Key::try_from(&b"a\xff"[..]), Err(KeyError::NotUtf8 { valid_up_to: 1 }));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_either_a_key_or_a_named_fault(text in ".{0,200}") {
            match text.parse::<Key>() {
                Ok(key) => assert_eq!(key.as_str(), text),
                Err(KeyError::Empty) => assert!(text.is_empty()),
                Err(KeyError::Nul { offset }) => assert_eq!(text.as_bytes()[offset], 0),
                Err(other) => panic!("{other}"),
            }
        }
    }
}
