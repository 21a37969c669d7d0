//! Issuers under simulated time, and a CA within the process that can be made to fail on purpose.
//!
//! tokio's clock is paused and jumps to the next thing to happen; the issuers' clock follows it.

mod ca;
mod fallback;
mod many;
mod orders;
mod wishes;
mod year;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use roo_acme::{AcmeConfig, Authority, Cas, Clock, Item, Keys, Limits, Settings};
use tokio::time::Instant;

use crate::node::Node;
use crate::vault::{Cluster, NodeVault};
use ca::{Ca, Several};

/// A cluster, its nodes and their CA.
struct World {
    cluster: Arc<Cluster>,
    nodes: Vec<Node>,
    ca: Ca,
    /// What it is known to allow.
    limits: Limits,
    /// The one to fall back to, if there is one.
    second: Option<Ca>,
    /// The second one is where orders from the first one are rehearsed.
    rehearses: bool,
    clock: Clock,
    random: fastrand::Rng,
}

impl World {
    fn new(nodes: usize, ca: impl FnOnce(Clock) -> Ca) -> Self {
        let seed = std::env::var("ROO_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        eprintln!("repeat with ROO_SEED={seed}");
        let clock = clock();
        let ca = ca(clock.clone());
        let random = fastrand::Rng::with_seed(seed);
        let mut world = Self {
            cluster: Cluster::new(),
            nodes: Vec::new(),
            ca,
            limits: Limits::default(),
            second: None,
            rehearses: false,
            clock,
            random,
        };
        for _ in 0..nodes {
            let node = world.node();
            world.nodes.push(node);
        }
        world
    }

    fn node(&self) -> Node {
        self.node_with(Keys::default())
    }

    /// A node that orders certificates with these keys.
    fn node_with(&self, keys: Keys) -> Node {
        let settings = Settings {
            claim_ttl: Duration::from_secs(10),
            claim_retry: Duration::from_secs(1),
            look_again: Duration::from_hours(1),
            clock: self.clock.clone(),
            keys,
            transport: Some(Arc::new(Several(
                [Some(self.ca.clone()), self.second.clone()].into_iter().flatten().collect(),
            ))),
            ..Settings::default()
        };
        let second = self.second.as_ref().map(|_| AcmeConfig::at(ca::SECOND));
        let (rehearsal, second) = if self.rehearses { (second.map(Box::new), None) } else { (None, second) };
        let authority = Authority::Acme(Cas::new(
            AcmeConfig { limits: self.limits, rehearsal, ..AcmeConfig::at(ca::DIRECTORY) },
            second,
        ));
        Node::start_configured(NodeVault::new(&self.cluster), &self.cluster, authority, settings)
    }

    /// Kills a node and starts another in its place.
    async fn kill_one(&mut self) {
        let new = self.node();
        let index = self.random.usize(..self.nodes.len());
        std::mem::replace(&mut self.nodes[index], new).kill().await;
    }

    /// Waits until an order for `name` is in flight.
    async fn ordered(&self, name: &str) {
        let order = Item::Order { name: name.to_owned() };
        let look = async || self.cluster.item(&order);
        crate::eventually("an order", look).await;
    }

    /// Nothing is left of an order for `name`.
    fn no_order(&self, name: &str) {
        let order = Item::Order { name: name.to_owned() };
        assert_eq!(self.cluster.item(&order), None);
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// The time of this simulation: begins with the year 2026 and goes as tokio's.
fn clock() -> Clock {
    let (began, start) = (Instant::now(), "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
    Clock::new(move || start.saturating_add(began.elapsed()).unwrap())
}

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
