//! Which address a request goes to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::{Upstream, Upstreams};
use crate::destination::DestinationHost;
use crate::failure::Failure;
use crate::worker::Worker;

/// An address to try.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) address: SocketAddr,
}

/// Addresses that refused a moment ago. They are tried last, and as before once the moment is over.
#[derive(Default)]
pub(crate) struct Avoided(RefCell<HashMap<SocketAddr, Instant>>);

impl Avoided {
    pub(crate) fn add(&self, address: SocketAddr, now: Instant) {
        self.0.borrow_mut().insert(address, now + AVOID_FOR);
    }

    pub(crate) fn sweep(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, until| *until > now);
    }

    fn contains(&self, address: &SocketAddr) -> bool {
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
/// Waits, until the deadline, only if none of the names has had its first answer.
///
/// # Errors
///
/// [`Failure::NoUpstream`] if the route leads nowhere, [`Failure::Unresolved`] if no name has an address.
pub(crate) async fn candidates(
    worker: &Rc<Worker>,
    upstreams: &Upstreams,
    deadline: Instant,
) -> Result<Vec<Candidate>, Failure> {
    if upstreams.list.is_empty() {
        return Err(Failure::NoUpstream);
    }
    let mut all = known(worker, upstreams);
    if all.is_empty() {
        first_answers(worker, upstreams, deadline).await;
        all = known(worker, upstreams);
    }
    if all.is_empty() {
        return Err(Failure::Unresolved);
    }
    let turn = upstreams.turn.fetch_add(1, Ordering::Relaxed);
    Ok(in_order(all, turn, |candidate| worker.avoided.contains(&candidate.address)))
}

/// Rotates to the turn, puts the avoided last, keeps as many as may be tried.
fn in_order<C>(mut all: Vec<C>, turn: usize, avoided: impl Fn(&C) -> bool) -> Vec<C> {
    let start = turn % all.len();
    all.rotate_left(start);
    // Stable: the rotation holds among the good and among the avoided.
    all.sort_by_cached_key(avoided);
    all.truncate(TRIES);
    all
}

fn known(worker: &Worker, upstreams: &Upstreams) -> Vec<Candidate> {
    let mut all = Vec::with_capacity(upstreams.list.len());
    for upstream in &upstreams.list {
        let port = upstream.destination.port;
        let candidate = |ip: IpAddr| Candidate { upstream: upstream.clone(), address: (ip, port).into() };
        match &upstream.destination.host {
            DestinationHost::Address(ip) => all.push(candidate(*ip)),
            DestinationHost::Name(name) => {
                if let Some(addresses) = worker.names.name(name).addresses() {
                    all.extend(addresses.iter().map(|ip| candidate(*ip)));
                }
            }
        }
    }
    all
}

/// Waits until a name has answered with an address, or all have answered without, or the deadline.
async fn first_answers(worker: &Rc<Worker>, upstreams: &Upstreams, deadline: Instant) {
    let names = upstreams.list.iter().filter_map(|upstream| match &upstream.destination.host {
        DestinationHost::Name(name) => Some(worker.names.name(name)),
        DestinationHost::Address(_) => None,
    });
    let mut answers: FuturesUnordered<_> = names
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
    use super::*;

    #[test]
    fn turns_rotate_over_all() {
        let order = |turn| in_order(vec!['a', 'b', 'c', 'd'], turn, |_| false);
        assert_eq!(order(0), ['a', 'b', 'c']);
        assert_eq!(order(1), ['b', 'c', 'd']);
        assert_eq!(order(3), ['d', 'a', 'b']);
        assert_eq!(order(usize::MAX), order(3));
    }

    #[test]
    fn the_avoided_come_last_but_come() {
        let order = |avoided: &str| in_order(vec!['a', 'b', 'c'], 0, |c| avoided.contains(*c));
        assert_eq!(order("a"), ['b', 'c', 'a']);
        assert_eq!(order("abc"), ['a', 'b', 'c']);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_avoided_for_a_moment() {
        let avoided = Avoided::default();
        let address = ([127, 0, 0, 1], 1).into();
        assert!(!avoided.contains(&address));
        avoided.add(address, Instant::now());
        assert!(avoided.contains(&address));
        tokio::time::advance(AVOID_FOR).await;
        assert!(!avoided.contains(&address));
        avoided.sweep(Instant::now());
        assert!(avoided.0.borrow().is_empty());
    }
}
