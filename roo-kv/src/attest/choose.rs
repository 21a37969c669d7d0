//! Which secret a node goes by that was given none.

use super::channel::Gift;
use crate::secret::SecretId;

/// Whose secret to take in place of the own one; `None`: the own one stays.
///
/// That of a member of a cluster if there is any, of several the one whose cluster is settled and then the one with the
/// lowest identity. Else the one with the lowest id: each node that takes another's gets one that is lower than its own, and
/// nodes that see each other end with the same one.
pub(super) fn choose(own: SecretId, offers: &[Gift]) -> Option<&Gift> {
    let member =
        offers.iter().filter(|offer| offer.cluster().is_some()).min_by_key(|offer| (!offer.settled, offer.cluster()));
    let chosen = member.or_else(|| {
        let lowest = offers.iter().min_by_key(|offer| offer.secret_id);
        lowest.filter(|offer| offer.secret_id < own)
    });
    chosen.filter(|offer| offer.secret_id != own)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::id::{ClusterId, NodeId};
    use crate::peer::StandingForm;

    fn id(n: u64) -> SecretId {
        format!("{n:x}").parse().unwrap()
    }

    fn offer(secret: u64, cluster: Option<u64>, settled: bool) -> Gift {
        let standing =
            cluster.map_or(StandingForm::Pristine, |cluster| StandingForm::Member { cluster: ClusterId(cluster) });
        Gift { secret: String::new(), secret_id: id(secret), node: NodeId(secret), standing, settled }
    }

    fn taken(own: u64, offers: &[Gift]) -> Option<SecretId> {
        choose(id(own), offers).map(|gift| gift.secret_id)
    }

    #[test]
    fn a_member_counts_more_than_a_low_id() {
        assert_eq!(taken(5, &[]), None);
        assert_eq!(taken(5, &[offer(7, None, false)]), None);
        assert_eq!(taken(5, &[offer(7, None, false), offer(3, None, false), offer(4, None, false)]), Some(id(3)));
        assert_eq!(taken(5, &[offer(3, None, false), offer(9, Some(1), false)]), Some(id(9)));
        assert_eq!(taken(5, &[offer(8, Some(1), false), offer(9, Some(2), true)]), Some(id(9)));
        assert_eq!(taken(5, &[offer(9, Some(2), true), offer(8, Some(1), true)]), Some(id(8)));
        assert_eq!(taken(5, &[offer(5, Some(1), false), offer(3, None, false)]), None, "the member's is the own one");
    }

    proptest! {
        /// In whatever order free nodes ask whomever, once all have asked all they have the same.
        #[test]
        fn free_nodes_end_with_the_lowest(
            first in prop::collection::vec(1_u64..1000, 2..6),
            asked in prop::collection::vec((0_usize..6, 0_usize..6), 0..20),
        ) {
            let mut secrets = first.clone();
            let all = (0..secrets.len()).flat_map(|asking| (0..6).map(move |of| (asking, of)));
            for (asking, of) in asked.into_iter().chain(all.clone()).chain(all) {
                let (asking, of) = (asking % first.len(), of % first.len());
                let offers = [offer(secrets[of], None, false)];
                if asking != of && let Some(gift) = choose(id(secrets[asking]), &offers) {
                    prop_assert!(gift.secret_id < id(secrets[asking]));
                    secrets[asking] = secrets[of];
                }
            }
            let lowest = *first.iter().min().unwrap();
            prop_assert!(secrets.iter().all(|secret| *secret == lowest));
        }
    }
}
