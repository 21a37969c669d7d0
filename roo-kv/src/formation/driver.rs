//! Looking around, and doing what was decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::decide::{Decision, Seen, Survey, decide, stability_needed};
use super::targets::Targets;
use crate::config::Peers;
use crate::id::NodeId;
use crate::identity::Standing;
use crate::node::Node;
use crate::peer::{Answer, Ask, StandingForm};

/// Between looks while there is no cluster.
const FORMING_PAUSE: Duration = Duration::from_millis(250);

/// Between looks of a member: it keeps addresses and reachability fresh.
const MEMBER_PAUSE: Duration = Duration::from_millis(1500);

const GREETING_TIMEOUT: Duration = Duration::from_millis(1500);
const JOIN_TIMEOUT: Duration = Duration::from_secs(4);

/// Greetings at once.
const GREETINGS_MAX: usize = 32;

/// Looks in a row that must show another node at the initiator's address before a grant ends.
const REPLACED_LOOKS: u32 = 8;

/// Brings a node into a cluster, and keeps it in touch.
pub(crate) struct Former {
    node: Arc<Node>,
    targets: Targets,
    by_name: bool,
    start_delay: Duration,
    initiator_replaced: u32,
}

impl Former {
    pub(crate) fn new(node: Arc<Node>, peers: Peers, start_delay: Duration) -> Self {
        // Whoever is alone has nobody to wait for.
        let start_delay = if peers == Peers::Alone { Duration::ZERO } else { start_delay };
        let by_name = matches!(peers, Peers::Dns { .. });
        Self { node, targets: Targets::new(peers), by_name, start_delay, initiator_replaced: 0 }
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self) {
        if let Standing::Member { founders: Some(founders), .. } = self.node.identity.standing() {
            // The process may have died between claiming the cluster and writing its first entry.
            self.node.initialize(&founders).await;
        }
        let stop = self.node.stop.clone();
        loop {
            let pause = tokio::select! {
                pause = self.look_and_act() => pause,
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn look_and_act(&mut self) -> Duration {
        let standing = self.node.identity.standing();
        if standing.cluster().is_some() {
            self.keep_in_touch().await;
            return if self.node.leader().is_some() { MEMBER_PAUSE } else { FORMING_PAUSE };
        }
        let targets = match self.targets.look().await {
            Ok(targets) => targets,
            Err(what) => {
                self.say(&what);
                return FORMING_PAUSE;
            }
        };
        let survey = self.survey(&targets, &standing).await;
        match decide(self.node.id(), &standing, &survey) {
            Decision::Wait(what) => {
                self.say(&what);
                return FORMING_PAUSE;
            }
            Decision::Join { cluster, via } => {
                self.say("the cluster's leader to take this node in");
                self.node.identity.expect_to_join(cluster);
                let ask = Ask::Join { node: self.node.id(), address: self.node.own_address.current() };
                if let Err(error) = self.node.links.ask_address(&via, ask, JOIN_TIMEOUT).await {
                    tracing::debug!(%via, %error, "could not join the cluster yet");
                }
                return FORMING_PAUSE;
            }
            Decision::BeginFounding => {
                let identity = Arc::clone(&self.node.identity);
                self.persist(move || identity.begin_founding()).await;
            }
            Decision::AskGrants(candidates) => return self.ask_grants(&standing, &survey, candidates).await,
            Decision::Yield | Decision::Release => {
                let identity = Arc::clone(&self.node.identity);
                self.persist(move || identity.replace(&standing, Standing::Pristine)).await;
            }
        }
        // The standing changed: look again at once, but let others breathe.
        Duration::from_millis(u64::from(fastrand::u8(5..40)))
    }

    async fn survey(&mut self, targets: &[String], standing: &Standing) -> Survey {
        let mut addresses: BTreeSet<String> =
            targets.iter().filter(|target| !self.targets.is_own(target, &self.node.own_address)).cloned().collect();
        let mut size = addresses.len() + 1;
        let promised = match standing {
            Standing::Promised { initiator, address, .. } => Some((*initiator, address.clone())),
            _ => None,
        };
        addresses.extend(promised.iter().map(|(_, address)| address.clone()));

        let greeted = self.greet(addresses).await;
        let mut seen = BTreeMap::new();
        for (address, node, standing) in &greeted {
            let target = targets.contains(address);
            if *node == self.node.id() {
                size -= usize::from(target);
            } else if seen.insert(*node, Seen { standing: *standing, address: address.clone() }).is_some() {
                // One node behind two addresses.
                size -= usize::from(target);
            }
        }
        let replaced = promised.is_some_and(|(initiator, address)| {
            !seen.contains_key(&initiator) && greeted.iter().any(|(greeted, ..)| *greeted == address)
        });
        self.initiator_replaced = if replaced { self.initiator_replaced + 1 } else { 0 };
        let size = size.max(1);
        Survey {
            seen,
            size,
            settled: self.targets.unchanged_for() >= stability_needed(self.by_name, size, self.start_delay),
            initiator_replaced: self.initiator_replaced >= REPLACED_LOOKS,
        }
    }

    async fn greet(&self, addresses: BTreeSet<String>) -> Vec<(String, NodeId, StandingForm)> {
        let greetings = stream::iter(addresses).map(|address| async move {
            let ask = Ask::Hello(self.node.hello());
            match self.node.links.ask_address(&address, ask, GREETING_TIMEOUT).await {
                Ok((node, Answer::Hello(answer))) => {
                    self.note(node, &address, answer.you_are_at);
                    Some((address, node, answer.hello.standing))
                }
                Ok(_) => None,
                Err(error) => {
                    tracing::debug!(%address, %error, "a peer does not answer");
                    None
                }
            }
        });
        greetings.buffer_unordered(GREETINGS_MAX).filter_map(futures_util::future::ready).collect().await
    }

    fn note(&self, node: NodeId, address: &str, own: std::net::IpAddr) {
        if node != self.node.id() {
            self.node.book.learn(node, address);
            self.node.own_address.seen_by_peer(own);
        }
    }

    async fn ask_grants(
        &mut self,
        standing: &Standing,
        survey: &Survey,
        candidates: Vec<(NodeId, String)>,
    ) -> Duration {
        let Standing::Founding { cluster, attempt } = *standing else { return FORMING_PAUSE };
        self.say("the grants of the other nodes to found the cluster");
        let own_address = self.node.own_address.current();
        let links = &self.node.links;
        let asking = stream::iter(candidates).map(|(node, address)| {
            let ask = Ask::Grant { cluster, attempt, address: own_address.clone() };
            async move {
                match links.ask_address(&address, ask, GREETING_TIMEOUT).await {
                    Ok((answering, Answer::Grant(answer))) if answering == node && answer.granted => {
                        Some((node.0, address))
                    }
                    _ => None,
                }
            }
        });
        let mut founders: BTreeMap<u64, String> =
            asking.buffer_unordered(GREETINGS_MAX).filter_map(futures_util::future::ready).collect().await;
        founders.insert(self.node.id().0, own_address);
        if founders.len() < survey.majority() {
            return FORMING_PAUSE;
        }
        let identity = Arc::clone(&self.node.identity);
        let from = standing.clone();
        let to = Standing::Member { cluster, founders: Some(founders.clone()) };
        if self.persist(move || identity.replace(&from, to)).await {
            tracing::info!(%cluster, nodes = founders.len(), "founding the cluster");
            self.node.initialize(&founders).await;
        }
        Duration::ZERO
    }

    /// Greets members that were not heard from lately and addresses where somebody new may be.
    async fn keep_in_touch(&mut self) {
        let members = self.node.members();
        let node = &self.node;
        let others: Vec<_> = members.into_iter().filter(|(id, _)| *id != node.id()).collect();
        let greetings = stream::iter(others).map(|(id, peer)| async move {
            let ask = Ask::Hello(node.hello());
            if let Ok(Answer::Hello(answer)) = node.links.ask(id, Some(&peer.address), ask, GREETING_TIMEOUT).await {
                node.own_address.seen_by_peer(answer.you_are_at);
            }
        });
        greetings.buffer_unordered(GREETINGS_MAX).collect::<Vec<()>>().await;

        let Ok(targets) = self.targets.look().await else { return };
        let unknown = targets.iter().filter(|target| {
            let known = self.node.book.node_at(target).is_some_and(|id| self.node.book.is_reachable(id));
            !known && !self.targets.is_own(target, &self.node.own_address)
        });
        let unknown = unknown.cloned().collect();
        self.greet(unknown).await;
    }

    /// Does something that is on disk when it returns; true if it worked.
    async fn persist<T: Send + 'static>(&self, change: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> bool {
        let changed = tokio::task::spawn_blocking(change).await.map_err(std::io::Error::other).flatten();
        if let Err(error) = &changed {
            tracing::error!(%error, "cannot write to the data directory");
        }
        changed.is_ok()
    }

    fn say(&self, what: &str) {
        let mut waiting_for = self.node.waiting_for.lock().unwrap_or_else(PoisonError::into_inner);
        if *waiting_for != what {
            tracing::info!("waiting for {what}");
            what.clone_into(&mut waiting_for);
        }
    }
}
