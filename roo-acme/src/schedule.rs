//! What to order now and when to look again: pure decisions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::attempts::Attempts;
use crate::authority::Authority;
use crate::certificate::Facts;
use crate::challenge::Unprovable;
use crate::inventory::{Inventory, Names};

/// Everything the schedule looks at.
pub(crate) struct View<'a> {
    pub(crate) now: Timestamp,
    pub(crate) authority: &'a Authority,
    /// Names to be served.
    pub(crate) wanted: &'a Names,
    /// Certificates in the store, as last seen.
    pub(crate) have: &'a Inventory,
    /// Certificates we know to be in the store although `have` may not show them yet.
    pub(crate) fresh: &'a BTreeMap<String, Facts>,
    /// Failures we know of.
    pub(crate) attempts: &'a BTreeMap<String, Attempts>,
    /// Names that a handshake waits for.
    pub(crate) asked: &'a BTreeSet<String>,
    /// Names being worked on.
    pub(crate) busy: &'a BTreeSet<String>,
    /// How many may be started now.
    pub(crate) room: usize,
}

/// What follows from a [`View`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// To be ordered now, most urgent first, at most `room`.
    pub(crate) due: Vec<String>,
    /// When a further name is due, as far as known.
    pub(crate) next: Option<Timestamp>,
    /// Wanted, but impossible with this authority.
    pub(crate) impossible: Vec<(String, Unprovable)>,
}

/// What one name needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A certificate, now.
    Now(Urgency),
    /// Nothing before this time.
    At(Timestamp),
    /// What cannot be had.
    Impossible(Unprovable),
    /// Nothing ever: the authority is off.
    Nothing,
}

/// Lower comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// There is no valid certificate and a handshake waits.
    Asked,
    /// There is no valid certificate.
    Missing,
    /// The certificate is in the last third of its life.
    Renewal {
        /// When it ends: the sooner, the more urgent.
        not_after: Timestamp,
    },
    /// The certificate is from a lesser authority than the one configured now.
    Upgrade,
}

/// Decides what to order now and when to look again.
pub(crate) fn schedule(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut due: Vec<(Urgency, &String)> = Vec::new();
    for name in view.wanted.iter().filter(|name| !view.busy.contains(*name)) {
        let facts = newest(view.have.get(name), view.fresh.get(name));
        match need(view.now, view.authority, name, facts, view.attempts.get(name)) {
            Need::Now(Urgency::Missing) if view.asked.contains(name) => {
                due.push((Urgency::Asked, name));
            }
            Need::Now(urgency) => due.push((urgency, name)),
            Need::At(at) => plan.next = Some(plan.next.map_or(at, |next| next.min(at))),
            Need::Impossible(why) => plan.impossible.push((name.clone(), why)),
            Need::Nothing => {}
        }
    }
    due.sort();
    due.truncate(view.room);
    plan.due = due.into_iter().map(|(_, name)| name.clone()).collect();
    plan
}

/// What `name` needs, given its certificate and its failures.
pub(crate) fn need(
    now: Timestamp,
    authority: &Authority,
    name: &str,
    facts: Option<&Facts>,
    attempts: Option<&Attempts>,
) -> Need {
    match authority {
        Authority::Off => return Need::Nothing,
        Authority::Acme(config) => {
            if let Err(why) = config.challenges.for_name(name, None) {
                return Need::Impossible(why);
            }
        }
        Authority::Internal => {}
    }
    let wish = wish(now, authority, name, facts);
    match (wish, attempts) {
        (Need::Now(_), Some(attempts)) if attempts.next_at > now => Need::At(attempts.next_at),
        _ => wish,
    }
}

/// When a certificate enters the last third of its life, up to a twentieth of the life earlier by name, so
/// that names issued together are not renewed together.
pub(crate) fn renew_at(name: &str, facts: &Facts) -> Timestamp {
    let start = facts.not_before.as_second();
    let life = facts.not_after.as_second().saturating_sub(start).max(0);
    let earlier = life / 20 * i64::from(spread_of(name)) / i64::from(u16::MAX);
    Timestamp::from_second(start + life / 3 * 2 - earlier).unwrap_or(facts.not_before)
}

/// What `name` would need if nothing had failed.
fn wish(now: Timestamp, authority: &Authority, name: &str, facts: Option<&Facts>) -> Need {
    let Some(facts) = facts else {
        return Need::Now(Urgency::Missing);
    };
    if facts.not_after <= now {
        return Need::Now(Urgency::Missing);
    }
    let renew_at = renew_at(name, facts);
    if renew_at <= now {
        let not_after = facts.not_after;
        return Need::Now(Urgency::Renewal { not_after });
    }
    // Only upwards: nodes configured differently for a while must not replace each other's certificates.
    if authority.standing() > Authority::standing_of(&facts.authority) {
        return Need::Now(Urgency::Upgrade);
    }
    Need::At(renew_at)
}

fn newest<'a>(have: Option<&'a Facts>, fresh: Option<&'a Facts>) -> Option<&'a Facts> {
    match (have, fresh) {
        (Some(have), Some(fresh)) if fresh.not_before > have.not_before => Some(fresh),
        (have, fresh) => have.or(fresh),
    }
}

/// A number that is the same for a name on every node (FNV-1a, folded).
fn spread_of(name: &str) -> u16 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    u16::from_be_bytes([a ^ c, b ^ d])
}

#[cfg(test)]
#[path = "schedule_test.rs"]
mod tests;
