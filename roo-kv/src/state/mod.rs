//! The state machine: what follows from the log, and nothing else. No clock, no randomness, no I/O beyond its view.

mod apply;
mod layout;
#[cfg(test)]
mod model_test;
mod overlay;
mod record;
mod window;

pub(crate) use apply::apply;
pub(crate) use layout::{META_KEY, entry_key, entry_prefix, lease_of, lease_prefix};
pub(crate) use overlay::Overlay;
pub(crate) use record::{LeaseRecord, Meta, decode, encode};

use std::io;

use crate::engine::Engine;
use crate::key::Key;
use crate::txn::{Entry, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, Page, Scan};

/// The entry under a key.
pub(crate) fn entry(engine: &dyn Engine, key: &str) -> io::Result<Option<Entry>> {
    engine.get(&entry_key(key))?.map(|bytes| decode(&bytes)).transpose()
}

/// A page of entries. The caller keeps writers away meanwhile and fills in the revision.
pub(crate) fn page(engine: &dyn Engine, range: &Scan) -> io::Result<Page> {
    let prefix = entry_prefix(&range.prefix);
    let mut from = prefix.clone();
    if let Some(after) = &range.after {
        // No key holds a NUL, so this is the first possible key behind `after`.
        from = from.max([entry_key(after.as_str()), vec![0]].concat());
    }
    let limit = range.limit.min(PAGE_ENTRIES_MAX);
    let mut page = Page::default();
    let mut bytes = 0;
    let mut fault = None;
    engine.visit(&from, &mut |raw_key, raw_entry| {
        if !raw_key.starts_with(&prefix) {
            return false;
        }
        if page.entries.len() >= limit || bytes >= PAGE_BYTES_MAX {
            page.more = true;
            return false;
        }
        match key_and_entry(raw_key, raw_entry) {
            Ok(item) => {
                bytes += item.1.value.len();
                page.entries.push(item);
                true
            }
            Err(e) => {
                fault = Some(e);
                false
            }
        }
    })?;
    fault.map_or(Ok(page), Err)
}

/// Everything under a prefix.
pub(crate) fn all(engine: &dyn Engine, prefix: &str) -> io::Result<Vec<(Key, Entry)>> {
    let prefix = entry_prefix(prefix);
    let mut entries = Vec::new();
    let mut fault = None;
    engine.visit(&prefix, &mut |raw_key, raw_entry| {
        if !raw_key.starts_with(&prefix) {
            return false;
        }
        match key_and_entry(raw_key, raw_entry) {
            Ok(item) => entries.push(item),
            Err(e) => fault = Some(e),
        }
        fault.is_none()
    })?;
    fault.map_or(Ok(entries), Err)
}

fn key_and_entry(raw_key: &[u8], raw_entry: &[u8]) -> io::Result<(Key, Entry)> {
    Ok((layout::key_of(raw_key)?, decode(raw_entry)?))
}

/// All leases and how long they live.
pub(crate) fn leases(engine: &dyn Engine) -> io::Result<Vec<(crate::LeaseId, LeaseRecord)>> {
    let prefix = lease_prefix();
    let mut leases = Vec::new();
    let mut fault = None;
    engine.visit(&prefix, &mut |raw_key, record| {
        if !raw_key.starts_with(&prefix) {
            return false;
        }
        match lease_of(raw_key).and_then(|id| Ok((id, decode(record)?))) {
            Ok(lease) => leases.push(lease),
            Err(e) => fault = Some(e),
        }
        fault.is_none()
    })?;
    fault.map_or(Ok(leases), Err)
}
