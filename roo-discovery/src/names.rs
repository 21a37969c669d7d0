//! What services, instances, nodes and doors are called. A text that breaks its rule never becomes a name.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} can't be {what}: {rule}")]
pub struct NameError {
    /// The text as found, at most a line of it.
    pub text: String,
    /// What it should have named.
    pub what: &'static str,
    /// What is asked of it.
    pub rule: &'static str,
}

impl NameError {
    fn new(text: &str, what: &'static str, rule: &'static str) -> NameError {
        NameError { text: text.chars().take(200).collect(), what, rule }
    }
}

/// A checked text. `$normal` gives the one spelling that is kept, or nothing if the rule is broken.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $normal:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The one spelling.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<$name, NameError> {
                let normal: fn(&str) -> Option<String> = $normal;
                match normal(text) {
                    Some(text) => Ok($name(text.into())),
                    None => Err(NameError::new(text, $what, $rule)),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<$name, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        // Equal, ordered and hashed as the text: maps may be asked by it.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

name! {
    /// The name of a service: one label of a host name (RFC 1035 §2.3.1) that may hold `_`, since Swarm's
    /// services are called `stack_service`. Lower case, whatever it was written in.
    ServiceName,
    "the name of a service",
    "use 1 to 63 letters, digits, - and _, beginning and ending with a letter or digit",
    |text| is_label(text).then(|| text.to_ascii_lowercase())
}

name! {
    /// Tells the instances of one service apart. Any door may choose as it likes: an address, a task's id, a
    /// host's name. Case counts.
    InstanceId,
    "the id of an instance",
    "use 1 to 128 letters, digits and -._:@[], not dots alone",
    |text| {
        // A segment of dots alone has a meaning of its own in a URL.
        let fits = is_made_of(text, 128, b"-._:@[]") && text.bytes().any(|byte| byte != b'.');
        fits.then(|| text.to_owned())
    }
}

name! {
    /// How the cluster calls one of its nodes. Case counts.
    NodeName,
    "the name of a node",
    "use 1 to 64 letters, digits and -._",
    |text| is_made_of(text, 64, b"-._").then(|| text.to_owned())
}

name! {
    /// The door through which an instance came in. Only that door changes or removes it by itself.
    Source,
    "the source of an instance",
    "use 1 to 32 lower-case letters, digits and -",
    |text| {
        let fits = is_made_of(text, 32, b"-") && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        fits.then(|| text.to_owned())
    }
}

impl Source {
    /// Registered by a call of the API.
    pub fn api() -> Source {
        Source("api".into())
    }
}

fn is_made_of(text: &str, bytes_max: usize, marks: &[u8]) -> bool {
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || marks.contains(&b))
}

fn is_label(text: &str) -> bool {
    let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    is_made_of(text, 63, b"-_") && is_edge(text.bytes().next()) && is_edge(text.bytes().next_back())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_service_is_one_label_in_lower_case() {
        for (text, name) in [("shop", "shop"), ("Stack_Web-2", "stack_web-2"), ("7", "7")] {
            assert_eq!(text.parse::<ServiceName>().unwrap().as_str(), name);
        }
        for text in ["", "a.b", "-a", "a_", "a b", "a:b", "ü", &"a".repeat(64)] {
            assert!(text.parse::<ServiceName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_id_may_be_an_address() {
        for text in ["10.0.0.7:8080", "[::1]:80", "web.1@Host", "01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
            assert_eq!(text.parse::<InstanceId>().unwrap().as_str(), text);
        }
        for text in ["", ".", "..", "a/b", "a b", "a%", &"a".repeat(129)] {
            assert!(text.parse::<InstanceId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_asked() {
        let error = "Api".parse::<Source>().unwrap_err().to_string();
        assert_eq!(error, "\"Api\" can't be the source of an instance: use 1 to 32 lower-case letters, digits and -");
        assert_eq!(Source::api(), "api".parse().unwrap());
    }
}
