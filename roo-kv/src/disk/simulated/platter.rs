//! What programs see of a disk, and what a power cut would leave of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::SECTOR_BYTES;

/// Something that is done to a disk. Files are numbered, since names come and go.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    CreateDir(PathBuf),
    Create(PathBuf, u64),
    Empty(u64),
    Rename(PathBuf, PathBuf, u64),
    Remove(PathBuf),
    Write(u64, u64, Vec<u8>),
    Sync(u64),
    FailedSync(u64),
    SyncDir(PathBuf),
}

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// Everything: only the programs were killed, and all was written later.
    Nothing,
    /// The first calls, and of the next one so many sectors, if it is a write.
    Pending(usize, usize),
    /// Some sectors of the writes and some of the names, chosen by this seed.
    Random(u64),
}

/// A disk's content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Platter {
    now: Files,
    /// What is left for sure.
    stable: Files,
    /// Done since, in order.
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
struct Pending {
    op: Op,
    /// A sync has failed: no later one makes it durable.
    lost: bool,
}

impl Platter {
    /// Does something.
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Sync(id) => self.settle(|pending| pending.op.file() == Some(*id) && !pending.lost),
            Op::SyncDir(dir) => self.settle(|pending| pending.op.dir() == Some(dir)),
            Op::FailedSync(id) => {
                let of_file = self.pending.iter_mut().filter(|pending| pending.op.file() == Some(*id));
                of_file.for_each(|pending| pending.lost = true);
            }
            op => {
                self.now.apply(op);
                self.pending.push(Pending { op: op.clone(), lost: false });
            }
        }
    }

    fn settle(&mut self, is_settled: impl Fn(&Pending) -> bool) {
        for pending in self.pending.extract_if(.., |pending| is_settled(pending)) {
            self.stable.apply(&pending.op);
        }
    }

    /// How many calls are not durable yet.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What is left after a power cut.
    pub(crate) fn cut(&self, cut: Cut) -> Self {
        let mut files = match cut {
            Cut::Nothing => self.now.clone(),
            Cut::Pending(whole, sectors) => {
                let mut files = self.stable.clone();
                self.pending.iter().take(whole).for_each(|pending| files.apply(&pending.op));
                if let Some(Pending { op: Op::Write(id, offset, bytes), .. }) = self.pending.get(whole) {
                    let left = pieces(*offset, bytes).take(sectors);
                    left.for_each(|(offset, piece)| files.write(*id, offset, piece));
                }
                files
            }
            Cut::Random(seed) => self.some(&mut fastrand::Rng::with_seed(seed)),
        };
        files.drop_orphans();
        Self { now: files.clone(), stable: files, pending: Vec::new() }
    }

    fn some(&self, rng: &mut fastrand::Rng) -> Files {
        let mut files = self.stable.clone();
        // Sometimes most of it is there, sometimes hardly anything.
        let share = rng.f64();
        for pending in &self.pending {
            match &pending.op {
                Op::Write(id, offset, bytes) => {
                    for (offset, piece) in pieces(*offset, bytes).filter(|_| rng.f64() < share) {
                        files.write(*id, offset, piece);
                    }
                }
                op if rng.f64() < share => files.apply(op),
                _ => {}
            }
        }
        files
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        path.parent().is_none() || matches!(self.now.names.get(path), Some(Node::Dir))
    }

    pub(super) fn names_in(&self, dir: &Path) -> Vec<PathBuf> {
        self.now.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect()
    }

    pub(super) fn file(&self, path: &Path) -> Option<u64> {
        match self.now.names.get(path) {
            Some(Node::File(id)) => Some(*id),
            _ => None,
        }
    }

    pub(super) fn content(&self, id: u64) -> &[u8] {
        self.now.contents.get(&id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn last_file(&self) -> u64 {
        self.now.contents.keys().chain(self.stable.contents.keys()).max().copied().unwrap_or(0)
    }

    pub(super) fn used(&self) -> u64 {
        let files = self.now.names.values().filter_map(|node| match node {
            Node::File(id) => Some(self.content(*id).len() as u64),
            Node::Dir => None,
        });
        files.sum()
    }

    pub(super) fn damage(&mut self, path: &Path, offset: u64, change: impl FnOnce(u8) -> u8) {
        let Some(id) = self.file(path) else { return };
        let byte = self.content(id).get(offset as usize).copied().unwrap_or(0);
        let changed = change(byte);
        self.now.write(id, offset, &[changed]);
        self.stable.write(id, offset, &[changed]);
    }
}

impl Op {
    /// The file whose bytes it changes.
    fn file(&self) -> Option<u64> {
        match self {
            Self::Write(id, ..) | Self::Empty(id) => Some(*id),
            _ => None,
        }
    }

    /// The directory whose names it changes.
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::CreateDir(path) | Self::Create(path, _) | Self::Rename(path, ..) | Self::Remove(path) => {
                path.parent()
            }
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Node {
    Dir,
    File(u64),
}

/// Names, and contents by the file's number.
#[derive(Clone, Debug, Default)]
struct Files {
    names: BTreeMap<PathBuf, Node>,
    contents: BTreeMap<u64, Vec<u8>>,
}

impl Files {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::CreateDir(path) => drop(self.names.insert(path.clone(), Node::Dir)),
            Op::Create(path, id) => {
                self.names.insert(path.clone(), Node::File(*id));
                self.contents.entry(*id).or_default();
            }
            Op::Empty(id) => drop(self.contents.insert(*id, Vec::new())),
            Op::Rename(from, to, id) => {
                self.names.remove(from);
                self.names.insert(to.clone(), Node::File(*id));
                self.contents.entry(*id).or_default();
            }
            // The content stays for those who have it open.
            Op::Remove(path) => drop(self.names.remove(path)),
            Op::Write(id, offset, bytes) => self.write(*id, *offset, bytes),
            Op::Sync(_) | Op::FailedSync(_) | Op::SyncDir(_) => {}
        }
    }

    fn write(&mut self, id: u64, offset: u64, bytes: &[u8]) {
        let content = self.contents.entry(id).or_default();
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if content.len() < to {
            content.resize(to, 0);
        }
        content[from..to].copy_from_slice(bytes);
    }

    /// Takes away what no name leads to.
    fn drop_orphans(&mut self) {
        let dirs: Vec<PathBuf> =
            self.names.iter().filter(|(_, n)| matches!(n, Node::Dir)).map(|(p, _)| p.clone()).collect();
        self.names.retain(|path, _| {
            let above = path.ancestors().skip(1).filter(|dir| dir.parent().is_some());
            above.into_iter().all(|dir| dirs.iter().any(|known| known == dir))
        });
        let named: Vec<u64> =
            self.names.values().filter_map(|n| if let Node::File(id) = n { Some(*id) } else { None }).collect();
        self.contents.retain(|id, _| named.contains(id));
    }
}

/// A write in pieces that reach a disk whole or not at all.
fn pieces(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let first = (SECTOR_BYTES - offset as usize % SECTOR_BYTES).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let at = move |n: usize| offset + (first + n * SECTOR_BYTES) as u64;
    std::iter::once((offset, head)).chain(rest.chunks(SECTOR_BYTES).enumerate().map(move |(n, piece)| (at(n), piece)))
}
