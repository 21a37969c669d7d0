//! What a node remembers between looks at the schedule. All of it can be forgotten: the store knows better.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::attempts::Attempts;
use crate::authority::Authority;
use crate::certificate::Facts;
use crate::desk::Outcome;
use crate::schedule::{Plan, View, schedule};

/// What a node remembers. Grows with the wanted names at most.
#[derive(Default)]
pub(crate) struct Memory {
    /// Certificates seen in the store that the inventory may not show yet, and when we saw them.
    fresh: BTreeMap<String, Facts>,
    fresh_since: Option<Instant>,
    attempts: BTreeMap<String, Attempts>,
    asked: BTreeSet<String>,
    /// The authority is not to be bothered before.
    paused_until: Option<Timestamp>,
    /// Names already reported as impossible.
    reported: BTreeSet<String>,
}

impl Memory {
    /// Decides what to do now, for what is known now.
    pub(crate) fn plan(
        &mut self,
        authority: &Authority,
        wanted: &BTreeSet<String>,
        have: &BTreeMap<String, Facts>,
        busy: &BTreeSet<String>,
        room: usize,
    ) -> Plan {
        self.tidy(wanted, have);
        let now = Timestamp::now();
        let mut plan = schedule(&View {
            now,
            authority,
            wanted,
            have,
            fresh: &self.fresh,
            attempts: &self.attempts,
            asked: &self.asked,
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

    /// A handshake waits for `name`.
    pub(crate) fn asked_for(&mut self, name: String) {
        if self.asked.len() < ASKED_MAX {
            self.asked.insert(name);
        }
    }

    /// Takes note of what became of a job for `name`.
    pub(crate) fn note(&mut self, name: String, outcome: Outcome) {
        match outcome {
            Outcome::Current { facts, attempts } => {
                self.note_attempts(&name, attempts);
                self.note_facts(name, facts);
            }
            Outcome::Issued { facts } => {
                self.note_attempts(&name, None);
                self.paused_until = None;
                self.note_facts(name, Some(facts));
            }
            Outcome::Failed { attempts, pause } => {
                if pause {
                    self.paused_until = self.paused_until.max(Some(attempts.next_at));
                }
                self.note_attempts(&name, Some(attempts));
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
    fn tidy(&mut self, wanted: &BTreeSet<String>, have: &BTreeMap<String, Facts>) {
        if self.fresh_since.is_some_and(|since| since.elapsed() > FRESH_FOR) {
            self.fresh.clear();
            self.fresh_since = None;
        }
        self.fresh.retain(|name, fresh| {
            let shown = have.get(name).is_some_and(|have| have.not_before >= fresh.not_before);
            wanted.contains(name) && !shown
        });
        self.attempts.retain(|name, _| wanted.contains(name));
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

/// Names that handshakes wait for; more than that is a flood, and order of service is lost anyway.
const ASKED_MAX: usize = 1024;
