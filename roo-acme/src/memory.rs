//! What a node remembers between looks at the schedule. All of it can be forgotten: the store knows better.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::attempts::Attempts;
use crate::authority::Authority;
use crate::certificate::Facts;
use crate::choice::{Held, Scope};
use crate::clock::Clock;
use crate::desk::Outcome;
use crate::inventory::{Inventory, Names};
use crate::queue::{Place, Queue};
use crate::renewal::Renewal;
use crate::schedule::{View, judge};
use crate::wildcard::wildcard_above;
use crate::wish::Wishes;

/// What a node remembers. Grows with the wanted names at most.
#[derive(Default)]
pub(crate) struct Memory {
    /// Whether names that are not wanted are to be looked after.
    pub(crate) retires: bool,
    pub(crate) clock: Clock,
    queue: Queue,
    /// The world as it was at the last look.
    seen: Option<World>,
    /// Whether other names are wanted than at the last look.
    wanted_changed: bool,
    /// Names to be judged at the next look.
    changed: BTreeSet<String>,
    /// Certificates seen in the store that the inventory may not show yet, and when we saw them.
    fresh: BTreeMap<String, Facts>,
    fresh_since: Option<Instant>,
    attempts: BTreeMap<String, Attempts>,
    renewals: BTreeMap<String, Renewal>,
    /// CAs that do not tell when to renew, and until when they are not asked.
    silent: BTreeMap<String, Timestamp>,
    /// Names that wait for a CA's limits or pauses, and until when.
    holds: BTreeMap<String, Timestamp>,
    /// When we looked first.
    since: Option<Timestamp>,
    /// Names that were not wanted when they were looked at, and when to look again.
    unused: BTreeMap<String, Timestamp>,
    /// Names of which something else than a certificate is kept, and when we asked for them.
    kept: BTreeSet<String>,
    kept_at: Option<Timestamp>,
    asked: BTreeSet<String>,
    /// Names already reported as impossible.
    reported: BTreeSet<String>,
}

/// What an issuer is told. A copy costs nothing.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) wanted: Names,
    pub(crate) have: Inventory,
    pub(crate) wishes: Wishes,
}

impl Memory {
    /// Takes in how the world has changed; names that did not change are not looked at.
    pub(crate) fn look(&mut self, authority: &Authority, world: World) {
        let now = self.clock.now();
        self.since.get_or_insert(now);
        if self.fresh_since.is_some_and(|since| since.elapsed() > FRESH_FOR) {
            self.changed.extend(std::mem::take(&mut self.fresh).into_keys());
            self.fresh_since = None;
        }
        let mut changed = std::mem::take(&mut self.changed);
        changed.extend(self.queue.wake(now));
        match &self.seen {
            Some(seen) => {
                if std::mem::take(&mut self.wanted_changed) {
                    changed.extend(differing(seen.wanted.iter(), world.wanted.iter()));
                }
                let wishes = |world: &World| world.wishes.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
                changed.extend(wishes(seen).into_iter().chain(wishes(&world)));
                match world.have.changed_since(seen.have.version()) {
                    Some(names) => changed.extend(names.cloned()),
                    None => changed.extend(self.all(&world)),
                }
            }
            None => changed.extend(self.all(&world)),
        }
        // What becomes of a wildcard matters to the names below it.
        if changed.iter().any(|name| name.starts_with("*.")) {
            let below = |name: &&String| wildcard_above(name).is_some_and(|wildcard| changed.contains(&wildcard));
            let below: Vec<String> = world.wanted.iter().filter(below).cloned().collect();
            changed.extend(below);
        }
        for name in &changed {
            self.judge(authority, name, &world);
        }
        self.seen = Some(world);
    }

    /// Puts a name into its place.
    fn judge(&mut self, authority: &Authority, name: &str, world: &World) {
        let now = self.clock.now();
        self.tidy(name, world, now);
        let judged = judge(
            &View {
                now,
                authority,
                wanted: &world.wanted,
                have: &world.have,
                fresh: &self.fresh,
                attempts: &self.attempts,
                renewals: &self.renewals,
                silent: &self.silent,
                since: self.since.unwrap_or(now),
                unused: &self.unused,
                kept: &self.kept,
                retires: self.retires,
                asked: &self.asked,
                wishes: &world.wishes,
                holds: &self.holds,
            },
            name,
        );
        self.queue.put(name, judged.unwrap_or(Place::Nowhere));
        if let Err(why) = judged
            && self.reported.insert(name.to_owned())
        {
            tracing::warn!(name, reason = %why, "no certificate can be ordered for this name");
        }
    }

    /// All names that anything is known of.
    fn all(&self, world: &World) -> BTreeSet<String> {
        let told = world.wanted.iter().chain(world.have.keys()).chain(world.wishes.keys());
        told.chain(self.queue.names()).chain(&self.kept).cloned().collect()
    }

