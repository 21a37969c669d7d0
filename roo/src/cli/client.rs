//! A small client of the API: one request, one connection.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, HOST};
use http::response::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::RootCertStore;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Failure, output, tls};
use crate::config::Process;

/// What every verb that talks to a node takes.
#[derive(Debug, Clone, Args)]
pub(super) struct ClientArgs {
    /// The node's API: host:port, or an http or https URL [env: ROO_ADDR] [default: 127.0.0.1:6299]
    #[arg(long, global = true, value_name = "ADDR")]
    addr: Option<String>,
    /// The API's token [env: ROO_TOKEN, ROO_TOKEN_FILE, or derived from ROO_SECRET]
    #[arg(long, global = true, value_name = "TEXT")]
    token: Option<String>,
    /// The cluster's secret, from which token and CA follow [env: ROO_SECRET, ROO_SECRET_FILE]
    #[arg(long, global = true, value_name = "TEXT")]
    secret: Option<String>,
    /// Where a node on this machine keeps its data, to take the secret from there [env: ROO_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Speak TLS; an https URL means it too [env: ROO_API_TLS]
    #[arg(long, global = true)]
    tls: bool,
    /// Roots to trust, from `roo ca api`, in place of the secret's [env: ROO_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// How many seconds an answer may take
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30)]
    pub(super) timeout: u64,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// What is escaped in a path: everything but unreserved characters (RFC 3986, 2.3) and `/` and `:`.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b':');

/// `text` as it may stand in a path. A key that is `.` or `..`, or starts with `/`, survives because every dot
/// segment and every slash at its start is escaped.
pub(super) fn escape(text: &str) -> String {
    let escaped = utf8_percent_encode(text, PATH).to_string();
    escaped
        .split('/')
        .map(|segment| if segment.chars().all(|c| c == '.') { segment.replace('.', "%2E") } else { segment.to_owned() })
        .collect::<Vec<_>>()
        .join("%2F")
}

/// Runs a verb to its end.
pub(super) fn block_on(verb: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("can't start a runtime: {error}")))?
        .block_on(verb)
}

