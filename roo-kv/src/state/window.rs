//! Carrying out each request once, however often it comes through the log.
//!
//! Every origin says with each request below which of its own numbers everything is settled. Replies are kept from
//! there on, which bounds them by what an origin has in flight; an origin that is silent while a thousand others
//! write is forgotten.

use std::io;

use serde::{Deserialize, Serialize};

use super::layout::{origin_key, origin_of, origin_prefix, reply_key, reply_prefix};
use super::overlay::Overlay;
use crate::command::{Reply, Request};

/// Most origins that are remembered.
pub(crate) const ORIGINS_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    settled_below: u64,
    /// The log entry that brought its newest request: the least recent origin is forgotten first.
    last_index: u64,
}

/// The reply to an earlier delivery of the request, if it was carried out already.
pub(crate) fn recall(view: &Overlay<'_>, request: &Request) -> io::Result<Option<Reply>> {
    let Some(origin) = view.read::<Origin>(&origin_key(request.origin))? else { return Ok(None) };
    if request.sequence < origin.settled_below {
        return Ok(Some(Reply::Forgotten));
    }
    view.read(&reply_key(request.origin, request.sequence))
}

/// Keeps the reply and drops those that nobody will ask for again.
pub(crate) fn remember(view: &mut Overlay<'_>, index: u64, request: &Request, reply: &Reply) -> io::Result<()> {
    let known = view.read::<Origin>(&origin_key(request.origin))?;
    if known.is_none() {
        make_room(view)?;
    }
    let settled_before = known.map_or(0, |origin| origin.settled_below);
    let settled_below = settled_before.max(request.settled_below);
    if settled_below > settled_before {
        drop_settled(view, request.origin, settled_before, settled_below)?;
    }
    view.write(origin_key(request.origin), &Origin { settled_below, last_index: index })?;
    view.write(reply_key(request.origin, request.sequence), &reply.to_keep())
}

fn drop_settled(view: &mut Overlay<'_>, origin: u64, from: u64, below: u64) -> io::Result<()> {
    // Usually one number settles at a time; only after a gap is it worth looking what is there.
    if below - from <= 64 {
        for sequence in from..below {
            view.remove(reply_key(origin, sequence));
        }
        return Ok(());
    }
    let end = reply_key(origin, below);
    for key in view.keys(&reply_prefix(origin)) {
        if key < end {
            view.remove(key);
        }
    }
    Ok(())
}

fn make_room(view: &mut Overlay<'_>) -> io::Result<()> {
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
    if let Some((_, origin)) = oldest {
        view.remove(origin_key(origin));
        for key in view.keys(&reply_prefix(origin)) {
            view.remove(key);
        }
    }
    Ok(())
}
