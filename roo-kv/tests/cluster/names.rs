//! Nodes that find each other by a name in the DNS.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::*;

/// A name server that answers every question for an A record with what it shows, and others with nothing (RFC 1035,
/// section 4).
#[derive(Clone)]
struct Names {
    address: SocketAddr,
    shown: Arc<Mutex<Vec<Ipv4Addr>>>,
    /// How many questions were answered.
    answered: Arc<AtomicUsize>,
}

impl Names {
    async fn showing(addresses: Vec<Ipv4Addr>) -> Self {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let names = Self { address, shown: Arc::new(Mutex::new(addresses)), answered: Arc::default() };
        tokio::spawn(names.clone().serve(socket));
        names
    }

    async fn serve(self, socket: tokio::net::UdpSocket) {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let reply = self.reply(&buffer[..length]);
            socket.send_to(&reply, from).await.unwrap();
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn reply(&self, query: &[u8]) -> Vec<u8> {
        let name_length = query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
        let question = &query[12..12 + name_length + 4];
        let is_a = question[name_length..name_length + 2] == [0, 1];
        let answers = if is_a { self.shown().clone() } else { vec![] };
        let mut reply = query[..2].to_vec();
        reply.extend([0x81, 0x80, 0, 1, 0, answers.len() as u8, 0, 0, 0, 0]);
        reply.extend(question);
        for answer in answers {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4]);
            reply.extend(answer.octets());
        }
        reply
    }

    fn shown(&self) -> MutexGuard<'_, Vec<Ipv4Addr>> {
        self.shown.lock().unwrap()
    }

    /// Nodes with this Raft port that look for each other here.
    fn peers(&self, port: u16) -> Peers {
        Peers::Dns { name: "tasks.roo_roo.".to_owned(), port, resolver: Some(self.address) }
    }
}

pub(super) fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number)
}

/// Listeners with one port on 127.0.0.1, 127.0.0.2 and so on.
pub(super) fn listen_on_hosts<const N: usize>() -> [TcpListener; N] {
    let taken = (0..100).find_map(|_| {
        let first = listen();
        let port = first.local_addr().unwrap().port();
        let others = (2..=N as u8).map(|number| TcpListener::bind((host(number), port)));
        let all: Vec<TcpListener> = std::iter::once(Ok(first)).chain(others).collect::<Result<_, _>>().ok()?;
        all.try_into().ok()
    });
    taken.expect("there is a port that is free everywhere")
}

