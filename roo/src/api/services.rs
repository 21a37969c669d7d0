//! `/roo/v1/services`: the services of the catalog and their instances.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use roo_discovery::{Address, Instance, InstanceId, Metadata, NodeName, ServiceName, Source, Weight};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{ApiError, Rights, Shared};
use crate::app::Registered;
use crate::keys;

/// `?node=`.
#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    node: Option<String>,
}

/// `?key=`.
#[derive(Debug, Deserialize)]
pub(super) struct FindQuery {
    key: Option<String>,
}

/// `GET /roo/v1/services`: one object per service, as this node knows them; with `?node=` one per instance on a node.
pub(super) async fn list(
    State(api): Shared,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let Query(ListQuery { node }) = query.map_err(|rejection| bad_query(&rejection))?;
    let catalog = api.catalog.now();
    Ok(Json(match node {
        Some(node) => {
            let on_it = catalog.nodes().find(|(name, _)| name.as_str() == node);
            on_it.into_iter().flat_map(|(_, instances)| instances).map(|instance| row(instance)).collect()
        }
        None => catalog.services().map(|(name, instances)| summary(name, instances)).collect(),
    }))
}

/// `GET /roo/v1/services/{service}`: its instances, as this node knows them; with `?key=` the one that the key belongs
/// to.
pub(super) async fn instances(
    State(api): Shared,
    service: Result<Path<ServiceName>, PathRejection>,
    query: Result<Query<FindQuery>, QueryRejection>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let Path(service) = service.map_err(|rejection| bad_path(&rejection))?;
    let Query(FindQuery { key }) = query.map_err(|rejection| bad_query(&rejection))?;
    let catalog = api.catalog.now();
    Ok(Json(match key {
        Some(key) => catalog.find(service.as_str(), &key).into_iter().map(row).collect(),
        None => catalog.instances(service.as_str()).iter().map(|instance| row(instance)).collect(),
    }))
}

/// `GET /roo/v1/services/{service}/{instance}`.
pub(super) async fn show(
    State(api): Shared,
    path: Result<Path<(ServiceName, InstanceId)>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path((service, id)) = path.map_err(|rejection| bad_path(&rejection))?;
    match api.catalog.now().instance(service.as_str(), id.as_str()) {
        Some(instance) => Ok(Json(row(instance))),
        None => Err(unknown(&service, &id)),
    }
}

/// `PUT /roo/v1/services/{service}/{instance}`: registers the instance, or keeps it alive.
pub(super) async fn register(
    State(api): Shared,
    rights: Rights,
    path: Result<Path<(ServiceName, InstanceId)>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path((service, id)) = path.map_err(|rejection| bad_path(&rejection))?;
    rights.check_write(keys::instance(&service, &id).as_str())?;
    let body = body.map_err(|rejection| bad_body(&rejection))?;
    let said: Registration = serde_json::from_slice(&body).map_err(|error| bad_instance(error.to_string()))?;
    let instance = Instance {
        service,
        id,
        address: said.address,
        node: said.node,
        source: Source::api(),
        state: roo_discovery::State::default(),
        weight: said.weight,
        metadata: said.metadata,
        ttl: said.ttl.map(|Ttl(ttl)| ttl),
    };
    let Registered { revision, written } = api.registrar.register(instance, said.state).await?;
    Ok(Json(json!({ "ok": true, "revision": revision, "written": written })))
}

/// `PATCH /roo/v1/services/{service}/{instance}`: says whether it takes new requests.
pub(super) async fn mark(
    State(api): Shared,
    rights: Rights,
    path: Result<Path<(ServiceName, InstanceId)>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path((service, id)) = path.map_err(|rejection| bad_path(&rejection))?;
    rights.check_write(keys::instance(&service, &id).as_str())?;
    let body = body.map_err(|rejection| bad_body(&rejection))?;
    let Mark { state } = serde_json::from_slice(&body).map_err(|error| bad_instance(error.to_string()))?;
    match api.registrar.mark(&service, &id, state).await? {
        Some(Registered { revision, written }) => {
            Ok(Json(json!({ "ok": true, "revision": revision, "written": written })))
        }
        None => Err(unknown(&service, &id)),
    }
}

