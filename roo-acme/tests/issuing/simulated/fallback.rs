//! Several CAs: who is asked while the first one can't or won't issue.

use std::time::Duration;

use super::ca::{Ca, DIRECTORY, Limit, Rules, SECOND, What};
use super::{DAY, HOUR, World};

#[tokio::test(start_paused = true)]
async fn names_go_to_the_next_ca_while_the_first_is_away_and_back_for_their_renewals() {
    let mut world = World::of_two(2, rules(6 * DAY, &[]), rules(6 * DAY, &[]));
    world.ca.go_down(3 * HOUR);
    world.cluster.want(&["a.example", "b.example"]);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!((world.authority("a.example"), world.authority("b.example")), (SECOND, SECOND));
    // What is known outlives the issuers: the third name is not tried at the first CA again and again.
    world.kill_one().await;
    world.kill_one().await;
    world.cluster.want(&["c.example"]);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(world.authority("c.example"), SECOND);
    tokio::time::sleep(DAY).await;
    world.cluster.want(&["d.example"]);
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.authority("d.example"), DIRECTORY, "it is well again");
    tokio::time::sleep(5 * DAY).await;
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(world.authority(name), DIRECTORY);
        let orders = (world.ca.tally(name).orders, world.second().tally(name).orders);
        assert_eq!(orders, (1, 1), "{name}");
        assert!(world.second().tally(name).asked > 4, "whoever issued says when to renew");
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_ca_must_not_issue_another_one_does() {
    const LIMITS: &[Limit] = &[Limit { what: What::Domain, count: 1, window: DAY }];
    let world = World::of_two(2, rules(90 * DAY, LIMITS), rules(90 * DAY, &[]));
    world.ca.forbid("caa.test.example");
    world.cluster.want(&["caa.test.example"]);
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.authority("caa.test.example"), SECOND);
    assert_eq!(world.ca.tally("caa.test.example").failures, 1);
    assert_eq!(world.cluster.attempts("caa.test.example"), None);
    world.cluster.want(&["a.shop.example"]);
    tokio::time::sleep(HOUR).await;
    world.cluster.want(&["b.shop.example"]);
    tokio::time::sleep(HOUR).await;
    assert_eq!((world.authority("a.shop.example"), world.authority("b.shop.example")), (DIRECTORY, SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_can_not_be_proven_is_not_carried_from_ca_to_ca() {
    let world = World::of_two(2, rules(90 * DAY, &[]), rules(90 * DAY, &[]));
    world.ca.fail("a.example", 3);
    world.cluster.want(&["a.example"]);
    tokio::time::sleep(DAY).await;
    assert_eq!(world.authority("a.example"), DIRECTORY);
    assert_eq!(world.second().tally("a.example").orders, 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_refused_often_is_rehearsed_before_the_ca_is_asked_again() {
    let world = World::rehearsing(rules(90 * DAY, &[]), rules(90 * DAY, &[]));
    world.ca.fail("a.example", 4);
    world.second().fail("a.example", 2);
    world.cluster.want(&["a.example", "b.example"]);
    tokio::time::sleep(7 * DAY).await;
    assert_eq!((world.authority("a.example"), world.authority("b.example")), (DIRECTORY, DIRECTORY));
    let (ca, stage) = (world.ca.tally("a.example"), world.second().tally("a.example"));
    assert_eq!((ca.failures, ca.issued), (4, 1), "{ca:?}");
    // Two that failed there cost nothing here; after the next one it was refused here once more, and after the last it was not.
    assert_eq!((stage.failures, stage.issued), (2, 2), "{stage:?}");
    assert_eq!(world.second().tally("b.example").orders, 0, "nobody refused it");
    assert_eq!(world.cluster.attempts("a.example"), None);
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_that_does_not_come_about_stands_in_no_ones_way() {
    let world = World::rehearsing(rules(90 * DAY, &[]), rules(90 * DAY, &[]));
    world.second().go_down(30 * DAY);
    world.ca.fail("a.example", 4);
    world.cluster.want(&["a.example"]);
    tokio::time::sleep(7 * DAY).await;
    assert_eq!(world.authority("a.example"), DIRECTORY);
}

impl World {
    /// Nodes whose orders from the first CA are rehearsed at the second one.
    fn rehearsing(first: Rules, second: Rules) -> Self {
        let mut world = Self::of_two(0, first, second);
        world.rehearses = true;
        let node = world.node();
        world.nodes.push(node);
        world
    }

    /// Nodes with two CAs.
    fn of_two(nodes: usize, first: Rules, second: Rules) -> Self {
        let mut world = Self::new(0, |clock| Ca::new(first, clock));
        world.second = Some(Ca::at(SECOND, second, world.clock.clone()));
        for _ in 0..nodes {
            let node = world.node();
            world.nodes.push(node);
        }
        world
    }

    fn second(&self) -> &Ca {
        self.second.as_ref().unwrap()
    }

    /// Who issued the certificate of `name`.
    fn authority(&self, name: &str) -> &'static str {
        let authority = self.cluster.certificate(name).map(|found| found.authority).unwrap_or_default();
        [DIRECTORY, SECOND].into_iter().find(|known| *known == authority).unwrap_or("nobody")
    }
}

fn rules(life: Duration, limits: &'static [Limit]) -> Rules {
    Rules { life, latency: Duration::from_millis(400), gives_advice: true, limits }
}
