//! The state machine against a plain model, with requests delivered more than once.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::{Applier, Meta, Past, Tree, all, past};
use crate::command::{Command, Reply, Request, Requests};
use crate::id::{LeaseId, Revision};
use crate::key::Key;
use crate::raft::LogIdForm;
use crate::txn::{Compare, Entry, Expect, Fact, Op, OpResult, Operator, TXN_DELETES_MAX, Test, Txn, TxnOutcome};
use crate::watch::Event;

/// In which the entries of these tests come into the log.
const TERM: u64 = 3;

/// The machine on its records.
#[derive(Default)]
struct Machine {
    records: Tree,
    meta: Meta,
    index: u64,
}

impl Machine {
    fn apply(&mut self, requests: Vec<Request>) -> (Vec<Reply>, Vec<Event>) {
        self.index += 1;
        let mut applier = Applier::new(&self.records, self.meta.clone());
        let place = LogIdForm { term: TERM, node: 1, index: self.index };
        let applied = applier.apply(&place, &Requests(requests.into())).unwrap();
        let (changes, meta) = applier.finish().unwrap();
        self.meta = meta;
        for (key, value) in changes {
            match value {
                Some(value) => self.records.insert(&key, &value),
                None => drop(self.records.remove(&key)),
            }
        }
        (applied.replies, applied.events)
    }

    fn entries(&self) -> BTreeMap<Key, Entry> {
        all(&self.records, "").unwrap().into_iter().collect()
    }

    fn kept_replies(&self) -> usize {
        super::window::kept_replies(&self.records)
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
    /// Where the history begins.
    oldest: Option<u64>,
}

impl Model {
    fn run(&mut self, command: &Command) -> Reply {
        let reply = self.reply(command);
        if self.revision > 0 && self.oldest.is_none() {
            self.oldest = Some(1);
        }
        reply
    }

    fn reply(&mut self, command: &Command) -> Reply {
        match command {
            Command::TrimHistory { below } => {
                let trimmed = self.oldest.map(|oldest| oldest.max(below.0.min(self.revision + 1)));
                self.oldest = trimmed;
                Reply::HistoryTrimmed { oldest: trimmed.map_or(*below, Revision) }
            }
            Command::Txn(txn) => self.txn(txn),
            Command::LeaseGrant { ttl_ms } => {
                self.last_lease += 1;
                let id = LeaseId(self.last_lease);
                self.leases.insert(id);
                Reply::LeaseGranted { id, ttl_ms: *ttl_ms }
            }
            Command::LeaseTimeOut { term, .. } if *term != TERM => Reply::LeaseKept,
            Command::LeaseRevoke { id } | Command::LeaseExpire { id } | Command::LeaseTimeOut { id, .. } => {
                if !self.leases.remove(id) {
                    return Reply::LeaseNotFound { id: *id };
                }
                let before = self.entries.len();
                self.entries.retain(|_, entry| entry.lease != Some(*id));
                self.revision += u64::from(self.entries.len() < before);
                Reply::LeaseEndedAt { revision: Revision(self.revision) }
            }
            other => panic!("the model knows no {other:?}"),
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
                Test::Fact { operator, fact } => {
                    let number = |of: fn(&Entry) -> u64| entry.map_or(0, of);
                    let order = match fact {
                        Fact::Value(value) => entry.map(|e| e.value.cmp(value)),
                        Fact::Version(n) => Some(number(|e| e.version).cmp(n)),
                        Fact::CreateRevision(r) => Some(number(|e| e.create_revision.0).cmp(&r.0)),
                        Fact::ModRevision(r) => Some(number(|e| e.mod_revision.0).cmp(&r.0)),
                        Fact::Lease(id) => Some(number(|e| e.lease.map_or(0, |id| id.0)).cmp(&id.map_or(0, |id| id.0))),
                    };
                    order.is_some_and(|order| match operator {
                        Operator::Equal => order.is_eq(),
                        Operator::NotEqual => order.is_ne(),
                        Operator::Greater => order.is_gt(),
                        Operator::Less => order.is_lt(),
                    })
                }
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
                Op::GetPrefix { prefix, limit } => {
                    let under = self.entries.iter().filter(|(key, _)| key.as_str().starts_with(prefix.as_str()));
                    let mut entries: Vec<_> = under.map(|(key, entry)| (key.clone(), entry.clone())).collect();
                    let more = entries.len() > *limit as usize;
                    entries.truncate(*limit as usize);
                    OpResult::GetPrefix { entries, more }
                }
                Op::DeletePrefix { prefix } => {
                    let before = self.entries.len();
                    self.entries.retain(|key, _| !key.as_str().starts_with(prefix.as_str()));
                    changed |= self.entries.len() < before;
                    OpResult::DeletePrefix { deleted: (before - self.entries.len()) as u64 }
                }
            });
        }
        self.revision += u64::from(changed);
        Reply::Txn(TxnOutcome { succeeded, revision: Revision(self.revision), results })
    }
}

