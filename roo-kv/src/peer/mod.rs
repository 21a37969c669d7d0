//! The link between nodes: HTTP/2 over mutual TLS 1.3 on the Raft port.

mod links;
mod message;
mod network;
mod server;
mod tls;

pub(crate) use links::{LinkError, Links};
pub(crate) use message::{
    Answer, Ask, GrantAnswer, Hello, HelloAnswer, Proposed, ReadAnswer, Refusal, StandingForm,
};
pub(crate) use network::Network;
pub(crate) use server::{Handler, serve};
pub(crate) use tls::Credentials;
