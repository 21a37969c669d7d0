//! The model: what one key of the store does when one operation after the other is carried out on it.

use crate::history::{Action, Current, Expect, Outcome, Revision, Value};

/// The value of writes of unknown outcome that no read ever saw: for what follows they are all the same.
pub const UNSEEN: Value = Value::MAX;

/// When a key was last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Changed {
    At(Revision),
    /// By a write that told nobody its revision, after this one.
    After(Revision),
}

impl Changed {
    /// The lowest revision that it can have been.
    fn lowest(self) -> Revision {
        match self {
            Self::At(revision) => revision,
            Self::After(revision) => revision + 1,
        }
    }

    fn can_be(self, revision: Revision) -> bool {
        match self {
            Self::At(at) => at == revision,
            Self::After(after) => revision > after,
        }
    }
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register {
    value: Option<Value>,
    changed: Changed,
}

impl Register {
    /// A key that was never written.
    pub const EMPTY: Self = Self { value: None, changed: Changed::At(0) };

    /// The key after an operation that had this outcome; `None` if it can't have had it here.
    pub fn after(self, action: Action, outcome: Outcome) -> Option<Self> {
        match (action, outcome) {
            (Action::Get, Outcome::Found(value, revision)) if self.value == Some(value) => self.known_at(revision),
            (Action::Get | Action::Delete, Outcome::Missing) => self.value.is_none().then_some(self),
            (Action::Put(value), Outcome::Written(revision)) => self.written(Some(value), revision),
            (Action::Delete, Outcome::Written(revision)) if self.value.is_some() => self.written(None, revision),
            (Action::Swap(expect, value), Outcome::Written(revision)) if self.may_hold(expect) => {
                self.written(Some(value), revision)
            }
            (Action::Swap(expect, _), Outcome::Conflict(current)) => {
                let told = match current {
                    Current::Untold => self,
                    Current::Absent if self.value.is_none() => self,
                    Current::Revision(revision) if self.value.is_some() => self.known_at(revision)?,
                    _ => return None,
                };
                (!told.must_hold(expect)).then_some(told)
            }
            _ => None,
        }
    }

    /// The key after a write that nobody was told the outcome of; `None` if it can't change anything here.
    pub fn after_unknown(self, action: Action, seen: bool) -> Option<Self> {
        let value = match action {
            Action::Put(value) => Some(value),
            Action::Swap(expect, value) if self.may_hold(expect) => Some(value),
            Action::Delete if self.value.is_some() => None,
            _ => return None,
        };
        let value = value.map(|value| if seen { value } else { UNSEEN });
        Some(Self { value, changed: Changed::After(self.changed.lowest()) })
    }

    fn written(self, value: Option<Value>, revision: Revision) -> Option<Self> {
        (revision > self.changed.lowest()).then_some(Self { value, changed: Changed::At(revision) })
    }

    fn known_at(self, revision: Revision) -> Option<Self> {
        self.changed.can_be(revision).then_some(Self { changed: Changed::At(revision), ..self })
    }

    fn may_hold(self, expect: Expect) -> bool {
        match expect {
            Expect::Absent => self.value.is_none(),
            Expect::Revision(revision) => self.value.is_some() && self.changed.can_be(revision),
            Expect::Value(value) => self.value == Some(value),
        }
    }

    fn must_hold(self, expect: Expect) -> bool {
        match expect {
            Expect::Revision(revision) => self.value.is_some() && self.changed == Changed::At(revision),
            Expect::Absent | Expect::Value(_) => self.may_hold(expect),
        }
    }
}
