//! Writes the log, one batch after the other.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::frame::{self, FrameId};
use super::index::Place;
use super::log::{Options, Shared};
use super::record::{Record, State};
use super::segment;
use crate::disk::{Disk, File, is_full};
use crate::raft::LogIdForm;

/// A batch is closed once its entries weigh this much.
const BATCH_BYTES_TARGET: usize = 8 << 20;

/// A larger buffer is given back after use.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Between attempts to write to a full disk.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Is called once, with how it went.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Something to be written.
pub(super) struct Job {
    pub(super) records: Vec<Record>,
    /// Of its first entry; the others follow.
    pub(super) ticket: u64,
    /// Roughly its size.
    pub(super) bytes: usize,
    pub(super) done: Option<Done>,
    /// The last one: nothing may come after it.
    pub(super) is_last: bool,
}

/// What is written and synced together.
#[derive(Default)]
struct Batch {
    jobs: Vec<Job>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, job: Job) {
        self.bytes += job.bytes;
        self.jobs.push(job);
    }

    /// Takes what is there, without waiting.
    fn gather(&mut self, jobs: &mut UnboundedReceiver<Job>) {
        while self.bytes < BATCH_BYTES_TARGET && !self.is_last() {
            let Ok(job) = jobs.try_recv() else { return };
            self.add(job);
        }
    }

    fn is_last(&self) -> bool {
        self.jobs.last().is_some_and(|job| job.is_last)
    }
}

/// Writes until the last job or until nobody can send any more. For a thread of its own.
pub(super) fn run_blocking(mut writer: Writer, mut jobs: UnboundedReceiver<Job>) {
    let mut batch = Batch::default();
    while let Some(job) = jobs.blocking_recv() {
        batch.add(job);
        while let Some(pause) = writer.carry_out(&mut batch, &mut jobs) {
            std::thread::sleep(pause);
        }
        if writer.has_ended {
            return;
        }
    }
    writer.end();
}

/// The same as a task, for a disk that does not block: the pauses are those of the runtime's clock.
pub(super) async fn run(mut writer: Writer, mut jobs: UnboundedReceiver<Job>) {
    let mut batch = Batch::default();
    while let Some(job) = jobs.recv().await {
        batch.add(job);
        #[cfg(test)]
        crate::runtime::disk_time().await;
        while let Some(pause) = writer.carry_out(&mut batch, &mut jobs) {
            tokio::time::sleep(pause).await;
        }
        if writer.has_ended {
            return;
        }
    }
    writer.end();
}

/// A file of the log, as the writer knows it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: Arc<Path>,
    pub(super) file: Arc<dyn File>,
    /// Where the next frame begins.
    pub(super) end: u64,
    /// Up to here there are bytes already, all zeros behind `end`.
    pub(super) length: u64,
    /// The highest index of an entry that was ever written to it.
    pub(super) highest: Option<u64>,
}

/// Where the log ends.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) segments: VecDeque<Segment>,
    /// Of the next frame.
    pub(super) sequence: u64,
    /// As of the frame before.
    pub(super) state: State,
}

/// Why a batch was not written.
enum Fault {
    /// There is no room: the same may work later.
    NoRoom(io::Error),
    /// Nothing may be written any more.
    Fatal(io::Error),
}

impl Fault {
    /// Of a call that has changed nothing if it failed for want of room.
    fn of_write(error: io::Error) -> Self {
        if is_full(&error) { Self::NoRoom(error) } else { Self::Fatal(error) }
    }
}

/// Owns the end of the log.
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    shared: Arc<Shared>,
    tail: Tail,
    buffer: Vec<u8>,
    /// The last frame says only that those before it are whole.
    is_marked: bool,
    /// An attempt has left bytes behind the end.
    is_unclean: bool,
    /// The pause after the last attempt, while there is no room.
    pause: Option<Duration>,
    failure: Option<String>,
    has_ended: bool,
}

