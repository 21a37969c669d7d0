//! Two issuers over one store, and Pebble.

use std::sync::atomic::Ordering;

use roo_acme::Item;

use crate::answers::Answers;
use crate::eventually;
use crate::node::Node;
use crate::pebble::{Pebble, Site};
use crate::vault::{Cluster, NodeVault};

#[tokio::test]
async fn each_name_is_ordered_once_by_the_cluster() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let nodes = [Node::start(&cluster, site.authority()), Node::start(&cluster, site.authority())];
    let names = ["a.example", "b.example", "c.example", "d.example", "e.example", "f.example"];
    // One after the other, so that the claim is asked for and given back in between.
    for name in names {
        cluster.want(&[name]);
        eventually(name, async || cluster.certificate(name)).await;
    }
    for node in nodes {
        node.stop().await;
    }
    assert_eq!(pebble.orders(), names.len());
    assert_eq!(cluster.answers_ever(), names.len());
}

#[tokio::test]
async fn the_order_of_a_killed_issuer_is_finished_by_another() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let first = frozen_in_mid_order(&cluster, &site).await;
    let second = Node::start(&cluster, site.authority());
    first.kill().await;
    finished_with_one_order(&cluster, &pebble, second).await;
}

#[tokio::test]
async fn the_order_of_a_stopped_issuer_is_finished_by_another() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let first = frozen_in_mid_order(&cluster, &site).await;
    let second = Node::start(&cluster, site.authority());
    first.stop().await;
    finished_with_one_order(&cluster, &pebble, second).await;
}

#[tokio::test]
async fn an_issuer_that_is_cut_off_stops_and_another_finishes() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let first = frozen_in_mid_order(&cluster, &site).await;
    first.vault.cut.store(true, Ordering::SeqCst);
    let second = Node::start(&cluster, site.authority());
    finished_with_one_order(&cluster, &pebble, second).await;

    // Back again, it sees that nothing is left to do.
    first.vault.freeze_after_answer.store(false, Ordering::SeqCst);
    first.vault.cut.store(false, Ordering::SeqCst);
    cluster.want(&["next.example"]);
    eventually("a certificate", async || cluster.certificate("next.example")).await;
    first.stop().await;
    assert_eq!(pebble.orders(), 2);
}

/// An issuer that published the answer for `shop.example` and got no further.
async fn frozen_in_mid_order(cluster: &std::sync::Arc<Cluster>, site: &Site) -> Node {
    let vault = NodeVault::new(cluster);
    vault.freeze_after_answer.store(true, Ordering::SeqCst);
    let node = Node::start_with(vault, cluster, site.authority());
    cluster.want(&["shop.example"]);
    eventually("an answer", async || (cluster.answers() > 0).then_some(())).await;
    assert_eq!(cluster.claims_ever(), 1);
    node
}

async fn finished_with_one_order(cluster: &Cluster, pebble: &Pebble, node: Node) {
    let certificate = eventually("a certificate", async || cluster.certificate("shop.example")).await;
    assert!(certificate.covers("shop.example"));
    // The certificate is written first: the order goes a moment later.
    let name = "shop.example".to_owned();
    let order = Item::Order { name };
    eventually("a forgotten order", async || cluster.item(&order).is_none().then_some(())).await;
    node.stop().await;
    assert_eq!(pebble.orders(), 1, "the order was continued, not repeated");
    assert_eq!(cluster.answers(), 0, "the answer of the first issuer is taken back");
}
