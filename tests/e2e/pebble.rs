//! Certificates from a real ACME server, for a cluster of three.

use std::net::{Ipv4Addr, SocketAddr};

use rustls_pki_types::CertificateDer;

use crate::support::cluster::{Cluster, Node, Start, tail};
use crate::support::context::Context;
use crate::support::dns::Dns;
use crate::support::https::Https;
use crate::support::knot::{self, Knot};
use crate::support::pebble::Pebble;
use crate::support::ports::free_address;
use crate::support::ports::free_port_at;
use crate::support::upstream::Upstream;
use crate::support::wait::until;
use crate::support::{Result, ensure};
use anyhow::Context as _;

/// Three nodes that order at `pebble`, their http listeners on one port of three addresses.
pub async fn cluster(context: &Context, pebble: &Pebble, http_port: u16) -> Result<Cluster> {
    cluster_of(context, pebble, |start| start.http(http_port).args(["--acme-challenge", "http-01"])).await
}

/// Three nodes that order at `pebble`.
async fn cluster_of(context: &Context, pebble: &Pebble, with: impl Fn(Start) -> Start) -> Result<Cluster> {
    let file = pebble.ca_file.display().to_string();
    let directory = pebble.directory();
    let more = ["--acme-directory", directory.as_str(), "--acme-ca-file", file.as_str()];
    let starts = Cluster::plan(context, 3, &[])?;
    let mut cluster = Cluster { starts: Vec::new(), nodes: Vec::new() };
    for start in starts {
        let start = with(start).without_authority().args(more);
        cluster.nodes.push(start.spawn().await?);
        cluster.starts.push(start);
    }
    cluster.formed().await?;
    Ok(cluster)
}

/// A port that is free on 127.0.0.1 to 127.0.0.3.
pub fn common_port() -> Result<u16> {
    free_port_at(&[1, 2, 3].map(|k| [127, 0, 0, k].into()))
}

pub async fn leaf(https: &Https, node: &Node, name: &str) -> Result<CertificateDer<'static>> {
    let stream = https.connect(node.https, name, &["http/1.1"]).await?;
    let (_, connection) = stream.get_ref();
    connection.peer_certificates().and_then(|chain| chain.first()).cloned().context("no certificate")
}

#[tokio::test]
async fn a_new_route_gets_one_certificate_for_all_nodes_without_a_visit() -> Result<()> {
    let context = Context::new();
    let port = common_port()?;
    let pebble = Pebble::start(&context, port, Ipv4Addr::new(127, 0, 0, 2)).await?;
    let cluster = cluster(&context, &pebble, port).await?;
    let upstream = Upstream::saying("with a certificate").await?;
    cluster.nodes[0].route("acme.example:https", &upstream.url()).await?;
    for node in &cluster.nodes {
        until("the certificate is at hand, though nobody asked for it", async || {
            let certs = node.api.get("/roo/v1/certs").await?.json()?;
            ensure!(certs[0]["name"] == "acme.example" && certs[0]["state"] == "ready", "{certs}");
            Ok(())
        })
        .await
        .with_context(|| tail(&pebble.log()))?;
    }
    let https = Https::trusting(&pebble.root().await?)?;
    let first = leaf(&https, &cluster.nodes[0], "acme.example").await?;
    for node in &cluster.nodes {
        ensure!(leaf(&https, node, "acme.example").await? == first, "another certificate");
        ensure!(https.get(node.https, "acme.example", "/").await?.text() == "with a certificate");
        let listed = node.api.get("/roo/v1/kvs/com.roo.cache:").await?.json()?;
        let value = listed["results"]["com.roo.cache:acme.example"].as_str().unwrap_or_default().to_owned();
        let shown = String::from_utf8(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &value)?)?;
        ensure!(shown.contains("not_after") && !shown.to_lowercase().contains("private"), "{listed}");
        ensure!(!shown.contains("BEGIN"), "{shown}");
    }
    ensure!(pebble.issued() == 1 && pebble.orders() >= 1, "issued {} times\n{}", pebble.issued(), tail(&pebble.log()));
    nowhere_a_plain_key(&context)
}

