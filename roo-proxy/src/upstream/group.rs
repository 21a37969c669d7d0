//! What the destinations of a route lead to right now, and who of these is to be asked.

use std::sync::Arc;

use tokio::time::Instant;

use super::Upstream;
use super::address::Address;
use super::balance::{self, Balance, Ring, Share};
use super::instance::{Chosen, Instance};
use super::names::{Name, UNANSWERED};
use crate::destination::DestinationHost;
use crate::service::{Endpoint, ServiceTable};

/// The instances of a route at one moment. Made anew when a name has other addresses or a service other endpoints.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) members: Vec<Member>,
    /// Of all members that take requests.
    ring: Ring,
    /// The services that it was made from, if it has any.
    services: Option<u64>,
    /// The names that it was made from, and their versions.
    names: Vec<(Arc<Name>, u64)>,
}

/// An instance as one group has it.
pub(crate) struct Member {
    pub(crate) instance: Arc<Instance>,
    /// Its share of the requests, beside those of the others; zero gets none.
    pub(crate) share: u32,
    /// It has said that it stops: it ends what it has.
    pub(crate) stopping: bool,
    /// It is a task of the orchestrator's: one that stops is asked where there is no other.
    is_task: bool,
}

impl Member {
    pub(crate) fn takes(&self) -> bool {
        self.share > 0
    }
}

/// The instances that a request was sent to in vain.
pub(crate) type Tried = [Option<Arc<Instance>>; super::TRIES];

/// Where groups find what names and services stand for.
pub(crate) trait Sources {
    fn name(&self, text: &Arc<str>) -> Arc<Name>;
    fn services(&self) -> &ServiceTable;
}

impl Group {
    /// What the upstreams lead to. Whoever was in `previous` goes on as the same instance.
    pub(crate) fn of(upstreams: &[Arc<Upstream>], sources: &impl Sources, previous: &Group) -> Group {
        let mut found = Found { group: Group::default(), sources, previous, now: Instant::now() };
        let mut weights = Vec::with_capacity(upstreams.len());
        for upstream in upstreams {
            weights.push((upstream.weight, found.upstream(upstream)));
        }
        let mut group = found.group;
        let shares = balance::shares(&weights);
        let has_better = group.members.iter().zip(&shares).any(|(member, share)| !member.stopping && *share > 0);
        for (member, share) in group.members.iter_mut().zip(shares) {
            let takes = !member.stopping || (member.is_task && !has_better);
            member.share = if takes { share } else { 0 };
        }
        group.ring = Ring::of(group.shares(&|_: &Member| true));
        group
    }

    /// Whether nothing that it was made from has changed. Tells the names that they are used.
    pub(crate) fn is_current(&self, services: impl FnOnce() -> u64) -> bool {
        self.services.is_none_or(|own| own == services())
            && self.names.iter().all(|(name, version)| name.is_used(*version))
    }

    /// The names that had yet to have their first answer when it was made.
    pub(crate) fn unanswered(&self) -> Vec<Arc<Name>> {
        self.names.iter().filter(|(_, version)| *version == UNANSWERED).map(|(name, _)| name.clone()).collect()
    }

    /// Whether any destination is a name.
    pub(crate) fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// How many take requests, out or not.
    pub(crate) fn taking(&self) -> usize {
        self.members.iter().filter(|member| member.takes()).count()
    }

    /// How many of those are out.
    pub(crate) fn out(&self) -> usize {
        self.members.iter().filter(|member| member.takes() && member.instance.is_out()).count()
    }

    /// Who is to be asked at this turn, of those that were not tried. `out` says whether anybody may be out.
    pub(crate) fn choose(&self, balance: Balance, turn: usize, tried: &Tried, out: bool) -> Option<(&Member, Chosen)> {
        if let [only] = self.members.as_slice()
            && !out
            && tried[0].is_none()
        {
            return only.takes().then_some((only, Chosen::Turn));
        }
        if !out && tried[0].is_none() {
            return self.balanced(balance, Some(&self.ring), turn, |_| true).map(|member| (member, Chosen::Turn));
        }
        let untried = |member: &Member| !tried.iter().flatten().any(|tried| Arc::ptr_eq(tried, &member.instance));
        // A request finds out about one at most: it has to get somewhere.
        if tried[0].is_none() {
            let now = Instant::now();
            let is_due =
                |member: &&Member| member.takes() && member.instance.is_out() && member.instance.try_probe(now);
            if let Some(member) = self.members.iter().find(is_due) {
                return Some((member, Chosen::Probe));
            }
        }
        self.expected(balance, turn, untried)
    }

    /// As [`choose`](Group::choose), but for requests that find out who is back: changes nothing.
    pub(crate) fn expected(
        &self,
        balance: Balance,
        turn: usize,
        among: impl Fn(&Member) -> bool,
    ) -> Option<(&Member, Chosen)> {
        let is_in = |member: &Member| among(member) && !member.instance.is_out();
        match self.balanced(balance, None, turn, is_in) {
            Some(member) => Some((member, Chosen::Turn)),
            None => self.balanced(balance, None, turn, &among).map(|member| (member, Chosen::Panic)),
        }
    }

