//! Connections that changed their protocol: WebSocket and whatever else both ends agree on.

use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};

use crate::activity::Phase;
use crate::connection::Client;
use crate::upstream::connection::Connection;

/// Bytes held per direction of a tunnel.
const BUFFER_BYTES: usize = 8 * 1024;

/// Copies until both directions have ended, one has failed, or nothing moved for the tunnel timeout. `input` is what
/// the client has sent already.
pub(crate) async fn tunnel<S>(client: &Client, stream: &mut S, input: &mut BytesMut, mut upstream: Box<Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    client.activity.enter(Phase::Tunnel);
    upstream.activity.enter(Phase::Untimed);
    let _open = OpenTunnel::new(client);
    tokio::select! {
        // Either end may hang up at any time; that is how tunnels end.
        _ = copy(stream, input, &mut upstream) => {}
        () = client.activity.expired() => {}
    }
}

/// As [`tunnel`], of a stream among others on the client's connection: what moves on those says nothing of this one.
pub(crate) async fn tunnel_stream<S>(client: &Client, stream: &mut S, mut upstream: Box<Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let activity = upstream.activity.clone();
    activity.enter(Phase::Tunnel);
    // Its silence is not the connection's.
    let _bounded = client.activity.wait();
    let _open = OpenTunnel::new(client);
    let mut nothing = BytesMut::new();
    tokio::select! {
        // Either end may hang up at any time; that is how tunnels end.
        _ = copy(stream, &mut nothing, &mut upstream) => {}
        () = activity.expired() => {}
    }
}

async fn copy<S>(stream: &mut S, input: &mut BytesMut, upstream: &mut Connection) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    upstream.stream.write_all_buf(input).await?;
    stream.write_all_buf(&mut upstream.input).await?;
    stream.flush().await?;
    upstream.stream.flush().await?;
    copy_bidirectional_with_sizes(stream, &mut upstream.stream, BUFFER_BYTES, BUFFER_BYTES).await?;
    Ok(())
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
