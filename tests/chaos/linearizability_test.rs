use proptest::prelude::*;

use super::*;
use crate::history::Current;

/// A write in a generated history: what it does and from when to when it runs around its effect.
#[derive(Debug, Clone)]
struct Step {
    kind: u8,
    before: u64,
    after: u64,
    /// Nobody is told the outcome.
    lost: bool,
    /// If so: whether it has its effect.
    happens: bool,
    /// Picks what a compare-and-swap expects.
    pick: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let times = (0..60_u64, 0..60_u64);
    (0..7_u8, times, prop::bool::weighted(0.15), any::<bool>(), any::<usize>())
        .prop_map(|(kind, (before, after), lost, happens, pick)| Step { kind, before, after, lost, happens, pick })
}

/// Lets one step after the other take effect on a plain variable, ten ticks apart, and tells what the callers saw. The
/// second number of each is the tick of its effect.
fn performed(steps: &[Step]) -> Vec<(Operation, u64)> {
    let (mut held, mut revision) = (None::<(Value, Revision)>, 0);
    let mut known: Vec<(Value, Revision)> = Vec::new();
    let mut history = Vec::new();
    for (k, step) in steps.iter().enumerate() {
        let value = k as Value + 1;
        let picked = known.get(step.pick % known.len().max(1)).copied();
        let action = match (step.kind, picked) {
            (0..=2, _) => Action::Get,
            (3, _) => Action::Put(value),
            (4, _) => Action::Delete,
            (5, Some((_, at))) => Action::Swap(Expect::Revision(at), value),
            (6, Some((old, _))) => Action::Swap(Expect::Value(old), value),
            (_, _) => Action::Swap(Expect::Absent, value),
        };
        let holds = |expect| match expect {
            Expect::Absent => held.is_none(),
            Expect::Revision(at) => held.is_some_and(|(_, held)| held == at),
            Expect::Value(value) => held.is_some_and(|(held, _)| held == value),
        };
        let changes = match action {
            Action::Get => None,
            Action::Put(value) => Some(Some(value)),
            Action::Delete => held.map(|_| None),
            Action::Swap(expect, value) => holds(expect).then_some(Some(value)),
        };
        let mut outcome = match (action, held) {
            (Action::Get, Some((value, at))) => Outcome::Found(value, at),
            (Action::Swap(..), Some((_, at))) => Outcome::Conflict(Current::Revision(at)),
            (Action::Swap(..), None) => Outcome::Conflict(Current::Absent),
            _ => Outcome::Missing,
        };
        if let Some(after) = changes.filter(|_| !step.lost || step.happens) {
            revision += 1;
            held = after.map(|value| (value, revision));
            outcome = Outcome::Written(revision);
        }
        if step.lost {
            outcome = Outcome::Unknown;
        } else if let Some(seen) = held {
            known.push(seen);
        }
        let at = k as u64 * 10 + 100;
        let (called, returned) = (at - step.before, at + step.after);
        history.push((Operation { client: k, key: 0, action, outcome, called, returned, store: None }, at));
    }
    history
}

/// Tries every order of every choice of what happened.
fn linearizable_by_force(operations: &[Operation]) -> bool {
    fn any_order(left: &[Operation], state: Register) -> bool {
        let open = |operation: &&Operation| operation.outcome != Outcome::Unknown;
        let Some(earliest) = left.iter().filter(open).map(|operation| operation.returned).min() else { return true };
        left.iter().enumerate().filter(|(_, operation)| operation.called <= earliest).any(|(k, operation)| {
            let after = match operation.outcome {
                Outcome::Unknown => state.after_unknown(operation.action, true),
                outcome => state.after(operation.action, outcome),
            };
            let rest: Vec<Operation> = [&left[..k], &left[k + 1..]].concat();
            after.is_some_and(|after| any_order(&rest, after))
        })
    }
    let told: Vec<Operation> =
        operations.iter().filter(|operation| operation.outcome != Outcome::Refused).copied().collect();
    any_order(&told, Register::EMPTY)
}

fn operations(steps: &[Step]) -> Vec<Operation> {
    performed(steps).into_iter().map(|(operation, _)| operation).collect()
}

