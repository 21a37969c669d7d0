//! What a name needs, and when: pure decisions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::attempts::Attempts;
use crate::authority::Authority;
use crate::certificate::{Facts, Managed};
use crate::challenge::Unprovable;
use crate::inventory::{Inventory, Names};
use crate::queue::Place;
use crate::renewal::{self, Renewal};
use crate::wildcard::{self, Cover};
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
    /// What CAs say about renewing, as far as known.
    pub(crate) renewals: &'a BTreeMap<String, Renewal>,
    /// CAs that do not tell when to renew, and until when they are not asked.
    pub(crate) silent: &'a BTreeMap<String, Timestamp>,
    /// Since when this node looks after certificates.
    pub(crate) since: Timestamp,
    /// Names that were not wanted when they were looked at, and when to look again.
    pub(crate) unused: &'a BTreeMap<String, Timestamp>,
    /// Names of which something else than a certificate is kept.
    pub(crate) kept: &'a BTreeSet<String>,
    /// Whether names that are not wanted are to be looked after at all.
    pub(crate) retires: bool,
    /// Names that a handshake waits for.
    pub(crate) asked: &'a BTreeSet<String>,
    /// What people asked for.
    pub(crate) wishes: &'a Wishes,
    /// Names that wait for a CA's limits or pauses.
    pub(crate) holds: &'a BTreeMap<String, Timestamp>,
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
    /// It is time to renew the certificate.
    Renewal {
        /// When it ends: the sooner, the more urgent.
        not_after: Timestamp,
    },
    /// There is no valid certificate.
    Missing,
    /// The certificate is from a lesser authority than the one configured now.
    Upgrade,
    /// The authority is to be asked when it would like a renewal.
    Check,
    /// The name is not wanted any more, or is again.
    Retire,
}

/// Where `name` stands; the reason if no certificate can be had for it.
pub(crate) fn judge(view: &View<'_>, name: &str) -> Result<Place, Unprovable> {
    // A name may be unused and its certificate to be revoked.
    if !view.wanted.contains(name) && !is_to_be_revoked(view, name) {
        return Ok(of_unwanted(view, name));
    }
    let facts = newest(view.have.get(name), view.fresh.get(name));
    let (renewal, wish) = (view.renewals.get(name), view.wishes.get(name));
    // One that is there is renewed: it is what is served.
    if facts.is_none() && wish.is_none() {
        match wildcard::cover(view, name) {
            Some(Cover::Until(end)) => return Ok(Place::At(end)),
            Some(Cover::Coming) => return Ok(Place::Nowhere),
            None => {}
        }
    }
    let place = match need(view.now, view.authority, name, facts, view.attempts.get(name), wish, renewal) {
        Need::Now(Urgency::Missing) if view.asked.contains(name) => Place::Due(Urgency::Asked),
        Need::Now(urgency) => Place::Due(urgency),
        Need::At(_) if view.unused.contains_key(name) => Place::Due(Urgency::Retire),
        Need::At(at) => {
            let ask_at = facts.and_then(|facts| ask_at(view, name, facts));
            match ask_at.filter(|ask_at| *ask_at <= view.now) {
                Some(_) => Place::Due(Urgency::Check),
                None => Place::At(ask_at.map_or(at, |ask_at| at.min(ask_at))),
            }
        }
        Need::Impossible(why) => return Err(why),
        Need::Nothing => Place::Nowhere,
    };
    // Revoking orders nothing.
    let held = view.holds.get(name).filter(|until| **until > view.now && !is_to_be_revoked(view, name));
    Ok(match (place, held) {
        (Place::Due(_), Some(until)) => Place::At(*until),
        _ => place,
    })
}

/// One that is to be revoked is looked after until that is done.
fn is_to_be_revoked(view: &View<'_>, name: &str) -> bool {
    view.wishes.get(name).is_some_and(|wish| wish.revoke.is_some())
}

/// Something may be kept of a name although nobody wants it. What people brought in is theirs to remove.
fn of_unwanted(view: &View<'_>, name: &str) -> Place {
    let is_kept = match view.have.get(name) {
        Some(facts) => facts.managed != Managed::Import,
        None => view.kept.contains(name),
    };
    if !view.retires || !is_kept {
        return Place::Nowhere;
    }
    match view.unused.get(name).filter(|look_at| **look_at > view.now) {
        Some(look_at) => Place::At(*look_at),
        None => Place::Due(Urgency::Retire),
    }
}

/// When to ask the authority about the certificate; never if it is from another one, or over.
fn ask_at(view: &View<'_>, name: &str, facts: &Facts) -> Option<Timestamp> {
    let asked = view.authority.acme(&facts.authority).is_some() && facts.not_after > view.now;
    let ask_at = asked.then(|| renewal::ask_at(name, facts, view.renewals.get(name), view.since))?;
    Some(view.silent.get(&facts.authority).map_or(ask_at, |until| ask_at.max(*until)))
}

/// What `name` needs, given its certificate and its failures.
pub(crate) fn need(
    now: Timestamp,
    authority: &Authority,
    name: &str,
    facts: Option<&Facts>,
    attempts: Option<&Attempts>,
    wish: Option<&Wish>,
    renewal: Option<&Renewal>,
) -> Need {
    let authority = authority.for_name(name);
    match authority {
        Authority::Off => return Need::Nothing,
        // To revoke needs no proof.
        Authority::Acme(_) if wish.is_some_and(|wish| wish.revoke.is_some()) => {}
        Authority::Acme(cas) => {
            if let Err(why) = cas.challenges().for_name(name, None) {
                return Need::Impossible(why);
            }
        }
        Authority::Internal => {}
    }
    let need = match wish {
        Some(_) => Need::Now(Urgency::Wished),
        None => by_itself(now, authority, name, facts, renewal),
    };
    // What failed before somebody asked for another try does not hold it back.
    let attempts = attempts.filter(|attempts| wish.is_none_or(|wish| attempts.last_at >= wish.at));
    match (need, attempts) {
        (Need::Now(_), Some(attempts)) if attempts.next_at > now => Need::At(attempts.next_at),
        _ => need,
    }
}

/// What `name` would need if nothing had failed and nobody asked for anything.
fn by_itself(
    now: Timestamp,
    authority: &Authority,
    name: &str,
    facts: Option<&Facts>,
    renewal: Option<&Renewal>,
) -> Need {
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
    let renew_at = renewal::renew_at(name, facts, renewal);
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

#[cfg(test)]
#[path = "schedule_test.rs"]
mod tests;
