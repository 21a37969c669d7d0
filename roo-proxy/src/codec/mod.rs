//! HTTP/1 on the wire (RFC 9112): heads, framing, bodies. No sockets, no routes, no policy.
//!
//! Messages are parsed once, strictly, and written anew from what was understood: nothing of a sender's spelling
//! reaches the other side but the names and values of fields that are for it. What two readers might understand
//! differently is refused.

mod decoder;
mod encoder;
mod field;
mod fields;
mod framing;
mod head;
mod lines;
mod request;
mod response;
mod trailers;

pub(crate) use decoder::{Decoder, Step};
pub(crate) use encoder::Encoder;
pub(crate) use field::{Claim, Field, Kind};
pub(crate) use fields::{Fields, items};
pub(crate) use framing::Framing;
pub(crate) use head::{FIELDS_MAX, HeadEnd, write_field, write_number};
pub(crate) use request::{Request, RequestFault};
pub(crate) use response::Response;
pub(crate) use trailers::only_passable;

/// What is wrong with a message, in words for its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);
