//! What revisions promise beyond a single key: they are one count of all writes of the store, in the order of time.

use std::collections::HashMap;

use crate::history::{Action, Operation, Outcome, Revision, Value};

/// Says which answer breaks a promise about values and revisions; `Ok` if none does.
///
/// - What a read found was written, by a write that was called before the read returned and was not refused.
/// - A write has one revision, whoever tells it, and no two writes have the same.
/// - A write has a higher revision than everything that was answered before it was called.
/// - A read of the store's own revision is not lower than that.
///
/// # Errors
/// The operations that do not go together.
pub fn check(history: &[Operation]) -> Result<(), String> {
    reads_find_writes(history)?;
    each_write_has_its_own(history)?;
    they_grow_with_time(history)
}

fn reads_find_writes(history: &[Operation]) -> Result<(), String> {
    let writes: HashMap<Value, &Operation> =
        history.iter().filter_map(|write| Some((write.action.value()?, write))).collect();
    for read in history {
        let Outcome::Found(value, revision) = read.outcome else { continue };
        let Some(write) = writes.get(&value) else {
            return Err(format!("nobody wrote the value that this read found:\n  {read}"));
        };
        let fault = match write.outcome {
            _ if write.key != read.key => "was written to another key",
            _ if write.called > read.returned => "was not written yet",
            Outcome::Refused | Outcome::Conflict(_) => "was refused, which promises that it was not written",
            Outcome::Written(at) if at != revision => "has another revision than its write was told",
            _ => continue,
        };
        return Err(format!("the value that a read found {fault}:\n  {write}\n  {read}"));
    }
    Ok(())
}

fn each_write_has_its_own(history: &[Operation]) -> Result<(), String> {
    /// What a revision did: wrote a value, or (`None`) deleted, by the operation at this place.
    type Effect = (Option<Value>, usize);
    let mut effects: HashMap<Revision, Effect> = HashMap::new();
    let mut revisions: HashMap<Value, (Revision, usize)> = HashMap::new();
    for (k, operation) in history.iter().enumerate() {
        let (value, revision) = match operation.outcome {
            Outcome::Found(value, revision) => (Some(value), revision),
            Outcome::Written(revision) => (operation.action.value(), revision),
            _ => continue,
        };
        let deletes = |at: usize| history[at].action == Action::Delete;
        let (other, at) = *effects.entry(revision).or_insert((value, k));
        if other != value || at != k && deletes(at) && deletes(k) {
            return Err(format!("two writes have the revision {revision}:\n  {}\n  {operation}", history[at]));
        }
        let Some(value) = value else { continue };
        let (other, at) = *revisions.entry(value).or_insert((revision, k));
        if other != revision {
            return Err(format!("one write has two revisions:\n  {}\n  {operation}", history[at]));
        }
    }
    Ok(())
}

fn they_grow_with_time(history: &[Operation]) -> Result<(), String> {
    // What an answer shows that the store had counted up to.
    let shown = |operation: &Operation| match operation.outcome {
        Outcome::Found(_, revision) | Outcome::Written(revision) => Some(operation.store.unwrap_or(0).max(revision)),
        Outcome::Missing | Outcome::Conflict(_) => operation.store,
        Outcome::Refused | Outcome::Unknown => None,
    };
    let mut returns: Vec<(u64, Revision, &Operation)> =
        history.iter().filter_map(|operation| Some((operation.returned, shown(operation)?, operation))).collect();
    returns.sort_by_key(|(returned, ..)| *returned);
    let mut by_call: Vec<&Operation> = history.iter().collect();
    by_call.sort_by_key(|operation| operation.called);
    let mut returned = returns.into_iter().peekable();
    let mut highest: Option<(Revision, &Operation)> = None;
    for operation in by_call {
        while let Some((_, revision, earlier)) = returned.next_if(|(at, ..)| *at < operation.called) {
            if highest.is_none_or(|(highest, _)| revision > highest) {
                highest = Some((revision, earlier));
            }
        }
        let Some((highest, earlier)) = highest else { continue };
        let grew = match operation.outcome {
            Outcome::Written(revision) => revision > highest,
            _ => operation.store.is_none_or(|store| store >= highest),
        };
        if !grew {
            return Err(format!("the store's revision went back:\n  {earlier}\n  {operation}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(action: Action, outcome: Outcome, called: u64, returned: u64) -> Operation {
        Operation { client: 0, key: 0, action, outcome, called, returned, store: None }
    }

    #[test]
    fn what_goes_together_is_accepted() {
        let history = [
            operation(Action::Put(1), Outcome::Written(5), 0, 10),
            operation(Action::Put(2), Outcome::Unknown, 5, 20),
            operation(Action::Get, Outcome::Found(1, 5), 6, 7),
            operation(Action::Get, Outcome::Found(2, 7), 15, 16),
            operation(Action::Delete, Outcome::Written(8), 17, 18),
            operation(Action::Put(3), Outcome::Refused, 30, 40),
            operation(Action::Get, Outcome::Missing, 41, 42),
        ];
        assert_eq!(check(&history), Ok(()));
    }

    #[test]
    fn what_does_not_go_together_is_found() {
        let put = operation(Action::Put(1), Outcome::Written(5), 0, 10);
        let get = |value, revision| operation(Action::Get, Outcome::Found(value, revision), 20, 30);
        let cases: &[(&str, &[Operation])] = &[
            ("nobody wrote", &[put, get(2, 6)]),
            ("another revision", &[put, get(1, 6)]),
            ("not written yet", &[operation(Action::Put(1), Outcome::Written(5), 31, 40), get(1, 5)]),
            ("was refused", &[operation(Action::Put(1), Outcome::Refused, 0, 10), get(1, 5)]),
            ("another key", &[Operation { key: 1, ..put }, get(1, 5)]),
            ("two writes", &[put, operation(Action::Put(2), Outcome::Written(5), 0, 10)]),
            ("two writes", &[put, operation(Action::Delete, Outcome::Written(5), 0, 10)]),
            (
                "two writes",
                &[
                    operation(Action::Delete, Outcome::Written(6), 0, 10),
                    operation(Action::Delete, Outcome::Written(6), 0, 10),
                ],
            ),
            ("two revisions", &[operation(Action::Put(1), Outcome::Unknown, 0, 10), get(1, 5), get(1, 6)]),
            ("went back", &[put, operation(Action::Put(2), Outcome::Written(4), 11, 12)]),
            ("went back", &[put, Operation { store: Some(4), ..operation(Action::Get, Outcome::Missing, 11, 12) }]),
        ];
        for (fault, history) in cases {
            let found = check(history).expect_err(fault);
            assert!(found.contains(fault), "expected {fault}: {found}");
        }
    }
}
