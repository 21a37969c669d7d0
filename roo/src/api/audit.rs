//! The audit log: who wrote what through the API, from where, and what became of it. A line for each call that is not
//! a read, also for those that were refused. Values, tokens and parameters are never in it.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use serde_json::json;
use tokio::sync::mpsc;

use super::ApiError;
use super::entry::REVISION;
use crate::config::Audit;

/// Lines that wait for the disk; whoever writes more waits with them, for a write that is not told is none.
const LINES_MAX: usize = 4096;

/// Where the lines go.
pub(crate) enum AuditLog {
    /// Nowhere.
    Off,
    /// To the log, at `info` under the target `roo::audit`.
    Log,
    /// To a file, through a thread that writes it.
    File(mpsc::Sender<String>),
}

/// A call that may change something.
pub(super) struct Write {
    remote: SocketAddr,
    method: Method,
    path: String,
}

/// How many operations a call asked for. A handler of several puts it into its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ops(pub(crate) usize);

impl Write {
    pub(super) fn of(request: &Request, remote: SocketAddr) -> Self {
        Self { remote, method: request.method().clone(), path: request.uri().path().to_owned() }
    }
}

impl AuditLog {
    /// Starts what it takes.
    pub(crate) fn start(audit: &Audit) -> Self {
        match audit {
            Audit::Off => Self::Off,
            Audit::Log => Self::Log,
            Audit::File(path) => {
                let (sender, lines) = mpsc::channel(LINES_MAX);
                let path = path.clone();
                tokio::task::spawn_blocking(move || keep(&path, lines));
                Self::File(sender)
            }
        }
    }

    /// Notes a call and how it ended. Waits only where more lines than the disk takes are to be kept in a file.
    pub(super) fn record(&self, write: &Write, who: &str, response: &Response) -> impl Future<Output = ()> + use<> {
        let Write { remote, method, path } = write;
        let status = response.status().as_u16();
        let code = response.extensions().get::<ApiError>().map(|error| error.code);
        let revision = response.headers().get(REVISION).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let ops = response.extensions().get::<Ops>().map(|ops| ops.0);
        let waiting = match self {
            Self::Off => None,
            Self::Log => {
                tracing::info!(target: "roo::audit", who, %remote, %method, path, ops, status, code, revision, "write");
                None
            }
            Self::File(lines) => {
                let line = json!({
                    "at": jiff::Timestamp::now().to_string(), "who": who, "remote": remote.to_string(),
                    "method": method.as_str(), "path": path, "ops": ops, "status": status, "code": code,
                    "revision": revision,
                });
                Some((lines.clone(), line.to_string()))
            }
        };
        async move {
            if let Some((lines, line)) = waiting {
                // Its thread ends with the process.
                let _ = lines.send(line).await;
            }
        }
    }
}

/// Writes lines as they come. The file is opened for each batch, so that it may be moved away at any time.
fn keep(path: &Path, mut lines: mpsc::Receiver<String>) {
    let mut broken = false;
    while let Some(first) = lines.blocking_recv() {
        let mut text = String::new();
        let _ = writeln!(text, "{first}");
        while let Ok(line) = lines.try_recv() {
            let _ = writeln!(text, "{line}");
        }
        match append(path, &text) {
            Ok(()) => broken = false,
            Err(error) => {
                if !broken {
                    tracing::error!(path = %path.display(), %error, "the audit log can't be written; it goes to this log");
                }
                broken = true;
                text.lines().for_each(|line| tracing::info!(target: "roo::audit", "{line}"));
            }
        }
    }
}

fn append(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.log");
        let log = AuditLog::start(&Audit::File(path.clone()));
        let write = Write {
            remote: "127.0.0.1:9".parse().expect("an address"),
            method: Method::PUT,
            path: "/roo/v1/kv/a".to_owned(),
        };
        let line = async || loop {
            match std::fs::read_to_string(&path) {
                Ok(text) if text.ends_with('\n') => break text,
                _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        };
        let response = || {
            let mut response = Response::new(axum::body::Body::empty());
            response.headers_mut().insert(REVISION, 7.into());
            response
        };
        log.record(&write, "ci", &response()).await;
        let first: serde_json::Value = serde_json::from_str(&line().await).expect("JSON");
        assert_eq!((first["who"].as_str(), first["revision"].as_u64()), (Some("ci"), Some(7)), "{first}");
        std::fs::rename(&path, dir.path().join("audit.1")).expect("moved");
        log.record(&write, "root", &response()).await;
        assert!(line().await.contains("root"));
    }
}
