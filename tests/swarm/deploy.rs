//! Roo on a fleet, deployed as the guide says, and services behind it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::engine::Engine;
use crate::fleet::{Fleet, step};
use crate::image::ORIGIN;
use crate::shell::{command, output};
use crate::support::wait::until;

/// The name of Roo's service.
pub const ROO: &str = "roo_roo";

/// How nodes get to know each other's good faith.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A Docker secret that all have.
    Secret,
    /// None: tasks of Roo's service know each other by what their engines tell.
    Kin,
}

/// Deploys Roo to all nodes and waits until they are one cluster.
pub async fn roo(fleet: &Fleet, trust: Trust) -> Result<()> {
    roo_with(fleet, trust, &[]).await
}

/// As [`roo`], with settings of the deploying shell.
pub async fn roo_with(fleet: &Fleet, trust: Trust, settings: &[(&str, &str)]) -> Result<()> {
    let manager = fleet.node(1);
    manager.docker(&["network", "create", "-d", "overlay", "--attachable", "forenet"]).await?;
    for id in manager.docker(&["node", "ls", "-q"]).await?.lines() {
        label(manager, id).await?;
    }
    step("docker stack deploy -c roo-docker-compose.yml roo");
    stack(manager, trust, settings).await?;
    let nodes: Vec<&Engine> = fleet.nodes().iter().collect();
    one_cluster(&nodes, nodes.len()).await
}

/// Has Roo run on a node.
pub async fn label(manager: &Engine, id: &str) -> Result<()> {
    manager.docker(&["node", "update", "--label-add", "load_balancer=true", id]).await.map(drop)
}

/// Deploys the stack file, with settings of the deploying shell.
pub async fn stack(manager: &Engine, trust: Trust, settings: &[(&str, &str)]) -> Result<()> {
    let file = repository("roo-docker-compose.yml");
    let mut deploy = manager.docker_command(&["stack", "deploy", "--resolve-image", "never", "-c"]);
    deploy.arg(&file);
    if trust == Trust::Secret {
        deploy.arg("-c").arg(secret_file(manager).await?);
    }
    // What the calling shell has set must not change what is tested.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ROO_")) {
        deploy.env_remove(name);
    }
    deploy.env("ROO_ACME_DIRECTORY", "internal").envs(settings.iter().copied()).arg("roo");
    output(deploy).await.map(drop)
}

/// The file of the guide that lets the service have the secret, which is made if it is not there.
async fn secret_file(manager: &Engine) -> Result<PathBuf> {
    let guide = std::fs::read_to_string(repository("docs/swarm.md"))?;
    let (_, rest) = guide.split_once("```yaml\n").context("docs/swarm.md has no file")?;
    let (file, _) = rest.split_once("```").context("docs/swarm.md: the file has no end")?;
    ensure!(file.contains("roo_secret"), "docs/swarm.md: the first file is not the one with the secret:\n{file}");
    let path = manager.path("roo-secret.yml");
    std::fs::write(&path, file)?;
    if manager.docker(&["secret", "ls", "-q", "--filter", "name=roo_secret"]).await?.is_empty() {
        let mut create = command("sh", &["-c", "openssl rand -hex 32 | docker secret create roo_secret -"]);
        create.env("DOCKER_HOST", manager.host());
        output(create).await?;
    }
    Ok(path)
}

fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

/// Waits until nodes are members of one cluster of that many, each of which all of them reach.
pub async fn one_cluster(nodes: &[&Engine], members: usize) -> Result<()> {
    until("all nodes are one cluster", async || {
        let mut clusters = Vec::new();
        for node in nodes {
            let status = status(node).await?;
            let rows = status["nodes"].as_array().context("no nodes")?;
            let reachable = rows.iter().filter(|row| row["state"] == "reachable").count();
            ensure!(rows.len() == members && reachable == members, "node {} has {}", node.number, status["nodes"]);
            clusters.push(status["cluster"].clone());
        }
        clusters.dedup();
        ensure!(clusters.len() == 1 && clusters[0].is_string(), "{clusters:?}");
        Ok(())
    })
    .await
}

/// Runs a verb of Roo in its task on a node.
pub async fn verb(node: &Engine, args: &[&str]) -> Result<String> {
    let container = node.container(ROO).await?;
    node.docker(&[&["exec", &container, "/usr/bin/roo"], args].concat()).await
}

/// What a node says of itself.
pub async fn status(node: &Engine) -> Result<Value> {
    let text = verb(node, &["status", "--json"]).await?;
    serde_json::from_str(&text).context(text)
}

/// Creates a service of the origin in Roo's network; `options` are those of `docker service create`.
pub async fn origin(manager: &Engine, name: &str, options: &[&str]) -> Result<()> {
    step(&format!("docker service create --name {name} {}", options.join(" ")));
    let fixed = ["service", "create", "--detach", "--no-resolve-image", "--network", "forenet", "--name", name];
    manager.docker(&[&fixed, options, &[ORIGIN]].concat()).await.map(drop)
}

/// Takes a service away and waits until no node knows of it.
pub async fn remove(fleet: &Fleet, service: &str) -> Result<()> {
    step(&format!("docker service rm {service}"));
    fleet.node(1).docker(&["service", "rm", service]).await?;
    for node in fleet.nodes() {
        until("the service is forgotten", async || {
            let routes = verb(node, &["route", "ls"]).await?;
            let services = verb(node, &["service", "ls"]).await?;
            ensure!(
                !routes.contains(service) && !services.contains(service),
                "node {}: {routes}{services}",
                node.number
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Waits until so many tasks of a service run, and none beside them.
pub async fn running(manager: &Engine, service: &str, count: usize) -> Result<()> {
    until("the tasks run", async || {
        let filter = ["service", "ps", "--filter", "desired-state=running", "--format", "{{.CurrentState}} {{.Error}}"];
        let states = manager.docker(&[&filter[..], &[service]].concat()).await?;
        let running = states.lines().filter(|state| state.starts_with("Running")).count();
        ensure!(running == count && states.lines().count() == count, "{service}:\n{states}");
        Ok(())
    })
    .await
}
