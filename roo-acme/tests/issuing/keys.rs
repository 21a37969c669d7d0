//! Kinds of keys, alone and in pairs.

use roo_acme::{Authority, Certificate, Item, Keys, Settings};

use crate::answers::Answers;
use crate::eventually;
use crate::node::{Node, quick};
use crate::pebble::Site;
use crate::vault::{Cluster, NodeVault};

fn keys(text: &str) -> Settings {
    Settings { keys: text.parse::<Keys>().unwrap(), ..quick() }
}

fn kind(certificate: &Certificate) -> String {
    certificate.details().unwrap().key
}

#[tokio::test]
async fn keys_are_of_the_kind_that_was_chosen() {
    for (text, expected) in [("p384", "P-384"), ("rsa2048", "RSA-2048")] {
        let (cluster, site) = (Cluster::new(), Site::new());
        let answers = Answers::start(&cluster).await;
        let _pebble = site.start(answers.port, 0).await;
        let node = Node::start_configured(NodeVault::new(&cluster), &cluster, site.authority(), keys(text));
        cluster.want(&["shop.example"]);
        let certificate = eventually("a certificate", async || cluster.certificate("shop.example")).await;
        assert_eq!((kind(&certificate).as_str(), certificate.beside()), (expected, None));
        node.stop().await;
    }
}

#[tokio::test]
async fn both_kinds_are_two_orders_also_across_the_death_of_the_issuer() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let settings = || keys("p256+rsa2048");
    let node = Node::start_configured(NodeVault::new(&cluster), &cluster, site.authority(), settings());
    cluster.want(&["shop.example"]);
    // The first order is done when the second one is stored.
    eventually("the second order", async || (pebble.orders() > 1).then_some(())).await;
    node.kill().await;
    let node = Node::start_configured(NodeVault::new(&cluster), &cluster, site.authority(), settings());
    let first = eventually("certificates", async || cluster.certificate("shop.example")).await;
    let second = first.beside().unwrap();
    assert_eq!((kind(&first).as_str(), kind(&second).as_str()), ("P-256", "RSA-2048"));
    assert!(second.covers("shop.example") && second.serial != first.serial);
    // Each renewal brings two fresh keys.
    cluster.wish("shop.example", roo_acme::Wish { at: jiff::Timestamp::now(), revoke: None });
    let new = || cluster.certificate("shop.example").filter(|found| found.serial != first.serial);
    let renewed = eventually("others", async || new()).await;
    assert_ne!(renewed.key_pem, first.key_pem);
    assert_ne!(renewed.beside().unwrap().key_pem, second.key_pem);
    node.stop().await;
    assert_eq!(cluster.item(&Item::Order { name: "shop.example".to_owned() }), None);
}

#[tokio::test]
async fn the_internal_ca_signs_for_both_kinds() {
    let cluster = Cluster::new();
    let vault = NodeVault::new(&cluster);
    let node = Node::start_configured(vault, &cluster, Authority::Internal, keys("p384+rsa2048"));
    cluster.want(&["demo.localhost"]);
    let first = eventually("a certificate", async || cluster.certificate("demo.localhost")).await;
    node.stop().await;
    assert_eq!((kind(&first).as_str(), kind(&first.beside().unwrap()).as_str()), ("P-384", "RSA-2048"));
    assert!(Certificate::decode(&first.encode()).unwrap() == first);
}