const KEYS: &[&str] = &["k0", "k1", "k1/a", "l"];

fn keys() -> impl Strategy<Value = Key> {
    proptest::sample::select(KEYS).prop_map(|key| key.parse().unwrap())
}

fn prefixes() -> impl Strategy<Value = String> {
    proptest::sample::select(&["", "k", "k1", "k1/", "x"][..]).prop_map(str::to_owned)
}

fn leases() -> impl Strategy<Value = Option<LeaseId>> {
    proptest::option::weighted(0.3, (1..4_u64).prop_map(LeaseId))
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        keys().prop_map(|key| Op::Get { key }),
        (keys(), any::<u8>(), leases()).prop_map(|(key, n, lease)| Op::Put { key, value: vec![n % 3].into(), lease }),
        keys().prop_map(|key| Op::Delete { key }),
        (prefixes(), 0..5_u32).prop_map(|(prefix, limit)| Op::GetPrefix { prefix, limit }),
        prefixes().prop_map(|prefix| Op::DeletePrefix { prefix }),
    ];
    proptest::collection::vec(op, 0..4)
}

fn operators() -> impl Strategy<Value = Operator> {
    use Operator::{Equal, Greater, Less, NotEqual};
    proptest::sample::select(&[Equal, NotEqual, Greater, Less][..])
}

fn facts() -> impl Strategy<Value = Fact> {
    prop_oneof![
        (0..3_u8).prop_map(|n| Fact::Value(vec![n].into())),
        (0..4_u64).prop_map(Fact::Version),
        (0..9_u64).prop_map(|n| Fact::CreateRevision(Revision(n))),
        (0..9_u64).prop_map(|n| Fact::ModRevision(Revision(n))),
        leases().prop_map(Fact::Lease),
    ]
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
        (operators(), facts()).prop_map(|(operator, fact)| Test::Fact { operator, fact }),
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
        1 => (1..9_u64).prop_map(|below| Command::TrimHistory { below: Revision(below) }),
        1 => (1..4_u64, TERM - 1..TERM + 1).prop_map(|(id, term)| Command::LeaseTimeOut { id: LeaseId(id), term }),
    ]
}

