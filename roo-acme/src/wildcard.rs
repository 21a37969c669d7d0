//! Names that need no certificate of their own, because a wildcard's does for them.

use jiff::Timestamp;

use crate::authority::Authority;
use crate::certificate::{Facts, Managed};
use crate::schedule::View;

/// The wildcard whose certificate is valid for `name` as well; one label deep, so there is one at most.
///
/// # Examples
/// `*.shop.example` for `www.shop.example`, nothing for `*.shop.example`.
pub fn wildcard_above(name: &str) -> Option<String> {
    let (label, parent) = name.split_once('.')?;
    (label != "*" && !parent.is_empty()).then(|| format!("*.{parent}"))
}

/// What a wildcard means for a name below it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cover {
    /// Its certificate does, until then.
    Until(Timestamp),
    /// Its certificate is going to be ordered, and did not fail so far.
    Coming,
}

/// The wildcard that makes an order for `name` needless, if there is one. The internal CA's cost nothing, so there each
/// name gets its own.
pub(crate) fn cover(view: &View<'_>, name: &str) -> Option<Cover> {
    let challenges = match view.authority.for_name(name) {
        Authority::Acme(cas) => Some(cas.challenges()).filter(|challenges| challenges.uses_wildcards()),
        _ => None,
    };
    let wildcard = wildcard_above(name)?;
    let wanted = challenges.is_some() && view.wanted.contains(&wildcard);
    let known = [view.have.get(&wildcard), view.fresh.get(&wildcard)].into_iter().flatten();
    // One that nobody wants any more is about to be retired. One that was brought in counts with every authority: an
    // exact name's certificate would be served in its place.
    let stays = known.filter(|facts| wanted || facts.managed == Managed::Import);
    let trusted = |facts: &&Facts| {
        facts.revoked.is_none() && Authority::standing_of(&facts.authority) >= view.authority.for_name(name).standing()
    };
    if let Some(until) = stays.filter(trusted).map(good_until).max().filter(|until| *until > view.now) {
        return Some(Cover::Until(until));
    }
    let provable = challenges.is_some_and(|challenges| challenges.for_name(&wildcard, None).is_ok());
    let comes = wanted && provable && !view.attempts.contains_key(&wildcard);
    comes.then_some(Cover::Coming)
}

/// When the names below a wildcard get certificates of their own after all, since its own was not replaced in time: an
/// eighth of its life before its end, so that nobody is without.
fn good_until(facts: &Facts) -> Timestamp {
    let (start, end) = (facts.not_before.as_second(), facts.not_after.as_second());
    Timestamp::from_second(end - end.saturating_sub(start).max(0) / 8).unwrap_or(facts.not_before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_one_label_deep() {
        for (name, wildcard) in [
            ("www.shop.example", Some("*.shop.example")),
            ("a.b.shop.example", Some("*.b.shop.example")),
            ("*.shop.example", None),
            ("localhost", None),
        ] {
            assert_eq!(wildcard_above(name).as_deref(), wildcard, "{name}");
        }
    }
}
