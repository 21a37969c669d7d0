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
    let initial: Vec<String> = peers.iter().enumerate().map(|(k, peer)| format!("etcd-{k}=http://{peer}")).collect();
    let initial = initial.join(",");
    let mut members = Vec::new();
    for (k, (client, peer)) in clients.iter().zip(&peers).enumerate() {
        let name = format!("etcd-{k}");
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let mut command = Command::new(program::path("etcd"));
        command
            .args(["--name", &name, "--logger", "zap", "--log-level", "error"])
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &initial, "--initial-cluster-token", &peers[0].to_string()])
            .arg("--data-dir")
            .arg(context.path(&name));
        let server = Process::spawn(command, &context.path(&format!("{name}.log")))?.into();
        members.push(Member { address: *client, server });
    }
    Ok(Store { name: "etcd", dialect: Dialect::Etcd, members })
}

pub fn version() -> String {
    program::version(&program::path("etcd"), "--version")
}
