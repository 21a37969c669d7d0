//! The daemon: wires the store, the proxy, the issuer, the Swarm watcher and the API together.

mod answers;
mod certificates;
mod demo;
mod dev;
mod lock;
mod logging;
mod node;
mod routes;
mod signals;
mod swarm;
mod vault;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

pub(crate) use certificates::CertificateBook;
pub(crate) use routes::RouteBook;
pub(crate) use swarm::{SOURCE_PREFIX as SWARM_SOURCE_PREFIX, SwarmBook};
pub(crate) use vault::Vault;

use crate::cli::Failure;
use crate::config::{Config, Mode, Process, listen_address};
use node::Node;

/// `roo run`: runs a node until a signal, or until it can't go on.
pub(crate) fn run(flags: &BTreeMap<String, String>) -> Result<(), Failure> {
    let config = resolve(Mode::Run, flags)?;
    logging::start("info");
    runtime()?.block_on(async {
        let stop = signals::Stop::listen()?;
        let node = Node::start(config, Mode::Run).await?;
        node.announce();
        node.run_until(stop).await
    })
}

/// `roo dev`: one node on loopback with a demo service behind it.
pub(crate) fn dev(flags: &BTreeMap<String, String>) -> Result<(), Failure> {
    let config = resolve(Mode::Dev, flags)?;
    logging::start("warn");
    runtime()?.block_on(dev::run(config))
}

/// `roo demo`: the demo service alone.
pub(crate) fn demo(listen: &str) -> Result<(), Failure> {
    let address = listen_address(listen, IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        .map_err(|fault| Failure::Usage(format!("--listen: {fault}")))?;
    runtime()?.block_on(async {
        let mut stop = signals::Stop::listen()?;
        let demo = demo::Demo::bind(address).await?;
        println!("demo listens on http://{}", demo.address);
        tokio::select! {
            () = demo.serve() => Ok(()),
            () = stop.asked() => Ok(()),
        }
    })
}

fn resolve(mode: Mode, flags: &BTreeMap<String, String>) -> Result<Config, Failure> {
    Config::resolve(mode, flags, &Process).map_err(|mistakes| Failure::Usage(mistakes.to_string()))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("roo")
        .build()
        .map_err(|error| Failure::Failed(format!("can't start a runtime: {error}")))
}
