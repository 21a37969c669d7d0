//! A DNS server on loopback that knows one name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A server that answers every name it is asked for with the same addresses.
pub struct Dns {
    pub address: SocketAddr,
    answers: Arc<Mutex<Vec<Ipv4Addr>>>,
    task: JoinHandle<()>,
}

impl Dns {
    pub async fn start(answers: Vec<Ipv4Addr>) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let answers = Arc::new(Mutex::new(answers));
        let task = tokio::spawn(serve(socket, answers.clone()));
        Ok(Self { address, answers, task })
    }

    /// Changes the answer.
    pub fn set(&self, answers: Vec<Ipv4Addr>) {
        *self.answers.lock().expect("not poisoned") = answers;
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, answers: Arc<Mutex<Vec<Ipv4Addr>>>) {
    let mut buffer = [0; 1500];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        let addresses = answers.lock().expect("not poisoned").clone();
        let Some(reply) = reply(&buffer[..length], &addresses) else { continue };
        let _ = socket.send_to(&reply, peer).await;
    }
}

fn reply(query: &[u8], addresses: &[Ipv4Addr]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = ResponseCode::NoError;
    if question.query_type() == RecordType::A {
        for ip in addresses {
            reply.answers.push(Record::from_rdata(question.name().clone(), 1, RData::A(A(*ip))));
        }
    }
    reply.queries.push(question);
    reply.to_vec().ok()
}

/// The IPv4 addresses among `addresses`.
pub fn v4(addresses: &[SocketAddr]) -> Vec<Ipv4Addr> {
    let v4 = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    };
    addresses.iter().filter_map(v4).collect()
}
