//! The lines of one worker, until there are enough of them for the writer.

use std::cell::RefCell;

use super::clock::Clock;
use super::note::{Note, Summary};
use super::writer::{Batch, Sender};
use super::{AccessFormat, AccessLog, AccessOnly, format};
use crate::codec::Request;
use crate::request_id::RequestId;

/// Collects lines. Never leaves its worker's thread.
pub(crate) struct Journal {
    log: AccessLog,
    sender: Sender,
    clock: Clock,
    batch: RefCell<Batch>,
    /// Notes for whoever comes next: their room is used again.
    #[allow(clippy::vec_box, reason = "they are moved in and out of requests")]
    notes: RefCell<Vec<Box<Note>>>,
}

/// Bytes of lines after which they go to the writer.
const BATCH_BYTES: usize = 64 * 1024;

/// Notes kept; further ones are freed.
const NOTES_MAX: usize = 64;

/// The draws of a sample are among so many.
const MILLION: u32 = 1_000_000;

impl Journal {
    pub(super) fn new(log: AccessLog, sender: Sender) -> Journal {
        let clock = Clock::new(log.format);
        Journal { log, sender, clock, batch: RefCell::default(), notes: RefCell::default() }
    }

    /// Notes what a request asks for; nothing of it if it could not be read.
    pub(crate) fn note(&self, request: Option<&Request<'_>>, id: &RequestId) -> Box<Note> {
        let mut note = self.notes.borrow_mut().pop().unwrap_or_default();
        note.drawn = match self.log.only {
            AccessOnly::All => true,
            AccessOnly::Errors => false,
            AccessOnly::Sample(share) => fastrand::u32(..MILLION) < share,
        };
        match self.log.format {
            AccessFormat::Json => format::json::ask(&mut note, request, id),
            AccessFormat::Combined => format::combined::ask(&mut note, request),
        }
        note
    }

    /// Writes the line of a request that has ended, if it is to have one.
    pub(crate) fn write(&self, mut note: Box<Note>, summary: &Summary<'_>) {
        if note.drawn || summary.is_error() {
            let mut batch = self.batch.borrow_mut();
            match self.log.format {
                AccessFormat::Json => format::json::line(&mut batch.text, &note, summary, &self.clock, &self.log.node),
                AccessFormat::Combined => format::combined::line(&mut batch.text, &note, summary, &self.clock),
            }
            batch.lines += 1;
            if batch.text.len() >= BATCH_BYTES {
                self.sender.send(std::mem::take(&mut *batch));
            }
        }
        note.clear();
        let mut notes = self.notes.borrow_mut();
        if notes.len() < NOTES_MAX {
            notes.push(note);
        }
    }

    /// Hands on what there is. Called once a tick, so that nobody waits long for a line.
    pub(crate) fn tick(&self) {
        self.clock.adjust();
        let mut batch = self.batch.borrow_mut();
        if batch.lines > 0 {
            self.sender.send(std::mem::take(&mut *batch));
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.tick();
    }
}
