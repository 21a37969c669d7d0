//! `/roo/v1/certs`: certificates at hand, names that wait for one, and what can be done about them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use roo_acme::{Facts, ImportError, Managed, Meant, Reason, Revocation};
use roo_kv::{Op, OpResult, Txn};
use roo_proxy::HostPattern;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, ApiError, Shared};
use crate::app::import::{self, Import};
use crate::app::{NotImported, WishError, is_imported, wishes};
use crate::keys;

/// `{"reason": "keyCompromise", "renew": true}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    #[serde(default)]
    reason: Reason,
    #[serde(default = "yes")]
    renew: bool,
}

/// `{"certificate": PEM, "key": PEM, "force": false, "managed": "import", "source": null}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    certificate: String,
    key: String,
    #[serde(default)]
    force: bool,
    #[serde(default = "by_import")]
    managed: Managed,
    source: Option<String>,
}

fn by_import() -> Managed {
    Managed::Import
}

fn yes() -> bool {
    true
}

/// `GET /roo/v1/certs`.
pub(super) async fn list(State(api): Shared) -> Json<Vec<Value>> {
    Json(api.certificates.rows(&api.vault).await)
}

/// `GET /roo/v1/certs/{name}`.
pub(super) async fn show(State(api): Shared, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let pattern = pattern(&name)?;
    let routes = api.routes.served_by(&pattern);
    let shown = api.certificates.show(&pattern.to_string(), &api.vault, routes).await;
    let mut shown = shown.ok_or_else(|| unknown(&name))?;
    let now = jiff::Timestamp::now();
    // That the store can't be read now is told where it matters.
    let waiting = roo_acme::waiting(&*api.vault, &api.authority, &pattern.to_string(), now).await;
    shown["waits"] = json!(waiting.ok().flatten());
    Ok(Json(shown))
}

/// `POST /roo/v1/certs/{name}/renew`: asks the node that issues for another one.
pub(super) async fn renew(State(api): Shared, Path(name): Path<String>) -> Result<(StatusCode, Json<Value>), ApiError> {
    let name = pattern(&name)?.to_string();
    if !api.certificates.is_wanted(&name) {
        return Err(match api.certificates.facts(&name) {
            Some(_) => {
                ApiError::new(StatusCode::CONFLICT, "not-routed", format!("no https route has the host `{name}`"))
                    .hint("certificates are ordered for routes only: `roo route add`")
            }
            None => unknown(&name),
        });
    }
    ask(&api, &name, None).await
}

/// `POST /roo/v1/certs/{name}/revoke`: asks the node that issues to have it revoked.
pub(super) async fn revoke(
    State(api): Shared,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    let Revoke { reason, renew } = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request("bad-body", format!("the body says not how to revoke: {error}")))?;
    let name = pattern(&name)?.to_string();
    let facts = api.certificates.facts(&name).ok_or_else(|| unknown(&name))?;
    is_revocable(&name, &facts)?;
    // Without a route nothing takes its place.
    let renew = renew && api.certificates.is_wanted(&name);
    let certificate = api.vault.certificate(&name).await.ok_or_else(|| unknown(&name))?;
    let meant = Meant::both(&certificate);
    let meant =
        meant.map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()))?;
    let serial = Some(certificate.serial);
    ask(&api, &name, Some(Revocation { reason, renew, serial, meant: Some(meant) })).await
}

/// `PUT /roo/v1/certs`: stores a certificate under each of its names.
pub(super) async fn import(State(api): Shared, body: Bytes) -> Result<Json<Value>, ApiError> {
    // The parser's error is not passed on: it could quote the key.
    let pair: Pair = serde_json::from_slice(&body)
        .map_err(|_| bad_certificate("the body is not {\"certificate\": PEM, \"key\": PEM}".to_owned()))?;
    let checked = import::check(Import {
        chain_pem: pair.certificate,
        key_pem: pair.key,
        force: pair.force,
        managed: pair.managed,
        authority: pair.source,
    })?;
    import::store(&api.store, &api.vault, &checked).await?;
    let facts = checked.certificate.facts();
    Ok(Json(json!({
        "names": checked.names,
        "issuer": facts.issuer,
        "serial": facts.serial,
        "not_after": facts.not_after.to_string(),
        "managed": facts.managed,
    })))
}

/// `GET /roo/v1/certs/{name}/export`: the chain and its private key.
pub(super) async fn export(State(api): Shared, Path(name): Path<String>) -> Result<impl IntoResponse, ApiError> {
    let pattern = pattern(&name)?.to_string();
    let certificate = api.vault.certificate(&pattern).await.ok_or_else(|| unknown(&name))?;
    let second = certificate.second.map(|pair| json!({ "certificate": pair.chain_pem, "key": pair.key_pem }));
    let body = json!({ "certificate": certificate.chain_pem, "key": certificate.key_pem, "second": second });
    Ok(([(CACHE_CONTROL, "no-store")], Json(body)))
}

/// `DELETE /roo/v1/certs/{name}`. A name with a route is then ordered anew.
pub(super) async fn remove(State(api): Shared, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let name = pattern(&name)?.to_string();
    let delete = |key| Op::Delete { key };
    let success = vec![delete(keys::certificate(&name)), delete(keys::wish(&name))];
    let outcome = api.store.txn(Txn { compare: Vec::new(), success, failure: Vec::new() }).await?;
    match outcome.results.first() {
        Some(OpResult::Delete { existed: true }) => Ok(Json(json!({ "ok": true, "name": name }))),
        _ => Err(unknown(&name)),
    }
}

async fn ask(api: &Api, name: &str, revoke: Option<Revocation>) -> Result<(StatusCode, Json<Value>), ApiError> {
    let wish = wishes::ask(&api.store, &api.vault, name, revoke).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "name": name, "asked": wish.told() }))))
}

fn is_revocable(name: &str, facts: &Facts) -> Result<(), ApiError> {
    let refused = |why: &str, hint: &str| {
        Err(ApiError::new(StatusCode::CONFLICT, "not-revocable", format!("the certificate of `{name}` {why}"))
            .hint(hint))
    };
    if facts.authority == "internal" {
        return refused("is of the internal CA, which revokes none", "`roo cert renew` replaces it, with another key");
    }
    if is_imported(facts) {
        return refused("was brought in, and Roo has no account where it comes from", "revoke it there; `roo cert rm`");
    }
    Ok(())
}

fn pattern(name: &str) -> Result<HostPattern, ApiError> {
    name.parse().map_err(|_| unknown(name))
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!("there is no certificate for `{name}`, and none is needed"))
        .hint("`roo cert ls` lists those that there are; no https route has this host: `roo route ls`")
}

fn bad_certificate(text: String) -> ApiError {
    ApiError::bad_request("bad-certificate", text)
}

impl From<NotImported> for ApiError {
    fn from(error: NotImported) -> Self {
        let text = error.to_string();
        match error {
            NotImported::Store(error) => error.into(),
            NotImported::Seal(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text),
            NotImported::Unfit(ImportError::Expired { .. }) => {
                bad_certificate(text).hint("take it all the same: --force, or \"force\": true")
            }
            NotImported::Unfit(_) | NotImported::Unusable(_) | NotImported::NoHost { .. } => bad_certificate(text),
        }
    }
}

impl From<WishError> for ApiError {
    fn from(error: WishError) -> Self {
        match error {
            WishError::Store(error) => error.into(),
            WishError::Seal(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()),
        }
    }
}
