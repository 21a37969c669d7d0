//! HTTP/1 towards clients.

use std::pin::{Pin, pin};
use std::rc::Rc;

use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::{Client, Graceful, drive};
use crate::exchange;
use crate::forward::ResponseBody;

/// Serves requests one after the other until the connection ends.
pub(crate) async fn serve<S>(stream: S, client: Rc<Client>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let owner = client.clone();
    let service = service_fn(move |request| exchange::handle(owner.clone(), request));
    let connection = builder(&client).serve_connection(TokioIo::new(stream), service).with_upgrades();
    drive(&client, pin!(connection)).await;
}

fn builder(client: &Client) -> http1::Builder {
    // The limit itself is kept in the walk, where the answer can say so; here is the bound on memory,
    // beyond which hyper ends the connection with a bare 431.
    let header_bytes = client.worker.shared.config.limits.header_bytes.max(1).saturating_mul(2);
    let mut builder = http1::Builder::new();
    builder
        // The sweep keeps the time, without a timer per request.
        .header_read_timeout(None)
        .max_header_size(header_bytes)
        .max_buf_size(header_bytes.max(BUFFER_BYTES_MIN))
        // A client that has hung up is not worth its upstream's work.
        .half_close(false);
    builder
}

/// hyper wants no less than 8 KiB; larger reads cost fewer calls.
const BUFFER_BYTES_MIN: usize = 64 * 1024;

impl<I, S> Graceful for http1::UpgradeableConnection<I, S>
where
    S: HttpService<hyper::body::Incoming, ResBody = ResponseBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
