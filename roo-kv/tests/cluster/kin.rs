//! Nodes that nobody gave a secret, with an orchestrator that knows which belong together.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use roo_kv::{Kin, KinNetwork, KinTask, Orchestrator, SecretId};

use super::names::{host, listen_on_hosts, port};
use super::*;

/// What an orchestrator knows: the tasks that run, each with its token, and how many there are meant to be.
#[derive(Clone, Debug, Default)]
struct Stage(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    tokens: BTreeMap<Ipv4Addr, String>,
    meant: usize,
}

impl Stage {
    fn meaning(meant: usize) -> Self {
        let stage = Self::default();
        stage.0.lock().unwrap().meant = meant;
        stage
    }

    fn run(&self, task: Ipv4Addr) {
        self.0.lock().unwrap().tokens.insert(task, format!("token of {task}"));
    }

    fn mean(&self, meant: usize) {
        self.0.lock().unwrap().meant = meant;
    }
}

/// What one task may ask.
#[derive(Debug)]
struct View {
    stage: Stage,
    own: Ipv4Addr,
    manager: bool,
}

impl Orchestrator for View {
    fn kin(&self) -> BoxFuture<'_, Result<Kin, String>> {
        let known = self.stage.0.lock().unwrap();
        let task = |(address, token): (&Ipv4Addr, &String)| KinTask {
            address: (*address).into(),
            token: token.clone().into(),
        };
        // A task is seen by itself before others see it, as in a Swarm.
        let token = format!("token of {}", self.own);
        let own = task((&self.own, &token));
        let others = known.tokens.iter().filter(|(address, _)| **address != self.own).map(task).collect();
        let kin = Kin { service: "roo_roo".to_owned(), networks: vec![KinNetwork { own, others }] };
        async move { Ok(kin) }.boxed()
    }

    fn meant(&self) -> BoxFuture<'_, Result<Option<usize>, String>> {
        let meant = self.manager.then(|| self.stage.0.lock().unwrap().meant);
        async move { Ok(meant) }.boxed()
    }
}

/// A node with a secret of its own, at its own address.
async fn start(place: &Place, number: u8, listener: TcpListener, stage: &Stage, manager: bool) -> Store {
    let config = config(place, number, listener);
    let view = View { stage: stage.clone(), own: host(number), manager };
    Store::start(Config { orchestrator: Some(Arc::new(view)), ..config }).await.unwrap()
}

fn config(place: &Place, number: u8, listener: TcpListener) -> Config {
    let listener_port = port(&listener);
    let secret = Secret::from_text(&format!("the secret that node {number} made")).unwrap();
    Config { secret, ..place.config(listener, Peers::List(vec![format!("127.0.0.1:{listener_port}")])) }
}

fn secret(store: &Store) -> SecretId {
    store.keyring().secrets().current().id()
}