    /// `ring` is that of those among which is chosen, if it is known.
    fn balanced(
        &self,
        balance: Balance,
        ring: Option<&Ring>,
        turn: usize,
        among: impl Fn(&Member) -> bool,
    ) -> Option<&Member> {
        let shares = self.shares(&among);
        let instance = |place: usize| &self.members[place].instance;
        let ring = || ring.copied().unwrap_or_else(|| Ring::of(shares.clone()));
        let place = match balance {
            Balance::RoundRobin => ring().turn(shares.clone(), turn),
            Balance::LeastRequests => {
                balance::least(shares.clone(), (&ring(), turn), |place| instance(place).in_flight())
            }
            Balance::Latency => {
                let now = Instant::now();
                let cost =
                    |place: usize| instance(place).latency.cost(instance(place).age(now), instance(place).in_flight());
                balance::two_choices(shares.clone(), |below| fastrand::usize(..below), cost)
            }
        };
        place.map(|place| &self.members[place])
    }

    fn shares<'a>(&'a self, among: &'a impl Fn(&Member) -> bool) -> impl Iterator<Item = Share> + Clone + 'a {
        let taking = self.members.iter().enumerate().filter(move |(_, member)| member.takes() && among(member));
        taking.map(|(place, member)| (place, member.share))
    }
}

/// What is said of an address besides where it is.
#[derive(Clone, Copy)]
struct Standing {
    stopping: bool,
    is_task: bool,
}

impl Standing {
    const UP: Standing = Standing { stopping: false, is_task: false };
}

/// A group in the making.
struct Found<'a, S> {
    group: Group,
    sources: &'a S,
    previous: &'a Group,
    now: Instant,
}

impl<'a, S: Sources> Found<'a, S> {
    /// Adds what an upstream leads to: the weights of its addresses.
    fn upstream(&mut self, upstream: &Arc<Upstream>) -> Vec<u16> {
        let destination = &upstream.destination;
        let DestinationHost::Service(service) = &destination.host else {
            return match self.tasks(&destination.host) {
                [] => vec![1; self.host(upstream, &destination.host, destination.port_or_default(), Standing::UP)],
                tasks => self.endpoints(upstream, tasks, Some(destination.port_or_default()), true),
            };
        };
        let services = self.sources.services();
        self.group.services = Some(services.generation());
        self.endpoints(upstream, services.endpoints(service), destination.port, false)
    }

    /// The tasks that a host stands for.
    fn tasks(&mut self, host: &DestinationHost) -> &'a [Endpoint] {
        let DestinationHost::Name(name) = host else { return &[] };
        let sources: &'a S = self.sources;
        let services = sources.services();
        let Some(tasks) = services.tasks(name) else { return &[] };
        // Made anew when tasks come, too.
        self.group.services = Some(services.generation());
        tasks
    }

    /// Adds endpoints, at `port` if it is given: their weights.
    fn endpoints(
        &mut self,
        upstream: &Arc<Upstream>,
        endpoints: &[Endpoint],
        port: Option<u16>,
        is_task: bool,
    ) -> Vec<u16> {
        let mut weights = Vec::new();
        for endpoint in endpoints {
            let standing = Standing { stopping: endpoint.stopping, is_task };
            let found = self.host(upstream, &endpoint.host, port.unwrap_or(endpoint.port), standing);
            weights.extend(std::iter::repeat_n(endpoint.weight.max(1), found));
        }
        weights
    }

    /// How many addresses there are.
    fn host(&mut self, upstream: &Arc<Upstream>, host: &DestinationHost, port: u16, standing: Standing) -> usize {
        match host {
            DestinationHost::Address(ip) => {
                self.add(upstream, Address::Ip((*ip, port).into()), standing);
                1
            }
            DestinationHost::Name(name) => {
                let name = self.sources.name(name);
                // The version first: an answer that comes between makes the group old.
                let version = name.version();
                let addresses = name.addresses().unwrap_or_default();
                self.group.names.push((name, version));
                for ip in addresses.iter() {
                    self.add(upstream, Address::Ip((*ip, port).into()), standing);
                }
                addresses.len()
            }
            DestinationHost::Unix(path) => {
                self.add(upstream, Address::Unix(path.clone()), standing);
                1
            }
            DestinationHost::Service(_) => 0,
        }
    }

    fn add(&mut self, upstream: &Arc<Upstream>, address: Address, standing: Standing) {
        let is_it =
            |known: &&Member| known.instance.address == address && Arc::ptr_eq(&known.instance.upstream, upstream);
        let known = self.previous.members.iter().find(is_it).map(|known| known.instance.clone());
        let instance = known.unwrap_or_else(|| Arc::new(Instance::new(upstream.clone(), address, self.now)));
        let Standing { stopping, is_task } = standing;
        self.group.members.push(Member { instance, share: 0, stopping, is_task });
    }
}