impl ClientArgs {
    /// Asks for JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let body = self.send(Method::GET, path, Bytes::new()).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Failure::Failed(format!("the answer to {path} is no JSON that this version knows: {error}"))
        })
    }

    /// Asks for a list of objects and prints it: as JSON, or as a table of some of their fields.
    pub(super) async fn list(&self, path: &str, columns: &[(&str, &str)]) -> Result<(), Failure> {
        let list: Value = self.json(path).await?;
        if self.json {
            output::json(&list);
            return Ok(());
        }
        let cells = |object: &Value| {
            columns.iter().map(|(_, field)| object.get(field).map(output::cell).unwrap_or_default()).collect()
        };
        let rows: Vec<Vec<String>> = list.as_array().into_iter().flatten().map(cells).collect();
        let head: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
        output::table(&head, &rows);
        Ok(())
    }

    /// Sends a request and collects the answer. Any status but success is a failure, with the node's own words.
    pub(super) async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        Ok(self.exchange(method, path, body).await?.1)
    }

    /// As [`send`](Self::send), for callers that look at the headers too.
    pub(super) async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(Parts, Bytes), Failure> {
        let exchange = async {
            let (head, body) = self.open(method, path, body).await?.into_parts();
            let collected = body.collect().await;
            let body = collected.map_err(|error| Failure::Unreachable(format!("the node hung up: {error}")))?;
            Ok((head, body.to_bytes()))
        };
        tokio::time::timeout(Duration::from_secs(self.timeout), exchange).await.unwrap_or_else(|_| {
            Err(Failure::Unreachable(format!("no answer from {} within {} s", self.address_text(), self.timeout)))
        })
    }

    /// Sends a request and leaves the body of the answer to be read as it comes.
    pub(super) async fn open(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Failure> {
        self.upload(method, path, Full::new(body)).await
    }

    /// The same, with a body that is sent as it comes.
    pub(super) async fn upload<B>(&self, method: Method, path: &str, body: B) -> Result<Response<Incoming>, Failure>
    where
        B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let Target { address, tls } = self.target()?;
        let roots = if tls { Some(self.roots()?) } else { None };
        let unreachable = |error: &dyn std::fmt::Display| {
            Failure::Unreachable(format!("no node answers at {address}: {error}; is `roo run` up, is --addr right?"))
        };
        let stream = TcpStream::connect(&address).await.map_err(|error| unreachable(&error))?;
        let stream: Box<dyn Stream> = match roots {
            Some(roots) => Box::new(tls::connect(roots, stream).await.map_err(|error| untrusted(&address, &error))?),
            None => Box::new(stream),
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, &address);
        if let Some(token) = self.token()? {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request =
            request.body(body).map_err(|error| Failure::Usage(format!("`{path}` can't be asked for: {error}")))?;
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    /// Whether a token is known.
    pub(super) fn has_token(&self) -> Result<bool, Failure> {
        self.token().map(|token| token.is_some())
    }

    /// Takes this token from now on.
    pub(super) fn give_token(&mut self, token: String) {
        self.token = Some(token);
    }

    /// What of the settings of a node was given by flags.
    pub(super) fn flags(&self) -> BTreeMap<String, String> {
        let given = [("secret", &self.secret), ("data-dir", &self.data_dir)];
        given.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.clone()?))).collect()
    }

    fn address_text(&self) -> String {
        self.target().map(|target| target.address).unwrap_or_default()
    }

    /// `--addr`, `ROO_ADDR`, or the loopback address with the port of `ROO_API`; by TLS if that or a setting says so.
    fn target(&self) -> Result<Target, Failure> {
        let told = || Ok(self.tls || crate::config::api_tls(&Process).map_err(Failure::Usage)?);
        if let Some(text) = self.addr.clone().or_else(|| env("ROO_ADDR")) {
            let (text, tls) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
                (Some(rest), _) => (rest, true),
                (_, Some(rest)) => (rest, self.tls),
                _ => (text.as_str(), told()?),
            };
            let text = text.trim_end_matches('/');
            let address = if text.contains(':') { text.to_owned() } else { format!("{text}:6299") };
            return Ok(Target { address, tls });
        }
        let tls = told()?;
        let Some(api) = env("ROO_API") else { return Ok(Target { address: "127.0.0.1:6299".to_owned(), tls }) };
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listen = crate::config::listen_address(&api, local).map_err(|m| Failure::Usage(format!("ROO_API: {m}")))?;
        let ip = if listen.ip().is_unspecified() { local } else { listen.ip() };
        Ok(Target { address: SocketAddr::new(ip, listen.port()).to_string(), tls })
    }

    /// Whom to trust.
    fn roots(&self) -> Result<RootCertStore, Failure> {
        if let Some(path) = self.ca_file.clone().or_else(|| env("ROO_CA_FILE").map(PathBuf::from)) {
            return tls::roots_in(&path);
        }
        tls::roots_of(&crate::config::known_secrets(&self.flags(), &Process).map_err(Failure::Usage)?)
    }

    fn derived_token(&self) -> Result<Option<String>, String> {
        let flags = self.flags();
        match crate::config::api_token(&flags, &Process)? {
            None if self.data_dir.is_some() => crate::config::data_dir_token(&flags, &Process).map(Some),
            token => Ok(token),
        }
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        match &self.token {
            Some(token) => Ok(Some(token.clone())),
            None => self.derived_token().map_err(Failure::Usage),
        }
    }
}

/// Where a verb calls.
struct Target {
    address: String,
    tls: bool,
}

/// A connection, plain or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn untrusted(address: &str, error: &std::io::Error) -> Failure {
    Failure::Unreachable(format!(
        "no TLS with {address}: {error}; has the node --api-tls, and is the secret, --data-dir or --ca-file that of its \
         cluster?"
    ))
}

/// What the node said when it refused, with its hint.
async fn refusal(response: Response<Incoming>) -> Failure {
    let status = response.status();
    let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let said = serde_json::from_slice::<Value>(&body).ok();
    let part = |name: &str| said.as_ref().and_then(|value| value.get(name)).and_then(|value| value.as_str());
    let text = match (part("error"), part("hint")) {
        (Some(error), Some(hint)) => format!("{error}\n{hint}"),
        (Some(error), None) => error.to_owned(),
        (None, _) => format!("the node answered {status}: {}", String::from_utf8_lossy(&body)),
    };
    match status {
        StatusCode::BAD_REQUEST => Failure::Usage(text),
        _ => Failure::Failed(text),
    }
}
