//! Whose turn it is: decisions over shares and loads, without state or clock of their own.

use serde::{Deserialize, Serialize};

/// How a request's instance is chosen among those that take requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// Each in turn, as often as its weight says. The shares are exact, whatever the instances do with them.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way, compared with its weight; among equals as in turn.
    LeastRequests,
    /// Of two drawn by chance, the one whose answers take less time: its recent latency, times what it has under way
    /// (peak EWMA).
    Latency,
}

/// One of those to choose from: its place and its share, which is never zero.
pub(crate) type Share = (usize, u32);

/// All shares one behind the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ring {
    count: usize,
    total: usize,
    /// From one turn to the next.
    stride: usize,
}

impl Ring {
    pub(crate) fn of(shares: impl Iterator<Item = Share>) -> Ring {
        let (count, total) = shares.fold((0, 0), |(count, total), (_, share)| (count + 1, total + share as usize));
        Ring { count, total, stride: if total == count { 1 } else { stride(total) } }
    }

    /// Where the rotation stands at this turn. Of as many turns in a row as all shares together, each place has exactly
    /// as many as its share. `None` if there is none to choose from.
    pub(crate) fn turn(&self, mut shares: impl Iterator<Item = Share>, turn: usize) -> Option<usize> {
        let turn = turn.checked_rem(self.total)?;
        if self.total == self.count {
            // All alike.
            return shares.nth(turn).map(|(place, _)| place);
        }
        at(shares, turn * self.stride % self.total)
    }
}

/// The one with the least load for its share, the rotation's next among equals.
pub(crate) fn least(
    shares: impl Iterator<Item = Share> + Clone,
    (ring, turn): (&Ring, usize),
    load: impl Fn(usize) -> usize,
) -> Option<usize> {
    let next = ring.turn(shares.clone(), turn)?;
    let from_next = shares.clone().filter(|(place, _)| *place >= next).chain(shares.filter(|(place, _)| *place < next));
    // The first of the least: `min_by` keeps the earlier of equals.
    let loaded = from_next.map(|(place, share)| (place, load(place) as u64, u64::from(share)));
    loaded.min_by(|(_, a, a_share), (_, b, b_share)| (a * b_share).cmp(&(b * a_share))).map(|(place, ..)| place)
}

/// Of two different ones, drawn by chance with odds as their shares, the one that costs less.
pub(crate) fn two_choices(
    shares: impl Iterator<Item = Share> + Clone,
    draw: impl Fn(usize) -> usize,
    cost: impl Fn(usize) -> f64,
) -> Option<usize> {
    let one = drawn(shares.clone(), &draw)?;
    let Some(other) = drawn(shares.filter(|(place, _)| *place != one), &draw) else { return Some(one) };
    Some(if cost(other) < cost(one) { other } else { one })
}

/// One by chance; `draw` gives a number below its argument.
fn drawn(shares: impl Iterator<Item = Share> + Clone, draw: impl Fn(usize) -> usize) -> Option<usize> {
    let total: usize = shares.clone().map(|(_, share)| share as usize).sum();
    if total == 0 { None } else { at(shares, draw(total)) }
}

/// Whose share a point on the ring of all shares is.
fn at(shares: impl Iterator<Item = Share>, mut point: usize) -> Option<usize> {
    for (place, share) in shares {
        match point.checked_sub(share as usize) {
            Some(rest) => point = rest,
            None => return Some(place),
        }
    }
    None
}

