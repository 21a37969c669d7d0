//! HTTPS to the CA: bounded in time and size, with the roots we were given, and with an eye on `Retry-After`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};

use crate::authority::{AcmeConfig, AuthorityError};
use crate::clock::Clock;
use crate::settings::Settings;
use crate::transport::Transport;

/// The client handed to the ACME library.
#[derive(Clone)]
pub(super) struct Https {
    way: Way,
    timeout: Duration,
    clock: Clock,
}

/// How a request gets to the CA.
#[derive(Clone)]
enum Way {
    Network(Box<Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>>),
    Given(Arc<dyn Transport>),
}

impl Https {
    /// A client that trusts the configured roots, or else the system's, and bounds each exchange.
    /// Reads the system's trust store from disk; does not touch the network.
    pub(super) fn new(config: &AcmeConfig, settings: &Settings) -> Result<Self, AuthorityError> {
        let way = match &settings.transport {
            Some(transport) => Way::Given(transport.clone()),
            None => Way::network(config)?,
        };
        Ok(Self { way, timeout: settings.http_timeout, clock: settings.clock.clone() })
    }

    /// Sends `request`; what could be misread is an error.
    pub(super) async fn exchange(self, mut request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, HttpError> {
        let agent = HeaderValue::from_static(concat!("roo/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        let is_question = request.method() == Method::GET;
        let exchange = async {
            let (mut parts, body) = self.way.exchange(request).await?.into_parts();
            judge(parts.status, &parts.headers, &body, self.clock.now())?;
            if is_question && !parts.headers.contains_key(RETRY_AFTER) {
                // The library takes no advice on renewals without it.
                parts.headers.insert(RETRY_AFTER, HeaderValue::from_static(ASK_AFTER));
            }
            Ok(Response::from_parts(parts, body))
        };
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or(Err(HttpError::Timeout { timeout: self.timeout }))
    }
}

impl Way {
    fn network(config: &AcmeConfig) -> Result<Self, AuthorityError> {
        let roots = match config.extra_roots()? {
            Some(roots) => roots,
            None => system_roots()?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .enable_http2()
            .wrap_connector(connector);
        Ok(Self::Network(Box::new(Client::builder(TokioExecutor::new()).build(connector))))
    }

    async fn exchange(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, HttpError> {
        match self {
            Self::Network(client) => {
                let (parts, body) = client.request(request).await?.into_parts();
                Ok(Response::from_parts(parts, collect(body).await?))
            }
            Self::Given(transport) => {
                let (parts, body) = request.into_parts();
                let Ok(body) = body.collect().await;
                transport.exchange(Request::from_parts(parts, body.to_bytes())).await.map_err(HttpError::Transport)
            }
        }
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let exchange = self.clone().exchange(request);
        Box::pin(async move {
            let (parts, body) = exchange.await.map_err(|error| Error::Other(Box::new(error)))?.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// An exchange that brought nothing the ACME library could use.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("the connection failed")]
    Connection(#[from] hyper_util::client::legacy::Error),
    #[error("the connection failed")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {} s", timeout.as_secs_f32())]
    Timeout { timeout: Duration },
    /// 429, or a server in trouble (5xx).
    #[error("status {status}: {detail}")]
    Busy {
        status: u16,
        detail: String,
        /// Whether the CA counts our requests (429) rather than being in trouble.
        limited: bool,
        retry_at: Option<Timestamp>,
    },
    /// An error that is no ACME problem: a proxy in between, or a wrong URL.
    #[error("status {status} without an ACME problem; is this the directory's URL?")]
    NotAcme { status: u16 },
}

/// Takes out the answers that the library would misread: it does not see `Retry-After` of refusals, and
/// takes error pages for damaged JSON.
fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), HttpError> {
    let limited = status == StatusCode::TOO_MANY_REQUESTS;
    if limited || status.is_server_error() {
        return Err(HttpError::Busy {
            status: status.as_u16(),
            detail: detail(body),
            limited,
            retry_at: retry_at(headers, now),
        });
    }
    if status.is_client_error() && serde_json::from_slice::<serde_json::Value>(body).is_err() {
        return Err(HttpError::NotAcme { status: status.as_u16() });
    }
    Ok(())
}

/// `Retry-After`: seconds or a date (RFC 9110 section 10.2.3).
fn retry_at(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse::<u64>() {
        Ok(seconds) => now.saturating_add(Duration::from_secs(seconds)).ok(),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(value).ok()?;
            Some(date.timestamp())
        }
    }
}

/// The CA's words in a problem document, else nothing of what may be a whole page.
fn detail(body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let detail = problem.as_ref().and_then(|problem| problem.get("detail"));
    let text = detail.and_then(serde_json::Value::as_str);
    text.unwrap_or("no detail given").to_owned()
}

async fn collect(body: Incoming) -> Result<Bytes, HttpError> {
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    Ok(body.map_err(HttpError::Body)?.to_bytes())
}

fn system_roots() -> Result<RootCertStore, AuthorityError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(AuthorityError::NoSystemRoots {
            reason: match reasons.is_empty() {
                true => "none found".to_owned(),
                false => reasons.join("; "),
            },
        });
    }
    Ok(roots)
}

/// When to ask again for advice on a renewal if the CA does not say: 6 h, in seconds (RFC 9773 section 4.3.2).
const ASK_AFTER: &str = "21600";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Chains are a few KiB; directories and orders less.
const BODY_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(retry_after: &str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(retry_after).unwrap())])
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let at = |value: &str| retry_at(&headers(value), now).map(Timestamp::as_second);
        assert_eq!(at("120"), Some(1_800_000_120));
        assert_eq!(at(" 0 "), Some(1_800_000_000));
        assert_eq!(at("Fri, 15 Jan 2027 08:05:00 GMT"), Some(1_800_000_300));
        for nonsense in ["", "-5", "soon", "99999999999999999999999"] {
            assert_eq!(at(nonsense), None, "{nonsense}");
        }
        assert_eq!(retry_at(&HeaderMap::new(), now), None);
    }

    #[test]
    fn limits_troubles_and_pages_are_told_apart() {
        let judge = |status: u16, body: &str| {
            judge(StatusCode::from_u16(status).unwrap(), &headers("5"), body.as_bytes(), Timestamp::UNIX_EPOCH)
        };
        assert!(judge(200, "{}").is_ok());
        assert!(judge(400, "{\"type\":\"x\"}").is_ok());
        assert!(matches!(judge(404, "<html>"), Err(HttpError::NotAcme { status: 404 })));
        let limited = judge(429, "{\"detail\":\"too many\"}").unwrap_err();
        assert_eq!(limited.to_string(), "status 429: too many");
        assert!(matches!(limited, HttpError::Busy { limited: true, retry_at: Some(_), .. }));
        assert!(matches!(judge(503, "<html>"), Err(HttpError::Busy { limited: false, .. })));
    }
}
