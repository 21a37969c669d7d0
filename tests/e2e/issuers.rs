//! Three nodes and a CA with bad days; whichever node issues is killed, again and again.
//!
//! All names get their certificates, none by two orders, and no handshake fails for a name that has one. Orders are counted at
//! the CA's door ([`Counter`]), which also keeps answers back so that issuers die between the CA's order and knowing of it.
//! `ROO_E2E_NAMES` sets how many names there are; `make soak` has 300.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use fastrand::Rng;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pebble::common_port;
use crate::support::api::Api;
use crate::support::cluster::{Cluster, Node, Start, formed, tail};
use crate::support::context::Context;
use crate::support::counter::Counter;
use crate::support::dns::Dns;
use crate::support::https::Https;
use crate::support::pebble::Pebble;
use crate::support::upstream::Upstream;
use crate::support::{Result, bail, ensure};

/// Names that are wanted, unless the environment says otherwise.
const NAMES: usize = 60;
/// An issuer is killed after about so many orders.
const ORDERS_BEFORE_KILL: usize = 10;
/// How long a killed node stays away.
const AWAY: std::ops::Range<u64> = 0..2_000;
/// Clients that do handshakes, and the pause of each between two of them.
const VISITORS: usize = 2;
const PAUSE: Duration = Duration::from_millis(20);
/// How long nothing may come of all the trying: far more than a dead issuer's claim and a back-off take.
const PATIENCE: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issuers_that_are_killed_leave_no_name_behind_and_order_none_twice() -> Result<()> {
    let names = std::env::var("ROO_E2E_NAMES").ok().map(|text| text.parse::<usize>()).transpose()?.unwrap_or(NAMES);
    let seed = Rng::new().u64(..);
    println!("{names} names, seed {seed}");
    let names: Vec<String> = (0..names).map(|number| format!("shop{number}.example")).collect();
    let context = Context::new();
    let ports = (common_port()?, common_port()?);
    let dns = Dns::start(vec![Ipv4Addr::LOCALHOST]).await?;
    let server = dns.address;
    // A fifth of all nonces is refused, authorizations are used again half of the time, and a look takes up to a second.
    let chaos = [("PEBBLE_WFE_NONCEREJECT", "20"), ("PEBBLE_AUTHZREUSE", "50"), ("PEBBLE_VA_SLEEPTIME", "2")];
    let pebble = Pebble::start_with(&context, ports, dns, server, &chaos).await?;
    let counter = pebble.counted().await?;
    let upstream = Upstream::saying("hello").await?;
    let mut nemesis = Nemesis::start(&context, &pebble, &counter, ports, Rng::with_seed(seed)).await?;
    for name in &names {
        nemesis.nodes[0].route(&format!("{name}:https"), &upstream.url()).await?;
    }
    let world = nemesis.world.clone();
    let visitors = Visitors::start(&world, &Https::trusting(&pebble.root().await?)?);
    let issued = nemesis.kill_until_issued(names.len()).await;
    let seen = visitors.end().await;
    let told = || format!("{} orders\n{}", counter.orders(), tail(&pebble.log()));
    issued.with_context(told)?;
    println!(
        "{} names issued by {} orders, {} of which failed; {} issuers killed, {} while the CA answered; {} handshakes",
        names.len(),
        counter.orders(),
        counter.failed(),
        nemesis.kills,
        nemesis.kills_in_answer,
        seen.handshakes
    );
    ensure!(counter.doubles().is_empty(), "ordered twice: {:#?}", counter.doubles());
    ensure!(pebble.issued() == names.len(), "{} certificates were issued", pebble.issued());
    ensure!(counter.orders() - counter.failed() == names.len(), "{}", told());
    ensure!(seen.failures.is_empty(), "handshakes failed: {:#?}", seen.failures);
    ensure!(nemesis.kills >= names.len() / ORDERS_BEFORE_KILL / 2 && nemesis.kills_in_answer > 0, "too few kills");
    ensure!(seen.handshakes > names.len());
    Ok(())
}

