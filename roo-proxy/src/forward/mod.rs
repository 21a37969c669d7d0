//! Passing a request on to an upstream and its response back.

mod incoming;
mod outgoing;
mod peer;
mod send;
mod tunnel;
mod upload;

pub(crate) use incoming::{Incoming, client_framing, header_map, write_connection, write_interim, write_status};
pub(crate) use outgoing::{Outgoing, upgrade_wanted};
pub(crate) use peer::Peer;
pub(crate) use send::{Answered, Final, Unanswered, send};
pub(crate) use tunnel::{tunnel, tunnel_stream};
pub(crate) use upload::{Downstream, More, Upload, UploadFault};
