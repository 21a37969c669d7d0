//! What a frame holds.

use std::io;

use serde::{Deserialize, Serialize};

use crate::raft::{EntryForm, LogIdForm, PayloadForm, VoteForm};

/// Length, checksum and kind.
const RECORD_HEADER_BYTES: usize = 9;

const PAYLOAD_VERSION: u8 = 1;
const LOG_ID_BYTES: usize = 24;

const STATE: u8 = 1;
const VOTE: u8 = 2;
const ENTRY: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;
const COMMITTED: u8 = 6;

/// Something that happens to the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    /// First of a segment, and only there.
    State(State),
    Vote(VoteForm),
    Entry(EntryForm),
    /// Entries from this index on are dropped.
    Truncate {
        from: u64,
    },
    /// Entries up to this one are dropped.
    Purge(LogIdForm),
    /// Entries up to this one are known to be agreed on. A hint, which may be old.
    Committed(LogIdForm),
}

/// Everything about the log except its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) vote: Option<VoteForm>,
    pub(crate) committed: Option<LogIdForm>,
    pub(crate) purged: Option<LogIdForm>,
    /// Index of the next entry.
    pub(crate) next_index: u64,
}

/// A record as it lies in a frame, its checksum verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRecord<'a> {
    kind: u8,
    body: &'a [u8],
}

/// What a record says; an entry's payload is left where it is.
#[derive(Debug)]
pub(super) enum Outline {
    State(State),
    Entry(LogIdForm),
    /// Anything else.
    Change(Record),
}

impl State {
    /// Carries out a record.
    pub(super) fn follow(&mut self, record: &Record) {
        match record {
            Record::State(state) => *self = *state,
            Record::Vote(vote) => self.vote = Some(*vote),
            Record::Entry(entry) => self.next_index = entry.log_id.index + 1,
            Record::Truncate { from } => self.next_index = self.next_index.min(*from),
            Record::Purge(upto) => {
                self.purged = self.purged.max(Some(*upto));
                self.next_index = self.next_index.max(upto.index + 1);
            }
            Record::Committed(committed) => self.committed = self.committed.max(Some(*committed)),
        }
    }
}

impl Record {
    /// Appends the record's stored form.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        let kind = match self {
            Self::State(state) => append(bytes, state).map(|()| STATE),
            Self::Vote(vote) => append(bytes, vote).map(|()| VOTE),
            Self::Entry(entry) => append_entry(bytes, entry).map(|()| ENTRY),
            Self::Truncate { from } => append(bytes, from).map(|()| TRUNCATE),
            Self::Purge(log_id) => append(bytes, log_id).map(|()| PURGE),
            Self::Committed(log_id) => append(bytes, log_id).map(|()| COMMITTED),
        }?;
        let length = u32::try_from(bytes.len() - start - RECORD_HEADER_BYTES).map_err(io::Error::other)?;
        bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        bytes[start + 8] = kind;
        let crc = checksum(length, &bytes[start + 8..]);
        bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        Ok(())
    }
}

impl<'a> RawRecord<'a> {
    /// Takes a record from the front.
    pub(super) fn take(bytes: &'a [u8]) -> Result<Self, String> {
        let (header, rest) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>().ok_or("a record is cut short")?;
        let [l0, l1, l2, l3, c0, c1, c2, c3, kind] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let body = rest.get(..length as usize).ok_or("a record is longer than what holds it")?;
        if u32::from_le_bytes([c0, c1, c2, c3]) != checksum(length, &bytes[8..RECORD_HEADER_BYTES + body.len()]) {
            return Err("a record's checksum is wrong".to_owned());
        }
        Ok(Self { kind, body })
    }

    /// What it says.
    pub(super) fn outline(&self) -> Result<Outline, String> {
        let outline = match self.kind {
            STATE => postcard::from_bytes(self.body).map(Outline::State),
            ENTRY => return self.split_entry().map(|(log_id, _)| Outline::Entry(log_id)),
            VOTE => postcard::from_bytes(self.body).map(|vote| Outline::Change(Record::Vote(vote))),
            TRUNCATE => postcard::from_bytes(self.body).map(|from| Outline::Change(Record::Truncate { from })),
            PURGE => postcard::from_bytes(self.body).map(|upto| Outline::Change(Record::Purge(upto))),
            COMMITTED => postcard::from_bytes(self.body).map(|upto| Outline::Change(Record::Committed(upto))),
            kind => return Err(format!("a record is of the unknown kind {kind}; a newer version of Roo wrote it")),
        };
        outline.map_err(|e| format!("a record's content is wrong: {e}"))
    }

    /// Its bytes in the file.
    pub(super) fn length(&self) -> usize {
        RECORD_HEADER_BYTES + self.body.len()
    }

    /// The entry that it holds.
    pub(super) fn entry(&self) -> Result<EntryForm, String> {
        let (log_id, payload) = self.split_entry()?;
        let payload = match payload.split_first() {
            Some((&PAYLOAD_VERSION, body)) => {
                postcard::from_bytes::<PayloadForm>(body).map_err(|e| format!("entry {}: {e}", log_id.index))?
            }
            Some((version, _)) => return Err(format!("entry {} has the unknown format {version}", log_id.index)),
            None => return Err(format!("entry {} is empty", log_id.index)),
        };
        Ok(EntryForm { log_id, payload })
    }

    fn split_entry(&self) -> Result<(LogIdForm, &'a [u8]), String> {
        let (log_id, payload) = self
            .body
            .split_first_chunk::<LOG_ID_BYTES>()
            .filter(|_| self.kind == ENTRY)
            .ok_or("a record is not an entry")?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&log_id[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Ok((LogIdForm { term: number(0), node: number(8), index: number(16) }, payload))
    }
}

fn checksum(length: u32, kind_and_body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(kind_and_body);
    hasher.finalize()
}

fn append(bytes: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    *bytes = postcard::to_extend(value, std::mem::take(bytes)).map_err(io::Error::other)?;
    Ok(())
}

fn append_entry(bytes: &mut Vec<u8>, entry: &EntryForm) -> io::Result<()> {
    let LogIdForm { term, node, index } = entry.log_id;
    for number in [term, node, index] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.push(PAYLOAD_VERSION);
    append(bytes, &entry.payload)
}
