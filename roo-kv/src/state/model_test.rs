//! The state machine against a plain model, with requests delivered more than once.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::{Meta, Overlay, all, apply};
use crate::command::{Command, Reply, Request, Requests};
use crate::engine::{Engine, Memory};
use crate::id::{LeaseId, Revision};
use crate::key::Key;
use crate::txn::{Compare, Entry, Expect, Op, OpResult, Test, Txn, TxnOutcome};
use crate::watch::Event;

/// The machine on an engine in memory.
#[derive(Default)]
struct Machine {
    engine: Memory,
    meta: Meta,
    index: u64,
}

impl Machine {
    fn apply(&mut self, requests: Vec<Request>) -> (Vec<Reply>, Vec<Event>) {
        self.index += 1;
        let mut view = Overlay::new(&self.engine);
        let applied = apply(&mut view, &mut self.meta, self.index, &Requests(requests)).unwrap();
        let changes = view.into_changes();
        self.engine.write(changes).unwrap();
        (applied.replies, applied.events)
    }

    fn entries(&self) -> BTreeMap<Key, Entry> {
        all(&self.engine, "").unwrap().into_iter().collect()
    }

    fn kept_replies(&self) -> usize {
        let mut count = 0;
        self.engine
            .visit(b"r", &mut |key, _| {
                count += usize::from(key.starts_with(b"r"));
                true
            })
            .unwrap();
        count
    }
}

fn request(sequence: u64, settled_below: u64, command: Command) -> Request {
    Request { origin: 7, sequence, settled_below, command }
}

/// What the machine should do, in the simplest way.
#[derive(Clone, Default)]
struct Model {
    entries: BTreeMap<Key, Entry>,
    leases: BTreeSet<LeaseId>,
    revision: u64,
    last_lease: u64,
}

impl Model {
    fn run(&mut self, command: &Command) -> Reply {
        match command {
            Command::Txn(txn) => self.txn(txn),
            Command::LeaseGrant { ttl_ms } => {
                self.last_lease += 1;
                let id = LeaseId(self.last_lease);
                self.leases.insert(id);
                Reply::LeaseGranted { id, ttl_ms: *ttl_ms }
            }
            Command::LeaseRevoke { id } | Command::LeaseExpire { id } => {
                if !self.leases.remove(id) {
                    return Reply::LeaseNotFound { id: *id };
                }
                let before = self.entries.len();
                self.entries.retain(|_, entry| entry.lease != Some(*id));
                self.revision += u64::from(self.entries.len() < before);
                Reply::LeaseEnded
            }
        }
    }

    fn txn(&mut self, txn: &Txn) -> Reply {
        let succeeded = txn.compare.iter().all(|compare| {
            let entry = self.entries.get(&compare.key);
            match &compare.test {
                Test::Expect(Expect::Absent) => entry.is_none(),
                Test::Expect(Expect::Present) => entry.is_some(),
                Test::Expect(Expect::Revision(r)) => entry.is_some_and(|e| e.mod_revision == *r),
                Test::Value(value) => entry.is_some_and(|e| e.value == *value),
                Test::Version(version) => entry.map_or(0, |e| e.version) == *version,
                Test::CreateRevision(r) => entry.is_some_and(|e| e.create_revision == *r),
                Test::Lease(lease) => entry.is_some_and(|e| e.lease == *lease),
            }
        });
        let ops = if succeeded { &txn.success } else { &txn.failure };
        for op in ops {
            if let Op::Put { lease: Some(id), .. } = op
                && !self.leases.contains(id)
            {
                return Reply::LeaseNotFound { id: *id };
            }
        }
        let revision = Revision(self.revision + 1);
        let mut changed = false;
        let mut results = Vec::new();
        for op in ops {
            results.push(match op {
                Op::Get { key } => OpResult::Get(self.entries.get(key).cloned()),
                Op::Put { key, value, lease } => {
                    changed = true;
                    let entry = self.entries.entry(key.clone()).or_insert(Entry {
                        value: Bytes::new(),
                        create_revision: revision,
                        mod_revision: revision,
                        version: 0,
                        lease: None,
                    });
                    (entry.value, entry.lease, entry.mod_revision) = (value.clone(), *lease, revision);
                    entry.version += 1;
                    OpResult::Put
                }
                Op::Delete { key } => {
                    let existed = self.entries.remove(key).is_some();
                    changed |= existed;
                    OpResult::Delete { existed }
                }
            });
        }
        self.revision += u64::from(changed);
        Reply::Txn(TxnOutcome { succeeded, revision: Revision(self.revision), results })
    }
}

