//! Answers to http-01 challenges: from the store to the proxy (RFC 8555, 8.3).

use std::collections::BTreeMap;

use roo_kv::{Event, Store};
use roo_proxy::{Control, Replies, Reply};

use crate::keys;

/// Keeps the proxy's fixed replies as the store has them. Ends when the store does.
pub(super) fn publish(store: &Store, control: Control) {
    let mut changes = store.watch(keys::ANSWER_PREFIX);
    tokio::spawn(async move {
        let mut answers = BTreeMap::new();
        while let Ok(batch) = changes.next().await {
            if batch.reset {
                answers.clear();
            }
            for event in batch.events {
                match event {
                    Event::Put { key, entry, .. } => answers.insert(path(key.as_str()), Reply::text(entry.value)),
                    Event::Delete { key, .. } => answers.remove(&path(key.as_str())),
                };
            }
            control.set_replies(Replies::new(answers.clone()));
        }
    });
}

fn path(key: &str) -> String {
    format!("/.well-known/acme-challenge/{}", key.strip_prefix(keys::ANSWER_PREFIX).unwrap_or_default())
}
