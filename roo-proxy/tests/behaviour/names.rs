//! Upstream names, asked of a DNS server of our own.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roo_proxy::{Config, Timeouts};
use tokio::net::UdpSocket;

use crate::bench::{Bench, SOON, loopback};
use crate::client::{field, get, status};
use crate::upstream::Upstream;

type Records = Arc<Mutex<HashMap<String, Vec<Ipv4Addr>>>>;

/// A DNS server over UDP that knows addresses, with a long time to live, and denies all else.
pub(crate) struct Dns {
    address: SocketAddr,
    records: Records,
    asked: Arc<Mutex<Vec<String>>>,
    silent: Arc<Mutex<Vec<String>>>,
}

impl Dns {
    pub(crate) async fn start() -> Dns {
        let socket = UdpSocket::bind(loopback()).await.unwrap();
        let dns = Dns {
            address: socket.local_addr().unwrap(),
            records: Records::default(),
            asked: Arc::default(),
            silent: Arc::default(),
        };
        let (records, asked, silent) = (dns.records.clone(), dns.asked.clone(), dns.silent.clone());
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut query).await {
                let answer = answer(&query[..length], &records, &asked);
                let last = asked.lock().unwrap().last().cloned().unwrap_or_default();
                if !silent.lock().unwrap().contains(&last) {
                    let _ = socket.send_to(&answer, peer).await;
                }
            }
        });
        dns
    }

    pub(crate) fn set(&self, name: &str, addresses: &[[u8; 4]]) {
        let addresses = addresses.iter().copied().map(Ipv4Addr::from).collect();
        self.records.lock().unwrap().insert(name.to_owned(), addresses);
    }

    /// Makes questions for a name go unanswered.
    fn silence(&self, name: &str) {
        self.silent.lock().unwrap().push(name.to_owned());
    }

    pub(crate) fn bench(&self) -> Bench {
        Bench::with(Config { resolver: Some(self.address), ..Config::default() })
    }
}

/// RFC 1035 §4, as far as one question of type A needs it.
fn answer(query: &[u8], records: &Records, asked: &Mutex<Vec<String>>) -> Vec<u8> {
    let mut name = String::new();
    let mut at = 12;
    while query[at] != 0 {
        let label = &query[at + 1..at + 1 + usize::from(query[at])];
        name.push_str(&String::from_utf8_lossy(label).to_lowercase());
        name.push('.');
        at += 1 + label.len();
    }
    let end = at + 5;
    let is_a = query[at + 1..at + 3] == [0, 1];
    asked.lock().unwrap().push(name.clone());
    let known = records.lock().unwrap().get(&name).cloned();
    let found = if is_a { known.clone().unwrap_or_default() } else { Vec::new() };
    let code = if known.is_some() { 0x80 } else { 0x83 };
    let mut bytes = vec![query[0], query[1], 0x81, code, 0, 1, 0, found.len() as u8, 0, 0, 0, 0];
    bytes.extend_from_slice(&query[12..end]);
    for address in found {
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4]);
        bytes.extend_from_slice(&address.octets());
    }
    bytes
}

/// Two upstreams on one port and two addresses.
async fn twins() -> (Upstream, Upstream, u16) {
    loop {
        let first = Upstream::echo("first").await;
        let port = first.address.port();
        // The port may be taken on the other address, by whoever; then both are tried anew.
        if std::net::TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).is_ok() {
            let second = Upstream::echo_at(([127, 0, 0, 2], port).into(), "second").await;
            return (first, second, port);
        }
    }
}

async fn who(bench: &Bench) -> String {
    let response = get(bench.http, "shop.test").await;
    field(&response, "x-upstream").unwrap_or_else(|| panic!("{response}")).to_owned()
}

#[tokio::test]
async fn all_tasks_of_a_service_are_in_rotation_and_kept_fresh() {
    let dns = Dns::start().await;
    let (_first, _second, port) = twins().await;
    dns.set("tasks.shop_web.", &[[127, 0, 0, 1], [127, 0, 0, 2]]);
    // The virtual address must not be asked for.
    dns.set("shop_web.", &[[127, 0, 0, 9]]);
    let bench = dns.bench();
    bench.routes(&[("shop.test:http", format!("http://shop_web:{port}"))]);
    let names = [who(&bench).await, who(&bench).await, who(&bench).await];
    assert!(names[0] != names[1] && names[0] == names[2], "{names:?}");
    assert!(!dns.asked.lock().unwrap().contains(&"shop_web.".to_owned()));
    // A task goes, whatever the time to live of its record.
    dns.set("tasks.shop_web.", &[[127, 0, 0, 2]]);
    let settled = async {
        while !(who(&bench).await == "second" && who(&bench).await == "second") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, settled).await.expect("the address should have gone");
}

#[tokio::test]
async fn a_name_that_is_no_service_is_asked_for_itself() {
    let dns = Dns::start().await;
    let upstream = Upstream::echo("a").await;
    let port = upstream.address.port();
    dns.set("web.", &[[127, 0, 0, 1]]);
    dns.set("web.example.", &[[127, 0, 0, 1]]);
    let bench = dns.bench();
    for name in ["web", "web.example"] {
        bench.routes(&[("shop.test:http", format!("http://{name}:{port}"))]);
        assert_eq!(who(&bench).await, "a");
    }
    let asked = dns.asked.lock().unwrap();
    assert!(asked.contains(&"tasks.web.".to_owned()) && !asked.contains(&"tasks.web.example.".to_owned()), "{asked:?}");
}

#[tokio::test]
async fn localhost_means_both_families() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("not checked: this machine has no IPv6 loopback");
        return;
    }
    let upstream = Upstream::echo_at("[::1]:0".parse().unwrap(), "six").await;
    let bench = Bench::start();
    bench.routes(&[("shop.test:http", format!("http://localhost:{}", upstream.address.port()))]);
    for _ in 0..4 {
        assert_eq!(who(&bench).await, "six");
    }
}

#[tokio::test]
async fn one_silent_name_does_not_hold_up_another() {
    let dns = Dns::start().await;
    let upstream = Upstream::echo("a").await;
    dns.set("web.example.", &[[127, 0, 0, 1]]);
    dns.silence("mute.example.");
    let timeouts = Timeouts { connect: 10 * SOON, ..Timeouts::default() };
    let bench = Bench::with(Config { resolver: Some(dns.address), timeouts, ..Config::default() });
    let port = upstream.address.port();
    let route = format!(r#"{{"to":["http://mute.example:{port}","http://web.example:{port}"]}}"#);
    bench.routes(&[("shop.test:http", route)]);
    assert_eq!(who(&bench).await, "a");
}

#[tokio::test]
async fn a_denied_name_is_502_at_once() {
    let dns = Dns::start().await;
    // Longer than any test waits: a denial is an answer.
    let timeouts = Timeouts { connect: 10 * SOON, ..Timeouts::default() };
    let bench = Bench::with(Config { resolver: Some(dns.address), timeouts, ..Config::default() });
    bench.routes(&[("shop.test:http", "http://gone_service")]);
    let response = get(bench.http, "shop.test").await;
    assert_eq!((status(&response), field(&response, "roo-error")), (502, Some("upstream-unresolved")));
}
