//! Looking around, and doing what was decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::clearance::Clearance;
use super::decide::{Decision, Seen, Survey, decide, size_meant, stability_needed};
use super::targets::Targets;
use crate::config::Peers;
use crate::encounter::Rival;
use crate::id::NodeId;
use crate::identity::Standing;
use crate::membership::{Belonging, Words};
use crate::node::{Ending, Node};
use crate::peer::{Answer, Ask, HelloAnswer, StandingForm};
use crate::runtime::blocking;
use crate::txn::Scan;

/// Between looks while there is no cluster.
const FORMING_PAUSE: Duration = Duration::from_millis(250);

/// Between looks of a member: it keeps addresses and reachability fresh.
const MEMBER_PAUSE: Duration = Duration::from_millis(1500);

const GREETING_TIMEOUT: Duration = Duration::from_millis(1500);
const JOIN_TIMEOUT: Duration = Duration::from_secs(4);

/// Greetings at once.
const GREETINGS_MAX: usize = 32;

/// Members, and addresses where one may be, that are asked whether this node is a member.
const WITNESSES_MAX: usize = 5;

/// Brings a node into a cluster, and keeps it in touch.
pub(crate) struct Former {
    node: Arc<Node>,
    targets: Targets,
    by_name: bool,
    start_delay: Duration,
    is_negligible: fn(&str) -> bool,
    /// What the leader said of this node's membership.
    words: Words,
    /// It came into its cluster in this run, and has not taken note of that yet.
    is_new: bool,
}