    /// Whether there is work.
    pub(crate) fn is_due(&self) -> bool {
        self.queue.peek(self.clock.now(), &BTreeSet::new()).is_some()
    }

    /// The name to work on next, while others are `busy`.
    pub(crate) fn next(&mut self, busy: &BTreeSet<String>) -> Option<String> {
        self.queue.next(self.clock.now(), busy)
    }

    /// When there is work, if there is none now and nothing changes.
    pub(crate) fn wakes_at(&self) -> Option<Timestamp> {
        self.queue.wakes_at(self.clock.now())
    }

    /// Whether it is time to ask the store what is kept of names.
    pub(crate) fn wants_kept(&self, now: Timestamp) -> bool {
        let again = |at: Timestamp| at.saturating_add(KEPT_AGAIN).is_ok_and(|again| again <= now);
        self.kept_at.is_none_or(again)
    }

    /// Takes note of the names of which something is kept, and of those that are marked as not wanted.
    pub(crate) fn note_kept(&mut self, names: Vec<String>, marked: Vec<String>, now: Timestamp) {
        self.changed.extend(std::mem::take(&mut self.kept));
        self.changed.extend(names.iter().chain(&marked).cloned());
        self.kept = names.into_iter().collect();
        self.kept_at = Some(now);
        for name in marked {
            // Looked at now: the mark is taken back, or tells when to look again.
            self.unused.entry(name).or_insert(now);
        }
    }

    /// Takes note of the CAs that do not tell when to renew.
    pub(crate) fn note_silent(&mut self, authority: &Authority, silent: BTreeMap<String, Timestamp>) {
        if self.silent == silent {
            return;
        }
        self.silent = silent;
        let checks: Vec<String> = self.queue.checks().cloned().collect();
        let world = self.seen.clone().unwrap_or_default();
        for name in &checks {
            self.judge(authority, name, &world);
        }
    }

    /// Takes note that other names may be wanted.
    pub(crate) fn note_wanted(&mut self) {
        self.wanted_changed = true;
    }

    /// A handshake waits for `name`.
    pub(crate) fn asked_for(&mut self, name: String) {
        if self.asked.len() < ASKED_MAX {
            self.changed.insert(name.clone());
            self.asked.insert(name);
        }
    }

    /// Takes note of what became of a job for `name`.
    pub(crate) fn note(&mut self, authority: &Authority, name: String, outcome: Outcome) {
        if name.starts_with("*.") {
            self.changed.insert(name.clone());
        }
        self.remember(name.clone(), outcome);
        let world = self.seen.clone().unwrap_or_default();
        self.judge(authority, &name, &world);
        // What the store shows may lag behind what was done: not again before the next look.
        if self.queue.is_due(&name) {
            self.queue.put(&name, Place::Nowhere);
            self.changed.insert(name);
        }
    }

    fn remember(&mut self, name: String, outcome: Outcome) {
        match outcome {
            Outcome::Current { facts, attempts, renewal } => {
                self.note_attempts(&name, attempts);
                self.unused.remove(&name);
                if let Some(renewal) = renewal {
                    self.renewals.insert(name.clone(), renewal);
                }
                self.note_facts(name, facts);
            }
            Outcome::Issued { facts } => {
                self.note_attempts(&name, None);
                self.renewals.remove(&name);
                self.unused.remove(&name);
                self.queue.hold_all(None);
                self.note_facts(name, Some(facts));
            }
            Outcome::Failed { attempts, pause_until } => {
                if pause_until.is_some() {
                    self.queue.hold_all(pause_until);
                }
                self.note_attempts(&name, Some(attempts));
            }
            Outcome::Held(held) => self.hold(name, &held),
            Outcome::Unused { look_at } => drop(self.unused.insert(name, look_at)),
            Outcome::Retired => {
                self.unused.remove(&name);
                self.kept.remove(&name);
                self.attempts.remove(&name);
            }
            Outcome::ClaimLost => {}
        }
    }

    fn note_facts(&mut self, name: String, facts: Option<Facts>) {
        if let Some(facts) = facts {
            self.fresh.insert(name, facts);
            self.fresh_since = Some(Instant::now());
        }
    }

    fn note_attempts(&mut self, name: &str, attempts: Option<Attempts>) {
        match attempts {
            Some(attempts) => self.attempts.insert(name.to_owned(), attempts),
            None => self.attempts.remove(name),
        };
    }

    /// A name waits, and maybe others with it.
    fn hold(&mut self, name: String, held: &Held) {
        tracing::debug!(name, until = %held.until, why = held.why, "no order yet");
        match held.scope {
            Scope::Name => {}
            Scope::Domain => self.queue.hold_domain(&name, held.until, self.clock.now()),
            Scope::New => self.queue.hold_new(held.until),
            Scope::All => self.queue.hold_all(Some(held.until)),
        }
        // New names keep their place in the turn of domains.
        if held.scope == Scope::Name || !self.queue.is_new(&name) {
            self.holds.insert(name, held.until);
        }
    }

