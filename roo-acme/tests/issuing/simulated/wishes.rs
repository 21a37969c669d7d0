//! Wishes that fail, or that other events overtake.

use std::time::Duration;

use jiff::Timestamp;
use roo_acme::Wish;

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

fn renewed(at: Timestamp) -> Wish {
    Wish { at, revoke: None }
}

fn rules(latency: Duration) -> Rules {
    Rules { life: 90 * DAY, latency, gives_advice: true, limits: &[] }
}
