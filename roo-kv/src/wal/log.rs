//! The handle to the log.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{Notify, mpsc, oneshot};

use super::index::{Found, Index};
use super::record::{Record, State};
use super::recovery;
use super::writer::{self, Done, Job, Writer};
use crate::disk::Disk;
use crate::error::StartError;
use crate::raft::{EntryForm, LogIdForm};
use crate::runtime::blocking;

/// While more than this waits to be written, [`Wal::room`] waits.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// A vote or the like, roughly.
const RECORD_BYTES: usize = 64;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// A thread of its own, since a sync takes its time.
    Thread,
    /// A task of the runtime in which the log is opened: for a disk that does not block.
    Task,
}

/// Sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// A segment is closed once it is this long.
    pub(super) segment_bytes: u64,
    /// Space is filled with zeros ahead of the end up to multiples of this.
    pub(super) fill_bytes: u64,
    /// The newest entries stay in memory as long as they don't weigh more.
    pub(super) warm_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, fill_bytes: 1 << 20, warm_bytes: 64 << 20 }
    }
}

/// What the writer and the others share.
pub(super) struct Shared {
    index: Mutex<Index>,
    /// There was no room for the last write.
    pub(super) is_full: AtomicBool,
    waiting_bytes: AtomicUsize,
    settled: Notify,
}

impl Shared {
    /// Held briefly, never while waiting for the disk.
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So much was written, or has failed.
    pub(super) fn settle(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.settled.notify_waiters();
    }
}

/// The log of one node. Clones are the same log; when the last is dropped, what was handed over is still written.
#[derive(Clone)]
pub(crate) struct Wal(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    driver: Driver,
    /// Taken when the log is closed.
    jobs: Mutex<Option<mpsc::UnboundedSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Wal {
    /// Opens or creates the log in a directory, whose parent exists. Blocking.
    ///
    /// # Errors
    /// [`StartError::Damaged`] if anything is wrong with it except for an end that was not written whole.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, driver: Driver) -> Result<Self, StartError> {
        Self::open_with(disk, dir, driver, Options::default())
    }

    pub(super) fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        driver: Driver,
        options: Options,
    ) -> Result<Self, StartError> {
        let (index, tail) = recovery::open(&*disk, dir, options)?;
        let shared = Arc::new(Shared {
            index: Mutex::new(index),
            is_full: AtomicBool::new(false),
            waiting_bytes: AtomicUsize::new(0),
            settled: Notify::new(),
        });
        let (sender, jobs) = mpsc::unbounded_channel();
        let writer = Writer::new(disk, dir, options, Arc::clone(&shared), tail);
        let mut thread = None;
        match driver {
            Driver::Thread => {
                let running = std::thread::Builder::new().name("roo-wal".to_owned());
                let running = running.spawn(move || writer::run_blocking(writer, jobs));
                thread = Some(running.map_err(|source| StartError::Io { path: dir.to_owned(), source })?);
            }
            Driver::Task => drop(tokio::spawn(writer::run(writer, jobs))),
        }
        Ok(Self(Arc::new(Inner { shared, driver, jobs: Mutex::new(Some(sender)), thread: Mutex::new(thread) })))
    }

    /// Votes, and where the log begins and ends, as they will be when all is written.
    pub(crate) fn state(&self) -> State {
        self.0.shared.index().state()
    }

    /// The last entry, here or purged.
    pub(crate) fn last(&self) -> Option<LogIdForm> {
        self.0.shared.index().last()
    }

    /// Adds entries, which can be read at once; `done` is told when they are durable. They are written even if nobody
    /// waits.
    ///
    /// # Errors
    /// If they do not follow the last entry: then `done` is told, too, and some of them may have been added.
    pub(crate) fn append(&self, entries: Vec<EntryForm>, done: Done) -> io::Result<()> {
        let mut index = self.0.shared.index();
        let mut ticket = None;
        let mut bytes = 0;
        for entry in &entries {
            bytes += entry.payload.weight();
            let given = index.append(entry.clone())?;
            ticket.get_or_insert(given);
        }
        let records = entries.into_iter().map(Record::Entry).collect();
        let job = Job { records, ticket: ticket.unwrap_or(0), bytes, done: Some(done), is_last: false };
        // Under the lock of the index, so that both have the same order.
        self.send(job);
        Ok(())
    }

    /// Writes a vote, truncates or purges; returns when it is durable. It happens even if the future is dropped.
    ///
    /// # Errors
    /// If the log has failed or was closed.
    pub(crate) async fn change(&self, record: Record) -> io::Result<()> {
        let (done, outcome) = waiter();
        {
            let mut index = self.0.shared.index();
            index.change(&record);
            self.send(Job { records: vec![record], ticket: 0, bytes: RECORD_BYTES, done: Some(done), is_last: false });
        }
        outcome.await.map_err(|_| stopped())?
    }

    /// A hint that is written along with the next thing that is.
    pub(crate) fn set_committed(&self, committed: LogIdForm) {
        self.0.shared.index().change(&Record::Committed(committed));
    }

    /// The entries from `from` to before `to`, as long as they are not more than about `bytes_max`, but at least one.
    /// Those that are not in memory any more are read from the disk.
    ///
    /// # Errors
    /// If they cannot be read, with the name of the file and the place.
    pub(crate) async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<EntryForm>> {
        let found = self.0.shared.index().find(from, to, bytes_max);
        let is_warm = found.iter().all(|entry| matches!(entry, Found::Here(_)));
        let read = || found.into_iter().map(Found::entry).collect();
        if is_warm || self.0.driver == Driver::Task { read() } else { blocking(read).await }
    }

    /// Waits while too much is on its way to the disk.
    pub(crate) async fn room(&self) {
        loop {
            let settled = self.0.shared.settled.notified();
            if self.0.shared.waiting_bytes.load(Ordering::Acquire) <= WAITING_BYTES_MAX {
                return;
            }
            settled.await;
        }
    }

    /// Whether there was no room on the disk for the last write. It is tried again until there is.
    pub(crate) fn is_full(&self) -> bool {
        self.0.shared.is_full.load(Ordering::Acquire)
    }

    /// Returns when everything is written and the files are not used any more, except to be read. What comes later fails.
    pub(crate) async fn close(&self) {
        let (done, outcome) = waiter();
        self.send(Job { records: Vec::new(), ticket: 0, bytes: 0, done: Some(done), is_last: true });
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        // An error: it was closed before, or had failed.
        drop(outcome.await);
    }

    fn send(&self, job: Job) {
        self.0.shared.waiting_bytes.fetch_add(job.bytes, Ordering::AcqRel);
        let jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = match jobs.as_ref() {
            Some(jobs) => jobs.send(job).err().map(|refused| refused.0),
            None => Some(job),
        };
        if let Some(job) = refused {
            self.0.shared.settle(job.bytes);
            if let Some(done) = job.done {
                done(Err(stopped()));
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.jobs.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It does not panic; and if it did, that was said.
            drop(thread.join());
        }
    }
}

impl Found {
    fn entry(self) -> io::Result<EntryForm> {
        match self {
            Self::Here(entry) => Ok(entry),
            Self::On(log_id, place) => place.read(log_id),
        }
    }
}

fn waiter() -> (Done, oneshot::Receiver<io::Result<()>>) {
    let (sender, receiver) = oneshot::channel();
    // Whoever asked may have gone.
    (Box::new(|outcome| drop(sender.send(outcome))), receiver)
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the log was closed")
}
