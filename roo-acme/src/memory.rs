//! What a node remembers between looks at the schedule. All of it can be forgotten: the store knows better.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::attempts::Attempts;
use crate::authority::Authority;
use crate::certificate::Facts;
use crate::clock::Clock;
use crate::desk::Outcome;
use crate::inventory::{Inventory, Names};
use crate::renewal::Renewal;
use crate::schedule::{Plan, View, schedule};
use crate::wish::Wishes;

/// What a node remembers. Grows with the wanted names at most.
#[derive(Default)]
pub(crate) struct Memory {
    /// Whether names that are not wanted are to be looked after.
    pub(crate) retires: bool,
    pub(crate) clock: Clock,
    /// Certificates seen in the store that the inventory may not show yet, and when we saw them.
    fresh: BTreeMap<String, Facts>,
    fresh_since: Option<Instant>,
    attempts: BTreeMap<String, Attempts>,
    renewals: BTreeMap<String, Renewal>,
    /// When we looked first.
    since: Option<Timestamp>,
    /// Names that were not wanted when they were looked at, and when to look again.
    unused: BTreeMap<String, Timestamp>,
    /// Names of which something else than a certificate is kept, and when we asked for them.
    kept: BTreeSet<String>,
    kept_at: Option<Timestamp>,
    asked: BTreeSet<String>,
    /// Nobody is to be bothered before, with any name.
    paused_until: Option<Timestamp>,
    /// Names already reported as impossible.
    reported: BTreeSet<String>,
}

impl Memory {
    /// Decides what to do now, for what is known now.
    pub(crate) fn plan(
        &mut self,
        authority: &Authority,
        wanted: &Names,
        have: &Inventory,
        wishes: &Wishes,
        busy: &BTreeSet<String>,
        room: usize,
    ) -> Plan {
        self.tidy(wanted, have, wishes);
        let now = self.clock.now();
        let since = *self.since.get_or_insert(now);
        let mut plan = schedule(&View {
            now,
            authority,
            wanted,
            have,
            fresh: &self.fresh,
            attempts: &self.attempts,
            renewals: &self.renewals,
            since,
            unused: &self.unused,
            kept: &self.kept,
            retires: self.retires,
            asked: &self.asked,
            wishes,
            busy,
            room,
        });
        self.report(&plan);
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            plan.due.clear();
            plan.next = Some(until);
        }
        plan
    }

    /// Whether it is time to ask the store what is kept of names.
    pub(crate) fn wants_kept(&self, now: Timestamp) -> bool {
        let again = |at: Timestamp| at.saturating_add(KEPT_AGAIN).is_ok_and(|again| again <= now);
        self.kept_at.is_none_or(again)
    }

    /// Takes note of the names of which something is kept, and of those that are marked as not wanted.
    pub(crate) fn note_kept(&mut self, names: Vec<String>, marked: Vec<String>, now: Timestamp) {
        self.kept = names.into_iter().collect();
        self.kept_at = Some(now);
        for name in marked {
            // Looked at now: the mark is taken back, or tells when to look again.
            self.unused.entry(name).or_insert(now);
        }
    }

    /// A handshake waits for `name`.
    pub(crate) fn asked_for(&mut self, name: String) {
        if self.asked.len() < ASKED_MAX {
            self.asked.insert(name);
        }
    }

    /// Takes note of what became of a job for `name`.
    pub(crate) fn note(&mut self, name: String, outcome: Outcome) {
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
                self.paused_until = None;
                self.note_facts(name, Some(facts));
            }
            Outcome::Failed { attempts, pause_until } => {
                self.paused_until = pause_until.or(self.paused_until);
                self.note_attempts(&name, Some(attempts));
            }
            Outcome::Held { until } => self.paused_until = Some(until),
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

    /// Forgets what has no use any more.
    fn tidy(&mut self, wanted: &Names, have: &Inventory, wishes: &Wishes) {
        if self.fresh_since.is_some_and(|since| since.elapsed() > FRESH_FOR) {
            self.fresh.clear();
            self.fresh_since = None;
        }
        self.fresh.retain(|name, fresh| {
            let shown = have.get(name).is_some_and(|have| have.not_before >= fresh.not_before);
            wanted.contains(name) && !shown
        });
        self.attempts.retain(|name, _| wanted.contains(name) || wishes.contains_key(name));
        self.renewals.retain(|name, _| wanted.contains(name));
        let kept = &self.kept;
        self.unused.retain(|name, _| wanted.contains(name) || have.contains_key(name) || kept.contains(name));
        self.asked.retain(|name| wanted.contains(name) && !have.contains_key(name));
        self.reported.retain(|name| wanted.contains(name));
    }

    fn report(&mut self, plan: &Plan) {
        for (name, why) in &plan.impossible {
            if self.reported.insert(name.clone()) {
                tracing::warn!(name, reason = %why, "no certificate can be ordered for this name");
            }
        }
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
        let (have, wishes, busy) = (Inventory::default(), Wishes::default(), BTreeSet::new());
        let plan = memory.plan(&Authority::Internal, &wanted, &have, &wishes, &busy, 4);
        (plan.due, plan.next)
    }

    #[test]
    fn a_refusal_of_one_name_leaves_the_others_alone() {
        let mut memory = Memory::default();
        memory.note("a.example".to_owned(), failed(1));
        assert_eq!(due(&mut memory, &["a.example", "b.example"]).0, ["b.example"]);
    }

    #[test]
    fn a_pause_holds_all_names_back() {
        let mut memory = Memory::default();
        let until = Timestamp::now().checked_add(jiff::SignedDuration::from_secs(60)).unwrap();
        memory.note("a.example".to_owned(), Outcome::Held { until });
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
        memory.note("a.example".to_owned(), Outcome::Issued { facts });
        assert!(due(&mut memory, &["a.example"]).0.is_empty());
        // Forgotten with the name itself.
        assert!(due(&mut memory, &[]).0.is_empty());
        assert_eq!(due(&mut memory, &["a.example"]).0, ["a.example"]);
    }
}
