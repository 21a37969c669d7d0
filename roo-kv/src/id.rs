//! Names of things that are numbers: nodes, clusters, leases, revisions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One point in the history of the store; grows by one with every transaction that changed something.
///
/// `Revision(0)` is the empty store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text was not a hexadecimal identity of 1 to 16 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identity is written as 1 to 16 hexadecimal digits")]
pub struct ParseIdError;

macro_rules! hexadecimal_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:016x})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(ParseIdError);
                }
                u64::from_str_radix(text, 16).map(Self).map_err(|_| ParseIdError)
            }
        }

        // As text, because readers of JSON commonly lose digits of 64-bit numbers.
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_u64(self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    u64::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

hexadecimal_id! {
    /// Identity of a node: random, made together with its data directory, never derived from a host name.
    NodeId
}

hexadecimal_id! {
    /// Identity of a cluster: random, chosen by the node that founded it.
    ClusterId
}

hexadecimal_id! {
    /// Identity of a lease.
    LeaseId
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn identities_read_what_they_print() {
        let id = NodeId(0x00ab_cdef_0123_4567);
        assert_eq!(id.to_string(), "00abcdef01234567");
        assert_eq!(id.to_string().parse::<NodeId>().unwrap(), id);
    }

    #[test]
    fn identities_refuse_other_text() {
        for text in ["", "xyz", "+1", "-1", "0x1", "11112222333344445"] {
            assert_eq!(text.parse::<ClusterId>(), Err(ParseIdError), "{text}");
        }
    }
}
