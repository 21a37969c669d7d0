//! What is told about names that can't be proven, seen at a real name server.

use roo_acme::{Challenge, Challenges, Item, Probe, ProbeConfig};

use crate::answers::Answers;
use crate::dns::free_port;
use crate::eventually;
use crate::knot::Knot;
use crate::node::Node;
use crate::pebble::Site;
use crate::vault::Cluster;

fn probe(cluster: &Cluster, name: &str) -> Option<Probe> {
    let bytes = cluster.item(&Item::Probe { name: name.to_owned() })?;
    Some(Probe::decode(&bytes).unwrap())
}

#[tokio::test]
async fn what_is_wrong_with_a_name_is_told_beside_its_orders() {
    let (cluster, nobody, dir) = (Cluster::new(), Cluster::new(), tempfile::tempdir().unwrap());
    let records = "elsewhere 60 A 127.0.0.1\nnowhere 60 TXT \"no address\"";
    let knot = Knot::start(dir.path(), free_port(), &[("shop.example", records)]).unwrap();
    // A web server that is none of the cluster's.
    let answers = Answers::start(&nobody).await;
    let site = Site::new();
    let _pebble = site.start_with_dns(knot.address, answers.port).await;
    let looks = |http_port| ProbeConfig { resolver: Some(knot.address), http_port };
    let by_http = Challenges::new([Challenge::Http01]);
    let node = Node::start(&cluster, site.authority_by(by_http.clone().with_probe(looks(answers.port))));
    cluster.want(&["elsewhere.shop.example", "nowhere.shop.example", "missing.shop.example"]);
    for (name, expected) in [
        ("elsewhere.shop.example", "leads to 127.0.0.1, where somebody else answers"),
        ("nowhere.shop.example", "neither an A nor an AAAA record"),
        ("missing.shop.example", "NXDOMAIN"),
    ] {
        let found = eventually(name, async || probe(&cluster, name)).await;
        assert!(found.findings[0].contains(expected) && found.findings[0].contains(name), "{found:?}");
        assert_eq!(found.findings.len(), 1, "{found:?}");
        // The order was made all the same.
        eventually("a failure", async || cluster.attempts(name)).await;
    }
    node.stop().await;

    let node = Node::start(&cluster, site.authority_by(by_http.with_probe(looks(1))));
    knot.update("shop.example", "add closed.shop.example. 60 A 127.0.0.1").unwrap();
    cluster.want(&["closed.shop.example"]);
    let found = eventually("a finding", async || probe(&cluster, "closed.shop.example")).await;
    assert!(found.findings[0].contains("port 1 does not answer"), "{found:?}");
    node.stop().await;
}

#[tokio::test]
async fn nothing_is_told_of_a_name_that_leads_here() {
    let (cluster, dir) = (Cluster::new(), tempfile::tempdir().unwrap());
    let knot = Knot::start(dir.path(), free_port(), &[("shop.example", "here 60 A 127.0.0.1")]).unwrap();
    let answers = Answers::start(&cluster).await;
    let site = Site::new();
    let pebble = site.start_with_dns(knot.address, answers.port).await;
    let looks = ProbeConfig { resolver: Some(knot.address), http_port: answers.port };
    // As an earlier look had found it.
    let name = "here.shop.example";
    let old = Probe { at: jiff::Timestamp::now(), findings: vec!["something".to_owned()] };
    cluster.put_item(Item::Probe { name: name.to_owned() }, old.encode());
    let node = Node::start(&cluster, site.authority_by(Challenges::new([Challenge::Http01]).with_probe(looks)));
    cluster.want(&[name]);
    eventually("a certificate", async || cluster.certificate(name)).await;
    eventually("no finding", async || probe(&cluster, name).is_none().then_some(())).await;
    node.stop().await;
    assert_eq!(pebble.orders(), 1);
}
