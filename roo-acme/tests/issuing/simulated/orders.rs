//! Orders that other events overtake, or that a limit stops half-way.

use std::time::Duration;

use roo_acme::{Certificate, KeyKind, Keys, Managed};

use super::ca::{Ca, Limit, Rules, What};
use super::{DAY, HOUR, World};

#[tokio::test(start_paused = true)]
async fn an_order_gives_way_to_a_certificate_brought_in_meanwhile() {
    let rules = Rules { life: 90 * DAY, latency: HOUR / 360, gives_advice: true, limits: &[] };
    let world = World::new(2, |clock| Ca::new(rules, clock));
    world.cluster.want(&["a.example"]);
    world.ordered("a.example").await;
    let brought = brought_in("a.example");
    world.cluster.put_certificate("a.example", &brought);
    tokio::time::sleep(DAY).await;
    assert_eq!(world.cluster.certificate("a.example"), Some(brought));
    let tally = world.ca.tally("a.example");
    assert_eq!((tally.orders, tally.issued), (1, 1), "the order was finished, and none followed");
    world.no_order("a.example");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_stops_waits_for_the_order_that_it_has_asked_for() {
    let rules = Rules { life: 90 * DAY, latency: Duration::from_secs(4), gives_advice: true, limits: &[] };
    let mut world = World::new(1, |clock| Ca::new(rules, clock));
    world.cluster.want(&["a.example"]);
    // Its answer is still on the way.
    crate::eventually("an order", async || (world.ca.tally("a.example").orders > 0).then_some(())).await;
    world.nodes.pop().unwrap().stop().await;
    assert_eq!(world.cluster.certificate("a.example"), None);
    let next = world.node();
    world.nodes.push(next);
    tokio::time::sleep(HOUR).await;
    let tally = world.ca.tally("a.example");
    assert_eq!((tally.orders, tally.issued), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_limit_on_the_second_order_does_not_keep_the_first_certificate_back() {
    const LIMITS: &[Limit] = &[Limit { what: What::Set, count: 1, window: DAY }];
    let rules = Rules { life: 90 * DAY, latency: Duration::ZERO, gives_advice: true, limits: LIMITS };
    let mut world = World::new(0, |clock| Ca::new(rules, clock));
    let node = world.node_with(Keys { first: KeyKind::P256, second: Some(KeyKind::P384) });
    world.nodes.push(node);
    world.cluster.want(&["a.example"]);
    tokio::time::sleep(HOUR).await;
    let certificate = world.cluster.certificate("a.example").unwrap();
    assert!(certificate.second.is_none());
    world.no_order("a.example");
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_wants_each_certificate_replaced_is_asked_less_and_less_often() {
    let rules = Rules { life: 90 * DAY, latency: Duration::ZERO, gives_advice: true, limits: &[] };
    let world = World::new(2, |clock| Ca::new(rules, clock));
    world.ca.recall(ASKED_SOON);
    world.cluster.want(&[ASKED_SOON]);
    tokio::time::sleep(DAY).await;
    let orders = world.ca.tally(ASKED_SOON).orders;
    assert!((4..=8).contains(&orders), "{orders} orders in a day");
    assert!(world.cluster.attempts(ASKED_SOON).unwrap().last_error.contains("ask the CA why"));
}

/// A name about which the CA is asked seconds after its certificate was issued.
const ASKED_SOON: &str = "shop269.example";

/// A certificate that is valid from the beginning of the simulated time.
fn brought_in(name: &str) -> Certificate {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 6, 1);
    let chain_pem = params.self_signed(&key).unwrap().pem();
    let certificate = Certificate::from_pem(chain_pem, key.serialize_pem(), "https://another.example/dir").unwrap();
    Certificate { managed: Managed::Import, ..certificate }
}
