//! The log on a disk that fails and loses power, at every call.
//!
//! A script of operations runs on the real write path. Whatever happens to the disk, what is found afterwards must be
//! the log as it was after one of the operations, and no earlier one than the last that was acknowledged.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::log::{Driver, Options, Wal};
use super::record::Record;
use crate::command::{Command, Request, Requests};
use crate::disk::{Cut, Disk, DiskOp, EIO, ENOSPC, Fault, Platter, SimulatedDisk};
use crate::error::StartError;
use crate::raft::{EntryForm, LogIdForm, PayloadForm, VoteForm};
use crate::txn::{Op, Txn};

const DIR: &str = "/data/wal";
const OPERATIONS: usize = 40;

/// Small, so that a short script begins many segments, and reads come from the disk.
const OPTIONS: Options = Options { segment_bytes: 6 << 10, fill_bytes: 2 << 10, warm_bytes: 3000 };

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<EntryForm>),
    Change(Record),
}

/// What a log is to hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    vote: Option<VoteForm>,
    purged: Option<LogIdForm>,
    entries: BTreeMap<u64, EntryForm>,
}

impl Model {
    fn last_index(&self) -> Option<u64> {
        self.entries.keys().last().copied().or(self.purged.map(|purged| purged.index))
    }

    fn follow(&mut self, step: &Step) {
        match step {
            Step::Append(entries) => self.entries.extend(entries.iter().map(|e| (e.log_id.index, e.clone()))),
            Step::Change(Record::Vote(vote)) => self.vote = Some(*vote),
            Step::Change(Record::Truncate { from }) => drop(self.entries.split_off(from)),
            Step::Change(Record::Purge(upto)) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = Some(*upto);
            }
            Step::Change(other) => panic!("{other:?} is not in a script"),
        }
    }

    /// What a log does hold.
    async fn of(wal: &Wal) -> io::Result<Self> {
        let state = wal.state();
        let entries = wal.read(0, u64::MAX, usize::MAX).await?;
        let entries: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.log_id.index, entry)).collect();
        let model = Self { vote: state.vote, purged: state.purged, entries };
        assert_eq!(wal.last().map(|last| last.index), model.last_index());
        assert!(state.committed <= wal.last());
        Ok(model)
    }
}

/// Steps, and what the log holds after none, one, two ... of them.
struct Script {
    steps: Vec<Step>,
    models: Vec<Model>,
}

impl Script {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut model = Model::default();
        let (mut steps, mut models) = (Vec::new(), vec![model.clone()]);
        for number in 0..OPERATIONS as u64 {
            let next = model.last_index().map_or(0, |last| last + 1);
            let first = model.entries.keys().next().copied();
            let term = 1 + number / 5;
            let step = match (rng.u8(..12), first) {
                (0..2, _) => Step::Change(Record::Vote(VoteForm { term, node: number, committed: rng.bool() })),
                (2, Some(first)) => Step::Change(Record::Truncate { from: rng.u64(first..next) }),
                (3, Some(first)) => Step::Change(Record::Purge(model.entries[&rng.u64(first..next)].log_id)),
                // As after a snapshot of the leader.
                (4, _) => Step::Change(Record::Purge(LogIdForm { term, node: 1, index: next + rng.u64(0..3) })),
                _ => Step::Append((0..rng.u64(1..4)).map(|n| entry(&mut rng, term, next + n)).collect()),
            };
            model.follow(&step);
            steps.push(step);
            models.push(model.clone());
        }
        Self { steps, models }
    }

    /// Asserts that a log holds what it held after one of the steps, and the first `acknowledged` at least.
    fn check(&self, found: &Model, acknowledged: usize, context: impl Fn() -> String) {
        let is_allowed = self.models[acknowledged..].contains(found);
        assert!(is_allowed, "{}: {acknowledged} steps were acknowledged, found {found:?}", context());
    }
}

fn entry(rng: &mut fastrand::Rng, term: u64, index: u64) -> EntryForm {
    let length = if rng.u8(..6) == 0 { rng.usize(2000..5000) } else { rng.usize(..300) };
    let mut value = vec![0; length];
    if rng.bool() {
        rng.fill(&mut value);
    }
    let op = Op::Put { key: format!("k{index}").parse().unwrap(), value: Bytes::from(value), lease: None };
    let command = Command::Txn(Txn { success: vec![op], ..Txn::default() });
    let request = Request { origin: 1, sequence: index, settled_below: 0, command };
    EntryForm { log_id: LogIdForm { term, node: 1, index }, payload: PayloadForm::Requests(Requests([request].into())) }
}

fn new_disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.create_dir(Path::new("/data")).unwrap();
    disk.settled()
}

fn open(disk: &SimulatedDisk) -> Result<Wal, StartError> {
    Wal::open_with(Arc::new(disk.clone()), Path::new(DIR), Driver::Task, OPTIONS)
}

