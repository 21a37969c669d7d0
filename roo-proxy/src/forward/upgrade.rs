//! Connections that change their protocol: WebSocket and whatever else both ends agree on.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response, Version};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::body::ResponseBody;
use super::hop;
use crate::activity::Phase;
use crate::connection::Client;
use crate::upstream::pool::Lease;

/// Bytes held per direction of a tunnel.
const BUFFER_BYTES: usize = 8 * 1024;

/// Answers the client 101 as the upstream did, and starts to copy bytes between the two.
pub(crate) fn accept(
    client: &Rc<Client>,
    upgrade: OnUpgrade,
    mut response: Response<Incoming>,
    lease: Lease,
) -> Response<ResponseBody> {
    let upstream = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    let protocol = parts.headers.get(UPGRADE).cloned();
    hop::response_fields(&mut parts.headers);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        parts.headers.insert(UPGRADE, protocol);
    }
    parts.version = Version::HTTP_11;
    client.activity.enter(Phase::Tunnel);
    lease.untimed();
    client.worker.tracker.spawn_local(tunnel(client.clone(), upgrade, upstream, lease));
    Response::from_parts(parts, ResponseBody::own(Bytes::new()))
}

/// Copies until both directions have ended, one has failed, or nothing moved for the tunnel timeout.
async fn tunnel(client: Rc<Client>, downstream: OnUpgrade, upstream: OnUpgrade, lease: Lease) {
    let within = client.worker.shared.config.timeouts.handshake;
    let both = async { tokio::try_join!(downstream, upstream) };
    let Ok(Ok((downstream, upstream))) = tokio::time::timeout(within, both).await else {
        return;
    };
    // From here on the streams are ours; the request side of the connection has ended.
    drop(lease);
    let _open = OpenTunnel::new(&client);
    tokio::select! {
        () = copy(downstream, upstream) => {}
        () = client.activity.expired() => {}
    }
}

async fn copy(downstream: Upgraded, upstream: Upgraded) {
    let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
    // Either end may hang up at any time; that is how tunnels end.
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER_BYTES, BUFFER_BYTES).await;
}

/// Counts a tunnel while it is there.
struct OpenTunnel<'a>(&'a Client);

impl OpenTunnel<'_> {
    fn new(client: &Client) -> OpenTunnel<'_> {
        client.worker.shared.counts.tunnels.fetch_add(1, Ordering::Relaxed);
        OpenTunnel(client)
    }
}

impl Drop for OpenTunnel<'_> {
    fn drop(&mut self) {
        self.0.worker.shared.counts.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}
