//! The service snapshot: where the instances of each service listen.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::destination::DestinationHost;

/// An immutable set of services. Swapped in whole by [`Control::set_services`](crate::Control::set_services).
#[derive(Clone, Debug)]
pub struct ServiceTable {
    endpoints: HashMap<Arc<str>, Vec<Endpoint>>,
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
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
        }
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
