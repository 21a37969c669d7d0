//! The link between nodes: HTTP/2 over mutual TLS 1.3 on the Raft port.

mod dial;
mod links;
mod message;
mod network;
mod server;
mod strangers;
mod tls;

#[cfg(test)]
pub(crate) use dial::Connection;
pub(crate) use dial::{Dial, Spawner, TlsDialer};
pub(crate) use links::{LinkError, Links};
pub(crate) use message::{
    Answer, AppendAnswer, AppendForm, Ask, Envelope, GrantAnswer, Hello, HelloAnswer, LeaseAnswer, Proposed,
    ReadAnswer, Refusal, SnapshotHead, StandingForm, StreamAnswer, TransferAnswer, VoteAsk, decode,
};
pub(crate) use network::Network;
#[cfg(test)]
pub(crate) use server::{Body, respond};
pub(crate) use server::{Handler, Messages, serve};
pub(crate) use strangers::Strangers;
pub(crate) use tls::Credentials;