/// What others may say of an instance.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    state: roo_discovery::State,
}

/// `DELETE /roo/v1/services/{service}/{instance}`: takes it out.
pub(super) async fn remove(
    State(api): Shared,
    rights: Rights,
    path: Result<Path<(ServiceName, InstanceId)>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path((service, id)) = path.map_err(|rejection| bad_path(&rejection))?;
    rights.check_write(keys::instance(&service, &id).as_str())?;
    match api.registrar.remove(&service, &id).await? {
        Some(revision) => Ok(Json(json!({ "ok": true, "revision": revision }))),
        None => Err(unknown(&service, &id)),
    }
}

/// What an instance says of itself when it registers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    address: Address,
    ttl: Option<Ttl>,
    /// Left out, it stays as it is.
    state: Option<roo_discovery::State>,
    #[serde(default)]
    weight: Weight,
    #[serde(default)]
    metadata: Metadata,
    node: Option<NodeName>,
}

/// `"15s"`, `"2m"`, or a number of seconds. Records hold whole milliseconds, so that the same text is the same record.
struct Ttl(Duration);

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "`ttl` is a time such as \"15s\" or a number of seconds")]
        enum Written {
            Text(String),
            Seconds(u64),
        }
        let ttl = match Written::deserialize(deserializer)? {
            Written::Text(text) => crate::config::duration(&text).map_err(serde::de::Error::custom)?,
            Written::Seconds(seconds) => Duration::from_secs(seconds),
        };
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Ok(Self(Duration::from_millis(millis)))
    }
}

fn summary(name: &ServiceName, instances: &[Arc<Instance>]) -> Value {
    let up = instances.iter().filter(|instance| instance.state == roo_discovery::State::Up).count();
    let nodes: BTreeSet<&NodeName> = instances.iter().filter_map(|instance| instance.node.as_ref()).collect();
    let sources: BTreeSet<&Source> = instances.iter().map(|instance| &instance.source).collect();
    json!({ "service": name, "instances": instances.len(), "up": up, "nodes": nodes, "sources": sources })
}

fn row(instance: &Instance) -> Value {
    json!({
        "service": instance.service,
        "id": instance.id,
        "address": instance.address,
        "node": instance.node,
        "source": instance.source,
        "state": instance.state,
        "weight": instance.weight,
        "ttl": instance.ttl.map(ttl_text),
        "metadata": instance.metadata,
    })
}

fn ttl_text(ttl: Duration) -> String {
    if ttl.subsec_millis() == 0 { format!("{}s", ttl.as_secs()) } else { format!("{}ms", ttl.as_millis()) }
}

fn unknown(service: &ServiceName, id: &InstanceId) -> ApiError {
    ApiError::not_found(format!("the service `{service}` has no instance `{id}`"))
        .hint(format!("`roo service ls {service}` lists those that there are"))
}

fn bad_path(rejection: &PathRejection) -> ApiError {
    bad_instance(rejection.body_text())
}

fn bad_instance(fault: impl Into<String>) -> ApiError {
    ApiError::bad_request("bad-instance", fault)
        .hint("for example PUT /roo/v1/services/shop/1 with {\"address\":\"10.0.0.7:8080\",\"ttl\":\"15s\"}")
}

fn bad_query(rejection: &QueryRejection) -> ApiError {
    ApiError::bad_request("bad-query", rejection.body_text())
}

fn bad_body(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let max = roo_discovery::RECORD_BYTES_MAX;
        return ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("an instance has at most {max} bytes"),
        );
    }
    ApiError::bad_request("bad-body", rejection.body_text())
}
