//! The link between nodes: HTTP/2 over mutual TLS 1.3 on the Raft port.

mod links;
mod message;
mod network;
mod server;
mod tls;

pub(crate) use links::{LinkError, Links, Spawner};
pub(crate) use message::{
    Answer, AppendAnswer, AppendForm, Ask, Envelope, GrantAnswer, Hello, HelloAnswer, Proposed, ReadAnswer, Refusal,
    StandingForm, StreamAnswer, TransferAnswer, VoteAsk, decode,
};
pub(crate) use network::Network;
pub(crate) use server::{Handler, Messages, serve};
pub(crate) use tls::Credentials;