/// How many steps were acknowledged in a row when so many things had been done to the disk.
type Acknowledged = Arc<Mutex<Vec<(usize, usize)>>>;

/// Runs the steps, some of them at once; ends early if the log fails.
async fn run(disk: &SimulatedDisk, wal: &Wal, steps: &[Step], seed: u64) -> Vec<(usize, usize)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let acknowledged = Acknowledged::default();
    let mut open = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let (list, noting) = (Arc::clone(&acknowledged), disk.clone());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let done = move |outcome: io::Result<()>| {
            if outcome.is_ok() {
                list.lock().unwrap().push((noting.recorded(), number + 1));
            }
            drop(sender.send(outcome));
        };
        match step {
            Step::Append(entries) => wal.append(entries.clone(), Box::new(done)).unwrap(),
            Step::Change(record) => done(wal.change(record.clone()).await),
        }
        open.push(receiver);
        if rng.bool() {
            if let Some(last) = wal.last() {
                wal.set_committed(last);
            }
            for receiver in open.drain(..) {
                if receiver.await.unwrap().is_err() {
                    return acknowledged.lock().unwrap().clone();
                }
            }
        }
    }
    for receiver in open {
        drop(receiver.await);
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.is_sorted(), "in order");
    acknowledged
}

async fn cut_everywhere(seed: u64) -> usize {
    let script = Script::new(seed);
    let disk = new_disk();
    disk.record();
    let before = disk.platter();
    let wal = open(&disk).unwrap();
    let acknowledged = run(&disk, &wal, &script.steps, seed).await;
    assert_eq!(acknowledged.last().unwrap().1, script.steps.len());
    wal.close().await;
    let segments = disk.history().iter().filter(|op| matches!(op, DiskOp::Create(..))).count();
    assert!(segments > 3, "{segments} segments");
    check_all_cuts(before, &disk.history(), &script, &acknowledged, seed).await
}

/// Cuts the power after each of the calls, and looks what is left; returns how many times.
async fn check_all_cuts(
    mut platter: Platter,
    history: &[DiskOp],
    script: &Script,
    acknowledged: &[(usize, usize)],
    seed: u64,
) -> usize {
    let mut images = 0;
    for (done, op) in history.iter().enumerate() {
        platter.apply(op);
        let before = acknowledged.iter().take_while(|(at, _)| *at <= done + 1).last().map_or(0, |(_, steps)| *steps);
        let mut cuts: Vec<Cut> = (0..6).map(|n| Cut::Random(seed << 32 | (done as u64) << 8 | n)).collect();
        cuts.push(Cut::Nothing);
        cuts.extend((0..=platter.pending()).map(|whole| Cut::Pending(whole, 0)));
        cuts.extend([1, 2, 3, 5, 8].map(|sectors| Cut::Pending(platter.pending().saturating_sub(1), sectors)));
        for cut in cuts {
            images += 1;
            let context = || format!("seed {seed}, power cut after {} calls, {cut:?}, the last {op:?}", done + 1);
            let image = SimulatedDisk::from(platter.cut(cut));
            let wal = open(&image).unwrap_or_else(|e| panic!("{}: {e}", context()));
            let found = Model::of(&wal).await.unwrap();
            script.check(&found, before, context);
            // What one run has shown, the next one shows, even if the power goes again at once.
            let again = image.after_power_cut(cut);
            let reopened = open(&again).unwrap_or_else(|e| panic!("twice: {}: {e}", context()));
            assert_eq!(Model::of(&reopened).await.unwrap(), found, "twice: {}", context());
            continue_from(&again, &reopened, found).await;
        }
    }
    images
}

/// A log that was opened can be written.
async fn continue_from(disk: &SimulatedDisk, wal: &Wal, mut expected: Model) {
    let next = expected.last_index().map_or(0, |last| last + 1);
    let mut rng = fastrand::Rng::with_seed(next);
    let steps = [
        Step::Append(vec![entry(&mut rng, 1000, next)]),
        Step::Change(Record::Vote(VoteForm { term: 1000, node: 1, committed: true })),
    ];
    assert_eq!(run(disk, wal, &steps, 1).await.len(), steps.len());
    steps.iter().for_each(|step| expected.follow(step));
    let left = open(&disk.after_power_cut(Cut::Pending(0, 0))).unwrap();
    assert_eq!(Model::of(&left).await.unwrap(), expected);
}

#[tokio::test]
async fn a_power_cut_at_any_call_takes_nothing_that_was_acknowledged() {
    let mut images = 0;
    for seed in 0..3 {
        images += cut_everywhere(seed).await;
    }
    assert!(images > 1000, "{images} images");
}