/// Neither data directories nor logs hold a private key.
fn nowhere_a_plain_key(context: &Context) -> Result<()> {
    let mut pending = vec![context.dir().to_owned()];
    let mut files = 0;
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if !path.ends_with("pebble-key.pem") {
                files += 1;
                let bytes = std::fs::read(&path)?;
                let found = bytes.windows(16).any(|part| part == b"-BEGIN PRIVATE K" || part == b"EGIN EC PRIVATE ");
                ensure!(!found, "a private key lies open in {}", path.display());
            }
        }
    }
    ensure!(files > 3, "only {files} files were looked at");
    Ok(())
}

#[tokio::test]
async fn any_node_shows_the_answer_in_a_handshake() -> Result<()> {
    let context = Context::new();
    let port = common_port()?;
    // Nobody listens there for plain http.
    let pebble = Pebble::start(&context, port, Ipv4Addr::LOCALHOST).await?;
    let by_tls = ["--acme-challenge", "tls-alpn-01"];
    let cluster = cluster_of(&context, &pebble, |start| start.https(port).args(by_tls)).await?;
    let upstream = Upstream::saying("by tls").await?;
    for (k, node) in cluster.nodes.iter().enumerate() {
        pebble.dns.set(vec![Ipv4Addr::new(127, 0, 0, u8::try_from(k + 1)?)]);
        let name = format!("tls{k}.example");
        node.route(&format!("{name}:https"), &upstream.url()).await?;
        until("the certificate is at hand", async || {
            let certs = node.api.get("/roo/v1/certs").await?.json()?;
            let ready = |cert: &serde_json::Value| cert["name"] == name.as_str() && cert["state"] == "ready";
            ensure!(certs.as_array().is_some_and(|certs| certs.iter().any(ready)), "{certs}");
            Ok(())
        })
        .await
        .with_context(|| tail(&pebble.log()))?;
        let https = Https::trusting(&pebble.root().await?)?;
        ensure!(https.get(node.https, &name, "/").await?.text() == "by tls");
        // The challenge is over: who comes with its protocol is shown nothing.
        let late = https.connect(node.https, &name, &["acme-tls/1"]).await;
        ensure!(late.is_err(), "it is answered still");
    }
    ensure!(pebble.issued() == 3 && pebble.orders() == 3, "{}", tail(&pebble.log()));
    nowhere_a_plain_key(&context)
}

#[tokio::test]
async fn a_wildcard_is_proven_by_dns_and_serves_names_under_it() -> Result<()> {
    let context = Context::new();
    let knot = Knot::start(&context.path("knot"), free_address()?.port(), &[("wild.example", "")])?;
    let server = knot.address.to_string();
    let dns = Dns::start(Vec::new()).await?;
    // Nobody listens where Pebble would look for anything but records.
    let pebble = Pebble::start_asking(&context, 1, dns, knot.address).await?;
    std::fs::write(context.path("tsig"), knot::SECRET)?;
    let (file, directory) = (pebble.ca_file.display().to_string(), pebble.directory());
    let (writer, key) = (format!("rfc2136:{server}"), format!("{}:{}", knot::ALGORITHM, knot::KEY));
    let start = Start::new(&context, "node").without_authority();
    let start = start.args(["--acme-directory", &directory, "--acme-ca-file", &file, "--acme-resolver", &server]);
    let start = start.args(["--acme-dns", &writer, "--acme-dns-key", &key, "--acme-dns-servers", &server]);
    let node = start.environment("ROO_ACME_DNS_SECRET_FILE", context.path("tsig")).spawn().await?;
    node.ready().await?;
    let upstream = Upstream::saying("under a wildcard").await?;
    node.route("*.wild.example:https", &upstream.url()).await?;
    node.route("a.wild.example:https", &upstream.url()).await?;
    until("the wildcard serves both", async || {
        let certs = node.api.get("/roo/v1/certs").await?.json()?;
        let has = |name: &str, field: &str, value: &str| {
            let rows = certs.as_array().into_iter().flatten();
            rows.filter(|row| row["name"] == name).any(|row| row[field] == value)
        };
        ensure!(has("*.wild.example", "state", "ready") && has("a.wild.example", "state", "ready"), "{certs}");
        ensure!(has("a.wild.example", "served_by", "*.wild.example"), "{certs}");
        Ok(())
    })
    .await
    .with_context(|| tail(&pebble.log()))?;
    let https = Https::trusting(&pebble.root().await?)?;
    for name in ["a.wild.example", "b.wild.example"] {
        ensure!(https.get(node.https, name, "/").await?.text() == "under a wildcard", "{name}");
    }
    let explained = node.api.get("/roo/v1/explain?url=https%3A%2F%2Fa.wild.example%2F").await?.json()?;
    ensure!(explained["certificate"]["name"] == "*.wild.example", "{explained}");
    ensure!(pebble.issued() == 1 && pebble.orders() == 1, "{}", tail(&pebble.log()));
    ensure!(knot.texts("_acme-challenge.wild.example")?.is_empty(), "the record is left behind");
    Ok(())
}

