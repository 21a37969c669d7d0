//! What is known of one request, from its head to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::Client;
use crate::trace::Trace;
use crate::upstream::address::Address;

/// What is noted while a request is under way. Lent by the journal of its worker.
#[derive(Default)]
pub(crate) struct Note {
    /// What its head says, in the format of the log.
    pub(super) asked: Vec<u8>,
    /// Where, within that, the answer has its place.
    pub(super) split: usize,
    /// Whether it has a line in any case.
    pub(super) drawn: bool,
    /// The destination that was tried last, and where.
    upstream: Option<(Arc<str>, Address)>,
    /// Connections that were tried before.
    retries: u32,
    /// How long a connection took, if there had to be a new one.
    connect: Option<Duration>,
    /// From the beginning of the request to the head of the upstream's response.
    first_byte: Option<Duration>,
}

impl Note {
    /// Another address is tried.
    pub(crate) fn tries(&mut self, upstream: &Arc<str>, address: &Address) {
        self.upstream = Some((upstream.clone(), address.clone()));
        self.connect = None;
    }

    /// The request was sent over another connection before.
    pub(crate) fn repeats(&mut self) {
        self.retries += 1;
    }

    /// There is a new connection.
    pub(crate) fn connected(&mut self, took: Duration) {
        self.connect = Some(took);
    }

    /// The head of the response is there.
    pub(crate) fn answered(&mut self, began: Instant) {
        self.first_byte = Some(began.elapsed());
    }

    pub(super) fn upstream(&self) -> Option<&(Arc<str>, Address)> {
        self.upstream.as_ref()
    }

    pub(super) fn retries(&self) -> u32 {
        self.retries
    }

    pub(super) fn connect(&self) -> Option<Duration> {
        self.connect
    }

    pub(super) fn first_byte(&self) -> Option<Duration> {
        self.first_byte
    }

    /// Forgets the request, keeps the room.
    pub(super) fn clear(&mut self) {
        let Note { mut asked, .. } = std::mem::take(self);
        asked.clear();
        self.asked = asked;
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// The client has gone, or the node has ended it.
    #[default]
    Left,
    /// The answer was sent whole.
    Whole,
    /// The upstream broke off.
    Broken,
    /// A body stopped moving.
    Stuck,
}

impl End {
    pub(super) fn name(self) -> &'static str {
        match self {
            End::Left => "left",
            End::Whole => "whole",
            End::Broken => "broken",
            End::Stuck => "stuck",
        }
    }
}

/// What is known of an exchange when it has ended.
pub(crate) struct Summary<'a> {
    pub(crate) client: &'a Client,
    pub(crate) route: Option<&'a Arc<str>>,
    pub(crate) status: u16,
    /// The reason in `Roo-Error`, if the answer is ours.
    pub(crate) error: Option<&'static str>,
    pub(crate) trace: Option<&'a Trace>,
    pub(crate) began: Instant,
    pub(crate) duration: Duration,
    /// Bytes of the two bodies.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) end: End,
}

impl Summary<'_> {
    /// Whether somebody may have to look.
    pub(super) fn is_error(&self) -> bool {
        self.status >= 400 || self.end != End::Whole
    }
}
