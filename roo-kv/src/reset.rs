//! Forgetting a cluster of this node alone in favour of another one: done at the start, when nothing changes any more.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use openraft::EntryPayload;
use openraft::storage::RaftLogReader;

use crate::command::{Command, Requests};
use crate::identity::Identity;
use crate::raft::{LogEntry, LogStore};
use crate::txn::{Op, Scan};
use crate::view::View;

/// The log on its way out: without it, what remains does not count.
const FORGOTTEN: &str = "wal.forgotten";

/// Whether neither state nor log hold another member, or a key that is not negligible.
pub(crate) async fn is_due(
    identity: &Identity,
    log: &mut LogStore,
    view: &View,
    is_negligible: fn(&str) -> bool,
) -> io::Result<bool> {
    let page = view.page(&Scan::prefix(""))?;
    let empty = !page.more && page.entries.iter().all(|(key, _)| is_negligible(key.as_str()));
    let applied = view.progress().borrow().applied;
    let ahead = log.try_get_log_entries(applied.map_or(0, |index| index + 1)..).await?;
    Ok(empty && ahead.iter().all(|entry| adds_nothing(entry, identity, is_negligible)))
}

fn adds_nothing(entry: &LogEntry, identity: &Identity, is_negligible: fn(&str) -> bool) -> bool {
    match &entry.payload {
        EntryPayload::Blank => true,
        EntryPayload::Membership(membership) => membership.nodes().all(|(id, _)| *id == identity.node.0),
        EntryPayload::Normal(Requests(requests)) => requests.iter().all(|request| match &request.command {
            Command::Txn(txn) => txn.success.iter().chain(&txn.failure).all(|op| match op {
                Op::Put { key, .. } => is_negligible(key.as_str()),
                _ => true,
            }),
            _ => true,
        }),
    }
}

/// Forgets log and state; the node is free when it returns. May be repeated. Blocking.
pub(crate) fn forget(dir: &Path, identity: &Arc<Identity>) -> io::Result<()> {
    absent(fs::rename(dir.join("wal"), dir.join(FORGOTTEN)))?;
    File::open(dir)?.sync_all()?;
    for part in [FORGOTTEN, "snapshots", "db"] {
        absent(fs::remove_dir_all(dir.join(part)))?;
    }
    File::open(dir)?.sync_all()?;
    identity.finish_errand()
}

fn absent(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
