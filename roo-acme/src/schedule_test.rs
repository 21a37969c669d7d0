#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::authority::{AcmeConfig, LETS_ENCRYPT_PRODUCTION, LETS_ENCRYPT_STAGING};
use crate::certificate::Revoked;
use crate::challenge::Challenges;
use crate::dns::{DnsConfig, DnsHook, DnsWriter};
use crate::queue::Queue;
use crate::wish::{Reason, Revocation};

const DAY: i64 = 86_400;
const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn facts(authority: &str, not_before: i64, not_after: i64) -> Facts {
    Facts {
        names: Vec::new(),
        authority: authority.to_owned(),
        issuer: String::new(),
        not_before: at(not_before),
        not_after: at(not_after),
        serial: String::new(),
        managed: Managed::default(),
        revoked: None,
    }
}

fn attempts(next_at: i64) -> Attempts {
    Attempts {
        failures: 1,
        refusals: 1,
        last_error: String::new(),
        last_at: at(NOW),
        next_at: at(next_at),
        challenge: None,
        cas: BTreeMap::new(),
        revocation: false,
    }
}

/// No advice, and not to be asked for again.
fn quiet() -> Renewal {
    Renewal { serial: String::new(), window: None, ask_at: Timestamp::MAX }
}

fn production() -> Authority {
    Authority::from(AcmeConfig::lets_encrypt())
}

/// What follows from a view of all names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// To be worked on, most urgent first.
    due: Vec<String>,
    /// When a further name is due.
    next: Option<Timestamp>,
    impossible: Vec<(String, Unprovable)>,
}

/// A world to schedule in, to be changed by each test.
#[derive(Default)]
struct World {
    wanted: Names,
    have: Inventory,
    fresh: BTreeMap<String, Facts>,
    attempts: BTreeMap<String, Attempts>,
    renewals: BTreeMap<String, Renewal>,
    unused: BTreeMap<String, Timestamp>,
    asked: BTreeSet<String>,
    wishes: Wishes,
    busy: BTreeSet<String>,
}

impl World {
    fn wanting(names: &[&str]) -> Self {
        Self { wanted: names.iter().map(|name| (*name).to_owned()).collect(), ..Self::default() }
    }

    fn plan(&self, authority: &Authority, room: usize) -> Plan {
        let view = View {
            now: at(NOW),
            authority,
            wanted: &self.wanted,
            have: &self.have,
            fresh: &self.fresh,
            attempts: &self.attempts,
            renewals: &self.renewals,
            silent: &BTreeMap::new(),
            since: at(NOW),
            unused: &self.unused,
            kept: &BTreeSet::new(),
            retires: true,
            asked: &self.asked,
            wishes: &self.wishes,
            holds: &BTreeMap::new(),
        };
        let (mut plan, mut queue, mut taken) = (Plan::default(), Queue::default(), self.busy.clone());
        let names: BTreeSet<&String> = self.wanted.iter().chain(self.have.keys()).chain(self.wishes.keys()).collect();
        for name in names.into_iter().filter(|name| !self.busy.contains(*name)) {
            match judge(&view, name) {
                Ok(place) => queue.put(name, place),
                Err(why) => plan.impossible.push((name.clone(), why)),
            }
        }
        plan.next = queue.wakes_at(view.now);
        while plan.due.len() < room
            && let Some(name) = queue.next(view.now, &taken)
        {
            taken.insert(name.clone());
            plan.due.push(name);
        }
        plan
    }
}

#[test]
fn a_new_name_is_due_at_once() {
    let plan = World::wanting(&["a.example"]).plan(&production(), 4);
    assert_eq!(plan.due, ["a.example"]);
    assert_eq!(plan.next, None);
}

#[test]
fn nothing_is_ordered_when_off() {
    let plan = World::wanting(&["a.example"]).plan(&Authority::Off, 4);
    assert_eq!(plan, Plan::default());
}

