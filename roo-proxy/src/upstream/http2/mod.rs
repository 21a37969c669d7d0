//! HTTP/2 towards upstreams: connections that carry many exchanges, each of which looks like a connection of HTTP/1.
//!
//! What a request says is decided in one place, [`Outgoing`](crate::forward::Outgoing), whose head is translated here
//! (RFC 9113 §8.3.1), and so is the response's. Whatever lies between, deadlines, retries, bodies, tunnels, is the same
//! for both protocols, and a route that speaks HTTP/1 pays nothing for it.

mod exchange;
mod head;
mod link;
mod links;

pub(crate) use exchange::Exchange;
pub(crate) use link::Link;
pub(crate) use links::{Links, Turn};