/// What all see of the nodes and their names.
#[derive(Default)]
struct World {
    /// The nodes that are ready, by place; each life of one has a number of its own.
    alive: Mutex<Vec<Option<Life>>>,
    /// Names that were seen with a certificate.
    certified: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Life {
    number: usize,
    https: SocketAddr,
    id: String,
}

impl World {
    fn set(&self, place: usize, life: Option<Life>) {
        self.alive.lock().expect("not poisoned")[place] = life;
    }

    fn alive(&self) -> Vec<(usize, Life)> {
        let alive = self.alive.lock().expect("not poisoned");
        alive.iter().enumerate().filter_map(|(place, life)| Some((place, life.clone()?))).collect()
    }

    fn lives(&self, place: usize, life: &Life) -> bool {
        self.alive.lock().expect("not poisoned")[place].as_ref() == Some(life)
    }

    fn certified(&self) -> Vec<String> {
        self.certified.lock().expect("not poisoned").iter().cloned().collect()
    }
}

/// Kills whichever node issues, and starts it again.
struct Nemesis<'a> {
    starts: Vec<Start>,
    nodes: Vec<Node>,
    world: Arc<World>,
    pebble: &'a Pebble,
    counter: &'a Counter,
    random: Rng,
    lives: usize,
    kills: usize,
    /// Kills while the CA's answer to an order was on its way.
    kills_in_answer: usize,
}

impl<'a> Nemesis<'a> {
    /// Starts the nodes.
    async fn start(
        context: &Context,
        pebble: &'a Pebble,
        counter: &'a Counter,
        (http, https): (u16, u16),
        random: Rng,
    ) -> Result<Self> {
        let (directory, file) = (counter.directory(), pebble.ca_file.display().to_string());
        let more = ["--acme-directory", directory.as_str(), "--acme-ca-file", file.as_str()];
        let starts = Cluster::plan(context, 3, &more)?.into_iter();
        let starts: Vec<Start> = starts.map(|start| start.without_authority().http(http).https(https)).collect();
        let mut nodes = Vec::new();
        for start in &starts {
            nodes.push(start.spawn().await?);
        }
        formed(&nodes).await?;
        let world = Arc::new(World { alive: Mutex::new(vec![None; nodes.len()]), ..World::default() });
        let (lives, kills, kills_in_answer) = (0, 0, 0);
        let mut nemesis = Self { starts, nodes, world, pebble, counter, random, lives, kills, kills_in_answer };
        for place in 0..nemesis.nodes.len() {
            nemesis.comes_alive(place).await?;
        }
        Ok(nemesis)
    }

    async fn comes_alive(&mut self, place: usize) -> Result<()> {
        let node = &self.nodes[place];
        node.ready().await?;
        let id = id(&node.api.status().await?["node"]);
        self.lives += 1;
        self.world.set(place, Some(Life { number: self.lives, https: node.https, id }));
        Ok(())
    }

