//! The state machine: what follows from the log, and nothing else. No clock, no randomness, no I/O.

mod apply;
mod condition;
mod history;
mod keys;
mod layout;
#[cfg(test)]
mod model_test;
mod overlay;
mod record;
mod restore;
mod tree;
mod window;

pub(crate) use apply::Applier;
pub(crate) use history::{Past, oldest, past};
#[cfg(test)]
pub(crate) use layout::history_key;
pub(crate) use layout::{
    META_KEY, attached_of, attached_prefix, entry_key, entry_prefix, is_backed_up, lease_key, lease_of, lease_prefix,
};
pub(crate) use overlay::Changes;
pub(crate) use record::{LeaseRecord, Meta, decode, encode};
pub(crate) use tree::Tree;

use std::io;

use crate::id::LeaseId;
use crate::key::Key;
use crate::txn::{Entry, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, Page, Scan};

/// The entry under a key.
pub(crate) fn entry(records: &Tree, key: &str) -> io::Result<Option<Entry>> {
    records.get(&entry_key(key)).map(decode).transpose()
}

/// A page of entries. The caller fills in the revision.
pub(crate) fn page(records: &Tree, range: &Scan) -> io::Result<Page> {
    let prefix = entry_prefix(&range.prefix);
    let mut from = prefix.clone();
    if let Some(after) = &range.after {
        // No key holds a NUL, so this is the first possible key behind `after`.
        from = from.max([entry_key(after.as_str()), vec![0]].concat());
    }
    let limit = range.limit.min(PAGE_ENTRIES_MAX);
    let mut page = Page::default();
    let mut bytes = 0;
    for (raw_key, raw_entry) in records.range(&from).take_while(|(key, _)| key.starts_with(&prefix)) {
        if page.entries.len() >= limit || bytes >= PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        let item = key_and_entry(raw_key, raw_entry)?;
        bytes += item.1.value.len();
        page.entries.push(item);
    }
    Ok(page)
}

/// Everything under a prefix.
pub(crate) fn all(records: &Tree, prefix: &str) -> io::Result<Vec<(Key, Entry)>> {
    let prefix = entry_prefix(prefix);
    records.prefix(&prefix).map(|(key, entry)| key_and_entry(key, entry)).collect()
}

/// The key and entry in a record, if it is one of an entry.
pub(crate) fn entry_of(raw_key: &[u8], raw_entry: &[u8]) -> io::Result<Option<(Key, Entry)>> {
    let is_entry = raw_key.starts_with(&entry_prefix(""));
    is_entry.then(|| key_and_entry(raw_key, raw_entry)).transpose()
}

fn key_and_entry(raw_key: &[u8], raw_entry: &[u8]) -> io::Result<(Key, Entry)> {
    Ok((layout::key_of(raw_key)?, decode(raw_entry)?))
}

/// All leases and how long they live.
pub(crate) fn leases(records: &Tree) -> io::Result<Vec<(LeaseId, LeaseRecord)>> {
    leases_after(records, None, usize::MAX)
}

/// The first `limit` leases after one; `None`: from the first.
pub(crate) fn leases_after(
    records: &Tree,
    after: Option<LeaseId>,
    limit: usize,
) -> io::Result<Vec<(LeaseId, LeaseRecord)>> {
    let prefix = lease_prefix();
    let from = after.map_or_else(lease_prefix, |id| [lease_key(id), vec![0]].concat());
    let leases = records.range(&from).take_while(|(key, _)| key.starts_with(&prefix)).take(limit);
    leases.map(|(key, record)| Ok((lease_of(key)?, decode(record)?))).collect()
}

/// The keys that hang on a lease.
pub(crate) fn keys_of_lease(records: &Tree, id: LeaseId) -> io::Result<Vec<Key>> {
    records.prefix(&attached_prefix(id)).map(|(key, _)| attached_of(key)).collect()
}