fn keys() -> impl Strategy<Value = Key> {
    (0..4_u8).prop_map(|n| Key::try_new(format!("k{n}")).unwrap())
}

fn leases() -> impl Strategy<Value = Option<LeaseId>> {
    proptest::option::weighted(0.3, (1..4_u64).prop_map(LeaseId))
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        keys().prop_map(|key| Op::Get { key }),
        (keys(), any::<u8>(), leases()).prop_map(|(key, n, lease)| Op::Put { key, value: vec![n % 3].into(), lease }),
        keys().prop_map(|key| Op::Delete { key }),
    ];
    proptest::collection::vec(op, 0..4)
}

fn compares() -> impl Strategy<Value = Vec<Compare>> {
    let test = prop_oneof![
        Just(Test::Expect(Expect::Absent)),
        Just(Test::Expect(Expect::Present)),
        (0..9_u64).prop_map(|n| Test::Expect(Expect::Revision(Revision(n)))),
        (0..3_u8).prop_map(|n| Test::Value(vec![n].into())),
        (0..4_u64).prop_map(Test::Version),
        (0..9_u64).prop_map(|n| Test::CreateRevision(Revision(n))),
        leases().prop_map(Test::Lease),
    ];
    proptest::collection::vec((keys(), test).prop_map(|(key, test)| Compare { key, test }), 0..3)
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => (compares(), ops(), ops())
            .prop_map(|(compare, success, failure)| Command::Txn(Txn { compare, success, failure })),
        1 => Just(Command::LeaseGrant { ttl_ms: 5000 }),
        1 => (1..4_u64).prop_map(|id| Command::LeaseRevoke { id: LeaseId(id) }),
        1 => (1..4_u64).prop_map(|id| Command::LeaseExpire { id: LeaseId(id) }),
    ]
}

proptest! {
    #[test]
    fn the_machine_does_what_the_model_does(steps in proptest::collection::vec((commands(), 0..3_usize), 1..40)) {
        let mut machine = Machine::default();
        let mut model = Model::default();
        let mut followed: BTreeMap<Key, Entry> = BTreeMap::new();
        for (sequence, (command, repeats)) in (0_u64..).zip(steps) {
            let expected = model.run(&command);
            let request = request(sequence, sequence, command);
            // Repeats in the same entry, and in one that follows.
            let (replies, events) = machine.apply(vec![request.clone(); 1 + repeats]);
            prop_assert!(replies.iter().all(|reply| *reply == expected), "{replies:?} {expected:?}");
            let (replies, late_events) = machine.apply(vec![request]);
            prop_assert_eq!(&replies, &vec![expected]);
            prop_assert!(late_events.is_empty());
            for event in events {
                match event {
                    Event::Put { key, entry } => { followed.insert(key, entry); }
                    Event::Delete { key, revision, .. } => {
                        prop_assert_eq!(revision, machine.meta.revision);
                        prop_assert!(followed.remove(&key).is_some());
                    }
                }
            }
            prop_assert_eq!(machine.entries(), model.entries.clone());
            prop_assert_eq!(&followed, &model.entries);
            prop_assert_eq!(machine.meta.revision.0, model.revision);
            prop_assert_eq!(machine.kept_replies(), 1);
        }
    }
}

fn put(name: &str) -> Command {
    let op = Op::Put { key: name.parse().unwrap(), value: Bytes::from_static(b"v"), lease: None };
    Command::Txn(Txn { success: vec![op], ..Txn::default() })
}

#[test]
fn a_request_that_was_settled_is_not_carried_out_again() {
    let mut machine = Machine::default();
    machine.apply(vec![request(0, 0, put("a")), request(1, 1, put("b"))]);
    let (replies, events) = machine.apply(vec![request(0, 0, put("a"))]);
    assert_eq!(replies, [Reply::Forgotten]);
    assert!(events.is_empty());
}

#[test]
fn origins_that_are_silent_for_long_are_forgotten() {
    let mut machine = Machine::default();
    for origin in 0..super::window::ORIGINS_MAX as u64 + 10 {
        machine.apply(vec![Request { origin, sequence: 0, settled_below: 0, command: put("a") }]);
    }
    assert_eq!(machine.kept_replies(), super::window::ORIGINS_MAX);
}
