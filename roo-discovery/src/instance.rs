//! One instance of a service, and its stored form.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::metadata::Metadata;
use crate::names::{InstanceId, NodeName, ServiceName, Source};
use crate::weight::Weight;

/// One instance of a service. Whatever door it came in by, this is what is known of it.
///
/// The stored form is JSON in one spelling: two equal instances have equal bytes on every node.
///
/// ```json
/// {"version":1,"service":"shop","id":"10.0.0.7:8080","address":"10.0.0.7:8080","source":"api","state":"up","weight":1,
///  "metadata":{"zone":"a"},"ttl_ms":15000}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// What it is an instance of.
    pub service: ServiceName,
    /// Tells it from the others of its service.
    pub id: InstanceId,
    /// Where it listens.
    pub address: Address,
    /// The node it runs on, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The door it came in by.
    pub source: Source,
    /// Whether it takes new requests.
    #[serde(default)]
    pub state: State,
    /// Its share of them.
    #[serde(default)]
    pub weight: Weight,
    /// What it says about itself.
    #[serde(default)]
    pub metadata: Metadata,
    /// How long it stays after it was last heard of; `None`: until it is taken out. Whole milliseconds.
    #[serde(rename = "ttl_ms", default, skip_serializing_if = "Option::is_none", with = "milliseconds")]
    pub ttl: Option<Duration>,
}

/// Whether an instance takes new requests. Whether it is healthy is judged elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does. Next: `Stopping`, or gone.
    #[default]
    Up,
    /// It ends what it has begun and takes nothing new. Next: gone, or `Up` again.
    Stopping,
}

/// The longest stored form, in bytes; whatever keeps the limits of its fields is shorter.
pub const RECORD_BYTES_MAX: usize = 128 * 1024;

/// The only version that there is. A field may be added without a new one, since readers skip what they don't
/// know; a new one tells them that a field no longer means what they think.
const VERSION: u32 = 1;

impl Instance {
    /// Reads the stored form. Fields that this version does not know are skipped: a newer node may have written
    /// them, and whoever owns the record writes it whole.
    ///
    /// # Errors
    /// Says what is wrong; a record of a newer version is refused.
    pub fn parse(bytes: &[u8]) -> Result<Instance, RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLong { bytes: bytes.len() });
        }
        // The version first: what else a newer record holds may not even be readable.
        let Versioned { version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if version != VERSION {
            return Err(RecordError::Version { version });
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }

    /// The stored form, in its one spelling: fields in a fixed order, metadata by name, nothing that is absent.
    pub fn to_json(&self) -> String {
        let record = Record { version: VERSION, instance: self };
        serde_json::to_string(&record).expect("texts and numbers always serialize")
    }
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// More than [`RECORD_BYTES_MAX`].
    #[error("the record is {bytes} bytes long, more than {RECORD_BYTES_MAX}")]
    TooLong {
        /// The length found.
        bytes: usize,
    },
    /// Written by a newer Roo in a form that this one does not know.
    #[error("the record has version {version}, and this node knows version {VERSION} only: update it")]
    Version {
        /// The version found.
        version: u32,
    },
    /// Not JSON, or a field that is missing or not valid.
    #[error("the record is not valid: {fault}")]
    Malformed {
        /// The parser's words.
        fault: String,
    },
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize)]
struct Record<'a> {
    version: u32,
    #[serde(flatten)]
    instance: &'a Instance,
}

fn malformed(fault: serde_json::Error) -> RecordError {
    RecordError::Malformed { fault: fault.to_string() }
}

/// A time in whole milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(ttl: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
#[path = "instance_test.rs"]
mod tests;
