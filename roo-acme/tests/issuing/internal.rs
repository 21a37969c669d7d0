//! The internal CA as the authority.

use roo_acme::{AcmeConfig, Authority, Item, internal_ca_facts, internal_root_pem};

use crate::eventually;
use crate::node::Node;
use crate::pebble::Site;
use crate::vault::{Cluster, NodeVault};

#[tokio::test]
async fn names_and_wildcards_get_certificates_without_a_visit() {
    let cluster = Cluster::new();
    let node = Node::start(&cluster, Authority::Internal);
    cluster.want(&["demo.localhost", "*.demo.localhost"]);
    for name in ["demo.localhost", "*.demo.localhost"] {
        let certificate = eventually(name, async || cluster.certificate(name)).await;
        assert!(certificate.covers(name));
        assert_eq!(certificate.authority, "internal");
        assert_eq!(certificate.details().unwrap().chain_len, 2, "leaf and intermediate");
        assert!(!format!("{certificate:?}").contains("PRIVATE KEY"));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_public_ca_is_never_told_of_private_names() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let pebble = site.start(1, 0).await;
    let public = Authority::from(AcmeConfig { extra_roots_pem: None, ..site.ca() });
    let node = Node::start(&cluster, public);
    let private = ["db.internal", "box", "192.0.2.7", "*.demo.localhost", "nas.home.arpa", "a.test"];
    cluster.want(&private);
    for name in private {
        let certificate = eventually(name, async || cluster.certificate(name)).await;
        assert_eq!(certificate.authority, "internal");
    }
    node.stop().await;
    assert_eq!(pebble.orders(), 0);
    assert!(private.iter().all(|name| cluster.attempts(name).is_none()));
    let vault = NodeVault::new(&cluster);
    let facts = internal_ca_facts(vault.as_ref()).await.unwrap().unwrap();
    assert!(facts.intermediate.unwrap().not_after < facts.root.not_after);
}

#[tokio::test]
async fn all_nodes_see_one_root() {
    let cluster = Cluster::new();
    let (one, two) = (NodeVault::new(&cluster), NodeVault::new(&cluster));
    let (first, second) = tokio::join!(internal_root_pem(one.as_ref()), internal_root_pem(two.as_ref()));
    let first = first.unwrap();
    assert_eq!(first, second.unwrap());
    assert!(first.starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(!first.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn off_never_touches_the_store() {
    let cluster = Cluster::new();
    let off = Node::start(&cluster, Authority::Off);
    let on = Node::start(&cluster, Authority::Internal);
    cluster.want(&["demo.localhost"]);
    eventually("a certificate", async || cluster.certificate("demo.localhost")).await;
    assert_eq!(off.vault.claims.load(std::sync::atomic::Ordering::SeqCst), 0);
    off.stop().await;
    on.stop().await;
}

#[tokio::test]
async fn a_damaged_ca_is_reported_not_replaced() {
    let cluster = Cluster::new();
    let vault = NodeVault::new(&cluster);
    let damaged = b"\x07whatever".to_vec();
    assert!(roo_acme::Vault::create(vault.as_ref(), &Item::InternalCa, damaged.clone()).await.unwrap());
    let node = Node::start_with(vault, &cluster, Authority::Internal);
    cluster.want(&["demo.localhost"]);
    let attempts = eventually("the failure", async || cluster.attempts("demo.localhost")).await;
    assert!(attempts.last_error.contains("format version 7"), "{}", attempts.last_error);
    assert_eq!(cluster.item(&Item::InternalCa), Some(damaged));
    node.stop().await;
}
