//! Whether the conditions of a transaction hold.

use crate::id::Revision;
use crate::txn::{Entry, Expect, Fact, Operator, Test};

/// Whether a key with this entry (`None`: an absent one) passes the test.
pub(super) fn holds(test: &Test, entry: Option<&Entry>) -> bool {
    match test {
        Test::Expect(Expect::Absent) => entry.is_none(),
        Test::Expect(Expect::Present) => entry.is_some(),
        Test::Expect(Expect::Revision(revision)) => entry.is_some_and(|e| e.mod_revision == *revision),
        Test::Value(value) => entry.is_some_and(|e| e.value == *value),
        Test::Version(version) => entry.map_or(0, |e| e.version) == *version,
        Test::CreateRevision(revision) => entry.is_some_and(|e| e.create_revision == *revision),
        Test::Lease(lease) => entry.is_some_and(|e| e.lease == *lease),
        Test::Fact { operator, fact } => stands(*operator, fact, entry),
    }
}

fn stands(operator: Operator, fact: &Fact, entry: Option<&Entry>) -> bool {
    let revision = |of: fn(&Entry) -> Revision| entry.map_or(Revision(0), of);
    match fact {
        Fact::Value(value) => entry.is_some_and(|e| is(operator, &e.value, value)),
        Fact::Version(version) => is(operator, &entry.map_or(0, |e| e.version), version),
        Fact::CreateRevision(given) => is(operator, &revision(|e| e.create_revision), given),
        Fact::ModRevision(given) => is(operator, &revision(|e| e.mod_revision), given),
        Fact::Lease(lease) => is(operator, &entry.and_then(|e| e.lease), lease),
    }
}

fn is<T: Ord>(operator: Operator, found: &T, given: &T) -> bool {
    match operator {
        Operator::Equal => found == given,
        Operator::NotEqual => found != given,
        Operator::Greater => found > given,
        Operator::Less => found < given,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::LeaseId;

    fn entry() -> Entry {
        Entry {
            value: Bytes::from_static(b"m"),
            create_revision: Revision(3),
            mod_revision: Revision(8),
            version: 4,
            lease: Some(LeaseId(5)),
        }
    }

    /// A fact that the entry exceeds, one that it meets, one that it stays below.
    fn facts() -> Vec<[Fact; 3]> {
        let value = |text: &'static [u8]| Fact::Value(Bytes::from_static(text));
        vec![
            [value(b"lz"), value(b"m"), value(b"ma")],
            [Fact::Version(3), Fact::Version(4), Fact::Version(5)],
            [2, 3, 4].map(|n| Fact::CreateRevision(Revision(n))),
            [7, 8, 9].map(|n| Fact::ModRevision(Revision(n))),
            [None, Some(5), Some(6)].map(|id| Fact::Lease(id.map(LeaseId))),
        ]
    }

    #[test]
    fn each_fact_is_compared_by_each_operator() {
        let table = [
            (Operator::Equal, [false, true, false]),
            (Operator::NotEqual, [true, false, true]),
            (Operator::Greater, [true, false, false]),
            (Operator::Less, [false, false, true]),
        ];
        for (operator, expected) in table {
            for facts in facts() {
                let found = facts.clone().map(|fact| holds(&Test::Fact { operator, fact }, Some(&entry())));
                assert_eq!(found, expected, "{operator:?} {facts:?}");
            }
        }
    }

    #[test]
    fn the_numbers_of_an_absent_key_are_zero_and_it_has_no_value() {
        let absent = |operator, fact| holds(&Test::Fact { operator, fact }, None);
        for fact in
            [Fact::Version(0), Fact::CreateRevision(Revision(0)), Fact::ModRevision(Revision(0)), Fact::Lease(None)]
        {
            assert!(absent(Operator::Equal, fact.clone()) && !absent(Operator::NotEqual, fact));
        }
        assert!(absent(Operator::Less, Fact::Version(1)) && absent(Operator::NotEqual, Fact::ModRevision(Revision(1))));
        for operator in [Operator::Equal, Operator::NotEqual, Operator::Greater, Operator::Less] {
            assert!(!absent(operator, Fact::Value(Bytes::new())), "{operator:?}");
        }
    }
}
