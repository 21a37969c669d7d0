//! What people ask for: another certificate now, or that one be revoked.

use jiff::Timestamp;
use roo_acme::{Item, KeyKind, Keys, Meant, Reason, Revocation, Settings, Wish};

use crate::answers::Answers;
use crate::eventually;
use crate::node::{Node, quick};
use crate::pebble::Site;
use crate::vault::{Cluster, NodeVault};

fn now() -> Wish {
    Wish { at: Timestamp::now(), revoke: None }
}

fn revoked(certificate: &roo_acme::Certificate, renew: bool) -> Wish {
    let (serial, meant) = (Some(certificate.serial.clone()), Meant::both(certificate).ok());
    Wish { revoke: Some(Revocation { reason: Reason::KeyCompromise, renew, serial, meant }), ..now() }
}

#[tokio::test]
async fn a_young_certificate_is_renewed_when_asked_for_on_whichever_node_issues() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let nodes = [Node::start(&cluster, site.authority()), Node::start(&cluster, site.authority())];
    cluster.want(&["shop.example"]);
    let first = eventually("a certificate", async || cluster.certificate("shop.example")).await;

    cluster.wish("shop.example", now());
    let new = |was: &roo_acme::Certificate| cluster.certificate("shop.example").filter(|found| found != was);
    let second = eventually("another", async || new(&first)).await;
    assert_ne!(second.key_pem, first.key_pem, "a fresh key");
    eventually("the wish is gone", async || cluster.wishes.borrow().is_empty().then_some(())).await;
    for node in nodes {
        node.stop().await;
    }
    assert_eq!(pebble.orders(), 2, "one order each");
    assert_eq!(cluster.item(&Item::Wish { name: "shop.example".to_owned() }), None);
}

#[tokio::test]
async fn a_wish_ends_the_back_off() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let node = Node::start(&cluster, site.authority());
    cluster.want(&["shop.example"]);
    // Nobody listens at the CA's address, and it is tried less and less often.
    eventually("failures", async || cluster.attempts("shop.example").filter(|attempts| attempts.failures > 1)).await;
    let answers = Answers::start(&cluster).await;
    let _pebble = site.start(answers.port, 0).await;
    cluster.wish("shop.example", now());
    eventually("a certificate", async || cluster.certificate("shop.example")).await;
    eventually("the wish is gone", async || cluster.wishes.borrow().is_empty().then_some(())).await;
    node.stop().await;
}

#[tokio::test]
async fn a_revoked_certificate_is_replaced_and_the_ca_knows() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let node = Node::start(&cluster, site.authority());
    cluster.want(&["shop.example"]);
    let first = eventually("a certificate", async || cluster.certificate("shop.example")).await;

    cluster.wish("shop.example", revoked(&first, true));
    let new = || cluster.certificate("shop.example").filter(|found| found.serial != first.serial);
    let second = eventually("another", async || new()).await;
    assert_eq!(second.revoked, None);
    assert_eq!(pebble.revoked(&first.serial).await, Some("Revoked".to_owned()));
    assert_eq!(pebble.revoked(&second.serial).await, Some("Valid".to_owned()));
    node.stop().await;
}

#[tokio::test]
async fn both_certificates_of_a_name_are_revoked() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let keys = Keys { first: KeyKind::P256, second: Some(KeyKind::P384) };
    let settings = Settings { keys, ..quick() };
    let node = Node::start_configured(NodeVault::new(&cluster), &cluster, site.authority(), settings);
    cluster.want(&["shop.example"]);
    let both = eventually("certificates", async || cluster.certificate("shop.example")).await;
    cluster.wish("shop.example", revoked(&both, false));
    eventually("the wish is gone", async || cluster.wishes.borrow().is_empty().then_some(())).await;
    node.stop().await;
    for serial in [&both.serial, &both.beside().unwrap().serial] {
        assert_eq!(pebble.revoked(serial).await, Some("Revoked".to_owned()));
    }
}

#[tokio::test]
async fn a_certificate_revoked_for_good_is_not_ordered_again_until_somebody_asks() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let node = Node::start(&cluster, site.authority());
    cluster.want(&["shop.example"]);
    let first = eventually("a certificate", async || cluster.certificate("shop.example")).await;
    cluster.wish("shop.example", revoked(&first, false));
    let held = eventually("it is revoked", async || {
        cluster.certificate("shop.example").filter(|found| found.revoked.is_some())
    })
    .await;
    eventually("the wish is gone", async || cluster.wishes.borrow().is_empty().then_some(())).await;
    // Another name is issued meanwhile; this one is left alone.
    cluster.want(&["other.example"]);
    eventually("the other", async || cluster.certificate("other.example")).await;
    assert_eq!(cluster.certificate("shop.example"), Some(held));
    assert_eq!(pebble.orders(), 2);
    cluster.wish("shop.example", now());
    eventually("another", async || cluster.certificate("shop.example").filter(|found| found.revoked.is_none())).await;
    node.stop().await;
}

#[tokio::test]
async fn what_no_ca_of_ours_signed_is_not_revoked_and_the_reason_is_kept() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let _pebble = site.start(answers.port, 0).await;
    let node = Node::start(&cluster, site.authority());
    let foreign = crate::one_node::self_signed("shop.example", 1, 80, "https://another.example/dir");
    cluster.put_certificate("shop.example", &foreign);
    cluster.wish("shop.example", revoked(&foreign, true));
    let attempts = eventually("a failure", async || cluster.attempts("shop.example")).await;
    assert!(attempts.last_error.contains("https://another.example/dir"), "{}", attempts.last_error);
    eventually("the wish is gone", async || cluster.wishes.borrow().is_empty().then_some(())).await;
    node.stop().await;
    assert_eq!(cluster.certificate("shop.example"), Some(foreign));
}