impl Writer {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, options: Options, shared: Arc<Shared>, tail: Tail) -> Self {
        let dir = dir.to_owned();
        let (buffer, pause, failure) = (Vec::new(), None, None);
        let (is_marked, is_unclean, has_ended) = (true, false, false);
        Self { disk, dir, options, shared, tail, buffer, is_marked, is_unclean, pause, failure, has_ended }
    }

    /// Writes the batch, along with what has come meanwhile, and tells those who wait. If there is no room it returns
    /// how long to wait before it is called again with the same batch.
    fn carry_out(&mut self, batch: &mut Batch, jobs: &mut UnboundedReceiver<Job>) -> Option<Duration> {
        batch.gather(jobs);
        let is_last = batch.is_last() || jobs.is_closed();
        let written = match &self.failure {
            Some(reason) => Err(io::Error::other(reason.clone())),
            None => match self.write(&batch.jobs) {
                Ok(()) => Ok(()),
                Err(Fault::NoRoom(error)) if is_last => Err(error),
                Err(Fault::NoRoom(error)) => return Some(self.pause_after(&error)),
                Err(Fault::Fatal(error)) => Err(self.fail(error)),
            },
        };
        if written.is_ok() {
            self.has_room();
        }
        self.has_ended = batch.is_last();
        if self.has_ended {
            self.end();
        }
        self.shared.settle(batch.bytes);
        for job in batch.jobs.drain(..) {
            if let Some(done) = job.done {
                done(written.as_ref().copied().map_err(|e| io::Error::new(e.kind(), e.to_string())));
            }
        }
        batch.bytes = 0;
        if written.is_ok() {
            self.remove_purged();
        }
        None
    }

    fn pause_after(&mut self, error: &io::Error) -> Duration {
        let pause = self.pause.map_or(PAUSE_MIN, |pause| (pause * 2).min(PAUSE_MAX));
        if self.pause.replace(pause).is_none() {
            tracing::error!(dir = %self.dir.display(), %error, "the disk is full: nothing is written until there is room");
        }
        self.shared.is_full.store(true, Ordering::Release);
        pause
    }

    fn has_room(&mut self) {
        if self.pause.take().is_some() {
            self.shared.is_full.store(false, Ordering::Release);
            tracing::info!(dir = %self.dir.display(), "the disk has room again");
        }
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        let reason = format!("cannot write the log in {}: {error}", self.dir.display());
        tracing::error!(%reason, "the log has ended; start the node anew once the disk is sound");
        self.failure = Some(reason.clone());
        io::Error::new(error.kind(), reason)
    }

    fn write(&mut self, jobs: &[Job]) -> Result<(), Fault> {
        if jobs.iter().all(|job| job.records.is_empty()) {
            return Ok(());
        }
        let committed = self.shared.index().state().committed;
        let news = (committed > self.tail.state.committed).then_some(committed).flatten().map(Record::Committed);
        let records: Vec<&Record> = jobs.iter().flat_map(|job| &job.records).chain(&news).collect();
        let places = self.write_frame(&records)?;
        self.is_marked = false;

        let tail = self.tail.segments.back().map(|segment| (Arc::clone(&segment.path), Arc::clone(&segment.file)));
        let Some((path, file)) = tail else { return Ok(()) };
        let mut places = places.into_iter();
        let mut index = self.shared.index();
        for job in jobs {
            let mut ticket = job.ticket;
            for (record, (offset, bytes)) in job.records.iter().zip(&mut places) {
                if let Record::Entry(entry) = record {
                    let place = Place { path: Arc::clone(&path), file: Arc::clone(&file), offset, bytes };
                    index.written(entry.log_id.index, ticket, place);
                    ticket += 1;
                }
            }
        }
        index.cool();
        Ok(())
    }

    /// Makes a frame of records durable; returns where each is, and its length.
    fn write_frame(&mut self, records: &[&Record]) -> Result<Vec<(u64, usize)>, Fault> {
        let fitting = self.tail.segments.pop_back_if(|segment| segment.end < self.options.segment_bytes);
        let is_new = fitting.is_none();
        let mut segment = match fitting {
            Some(segment) => segment,
            None => self.begin_segment().map_err(Fault::of_write)?,
        };
        let wiped = if self.is_unclean { self.wipe(&segment) } else { Ok(()) };
        let written = wiped.and_then(|()| self.write_to(&mut segment, is_new, records));
        if written.is_ok() || !is_new {
            self.tail.segments.push_back(segment);
        }
        written
    }

    fn begin_segment(&self) -> io::Result<Segment> {
        let number = self.tail.segments.back().map_or(1, |segment| segment.number + 1);
        let path = segment::path(&self.dir, number);
        let file = self.disk.create(&path)?;
        Ok(Segment { number, path: path.into(), file, end: 0, length: 0, highest: None })
    }

    /// Puts zeros in place of what an attempt has left that found no room. The next frame will be another, and of two
    /// frames in one place a power cut could leave parts that look like damage.
    fn wipe(&mut self, segment: &Segment) -> Result<(), Fault> {
        let length = segment.file.len().map_err(Fault::Fatal)?.saturating_sub(segment.end);
        let zeros = vec![0; usize::try_from(length).map_err(|e| Fault::Fatal(io::Error::other(e)))?];
        segment.file.write_all_at(&zeros, segment.end).map_err(Fault::of_write)?;
        segment.file.sync().map_err(Fault::Fatal)?;
        self.is_unclean = false;
        Ok(())
    }

    fn write_to(
        &mut self,
        segment: &mut Segment,
        is_new: bool,
        records: &[&Record],
    ) -> Result<Vec<(u64, usize)>, Fault> {
        let id = FrameId { segment: segment.number, sequence: self.tail.sequence };
        let state = Record::State(self.tail.state);
        self.buffer.clear();
        if is_new {
            self.buffer.extend_from_slice(&segment::header(id.segment, id.sequence));
        }
        let first = is_new.then_some(&state);
        let all = first.into_iter().chain(records.iter().copied());
        let ranges = frame::encode(id, all, &mut self.buffer).map_err(Fault::Fatal)?;
        let frame_end = segment.end + self.buffer.len() as u64;
        // While there is no room, only what is needed: that may fit.
        if frame_end > segment.length && self.pause.is_none() {
            let end = frame_end.next_multiple_of(self.options.fill_bytes);
            let end = end.min(self.options.segment_bytes).max(frame_end);
            self.buffer.resize(usize::try_from(end - segment.end).map_err(|e| Fault::Fatal(io::Error::other(e)))?, 0);
        }
        self.is_unclean = true;
        segment.file.write_all_at(&self.buffer, segment.end).map_err(Fault::of_write)?;
        self.is_unclean = false;
        // Whatever it is: nobody can tell what was lost.
        segment.file.sync().map_err(Fault::Fatal)?;
        if is_new {
            self.disk.sync_dir(&self.dir).map_err(Fault::Fatal)?;
        }
        let start = segment.end;
        segment.length = segment.length.max(start + self.buffer.len() as u64);
        segment.end = frame_end;
        self.tail.sequence += 1;
        for record in records {
            self.tail.state.follow(record);
            if let Record::Entry(entry) = record {
                segment.highest = segment.highest.max(Some(entry.log_id.index));
            }
        }
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        let ranges = ranges.into_iter().skip(usize::from(is_new));
        Ok(ranges.map(|range| (start + range.start as u64, range.len())).collect())
    }

    /// Removes the oldest segments if all that is in them was purged, one after the other, so that none is missing in the
    /// middle after a power cut.
    fn remove_purged(&mut self) {
        let purged = self.tail.state.purged.map(|purged: LogIdForm| purged.index);
        while self.tail.segments.len() > 1 && self.tail.segments.front().is_some_and(|s| s.highest <= purged) {
            let Some(oldest) = self.tail.segments.pop_front() else { return };
            if let Err(error) = self.disk.remove(&oldest.path) {
                tracing::warn!(path = %oldest.path.display(), %error, "cannot remove a part of the log that is not needed");
                self.tail.segments.push_front(oldest);
                return;
            }
            if let Err(error) = self.disk.sync_dir(&self.dir) {
                drop(self.fail(error));
                return;
            }
        }
    }

    /// Says in the log that all of it is whole, so that no damage to the last frame is taken for a torn end.
    fn end(&mut self) {
        if self.is_marked || self.failure.is_some() || self.pause.is_some() {
            return;
        }
        let committed = self.shared.index().state().committed.map(Record::Committed);
        match self.write_frame(&committed.iter().collect::<Vec<_>>()) {
            Ok(_) => self.is_marked = true,
            Err(Fault::NoRoom(error) | Fault::Fatal(error)) => {
                tracing::debug!(%error, "the log's last mark was not written");
            }
        }
    }
}
