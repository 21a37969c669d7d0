//! What to order now and when to look again: pure decisions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::attempts::Attempts;
use crate::authority::Authority;
use crate::certificate::{Facts, Managed};
use crate::challenge::Unprovable;
use crate::inventory::{Inventory, Names};
use crate::wish::{Wish, Wishes};

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
    /// What people asked for.
    pub(crate) wishes: &'a Wishes,
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
    /// Nothing until somebody asks: the authority is off, or the certificate was revoked for good.
    Nothing,
}

/// Lower comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// There is no valid certificate and a handshake waits.
    Asked,
    /// A person asked for it.
    Wished,
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
    // A name may be unused and its certificate to be revoked.
    let revoked = view.wishes.iter().filter(|(name, wish)| wish.revoke.is_some() && !view.wanted.contains(*name));
    let names = view.wanted.iter().chain(revoked.map(|(name, _)| name));
    for name in names.filter(|name| !view.busy.contains(*name)) {
        let facts = newest(view.have.get(name), view.fresh.get(name));
        match need(view.now, view.authority, name, facts, view.attempts.get(name), view.wishes.get(name)) {
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
    wish: Option<&Wish>,
) -> Need {
    match authority {
        Authority::Off => return Need::Nothing,
        // To revoke needs no proof.
        Authority::Acme(_) if wish.is_some_and(|wish| wish.revoke.is_some()) => {}
        Authority::Acme(config) => {
            if let Err(why) = config.challenges.for_name(name, None) {
                return Need::Impossible(why);
            }
        }
        Authority::Internal => {}
    }
    let need = match wish {
        Some(_) => Need::Now(Urgency::Wished),
        None => by_itself(now, authority, name, facts),
    };
    // What failed before somebody asked for another try does not hold it back.
    let attempts = attempts.filter(|attempts| wish.is_none_or(|wish| attempts.last_at >= wish.at));
    match (need, attempts) {
        (Need::Now(_), Some(attempts)) if attempts.next_at > now => Need::At(attempts.next_at),
        _ => need,
    }
}

/// When a certificate is replaced: as it enters the last third of its life, up to a twentieth of the life earlier by
/// name, so that names issued together are not renewed together. One that was brought in is left alone until a week,
/// or a sixth of a short life, before its end.
pub fn renew_at(name: &str, facts: &Facts) -> Timestamp {
    let start = facts.not_before.as_second();
    let life = facts.not_after.as_second().saturating_sub(start).max(0);
    if facts.managed == Managed::Import {
        let left = IMPORTED_LEFT.min(life / 6);
        return Timestamp::from_second(start + life - left).unwrap_or(facts.not_before);
    }
    let earlier = life / 20 * i64::from(spread_of(name)) / i64::from(u16::MAX);
    Timestamp::from_second(start + life / 3 * 2 - earlier).unwrap_or(facts.not_before)
}

/// What `name` would need if nothing had failed and nobody asked for anything.
fn by_itself(now: Timestamp, authority: &Authority, name: &str, facts: Option<&Facts>) -> Need {
    let Some(facts) = facts else {
        return Need::Now(Urgency::Missing);
    };
    match facts.revoked {
        Some(revoked) if revoked.renew => return Need::Now(Urgency::Missing),
        Some(_) => return Need::Nothing,
        None => {}
    }
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

/// Seconds before the end of a certificate that was brought in when another is ordered in its place.
const IMPORTED_LEFT: i64 = 7 * 24 * 3600;

/// A number that is the same for a name on every node (FNV-1a, folded).
fn spread_of(name: &str) -> u16 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    u16::from_be_bytes([a ^ c, b ^ d])
}

#[cfg(test)]
#[path = "schedule_test.rs"]
mod tests;
