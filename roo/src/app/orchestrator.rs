//! Docker Swarm as what vouches for the nodes of a stack that nobody gave a secret.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use roo_kv::{Kin, KinNetwork, KinTask, Orchestrator};

use crate::config::DockerAt;

/// As this engine knows it.
#[derive(Debug)]
pub(super) struct Swarm(pub(super) DockerAt);

impl Orchestrator for Swarm {
    fn kin(&self) -> BoxFuture<'_, Result<Kin, String>> {
        let DockerAt { host, tls } = &self.0;
        let asking = roo_docker::kin(host.as_deref(), tls.as_ref());
        async move { asking.await.map(as_kin).map_err(|error| error.to_string()) }.boxed()
    }

    fn meant(&self) -> BoxFuture<'_, Result<Option<usize>, String>> {
        let DockerAt { host, tls } = &self.0;
        let asking = roo_docker::meant(host.as_deref(), tls.as_ref());
        async move { asking.await.map_err(|error| error.to_string()) }.boxed()
    }
}

fn as_kin(kin: roo_docker::Kin) -> Kin {
    let task = |endpoint: roo_docker::Endpoint| KinTask { address: endpoint.address, token: endpoint.id.into() };
    let networks = kin
        .networks
        .into_iter()
        .map(|network| KinNetwork { own: task(network.own), others: network.others.into_iter().map(task).collect() });
    Kin { service: kin.service, networks: networks.collect() }
}
