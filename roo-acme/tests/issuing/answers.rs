//! The web server at port 80 of every name: gives the published answers, as any node would.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::vault::Cluster;

/// A running server; stops when dropped.
pub(crate) struct Answers {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Answers {
    pub(crate) async fn start(cluster: &Arc<Cluster>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cluster = cluster.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let cluster = cluster.clone();
                tokio::spawn(async move {
                    let _ = serve(stream, &cluster).await;
                });
            }
        });
        Self { port, task }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, cluster: &Cluster) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await?;
    let mut header = String::new();
    while stream.read_line(&mut header).await? > 2 {
        header.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let token = path.strip_prefix("/.well-known/acme-challenge/");
    let response = match token.and_then(|token| cluster.answer(token)) {
        Some(text) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len()),
        None => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
    };
    stream.get_mut().write_all(response.as_bytes()).await?;
    stream.get_mut().shutdown().await
}
