//! Real nodes on loopback: TLS, TCP, disk. Every wait has a deadline; nothing sleeps and hopes.
#![allow(missing_docs, clippy::unwrap_used)]

mod expected;
mod kin;
mod names;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use roo_kv::{
    Config, Error, Event, Expect, Key, Peers, Phase, PutOptions, ReadLevel, Revision, Role, Scan, Secret, StartError,
    Status, Store, VotersMax,
};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);
const START_DELAY: Duration = Duration::from_millis(100);
const SECRET: &str = "a secret that tests share";

/// A place for a node: its directory outlives its runs.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    async fn start(&self, listener: TcpListener, peers: Peers) -> Store {
        self.try_start(listener, peers, SECRET).await.unwrap()
    }

    async fn try_start(&self, listener: TcpListener, peers: Peers, secret: &str) -> Result<Store, StartError> {
        Store::start(Config { secret: Secret::from_text(secret).unwrap(), ..self.config(listener, peers) }).await
    }

    fn config(&self, listener: TcpListener, peers: Peers) -> Config {
        Config {
            data_dir: self.path(),
            listener,
            advertise: None,
            secret: Secret::from_text(SECRET).unwrap(),
            orchestrator: None,
            peers,
            start_delay: START_DELAY,
            expect: 0,
            dead_after: Duration::ZERO,
            voters_max: VotersMax::default(),
            is_negligible: |key| key.starts_with("own/"),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("node")
    }
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn list(addresses: &[SocketAddr]) -> Peers {
    Peers::List(addresses.iter().map(ToString::to_string).collect())
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

async fn put(store: &Store, name: &str, value: &str) -> Revision {
    put_with(store, name, value, PutOptions::default()).await.unwrap()
}

async fn put_with(store: &Store, name: &str, value: &str, options: PutOptions) -> Result<Revision, Error> {
    store.put(key(name), Bytes::copy_from_slice(value.as_bytes()), options).await
}

async fn get(store: &Store, name: &str) -> Option<String> {
    let entry = store.get(&key(name), ReadLevel::Linearizable).await.unwrap()?;
    Some(String::from_utf8(entry.value.to_vec()).unwrap())
}

async fn until(store: &Store, what: &str, holds: impl FnMut(&Status) -> bool) -> Status {
    let mut changes = store.status_changes();
    match tokio::time::timeout(DEADLINE, changes.wait_for(holds)).await {
        Ok(status) => status.unwrap().clone(),
        Err(_) => panic!("{what} did not happen in time; the node says {:#?}", store.status()),
    }
}

async fn ready(store: &Store) -> Status {
    until(store, "readiness", Status::is_ready).await
}

async fn voters(store: &Store, count: usize) {
    let enough = |status: &Status| status.members.iter().filter(|member| member.voter).count() == count;
    until(store, "the number of voters", enough).await;
}

struct Cluster {
    places: Vec<Place>,
    stores: Vec<Store>,
}

impl Cluster {
    /// Three nodes that know each other, all at once.
    async fn of_three() -> Self {
        let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
        let stores = start_all(&places).await;
        let cluster = Self { places, stores };
        cluster.settled().await;
        cluster
    }

    async fn settled(&self) {
        for store in &self.stores {
            ready(store).await;
            voters(store, 3).await;
        }
        let ids: std::collections::BTreeSet<_> = self.stores.iter().map(|s| s.status().cluster_id.unwrap()).collect();
        assert_eq!(ids.len(), 1, "there is one cluster");
    }

    fn leader(&self) -> usize {
        let leads = |store: &Store| store.status().role == Role::Leader;
        self.stores.iter().position(leads).expect("a settled cluster has a leader")
    }

    async fn stop(self) {
        futures_util::future::join_all(self.stores.iter().map(Store::shutdown)).await;
    }
}

async fn start_all(places: &[Place]) -> Vec<Store> {
    let listeners: Vec<TcpListener> = places.iter().map(|_| listen()).collect();
    let addresses: Vec<SocketAddr> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    let starting = places.iter().zip(listeners).map(|(place, listener)| place.start(listener, list(&addresses)));
    futures_util::future::join_all(starting).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_serves_and_finds_its_data_again() {
    let place = Place::new();
    let store = place.start(listen(), Peers::Alone).await;
    let identity = ready(&store).await;

    let first = put(&store, "a/b", "one").await;
    assert_eq!(get(&store, "a/b").await.as_deref(), Some("one"));
    let absent = PutOptions { expect: Some(Expect::Absent), ..PutOptions::default() };
    assert_eq!(put_with(&store, "a/b", "x", absent).await, Err(Error::Conflict { current: Some(first) }));
    let at_first = PutOptions { expect: Some(Expect::Revision(first)), ..PutOptions::default() };
    let second = put_with(&store, "a/b", "two", at_first).await.unwrap();
    assert_eq!(second, Revision(first.0 + 1));
    put(&store, "a/c", "three").await;
    put(&store, "b", "four").await;

    let range = Scan { limit: 1, ..Scan::prefix("a/") };
    let page = store.scan(range.clone(), ReadLevel::Linearizable).await.unwrap();
    assert!(page.more);
    let after = Some(page.entries[0].0.clone());
    let page = store.scan(Scan { after, ..range }, ReadLevel::Stale).await.unwrap();
    assert_eq!((page.entries[0].0.as_str(), page.more), ("a/c", false));

    assert!(store.delete(&key("b"), None).await.unwrap().is_some());
    assert_eq!(store.delete(&key("b"), None).await.unwrap(), None);

    let locked = place.try_start(listen(), Peers::Alone, SECRET).await.unwrap_err();
    assert!(matches!(locked, StartError::Locked { .. }), "{locked}");
    store.shutdown().await;
    assert_eq!(put_with(&store, "k", "v", PutOptions::default()).await, Err(Error::ShuttingDown));

    let store = place.start(listen(), Peers::Alone).await;
    let again = ready(&store).await;
    assert_eq!((again.node_id, again.cluster_id), (identity.node_id, identity.cluster_id));
    assert_eq!(get(&store, "a/b").await.as_deref(), Some("two"));
    store.shutdown().await;

    // The state is a view: without it, log and snapshots bring it back.
    std::fs::remove_dir_all(place.path().join("db")).unwrap();
    let store = place.start(listen(), Peers::Alone).await;
    ready(&store).await;
    assert_eq!(get(&store, "a/b").await.as_deref(), Some("two"));
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_one_cluster_and_serve_on_each() {
    let cluster = Cluster::of_three().await;
    let mut last = Revision(0);
    for (n, store) in cluster.stores.iter().enumerate() {
        last = put(store, &format!("k{n}"), "v").await;
    }
    for store in &cluster.stores {
        for n in 0..3 {
            assert_eq!(get(store, &format!("k{n}")).await.as_deref(), Some("v"));
        }
        assert!(store.get(&key("k0"), ReadLevel::Leader).await.unwrap().is_some());
    }
    assert_eq!(cluster.stores[0].wait_applied_everywhere(last, DEADLINE).await, 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_come_one_by_one_join_and_are_promoted() {
    let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
    let listeners: Vec<TcpListener> = (0..3).map(|_| listen()).collect();
    let addresses: Vec<SocketAddr> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    let mut stores = Vec::new();
    for (place, listener) in places.iter().zip(listeners) {
        // A connection to a listener that nobody serves would hang, as it does on a machine that is down.
        let store = place.start(listener, list(&addresses)).await;
        if !stores.is_empty() {
            ready(&store).await;
            put(&store, &format!("k{}", stores.len()), "v").await;
        }
        stores.push(store);
    }
    let cluster = Cluster { places, stores };
    cluster.settled().await;
    assert_eq!(get(&cluster.stores[0], "k2").await.as_deref(), Some("v"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_without_the_leader_and_it_comes_back() {
    let mut cluster = Cluster::of_three().await;
    put(&cluster.stores[0], "before", "1").await;
    let gone = cluster.leader();
    let store = cluster.stores.remove(gone);
    let place = cluster.places.remove(gone);
    let address = store.status().address.clone();
    store.shutdown().await;
    drop(store);

    put(&cluster.stores[0], "meanwhile", "2").await;
    assert_eq!(get(&cluster.stores[1], "before").await.as_deref(), Some("1"));

    let listener = TcpListener::bind(&address).unwrap();
    let peers = Peers::List(cluster.stores.iter().map(|s| s.status().address).collect());
    let back = place.start(listener, peers).await;
    ready(&back).await;
    assert_eq!(get(&back, "meanwhile").await.as_deref(), Some("2"));
    cluster.stores.push(back);
    cluster.places.push(place);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_may_come_back_at_other_addresses() {
    let cluster = Cluster::of_three().await;
    put(&cluster.stores[0], "k", "v").await;
    let before: BTreeMap<_, _> = cluster.stores.iter().map(|s| (s.status().node_id, s.status().address)).collect();
    let places = {
        futures_util::future::join_all(cluster.stores.iter().map(Store::shutdown)).await;
        drop(cluster.stores);
        cluster.places
    };
    let stores = start_all(&places).await;
    let cluster = Cluster { places, stores };
    cluster.settled().await;
    for store in &cluster.stores {
        assert_eq!(get(store, "k").await.as_deref(), Some("v"));
        assert_ne!(before[&store.status().node_id], store.status().address);
    }
    put(&cluster.stores[2], "k", "w").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_secret_stays_outside() {
    let place = Place::new();
    let store = place.start(listen(), Peers::Alone).await;
    ready(&store).await;
    let address: SocketAddr = store.status().address.parse().unwrap();
    let stranger = Place::new();
    let outside = stranger.try_start(listen(), list(&[address]), "quite another secret").await.unwrap();
    let waits = |status: &Status| format!("{:?}", status.phase).contains("1 of 2 answer");
    until(&outside, "waiting", waits).await;
    assert!(matches!(put_with(&outside, "k", "v", PutOptions::default()).await, Err(Error::NotReady { .. })));
    assert_eq!(store.status().members.len(), 1);
    outside.shutdown().await;
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_never_merge() {
    let places = [Place::new(), Place::new()];
    let one = places[0].start(listen(), Peers::Alone).await;
    let two = places[1].start(listen(), Peers::Alone).await;
    ready(&one).await;
    let two_before = ready(&two).await;
    two.shutdown().await;
    drop(two);
    let address: SocketAddr = one.status().address.parse().unwrap();
    let two = places[1].start(listen(), list(&[address])).await;
    ready(&two).await;
    put(&one, "k", "one").await;
    put(&two, "k", "two").await;
    assert_eq!(two.status().cluster_id, two_before.cluster_id);
    assert_ne!(one.status().cluster_id, two.status().cluster_id);
    assert_eq!((one.status().members.len(), two.status().members.len()), (1, 1));
    assert_eq!(get(&one, "k").await.as_deref(), Some("one"));
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_lease_cannot_be_kept_alive() {
    let place = Place::new();
    let store = place.start(listen(), Peers::Alone).await;
    ready(&store).await;
    let lease = store.lease_grant(Duration::from_secs(3600)).await.unwrap();
    store.lease_keep_alive(lease).await.unwrap();
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(store.lease_keep_alive(lease).await, Err(Error::LeaseNotFound { id: lease }));
    assert_eq!(store.lease_revoke(lease).await, Err(Error::LeaseNotFound { id: lease }));
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_not_kept_alive_takes_its_keys_along() {
    let place = Place::new();
    let store = place.start(listen(), Peers::Alone).await;
    ready(&store).await;
    let mut watch = store.watch("leased/");
    assert!(watch.next().await.unwrap().reset);

    let lease = store.lease_grant(Duration::from_secs(1)).await.unwrap();
    let options = PutOptions { lease: Some(lease), ..PutOptions::default() };
    put_with(&store, "leased/a", "1", options).await.unwrap();
    store.lease_keep_alive(lease).await.unwrap();
    assert!(matches!(watch.next().await.unwrap().events[..], [Event::Put { .. }]));
    let end = tokio::time::timeout(DEADLINE, watch.next()).await.unwrap().unwrap();
    assert!(matches!(end.events[..], [Event::Delete { expired: true, .. }]), "{end:?}");
    assert_eq!(store.lease_keep_alive(lease).await, Err(Error::LeaseNotFound { id: lease }));
    assert_eq!(put_with(&store, "leased/b", "1", options).await, Err(Error::LeaseNotFound { id: lease }));

    let lease = store.lease_grant(Duration::from_secs(600)).await.unwrap();
    put_with(&store, "leased/c", "1", PutOptions { lease: Some(lease), ..PutOptions::default() }).await.unwrap();
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(get(&store, "leased/c").await, None);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_may_take_all_that_has_come_in_one_piece() {
    let place = Place::new();
    let store = place.start(listen(), Peers::Alone).await;
    ready(&store).await;
    let mut watch = store.watch("all/");
    assert!(watch.next_all().await.unwrap().reset);
    let mut revision = Revision(0);
    for n in 0..50 {
        revision = put(&store, &format!("all/{n}"), "x").await;
    }
    let (mut seen, mut pieces) = (Vec::new(), 0);
    while seen.len() < 50 {
        let batch = watch.next_all().await.unwrap();
        assert!(!batch.reset && batch.revision <= revision);
        seen.extend(batch.events.iter().map(|event| event.key().to_string()));
        pieces += 1;
    }
    assert_eq!(seen, (0..50).map(|n| format!("all/{n}")).collect::<Vec<_>>());
    assert!(pieces < 50, "{pieces}");
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_has_no_gap_and_no_repeat_even_if_it_lags() {
    let place = Place::new();
    let store = place.start(listen(), Peers::Alone).await;
    ready(&store).await;
    let follow = |mut watch: roo_kv::Watch, slow: bool| async move {
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        let mut revision = Revision(0);
        while !known.contains_key("w/end") {
            let batch = tokio::time::timeout(DEADLINE, watch.next()).await.unwrap().unwrap();
            assert!(batch.reset || batch.revision > revision, "no repeat");
            revision = batch.revision;
            if batch.reset {
                known.clear();
            }
            for event in batch.events {
                match event {
                    Event::Put { key, entry, .. } => {
                        known.insert(key.to_string(), String::from_utf8(entry.value.to_vec()).unwrap())
                    }
                    Event::Delete { key, .. } => known.remove(key.as_str()),
                };
            }
            if slow {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        known
    };
    let quick = tokio::spawn(follow(store.watch("w/"), false));
    let slow = tokio::spawn(follow(store.watch("w/"), true));
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        async move {
            for n in 0..40 {
                put(&store, &format!("w/{writer}/{}", n % 5), &n.to_string()).await;
                put(&store, &format!("other/{writer}"), "x").await;
            }
        }
    });
    futures_util::future::join_all(writers).await;
    put(&store, "w/end", "1").await;
    let page = store.scan(Scan::prefix("w/"), ReadLevel::Linearizable).await.unwrap();
    let expected: BTreeMap<String, String> = page
        .entries
        .into_iter()
        .map(|(key, entry)| (key.to_string(), String::from_utf8(entry.value.to_vec()).unwrap()))
        .collect();
    assert_eq!(quick.await.unwrap(), expected);
    assert_eq!(slow.await.unwrap(), expected);
    store.shutdown().await;
}

/// A node in a process of its own, which is killed when the test is done with it.
struct Process {
    child: std::process::Child,
    address: SocketAddr,
}

impl Process {
    fn start(place: &Place, peers: &[SocketAddr]) -> Self {
        use std::io::BufRead;
        let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["node_in_a_process", "--exact", "--ignored", "--nocapture"])
            .env("ROO_KV_TEST_DIR", place.dir.path())
            .env("ROO_KV_TEST_PEERS", peers.join(","))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("listening on ")?.1.parse().unwrap())).unwrap();
        // Somebody has to read what else it says, or it would block.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL, as a power cut looks to the process.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "not a test: what the test of killed processes runs in another process"]
async fn node_in_a_process() {
    let Some(dir) = std::env::var_os("ROO_KV_TEST_DIR") else { return };
    let peers: Vec<String> =
        std::env::var("ROO_KV_TEST_PEERS").unwrap().split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect();
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let config = Config {
        data_dir: PathBuf::from(dir).join("node"),
        listener,
        advertise: None,
        secret: Secret::from_text(SECRET).unwrap(),
        orchestrator: None,
        peers: if peers.is_empty() { Peers::Alone } else { Peers::List(peers) },
        start_delay: Duration::ZERO,
        expect: 0,
        dead_after: Duration::ZERO,
        voters_max: VotersMax::default(),
        is_negligible: |_| false,
    };
    let store = Store::start(config).await.unwrap();
    println!("\nlistening on {address}");
    // Not for ever, should the test that started it be gone.
    drop(tokio::time::timeout(Duration::from_secs(120), store.failed()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_in_mid_flight_takes_nothing_acknowledged_along() {
    let place = Place::new();
    let leader = Process::start(&place, &[]);
    let places = [Place::new(), Place::new()];
    let mut stores = Vec::new();
    for other in &places {
        let store = other.start(listen(), list(&[leader.address])).await;
        ready(&store).await;
        stores.push(store);
    }
    voters(&stores[0], 3).await;
    voters(&stores[1], 3).await;
    let killed = stores[0].status().leader.unwrap();

    // Writers go on through the kill; what was acknowledged must be there afterwards.
    let writing = stores.iter().enumerate().map(|(writer, store)| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..200 {
                put(&store, &format!("{writer}/{n}"), "v").await;
            }
        })
    });
    let writing: Vec<_> = writing.collect();
    let begun = |status: &Status| status.revision > Revision(40);
    until(&stores[0], "some writes", begun).await;
    drop(leader);
    for writer in writing {
        writer.await.unwrap();
    }
    assert_ne!(stores[0].status().leader, Some(killed));
    let page = stores[1].scan(Scan::prefix(""), ReadLevel::Linearizable).await.unwrap();
    assert_eq!((page.entries.len(), page.revision), (400, Revision(400)), "each write happened once");

    let addresses: Vec<SocketAddr> = stores.iter().map(|s| s.status().address.parse().unwrap()).collect();
    let back = Process::start(&place, &addresses);
    let caught_up = |status: &Status| {
        status.members.iter().any(|m| m.id == killed && m.reachable && m.address == back.address.to_string())
    };
    until(&stores[0], "the return of the killed node", caught_up).await;
    assert_eq!(stores[0].wait_applied_everywhere(page.revision, DEADLINE).await, 0);
    futures_util::future::join_all(stores.iter().map(Store::shutdown)).await;
}
