//! Wishes that fail, or that other events overtake.

use std::time::Duration;

use jiff::Timestamp;
use roo_acme::{Certificate, Meant, Reason, Revocation, Wish};

use super::ca::{Ca, Rules};
use super::{DAY, HOUR, World};

#[tokio::test(start_paused = true)]
async fn a_failing_wish_for_a_good_certificate_waits_between_tries() {
    wish_fails(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn a_wish_from_a_node_whose_clock_is_ahead_waits_as_well() {
    wish_fails(Duration::from_mins(50)).await;
}

/// Tries of a wish that fails for an hour, asked at a node whose clock is `ahead`.
async fn wish_fails(ahead: Duration) {
    let world = World::new(2, |clock| Ca::new(rules(Duration::ZERO), clock));
    world.cluster.want(&["a.example"]);
    tokio::time::sleep(DAY).await;
    world.ca.fail("a.example", usize::MAX);
    world.cluster.wish("a.example", renewed(world.now().saturating_add(ahead).unwrap()));
    tokio::time::sleep(HOUR).await;
    // After 30 s, 150 s, 750 s, and a little more each: then more than an hour.
    let failures = world.ca.tally("a.example").failures;
    assert!((3..=5).contains(&failures), "{failures} tries in an hour");
    assert!(world.cluster.attempts("a.example").is_some());
    world.ca.fail("a.example", 0);
    tokio::time::sleep(DAY).await;
    assert_eq!(world.ca.tally("a.example").issued, 2);
    assert!(world.cluster.wishes.borrow().is_empty());
    assert_eq!(world.cluster.attempts("a.example"), None);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_not_lost_with_the_wish_before_and_hits_no_other_certificate() {
    let world = World::new(2, |clock| Ca::new(rules(Duration::from_secs(10)), clock));
    world.cluster.want(&["a.example"]);
    tokio::time::sleep(DAY).await;
    let first = world.cluster.certificate("a.example").unwrap();
    world.cluster.wish("a.example", renewed(world.now()));
    world.ordered("a.example").await;
    world.cluster.wish("a.example", revoked(world.now(), &first));
    tokio::time::sleep(HOUR / 2).await;
    // The one that was meant is revoked although another one is there, which is left alone.
    let second = world.cluster.certificate("a.example").unwrap();
    assert_ne!(second.serial, first.serial);
    assert_eq!((second.revoked, world.ca.revocations()), (None, 1));
    assert_eq!(world.cluster.attempts("a.example"), None);
    assert!(world.cluster.wishes.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn why_a_revocation_was_refused_is_told_until_the_next_certificate() {
    let world = World::new(1, |clock| Ca::new(rules(Duration::ZERO), clock));
    world.cluster.want(&["a.example"]);
    tokio::time::sleep(DAY).await;
    let first = world.cluster.certificate("a.example").unwrap();
    // As a node asks that does not say more than the number.
    let mut wish = revoked(world.now(), &first);
    if let Some(revocation) = &mut wish.revoke {
        (revocation.meant, revocation.serial) = (None, Some("00".to_owned()));
    }
    world.cluster.wish("a.example", wish);
    let asked = world.ca.tally("a.example").asked;
    tokio::time::sleep(7 * DAY).await;
    assert!(world.ca.tally("a.example").asked > asked + 7, "the CA was asked when to renew meanwhile");
    let attempts = world.cluster.attempts("a.example").unwrap();
    assert!(attempts.last_error.contains(&first.serial), "{}", attempts.last_error);
    world.cluster.wish("a.example", renewed(world.now()));
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.cluster.attempts("a.example"), None);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_asked_for_again_when_the_ca_is_busy() {
    let world = World::new(1, |clock| Ca::new(rules(Duration::ZERO), clock));
    world.cluster.want(&["a.example"]);
    tokio::time::sleep(DAY).await;
    let first = world.cluster.certificate("a.example").unwrap();
    world.ca.put_off(2);
    world.cluster.wish("a.example", revoked(world.now(), &first));
    tokio::time::sleep(HOUR).await;
    assert!(world.cluster.certificate("a.example").unwrap().revoked.is_some());
    assert_eq!(world.ca.revocations(), 3);
    assert!(world.cluster.wishes.borrow().is_empty());
}

fn revoked(at: Timestamp, certificate: &Certificate) -> Wish {
    let (serial, meant) = (Some(certificate.serial.clone()), Meant::both(certificate).ok());
    Wish { at, revoke: Some(Revocation { reason: Reason::KeyCompromise, renew: false, serial, meant }) }
}

fn renewed(at: Timestamp) -> Wish {
    Wish { at, revoke: None }
}

fn rules(latency: Duration) -> Rules {
    Rules { life: 90 * DAY, latency, gives_advice: true, limits: &[] }
}
