//! The cluster's account at the CA: its key and its contact.

use roo_acme::{AcmeConfig, Authority, Item, roll_over};
use serde_json::Value;

use crate::answers::Answers;
use crate::eventually;
use crate::node::{Node, quick};
use crate::pebble::Site;
use crate::vault::{Cluster, NodeVault};

fn place(authority: &Authority) -> Item {
    Item::Account { directory: authority.id().unwrap().to_owned() }
}

fn account(cluster: &Cluster, authority: &Authority) -> Value {
    serde_json::from_slice(&cluster.item(&place(authority)).unwrap()[1..]).unwrap()
}

fn put_account(cluster: &Cluster, authority: &Authority, account: &Value) {
    cluster.put_item(place(authority), [b"\x01", account.to_string().as_bytes()].concat());
}

#[tokio::test]
async fn the_key_of_an_account_is_changed_and_certificates_go_on_coming() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let pebble = site.start(answers.port, 30).await;
    let node = Node::start(&cluster, site.authority());
    cluster.want(&["first.example"]);
    eventually("a certificate", async || cluster.certificate("first.example")).await;
    let before = account(&cluster, &site.authority());

    let changed = roll_over(&NodeVault::new(&cluster), &site.authority(), &quick()).await.unwrap();
    let after = account(&cluster, &site.authority());
    assert_eq!(changed, [before["url"].as_str().unwrap()]);
    assert_eq!(after["url"], before["url"]);
    assert_ne!(after["key_pem"], before["key_pem"]);
    assert_eq!(after["next_key_pem"], Value::Null);
    cluster.want(&["second.example"]);
    eventually("a certificate", async || cluster.certificate("second.example")).await;
    node.stop().await;
    assert_eq!(account(&cluster, &site.authority()), after);
    assert_eq!(pebble.orders(), 2);
}

#[tokio::test]
async fn after_a_crash_it_is_found_out_which_key_the_ca_knows() {
    for was_taken in [false, true] {
        let (cluster, site) = (Cluster::new(), Site::new());
        let answers = Answers::start(&cluster).await;
        let _pebble = site.start(answers.port, 0).await;
        let (authority, node) = (site.authority(), Node::start(&cluster, site.authority()));
        cluster.want(&["first.example"]);
        eventually("a certificate", async || cluster.certificate("first.example")).await;
        node.stop().await;
        let next = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        let mut begun = account(&cluster, &authority);
        begun["next_key_pem"] = next.clone().into();
        put_account(&cluster, &authority, &begun);
        if was_taken {
            roll_over(&NodeVault::new(&cluster), &authority, &quick()).await.unwrap();
            // As if the CA's answer had not been stored.
            put_account(&cluster, &authority, &begun);
        }
        let node = Node::start(&cluster, site.authority());
        cluster.want(&["second.example"]);
        eventually("a certificate", async || cluster.certificate("second.example")).await;
        node.stop().await;
        let now = account(&cluster, &authority);
        assert_eq!((&now["url"], now["key_pem"].as_str()), (&begun["url"], Some(next.as_str())));
        assert_eq!(now["next_key_pem"], Value::Null);
    }
}

#[tokio::test]
async fn a_contact_that_changes_is_told_to_the_ca() {
    let (cluster, site) = (Cluster::new(), Site::new());
    let answers = Answers::start(&cluster).await;
    let _pebble = site.start(answers.port, 0).await;
    let mut names = ["first.example", "second.example", "third.example"].into_iter();
    for (email, told) in [
        (Some("admin@shop.example"), "mailto:admin@shop.example"),
        (Some("other@shop.example"), "mailto:other@shop.example"),
        (None, ""),
    ] {
        let email = email.map(str::to_owned);
        let authority = Authority::from(AcmeConfig { email, ..site.ca() });
        let node = Node::start(&cluster, authority.clone());
        let name = names.next().unwrap();
        cluster.want(&[name]);
        eventually(name, async || cluster.certificate(name)).await;
        node.stop().await;
        assert_eq!(account(&cluster, &authority)["contact"], told);
    }
}
