//! Two issuers over one store, and Pebble.

use std::sync::atomic::Ordering;

use roo_acme::{Authority, Certificate, Item, Managed, Wish};

use crate::answers::Answers;
use crate::eventually;
use crate::node::Node;
use crate::one_node::self_signed;
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
async fn an_order_whose_issuer_died_before_it_could_store_the_url_is_found_at_the_ca() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 30).await;
    let first = Node::start(&cluster, site.authority());
    // Enough that the CA's list has several pages.
    let before: Vec<String> = (0..8).map(|number| format!("before{number}.example")).collect();
    for name in &before {
        cluster.want(&[name]);
    }
    for name in &before {
        eventually(name, async || cluster.certificate(name)).await;
    }
    // What it intends is written, and the CA's answer is not.
    first.vault.freeze_at_order.store(2, Ordering::SeqCst);
    cluster.want(&["shop.example"]);
    eventually("the CA's order", async || (pebble.orders() > before.len()).then_some(())).await;
    eventually("a frozen node", async || (first.vault.freeze_at_order.load(Ordering::SeqCst) == 0).then_some(())).await;
    let second = Node::start(&cluster, site.authority());
    first.kill().await;
    eventually("a certificate", async || cluster.certificate("shop.example")).await;
    second.stop().await;
    assert_eq!(pebble.orders(), before.len() + 1, "the order was found, not repeated");
}

#[tokio::test]
async fn an_order_that_was_intended_and_never_made_is_made() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let node = Node::start(&cluster, site.authority());
    cluster.want(&["other.example"]);
    eventually("a certificate", async || cluster.certificate("other.example")).await;
    // As an issuer leaves it that dies before it could ask.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let authority = site.authority();
    let (directory, created_at) = (authority.id().unwrap(), jiff::Timestamp::now());
    let intent = serde_json::json!({ "directory": directory, "key_pem": key, "created_at": created_at.to_string() });
    let item = Item::Order { name: "shop.example".to_owned() };
    cluster.put_item(item, [b"\x01", intent.to_string().as_bytes()].concat());
    cluster.want(&["shop.example"]);
    let certificate = eventually("a certificate", async || cluster.certificate("shop.example")).await;
    node.stop().await;
    assert_eq!(certificate.key_pem, key);
    assert_eq!(pebble.orders(), 2);
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

#[tokio::test]
async fn what_is_brought_in_between_the_last_look_and_the_write_stays() {
    let cluster = Cluster::new();
    let vault = NodeVault::new(&cluster);
    let brought = Certificate { managed: Managed::Import, ..self_signed("shop.localhost", 1, 80, "imported") };
    let (item, import) = (Item::Certificate { name: "shop.localhost".to_owned() }, brought.clone());
    let deed = move |cluster: &Cluster| cluster.put_certificate("shop.localhost", &import);
    *vault.meanwhile.lock().unwrap() = Some((item, Box::new(deed)));
    let node = Node::start_with(vault, &cluster, Authority::Internal);
    cluster.want(&["shop.localhost"]);
    eventually("the other", async || node.vault.meanwhile.lock().unwrap().is_none().then_some(())).await;
    cluster.want(&["other.localhost"]);
    eventually("a certificate", async || cluster.certificate("other.localhost")).await;
    node.stop().await;
    assert_eq!(cluster.certificate("shop.localhost"), Some(brought));
}

#[tokio::test]
async fn a_wish_that_comes_while_the_one_before_is_ended_is_fulfilled_as_well() {
    let cluster = Cluster::new();
    let node = Node::start(&cluster, Authority::Internal);
    cluster.want(&["shop.localhost"]);
    let first = eventually("a certificate", async || cluster.certificate("shop.localhost")).await;
    let wish = |seconds| Wish { at: jiff::Timestamp::from_second(seconds).unwrap(), revoke: None };
    let item = Item::Wish { name: "shop.localhost".to_owned() };
    let deed = move |cluster: &Cluster| cluster.wish("shop.localhost", wish(2));
    *node.vault.meanwhile.lock().unwrap() = Some((item, Box::new(deed)));
    cluster.wish("shop.localhost", wish(1));
    eventually("no wish", async || {
        let is_over = node.vault.meanwhile.lock().unwrap().is_none() && cluster.wishes.borrow().is_empty();
        is_over.then_some(())
    })
    .await;
    node.stop().await;
    assert_ne!(cluster.certificate("shop.localhost"), Some(first));
    assert_eq!(cluster.issued("shop.localhost"), 3, "one, and one for each wish");
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