#[tokio::test]
async fn a_fault_of_any_call_takes_nothing_that_was_acknowledged() {
    let script = Script::new(7);
    let calls = {
        let disk = new_disk();
        let wal = open(&disk).unwrap();
        run(&disk, &wal, &script.steps, 7).await;
        disk.calls()
    };
    let faults = [Fault::Error(EIO), Fault::Error(ENOSPC), Fault::Short(100), Fault::Short(700), Fault::Torn(1)];
    for call in 0..calls {
        for fault in faults {
            let disk = new_disk();
            disk.fail_after(call, fault);
            let mut acknowledged = 0;
            let opened = open(&disk);
            if let Ok(wal) = opened {
                acknowledged = run(&disk, &wal, &script.steps, 7).await.last().map_or(0, |(_, steps)| *steps);
                wal.close().await;
            }
            for cut in [Cut::Nothing, Cut::Pending(0, 0), Cut::Random(call), Cut::Random(call + 1000)] {
                let context = || format!("{fault:?} at call {call}, then {cut:?}");
                let image = disk.after_power_cut(cut);
                let wal = open(&image).unwrap_or_else(|e| panic!("{}: {e}", context()));
                script.check(&Model::of(&wal).await.unwrap(), acknowledged, context);
            }
        }
    }
}

#[tokio::test]
async fn damage_of_any_byte_is_refused_with_its_place_or_changes_nothing() {
    let script = Script::new(11);
    let disk = new_disk();
    let wal = open(&disk).unwrap();
    run(&disk, &wal, &script.steps, 11).await;
    wal.close().await;
    let expected = script.models.last().unwrap();
    let mut refused = 0;
    for path in disk.list(Path::new(DIR)).unwrap() {
        for offset in (0..disk.content(&path).unwrap().len() as u64).step_by(3) {
            let disk = disk.settled();
            disk.damage(&path, offset, |byte| byte ^ (1 << (offset % 8)));
            match open(&disk) {
                Ok(wal) => assert_eq!(&Model::of(&wal).await.unwrap(), expected, "{} {offset}", path.display()),
                Err(error) => {
                    refused += 1;
                    let message = error.to_string();
                    assert!(message.contains(path.to_str().unwrap()) && message.contains("at byte"), "{message}");
                }
            }
        }
    }
    assert!(refused > 1000, "{refused} were refused");
}

#[tokio::test]
async fn a_missing_or_foreign_file_is_refused_by_name() {
    let script = Script::new(12);
    let disk = new_disk();
    let wal = open(&disk).unwrap();
    run(&disk, &wal, &script.steps, 12).await;
    wal.close().await;
    let files = disk.list(Path::new(DIR)).unwrap();
    for path in &files[..files.len() - 1] {
        let disk = disk.settled();
        disk.remove(path).unwrap();
        let refused = open(&disk).err().unwrap().to_string();
        assert!(refused.contains("missing"), "{}: {refused}", path.display());
    }
    let foreign = PathBuf::from("/data/wal/r-00_000_000_000_000_000_000.wal");
    disk.create(&foreign).unwrap();
    let refused = open(&disk).err().unwrap().to_string();
    assert!(refused.contains(foreign.to_str().unwrap()) && refused.contains("format"), "{refused}");
}

#[tokio::test]
async fn a_full_disk_makes_writes_wait_until_there_is_room() {
    let script = Script::new(13);
    let disk = new_disk();
    disk.record();
    let before = disk.platter();
    let wal = open(&disk).unwrap();
    disk.set_capacity(Some(disk.used()));
    let freeing = async {
        for _ in 0..20 {
            while !wal.is_full() {
                tokio::task::yield_now().await;
            }
            // Not enough for all of it, now and then not even for one write.
            disk.set_capacity(Some(disk.used() + 700));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        disk.set_capacity(None);
    };
    let (acknowledged, ()) = tokio::join!(run(&disk, &wal, &script.steps, 13), freeing);
    assert_eq!(acknowledged.len(), script.steps.len());
    assert!(!wal.is_full());
    let left = open(&disk.after_power_cut(Cut::Pending(0, 0))).unwrap();
    assert_eq!(&Model::of(&left).await.unwrap(), script.models.last().unwrap());
    check_all_cuts(before, &disk.history(), &script, &acknowledged, 13).await;
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged() {
    let disk = new_disk();
    let wal = open(&disk).unwrap();
    let vote = |term| Record::Vote(VoteForm { term, node: 1, committed: false });
    wal.change(vote(1)).await.unwrap();
    disk.fail_after(1, Fault::Error(EIO));
    let failed = wal.change(vote(2)).await.unwrap_err();
    assert!(failed.to_string().contains("cannot write the log in /data/wal"), "{failed}");
    wal.change(vote(3)).await.unwrap_err();
    wal.close().await;
    let left = open(&disk.after_power_cut(Cut::Pending(0, 0))).unwrap();
    assert_eq!(left.state().vote.unwrap().term, 1);
}
