//! What the API and the command line tell of what goes on.

use anyhow::Context as _;
use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::api::{request, send};
use crate::support::cluster::Start;
use crate::support::context::{Context, roo_bin};
use crate::support::upstream::Upstream;
use crate::support::wait::until;
use crate::support::{Result, ensure};

#[tokio::test]
async fn connections_and_upstreams_are_shown() -> Result<()> {
    let context = Context::new();
    let upstream = Upstream::echo().await?;
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    node.route("shop.localhost:http", &upstream.url()).await?;
    until("the route is live", async || {
        let answer = send(node.http, request(Method::GET, "shop.localhost", "/", "")).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await?;
    let mut client = TcpStream::connect(node.http).await?;
    client.write_all(b"GET /half HTTP/1.1\r\nHost: shop").await?;
    let own = client.local_addr()?.to_string();
    until("the connection is shown", async || {
        let views = node.api.get("/roo/v1/connections").await?.json()?;
        let views = views.as_array().context("a list")?;
        let view = views.iter().find(|view| view["peer"] == own).with_context(|| format!("{views:?}"))?;
        ensure!(view["state"] == "head" && view["listener"] == "http" && view["requests"] == 0, "{view}");
        ensure!(view["received_bytes"] == 30, "{view}");
        Ok(())
    })
    .await?;
    let views = node.api.get("/roo/v1/upstreams").await?.json()?;
    let view = &views[0];
    ensure!(view["route"] == "shop.localhost:http" && view["state"] == "in" && view["active"] == 0, "{views}");
    ensure!(upstream.url().contains(view["address"].as_str().context("an address")?), "{views}");

    for verb in ["connection", "upstream"] {
        let mut command = tokio::process::Command::new(roo_bin());
        command.args([verb, "ls", "--limit", "5", "--addr", &node.api.address.to_string()]);
        let output = command.output().await?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let expected = if verb == "connection" { &own } else { "shop.localhost:http" };
        ensure!(output.status.success() && printed.contains(expected), "{verb}: {printed}");
    }
    for limit in ["0", "100001", "x"] {
        let answer = node.api.get(&format!("/roo/v1/connections?limit={limit}")).await?;
        ensure!(answer.status == 400, "{answer:?}");
    }
    Ok(())
}
