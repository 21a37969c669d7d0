//! Which instance a request goes to.

use std::rc::Rc;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::group::{Group, Sources, Tried};
use super::instance::{Chosen, InFlight, Instance};
use super::names::Name;
use super::{TRIES, Upstreams};
use crate::failure::Failure;
use crate::service::ServiceTable;
use crate::table::Entry;
use crate::worker::Worker;

/// An instance that was chosen for a request, which it has under way from now on.
pub(crate) struct Picked {
    pub(crate) in_flight: InFlight,
    pub(crate) chosen: Chosen,
    /// How many instances may be tried, this one included.
    pub(crate) left: usize,
}

impl Picked {
    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.in_flight.0
    }
}

/// The instance for the next request.
///
/// Waits, until the deadline, only if there is none and a name has yet to have its first answer.
///
/// # Errors
///
/// [`Failure::NoUpstream`] if the route leads nowhere or to services without an instance, [`Failure::Unresolved`] if
/// no name has an address.
pub(crate) async fn first(
    worker: &Rc<Worker>,
    entry: &Entry,
    deadline: impl FnOnce() -> Instant,
) -> Result<Picked, Failure> {
    let turn = entry.upstreams.next_turn();
    let tried = Tried::default();
    if let Some(picked) = pick(worker, entry, turn, &tried) {
        return Ok(picked);
    }
    let (unanswered, has_names) = match entry.upstreams.group().as_deref() {
        Some(group) => (group.unanswered(), group.has_names()),
        None => (Vec::new(), false),
    };
    if !unanswered.is_empty() {
        first_answers(unanswered, deadline()).await;
        if let Some(picked) = pick(worker, entry, turn, &tried) {
            return Ok(picked);
        }
    }
    let is_empty = entry.upstreams.group().as_deref().is_none_or(|group| group.members.is_empty());
    Err(if has_names && is_empty { Failure::Unresolved } else { Failure::NoUpstream })
}

/// Another instance for a request that was tried in vain, as things are now.
pub(crate) fn another(worker: &Rc<Worker>, entry: &Entry, tried: &Tried) -> Option<Picked> {
    // The turn that it had is over: where the rotation stands now, it would be sent next if it came anew.
    pick(worker, entry, entry.upstreams.turn(), tried)
}

fn pick(worker: &Rc<Worker>, entry: &Entry, turn: usize, tried: &Tried) -> Option<Picked> {
    let upstreams = &entry.upstreams;
    let group = upstreams.group();
    if let Some(group) =
        group.as_deref().filter(|group| group.is_current(|| worker.shared.services.load().generation()))
    {
        return picked(upstreams, group, turn, tried);
    }
    drop(group);
    let services = worker.shared.services.load();
    if let Some(up) = upstreams.renew(&Seen { worker, services: &services }) {
        entry.measures().up(up);
    }
    picked(upstreams, upstreams.group().as_deref()?, turn, tried)
}

fn picked(upstreams: &Upstreams, group: &Group, turn: usize, tried: &Tried) -> Option<Picked> {
    let (instance, chosen) = upstreams.choose(group, turn, tried)?;
    let left = TRIES.min(group.members.len()).saturating_sub(tried.iter().flatten().count()).max(1);
    Some(Picked { in_flight: instance.begin(), chosen, left })
}

/// What a worker knows of names and services.
struct Seen<'a> {
    worker: &'a Worker,
    services: &'a ServiceTable,
}

impl Sources for Seen<'_> {
    fn name(&self, text: &Arc<str>) -> Arc<Name> {
        self.worker.names.name(text)
    }

    fn services(&self) -> &ServiceTable {
        self.services
    }
}

/// Waits until a name has answered with an address, or all have answered without, or the deadline.
pub(crate) async fn first_answers(names: Vec<Arc<Name>>, deadline: Instant) {
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