/// A step that meets every place of a ring once, and two turns in a row at places far apart, so that a heavy one does
/// not get all of its turns at once: coprime to the ring, near its golden section.
fn stride(ring: usize) -> usize {
    (ring * 618 / 1000..ring).find(|step| gcd(*step as u64, ring as u64) == 1).unwrap_or(1)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The shares of addresses, in order, from the destinations that they belong to: of each its weight, if it has one, and
/// the weights of its addresses.
///
/// Where no destination has a weight, every address has the share that it says. Where one has, destinations share by
/// weight (1 if it has none), and the addresses of each share its part.
pub(crate) fn shares(destinations: &[(Option<u8>, Vec<u16>)]) -> Vec<u32> {
    let addresses =
        || destinations.iter().flat_map(|(weight, of_it)| of_it.iter().map(move |own| (weight, of_it, own)));
    if destinations.iter().all(|(weight, _)| weight.is_none()) {
        return addresses().map(|(_, _, own)| u32::from(*own)).collect();
    }
    let sum = |of_it: &[u16]| of_it.iter().map(|own| u64::from(*own)).sum::<u64>().max(1);
    // The smallest number of parts that comes out even for every destination, as far as that is small enough.
    let parts = destinations.iter().map(|(_, of_it)| sum(of_it)).fold(1, |parts, sum| {
        let even = parts / gcd(parts, sum) * sum;
        if even <= PARTS_MAX { even } else { PARTS_MAX }
    });
    let exact: Vec<u64> = addresses()
        .map(|(weight, of_it, own)| match weight.unwrap_or(1) {
            0 => 0,
            weight => (u64::from(weight) * u64::from(*own) * parts / sum(of_it)).max(1),
        })
        .collect();
    let common = exact.iter().copied().fold(0, gcd).max(1);
    exact.into_iter().map(|share| u32::try_from(share / common).unwrap_or(u32::MAX)).collect()
}

/// Bounds the ring of shares, and with it the time to walk it once.
const PARTS_MAX: u64 = 100_000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::{Ring, Share, shares, two_choices};

    fn of(shares: &[u32]) -> impl Iterator<Item = Share> + Clone {
        shares.iter().copied().enumerate()
    }

    fn rotation(shares: impl Iterator<Item = Share> + Clone, turn: usize) -> Option<usize> {
        Ring::of(shares.clone()).turn(shares, turn)
    }

    fn least(shares: impl Iterator<Item = Share> + Clone, turn: usize, load: impl Fn(usize) -> usize) -> Option<usize> {
        super::least(shares.clone(), (&Ring::of(shares), turn), load)
    }

    #[test]
    fn turns_go_round() {
        let turns = |shares: &[u32]| (0..10).filter_map(|turn| rotation(of(shares), turn)).collect::<Vec<_>>();
        assert_eq!(turns(&[1, 1, 1]), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(turns(&[3, 1, 1]), [0, 1, 0, 2, 0, 0, 1, 0, 2, 0]);
        assert_eq!(turns(&[5]), [0; 10]);
        assert!(turns(&[]).is_empty());
        assert_eq!(rotation(of(&[1, 1]), usize::MAX), Some(1));
    }

    #[test]
    fn the_least_loaded_for_its_share_is_chosen() {
        let chosen = |loads: &[usize], shares: &[u32], turn| least(of(shares), turn, |place| loads[place]).unwrap();
        assert_eq!(chosen(&[2, 1, 3], &[1, 1, 1], 0), 1);
        // Twice the weight may have twice as many.
        assert_eq!(chosen(&[3, 2], &[2, 1], 0), 0);
        assert_eq!(chosen(&[5, 2], &[2, 1], 0), 1);
        // Equals have their turns.
        assert_eq!([0, 1, 2, 3].map(|turn| chosen(&[0, 0, 0], &[1, 1, 1], turn)), [0, 1, 2, 0]);
        assert_eq!([0, 1, 2].map(|turn| chosen(&[1, 0, 0], &[1, 1, 1], turn)), [1, 1, 2]);
    }

    #[test]
    fn of_two_the_cheaper_is_chosen() {
        let costs = [3.0, 1.0, 2.0];
        // The first draw is of all three, the second of the other two.
        let chosen = |first: usize, second: usize| {
            let draw = move |total| if total == 3 { first } else { second };
            two_choices(of(&[1, 1, 1]), draw, |place| costs[place]).unwrap()
        };
        assert_eq!((chosen(0, 0), chosen(0, 1), chosen(1, 1), chosen(2, 0)), (1, 2, 1, 2));
        assert_eq!(two_choices(of(&[7]), |_| 0, |_| 1.0), Some(0));
        assert_eq!(two_choices(of(&[]), |_| 0, |_| 1.0), None);
    }

    #[test]
    fn destinations_share_by_weight_whatever_they_hold() {
        // None has a weight: every address says its own.
        assert_eq!(shares(&[(None, vec![1, 1, 1]), (None, vec![2])]), [1, 1, 1, 2]);
        assert_eq!(shares(&[(Some(90), vec![1]), (Some(10), vec![1])]), [9, 1]);
        // 90 to 10, three addresses against one.
        assert_eq!(shares(&[(Some(90), vec![1, 1, 1]), (Some(10), vec![1])]), [3, 3, 3, 1]);
        assert_eq!(shares(&[(Some(2), vec![3, 1]), (None, vec![1])]), [3, 1, 2]);
        assert_eq!(shares(&[(Some(0), vec![1, 5]), (Some(100), vec![7])]), [0, 0, 1]);
        assert_eq!(shares(&[(Some(1), vec![]), (Some(50), vec![1])]), [1]);
    }

    proptest! {
        #[test]
        fn each_has_as_many_turns_as_its_share(
            shares in proptest::collection::vec(1u32..50, 1..9),
            begin in 0usize..1000,
        ) {
            let mut counts = vec![0; shares.len()];
            for turn in begin..begin + shares.iter().sum::<u32>() as usize {
                counts[rotation(of(&shares), turn).unwrap()] += 1;
            }
            prop_assert_eq!(counts, shares);
        }

        #[test]
        fn an_idle_balance_by_load_is_the_rotation(shares in proptest::collection::vec(1u32..9, 1..9), turn in 0usize..99) {
            prop_assert_eq!(least(of(&shares), turn, |_| 0), rotation(of(&shares), turn));
        }

        #[test]
        fn whatever_is_chosen_is_among_those_to_choose_from(
            shares in proptest::collection::vec((0usize..40, 1u32..2000), 1..9),
            turn in any::<usize>(),
            seed in any::<u64>(),
        ) {
            let turn = turn >> 16;
            let random = std::cell::RefCell::new(fastrand::Rng::with_seed(seed));
            let draw = |below| random.borrow_mut().usize(..below);
            let of = || shares.iter().copied();
            for chosen in [
                rotation(of(), turn),
                least(of(), turn, |place| place),
                two_choices(of(), draw, |place| place as f64),
            ] {
                prop_assert!(shares.iter().any(|(place, _)| Some(*place) == chosen));
            }
        }

        #[test]
        fn weights_are_kept_within_a_part_in_a_thousand(
            destinations in proptest::collection::vec(
                (proptest::option::of(0u8..=100), proptest::collection::vec(1u16..=1000, 1..6)), 1..9),
        ) {
            let found = shares(&destinations);
            prop_assert_eq!(found.len(), destinations.iter().map(|(_, of_it)| of_it.len()).sum::<usize>());
            let weighted = destinations.iter().any(|(weight, _)| weight.is_some());
            let wanted: f64 = destinations.iter().map(|(weight, _)| f64::from(weight.unwrap_or(1))).sum();
            let total: f64 = found.iter().map(|share| f64::from(*share)).sum();
            let mut rest = found.as_slice();
            for (weight, of_it) in destinations {
                let (own, others) = rest.split_at(of_it.len());
                rest = others;
                if weighted && wanted > 0.0 {
                    let part = own.iter().map(|share| f64::from(*share)).sum::<f64>() / total;
                    prop_assert!((part - f64::from(weight.unwrap_or(1)) / wanted).abs() < 0.001);
                }
            }
        }
    }
}
