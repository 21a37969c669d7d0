//! `/roo/v1/txn`: several reads and writes at once, all or none, if conditions hold.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roo_kv::{Compare, Expect, Fact, Op, OpResult, Operator, PAGE_ENTRIES_MAX, Revision, Test, Txn};
use serde::Deserialize;
use serde_json::{Value, json};

use super::audit::Ops;
use super::entry::{facts, revision_header};
use super::{Api, ApiError, Rights, Shared, key, lease};

/// Most bytes of a transaction as JSON: in base64 values take a third more than in the store.
pub(super) const BODY_BYTES_MAX: usize = 2 * roo_kv::TXN_BYTES_MAX;

/// Keys of a range, where the caller sets no limit.
const LIMIT_DEFAULT: u32 = 1000;

/// The body of a call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    compare: Vec<CompareForm>,
    #[serde(default)]
    success: Vec<OpForm>,
    #[serde(default)]
    failure: Vec<OpForm>,
}

/// One condition: a key, an operator, and one fact.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareForm {
    key: String,
    #[serde(default)]
    operator: OperatorName,
    exists: Option<bool>,
    value: Option<String>,
    text: Option<String>,
    version: Option<u64>,
    create_revision: Option<u64>,
    mod_revision: Option<u64>,
    lease: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OperatorName {
    #[default]
    #[serde(alias = "=")]
    Equal,
    #[serde(alias = "!=")]
    NotEqual,
    #[serde(alias = ">")]
    Greater,
    #[serde(alias = "<")]
    Less,
}

impl From<OperatorName> for Operator {
    fn from(name: OperatorName) -> Self {
        match name {
            OperatorName::Equal => Self::Equal,
            OperatorName::NotEqual => Self::NotEqual,
            OperatorName::Greater => Self::Greater,
            OperatorName::Less => Self::Less,
        }
    }
}

/// One step.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
enum OpForm {
    Get { key: String },
    GetPrefix { prefix: String, limit: Option<u32> },
    Put { key: String, value: Option<String>, text: Option<String>, lease: Option<String> },
    Delete { key: String },
    DeletePrefix { prefix: String },
}

/// `POST /roo/v1/txn`.
pub(super) async fn run(
    State(api): Shared,
    rights: Rights,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("a transaction has at most {BODY_BYTES_MAX} bytes of JSON"),
        ),
        _ => ApiError::bad_request("bad-body", rejection.body_text()),
    })?;
    let txn = parse(&body)?;
    check(&rights, &txn)?;
    let outcome = api.store.txn(txn.clone()).await?;
    let ops = if outcome.succeeded { &txn.success } else { &txn.failure };
    let results: Vec<Value> =
        ops.iter().zip(&outcome.results).map(|(op, result)| shown(&api, &rights, op, result)).collect();
    let answer = json!({ "succeeded": outcome.succeeded, "revision": outcome.revision, "results": results });
    let steps = Extension(Ops(txn.success.len().max(txn.failure.len())));
    Ok((steps, revision_header(outcome.revision), Json(answer)).into_response())
}

/// Whether the caller may do all of it, whichever branch will run. Of a range it is shown what it may read.
fn check(rights: &Rights, txn: &Txn) -> Result<(), ApiError> {
    txn.compare.iter().try_for_each(|compare| rights.check_read(compare.key.as_str()))?;
    txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
        Op::Get { key } => rights.check_read(key.as_str()),
        Op::Put { key, .. } | Op::Delete { key } => rights.check_write(key.as_str()),
        Op::DeletePrefix { prefix } => rights.check_write(prefix),
        Op::GetPrefix { .. } => Ok(()),
    })
}

fn parse(body: &[u8]) -> Result<Txn, ApiError> {
    let document: Document = serde_json::from_slice(body).map_err(|error| {
        bad(format!("the transaction can't be read: {error}"))
            .hint("it is a JSON object with the lists `compare`, `success` and `failure`")
    })?;
    let ops = |forms: Vec<OpForm>| forms.into_iter().map(op).collect::<Result<Vec<Op>, ApiError>>();
    Ok(Txn {
        compare: document.compare.into_iter().map(compare).collect::<Result<_, _>>()?,
        success: ops(document.success)?,
        failure: ops(document.failure)?,
    })
}

fn compare(form: CompareForm) -> Result<Compare, ApiError> {
    let key = key::canonical(form.key)?;
    let compares_value = form.value.is_some() || form.text.is_some();
    if compares_value {
        key::comparable(&key)?;
    }
    let value = match (form.value, form.text) {
        (None, None) => None,
        (value, text) => Some(Fact::Value(bytes(value, text)?)),
    };
    let given = [
        value,
        form.version.map(Fact::Version),
        form.create_revision.map(|revision| Fact::CreateRevision(Revision(revision))),
        form.mod_revision.map(|revision| Fact::ModRevision(Revision(revision))),
        form.lease.as_deref().map(lease_fact).transpose()?,
    ];
    let mut facts = given.into_iter().flatten();
    let test = match (form.exists, facts.next(), facts.next()) {
        (None, Some(fact), None) => Test::Fact { operator: form.operator.into(), fact },
        (Some(exists), None, None) if form.operator == OperatorName::Equal => {
            Test::Expect(if exists { Expect::Present } else { Expect::Absent })
        }
        (Some(_), None, None) => return Err(bad("`exists` has no operator")),
        _ => {
            return Err(bad(format!("the comparison of `{key}` does not name exactly one fact")).hint(
                "one of `exists`, `value` (base64), `text`, `version`, `create_revision`, `mod_revision`, `lease`",
            ));
        }
    };
    Ok(Compare { key, test })
}

