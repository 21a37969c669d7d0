//! Which address a request goes to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::address::Address;
use super::names::Name;
use super::{Upstream, Upstreams};
use crate::destination::DestinationHost;
use crate::failure::Failure;
use crate::worker::Worker;

/// An address to try.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) address: Address,
    weight: u16,
}

/// Addresses that refused a moment ago. They are tried last, and as before once the moment is over.
#[derive(Default)]
pub(crate) struct Avoided(RefCell<HashMap<Address, Instant>>);

impl Avoided {
    pub(crate) fn add(&self, address: Address, now: Instant) {
        self.0.borrow_mut().insert(address, now + AVOID_FOR);
    }

    pub(crate) fn sweep(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, until| *until > now);
    }

    fn contains(&self, address: &Address) -> bool {
        let avoided = self.0.borrow();
        // The common case costs no clock and no hash.
        !avoided.is_empty() && avoided.get(address).is_some_and(|until| *until > Instant::now())
    }
}

const AVOID_FOR: Duration = Duration::from_secs(2);

/// Addresses that one request may try.
pub(crate) const TRIES: usize = 3;

/// The addresses to try for the next request, in order: the rotation's next first.
///
/// Waits, until the deadline, only if there is no address and a name has yet to have its first answer.
///
/// # Errors
///
/// [`Failure::NoUpstream`] if the route leads nowhere or to services without an instance, [`Failure::Unresolved`] if
/// no name has an address.
pub(crate) async fn candidates(
    worker: &Rc<Worker>,
    upstreams: &Upstreams,
    deadline: impl FnOnce() -> Instant,
) -> Result<Vec<Candidate>, Failure> {
    let mut known = Known::of(worker, &upstreams.list);
    if known.candidates.is_empty() && !known.unanswered.is_empty() {
        first_answers(known.unanswered, deadline()).await;
        known = Known::of(worker, &upstreams.list);
    }
    if known.candidates.is_empty() {
        return Err(if known.has_names { Failure::Unresolved } else { Failure::NoUpstream });
    }
    let turn = upstreams.turn.fetch_add(1, Ordering::Relaxed);
    let avoided = |candidate: &Candidate| worker.avoided.contains(&candidate.address);
    Ok(in_order(known.candidates, turn, |candidate| candidate.weight.into(), avoided))
}

impl Candidate {
    /// Whether the upstream still leads to the address. While earlier ones were tried it may have left.
    pub(crate) fn is_current(&self, worker: &Worker) -> bool {
        let now = Known::of(worker, std::slice::from_ref(&self.upstream));
        now.candidates.iter().any(|candidate| candidate.address == self.address)
    }
}

/// Rotates to the turn, puts the avoided last, keeps as many as may be tried.
fn in_order<C>(mut all: Vec<C>, turn: usize, weight: impl Fn(&C) -> usize, avoided: impl Fn(&C) -> bool) -> Vec<C> {
    let start = start(all.iter().map(&weight), turn);
    all.rotate_left(start);
    // Stable: the rotation holds among the good and among the avoided.
    all.sort_by_cached_key(avoided);
    all.truncate(TRIES);
    all
}

/// Whose turn it is. Of as many turns in a row as all weights together, each has exactly as many as its weight.
fn start(weights: impl ExactSizeIterator<Item = usize> + Clone, turn: usize) -> usize {
    let (count, total) = (weights.len(), weights.clone().sum());
    if total == count {
        return turn % count;
    }
    let mut place = turn % total * stride(total) % total;
    for (index, weight) in weights.enumerate() {
        match place.checked_sub(weight) {
            Some(rest) => place = rest,
            None => return index,
        }
    }
    0
}

/// A step that meets every place of a ring once, and two turns in a row at places far apart, so that a heavy endpoint
/// does not get all of its turns at once: coprime to the ring, near its golden section.
fn stride(ring: usize) -> usize {
    let gcd = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (ring * 618 / 1000..ring).find(|step| gcd(*step, ring) == 1).unwrap_or(1)
}

/// What upstreams lead to right now.
#[derive(Default)]
struct Known {
    candidates: Vec<Candidate>,
    /// Names that have yet to have their first answer.
    unanswered: Vec<Arc<Name>>,
    /// Whether there is any name at all.
    has_names: bool,
}