/// An outcome that the action can have, right or wrong.
fn any_outcome(action: Action, pick: usize) -> Outcome {
    let small = pick as u64 / 8 % 6;
    match (action, pick % 8) {
        (_, 0) => Outcome::Unknown,
        (Action::Get, 1..=5) => Outcome::Found(small + 1, pick as u64 / 64 % 4 + 1),
        (Action::Get | Action::Delete, 6..) => Outcome::Missing,
        (Action::Swap(..), 1) => Outcome::Conflict(Current::Untold),
        (Action::Swap(..), 2) => Outcome::Conflict(Current::Absent),
        (Action::Swap(..), 3) => Outcome::Conflict(Current::Revision(small + 1)),
        _ => Outcome::Written(small + 1),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_one_copy_did_is_linearizable(steps in prop::collection::vec(step(), 1..120)) {
        let history = operations(&steps);
        prop_assert_eq!(check(&history), Ok(()));
        prop_assert_eq!(crate::revisions::check(&history), Ok(()));
    }

    #[test]
    fn the_search_agrees_with_trying_everything(
        steps in prop::collection::vec(step(), 1..7),
        forged in prop::collection::vec((any::<prop::sample::Index>(), any::<usize>()), 0..3),
    ) {
        let mut history = operations(&steps);
        for (at, pick) in forged {
            let operation = at.get_mut(&mut history);
            operation.outcome = any_outcome(operation.action, pick);
        }
        prop_assert_eq!(check(&history).is_ok(), linearizable_by_force(&history), "{:#?}", history);
    }

    #[test]
    fn a_read_of_what_was_overwritten_is_found(
        steps in prop::collection::vec(step(), 10..80),
        at in any::<prop::sample::Index>(),
    ) {
        let mut history = performed(&steps);
        // Each write that is over before another begins, which is over before a read begins.
        let stale = history.iter().enumerate().filter_map(|(k, (read, _))| {
            let mut writes = history.iter().filter(|(write, _)| {
                matches!(write.outcome, Outcome::Written(_)) && write.returned < read.called
            });
            let (old, _) = writes.clone().find(|(write, _)| write.action.value().is_some())?;
            writes.any(|(new, _)| old.returned < new.called).then_some(())?;
            let Outcome::Written(revision) = old.outcome else { return None };
            (read.action == Action::Get).then_some((k, Outcome::Found(old.action.value()?, revision)))
        });
        let stale: Vec<(usize, Outcome)> = stale.collect();
        prop_assume!(!stale.is_empty());
        let (k, outcome) = *at.get(&stale);
        history[k].0.outcome = outcome;
        let history: Vec<Operation> = history.into_iter().map(|(operation, _)| operation).collect();
        prop_assert!(check(&history).is_err(), "{:#?}", history);
    }

    #[test]
    fn a_lost_write_is_found(steps in prop::collection::vec(step(), 20..80), at in any::<prop::sample::Index>()) {
        // Without deletes, no read can find nothing once something was written.
        let kept = |step: &Step| Step { kind: if step.kind == 4 { 3 } else { step.kind }, ..step.clone() };
        let mut history = operations(&steps.iter().map(kept).collect::<Vec<_>>());
        let told = |operation: &&Operation| matches!(operation.outcome, Outcome::Written(_));
        let written = history.iter().filter(told).map(|operation| operation.returned).min();
        let late = |read: &Operation| read.action == Action::Get && Some(read.called) > written;
        let late: Vec<usize> = history.iter().enumerate().filter(|(_, read)| late(read)).map(|(k, _)| k).collect();
        prop_assume!(written.is_some() && !late.is_empty());
        history[*at.get(&late)].outcome = Outcome::Missing;
        prop_assert!(check(&history).is_err(), "{:#?}", history);
    }
}

fn operation(action: Action, outcome: Outcome, called: u64, returned: u64) -> Operation {
    Operation { client: 0, key: 0, action, outcome, called, returned, store: None }
}

#[test]
fn known_histories_are_judged_as_known() {
    use Action::{Delete, Get, Put, Swap};
    use Outcome::{Conflict, Found, Missing, Refused, Unknown, Written};
    let put = operation(Put(1), Written(1), 0, 10);
    let second = operation(Put(2), Written(2), 20, 30);
    let lost = operation(Put(3), Unknown, 40, 50);
    let swap = |expect, outcome| operation(Swap(expect, 9), outcome, 60, 70);
    let cases: &[(&str, bool, &[Operation])] = &[
        ("nothing", true, &[]),
        ("a read during the write sees it", true, &[put, operation(Get, Found(1, 1), 5, 6)]),
        ("or does not", true, &[put, operation(Get, Missing, 5, 6)]),
        ("a read after it does", false, &[put, operation(Get, Missing, 11, 12)]),
        ("not what was before", false, &[put, second, operation(Get, Found(1, 1), 31, 32)]),
        (
            "once seen it stays",
            false,
            &[
                put,
                operation(Put(2), Written(2), 20, 90),
                operation(Get, Found(2, 2), 30, 31),
                operation(Get, Found(1, 1), 40, 41),
            ],
        ),
        (
            "a lost write may come late",
            true,
            &[put, lost, operation(Get, Found(1, 1), 60, 61), operation(Get, Found(3, 2), 70, 71)],
        ),
        (
            "but not come and go",
            false,
            &[put, lost, operation(Get, Found(3, 2), 60, 61), operation(Get, Found(1, 1), 70, 71)],
        ),
        (
            "nor come twice",
            false,
            &[
                put,
                lost,
                operation(Get, Found(3, 2), 60, 61),
                operation(Put(4), Written(3), 62, 63),
                operation(Get, Found(3, 2), 70, 71),
            ],
        ),
        (
            "what was refused has no effect",
            false,
            &[put, operation(Delete, Refused, 20, 30), operation(Get, Missing, 31, 32)],
        ),
        ("a delete nobody saw", true, &[put, operation(Delete, Unknown, 20, 30), operation(Get, Missing, 31, 32)]),
        (
            "a lost delete deletes one thing",
            false,
            &[
                put,
                operation(Delete, Unknown, 20, 30),
                operation(Get, Missing, 31, 32),
                operation(Put(4), Written(3), 40, 50),
                operation(Get, Missing, 60, 61),
            ],
        ),
        ("a swap of what is there", true, &[put, second, swap(Expect::Revision(2), Written(3))]),
        ("a swap of what was there", false, &[put, second, swap(Expect::Revision(1), Written(3))]),
        ("a swap by value", true, &[put, second, swap(Expect::Value(2), Written(3))]),
        ("a conflict without reason", false, &[put, second, swap(Expect::Revision(2), Conflict(Current::Untold))]),
        (
            "a conflict by a lost write",
            true,
            &[put, second, lost, swap(Expect::Revision(2), Conflict(Current::Revision(3)))],
        ),
        ("a conflict with nothing", false, &[put, second, lost, swap(Expect::Revision(2), Conflict(Current::Absent))]),
        ("a swap of nothing", false, &[put, swap(Expect::Absent, Written(3))]),
        (
            "writes out of their order",
            false,
            &[operation(Put(1), Written(2), 0, 10), operation(Put(2), Written(1), 20, 30)],
        ),
    ];
    for (name, expected, history) in cases {
        let found = check(history);
        assert_eq!(found.is_ok(), *expected, "{name}: {found:?}");
        assert_eq!(linearizable_by_force(history), *expected, "{name}, by force");
    }
}

#[test]
fn many_lost_writes_do_not_stop_the_search() {
    let mut history = Vec::new();
    for k in 0..400 {
        let at = k * 100;
        history.push(operation(Action::Put(k + 1), Outcome::Written(k + 1), at, at + 50));
        history.push(operation(Action::Put(k + 10_000), Outcome::Unknown, at, at + 50));
        history.push(operation(Action::Delete, Outcome::Unknown, at, at + 50));
        history.push(operation(Action::Get, Outcome::Found(k + 1, k + 1), at + 60, at + 70));
    }
    assert_eq!(check(&history), Ok(()));
    // With that many excuses, only a value that comes back can't be explained.
    history.push(operation(Action::Get, Outcome::Found(7, 7), 90_000, 90_001));
    let found = check(&history).expect_err("it came back");
    assert!(found.contains("Found(7, 7)"), "{found}");
}
