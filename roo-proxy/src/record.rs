//! The account of one exchange: its metrics and its line in the access log.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Version;
use tokio::time::Instant;

use crate::access::{End, Note, Summary};
use crate::activity::Exchanging;
use crate::codec::Request;
use crate::connection::Client;
use crate::failure::Failure;
use crate::metric::{self, MethodLabel, ProtocolLabel};
use crate::request_id::RequestId;
use crate::table::Entry;
use crate::trace::{Trace, TraceContext};

/// Accounts for one exchange: begun with the head, ended when dropped with the response's last byte.
pub(crate) struct Record {
    client: Rc<Client>,
    entry: Option<Arc<Entry>>,
    method: MethodLabel,
    protocol: ProtocolLabel,
    /// Unset until there is an answer.
    pub(crate) status: Option<u16>,
    /// The reason of an answer of ours.
    error: Option<&'static str>,
    /// Bytes of the two bodies.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) end: End,
    pub(crate) began: Instant,
    /// When it ended, if that is known when it does: a look at the clock costs.
    pub(crate) ended: Option<Instant>,
    /// Its part of a trace, if the proxy takes part in that.
    pub(crate) trace: Option<Trace>,
    /// What the access log wants to know of it, if there is one.
    pub(crate) note: Option<Box<Note>>,
    _exchanging: Exchanging,
}

impl Record {
    /// Of a request, or of something that could not be read as one.
    pub(crate) fn begin(client: Rc<Client>, request: Option<&Request<'_>>, id: &RequestId) -> Record {
        client.asked.set(client.asked.get() + 1);
        if let Some(visit) = client.activity.visit() {
            visit.requests.set(visit.requests.get() + 1);
        }
        client.worker.requests().fetch_add(1, Ordering::Relaxed);
        Record {
            entry: None,
            method: MethodLabel::of(request.map_or("", |request| request.method)),
            protocol: ProtocolLabel::of(request.map_or(Version::HTTP_11, |request| request.version)),
            status: None,
            error: None,
            received: 0,
            sent: 0,
            end: End::default(),
            began: Instant::now(),
            ended: None,
            trace: request.and_then(|request| trace(&client, request, id)),
            note: client.worker.journal.as_ref().map(|journal| journal.note(request, id)),
            _exchanging: client.activity.exchange(),
            client,
        }
    }

    /// It has a route.
    pub(crate) fn routed(&mut self, entry: Arc<Entry>) {
        if let Some(visit) = self.client.activity.visit() {
            visit.routed(&entry);
        }
        self.entry = Some(entry);
    }

    pub(crate) fn entry(&self) -> Option<&Arc<Entry>> {
        self.entry.as_ref()
    }

    /// An answer of ours with a body of so many bytes was sent, whole or not.
    pub(crate) fn said(&mut self, bytes: usize, whole: bool) {
        if whole {
            (self.sent, self.end) = (bytes as u64, End::Whole);
        }
    }

    /// The answer is ours, for this reason.
    pub(crate) fn failed(&mut self, failure: Failure) {
        self.error = Some(failure.reason());
    }

    /// The head of the upstream's response is there.
    pub(crate) fn answered(&mut self) {
        let began = self.began;
        if let Some(note) = &mut self.note {
            note.answered(began);
        }
    }
}

fn trace(client: &Client, request: &Request<'_>, id: &RequestId) -> Option<Trace> {
    match client.worker.shared.config.trace_context {
        TraceContext::AsIs => None,
        TraceContext::TakePart { sampled } => Some(Trace::of(&request.fields, id, sampled)),
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let worker = &self.client.worker;
        worker.requests().fetch_sub(1, Ordering::Relaxed);
        if std::thread::panicking() {
            // A second panic, in a recorder say, would end the process.
            return;
        }
        // The client went away before there was an answer.
        let status = self.status.unwrap_or(499);
        let duration = self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.began);
        worker.measures.exchange(&metric::Exchange {
            entry: self.entry.as_ref(),
            status,
            method: self.method,
            protocol: self.protocol,
            duration,
        });
        if let (Some(journal), Some(note)) = (&worker.journal, self.note.take()) {
            let summary = Summary {
                client: &self.client,
                route: self.entry.as_ref().map(|entry| &entry.origin),
                status,
                error: self.error,
                trace: self.trace.as_ref(),
                began: self.began,
                duration,
                received: self.received,
                sent: self.sent,
                end: self.end,
            };
            journal.write(note, &summary);
        }
    }
}
