//! Answers to challenges: from the store to the proxy (RFC 8555, 8.3, and RFC 8737).

use std::collections::BTreeMap;

use roo_kv::{Event, Store};
use roo_proxy::{Control, HostName, Replies, Reply, TlsAnswer, TlsAnswers};

use crate::keys;

/// Keeps the proxy's answers as the store has them. Ends when the store does.
pub(super) fn publish(store: &Store, control: Control) {
    tokio::spawn(http(store.clone(), control.clone()));
    tokio::spawn(tls(store.clone(), control));
}

async fn http(store: Store, control: Control) {
    let mut changes = store.watch(keys::ANSWER_PREFIX);
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
}

fn path(key: &str) -> String {
    format!("/.well-known/acme-challenge/{}", key.strip_prefix(keys::ANSWER_PREFIX).unwrap_or_default())
}

async fn tls(store: Store, control: Control) {
    let mut changes = store.watch(keys::TLS_ANSWER_PREFIX);
    let mut answers: BTreeMap<HostName, TlsAnswer> = BTreeMap::new();
    while let Ok(batch) = changes.next().await {
        if batch.reset {
            answers.clear();
        }
        for event in batch.events {
            let name = event.key().as_str().strip_prefix(keys::TLS_ANSWER_PREFIX).unwrap_or_default().to_owned();
            let Ok(host) = HostName::parse(&name) else { continue };
            let answer = match event {
                Event::Put { entry, .. } => shown(&name, &entry.value),
                Event::Delete { .. } => None,
            };
            match answer {
                Some(key) => answers.insert(host, key),
                None => answers.remove(&host),
            };
        }
        control.set_tls_answers(TlsAnswers::new(answers.clone()));
    }
}

/// What this node shows for a key authorization, made here: nothing secret is in the store.
fn shown(name: &str, key_authorization: &[u8]) -> Option<TlsAnswer> {
    let text = String::from_utf8_lossy(key_authorization);
    let made = roo_acme::tls_alpn_certificate(name, &text)
        .map_err(|error| error.to_string())
        .and_then(|(chain, key)| TlsAnswer::from_pem(&chain, &key).map_err(|error| error.to_string()));
    made.inspect_err(|error| tracing::error!(name, error, "a tls-alpn-01 challenge can't be answered")).ok()
}