proptest! {
    #[test]
    fn the_machine_does_what_the_model_does(steps in proptest::collection::vec((commands(), 0..3_usize), 1..40)) {
        let mut machine = Machine::default();
        let mut model = Model::default();
        let mut followed: BTreeMap<Key, Entry> = BTreeMap::new();
        let mut happened: Vec<Event> = Vec::new();
        for (sequence, (command, repeats)) in (0_u64..).zip(steps) {
            let expected = model.run(&command);
            let request = request(sequence, sequence, command);
            // Repeats in the same entry, and in one that follows.
            let (replies, events) = machine.apply(vec![request.clone(); 1 + repeats]);
            prop_assert!(replies.iter().all(|reply| *reply == expected), "{replies:?} {expected:?}");
            let (replies, late_events) = machine.apply(vec![request]);
            prop_assert_eq!(&replies, &vec![expected]);
            prop_assert!(late_events.is_empty());
            happened.extend(events.clone());
            for event in events {
                prop_assert_eq!(event.revision(), machine.meta.revision);
                prop_assert_eq!(event.previous(), followed.get(event.key()));
                match event {
                    Event::Put { key, entry, .. } => { followed.insert(key, entry); }
                    Event::Delete { key, .. } => { prop_assert!(followed.remove(&key).is_some()); }
                }
            }
            let now = machine.meta.revision;
            let begins = model.oldest.map_or(Revision(now.0 + 1), Revision);
            for (from, prefix) in [(begins, ""), (begins, "k1"), (Revision(begins.0.midpoint(now.0 + 1)), "k")] {
                let wanted = |event: &&Event| event.revision() >= from && event.key().as_str().starts_with(prefix);
                let events = happened.iter().filter(wanted).cloned().collect();
                let found = past(&machine.records, now, from, prefix, usize::MAX).unwrap();
                prop_assert_eq!(found, Past::Events { events, through: now });
            }
            if begins.0 > 0 {
                let found = past(&machine.records, now, Revision(begins.0 - 1), "", usize::MAX).unwrap();
                prop_assert_eq!(found, Past::Compacted { oldest: begins });
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

fn txn(success: Vec<Op>) -> Command {
    Command::Txn(Txn { success, ..Txn::default() })
}

#[test]
fn what_reads_or_deletes_too_much_does_not_happen_at_all() {
    let mut machine = Machine::default();
    let value = Bytes::from(vec![7; 1 << 20]);
    let big: Key = "big".parse().unwrap();
    let other: Key = "other".parse().unwrap();
    let write = Op::Put { key: big.clone(), value, lease: None };
    let mark = Op::Put { key: other.clone(), value: Bytes::new(), lease: None };
    let get = Op::Get { key: big };
    // The value counts as the step before left it.
    let (replies, events) =
        machine.apply(vec![request(0, 0, txn([vec![write.clone()], vec![get.clone(); 4]].concat()))]);
    assert!(matches!(replies[..], [Reply::ReadsTooMuch { bytes }] if bytes > 4 << 20), "{replies:?}");
    assert!(events.is_empty());
    machine.apply(vec![request(1, 1, txn(vec![write]))]);
    let (replies, events) = machine.apply(vec![request(2, 2, txn([vec![mark.clone()], vec![get; 4]].concat()))]);
    assert!(matches!(replies[..], [Reply::ReadsTooMuch { .. }]) && events.is_empty(), "{replies:?}");

    let keys = (0..=TXN_DELETES_MAX).map(|n| Op::Put {
        key: format!("many/{n:05}").parse().unwrap(),
        value: Bytes::new(),
        lease: None,
    });
    machine.apply(vec![request(3, 3, txn(keys.collect()))]);
    let sweep = Op::DeletePrefix { prefix: "many/".to_owned() };
    let (replies, events) = machine.apply(vec![request(4, 4, txn(vec![mark, sweep.clone()]))]);
    assert_eq!(replies, [Reply::DeletesTooMany]);
    assert!(events.is_empty() && !machine.entries().contains_key(&other));
    let one = Op::Delete { key: "many/00000".parse().unwrap() };
    machine.apply(vec![request(5, 5, txn(vec![one]))]);
    let (replies, events) = machine.apply(vec![request(6, 6, txn(vec![sweep]))]);
    assert!(matches!(&replies[..], [Reply::Txn(outcome)]
        if outcome.results == [OpResult::DeletePrefix { deleted: TXN_DELETES_MAX as u64 }]));
    assert_eq!(events.len(), TXN_DELETES_MAX);
}

#[test]
fn a_range_ends_where_the_answer_is_full() {
    let mut machine = Machine::default();
    for (sequence, name) in (0..).zip(["a", "b", "c", "d", "e"]) {
        let value = Bytes::from(vec![7; 1 << 20]);
        machine.apply(vec![request(
            sequence,
            sequence,
            txn(vec![Op::Put { key: name.parse().unwrap(), value, lease: None }]),
        )]);
    }
    let all = Op::GetPrefix { prefix: String::new(), limit: 10 };
    let (replies, _) = machine.apply(vec![request(9, 9, txn(vec![all.clone(), all]))]);
    let [Reply::Txn(outcome)] = &replies[..] else { panic!("{replies:?}") };
    let shown = outcome.results.iter().map(|result| match result {
        OpResult::GetPrefix { entries, more } => (entries.len(), *more),
        other => panic!("{other:?}"),
    });
    assert_eq!(shown.collect::<Vec<_>>(), [(3, true), (0, true)]);
}
