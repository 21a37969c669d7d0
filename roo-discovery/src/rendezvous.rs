//! Rendezvous hashing: which of several instances a key belongs to.
//!
//! Each instance gets a score from its id and the key, and the highest wins. Everybody who knows the same ids names the
//! same one, without asking anybody; when an instance goes, only its own keys move, and when one comes, it takes its
//! share from all.
//!
//! D. G. Thaler, C. V. Ravishankar: "Using name-based mappings to increase hit rates", IEEE/ACM Transactions on
//! Networking 6(1), 1998.

use twox_hash::XxHash64;

use crate::instance::Instance;

/// The instance of the highest score for `key`; of two with the same score, that of the lower id.
///
/// XXH64 is the same on every machine and in every version, which the standard library's hash does not promise.
pub(crate) fn highest<'a>(key: &str, instances: impl Iterator<Item = &'a Instance>) -> Option<&'a Instance> {
    let seed = XxHash64::oneshot(0, key.as_bytes());
    let score = |instance: &Instance| XxHash64::oneshot(seed, instance.id.as_str().as_bytes());
    instances.max_by(|a, b| score(a).cmp(&score(b)).then_with(|| b.id.cmp(&a.id)))
}
