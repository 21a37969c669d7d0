//! The service snapshot: where the instances of each service listen.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::destination::DestinationHost;

/// An immutable set of services. Swapped in whole by [`Control::set_services`](crate::Control::set_services).
#[derive(Clone, Debug)]
pub struct ServiceTable {
    endpoints: HashMap<Arc<str>, Vec<Endpoint>>,
    /// What the names of the orchestrator's services stand for.
    tasks: HashMap<Arc<str>, Vec<Endpoint>>,
    /// Tells one table from another; never reused.
    generation: u64,
}

/// Where one instance of a service listens, and how large its share is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// An address, or a name for the DNS. A service leads nowhere: services do not stand for services.
    pub host: DestinationHost,
    /// The port, where the destination names none.
    pub port: u16,
    /// Its share of the requests, compared with the other addresses of the route: one whose weight is twice another's
    /// gets twice as many. What is no endpoint has 1; zero counts as 1.
    pub weight: u16,
    /// It ends what it has begun and gets nothing new.
    pub stopping: bool,
}

impl ServiceTable {
    /// Builds a snapshot from names such as `shop`, in lower case, and their endpoints in the order of their turns.
    pub fn new(services: impl IntoIterator<Item = (String, Vec<Endpoint>)>) -> ServiceTable {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        ServiceTable {
            endpoints: services.into_iter().map(|(name, endpoints)| (name.into(), endpoints)).collect(),
            tasks: HashMap::new(),
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Adds the tasks of the orchestrator's services, by names such as `shop_web`. A destination's host `shop_web` or
    /// `tasks.shop_web` stands for these, at the destination's port, and is asked of the DNS only while there are none.
    /// Where all of them are stopping they are asked all the same: one may still answer.
    #[must_use]
    pub fn with_tasks(self, tasks: impl IntoIterator<Item = (String, Vec<Endpoint>)>) -> ServiceTable {
        ServiceTable { tasks: tasks.into_iter().map(|(name, endpoints)| (name.into(), endpoints)).collect(), ..self }
    }

    /// The tasks that a host stands for; none if nobody knows them. `None` if it can't stand for any.
    pub(crate) fn tasks(&self, host: &str) -> Option<&[Endpoint]> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let name = host.strip_prefix("tasks.").unwrap_or(host);
        (!name.contains('.')).then(|| self.tasks.get(name).map_or(&[][..], Vec::as_slice))
    }

    /// The endpoints of a service; none if nobody knows it.
    pub(crate) fn endpoints(&self, service: &str) -> &[Endpoint] {
        self.endpoints.get(service).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }
}

impl Default for ServiceTable {
    fn default() -> ServiceTable {
        ServiceTable::new([])
    }
}
