//! Carrying out each request once, however often it comes through the log.
//!
//! Every origin says with each request below which of its own numbers everything is settled. Replies are kept from
//! there on, which bounds them by what an origin has in flight; an origin that is silent while a thousand others
//! write is forgotten.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::layout::{origin_key, origin_of, origin_prefix, reply_key};
use super::overlay::Overlay;
use crate::command::{Reply, Request};

/// Most origins that are remembered.
pub(crate) const ORIGINS_MAX: usize = 1024;

/// A reply larger than this has a record of its own, as the others are written anew with each of their origin's.
const TOGETHER_BYTES_MAX: usize = 128;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Origin {
    settled_below: u64,
    /// The log entry that brought its newest request: the least recent origin is forgotten first.
    last_index: u64,
    replies: BTreeMap<u64, Kept>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kept {
    Here(Reply),
    /// In a record of its own.
    Apart,
}

/// The windows of the origins that were looked at since the last [`save`](Self::save).
#[derive(Debug, Default)]
pub(super) struct Windows(BTreeMap<u64, Origin>);

impl Windows {
    /// The reply to an earlier delivery of the request, if it was carried out already.
    pub(super) fn recall(&mut self, view: &Overlay<'_>, request: &Request) -> io::Result<Option<Reply>> {
        let Some(origin) = self.origin(view, request.origin)? else { return Ok(None) };
        if request.sequence < origin.settled_below {
            return Ok(Some(Reply::Forgotten));
        }
        match origin.replies.get(&request.sequence) {
            Some(Kept::Here(reply)) => Ok(Some(reply.clone())),
            Some(Kept::Apart) => view.read(&reply_key(request.origin, request.sequence)),
            None => Ok(None),
        }
    }

    /// Keeps the reply and drops those that nobody will ask for again.
    pub(super) fn remember(
        &mut self,
        view: &mut Overlay<'_>,
        index: u64,
        request: &Request,
        reply: &Reply,
    ) -> io::Result<()> {
        if self.origin(view, request.origin)?.is_none() {
            self.make_room(view)?;
        }
        let origin = self.0.entry(request.origin).or_default();
        origin.last_index = index;
        origin.settled_below = origin.settled_below.max(request.settled_below);
        while let Some(oldest) = origin.replies.first_entry().filter(|reply| *reply.key() < origin.settled_below) {
            if let (sequence, Kept::Apart) = oldest.remove_entry() {
                view.remove(reply_key(request.origin, sequence));
            }
        }
        let kept = if reply.weight() <= TOGETHER_BYTES_MAX {
            Kept::Here(reply.clone())
        } else {
            view.write(reply_key(request.origin, request.sequence), &reply.to_keep())?;
            Kept::Apart
        };
        origin.replies.insert(request.sequence, kept);
        Ok(())
    }

    /// Puts what has changed into the view.
    pub(super) fn save(&mut self, view: &mut Overlay<'_>) -> io::Result<()> {
        while let Some((id, origin)) = self.0.pop_first() {
            view.write(origin_key(id), &origin)?;
        }
        Ok(())
    }

    fn origin(&mut self, view: &Overlay<'_>, id: u64) -> io::Result<Option<&mut Origin>> {
        if !self.0.contains_key(&id)
            && let Some(known) = view.read(&origin_key(id))?
        {
            self.0.insert(id, known);
        }
        Ok(self.0.get_mut(&id))
    }

    fn make_room(&mut self, view: &mut Overlay<'_>) -> io::Result<()> {
        self.save(view)?;
        let keys = view.keys(&origin_prefix());
        if keys.len() < ORIGINS_MAX {
            return Ok(());
        }
        let mut oldest: Option<(u64, u64)> = None;
        for key in &keys {
            if let Some(origin) = view.read::<Origin>(key)? {
                let candidate = (origin.last_index, origin_of(key)?);
                oldest = Some(oldest.map_or(candidate, |known| known.min(candidate)));
            }
        }
        if let Some((_, id)) = oldest {
            let replies = view.read::<Origin>(&origin_key(id))?.unwrap_or_default().replies;
            for (sequence, _) in replies.iter().filter(|(_, kept)| matches!(kept, Kept::Apart)) {
                view.remove(reply_key(id, *sequence));
            }
            view.remove(origin_key(id));
        }
        Ok(())
    }
}

/// How many replies are kept.
#[cfg(test)]
pub(super) fn kept_replies(records: &super::Tree) -> usize {
    let origins = records.prefix(b"o").map(|(_, record)| super::decode::<Origin>(record));
    origins.map(|origin| origin.map_or(0, |origin| origin.replies.len())).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::{Command, KEPT_REPLY_BYTES_MAX};
    use crate::id::Revision;
    use crate::state::Tree;
    use crate::txn::{Entry, OpResult, TxnOutcome};

    fn request(sequence: u64, settled_below: u64) -> Request {
        Request { origin: 1, sequence, settled_below, command: Command::LeaseGrant { ttl_ms: 1 } }
    }

    fn reply(bytes: usize) -> Reply {
        let entry = Entry {
            value: vec![b'v'; bytes].into(),
            create_revision: Revision(1),
            mod_revision: Revision(1),
            version: 1,
            lease: None,
        };
        let results = vec![OpResult::Get(Some(entry))];
        Reply::Txn(TxnOutcome { succeeded: true, revision: Revision(1), results })
    }

    #[test]
    fn replies_of_every_size_are_recalled_until_they_are_settled() {
        let tree = Tree::default();
        let mut view = Overlay::new(&tree);
        let mut windows = Windows::default();
        let sizes = [0, TOGETHER_BYTES_MAX, KEPT_REPLY_BYTES_MAX / 2, 2 * KEPT_REPLY_BYTES_MAX];
        for (sequence, bytes) in (0..).zip(sizes) {
            windows.remember(&mut view, 1, &request(sequence, 0), &reply(bytes)).unwrap();
        }
        windows.save(&mut view).unwrap();
        for (sequence, bytes) in (0..).zip(&sizes[..3]) {
            let recalled = Windows::default().recall(&view, &request(sequence, 0)).unwrap();
            assert_eq!(recalled, Some(reply(*bytes)), "{bytes}");
        }
        // Too large to be kept: all that is known is that it was carried out.
        assert_eq!(windows.recall(&view, &request(3, 0)).unwrap(), Some(Reply::Forgotten));
        assert_eq!(windows.recall(&view, &request(4, 0)).unwrap(), None);

        windows.remember(&mut view, 2, &request(4, 4), &reply(0)).unwrap();
        windows.save(&mut view).unwrap();
        assert_eq!(windows.recall(&view, &request(2, 4)).unwrap(), Some(Reply::Forgotten));
        assert_eq!(view.keys(&[]), [origin_key(1)]);
    }
}