pub(super) fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_find_each_other_by_a_name() {
    let listeners: [_; 3] = listen_on_hosts();
    let peers = Names::showing([1, 2, 3].map(host).to_vec()).await.peers(port(&listeners[0]));
    let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
    let starting = places.iter().zip(listeners).map(|(place, listener)| place.start(listener, peers.clone()));
    let stores = futures_util::future::join_all(starting).await;
    let cluster = Cluster { places, stores };
    cluster.settled().await;
    put(&cluster.stores[1], "k", "v").await;
    assert_eq!(get(&cluster.stores[2], "k").await.as_deref(), Some("v"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_with_only_ourselves_makes_a_lone_node() {
    let listener = listen();
    let peers = Names::showing(vec![host(1)]).await.peers(port(&listener));
    let place = Place::new();
    let store = place.start(listener, peers).await;
    ready(&store).await;
    assert_eq!(store.status().members.len(), 1);
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_a_name_shows_later_join_the_one_that_founded_alone() {
    let [first, second, third] = listen_on_hosts();
    let names = Names::showing(vec![host(1)]).await;
    let peers = names.peers(port(&first));
    let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
    let mut stores = vec![places[0].start(first, peers.clone()).await];
    let founded = ready(&stores[0]).await.cluster_id;
    assert_eq!(stores[0].status().members.len(), 1);
    put(&stores[0], "alone", "1").await;

    // One is shown before it starts, the other is there before it is shown.
    names.shown().push(host(2));
    stores.push(places[1].start(second, peers.clone()).await);
    ready(&stores[1]).await;
    put(&stores[1], "two", "2").await;
    stores.push(places[2].start(third, peers).await);
    names.shown().push(host(3));

    let cluster = Cluster { places, stores };
    cluster.settled().await;
    for store in &cluster.stores {
        assert_eq!(store.status().cluster_id, founded);
        assert_eq!(get(store, "alone").await.as_deref(), Some("1"));
        assert_eq!(get(store, "two").await.as_deref(), Some("2"));
    }
    cluster.stop().await;
}

/// Whoever asked that often has looked for much longer than one that sees itself alone waits: each look at a name asks
/// twice, and looks are a quarter of a second apart.
const MANY_ANSWERS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expected_nodes_that_a_name_hides_from_each_other_wait_and_become_one_cluster() {
    let listeners: [_; 3] = listen_on_hosts();
    let port = port(&listeners[0]);
    let (mut servers, mut stores) = (Vec::new(), Vec::new());
    let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
    for ((place, listener), number) in places.iter().zip(listeners).zip(1..) {
        let names = Names::showing(vec![host(number)]).await;
        let config = Config { expect: 3, ..place.config(listener, names.peers(port)) };
        stores.push(Store::start(config).await.unwrap());
        servers.push(names);
    }
    let looked = async {
        while servers.iter().any(|names| names.answered.load(Ordering::Relaxed) < MANY_ANSWERS) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looked).await.expect("they look for each other");
    for store in &stores {
        let Phase::Forming { waiting_for } = store.status().phase else { panic!("{:#?}", store.status()) };
        assert_eq!(waiting_for, "more nodes: 1 of 3 answer, 2 are needed to found a cluster");
    }

    for names in &servers {
        *names.shown() = [1, 2, 3].map(host).to_vec();
    }
    let cluster = Cluster { places, stores };
    cluster.settled().await;
    cluster.stop().await;
}

/// Two nodes, each with a name server that shows it itself alone until it is told of both.
struct Hidden {
    places: [Place; 2],
    port: u16,
    servers: [Names; 2],
}

impl Hidden {
    async fn new() -> (Self, [Store; 2]) {
        let [one, two] = listen_on_hosts();
        let servers = [Names::showing(vec![host(1)]).await, Names::showing(vec![host(2)]).await];
        let hidden = Self { places: [Place::new(), Place::new()], port: port(&one), servers };
        let stores = [hidden.start(0, one).await, hidden.start(1, two).await];
        for store in &stores {
            ready(store).await;
        }
        assert_ne!(stores[0].status().cluster_id, stores[1].status().cluster_id, "they could not see each other");
        (hidden, stores)
    }

    async fn start(&self, which: usize, listener: TcpListener) -> Store {
        self.places[which].start(listener, self.servers[which].peers(self.port)).await
    }

    fn reveal(&self) {
        for names in &self.servers {
            *names.shown() = vec![host(1), host(2)];
        }
    }

    /// Waits until one of the two ends to be started again, and does that.
    async fn one_gives_way(&self, stores: &mut [Store; 2]) -> usize {
        let [one, two] = [stores[0].failed(), stores[1].failed()];
        let ends = async {
            tokio::select! {
                reason = one => (0, reason),
                reason = two => (1, reason),
            }
        };
        let (which, reason) = tokio::time::timeout(DEADLINE, ends).await.expect("one gives way");
        assert!(stores[which].wants_restart(), "{reason}");
        let address = stores[which].status().address;
        stores[which].shutdown().await;
        stores[which] = self.start(which, TcpListener::bind(address).unwrap()).await;
        which
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_clusters_that_a_name_hid_from_each_other_the_empty_one_gives_way() {
    let (hidden, mut stores) = Hidden::new().await;
    put(&stores[0], "own/made-anew", "x").await;
    put(&stores[1], "somebody's", "data").await;
    hidden.reveal();
    assert_eq!(hidden.one_gives_way(&mut stores).await, 0);
    voters(&stores[0], 2).await;
    ready(&stores[0]).await;
    assert_eq!(stores[0].status().cluster_id, stores[1].status().cluster_id);
    assert_eq!(get(&stores[0], "somebody's").await.as_deref(), Some("data"));
    assert_eq!(get(&stores[0], "own/made-anew").await, None);
    futures_util::future::join_all(stores.iter().map(Store::shutdown)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_empty_clusters_that_a_name_hid_from_each_other_one_gives_way() {
    let (hidden, mut stores) = Hidden::new().await;
    let lower = stores.iter().map(|store| store.status().cluster_id).min().unwrap();
    hidden.reveal();
    hidden.one_gives_way(&mut stores).await;
    for store in &stores {
        voters(store, 2).await;
        assert_eq!(ready(store).await.cluster_id, lower);
    }
    futures_util::future::join_all(stores.iter().map(Store::shutdown)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_that_both_hold_something_stay_two() {
    let (hidden, stores) = Hidden::new().await;
    for store in &stores {
        put(store, "somebody's", "data").await;
    }
    hidden.reveal();
    for store in &stores {
        // They have met when each knows where the other is, which it also needs some looks for.
        let ended = tokio::time::timeout(Duration::from_secs(4), store.failed()).await;
        assert!(ended.is_err(), "{ended:?}");
        assert!(store.status().is_ready());
    }
    futures_util::future::join_all(stores.iter().map(Store::shutdown)).await;
}
