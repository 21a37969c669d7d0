//! Opening a log: reading it from its beginning, telling a torn end from damage, and making the end sound.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{self, ALIGNMENT, FrameId, Missing};
use super::index::{Index, Place};
use super::log::Options;
use super::record::Outline;
use super::segment::{self, HeaderFault, SEGMENT_HEADER_BYTES};
use super::writer::{Segment, Tail};
use crate::disk::{Disk, File};
use crate::error::StartError;

/// Opens or creates the log in a directory.
///
/// # Errors
/// [`StartError::Damaged`] names the file and the place.
pub(super) fn open(disk: &dyn Disk, dir: &Path, options: Options) -> Result<(Index, Tail), StartError> {
    disk.create_dir(dir).map_err(|e| unusable(dir, e))?;
    // What was found is what others may be told: no power cut may take it back.
    let above = dir.parent().unwrap_or(dir);
    disk.sync_dir(above).map_err(|e| unusable(above, e))?;
    let files = segments(disk, dir)?;
    let mut reader = Reader { disk, dir, options, index: None, segments: VecDeque::new(), sequence: 1, end: None };
    let last = files.len().saturating_sub(1);
    for (at, (number, path)) in files.into_iter().enumerate() {
        reader.read(number, path, at == last)?;
    }
    reader.finish()
}

/// The files of the log, without gap.
fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<(u64, PathBuf)>, StartError> {
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for path in disk.list(dir).map_err(|e| unusable(dir, e))? {
        let Some(number) = segment::number(&path).map_err(|fault| whole(&path, fault))? else { continue };
        if let Some((before, _)) = files.last().filter(|(before, _)| before + 1 != number) {
            return Err(whole(
                &segment::path(dir, before + 1),
                "it is missing, though there is a later one".to_owned(),
            ));
        }
        files.push((number, path));
    }
    Ok(files)
}

struct Reader<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    options: Options,
    /// From the first segment on.
    index: Option<Index>,
    segments: VecDeque<Segment>,
    /// Of the next frame.
    sequence: u64,
    /// The last frame found: its bytes, and the bytes behind it that are to be zeros.
    end: Option<End>,
}

struct End {
    frame: Vec<u8>,
    frame_at: u64,
    /// From the end of the frame up to the last byte that is not zero.
    leftover: u64,
}

