//! `roo dev`: one node, a demo service behind `demo.localhost`, and the line to try it with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use roo_kv::PutOptions;

use super::demo::Demo;
use super::node::{Before, Node};
use super::signals::Stop;
use crate::cli::Failure;
use crate::config::{Config, Mode};
use crate::keys;

const HOST: &str = "demo.localhost";
/// How long the first start may take to have a certificate.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let stop = Stop::listen()?;
    let demo = Demo::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let demo_address = demo.address;
    tokio::spawn(demo.serve());
    let node = Node::start(config, Mode::Dev, Before::default()).await?;
    let prepared = tokio::time::timeout(READY_TIMEOUT, prepare(&node, demo_address)).await;
    let root = prepared.unwrap_or_else(|_| Err(Failure::Failed("the node did not get ready in time".to_owned())))?;
    greet(&node, root.as_deref(), demo_address);
    node.run_until(stop).await.map(drop)
}

/// Sets the route, waits for its certificate and writes the root next to the data.
async fn prepare(node: &Node, demo: SocketAddr) -> Result<Option<PathBuf>, Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::Failed(format!("{what}: {error}"));
    node.ready().await;
    let origin = format!("{HOST}:https").parse().map_err(|error| failed("the demo route", &error))?;
    let route = serde_json::json!({ "to": [format!("http://{demo}")], "source": "demo" }).to_string();
    node.store()
        .put(keys::route(&origin), Bytes::from(route), PutOptions::default())
        .await
        .map_err(|error| failed("can't write the demo route", &error))?;
    if !node.issues_itself() {
        return Ok(None);
    }
    node.certificates().wait_for(HOST).await;
    let pem = node.vault().internal_root().await.unwrap_or_default();
    let path = node.data_dir().join("ca.pem");
    std::fs::write(&path, pem).map_err(|error| failed(&format!("can't write {}", path.display()), &error))?;
    Ok(Some(path))
}

fn greet(node: &Node, root: Option<&Path>, demo: SocketAddr) {
    println!("Roo is up.");
    for (name, address) in node.listeners() {
        println!("  {name:<6} {address}");
    }
    println!("  {:<6} {demo} (behind https://{HOST})", "demo");
    println!("  {:<6} {}", "data", node.data_dir().display());
    if let Some(root) = root {
        let https = node.https();
        println!("\nTry it:\n");
        println!(
            "  curl --cacert {} --resolve {HOST}:{}:{} https://{HOST}:{}/\n",
            root.display(),
            https.port(),
            https.ip(),
            https.port(),
        );
    }
    println!("Ctrl-C stops it.");
}