#[test]
fn a_good_certificate_waits_for_two_thirds_of_its_life() {
    for days in [6, 47, 90, 365] {
        let life = days * DAY;
        let mut world = World::wanting(&["a.example"]);
        let young = facts(LETS_ENCRYPT_PRODUCTION, NOW - life / 2, NOW + life / 2);
        world.have.insert_mut("a.example".to_owned(), young);
        let plan = world.plan(&production(), 4);
        assert!(plan.due.is_empty(), "{days} days");
        assert!(plan.next.unwrap() > at(NOW), "{days} days");
        world.renewals.insert("a.example".to_owned(), quiet());
        let next = world.plan(&production(), 4).next.unwrap().as_second() - (NOW - life / 2);
        assert!(next <= life * 2 / 3 && next >= life * 2 / 3 - life / 20 - 3);

        let old = facts(LETS_ENCRYPT_PRODUCTION, NOW - life * 2 / 3 - 3, NOW + life / 3);
        world.have.insert_mut("a.example".to_owned(), old);
        assert_eq!(world.plan(&production(), 4).due, ["a.example"], "{days} days");
    }
}

#[test]
fn the_ca_is_asked_when_to_renew_and_followed() {
    let mut world = World::wanting(&["a.example"]);
    world.have.insert_mut("a.example".to_owned(), facts(LETS_ENCRYPT_PRODUCTION, NOW - 10 * DAY, NOW + 80 * DAY));
    let asked = world.plan(&production(), 4).next.unwrap();
    assert!(asked >= at(NOW) && asked <= at(NOW + 6 * 3600), "within the interval: {asked}");
    world.renewals.insert("a.example".to_owned(), Renewal { ask_at: at(NOW), ..quiet() });
    assert_eq!(world.plan(&production(), 4).due, ["a.example"], "to be asked about");
    assert!(world.plan(&Authority::Internal, 4).due.is_empty(), "the advice of another CA is not asked for");
    let past = crate::Window { start: at(NOW - DAY), end: at(NOW - DAY) };
    world.renewals.insert("a.example".to_owned(), Renewal { window: Some(past), ..quiet() });
    assert_eq!(world.plan(&production(), 4).due, ["a.example"], "to be replaced at once");
}

#[test]
fn what_nobody_wants_is_looked_after_unless_people_brought_it() {
    let mut world = World::wanting(&[]);
    world.have.insert_mut("a.example".to_owned(), facts(LETS_ENCRYPT_PRODUCTION, NOW - DAY, NOW + 89 * DAY));
    let theirs = Facts { managed: Managed::Import, ..facts("import", NOW - DAY, NOW + 89 * DAY) };
    world.have.insert_mut("b.example".to_owned(), theirs);
    assert_eq!(world.plan(&production(), 4).due, ["a.example"]);
    world.unused.insert("a.example".to_owned(), at(NOW + DAY));
    let plan = world.plan(&production(), 4);
    assert_eq!((plan.due.len(), plan.next), (0, Some(at(NOW + DAY))));
    world.wanted = World::wanting(&["a.example"]).wanted;
    assert_eq!(world.plan(&production(), 4).due, ["a.example"], "the mark is to be taken back");
}

#[test]
fn backoff_holds_a_name_back_and_says_when() {
    let mut world = World::wanting(&["a.example", "b.example"]);
    world.attempts.insert("a.example".to_owned(), attempts(NOW + 60));
    world.attempts.insert("b.example".to_owned(), attempts(NOW));
    let plan = world.plan(&production(), 4);
    assert_eq!(plan.due, ["b.example"]);
    assert_eq!(plan.next, Some(at(NOW + 60)));
}

#[test]
fn a_wish_ends_the_back_off_of_what_failed_before_it() {
    let mut world = World::wanting(&["a.example", "b.example", "c.example"]);
    world.attempts.insert("a.example".to_owned(), attempts(NOW + 60));
    world.attempts.insert("b.example".to_owned(), attempts(NOW + 60));
    let young = facts(LETS_ENCRYPT_PRODUCTION, NOW, NOW + 90 * DAY);
    world.have.insert_mut("c.example".to_owned(), young);
    world.wishes.insert_mut("a.example".to_owned(), Wish { at: at(NOW + 1), revoke: None });
    world.wishes.insert_mut("b.example".to_owned(), Wish { at: at(NOW - 1), revoke: None });
    world.wishes.insert_mut("c.example".to_owned(), Wish { at: at(NOW - 1), revoke: None });
    world.wishes.insert_mut("unused.example".to_owned(), Wish { at: at(NOW), revoke: None });
    let plan = world.plan(&production(), 4);
    assert_eq!(plan.due, ["a.example", "c.example"]);
    assert_eq!(plan.next, Some(at(NOW + 60)));
    assert!(world.plan(&Authority::Off, 4).due.is_empty());
}

