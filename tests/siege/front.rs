//! The node under siege, and a service behind it.

use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;

use crate::HOST;
use crate::support::cluster::{Node, Start};
use crate::support::context::Context;
use crate::support::https::Https;
use crate::support::upstream::Upstream;
use crate::support::wait::until;

/// A node with one proxy thread and a route for [`HOST`].
pub struct Front {
    pub node: Node,
    pub https: Https,
    _service: Upstream,
    _context: Context,
}

/// What the service sends for `/large`.
pub const LARGE_BYTES: usize = 16 << 20;

static LARGE: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![b'x'; LARGE_BYTES]));

impl Front {
    pub async fn start() -> Result<Front> {
        let (context, service) = (Context::new(), Upstream::serve(serve).await?);
        let node = Start::new(&context, "roo").spawn().await?;
        node.ready().await?;
        for scheme in ["http", "https"] {
            node.route(&format!("{HOST}:{scheme}"), &service.url()).await?;
        }
        let https = node.https_client().await?;
        let front = Front { node, https, _service: service, _context: context };
        until("the route is live", async || {
            ensure!(front.https.get(front.node.https, HOST, "/").await?.status == StatusCode::OK);
            Ok(())
        })
        .await?;
        Ok(front)
    }

    pub fn pid(&self) -> Result<u32> {
        self.node.process.id().context("the node has ended")
    }
}

async fn serve(request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/never" => std::future::pending().await,
        "/large" => Response::new(Full::from(LARGE.clone())),
        _ => Response::new(Full::from("fine")),
    }
}