    /// Forgets what has no use any more.
    fn tidy(&mut self, name: &str, world: &World, now: Timestamp) {
        let (wanted, have) = (world.wanted.contains(name), world.have.get(name));
        let fresh = self.fresh.get(name);
        let shown = |fresh: &Facts| have.is_some_and(|have| have.not_before >= fresh.not_before);
        if fresh.is_some_and(|fresh| !wanted || shown(fresh)) {
            self.fresh.remove(name);
        }
        if !wanted {
            self.renewals.remove(name);
            self.reported.remove(name);
            if !world.wishes.contains_key(name) {
                self.attempts.remove(name);
            }
            if have.is_none() && !self.kept.contains(name) {
                self.unused.remove(name);
            }
        }
        if !wanted || have.is_some() {
            self.asked.remove(name);
        }
        if self.holds.get(name).is_some_and(|until| !wanted || *until <= now) {
            self.holds.remove(name);
        }
    }
}

/// The names that are in one of two orderly lists.
fn differing<'a>(before: impl Iterator<Item = &'a String>, after: impl Iterator<Item = &'a String>) -> Vec<String> {
    let (mut before, mut after) = (before.peekable(), after.peekable());
    let mut differing = Vec::new();
    loop {
        let (first, second) = (before.peek().copied(), after.peek().copied());
        let order = match (first, second) {
            (None, None) => return differing,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(first), Some(second)) => first.cmp(second),
        };
        let name = match order {
            Ordering::Less => before.next(),
            Ordering::Greater => after.next(),
            Ordering::Equal => {
                before.next();
                after.next();
                None
            }
        };
        differing.extend(name.cloned());
    }
}

/// How long the inventory may lag behind the store before we believe it more than our memory.
const FRESH_FOR: Duration = Duration::from_secs(60);

/// How often to look for what was left behind of names.
const KEPT_AGAIN: Duration = Duration::from_hours(24);

/// Names that handshakes wait for; more than that is a flood, and order of service is lost anyway.
const ASKED_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Certificate;
    use crate::attempts::{Failure, FailureKind};

    fn failed(waits_hours: i64) -> Outcome {
        let retry_at = Timestamp::now().checked_add(jiff::SignedDuration::from_hours(waits_hours)).unwrap();
        let failure = Failure::new(String::new(), FailureKind::Refused, Some(retry_at));
        Outcome::Failed { attempts: Attempts::after(None, &failure, Timestamp::now(), 0.0, None), pause_until: None }
    }

    fn due(memory: &mut Memory, wanted: &[&str]) -> (Vec<String>, Option<Timestamp>) {
        let wanted = wanted.iter().map(|name| (*name).to_owned()).collect();
        memory.note_wanted();
        memory.look(&Authority::Internal, World { wanted, ..World::default() });
        let mut busy = BTreeSet::new();
        while let Some(name) = memory.next(&busy) {
            busy.insert(name);
        }
        (busy.into_iter().collect(), memory.wakes_at())
    }

    #[test]
    fn a_refusal_of_one_name_leaves_the_others_alone() {
        let mut memory = Memory::default();
        assert_eq!(due(&mut memory, &["a.example"]).0, ["a.example"]);
        memory.note(&Authority::Internal, "a.example".to_owned(), failed(1));
        assert_eq!(due(&mut memory, &["a.example", "b.example"]).0, ["b.example"]);
    }

    #[test]
    fn a_pause_holds_all_names_back() {
        let mut memory = Memory::default();
        let until = Timestamp::now().checked_add(jiff::SignedDuration::from_secs(60)).unwrap();
        let held = Held { until, scope: Scope::All, why: String::new() };
        memory.note(&Authority::Internal, "a.example".to_owned(), Outcome::Held(held));
        assert_eq!(due(&mut memory, &["a.example", "e.example"]), (Vec::new(), Some(until)));
    }

    #[test]
    fn what_was_seen_in_the_store_is_not_due_although_the_inventory_lags() {
        let mut memory = Memory::default();
        let certificate = Certificate::decode(include_bytes!("../fixtures/certificate-v1.record")).unwrap();
        let mut facts = certificate.facts();
        facts.authority = "internal".to_owned();
        facts.not_before = Timestamp::now();
        facts.not_after = Timestamp::now().checked_add(jiff::SignedDuration::from_hours(2000)).unwrap();
        assert_eq!(due(&mut memory, &["a.example"]).0, ["a.example"]);
        memory.note(&Authority::Internal, "a.example".to_owned(), Outcome::Issued { facts });
        assert!(due(&mut memory, &["a.example"]).0.is_empty());
        // Forgotten with the name itself.
        assert!(due(&mut memory, &[]).0.is_empty());
        assert_eq!(due(&mut memory, &["a.example"]).0, ["a.example"]);
    }
}