#[test]
fn what_is_to_be_revoked_need_not_be_used() {
    let mut world = World::default();
    let revocation = Revocation { reason: Reason::KeyCompromise, renew: false, serial: None, meant: None };
    world.wishes.insert_mut("*.old.example".to_owned(), Wish { at: at(NOW), revoke: Some(revocation) });
    assert_eq!(world.plan(&production(), 4).due, ["*.old.example"]);
}

#[test]
fn what_was_revoked_is_replaced_unless_somebody_said_otherwise() {
    for (renew, expected) in [(true, 1), (false, 0)] {
        let mut world = World::wanting(&["a.example"]);
        let revoked = Some(Revoked { at: at(NOW), reason: Reason::Unspecified, renew });
        let had = Facts { revoked, ..facts(LETS_ENCRYPT_PRODUCTION, NOW - 89 * DAY, NOW + DAY) };
        world.have.insert_mut("a.example".to_owned(), had);
        assert_eq!(world.plan(&production(), 4).due.len(), expected);
    }
}

#[test]
fn a_wildcard_that_was_brought_in_serves_its_names_with_every_authority() {
    let mut world = World::wanting(&["a.shop.example"]);
    let ours = facts("imported", NOW - DAY, NOW + 89 * DAY);
    world.have.insert_mut("*.shop.example".to_owned(), Facts { managed: Managed::Import, ..ours });
    for authority in [Authority::Internal, production()] {
        assert!(world.plan(&authority, 4).due.is_empty(), "{authority:?}");
    }
}

#[test]
fn what_was_brought_in_is_left_alone_until_its_last_days() {
    for (left, life, due) in [(30, 90, false), (8, 90, false), (7, 90, true), (2, 6, false), (1, 6, true)] {
        let mut world = World::wanting(&["a.example"]);
        let ours = facts("imported", NOW - (life - left) * DAY, NOW + left * DAY);
        world.have.insert_mut("a.example".to_owned(), Facts { managed: Managed::Import, ..ours });
        assert_eq!(!world.plan(&production(), 4).due.is_empty(), due, "{left} of {life} days left");
    }
}

#[test]
fn what_is_just_saved_is_not_ordered_again() {
    let mut world = World::wanting(&["a.example"]);
    let new = facts(LETS_ENCRYPT_PRODUCTION, NOW, NOW + 90 * DAY);
    world.fresh.insert("a.example".to_owned(), new);
    assert!(world.plan(&production(), 4).due.is_empty());
    // Also when the store still shows the certificate that it replaced.
    let old = facts(LETS_ENCRYPT_PRODUCTION, NOW - 80 * DAY, NOW + 10 * DAY);
    world.have.insert_mut("a.example".to_owned(), old);
    assert!(world.plan(&production(), 4).due.is_empty());
}

#[test]
fn waiting_handshakes_go_first_then_renewals_then_missing_ones() {
    let mut world = World::wanting(&["a.example", "b.example", "c.example", "d.example", "e.example"]);
    let ending = facts(LETS_ENCRYPT_PRODUCTION, NOW - 80 * DAY, NOW + 10 * DAY);
    let sooner = facts(LETS_ENCRYPT_PRODUCTION, NOW - 85 * DAY, NOW + 5 * DAY);
    let expired = facts(LETS_ENCRYPT_PRODUCTION, NOW - 90 * DAY, NOW);
    world.have.insert_mut("a.example".to_owned(), ending);
    world.have.insert_mut("b.example".to_owned(), sooner);
    world.have.insert_mut("c.example".to_owned(), expired);
    world.asked.insert("e.example".to_owned());
    let plan = world.plan(&production(), 9);
    let expected = ["e.example", "b.example", "a.example", "c.example", "d.example"];
    assert_eq!(plan.due, expected);
    assert_eq!(world.plan(&production(), 2).due, expected[..2]);
}

