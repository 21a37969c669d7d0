//! The thread that writes lines, and the way to it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use super::{AccessLog, AccessTo, Journal};
use crate::metric;

/// Whole lines.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) text: Vec<u8>,
    pub(super) lines: u64,
}

enum Message {
    Lines(Batch),
    Reopen,
    /// Write what has come, tell when that is done, and end.
    End(SyncSender<()>),
}

/// Batches that wait for the disk. Of the size of [`Batch`]es, that is 8 MiB.
const QUEUE_MAX: usize = 128;

/// After a file could not be opened, no other try is made for so long.
const OPEN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long the rest may take to be written at the end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// The log of a proxy: makes the journals of its workers.
pub(crate) struct Writer {
    log: AccessLog,
    sender: Sender,
}

/// A worker's way to the writer.
#[derive(Clone)]
pub(super) struct Sender(SyncSender<Message>);

impl Sender {
    /// Hands lines on. Never waits: if the queue is full they are lost, and counted.
    pub(super) fn send(&self, batch: Batch) {
        if let Err(TrySendError::Full(Message::Lines(batch)) | TrySendError::Disconnected(Message::Lines(batch))) =
            self.0.try_send(Message::Lines(batch))
        {
            metric::access_lines_lost(batch.lines);
        }
    }
}

impl Writer {
    /// Starts the thread. A file that can't be opened is told in the log, and tried again.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub(crate) fn start(log: AccessLog) -> io::Result<Writer> {
        let (sender, messages) = sync_channel(QUEUE_MAX);
        let to = log.to.clone();
        std::thread::Builder::new().name("roo-access-log".to_owned()).spawn(move || run(to, &messages))?;
        Ok(Writer { log, sender: Sender(sender) })
    }

    pub(crate) fn journal(&self) -> Journal {
        Journal::new(self.log.clone(), self.sender.clone())
    }

    /// Has the file opened anew, after what has been handed on already. Does not wait.
    pub(crate) fn reopen(&self) {
        // Behind a full queue the disk is slow, and the next call will do.
        let _ = self.sender.0.try_send(Message::Reopen);
    }

    /// Waits until what has been handed on is written, within bounds. Nothing is written after it.
    pub(crate) fn end(&self) {
        let deadline = Instant::now() + END_WITHIN;
        let (done, ended) = sync_channel(1);
        let mut message = Message::End(done);
        while let Err(TrySendError::Full(again)) = self.sender.0.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = again;
            std::thread::sleep(Duration::from_millis(5));
        }
        // Either it is done or its time is over.
        let _ = ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn run(to: AccessTo, messages: &Receiver<Message>) {
    let mut output = Output::new(to);
    while let Ok(message) = messages.recv() {
        match message {
            Message::Lines(batch) => output.write(&batch),
            Message::Reopen => output.reopen(),
            Message::End(done) => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
                return;
            }
        }
    }
}

/// Where lines go, and what is known of its troubles.
struct Output {
    to: AccessTo,
    file: Option<File>,
    opened: Option<Instant>,
    /// The trouble has been told.
    told: bool,
    /// A line broke off half way.
    torn: bool,
}

impl Output {
    fn new(to: AccessTo) -> Output {
        let mut output = Output { to, file: None, opened: None, told: false, torn: false };
        output.reopen();
        output
    }

    fn write(&mut self, batch: &Batch) {
        let written = match &self.to {
            AccessTo::Stdout => io::stdout().lock().write_all(&batch.text).and_then(|()| io::stdout().flush()),
            AccessTo::File(_) => self.append(&batch.text),
        };
        match written {
            Ok(()) if self.told => {
                self.told = false;
                tracing::info!("the access log is written again");
            }
            Ok(()) => {}
            Err(fault) => {
                metric::access_lines_lost(batch.lines);
                self.tell(&fault);
            }
        }
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if self.file.is_none() && self.opened.is_none_or(|at| at.elapsed() >= OPEN_AGAIN_AFTER) {
            self.reopen();
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        if self.torn {
            file.write_all(b"\n")?;
            self.torn = false;
        }
        let mut rest = text;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => rest = &rest[bytes..],
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => {
                    self.torn = rest.len() < text.len();
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    fn reopen(&mut self) {
        let AccessTo::File(path) = &self.to else { return };
        self.opened = Some(Instant::now());
        self.torn = false;
        match open(path) {
            Ok(file) => self.file = Some(file),
            Err(fault) => {
                // What is open may still do: better there than nowhere.
                self.tell(&fault);
            }
        }
    }

    fn tell(&mut self, fault: &io::Error) {
        if !std::mem::replace(&mut self.told, true) {
            let place = match &self.to {
                AccessTo::Stdout => PathBuf::from("standard output"),
                AccessTo::File(path) => path.clone(),
            };
            tracing::error!(
                to = %place.display(), %fault,
                "the access log can't be written; its lines are lost and counted, requests go on"
            );
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}