#[tokio::test]
async fn a_name_asked_for_before_its_certificate_is_there_waits() -> Result<()> {
    let context = Context::new();
    let port = common_port()?;
    let pebble = Pebble::start(&context, port, Ipv4Addr::new(127, 0, 0, 3)).await?;
    let cluster = cluster(&context, &pebble, port).await?;
    let upstream = Upstream::saying("worth the wait").await?;
    let https = Https::trusting(&pebble.root().await?)?;
    cluster.nodes[0].route("eager.example:https", &upstream.url()).await?;
    let node = &cluster.nodes[0];
    // One handshake, begun right after the route was written: it must wait and succeed, not be tried again.
    until("the route is here", async || {
        let routes = node.api.get("/roo/v1/routes").await?.json()?;
        ensure!(routes.as_array().is_some_and(|routes| !routes.is_empty()));
        Ok(())
    })
    .await?;
    let answer = https.get(node.https, "eager.example", "/").await.with_context(|| tail(&pebble.log()))?;
    ensure!(answer.text() == "worth the wait", "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn an_issuer_killed_in_mid_order_is_replaced() -> Result<()> {
    let context = Context::new();
    let port = common_port()?;
    // Challenges reach an address where nobody answers: the first order can't be finished.
    let pebble = Pebble::start(&context, port, Ipv4Addr::new(127, 0, 0, 9)).await?;
    let mut cluster = cluster(&context, &pebble, port).await?;
    let upstream = Upstream::saying("in the end").await?;
    let stall = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 9], port)))?;
    cluster.nodes[0].route("late.example:https", &upstream.url()).await?;
    until("an order is under way", async || {
        ensure!(pebble.orders() > 0, "no order:\n{}", tail(&pebble.log()));
        Ok(())
    })
    .await?;
    let holder = until("somebody holds the claim", async || {
        let answer = cluster.nodes[0].api.status().await?;
        ensure!(answer["issuer"].is_string(), "{answer}");
        Ok(answer["issuer"].as_str().unwrap_or_default().to_owned())
    })
    .await?;
    let mut victim = None;
    for (k, node) in cluster.nodes.iter().enumerate() {
        if node.api.status().await?["node"] == holder.as_str() {
            victim = Some(k);
        }
    }
    let victim = victim.context("the holder is none of the nodes")?;
    cluster.nodes[victim].process.kill().await?;
    let living = (victim + 1) % 3;
    pebble.dns.set(vec![Ipv4Addr::new(127, 0, 0, u8::try_from(living + 1)?)]);
    drop(stall);
    until("another node has finished it", async || {
        let certs = cluster.nodes[living].api.get("/roo/v1/certs").await?.json()?;
        ensure!(certs[0]["state"] == "ready", "{certs}");
        Ok(())
    })
    .await
    .with_context(|| tail(&pebble.log()))?;
    let https = Https::trusting(&pebble.root().await?)?;
    let answer = https.get(cluster.nodes[living].https, "late.example", "/").await?;
    ensure!(answer.text() == "in the end", "{answer:?}");
    Ok(())
}