impl Former {
    pub(crate) fn new(node: Arc<Node>, peers: Peers, start_delay: Duration, is_negligible: fn(&str) -> bool) -> Self {
        // Whoever is alone has nobody to wait for.
        let start_delay = if peers == Peers::Alone { Duration::ZERO } else { start_delay };
        let by_name = matches!(peers, Peers::Dns { .. });
        // Only a name can hide nodes from each other.
        node.settled.store(!by_name, Ordering::Relaxed);
        let (targets, words) = (Targets::new(peers), Words::default());
        Self { node, targets, by_name, start_delay, is_negligible, words, is_new: false }
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
                biased;
                () = stop.cancelled() => return,
                pause = self.look_and_act() => pause,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn look_and_act(&mut self) -> Duration {
        let standing = self.node.identity.standing();
        if standing.cluster().is_some() {
            if std::mem::take(&mut self.is_new) {
                // Whoever took it in has said so by that.
                self.words.hear(true, self.node.dead_after, Instant::now());
            }
            self.keep_in_touch().await;
            return if self.node.leader().is_some() { MEMBER_PAUSE } else { FORMING_PAUSE };
        }
        self.is_new = true;
        let clearance = self.node.clearance();
        let targets = match self.look(&clearance).await {
            Ok(targets) => targets,
            Err(what) => {
                self.say(&what);
                return FORMING_PAUSE;
            }
        };
        let survey = self.survey(&targets, &standing, &clearance).await;
        match permitted(decide(self.node.id(), &standing, &survey), &clearance) {
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

    /// Where others may be.
    async fn look(&mut self, clearance: &Clearance) -> Result<Vec<String>, String> {
        match (clearance, clearance.others()) {
            (Clearance::Wait(what), _) => Err(what.clone()),
            (_, Some(others)) => Ok(others.to_vec()),
            (_, None) => self.targets.look().await,
        }
    }

    async fn survey(&mut self, targets: &[String], standing: &Standing, clearance: &Clearance) -> Survey {
        let mut targets: BTreeSet<String> = targets.iter().cloned().collect();
        if self.by_name || clearance.expect() > 0 {
            // A name may hide this node's peers from it, but not it from them: whoever greets it is counted. So it is with
            // a list that need not hold all who are expected.
            targets.extend(self.node.book.reachable());
        }
        targets.retain(|target| !self.targets.is_own(target, &self.node.own_address));
        let mut addresses = targets.clone();
        let mut size = addresses.len() + 1;
        let promised = match standing {
            Standing::Promised { address, .. } => Some(address.clone()),
            _ => None,
        };
        addresses.extend(promised);

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
        let size = size_meant(size, clearance.expect());
        let told = clearance.others().is_some();
        Survey {
            seen,
            size,
            settled: told || self.targets.unchanged_for() >= stability_needed(self.by_name, size, self.start_delay),
            by_turn: !told,
        }
    }

    async fn greet(&self, addresses: BTreeSet<String>) -> Vec<(String, NodeId, StandingForm)> {
        let greetings = stream::iter(addresses).map(|address| async move {
            let ask = Ask::Hello(self.node.hello());
            match self.node.links.ask_address(&address, ask, GREETING_TIMEOUT).await {
                Ok((node, Answer::Hello(answer))) => {
                    self.note(node, &address, &answer);
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

    fn note(&self, node: NodeId, address: &str, answer: &HelloAnswer) {
        if node != self.node.id() && node == answer.hello.node {
            self.node.meet(&answer.hello, address);
            self.node.own_address.seen_by_peer(answer.you_are_at);
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
        let (this, node) = (&*self, &self.node);
        let others: Vec<_> = members.into_iter().filter(|(id, _)| *id != node.id()).collect();
        let greetings = stream::iter(others).map(|(id, peer)| async move {
            let ask = Ask::Hello(node.hello());
            if let Ok(Answer::Hello(answer)) = node.links.ask(id, Some(&peer.address), ask, GREETING_TIMEOUT).await {
                let address = node.book.address(id).unwrap_or(peer.address);
                this.note(id, &address, &answer);
            }
        });
        greetings.buffer_unordered(GREETINGS_MAX).collect::<Vec<()>>().await;

        // Without an answer of the DNS the members are still there to be asked.
        let targets = self.targets.look().await.unwrap_or_default();
        let unknown = targets.iter().filter(|target| {
            let known = self.node.book.node_at(target).is_some_and(|id| self.node.book.is_reachable(id));
            !known && !self.targets.is_own(target, &self.node.own_address)
        });
        let unknown = unknown.cloned().collect();
        self.greet(unknown).await;
        self.give_way(&targets).await;
        self.keep_membership(&targets).await;
    }

    /// Asks the leader whether this node still is a member, and to be taken in again if it is not.
    async fn keep_membership(&mut self, targets: &[String]) {
        let node = Arc::clone(&self.node);
        if node.leads_surely() {
            self.words.hear(true, node.dead_after, Instant::now());
            return;
        }
        let id = node.id();
        let question = || Ask::IsMember { node: id, passed_on: false };
        let Some(Answer::IsMember(member)) = self.ask_cluster(targets, question).await else { return };
        let belonging = self.words.hear(member, node.dead_after, Instant::now());
        node.excluded.store(belonging != Belonging::Member, Ordering::Relaxed);
        match belonging {
            Belonging::Member => {}
            Belonging::StayOut => {
                self.say("a restart: this node was removed from the cluster by hand, and joins it again when it is restarted");
            }
            Belonging::JoinAgain => {
                self.say("the cluster's leader to take this node in again");
                let join = || Ask::Join { node: id, address: node.own_address.current() };
                if self.ask_cluster(targets, join).await.is_none() {
                    tracing::debug!("nobody takes this node in again yet");
                }
            }
        }
    }

    /// Asks the leader, by way of others if need be.
    async fn ask_cluster(&self, targets: &[String], ask: impl Fn() -> Ask) -> Option<Answer> {
        let node = &self.node;
        if let Some((leader, address)) = node.leader()
            && let Ok(answer) = node.links.ask(leader, address.as_deref(), ask(), GREETING_TIMEOUT).await
        {
            return Some(answer);
        }
        let members = node.members().into_iter().filter(|(id, _)| *id != node.id() && node.book.is_reachable(*id));
        let known = members.map(|(id, peer)| node.book.address(id).unwrap_or(peer.address));
        let others = targets.iter().filter(|target| !self.targets.is_own(target, &node.own_address)).cloned();
        for address in known.chain(others).take(WITNESSES_MAX) {
            if let Ok((_, answer)) = node.links.ask_address(&address, ask(), JOIN_TIMEOUT).await {
                return Some(answer);
            }
        }
        None
    }

    /// Two nodes that a name hid from each other have each founded a cluster. One that holds nothing is given up.
    ///
    /// One that is settled stays so and never gives way; of two that are not, the one with the lower identity stays. Nothing acknowledged is lost: at the next start, when nothing more can be acknowledged, it is
    /// looked again whether it holds nothing, and only then it is forgotten.
    async fn give_way(&self, targets: &[String]) {
        let Some(own) = self.node.identity.cluster().filter(|_| !self.node.is_settled()) else { return };
        match self.node.members().len() {
            0 => return,
            1 if self.holds_nothing() => {}
            _ => return self.node.settled.store(true, Ordering::Relaxed),
        }
        let outranks = |rival: &Rival| targets.contains(&rival.address) && (rival.settled || rival.cluster < own);
        let Some(rival) = self.node.encounters.rivals().into_iter().find(outranks) else { return };
        let identity = Arc::clone(&self.node.identity);
        if self.persist(move || identity.begin_reset()).await {
            let reason = format!(
                "its cluster {own} holds nothing and there is another one, {}, at {}: it gives its own one up and joins",
                rival.cluster, rival.address
            );
            self.node.end(Ending { reason, restart: true });
        }
    }

    fn holds_nothing(&self) -> bool {
        let page = self.node.view.page(&Scan::prefix(""));
        page.is_ok_and(|page| !page.more && page.entries.iter().all(|(key, _)| (self.is_negligible)(key.as_str())))
    }

    /// Does something that is on disk when it returns; true if it worked.
    async fn persist<T: Send + 'static>(&self, change: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> bool {
        let changed = blocking(change).await;
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

/// What is decided, as far as it is permitted.
fn permitted(decision: Decision, clearance: &Clearance) -> Decision {
    match (decision, clearance) {
        (Decision::BeginFounding, Clearance::Join { lacks, .. }) => Decision::Wait(lacks.clone()),
        (Decision::AskGrants(_), Clearance::Join { .. }) => Decision::Yield,
        (decision, _) => decision,
    }
}
