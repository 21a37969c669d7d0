//! How a cluster forms on a swarm.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use http::Method;

use crate::deploy::{self, Trust};
use crate::engine::Engine;
use crate::fleet::{Fleet, step};
use crate::image;
use crate::shell::run_now;
use crate::support::api::{request, send};
use crate::support::wait::until;

/// Each node of a cluster answers for a service by its label.
pub async fn each_node_answers(fleet: &Fleet) -> Result<()> {
    deploy::origin(fleet.node(1), "shop", &["--label", "roo.host=shop.test", "--label", "roo.origin.scheme=http"])
        .await?;
    step("each node answers");
    for node in fleet.nodes() {
        let address = SocketAddr::from((node.address, 80));
        until("the service answers", async || {
            let answer = send(address, request(Method::GET, "shop.test", "/hello", "")).await?;
            ensure!(answer.status == 200 && answer.text() == "/hello", "{answer:?}");
            Ok(())
        })
        .await?;
    }
    deploy::remove(fleet, "shop").await
}

/// The stack file alone makes one cluster: tasks of one service hand each other a secret, and nobody else gets it.
pub async fn the_stack_file_alone_makes_one_cluster(fleet: &mut Fleet) -> Result<()> {
    deploy::roo(fleet, Trust::Kin).await?;
    let nodes: Vec<&Engine> = fleet.nodes().iter().collect();
    let secret = deploy::verb(nodes[0], &["secret", "show", "--data-dir", "/data"]).await?;
    let (near, far) = (nodes[1], nodes[2]);

    step("containers on the same network that are no tasks of Roo's service");
    stranger(near, "bare", &["--network", "forenet", "--network-alias", "roo_roo"]).await?;
    says(near, "bare", "no Docker socket").await?;
    let socket = "/var/run/docker.sock:/var/run/docker.sock:ro";
    stranger(near, "seeing", &["--network", "forenet", "-v", socket]).await?;
    says(near, "seeing", "is no task of a Swarm service").await?;
    let own_secret = ["-e", "ROO_SECRET=a secret of its own choice"];
    stranger(near, "liar", &[&["--network", "forenet"], &own_secret[..]].concat()).await?;
    are_refused(&nodes, &address(near, "liar").await?).await?;

    step("one that has taken the address of a task");
    let forged = address(far, &far.container(deploy::ROO).await?).await?;
    let place = ["run", "-d", "--name", "place", "--network", "forenet", "--cap-add", "NET_ADMIN", image::ORIGIN];
    near.docker(&place).await?;
    take_address(near, "place", &forged).await?;
    stranger(near, "forger", &[&["--network", "container:place"], &own_secret[..]].concat()).await?;
    says(near, "forger", "waiting for").await?;

    step("none of them has got anything");
    for name in ["bare", "seeing", "liar", "forger"] {
        let shown = near.docker(&["exec", name, "/usr/bin/roo", "secret", "show", "--data-dir", "/data"]).await;
        ensure!(!shown.is_ok_and(|shown| shown.contains(&secret)), "{name} knows the secret");
        let status = near.docker(&["exec", name, "/usr/bin/roo", "status", "--json"]).await?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        ensure!(status["nodes"].as_array().is_none_or(Vec::is_empty), "{name} is a member: {}", status["nodes"]);
        near.docker(&["rm", "--force", "--volumes", name]).await?;
    }
    near.docker(&["rm", "--force", "place"]).await?;
    deploy::one_cluster(&nodes, 3).await
}

/// Starts Roo in a container that belongs to no service and looks for Roo's tasks.
async fn stranger(node: &Engine, name: &str, options: &[&str]) -> Result<()> {
    let fixed = ["run", "-d", "--name", name, "-e", "ROO_DNS=tasks.roo_roo.", "-e", "ROO_RESOLVER=127.0.0.11"];
    // Other ports: one of them shares its place with a service.
    let settings =
        ["-e", "ROO_SWARM=true", "-e", "ROO_ACME_DIRECTORY=internal", "-e", "ROO_HTTP=:81", "-e", "ROO_HTTPS=:444"];
    node.docker(&[&fixed[..], &settings, options, &[image::ROO, "run"]].concat()).await.map(drop)
}

/// Waits until a container has printed this.
async fn says(node: &Engine, container: &str, text: &str) -> Result<()> {
    until("the container says it", async || {
        let logs = node.docker_command(&["logs", container]).output().await?;
        let said = String::from_utf8_lossy(&[logs.stdout, logs.stderr].concat()).into_owned();
        ensure!(said.contains(text), "{container} says no `{text}`:\n{said}");
        Ok(())
    })
    .await
}

/// Waits until a node tells that it has refused whoever is at this address.
async fn are_refused(nodes: &[&Engine], address: &str) -> Result<()> {
    until("a node refuses the stranger", async || {
        for node in nodes {
            let container = node.container(deploy::ROO).await?;
            let logs = node.docker_command(&["logs", &container]).output().await?;
            let said = String::from_utf8_lossy(&[logs.stdout, logs.stderr].concat()).into_owned();
            if said.lines().any(|line| line.contains("refused a peer") && line.contains(&format!("\"{address}\""))) {
                return Ok(());
            }
        }
        anyhow::bail!("nobody has refused {address}")
    })
    .await
}

/// The address of a container in Roo's network.
async fn address(node: &Engine, container: &str) -> Result<String> {
    let format = "{{(index .NetworkSettings.Networks \"forenet\").IPAddress}}";
    let address = node.docker(&["inspect", "-f", format, container]).await?;
    Some(address).filter(|address| !address.is_empty()).context("a container without an address")
}

/// Gives a container another address, as one with `NET_ADMIN` can do itself.
async fn take_address(node: &Engine, container: &str, address: &str) -> Result<()> {
    let process = node.docker(&["inspect", "-f", "{{.State.Pid}}", container]).await?;
    let own = self::address(node, container).await?;
    let inside = |args: &[&str]| run_now("nsenter", &[&["-t", &process, "-n", "ip"], args].concat());
    let line = inside(&["-o", "-4", "addr", "show"])?;
    let line = line.lines().find(|line| line.contains(&format!(" {own}/"))).context("no such address")?.to_owned();
    let interface = line.split_whitespace().nth(1).context("no interface")?;
    inside(&["addr", "del", &format!("{own}/24"), "dev", interface])?;
    inside(&["addr", "add", &format!("{address}/24"), "dev", interface]).map(drop)
}