#[test]
fn a_name_in_work_is_not_started_twice() {
    let mut world = World::wanting(&["a.example"]);
    world.busy.insert("a.example".to_owned());
    assert_eq!(world.plan(&production(), 4), Plan::default());
}

#[test]
fn a_name_asked_for_but_not_wanted_is_not_ordered() {
    let mut world = World::default();
    world.asked.insert("a.example".to_owned());
    assert_eq!(world.plan(&production(), 4), Plan::default());
}

#[test]
fn wildcards_are_for_the_internal_ca_only() {
    let world = World::wanting(&["*.a.example"]);
    let plan = world.plan(&production(), 4);
    assert!(plan.due.is_empty());
    assert_eq!(plan.impossible, [("*.a.example".to_owned(), Unprovable::Wildcard)]);
    assert_eq!(world.plan(&Authority::Internal, 4).due, ["*.a.example"]);
}

#[test]
fn certificates_are_replaced_upwards_only() {
    let staging =
        Authority::from(AcmeConfig { directory: LETS_ENCRYPT_STAGING.to_owned(), ..AcmeConfig::lets_encrypt() });
    let other = Authority::from(AcmeConfig {
        directory: "https://ca.example/directory".to_owned(),
        ..AcmeConfig::lets_encrypt()
    });
    let ladder = [Authority::Internal, staging, production(), other];
    let standing = [0, 1, 2, 2];
    for (had, had_standing) in ladder.iter().zip(standing) {
        for (now, now_standing) in ladder.iter().zip(standing) {
            let mut world = World::wanting(&["a.example"]);
            let young = facts(had.id().unwrap(), NOW - DAY, NOW + 89 * DAY);
            world.have.insert_mut("a.example".to_owned(), young);
            let replaced = !world.plan(now, 4).due.is_empty();
            assert_eq!(replaced, now_standing > had_standing, "{had:?} to {now:?}");
        }
    }
}

proptest! {
    #[test]
    fn a_plan_is_bounded_disjoint_and_looks_forward(
        names in proptest::collection::btree_set("(\\*\\.)?[a-c]{1,2}\\.example", 0..12),
        starts in proptest::collection::vec((-200i64..10, 0i64..400), 12),
        waits in proptest::collection::vec(proptest::option::of(-100i64..100), 12),
        busy in proptest::collection::btree_set("[a-c]{1,2}\\.example", 0..4),
        room in 0usize..6,
    ) {
        let mut world = World { wanted: names.iter().cloned().collect(), busy, ..World::default() };
        for ((name, (start, life)), wait) in names.iter().zip(&starts).zip(&waits) {
            let from = NOW + start * DAY;
            world.have.insert_mut(name.clone(), facts("internal", from, from + life * DAY));
            if let Some(wait) = wait {
                world.attempts.insert(name.clone(), attempts(NOW + wait));
            }
        }
        let plan = world.plan(&production(), room);
        prop_assert!(plan.due.len() <= room);
        for name in &plan.due {
            prop_assert!(names.contains(name) && !world.busy.contains(name));
            prop_assert!(!name.starts_with('*'));
            prop_assert!(world.attempts.get(name).is_none_or(|found| found.next_at <= at(NOW)));
        }
        prop_assert!(plan.next.is_none_or(|next| next > at(NOW)));
    }
}

/// dns-01 by a program that is never run here.
fn with_dns() -> Authority {
    let writer = DnsWriter::Hook(DnsHook { program: "/bin/true".into(), timeout: std::time::Duration::ZERO });
    let dns = DnsConfig { writer, resolver: None, servers: Vec::new(), wait: std::time::Duration::ZERO };
    Authority::from(AcmeConfig { challenges: Challenges::default().with_dns(dns), ..AcmeConfig::lets_encrypt() })
}

