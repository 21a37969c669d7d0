//! `/roo/v1/explain`: what would become of a request, and why.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use roo_proxy::{Explanation, Forwarding, HostName, HostPattern, Origin, Scheme};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{Api, ApiError, Rights, Shared};
use crate::app::near;
use crate::keys;

/// `?url=`.
#[derive(Debug, Deserialize)]
pub(super) struct ExplainQuery {
    url: String,
}

/// `GET /roo/v1/explain?url=`: as this node would do. Takes no turn in the route's rotation.
pub(super) async fn explain(
    State(api): Shared,
    rights: Rights,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(ExplainQuery { url }) =
        query.map_err(|rejection| ApiError::bad_request("bad-query", rejection.body_text()))?;
    let asked = Asked::parse(&url)?;
    let mut told = json!({ "url": asked.url.as_str(), "node": api.store.status().node_id });
    match api.control.explain(asked.scheme, &asked.host, asked.url.port()).await {
        Explanation::Forward(forwarding) => forward(&api, &rights, &asked, &forwarding, &mut told).await?,
        Explanation::Redirect { port } => {
            told["outcome"] = json!("redirect");
            told["status"] = json!(308);
            told["location"] = json!(asked.redirect(port));
            told["why"] = json!("the host has a route for https and none for http");
        }
        Explanation::UnknownHost => {
            told["outcome"] = json!("unknown-host");
            // Over https there is no connection on which a status could be told.
            told["status"] = json!((asked.scheme == Scheme::Http).then_some(404));
            told["why"] = json!("no route has this host, port and scheme");
            told["near"] = nearest(&api, &rights, asked.origin()).await;
        }
    }
    Ok(Json(told))
}

/// What is asked for.
struct Asked {
    url: Url,
    scheme: Scheme,
    host: HostName,
}

impl Asked {
    /// Reads a URL; without a scheme it is https.
    fn parse(text: &str) -> Result<Self, ApiError> {
        let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&full).map_err(|error| bad_url(text, &error))?;
        let scheme = url.scheme().parse::<Scheme>().map_err(|error| bad_url(text, &error))?;
        let host = HostName::parse(url.host_str().unwrap_or_default()).map_err(|error| bad_url(text, &error))?;
        Ok(Self { url, scheme, host })
    }

    fn origin(&self) -> Origin {
        Origin::new(HostPattern::Exact(self.host.clone()), self.url.port(), self.scheme)
    }

    fn redirect(&self, port: u16) -> String {
        let port = if port == Scheme::Https.default_port() { String::new() } else { format!(":{port}") };
        let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("https://{}{port}{}{query}", self.host, self.url.path())
    }
}

fn bad_url(text: &str, fault: &dyn std::fmt::Display) -> ApiError {
    let shown: String = text.chars().take(200).collect();
    ApiError::bad_request("bad-url", format!("{shown:?} is no URL of a host: {fault}"))
        .hint("write one such as https://shop.example/")
}

async fn forward(
    api: &Api,
    rights: &Rights,
    asked: &Asked,
    forwarding: &Forwarding,
    told: &mut Value,
) -> Result<(), ApiError> {
    let origin: Origin = forwarding.origin.parse().map_err(|error| bad_url(&forwarding.origin, &error))?;
    let key = keys::route(&origin);
    rights.check_read(key.as_str())?;
    let (source, revision, error) = api.routes.origin_of(&key);
    told["outcome"] = json!("forward");
    told["route"] = json!({
        "origin": forwarding.origin,
        "rule": forwarding.rule,
        "key": key.as_str(),
        "source": source,
        "revision": revision,
        "error": error,
    });
    told["certificate"] = match asked.scheme {
        Scheme::Http => Value::Null,
        Scheme::Https => api.certificates.explain(&asked.host, &api.vault).await,
    };
    let ejection = &forwarding.ejection;
    told["settings"] = json!({
        "balance": forwarding.balance,
        "connect_timeout": text(forwarding.connect_timeout),
        "response_timeout": text(forwarding.response_timeout),
        "ejection": {
            "failures": ejection.failures,
            "backoff": text(ejection.backoff),
            "backoff_max": text(ejection.backoff_max),
            "percent_max": ejection.percent_max,
        },
    });
    told["instances"] = json!(forwarding.instances);
    Ok(())
}

fn text(duration: std::time::Duration) -> String {
    format!("{duration:?}")
}

/// Among many routes this takes a while: it is done apart from the calls that do not.
async fn nearest(api: &Api, rights: &Rights, asked: Origin) -> Value {
    let origins = api.routes.origins(|key| rights.may_read(key.as_str()));
    let found = tokio::task::spawn_blocking(move || near(&asked, origins.into_iter())).await.unwrap_or_default();
    found.into_iter().map(|near| json!({ "origin": near.origin.to_string(), "why": near.why })).collect()
}