fn waits_for(status: &Status, what: &str) -> bool {
    matches!(&status.phase, Phase::Forming { waiting_for } if waiting_for.contains(what))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_one_service_become_one_cluster_without_a_secret_from_anybody() {
    let listeners: [_; 3] = listen_on_hosts();
    let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
    let stage = Stage::meaning(3);
    let mut stores = Vec::new();
    for ((place, listener), number) in places.iter().zip(listeners).zip(1..) {
        stage.run(host(number));
        // The third is where nobody can be asked how many there are meant to be.
        stores.push(start(place, number, listener, &stage, number != 3).await);
    }
    let cluster = Cluster { places, stores };
    cluster.settled().await;
    let secrets: std::collections::BTreeSet<_> = cluster.stores.iter().map(secret).collect();
    assert_eq!(secrets.len(), 1, "all go by the same secret");
    put(&cluster.stores[0], "one", "1").await;
    assert_eq!(get(&cluster.stores[2], "one").await.as_deref(), Some("1"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_comes_later_is_handed_the_secret_of_the_cluster_and_keeps_it() {
    let [first, second, third] = listen_on_hosts();
    let address = second.local_addr().unwrap();
    let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
    let stage = Stage::meaning(1);
    stage.run(host(1));
    let mut stores = vec![start(&places[0], 1, first, &stage, true).await];
    ready(&stores[0]).await;
    put(&stores[0], "one", "1").await;
    let made = secret(&stores[0]);

    stage.mean(3);
    for (number, listener) in [(2, second), (3, third)] {
        stage.run(host(number));
        stores.push(start(&places[usize::from(number) - 1], number, listener, &stage, false).await);
        ready(stores.last().unwrap()).await;
    }
    let mut cluster = Cluster { places, stores };
    cluster.settled().await;
    for store in &cluster.stores {
        assert_eq!(secret(store), made);
        assert_eq!(get(store, "one").await.as_deref(), Some("1"));
    }

    // It needs nobody to vouch for it any more.
    cluster.stores.remove(1).shutdown().await;
    let listener = TcpListener::bind(address).unwrap();
    let again = Store::start(config(&cluster.places[1], 2, listener)).await.unwrap();
    ready(&again).await;
    assert_eq!(secret(&again), made);
    cluster.stores.insert(1, again);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_no_task_of_the_service_gets_no_secret() {
    let [first, second, third] = listen_on_hosts();
    let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
    let stage = Stage::meaning(1);
    stage.run(host(1));
    let member = start(&places[0], 1, first, &stage, true).await;
    ready(&member).await;

    // One at an address that belongs to no task, and one at a task's address whose token it has to guess.
    let forged = Stage::meaning(3);
    forged.run(host(1));
    stage.run(host(3));
    let elsewhere = start(&places[1], 2, second, &forged, true).await;
    let guessing = Stage::meaning(3);
    guessing.0.lock().unwrap().tokens.insert(host(1), "a guess".to_owned());
    let guesser = start(&places[2], 3, third, &guessing, true).await;
    for stranger in [&elsewhere, &guesser] {
        let waits = |status: &Status| waits_for(status, "2 are needed to found a cluster");
        until(stranger, "being refused", waits).await;
        assert_ne!(secret(stranger), secret(&member));
        assert_eq!(stranger.status().cluster_id, None);
    }
    assert_eq!(member.status().members.len(), 1);
    futures_util::future::join_all([&member, &elsewhere, &guesser].map(Store::shutdown)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_not_told_how_many_there_are_founds_no_cluster() {
    let [first, second] = listen_on_hosts();
    let places: Vec<Place> = (0..2).map(|_| Place::new()).collect();
    let stage = Stage::meaning(2);
    stage.run(host(1));
    let worker = start(&places[0], 1, first, &stage, false).await;
    until(&worker, "what it waits for", |status| waits_for(status, "a task of roo_roo on a manager")).await;

    stage.run(host(2));
    let manager = start(&places[1], 2, second, &stage, true).await;
    let (worker_status, manager_status) = (ready(&worker).await, ready(&manager).await);
    assert_eq!(worker_status.cluster_id, manager_status.cluster_id);
    futures_util::future::join_all([&worker, &manager].map(Store::shutdown)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_given_its_secret_hands_it_to_nobody() {
    let [first, second] = listen_on_hosts();
    let places: Vec<Place> = (0..2).map(|_| Place::new()).collect();
    let stage = Stage::meaning(2);
    stage.run(host(1));
    stage.run(host(2));
    let given = Store::start(Config { peers: Peers::Alone, ..config(&places[0], 1, first) }).await.unwrap();
    ready(&given).await;
    let asking = start(&places[1], 2, second, &stage, true).await;
    until(&asking, "what it waits for", |status| waits_for(status, "give this node the same")).await;
    assert_ne!(secret(&asking), secret(&given));
    futures_util::future::join_all([&given, &asking].map(Store::shutdown)).await;
}
