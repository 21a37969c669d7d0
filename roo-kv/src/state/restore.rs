//! Putting a backup in place of an empty state, in steps that come through the log.
//!
//! The parts are kept aside until the last step, which puts them in place all at once. A restore that begins drops the parts
//! of one before.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::layout::{entry_prefix, is_window, key_of, part_key, part_prefix, restore_key};
use super::overlay::Overlay;
use super::record::Meta;
use crate::command::{Emptiness, RestoreReply};
use crate::id::Revision;
use crate::records::records_in;

/// Records that wait for the last step.
#[derive(Serialize, Deserialize)]
struct Part(#[serde(with = "crate::value_bytes")] Bytes);

pub(super) fn begin(view: &mut Overlay<'_>, id: u64, emptiness: &Emptiness) -> io::Result<RestoreReply> {
    if let Some(key) = used(view, emptiness)? {
        return Ok(RestoreReply::InUse { key });
    }
    drop_parts(view)?;
    view.write(restore_key(), &id)?;
    Ok(RestoreReply::Taken)
}

pub(super) fn part(view: &mut Overlay<'_>, id: u64, number: u64, records: &Bytes) -> io::Result<RestoreReply> {
    if view.read::<u64>(&restore_key())? != Some(id) {
        return Ok(RestoreReply::Superseded);
    }
    view.write(part_key(number), &Part(records.clone()))?;
    Ok(RestoreReply::Taken)
}

/// `revision` and `last_lease` are those of the backup: what is numbered from here on comes after both.
pub(super) fn end(
    view: &mut Overlay<'_>,
    meta: &mut Meta,
    (id, parts): (u64, u64),
    (revision, last_lease): (Revision, u64),
    emptiness: &Emptiness,
) -> io::Result<RestoreReply> {
    let kept = view.keys(&part_prefix());
    if view.read::<u64>(&restore_key())? != Some(id) || !kept.iter().cloned().eq((0..parts).map(part_key)) {
        return Ok(RestoreReply::Superseded);
    }
    if let Some(key) = used(view, emptiness)? {
        return Ok(RestoreReply::InUse { key });
    }
    let mut records = Vec::new();
    for key in &kept {
        records.extend(view.read::<Part>(key)?);
    }
    // Also what people did not write, such as locks: it belongs to a state that is gone.
    for key in view.keys(&[]) {
        if !is_window(&key) {
            view.remove(key);
        }
    }
    for Part(records) in &records {
        records_in(records).for_each(|(key, value)| view.put(key, value));
    }
    meta.revision = Revision(meta.revision.0.max(revision.0) + 1);
    meta.last_lease = meta.last_lease.max(last_lease);
    Ok(RestoreReply::Done { revision: meta.revision })
}

pub(super) fn abort(view: &mut Overlay<'_>, id: u64) -> io::Result<RestoreReply> {
    if view.read::<u64>(&restore_key())? != Some(id) {
        return Ok(RestoreReply::Superseded);
    }
    drop_parts(view)?;
    Ok(RestoreReply::Taken)
}

fn drop_parts(view: &mut Overlay<'_>) -> io::Result<()> {
    for key in view.keys(&part_prefix()) {
        view.remove(key);
    }
    view.remove(restore_key());
    Ok(())
}

/// A key that tells that the state is in use.
fn used(view: &Overlay<'_>, emptiness: &Emptiness) -> io::Result<Option<crate::Key>> {
    for raw in view.keys(&entry_prefix("")) {
        let key = key_of(&raw)?;
        if emptiness.is_used_by(key.as_str()) {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::records::write_record;
    use crate::state::Tree;
    use crate::state::layout::{entry_key, lease_key};

    fn emptiness() -> Emptiness {
        Emptiness { own: vec!["own.".to_owned()], counted: vec!["own.route:".to_owned()] }
    }

    fn records(names: &[&str]) -> Bytes {
        let mut records = Vec::new();
        for name in names {
            write_record(&mut records, &entry_key(name), b"value").unwrap();
        }
        records.into()
    }

    fn state(names: &[&str]) -> Tree {
        let mut tree = Tree::default();
        names.iter().for_each(|name| tree.insert(&entry_key(name), b"before"));
        tree.insert(&lease_key(crate::LeaseId(1)), b"lease");
        tree.insert(b"r-reply", b"kept");
        tree
    }

    #[test]
    fn the_last_step_puts_everything_in_place_of_what_was_there() {
        let tree = state(&["own.lock"]);
        let mut view = Overlay::new(&tree);
        let mut meta = Meta { revision: Revision(3), last_lease: 9, ..Meta::default() };
        assert_eq!(begin(&mut view, 5, &emptiness()).unwrap(), RestoreReply::Taken);
        part(&mut view, 5, 0, &records(&["left over"])).unwrap();
        assert_eq!(begin(&mut view, 7, &emptiness()).unwrap(), RestoreReply::Taken);
        assert_eq!(part(&mut view, 5, 1, &records(&["late"])).unwrap(), RestoreReply::Superseded);
        part(&mut view, 7, 1, &records(&["c"])).unwrap();
        let incomplete = end(&mut view, &mut meta, (7, 2), (Revision(40), 4), &emptiness()).unwrap();
        assert_eq!((incomplete, meta.revision), (RestoreReply::Superseded, Revision(3)));
        part(&mut view, 7, 0, &records(&["a", "own.route:b"])).unwrap();
        let done = end(&mut view, &mut meta, (7, 2), (Revision(40), 4), &emptiness()).unwrap();
        assert_eq!(done, RestoreReply::Done { revision: Revision(41) });
        assert_eq!((meta.revision, meta.last_lease), (Revision(41), 9));
        let there = view.keys(&[]);
        assert_eq!(there, [entry_key("a"), entry_key("c"), entry_key("own.route:b"), b"r-reply".to_vec()]);
    }

    #[test]
    fn a_state_in_use_is_left_alone_also_if_it_came_into_use_meanwhile() {
        let tree = state(&["own.lock", "own.route:x"]);
        let mut view = Overlay::new(&tree);
        let refused = begin(&mut view, 1, &emptiness()).unwrap();
        assert_eq!(refused, RestoreReply::InUse { key: "own.route:x".parse().unwrap() });

        let tree = state(&[]);
        let mut view = Overlay::new(&tree);
        let mut meta = Meta::default();
        begin(&mut view, 1, &emptiness()).unwrap();
        part(&mut view, 1, 0, &records(&["a"])).unwrap();
        view.put(&entry_key("written"), b"meanwhile");
        let refused = end(&mut view, &mut meta, (1, 1), (Revision(4), 0), &emptiness()).unwrap();
        assert_eq!(refused, RestoreReply::InUse { key: "written".parse().unwrap() });
        assert_eq!(abort(&mut view, 1).unwrap(), RestoreReply::Taken);
        assert!(view.keys(&part_prefix()).is_empty());
        assert_eq!(meta, Meta::default());
    }
}