impl Reader<'_> {
    fn read(&mut self, number: u64, path: PathBuf, is_last: bool) -> Result<(), StartError> {
        let file = self.disk.open(&path).map_err(|e| unusable(&path, e))?;
        let bytes = file.read_all().map_err(|e| unusable(&path, e))?;
        let first_sequence = match segment::first_sequence(&bytes, number) {
            Ok(sequence) => sequence,
            Err(HeaderFault::Blank) if is_last => return self.drop_unborn(number, &path, &bytes, 0),
            Err(HeaderFault::Blank) => return Err(damaged(&path, 0, "the header of the segment is missing")),
            Err(HeaderFault::Damaged(fault)) => return Err(damaged(&path, 0, &fault)),
        };
        match self.segments.back() {
            Some(before) if first_sequence != self.sequence => {
                let fault = "frames are missing before the next segment";
                return Err(damaged(&before.path, before.end as usize, fault));
            }
            Some(_) => {}
            None => self.sequence = first_sequence,
        }
        let path: Arc<Path> = path.into();
        let mut segment = Segment {
            number,
            path: Arc::clone(&path),
            file,
            end: SEGMENT_HEADER_BYTES as u64,
            length: bytes.len() as u64,
            highest: None,
        };
        let mut at = SEGMENT_HEADER_BYTES;
        let mut last_frame = None;
        let missing = loop {
            match frame::decode(&bytes, at, FrameId { segment: number, sequence: self.sequence }) {
                Ok(frame) => {
                    let is_first = last_frame.is_none();
                    for (nth, (offset, record)) in frame.records.iter().enumerate() {
                        let outline = record.outline();
                        let place = Place {
                            path: Arc::clone(&path),
                            file: Arc::clone(&segment.file),
                            offset: *offset as u64,
                            bytes: record.length(),
                        };
                        outline
                            .and_then(|outline| self.follow(outline, is_first && nth == 0, place, &mut segment))
                            .map_err(|fault| damaged(&path, *offset, &fault))?;
                    }
                    last_frame = Some(at);
                    at = frame.end;
                    self.sequence += 1;
                }
                Err(missing) => break missing,
            }
        };
        let torn_end = match missing {
            Missing::Damaged { offset, fault } => return Err(damaged(&path, offset, &fault)),
            Missing::Torn { .. } if !is_last => {
                return Err(damaged(&path, at, "a frame is not whole, though there is a later segment"));
            }
            Missing::Torn { end } => end,
            Missing::Blank => None,
        };
        let Some(frame_at) = last_frame else {
            if is_last {
                return self.drop_unborn(number, &path, &bytes, torn_end.unwrap_or(at));
            }
            return Err(damaged(&path, at, "the first frame of the segment is missing"));
        };
        self.check_nothing_follows(&path, &bytes, at, torn_end, number)?;
        let nonzero = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if nonzero > at && is_last {
            tracing::debug!(path = %path.display(), offset = at, "the end of the log was not written whole; it is cut off");
        }
        segment.end = at as u64;
        let leftover = nonzero.saturating_sub(at) as u64;
        self.end =
            Some(End { frame: bytes[frame_at..at.min(bytes.len())].to_vec(), frame_at: frame_at as u64, leftover });
        self.segments.push_back(segment);
        Ok(())
    }

    /// A segment that the power cut did not let begin: nothing in it was acknowledged.
    fn drop_unborn(&mut self, number: u64, path: &Path, bytes: &[u8], from: usize) -> Result<(), StartError> {
        self.check_nothing_follows(path, bytes, 0, Some(from), number)?;
        if self.segments.is_empty() && number != 1 {
            return Err(damaged(path, 0, "the first frame of the oldest segment is missing"));
        }
        tracing::debug!(path = %path.display(), "a segment of the log was not begun; it is removed");
        self.disk.remove(path).map_err(|e| unusable(path, e))
    }

    /// A frame further on proves that this one was durable.
    fn check_nothing_follows(
        &self,
        path: &Path,
        bytes: &[u8],
        at: usize,
        torn_end: Option<usize>,
        segment: u64,
    ) -> Result<(), StartError> {
        let from = torn_end.unwrap_or(at).next_multiple_of(ALIGNMENT);
        let mut later = bytes.get(from..).unwrap_or(&[]).chunks(ALIGNMENT);
        if later.any(|chunk| frame::sequence_at(chunk, segment).is_some_and(|sequence| sequence > self.sequence)) {
            return Err(damaged(path, at, "a frame is missing, though a later one is there"));
        }
        Ok(())
    }

    fn follow(&mut self, outline: Outline, is_first: bool, place: Place, segment: &mut Segment) -> Result<(), String> {
        if let Outline::State(state) = outline {
            let index = self.index.get_or_insert_with(|| Index::new(state, self.options.warm_bytes));
            let fits = is_first && index.state().vote == state.vote && index.state().next_index == state.next_index;
            return if fits { Ok(()) } else { Err("the state of the log is not what came before".to_owned()) };
        }
        let index = self.index.as_mut().filter(|_| !is_first).ok_or("a segment does not begin with the log's state")?;
        match outline {
            Outline::State(_) => {}
            Outline::Entry(log_id) => {
                segment.highest = segment.highest.max(Some(log_id.index));
                index.found(log_id, place)?;
            }
            Outline::Change(record) => index.change(&record),
        }
        Ok(())
    }

    fn finish(self) -> Result<(Index, Tail), StartError> {
        let mut index = self.index.unwrap_or_else(|| Index::new(Default::default(), self.options.warm_bytes));
        let is_begun_elsewhere = self.segments.front().is_some_and(|oldest| oldest.number != 1);
        if is_begun_elsewhere && index.has_hole() {
            return Err(whole(self.dir, "entries are missing at the beginning of the log".to_owned()));
        }
        index.clamp_committed();
        if let (Some(end), Some(segment)) = (&self.end, self.segments.back()) {
            make_sound(&*segment.file, end, segment.end).map_err(|e| unusable(&segment.path, e))?;
        }
        self.disk.sync_dir(self.dir).map_err(|e| unusable(self.dir, e))?;
        let state = index.state();
        Ok((index, Tail { segments: self.segments, sequence: self.sequence, state }))
    }
}

/// The last frame may be in the operating system's memory alone, if the process was killed or a sync has failed: it is
/// written anew, so that the sync that follows has something to do. What lies behind it goes away.
fn make_sound(file: &dyn File, end: &End, from: u64) -> io::Result<()> {
    file.write_all_at(&end.frame, end.frame_at)?;
    if end.leftover > 0 {
        file.write_all_at(&vec![0; usize::try_from(end.leftover).map_err(io::Error::other)?], from)?;
    }
    file.sync()
}

fn damaged(path: &Path, offset: usize, fault: &str) -> StartError {
    whole(path, format!("it is damaged at byte {offset}: {fault}"))
}

fn whole(path: &Path, fault: String) -> StartError {
    StartError::Damaged { path: path.to_owned(), fault }
}

fn unusable(path: &Path, source: io::Error) -> StartError {
    StartError::Io { path: path.to_owned(), source }
}
