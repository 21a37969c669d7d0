//! One issuer and Pebble.

use jiff::Timestamp;
use roo_acme::{Certificate, Item};

use crate::answers::Answers;
use crate::eventually;
use crate::node::Node;
use crate::pebble::Site;
use crate::vault::Cluster;

#[tokio::test]
async fn a_new_name_gets_its_certificate_without_a_visit() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let node = Node::start(&cluster, site.authority());
    cluster.want(&["shop.example", "*.shop.example"]);

    let certificate = eventually("a certificate", async || cluster.certificate("shop.example")).await;
    assert_eq!(certificate.names, ["shop.example"]);
    assert_eq!(Some(certificate.authority.as_str()), site.authority().id());
    assert!(certificate.issuer.contains("Pebble Intermediate CA"));
    assert_eq!(certificate.chain_pem.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(certificate.not_before <= Timestamp::now() && Timestamp::now() < certificate.not_after);

    node.stop().await;
    let name = "shop.example".to_owned();
    assert_eq!(cluster.item(&Item::Order { name }), None, "the order is cleaned up");
    assert_eq!(cluster.answers(), 0, "the answer is taken back");
    assert_eq!(pebble.orders(), 1, "the wildcard was not ordered");
}

#[tokio::test]
async fn many_names_are_issued_although_the_ca_rejects_nonces() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 20).await;
    let node = Node::start(&cluster, site.authority());
    let names: Vec<String> = (0..8).map(|number| format!("shop{number}.example")).collect();
    for name in &names {
        cluster.want(&[name]);
    }
    for name in &names {
        eventually(name, async || cluster.certificate(name)).await;
    }
    node.stop().await;
    assert!(pebble.rejects_nonces(20));
}

#[tokio::test]
async fn an_ageing_certificate_is_renewed_with_a_fresh_key() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let authority = site.authority();
    let id = authority.id().unwrap();
    let young = self_signed("young.example", 10, 80, id);
    let old = self_signed("old.example", 70, 20, id);
    cluster.put_certificate("young.example", &young);
    cluster.put_certificate("old.example", &old);
    let node = Node::start(&cluster, site.authority());
    cluster.want(&["young.example", "old.example"]);

    let new = eventually("a renewal", async || cluster.certificate("old.example").filter(|found| *found != old)).await;
    node.stop().await;
    assert_ne!(new.key_pem, old.key_pem);
    assert!(new.not_after > old.not_after);
    assert_eq!(cluster.certificate("young.example"), Some(young));
    assert_eq!(pebble.orders(), 1);
}

#[tokio::test]
async fn a_refusal_is_remembered_across_restarts() {
    let (cluster, site, nobody) = (Cluster::new(), Site::new(), Cluster::new());
    // The web server knows of no answer, so validation fails.
    let wrong_answers = Answers::start(&nobody).await;
    let pebble = site.start(wrong_answers.port, 0).await;
    let node = Node::start(&cluster, site.authority());
    cluster.want(&["shop.example"]);
    let attempts = eventually("a failure", async || cluster.attempts("shop.example")).await;
    node.stop().await;
    assert_eq!((attempts.failures, attempts.refusals), (1, 1));
    assert!(attempts.next_at.as_second() - attempts.last_at.as_second() >= 30);
    assert!(attempts.last_error.contains("404"), "{}", attempts.last_error);
    let name = "shop.example".to_owned();
    assert_eq!(cluster.item(&Item::Order { name }), None, "the failed order is forgotten");
    assert_eq!(cluster.answers(), 0);

    // The next issuer is busy with another name and leaves this one alone, even if a handshake asks for it.
    let node = Node::start(&cluster, site.authority());
    node.nudges.send("shop.example".to_owned()).await.unwrap();
    cluster.want(&["other.example"]);
    eventually("the other failure", async || cluster.attempts("other.example")).await;
    node.stop().await;
    assert_eq!(cluster.attempts("shop.example"), Some(attempts));
    assert_eq!(pebble.orders(), 2);
}

#[tokio::test]
async fn a_ca_that_comes_late_is_found() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let node = Node::start(&cluster, site.authority());
    cluster.want(&["shop.example"]);
    let attempts = eventually("a failure", async || cluster.attempts("shop.example")).await;
    assert_eq!(attempts.refusals, 0, "nobody refused");
    assert!(attempts.last_error.contains("did not answer"), "{}", attempts.last_error);

    let _pebble = site.start(answers.port, 0).await;
    eventually("a certificate", async || cluster.certificate("shop.example")).await;
    // The certificate is written first: the memory of failures goes a moment later.
    eventually("a forgotten failure", async || cluster.attempts("shop.example").is_none().then_some(())).await;
    node.stop().await;
}

#[tokio::test]
async fn a_ca_that_lost_its_memory_is_asked_anew() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 0).await;
    let node = Node::start(&cluster, site.authority());
    node.vault.freeze_after_answer.store(true, std::sync::atomic::Ordering::SeqCst);
    cluster.want(&["shop.example"]);
    eventually("an answer", async || (cluster.answers() > 0).then_some(())).await;
    node.kill().await;
    drop(pebble);

    // Neither the account nor the order exists any more.
    let pebble = site.start(answers.port, 0).await;
    let node = Node::start(&cluster, site.authority());
    eventually("a certificate", async || cluster.certificate("shop.example")).await;
    node.stop().await;
    assert_eq!(pebble.orders(), 1);
}

/// A certificate as if the CA had issued it `days_ago`, valid for another `days_left`.
pub(crate) fn self_signed(name: &str, days_ago: u64, days_left: u64, authority: &str) -> Certificate {
    let day = |days| std::time::Duration::from_hours(24 * days);
    let now = rcgen::date_time_ymd(1970, 1, 1) + std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = now - day(days_ago);
    params.not_after = now + day(days_left);
    let chain_pem = params.self_signed(&key).unwrap().pem();
    Certificate::from_pem(chain_pem, key.serialize_pem(), authority).unwrap()
}
