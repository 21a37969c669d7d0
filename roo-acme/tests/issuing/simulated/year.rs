//! A year of renewals: no name ever expires, whatever the life of certificates, while the CA is away for days and
//! issuers are killed.

use std::time::Duration;

use roo_acme::Item;

use super::ca::{Ca, Rules};
use super::{DAY, HOUR, World};

#[tokio::test(start_paused = true)]
async fn a_year_of_certificates_for_47_days() {
    Year { life: 47 * DAY, outage: 5 * DAY, gives_advice: true }.pass().await;
}

#[tokio::test(start_paused = true)]
async fn a_year_of_certificates_for_6_days() {
    Year { life: 6 * DAY, outage: 36 * HOUR, gives_advice: true }.pass().await;
}

#[tokio::test(start_paused = true)]
async fn a_year_at_a_ca_that_gives_no_advice() {
    Year { life: 6 * DAY, outage: 36 * HOUR, gives_advice: false }.pass().await;
}

#[tokio::test(start_paused = true)]
async fn a_year_of_certificates_for_90_days() {
    Year { life: 90 * DAY, outage: 10 * DAY, gives_advice: true }.pass().await;
}

/// The year.
struct Year {
    life: Duration,
    /// How long the CA is away, every four weeks.
    outage: Duration,
    gives_advice: bool,
}

impl Year {
    async fn pass(&self) {
        let rules = Rules { life: self.life, latency: HOUR / 9000, gives_advice: self.gives_advice, limits: &[] };
        let mut world = World::new(3, |clock| Ca::new(rules, clock));
        let names: Vec<String> = (0..NAMES).map(|number| format!("shop{number}.example")).collect();
        for name in &names {
            world.cluster.want(&[name]);
        }
        tokio::time::sleep(HOUR).await;
        for hour in 1..=365 * 24 {
            tokio::time::sleep(HOUR).await;
            world.all_valid(&names);
            if hour % (28 * 24) == 0 {
                world.ca.go_down(self.outage);
            }
            if hour % 37 == 0 {
                world.kill_one().await;
            }
        }
        self.judge(&world, &names);
    }

    /// Nothing was done too often.
    fn judge(&self, world: &World, names: &[String]) {
        let renewals = usize::try_from(365 * DAY.as_secs() * 3 / 2 / self.life.as_secs()).unwrap();
        for name in names {
            let tally = world.ca.tally(name);
            assert!(tally.issued > renewals / 2 && tally.issued <= renewals + renewals / 10 + 2, "{name}: {tally:?}");
            assert!(tally.orders <= tally.issued + 14 + renewals / 10, "{name}: {tally:?}");
            let asked = if self.gives_advice { 365 * 2..365 * 5 } else { 0..1 };
            assert!(asked.contains(&tally.asked), "{name}: {tally:?}");
            if self.gives_advice {
                assert!(tally.replacing + 3 >= tally.issued, "{name}: {tally:?}");
            }
        }
    }
}

impl World {
    fn all_valid(&self, names: &[String]) {
        let now = self.now();
        for name in names {
            let certificate = self.cluster.certificate(name).unwrap_or_else(|| panic!("{name} has none at {now}"));
            assert!(certificate.not_after > now, "{name} has expired at {now}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_certificate_is_replaced_at_once() {
    let rules = Rules { life: 90 * DAY, latency: Duration::ZERO, gives_advice: true, limits: &[] };
    let world = World::new(2, |clock| Ca::new(rules, clock));
    world.cluster.want(&["a.example", "b.example"]);
    tokio::time::sleep(DAY).await;
    let before = [world.cluster.certificate("a.example").unwrap(), world.cluster.certificate("b.example").unwrap()];
    world.ca.revoke("a.example");
    tokio::time::sleep(7 * HOUR).await;
    assert_ne!(world.cluster.certificate("a.example").unwrap(), before[0]);
    assert_eq!(world.cluster.certificate("b.example").unwrap(), before[1]);
    assert_eq!(world.ca.tally("a.example").replacing, 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_wanted_any_more_is_retired_after_a_while() {
    let rules = Rules { life: 6 * DAY, latency: Duration::ZERO, gives_advice: true, limits: &[] };
    let mut world = World::new(2, |clock| Ca::new(rules, clock));
    world.ca.fail("failing.example", usize::MAX);
    world.cluster.want(&["a.example", "back.example", "failing.example"]);
    tokio::time::sleep(DAY).await;
    for name in ["a.example", "back.example", "failing.example"] {
        world.cluster.unwant(name);
    }
    tokio::time::sleep(5 * DAY).await;
    assert!(world.cluster.certificate("a.example").is_some(), "it may come back");
    world.cluster.want(&["back.example"]);
    // The count goes on across restarts.
    world.kill_one().await;
    world.kill_one().await;
    tokio::time::sleep(4 * DAY).await;
    assert!(world.cluster.certificate("back.example").is_some());
    for name in ["a.example", "failing.example"] {
        assert!(world.cluster.certificate(name).is_none(), "{name}");
        for item in [
            Item::Order { name: name.to_owned() },
            Item::Attempts { name: name.to_owned() },
            Item::Renewal { name: name.to_owned() },
            Item::Unused { name: name.to_owned() },
        ] {
            assert_eq!(world.cluster.item(&item), None, "{item}");
        }
    }
    assert_eq!(world.ca.tally("a.example").issued, 1, "never renewed");
    world.cluster.unwant("back.example");
    tokio::time::sleep(5 * DAY).await;
    assert!(world.cluster.certificate("back.example").is_some(), "its time is counted anew");
}

#[tokio::test(start_paused = true)]
async fn a_mark_of_disuse_is_taken_back_by_a_node_that_knows_nothing_of_it() {
    let rules = Rules { life: 90 * DAY, latency: Duration::ZERO, gives_advice: false, limits: &[] };
    let mut world = World::new(1, |clock| Ca::new(rules, clock));
    let mark = Item::Unused { name: "back.example".to_owned() };
    world.cluster.want(&["back.example"]);
    tokio::time::sleep(DAY).await;
    world.cluster.unwant("back.example");
    tokio::time::sleep(DAY).await;
    assert!(world.cluster.item(&mark).is_some());
    world.nodes.pop().unwrap().stop().await;
    world.cluster.want(&["back.example"]);
    let next = world.node();
    world.nodes.push(next);
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.cluster.item(&mark), None);
}

const NAMES: usize = 4;
