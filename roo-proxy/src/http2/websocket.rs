//! WebSockets over HTTP/2 (RFC 8441): towards the upstream they begin as over HTTP/1.

use std::rc::Rc;

use bytes::{Buf, Bytes};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::ResponseBody;
use crate::access::End;
use crate::codec::{self, Framing, Kind};
use crate::connection::Client;
use crate::failure::Failure;
use crate::forward::{Answered, header_map, tunnel_stream};
use crate::record::Record;
use crate::websocket::{ACCEPT, WEBSOCKET, accept, key};

/// A stream that is to become a WebSocket.
pub(super) struct Websocket {
    upgrade: OnUpgrade,
    /// Ours towards the upstream: the client sends none.
    pub(super) key: String,
    /// The upstream that has agreed.
    granted: Option<Answered>,
}

impl Websocket {
    /// Of a request, if that is what it asks for.
    pub(super) fn of(request: &mut Request<Incoming>) -> Option<Websocket> {
        let protocol = request.extensions().get::<Protocol>()?;
        let asks = request.method() == Method::CONNECT && protocol.as_str() == WEBSOCKET;
        asks.then(|| Websocket { upgrade: hyper::upgrade::on(request), key: key(), granted: None })
    }

    /// Whether the upstream has agreed, by its answer's head.
    ///
    /// # Errors
    ///
    /// If it has not understood. A success of any other kind would open the tunnel as well.
    fn is_agreed(&self, head: &codec::Response<'_>) -> Result<bool, Failure> {
        let mut proofs = head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(ACCEPT.as_bytes()));
        let is_proven = proofs.next().is_some_and(|proof| proof.value == accept(self.key.as_bytes()).as_bytes());
        match head.status {
            101 if is_proven && head.fields.lists(Kind::Upgrade, WEBSOCKET) => Ok(true),
            101 | 200..=299 => Err(Failure::Reset),
            _ => Ok(false),
        }
    }

    /// The answer that opens the tunnel if the upstream has agreed, else its answer back.
    ///
    /// # Errors
    ///
    /// As [`Websocket::is_agreed`], or if its head is not valid.
    pub(super) fn granted(&mut self, mut answered: Answered) -> Result<Granted, Failure> {
        let head = answered.read(false)?.response;
        if !self.is_agreed(&head)? {
            return Ok(Granted::No(answered));
        }
        let mut response = Response::new(ResponseBody::own(Bytes::new()));
        *response.headers_mut() = header_map(&head, Framing::None);
        response.headers_mut().remove(ACCEPT);
        answered.connection.input.advance(answered.head);
        self.granted = Some(answered);
        Ok(Granted::Yes(response))
    }

    /// Runs the tunnel, if there is one, beside the other streams; else the exchange back. It lasts as long.
    pub(super) fn start(self, client: &Rc<Client>, mut record: Record) -> Option<Record> {
        let (Some(answered), client) = (self.granted, client.clone()) else { return Some(record) };
        client.worker.tracker.clone().spawn_local(async move {
            if let Ok(stream) = self.upgrade.await {
                record.end = End::Whole;
                tunnel_stream(&client, &mut TokioIo::new(stream), answered.connection).await;
            }
            drop(record);
        });
        None
    }
}

/// What became of the wish.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is made")]
pub(super) enum Granted {
    Yes(Response<ResponseBody>),
    /// The upstream has answered like any other.
    No(Answered),
}
