//! The daemon: wires the store, the proxy, the issuer, the Swarm watcher and the API together.

mod activation;
mod answers;
mod catalog;
mod certificate_book;
mod certificates;
mod certs_dir;
pub(crate) mod client_certificates;
mod demo;
mod dev;
mod handover;
pub(crate) mod import;
mod lock;
mod logging;
mod near;
mod node;
mod orchestrator;
mod registrar;
mod rotation;
mod routes;
mod signals;
mod supervisor;
mod swarm;
mod tickets;
pub(crate) mod tokens;
mod vault;
pub(crate) mod wishes;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

pub(crate) use catalog::CatalogBook;
pub(crate) use certificate_book::{CertificateBook, is_imported};
pub(crate) use client_certificates::{ClientCertificateBook, ClientCertificateError};
pub(crate) use import::NotImported;
pub(crate) use near::near;
pub(crate) use registrar::{Registered, Registrar};
pub(crate) use rotation::{Report, Rotation, RotationError};
pub(crate) use routes::RouteBook;
pub(crate) use signals::Stop;
pub(crate) use swarm::{PLAIN_SOURCE_PREFIX, Refused, SOURCE_PREFIX as SWARM_SOURCE_PREFIX, SwarmBook, draw};
pub(crate) use tokens::{Grant, TokenBook, TokenError};
pub(crate) use vault::Vault;
pub(crate) use wishes::WishError;

use crate::cli::Failure;
use crate::config::{Config, Mode, Process, listen_address};
use handover::Taker;
pub(crate) use node::upgrade::Request as UpgradeRequest;
use node::{Before, Next, Node};

/// `roo run`: runs a node until a signal, or until it can't go on.
pub(crate) fn run(flags: &BTreeMap<String, String>) -> Result<(), Failure> {
    let config = resolve(Mode::Run, flags)?;
    logging::start("info");
    let taker = Taker::begin()?;
    runtime()?
        .block_on(async {
            let stop = signals::Stop::listen()?;
            let before = match taker.map(Taker::split).transpose()? {
                Some((handed, waiting)) => Before { handed, waiting: Some(waiting) },
                None => Before { handed: activation::handed()?, waiting: None },
            };
            let node = Node::start(config, Mode::Run, before).await?;
            node.announce();
            node.run_until(stop).await
        })
        .and_then(|next| if next == Next::Restart { Err(restart()) } else { Ok(()) })
}

/// Becomes a new process with the same id, so that whoever supervises this one notices nothing. Returns only if that
/// fails.
fn restart() -> Failure {
    use std::os::unix::process::CommandExt;
    if activation::is_activated() {
        // The sockets are gone with this process; whoever holds them gives them to the next.
        return Failure::Failed("the node must be started again".to_owned());
    }
    let mut arguments = std::env::args_os();
    // Not the path of the running file, which may have been replaced by a new version.
    let program = arguments.next().unwrap_or_else(|| "roo".into());
    let error = std::process::Command::new(program).args(arguments).env_remove(handover::VARIABLE).exec();
    Failure::Failed(format!("the node can't start itself again: {error}; start it"))
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
