//! dns-01 at a real name server, in the three ways in which records are written.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roo_acme::{
    AcmeDns, Authority, Challenge, Challenges, DnsConfig, DnsHook, DnsUpdate, DnsWriter, Item, TsigAlgorithm,
};
use tempfile::TempDir;

use crate::eventually;
use crate::knot::{ALGORITHM, KEY, Knot, SECRET};
use crate::node::Node;
use crate::pebble::{Pebble, Site};
use crate::vault::Cluster;

const RECORD: &str = "_acme-challenge.shop.example";

/// A name server and a CA that asks it.
struct Stage {
    dir: TempDir,
    knot: Arc<Knot>,
    site: Site,
    pebble: Pebble,
    cluster: Arc<Cluster>,
}

impl Stage {
    async fn set(zones: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let knot = Arc::new(Knot::start(&dir.path().join("knot"), free_port(), zones).unwrap());
        let site = Site::new();
        let pebble = site.start_with_dns(knot.address, 1).await;
        Self { dir, knot, site, pebble, cluster: Cluster::new() }
    }

    /// dns-01 and nothing else, seen at this name server.
    fn authority(&self, writer: DnsWriter) -> Authority {
        self.authority_seen_at(writer, vec![self.knot.address], Duration::from_secs(60))
    }

    fn authority_seen_at(&self, writer: DnsWriter, servers: Vec<SocketAddr>, wait: Duration) -> Authority {
        let dns = DnsConfig { writer, resolver: Some(self.knot.address), servers, wait };
        self.site.authority_by(Challenges::new([Challenge::Dns01]).with_dns(dns))
    }

    fn update(&self) -> DnsWriter {
        self.update_with(SECRET)
    }

    fn update_with(&self, secret: &str) -> DnsWriter {
        DnsWriter::Update(DnsUpdate {
            host: self.knot.address.ip().to_string(),
            port: self.knot.address.port(),
            key: KEY.to_owned(),
            algorithm: TsigAlgorithm::HmacSha512,
            secret: secret.to_owned(),
        })
    }

    /// Waits for the certificate of `name`, and until nothing is left of its order.
    async fn issued(&self, name: &str) {
        let certificate = eventually(name, async || self.cluster.certificate(name)).await;
        assert!(certificate.covers(name));
        let order = Item::Order { name: name.to_owned() };
        eventually("a forgotten order", async || self.cluster.item(&order).is_none().then_some(())).await;
    }

    fn texts(&self) -> Vec<String> {
        self.knot.texts(RECORD).unwrap()
    }
}

#[tokio::test]
async fn a_wildcard_and_the_name_below_it_are_proven_by_dynamic_update() {
    let stage = Stage::set(&[("shop.example", "")]).await;
    let node = Node::start(&stage.cluster, stage.authority(stage.update()));
    // Side by side, by two records of one name.
    stage.cluster.want(&["*.shop.example", "shop.example", "a.b.shop.example"]);
    for name in ["*.shop.example", "shop.example", "a.b.shop.example"] {
        stage.issued(name).await;
    }
    node.stop().await;
    assert_eq!(stage.texts(), [""; 0], "the records are taken back");
    assert_eq!(stage.pebble.orders(), 3);
}

#[tokio::test]
async fn an_alias_leads_to_the_zone_where_the_record_is_written() {
    // Both ends in one zone: Pebble asks a server that follows no alias to another one.
    let alias = "_acme-challenge.alias 60 CNAME one.alias\none.alias 60 CNAME proof";
    let stage = Stage::set(&[("shop.example", alias)]).await;
    let node = Node::start(&stage.cluster, stage.authority(stage.update()));
    stage.cluster.want(&["*.alias.shop.example"]);
    stage.issued("*.alias.shop.example").await;
    node.stop().await;
    assert_eq!(stage.knot.texts("proof.shop.example").unwrap(), [""; 0]);
}

#[tokio::test]
async fn the_record_of_a_killed_issuer_is_taken_back_by_the_next_one() {
    let stage = Stage::set(&[("shop.example", "")]).await;
    // A second server of the zone that is never told of changes.
    let late = Knot::start(&stage.dir.path().join("late"), free_port(), &[("shop.example", "")]).unwrap();
    let both = vec![stage.knot.address, late.address];
    let first = stage.authority_seen_at(stage.update(), both, Duration::from_secs(120));
    let first = Node::start(&stage.cluster, first);
    stage.cluster.want(&["*.shop.example"]);
    eventually("a record", async || stage.texts().first().cloned()).await;
    first.kill().await;
    assert_eq!(stage.texts().len(), 1);
    let second = Node::start(&stage.cluster, stage.authority(stage.update()));
    stage.issued("*.shop.example").await;
    second.stop().await;
    assert_eq!(stage.texts(), [""; 0]);
    assert_eq!(stage.pebble.orders(), 1, "the order was continued");
}

#[tokio::test]
async fn a_server_that_does_not_show_the_record_is_named_and_the_ca_is_not_asked_to_look() {
    let stage = Stage::set(&[("shop.example", "")]).await;
    let late = Knot::start(&stage.dir.path().join("late"), free_port(), &[("shop.example", "")]).unwrap();
    let both = vec![stage.knot.address, late.address];
    let authority = stage.authority_seen_at(stage.update(), both, Duration::from_secs(1));
    let node = Node::start(&stage.cluster, authority);
    stage.cluster.want(&["*.shop.example"]);
    let attempts = eventually("a failure", async || stage.cluster.attempts("*.shop.example")).await;
    node.stop().await;
    let error = &attempts.last_error;
    assert!(error.contains(&late.address.to_string()) && error.contains(RECORD), "{error}");
    assert!(!error.contains(&stage.knot.address.to_string()), "{error}");
    assert_eq!(attempts.refusals, 0, "it cost nothing at the CA");
}

