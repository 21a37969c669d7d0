//! etcd, the peer of the store.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::process::Command;

use crate::store::{Dialect, Member, Store};
use crate::support::context::Context;
use crate::support::process::Process;
use crate::{ports, program};

/// A cluster of `N` nodes.
pub fn cluster<const N: usize>(context: &Context) -> Result<Store> {
    let (clients, peers): ([SocketAddr; N], [SocketAddr; N]) = (ports::free()?, ports::free()?);
    let mut members = Vec::new();
    for (k, client) in clients.iter().enumerate() {
        members.push(Member { address: *client, server: node(context, k, *client, &peers)?.into() });
    }
    Ok(Store { name: "etcd", dialect: Dialect::Etcd, members })
}

/// The `number`-th node of a cluster with these addresses for peers. Its data is in `etcd-<number>`.
pub fn node(context: &Context, number: usize, client: SocketAddr, peers: &[SocketAddr]) -> Result<Process> {
    let initial: Vec<String> = peers.iter().enumerate().map(|(k, peer)| format!("etcd-{k}=http://{peer}")).collect();
    let name = format!("etcd-{number}");
    let (client_url, peer_url) = (format!("http://{client}"), format!("http://{}", peers[number]));
    let mut command = Command::new(program::path("etcd"));
    command
        .args(["--name", &name, "--logger", "zap", "--log-level", "error"])
        .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", &initial.join(","), "--initial-cluster-token", &peers[0].to_string()])
        .arg("--data-dir")
        .arg(context.path(&name));
    Process::spawn(command, &context.path(&format!("{name}.log")))
}

pub fn version() -> String {
    program::version(&program::path("etcd"), "--version")
}