/// `""`: on no lease.
fn lease_fact(text: &str) -> Result<Fact, ApiError> {
    Ok(Fact::Lease(if text.is_empty() { None } else { Some(lease::id(text)?) }))
}

fn op(form: OpForm) -> Result<Op, ApiError> {
    Ok(match form {
        OpForm::Get { key } => Op::Get { key: key::canonical(key)? },
        OpForm::GetPrefix { limit: Some(0), .. } => return Err(bad("`limit` must be at least 1")),
        OpForm::GetPrefix { prefix, limit } => {
            let max = u32::try_from(PAGE_ENTRIES_MAX).unwrap_or(u32::MAX);
            Op::GetPrefix { prefix, limit: limit.unwrap_or(LIMIT_DEFAULT).min(max) }
        }
        OpForm::Put { key, value, text, lease } => {
            let key = key::canonical(key)?;
            let value = bytes(value, text)?;
            key::accepts(&key, &value)?;
            Op::Put { key, value, lease: lease.as_deref().map(lease::id).transpose()? }
        }
        OpForm::Delete { key } => {
            let key = key::canonical(key)?;
            key::writable(&key)?;
            Op::Delete { key }
        }
        OpForm::DeletePrefix { prefix } => {
            key::sweepable(&prefix)?;
            Op::DeletePrefix { prefix }
        }
    })
}

/// A value, in base64 or as text.
fn bytes(value: Option<String>, text: Option<String>) -> Result<Bytes, ApiError> {
    match (value, text) {
        (Some(value), None) => {
            STANDARD.decode(&value).map(Bytes::from).map_err(|error| bad(format!("`value` is not base64: {error}")))
        }
        (None, Some(text)) => Ok(Bytes::from(text)),
        (None, None) => Err(bad("a value is missing").hint("give `value` in base64, or `text`")),
        (Some(_), Some(_)) => Err(bad("both `value` and `text` are given").hint("give one of them")),
    }
}

fn shown(api: &Arc<Api>, rights: &Rights, op: &Op, result: &OpResult) -> Value {
    let many = |entries: &[(roo_kv::Key, roo_kv::Entry)]| {
        let readable = entries.iter().filter(|(key, _)| rights.may_read(key.as_str()));
        readable.map(|(key, entry)| facts(api, key, entry)).collect::<Vec<_>>()
    };
    match (op, result) {
        (Op::Get { key }, OpResult::Get(entry)) => {
            json!({ "op": "get", "key": key, "entry": entry.as_ref().map(|entry| facts(api, key, entry)) })
        }
        (Op::GetPrefix { prefix, .. }, OpResult::GetPrefix { entries, more }) => {
            json!({ "op": "get-prefix", "prefix": prefix, "entries": many(entries), "more": more })
        }
        (Op::Put { key, .. }, _) => json!({ "op": "put", "key": key }),
        (Op::Delete { key }, OpResult::Delete { existed }) => {
            json!({ "op": "delete", "key": key, "deleted": u8::from(*existed) })
        }
        (Op::DeletePrefix { prefix }, OpResult::DeletePrefix { deleted }) => {
            json!({ "op": "delete-prefix", "prefix": prefix, "deleted": deleted })
        }
        // A result always fits its step.
        _ => Value::Null,
    }
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("bad-txn", message)
}

#[cfg(test)]
mod tests {
    use roo_kv::LeaseId;

    use super::super::Scope;
    use super::*;

