//! How events are written: the same JSON as server-sent events and as messages of a websocket.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Bytes;
use roo_kv::{Batch, Event, Revision};
use serde_json::{Value, json};

use super::super::{Api, Rights, entry};
use super::reader::Message;

/// Which of the forms of a batch is wanted.
#[derive(Debug, Clone)]
pub(super) struct Form {
    /// A line of JSON for each event, or a server-sent event.
    pub(super) socket: bool,
    /// With what was before.
    pub(super) prev: bool,
    /// Only what these let read, if not everything.
    pub(super) only: Option<Rights>,
}

impl Form {
    /// Its number among the forms that a batch is shared in.
    fn number(&self) -> usize {
        usize::from(self.socket) * 2 + usize::from(self.prev)
    }

    /// Writes a message.
    pub(super) fn write(&self, api: &Arc<Api>, message: &Message) -> Bytes {
        match message {
            Message::Events(batch, range) if range.len() == batch.events.len() && self.only.is_none() => {
                // What all watchers of a prefix get is written once.
                batch.written(self.number(), |batch| self.events(api, batch, range))
            }
            Message::Events(batch, range) => self.events(api, batch, range),
            Message::Synced(revision) => self.mark("synced", *revision),
            Message::Progress(revision) => self.mark("progress", *revision),
            Message::Compacted { oldest } => self.alone("compacted", &json!({ "oldest": oldest })),
            Message::Behind { resume } => self.alone("behind", &json!({ "resume": resume })),
        }
    }

    fn events(&self, api: &Arc<Api>, batch: &Batch, range: &Range<usize>) -> Bytes {
        let mut out = Vec::new();
        let Some(events) = batch.events.get(range.clone()) else { return Bytes::new() };
        let shown = |event: &&Event| self.only.as_ref().is_none_or(|rights| rights.may_read(event.key().as_str()));
        let mut coming = batch.events.iter().skip(range.start).filter(shown).skip(1);
        for event in events.iter().filter(shown) {
            let next = coming.next();
            let (name, data) = self.facts(api, event);
            // Only behind the last event of a revision may a client go on: after any other it would miss the rest.
            let last = next.is_none_or(|next| next.revision() != event.revision());
            let id = (last && !batch.reset).then(|| event.revision());
            self.line(&mut out, name, &data, id);
        }
        Bytes::from(out)
    }

    fn facts(&self, api: &Arc<Api>, event: &Event) -> (&'static str, Value) {
        let (name, mut data) = match event {
            Event::Put { key, entry, .. } => ("put", entry::facts(api, key, entry)),
            Event::Delete { key, revision, expired, .. } => {
                let name = if *expired { "expire" } else { "delete" };
                (name, json!({ "key": key, "mod_revision": revision }))
            }
        };
        if self.prev {
            data["prev"] = json!(event.previous().map(|previous| entry::facts(api, event.key(), previous)));
        }
        (name, data)
    }

    fn mark(&self, name: &str, revision: Revision) -> Bytes {
        let mut out = Vec::new();
        self.line(&mut out, name, &json!({ "revision": revision }), Some(revision));
        Bytes::from(out)
    }

    fn alone(&self, name: &str, data: &Value) -> Bytes {
        let mut out = Vec::new();
        self.line(&mut out, name, data, None);
        Bytes::from(out)
    }

    fn line(&self, out: &mut Vec<u8>, name: &str, data: &Value, id: Option<Revision>) {
        let text = if self.socket {
            let mut message = json!({ "event": name, "data": data });
            if let Some(id) = id {
                message["id"] = json!(id);
            }
            format!("{message}\n")
        } else {
            let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
            format!("event: {name}\ndata: {data}\n{id}\n")
        };
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_have_the_same_content_in_both_forms() {
        let [socket, stream] = [true, false].map(|socket| Form { socket, prev: false, only: None });
        assert_eq!(stream.mark("synced", Revision(7)), "event: synced\ndata: {\"revision\":7}\nid: 7\n\n");
        assert_eq!(
            serde_json::from_slice::<Value>(&socket.mark("synced", Revision(7))).expect("JSON"),
            json!({ "event": "synced", "data": { "revision": 7 }, "id": 7 })
        );
        assert_eq!(stream.alone("behind", &json!({ "resume": 3 })), "event: behind\ndata: {\"resume\":3}\n\n");
    }
}