#[tokio::test]
async fn a_key_that_the_server_does_not_know_is_named() {
    let stage = Stage::set(&[("shop.example", "")]).await;
    let node = Node::start(&stage.cluster, stage.authority(stage.update_with("bm90IHRoZSBzZWNyZXQ=")));
    stage.cluster.want(&["*.shop.example"]);
    let attempts = eventually("a failure", async || stage.cluster.attempts("*.shop.example")).await;
    node.stop().await;
    let error = &attempts.last_error;
    assert!(error.contains("key \"roo\"") && error.contains("shop.example"), "{error}");
    assert_eq!(attempts.refusals, 0);
}

#[tokio::test]
async fn a_hook_writes_records_and_takes_them_back() {
    let stage = Stage::set(&[("shop.example", "")]).await;
    let script = format!(
        "#!/bin/sh\nset -eu\ncase $1 in present) change=\"add $2. 60\" ;; cleanup) change=\"del $2.\" ;; esac\n\
         knsupdate -y {ALGORITHM}:{KEY}:{SECRET} <<END\nserver {} {}\nzone shop.example.\n\
         update $change TXT \"$3\"\nsend\nquit\nEND\n",
        stage.knot.address.ip(),
        stage.knot.address.port(),
    );
    let program = stage.dir.path().join("hook");
    write_program(&program, &script);
    let hook = DnsWriter::Hook(DnsHook { program, timeout: Duration::from_secs(60) });
    let node = Node::start(&stage.cluster, stage.authority(hook));
    stage.cluster.want(&["*.shop.example"]);
    stage.issued("*.shop.example").await;
    node.stop().await;
    assert_eq!(stage.texts(), [""; 0]);
}

#[tokio::test]
async fn an_account_at_acme_dns_is_registered_and_used_once_the_name_is_delegated() {
    let stage = Stage::set(&[("shop.example", "")]).await;
    let api = Api::start(stage.knot.clone());
    let writer =
        || DnsWriter::AcmeDns(AcmeDns { url: format!("http://{}", api.address), accounts: Default::default() });
    let node = Node::start(&stage.cluster, stage.authority(writer()));
    stage.cluster.want(&["*.shop.example"]);
    let attempts = eventually("a failure", async || stage.cluster.attempts("*.shop.example")).await;
    assert!(attempts.last_error.contains(&format!("{RECORD} CNAME a1.auth.shop.example")), "{}", attempts.last_error);
    // What the message asks for.
    stage.knot.update("shop.example", &format!("add {RECORD}. 60 CNAME a1.auth.shop.example.")).unwrap();
    stage.issued("*.shop.example").await;
    node.stop().await;
    assert_eq!(api.calls(), ["register", "update"], "one account for ever");

    // An account from a file.
    let file = r#"{ "other.example": {
        "username": "u", "password": "p", "fulldomain": "a1.auth.shop.example", "subdomain": "a1", "allowfrom": [] } }"#;
    assert!(AcmeDns::read_accounts(file).unwrap().contains_key("other.example"));
}

/// The API of acme-dns over a zone of the name server.
struct Api {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Api {
    fn start(knot: Arc<Knot>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, calls) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let noted = calls.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read_request(&mut stream);
                let (status, body) = answer(&knot, &request, &noted);
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        Self { address, calls }
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

fn read_request(stream: &mut std::net::TcpStream) -> String {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    loop {
        let count = stream.read(&mut bytes).unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if count == 0 || body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

fn answer(knot: &Knot, request: &str, calls: &Mutex<Vec<String>>) -> (&'static str, String) {
    let mut calls = calls.lock().unwrap();
    let lower = request.to_ascii_lowercase();
    if request.starts_with("POST /register ") {
        calls.push("register".to_owned());
        let number = calls.len();
        let account = format!(
            r#"{{"username":"user{number}","password":"pass{number}","fulldomain":"a{number}.auth.shop.example","subdomain":"a{number}","allowfrom":[]}}"#
        );
        return ("201 Created", account);
    }
    if !request.starts_with("POST /update ")
        || !lower.contains("x-api-user: user1\r\n")
        || !lower.contains("x-api-key: pass1\r\n")
    {
        return ("401 Unauthorized", r#"{"error":"forbidden"}"#.to_owned());
    }
    calls.push("update".to_owned());
    let body: serde_json::Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let (subdomain, text) = (body["subdomain"].as_str().unwrap(), body["txt"].as_str().unwrap());
    knot.update("shop.example", &format!("add {subdomain}.auth.shop.example. 1 TXT \"{text}\"")).unwrap();
    ("200 OK", format!(r#"{{"txt":"{text}"}}"#))
}

fn write_program(path: &Path, script: &str) {
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// A port for TCP and UDP below those that the system gives to whoever asks for any.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 20_000) as u16;
    let mut candidates = (0..20_000).map(|_| 10_000 + (start + GIVEN.fetch_add(7, Ordering::SeqCst) % 20_000) % 20_000);
    let is_free =
        |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok();
    candidates.find(is_free).unwrap()
}