    /// Goes on until all nodes have certificates for so many names.
    async fn kill_until_issued(&mut self, names: usize) -> Result<()> {
        let (mut next_kill, mut progress) = (self.orders_before_kill(), (0, Instant::now()));
        loop {
            let certified = self.look().await?;
            if certified >= names && self.everywhere(names).await? {
                return Ok(());
            }
            if self.counter.orders() > progress.0 {
                progress = (self.counter.orders(), Instant::now());
            }
            ensure!(progress.1.elapsed() < PATIENCE, "only {certified} of {names} names have a certificate");
            if self.counter.keeps() {
                self.kill_issuer().await?;
                self.kills_in_answer += 1;
                next_kill = self.counter.orders() + self.orders_before_kill();
            } else if self.counter.orders() >= next_kill && certified < names {
                next_kill = usize::MAX;
                // Every other one while the CA answers.
                if self.kills.is_multiple_of(2) {
                    self.counter.keep_next();
                } else {
                    self.kill_issuer().await?;
                    next_kill = self.counter.orders() + self.orders_before_kill();
                }
            }
            if certified >= names {
                self.counter.pass();
            }
            // Each look of the CA goes to another node, whether that is there or not.
            let place = self.random.u8(1..=3);
            self.pebble.dns.set(vec![Ipv4Addr::new(127, 0, 0, place)]);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn orders_before_kill(&mut self) -> usize {
        self.random.usize(ORDERS_BEFORE_KILL / 2..ORDERS_BEFORE_KILL * 3 / 2)
    }

    /// How many names have certificates, as far as any node can tell.
    async fn look(&self) -> Result<usize> {
        for (place, _) in self.world.alive() {
            let ready = ready(&self.nodes[place].api).await?;
            self.world.certified.lock().expect("not poisoned").extend(ready);
        }
        Ok(self.world.certified().len())
    }

    async fn everywhere(&self, names: usize) -> Result<bool> {
        for node in &self.nodes {
            if ready(&node.api).await?.len() < names {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn kill_issuer(&mut self) -> Result<()> {
        let place = self.issuer().await?;
        self.world.set(place, None);
        self.nodes[place].process.kill().await?;
        self.kills += 1;
        self.counter.pass();
        tokio::time::sleep(Duration::from_millis(self.random.u64(AWAY))).await;
        self.nodes[place] = self.starts[place].spawn().await?;
        self.comes_alive(place).await
    }

    /// The place of the node that holds the claim to issue.
    async fn issuer(&self) -> Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for (place, _) in self.world.alive() {
                let status = self.nodes[place].api.status().await?;
                let issuer = id(&status["issuer"]);
                if let Some((issuer, _)) = self.world.alive().into_iter().find(|(_, life)| life.id == issuer) {
                    return Ok(issuer);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("nobody issues")
    }
}

/// The text of an id, whether it is told as a number or not.
fn id(told: &Value) -> String {
    told.as_str().map_or_else(|| told.to_string(), str::to_owned)
}

/// Names whose certificates the node serves.
async fn ready(api: &Api) -> Result<Vec<String>> {
    let certs = api.get("/roo/v1/certs").await?.json()?;
    let ready = certs.as_array().context("a list")?.iter().filter(|cert| cert["state"] == "ready");
    Ok(ready.filter_map(|cert| cert["name"].as_str().map(str::to_owned)).collect())
}

/// Clients that visit names which have a certificate, at nodes that are there.
struct Visitors {
    stop: CancellationToken,
    clients: JoinSet<()>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    handshakes: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// What visitors have seen.
struct Report {
    handshakes: usize,
    failures: Vec<String>,
}

impl Visitors {
    fn start(world: &Arc<World>, https: &Https) -> Self {
        let (stop, seen) = (CancellationToken::new(), Arc::new(Seen::default()));
        let mut clients = JoinSet::new();
        for _ in 0..VISITORS {
            let (stop, world, https, seen) = (stop.clone(), world.clone(), https.clone(), seen.clone());
            clients.spawn(async move {
                while !stop.is_cancelled() {
                    visit(&world, &https, &seen).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self { stop, clients, seen }
    }

    async fn end(mut self) -> Report {
        self.stop.cancel();
        while self.clients.join_next().await.is_some() {}
        let failures = self.seen.failures.lock().expect("not poisoned").clone();
        Report { handshakes: self.seen.handshakes.load(Ordering::SeqCst), failures }
    }
}

/// One handshake; a failure counts if the node lived on.
async fn visit(world: &World, https: &Https, seen: &Seen) {
    let (names, alive) = (world.certified(), world.alive());
    let (Some(name), Some((place, life))) = (fastrand::choice(&names), fastrand::choice(&alive)) else { return };
    match https.connect(life.https, name, &["http/1.1"]).await {
        Ok(_) => drop(seen.handshakes.fetch_add(1, Ordering::SeqCst)),
        Err(error) if world.lives(*place, life) => {
            let text = format!("{name} at node {place} in life {}: {error:#}", life.number);
            seen.failures.lock().expect("not poisoned").push(text);
        }
        Err(_) => {}
    }
}
