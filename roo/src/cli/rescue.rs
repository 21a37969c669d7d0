//! `roo rescue`.

use std::time::Duration;

use bytes::Bytes;
use clap::Args as ClapArgs;
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::client::ClientArgs;
use super::{Failure, output};

/// How long the node may take to start again.
const RESTART_TIMEOUT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    client: ClientArgs,
    /// Do it
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Deserialize)]
struct Rescued {
    cluster: String,
    former: Option<String>,
}

const WARNING: &str = "\
This makes the node the only one of a new cluster that has the data of this node. For when the majority of the voters
is lost for good, and for nothing else: what only the lost nodes had stored is lost. Should they come back, they are
refused until their data directories are emptied. Nothing was done; add --yes to do it.";

pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    if !args.yes {
        return Err(Failure::Usage(WARNING.to_owned()));
    }
    let body = args.client.send(Method::POST, "/roo/v1/rescue", Bytes::from_static(b"{\"yes\": true}")).await?;
    let rescued: Rescued = serde_json::from_slice(&body)
        .map_err(|error| Failure::Failed(format!("the node's answer is not understood: {error}")))?;
    let restarted = tokio::time::timeout(RESTART_TIMEOUT, restarted(&args.client, &rescued.cluster)).await;
    let Ok(status) = restarted else {
        return Err(Failure::Failed(format!(
            "the node has not started again within {} s; look at its log. It will be cluster {}",
            RESTART_TIMEOUT.as_secs(),
            rescued.cluster
        )));
    };
    if args.client.json {
        output::json(&status);
        return Ok(());
    }
    println!(
        "The node goes on alone as cluster {}, which was {}.",
        rescued.cluster,
        rescued.former.unwrap_or_default()
    );
    println!(
        "Start new nodes with its address, and the lost ones, should they come back, with empty data directories."
    );
    Ok(())
}

/// The status of the node once it leads the new cluster.
async fn restarted(client: &ClientArgs, cluster: &str) -> Value {
    loop {
        if let Ok(status) = client.json::<Value>("/roo/v1/status").await
            && status["cluster"] == cluster
            && status["state"] == "ready"
        {
            return status;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