    fn refused(text: &str) -> &'static str {
        parse(text.as_bytes()).err().map(|error| error.code).unwrap_or("nothing")
    }

    #[test]
    fn a_document_becomes_a_transaction() {
        let txn = parse(
            br#"{"compare": [{"key": "a", "text": "x"}, {"key": "a", "operator": ">", "mod_revision": 3},
                             {"key": "b", "exists": false}, {"key": "a", "operator": "!=", "lease": ""}],
                 "success": [{"op": "put", "key": "b", "value": "AAE=", "lease": "1f"}, {"op": "get-prefix", "prefix": "a"}],
                 "failure": [{"op": "delete", "key": "a"}, {"op": "delete-prefix", "prefix": "c/"}, {"op": "get", "key": "d"}]}"#,
        )
        .expect("a transaction");
        let tests: Vec<Test> = txn.compare.into_iter().map(|compare| compare.test).collect();
        assert_eq!(
            tests,
            [
                Test::Fact { operator: Operator::Equal, fact: Fact::Value(Bytes::from_static(b"x")) },
                Test::Fact { operator: Operator::Greater, fact: Fact::ModRevision(Revision(3)) },
                Test::Expect(Expect::Absent),
                Test::Fact { operator: Operator::NotEqual, fact: Fact::Lease(None) },
            ]
        );
        let key = |name: &str| name.parse().expect("a key");
        let value = Bytes::from_static(&[0, 1]);
        let put = Op::Put { key: key("b"), value, lease: Some(LeaseId(0x1f)) };
        assert_eq!(txn.success, [put, Op::GetPrefix { prefix: "a".to_owned(), limit: LIMIT_DEFAULT }]);
        let sweep = Op::DeletePrefix { prefix: "c/".to_owned() };
        assert_eq!(txn.failure, [Op::Delete { key: key("a") }, sweep, Op::Get { key: key("d") }]);
        assert_eq!(parse(b"{}").ok(), Some(Txn::default()));
    }

    #[test]
    fn routes_are_checked_and_spelled_as_in_a_put() {
        let route = |origin: &str, to: &str| {
            format!(r#"{{"success": [{{"op": "put", "key": "com.roo.host:{origin}", "text": "{to}"}}]}}"#)
        };
        let txn = parse(route("A.Example:443:https", "http://127.0.0.1:1").as_bytes()).expect("a transaction");
        assert!(matches!(&txn.success[..], [Op::Put { key, .. }] if key.as_str() == "com.roo.host:a.example:https"));
        assert_eq!(refused(&route("a.example:https", "nonsense")), "bad-route");
        assert_eq!(refused(&route("a..example:https", "http://127.0.0.1:1")), "bad-origin");
    }

    #[test]
    fn what_belongs_to_roo_is_refused() {
        for text in [
            r#"{"success": [{"op": "put", "key": "com.roo.ca", "text": "x"}]}"#,
            r#"{"failure": [{"op": "delete", "key": "com.roo.ca"}]}"#,
            r#"{"success": [{"op": "delete-prefix", "prefix": ""}]}"#,
            r#"{"success": [{"op": "delete-prefix", "prefix": "com.r"}]}"#,
            r#"{"success": [{"op": "delete-prefix", "prefix": "com.roo.cache:"}]}"#,
            r#"{"compare": [{"key": "com.roo.acme.answer:x", "operator": "<", "text": "m"}]}"#,
        ] {
            assert_eq!(refused(text), "reserved-key", "{text}");
        }
        for text in [
            r#"{"success": [{"op": "delete-prefix", "prefix": "com.roo.host:"}]}"#,
            r#"{"success": [{"op": "delete-prefix", "prefix": "com.roost"}]}"#,
            r#"{"compare": [{"key": "com.roo.lock:x", "exists": true}]}"#,
        ] {
            assert!(parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn every_step_needs_its_right() {
        let under = |prefix: &str| Scope::of(&[prefix.to_owned()]);
        let rights = Rights::within("ci", under("a/"), under("a/b/"));
        let allowed = |text: &str| check(&rights, &parse(text.as_bytes()).expect("a transaction")).is_ok();
        for (text, expected) in [
            (r#"{"compare": [{"key": "a/x", "exists": true}], "success": [{"op": "get", "key": "a/x"}]}"#, true),
            (r#"{"compare": [{"key": "x", "exists": true}]}"#, false),
            (r#"{"failure": [{"op": "get", "key": "x"}]}"#, false),
            (r#"{"success": [{"op": "put", "key": "a/b/x", "text": ""}, {"op": "delete", "key": "a/b/y"}]}"#, true),
            (r#"{"failure": [{"op": "put", "key": "a/x", "text": ""}]}"#, false),
            (r#"{"success": [{"op": "delete-prefix", "prefix": "a/b/"}]}"#, true),
            (r#"{"success": [{"op": "delete-prefix", "prefix": "a/"}]}"#, false),
        ] {
            assert_eq!(allowed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in [
            "",
            r#"{"sucess": []}"#,
            r#"{"success": [{"op": "put", "key": "a"}]}"#,
            r#"{"success": [{"op": "put", "key": "a", "text": "b", "value": "Yg=="}]}"#,
            r#"{"success": [{"op": "put", "key": "a", "value": "?"}]}"#,
            r#"{"success": [{"op": "append", "key": "a"}]}"#,
            r#"{"success": [{"op": "get", "key": "a", "limit": 1}]}"#,
            r#"{"success": [{"op": "get-prefix", "prefix": "a", "limit": 0}]}"#,
            r#"{"compare": [{"key": "a"}]}"#,
            r#"{"compare": [{"key": "a", "version": 1, "exists": true}]}"#,
            r#"{"compare": [{"key": "a", "version": 1, "mod_revision": 2}]}"#,
            r#"{"compare": [{"key": "a", "operator": "like", "text": "b"}]}"#,
            r#"{"compare": [{"key": "a", "operator": ">", "exists": true}]}"#,
        ] {
            assert_eq!(refused(text), "bad-txn", "{text}");
        }
        assert_eq!(refused(r#"{"success": [{"op": "get", "key": ""}]}"#), "bad-key");
        assert_eq!(refused(r#"{"success": [{"op": "put", "key": "a", "text": "", "lease": "x"}]}"#), "bad-lease");
    }
}
