//! Who was refused, so that each is logged once for each reason and not at every try.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Refusals that are remembered. Beyond these nothing more is logged: somebody tries from everywhere.
const REFUSALS_MAX: usize = 1024;

/// Refusals so far.
#[derive(Default)]
pub(crate) struct Strangers(Mutex<HashSet<(IpAddr, String)>>);

impl Strangers {
    /// Whether this is to be logged.
    fn is_news(&self, address: IpAddr, reason: &str) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REFUSALS_MAX {
            return false;
        }
        let news = seen.insert((address, reason.to_owned()));
        if seen.len() == REFUSALS_MAX {
            tracing::warn!(refusals = REFUSALS_MAX, "further refusals of peers are not logged");
        }
        news
    }

    /// Somebody who came was not let in.
    pub(crate) fn refused(&self, address: IpAddr, reason: &str) {
        if self.is_news(address, reason) {
            tracing::warn!(%address, reason, "refused a peer: it did not prove that it knows the cluster's secret");
        }
    }

    /// Somebody who was dialed is not one of us.
    pub(crate) fn shunned(&self, address: IpAddr, reason: &str) {
        if self.is_news(address, reason) {
            tracing::warn!(
                %address, reason,
                "a peer did not prove that it knows this node's secret: it belongs to another cluster, or one of the two \
                 has an outdated secret; the secret must be the same on all nodes"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_news_once_for_each_reason_and_their_number_is_bounded() {
        let strangers = Strangers::default();
        let at = |n: u32| IpAddr::from(n.to_be_bytes());
        assert!(strangers.is_news(at(1), "a") && !strangers.is_news(at(1), "a"));
        assert!(strangers.is_news(at(1), "b") && strangers.is_news(at(2), "a"));
        let news = (3..3000).filter(|n| strangers.is_news(at(*n), "a")).count();
        assert_eq!(news, REFUSALS_MAX - 3);
    }
}