impl Known {
    fn of(worker: &Worker, upstreams: &[Arc<Upstream>]) -> Known {
        let mut known = Known { candidates: Vec::with_capacity(upstreams.len()), ..Known::default() };
        for upstream in upstreams {
            let destination = &upstream.destination;
            match &destination.host {
                DestinationHost::Service(service) => {
                    for endpoint in worker.shared.services.load().endpoints(service) {
                        let port = destination.port.unwrap_or(endpoint.port);
                        known.add(worker, upstream, &endpoint.host, port, endpoint.weight);
                    }
                }
                host => known.add(worker, upstream, host, destination.port_or_default(), 1),
            }
        }
        known
    }

    fn add(&mut self, worker: &Worker, upstream: &Arc<Upstream>, host: &DestinationHost, port: u16, weight: u16) {
        let weight = weight.max(1);
        let candidate = |address: Address| Candidate { upstream: upstream.clone(), address, weight };
        let at = |ip: IpAddr| candidate(Address::Ip((ip, port).into()));
        match host {
            DestinationHost::Address(ip) => self.candidates.push(at(*ip)),
            DestinationHost::Name(name) => {
                self.has_names = true;
                let name = worker.names.name(name);
                match name.addresses() {
                    Some(addresses) => self.candidates.extend(addresses.iter().map(|ip| at(*ip))),
                    None => self.unanswered.push(name),
                }
            }
            DestinationHost::Unix(path) => self.candidates.push(candidate(Address::Unix(path.clone()))),
            DestinationHost::Service(_) => {}
        }
    }
}

/// Waits until a name has answered with an address, or all have answered without, or the deadline.
async fn first_answers(names: Vec<Arc<Name>>, deadline: Instant) {
    let mut answers: FuturesUnordered<_> = names
        .into_iter()
        .map(|name| async move {
            name.answered(deadline).await;
            name.addresses()
        })
        .collect();
    while let Some(addresses) = answers.next().await {
        if addresses.is_some_and(|addresses| !addresses.is_empty()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn turns_rotate_over_all() {
        let order = |turn| in_order(vec!['a', 'b', 'c', 'd'], turn, |_| 1, |_| false);
        assert_eq!(order(0), ['a', 'b', 'c']);
        assert_eq!(order(1), ['b', 'c', 'd']);
        assert_eq!(order(3), ['d', 'a', 'b']);
        assert_eq!(order(usize::MAX), order(3));
    }

    #[test]
    fn turns_follow_the_weights_and_are_mixed() {
        let all = [('a', 3), ('b', 1), ('c', 1)];
        let first = |turn| in_order(all.to_vec(), turn, |(_, weight)| *weight, |_| false)[0].0;
        assert_eq!((0..10).map(first).collect::<String>(), "abacaabaca");
        // Only one that weighs anything else than 1, and alone.
        assert_eq!(in_order(vec!['a'], 7, |_| 5, |_| false), ['a']);
    }

    proptest! {
        #[test]
        fn each_has_as_many_turns_as_its_weight(
            weights in proptest::collection::vec(1usize..50, 1..9),
            begin in 0usize..1000,
        ) {
            let mut counts = vec![0; weights.len()];
            for turn in begin..begin + weights.iter().sum::<usize>() {
                counts[start(weights.iter().copied(), turn)] += 1;
            }
            prop_assert_eq!(counts, weights);
        }
    }

    #[test]
    fn the_avoided_come_last_but_come() {
        let order = |avoided: &str| in_order(vec!['a', 'b', 'c'], 0, |_| 1, |c| avoided.contains(*c));
        assert_eq!(order("a"), ['b', 'c', 'a']);
        assert_eq!(order("abc"), ['a', 'b', 'c']);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_avoided_for_a_moment() {
        let avoided = Avoided::default();
        let address = Address::Ip(([127, 0, 0, 1], 1).into());
        assert!(!avoided.contains(&address));
        avoided.add(address.clone(), Instant::now());
        assert!(avoided.contains(&address));
        tokio::time::advance(AVOID_FOR).await;
        assert!(!avoided.contains(&address));
        avoided.sweep(Instant::now());
        assert!(avoided.0.borrow().is_empty());
    }
}
