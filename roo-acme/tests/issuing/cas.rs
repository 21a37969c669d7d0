//! Accounts bound to external ones, and several CAs: two Pebbles.

use roo_acme::{AcmeConfig, Authority, Cas, ExternalAccount, Reason, Revocation, Wish};

use crate::answers::Answers;
use crate::eventually;
use crate::node::Node;
use crate::pebble::Site;
use crate::vault::Cluster;

const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

#[tokio::test]
async fn an_account_is_bound_to_what_the_ca_knows() {
    let (cluster, site) = (Cluster::new(), Site::new().with_external_account("kid-1", KEY));
    let answers = Answers::start(&cluster).await;
    let _pebble = site.start(answers.port, 0).await;
    let account = ExternalAccount::parse(&format!("kid-1:{KEY}")).unwrap();
    let authority = AcmeConfig { external_account: Some(account), ..site.ca() };
    let node = Node::start(&cluster, authority.into());
    cluster.want(&["shop.example"]);
    eventually("a certificate", async || cluster.certificate("shop.example")).await;
    node.stop().await;
}

#[tokio::test]
async fn a_ca_that_does_not_know_us_is_passed_over() {
    let cluster = Cluster::new();
    let (first, second) = (Site::new().with_external_account("kid-1", KEY), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebbles = [first.start(answers.port, 0).await, second.start(answers.port, 0).await];
    let wrong = ExternalAccount::parse("kid-2:c2VjcmV0").unwrap();
    let stranger = AcmeConfig { external_account: Some(wrong), ..first.ca() };
    let node = Node::start(&cluster, Authority::Acme(Cas::new(stranger, [second.ca()])));
    cluster.want(&["shop.example"]);
    let certificate = eventually("a certificate", async || cluster.certificate("shop.example")).await;
    assert_eq!(certificate.authority, second.ca().directory);
    assert_eq!(pebbles.each_ref().map(|pebble| pebble.orders()), [0, 1]);

    // Whoever issued it revokes it.
    let serial = certificate.serial.clone();
    let revocation = Revocation { reason: Reason::Superseded, renew: false, serial: Some(serial.clone()), meant: None };
    cluster.wish("shop.example", Wish { at: jiff::Timestamp::now(), revoke: Some(revocation) });
    eventually("a note", async || cluster.certificate("shop.example")?.revoked).await;
    assert_eq!(pebbles[1].revoked(&serial).await.as_deref(), Some("Revoked"));
    node.stop().await;
}

#[tokio::test]
async fn a_single_ca_that_does_not_know_us_is_named() {
    let (cluster, site) = (Cluster::new(), Site::new().with_external_account("kid-1", KEY));
    let _pebble = site.start(1, 0).await;
    let node = Node::start(&cluster, site.authority());
    cluster.want(&["shop.example"]);
    let attempts = eventually("a failure", async || cluster.attempts("shop.example")).await;
    node.stop().await;
    assert!(attempts.last_error.contains("--acme-eab"), "{}", attempts.last_error);
}