#[test]
fn a_name_under_a_wildcard_needs_no_certificate_of_its_own() {
    let mut world = World::wanting(&["*.shop.example", "a.shop.example", "a.b.shop.example", "shop.example"]);
    world.renewals.insert("*.shop.example".to_owned(), quiet());
    world.have.insert_mut("*.shop.example".to_owned(), facts(LETS_ENCRYPT_PRODUCTION, NOW - 8 * DAY, NOW + 72 * DAY));
    let plan = world.plan(&with_dns(), 8);
    assert_eq!(plan.due, ["a.b.shop.example", "shop.example"], "one label deep");
    let orders_own = |world: &World| world.plan(&with_dns(), 8).due.contains(&"a.shop.example".to_owned());
    // Shortly before its end, and for what is less trusted, the name is ordered.
    for (useless, is_useless) in [
        (facts(LETS_ENCRYPT_PRODUCTION, NOW - 69 * DAY, NOW + 11 * DAY), false),
        (facts(LETS_ENCRYPT_PRODUCTION, NOW - 71 * DAY, NOW + 9 * DAY), true),
        (facts(LETS_ENCRYPT_STAGING, NOW - DAY, NOW + 80 * DAY), true),
    ] {
        world.have.insert_mut("*.shop.example".to_owned(), useless);
        world.attempts.insert("*.shop.example".to_owned(), attempts(NOW + 60));
        assert_eq!(orders_own(&world), is_useless);
    }
    // One that is about to be retired does for nobody, one that was brought in does.
    let mut world = World::wanting(&["a.shop.example"]);
    let mut unwanted = facts(LETS_ENCRYPT_PRODUCTION, NOW - DAY, NOW + 80 * DAY);
    world.have.insert_mut("*.shop.example".to_owned(), unwanted.clone());
    assert!(orders_own(&world));
    unwanted.managed = Managed::Import;
    world.have.insert_mut("*.shop.example".to_owned(), unwanted);
    assert!(!orders_own(&world));
}

#[test]
fn a_wildcard_that_is_about_to_be_ordered_is_waited_for_until_it_fails() {
    let mut world = World::wanting(&["*.shop.example", "a.shop.example", "b.shop.example"]);
    assert_eq!(world.plan(&with_dns(), 8).due, ["*.shop.example"]);
    // Nobody can order it.
    assert_eq!(world.plan(&production(), 8).due, ["a.shop.example", "b.shop.example"]);
    world.attempts.insert("*.shop.example".to_owned(), attempts(NOW + 60));
    assert_eq!(world.plan(&with_dns(), 8).due, ["a.shop.example", "b.shop.example"]);
}

#[test]
fn a_certificate_that_a_name_has_is_renewed_although_a_wildcard_would_do() {
    let mut world = World::wanting(&["*.shop.example", "a.shop.example"]);
    world.have.insert_mut("*.shop.example".to_owned(), facts(LETS_ENCRYPT_PRODUCTION, NOW - DAY, NOW + 80 * DAY));
    world.have.insert_mut("a.shop.example".to_owned(), facts(LETS_ENCRYPT_PRODUCTION, NOW - 89 * DAY, NOW + DAY));
    world.renewals.insert("*.shop.example".to_owned(), quiet());
    assert_eq!(world.plan(&with_dns(), 8).due, ["a.shop.example"]);
}

#[test]
fn each_name_has_its_own_if_asked_for_or_free() {
    let mut world = World::wanting(&["a.shop.example"]);
    world.have.insert_mut("*.shop.example".to_owned(), facts("internal", NOW - DAY, NOW + 80 * DAY));
    world.renewals.insert("*.shop.example".to_owned(), quiet());
    assert!(world.plan(&Authority::Internal, 8).due.contains(&"a.shop.example".to_owned()));
    world.have.insert_mut("*.shop.example".to_owned(), facts(LETS_ENCRYPT_PRODUCTION, NOW - DAY, NOW + 80 * DAY));
    let challenges = Challenges::default().for_each_name();
    let each = Authority::from(AcmeConfig { challenges, ..AcmeConfig::lets_encrypt() });
    assert!(world.plan(&each, 8).due.contains(&"a.shop.example".to_owned()));
}
