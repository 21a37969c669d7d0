//! Which kind of challenge is used, and what follows when one fails.

use std::sync::atomic::Ordering;

use roo_acme::{Challenge, Challenges, Item};

use crate::answers::Answers;
use crate::eventually;
use crate::node::Node;
use crate::pebble::Site;
use crate::shows::Shows;
use crate::vault::Cluster;

#[tokio::test]
async fn a_name_is_proven_in_a_handshake() {
    let (cluster, nobody) = (Cluster::new(), Cluster::new());
    let (answers, shows) = (Answers::start(&nobody).await, Shows::start(&cluster).await);
    let site = Site::new().with_tls_port(shows.port);
    let pebble = site.start(answers.port, 0).await;
    let node = Node::start(&cluster, site.authority_by(Challenges::new([Challenge::TlsAlpn01])));
    cluster.want(&["shop.example"]);
    eventually("a certificate", async || cluster.certificate("shop.example")).await;
    forgotten(&cluster, "shop.example").await;
    node.stop().await;
    assert_eq!((pebble.orders(), cluster.answers()), (1, 0));
    assert_eq!(cluster.attempts("shop.example"), None);
}

#[tokio::test]
async fn a_kind_that_fails_is_counted_and_the_next_one_tried_by_a_new_order() {
    let (cluster, nobody) = (Cluster::new(), Cluster::new());
    // The web server knows of no answer, so http-01 fails.
    let (answers, shows) = (Answers::start(&nobody).await, Shows::start(&cluster).await);
    let site = Site::new().with_tls_port(shows.port);
    let pebble = site.start(answers.port, 0).await;
    let node = Node::start(&cluster, site.authority_by(Challenges::default()));
    cluster.want(&["shop.example"]);
    let attempts = eventually("the failure", async || cluster.attempts("shop.example")).await;
    assert_eq!((attempts.refusals, attempts.challenge), (1, Some(Challenge::Http01)));
    assert!(attempts.last_error.starts_with("http-01: "), "{}", attempts.last_error);
    eventually("a certificate", async || cluster.certificate("shop.example")).await;
    forgotten(&cluster, "shop.example").await;
    node.stop().await;
    assert_eq!((pebble.orders(), cluster.answers()), (2, 0));
}

/// Waits until the order is forgotten: the certificate is written first.
async fn forgotten(cluster: &Cluster, name: &str) {
    let item = Item::Order { name: name.to_owned() };
    eventually("a forgotten order", async || cluster.item(&item).is_none().then_some(())).await;
}

#[tokio::test]
async fn an_order_is_continued_by_the_kind_it_was_begun_with() {
    let cluster = Cluster::new();
    let (answers, shows) = (Answers::start(&cluster).await, Shows::start(&cluster).await);
    let site = Site::new().with_tls_port(shows.port);
    let pebble = site.start(answers.port, 0).await;
    let authority = site.authority_by(Challenges::new([Challenge::TlsAlpn01, Challenge::Http01]));
    let first = Node::start(&cluster, authority);
    first.vault.freeze_after_answer.store(true, Ordering::SeqCst);
    cluster.want(&["shop.example"]);
    eventually("an answer", async || cluster.tls_answer("shop.example")).await;
    first.kill().await;
    // This one prefers another kind.
    let second = Node::start(&cluster, site.authority_by(Challenges::default()));
    eventually("a certificate", async || cluster.certificate("shop.example")).await;
    forgotten(&cluster, "shop.example").await;
    second.stop().await;
    assert_eq!((pebble.orders(), cluster.answers(), cluster.answers_ever()), (1, 0, 2));
}
