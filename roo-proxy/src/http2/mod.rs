//! HTTP/2 towards clients.

mod body;
mod budget;
mod exchange;
mod frames;
mod metered;
mod websocket;

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use body::ResponseBody;
use hyper::rt::Executor;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metered::Metered;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::activity::Phase;
use crate::connection::{Client, apart};

/// Serves streams side by side until the connection ends.
pub(crate) async fn serve<S>(stream: S, client: Rc<Client>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let owner = client.clone();
    // A stream's task is moved several times before it runs: what it does is not moved with it.
    let service = service_fn(move |request| apart(|| exchange::handle(owner.clone(), request)));
    let stream = Metered::new(stream, client.clone());
    let connection = builder(&client).serve_connection(TokioIo::new(stream), service);
    drive(&client, pin!(connection)).await;
}

/// A connection that can be asked to end after the exchanges under way.
trait Graceful: Future {
    fn finish(self: Pin<&mut Self>);
}

/// How long an idle connection may take to say goodbye.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// Drives a connection until it ends, the worker drains, or its time is over.
async fn drive<C: Graceful>(client: &Client, mut connection: Pin<&mut C>) {
    let drain = std::future::poll_fn(|context| client.activity.poll_drain(context));
    tokio::select! {
        // What ended it is the client's affair.
        _ = connection.as_mut() => return,
        () = client.activity.expired() => {
            if client.activity.phase() == Phase::Idle {
                connection.as_mut().finish();
                let _ = tokio::time::timeout(GOODBYE_WITHIN, connection).await;
            }
            return;
        }
        () = drain => {}
    }
    tokio::select! {
        _ = finish(client, connection) => {}
        () = client.activity.expired() => {}
    }
}

/// Ends a connection in a drain. One that is new gets a moment to bring the request it was made for:
/// its client could not know.
async fn finish<C: Graceful>(client: &Client, mut connection: Pin<&mut C>) {
    if client.asked.get() == 0 && tokio::time::timeout(FIRST_REQUEST_WITHIN, connection.as_mut()).await.is_ok() {
        return;
    }
    connection.as_mut().finish();
    // What ended it is the client's affair.
    let _ = connection.await;
}

const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(1);

fn builder(client: &Client) -> http2::Builder<OnThisThread> {
    let limits = &client.worker.shared.config.limits;
    // As in HTTP/1: the limit is kept in the walk, this bounds the memory.
    let header_bytes = u32::try_from(limits.header_bytes.max(1).saturating_mul(2)).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(OnThisThread);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams.max(1))
        .max_header_list_size(header_bytes)
        .enable_connect_protocol()
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN);
    builder
}

/// Finds clients that vanished without a word.
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// Streams run beside their connection, on its worker.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F> Executor<F> for OnThisThread
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        // Its own task: a panic in one stream leaves the others alone.
        tokio::task::spawn_local(future);
    }
}

impl<I, S, E> Graceful for http2::Connection<I, S, E>
where
    S: HttpService<hyper::body::Incoming, ResBody = ResponseBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    E: Http2ServerConnExec<S::Future, ResponseBody>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
