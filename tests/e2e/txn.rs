//! Transactions through the API.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, Api};
use crate::support::cluster::{Cluster, Start};
use crate::support::context::Context;
use crate::support::{Result, ensure};

async fn run(api: &Api, txn: Value) -> Result<Answer> {
    api.call(Method::POST, "/roo/v1/txn", txn.to_string()).await
}

#[tokio::test]
async fn all_steps_happen_at_one_revision_or_none_does() -> Result<()> {
    let context = Context::new();
    let cluster = Cluster::start(&context, 3, &[]).await?;
    let leader = cluster.leader().await?;
    // Through a node that must pass it on.
    let api = &cluster.nodes[(leader + 1) % 3].api;
    let puts: Vec<Value> =
        ["t/a", "t/b", "t/c"].iter().map(|key| json!({ "op": "put", "key": key, "text": "1" })).collect();
    let absent = json!([{ "key": "t/a", "exists": false }]);
    let answer =
        run(api, json!({ "compare": absent, "success": puts, "failure": [{ "op": "get", "key": "t/a" }] })).await?;
    let said = answer.json()?;
    ensure!(answer.status == 200 && said["succeeded"] == true, "{said}");
    let revision = said["revision"].as_u64().unwrap_or_default();
    ensure!(answer.header("x-roo-revision") == revision.to_string(), "{answer:?}");
    let said =
        run(api, json!({ "compare": absent, "success": puts, "failure": [{ "op": "get", "key": "t/a" }] })).await?;
    let said = said.json()?;
    ensure!(said["succeeded"] == false && said["revision"] == revision, "{said}");
    let entry = &said["results"][0]["entry"];
    ensure!(entry["mod_revision"] == revision && entry["version"] == 1 && entry["value"] == "MQ==", "{entry}");

    let steps = json!([
        { "op": "put", "key": "t/b", "value": STANDARD.encode([0, 255]) },
        { "op": "get-prefix", "prefix": "t/", "limit": 2 },
        { "op": "delete", "key": "t/a" },
        { "op": "delete", "key": "t/a" },
        { "op": "delete-prefix", "prefix": "t/" },
        { "op": "get-prefix", "prefix": "t/" },
        { "op": "get", "key": "t/c" },
    ]);
    let compare = json!([
        { "key": "t/a", "text": "1" },
        { "key": "t/a", "operator": "less", "text": "2" },
        { "key": "t/a", "mod_revision": revision },
        { "key": "t/b", "operator": "greater", "create_revision": revision - 1 },
        { "key": "t/b", "operator": "not-equal", "version": 2 },
        { "key": "t/c", "lease": "" },
    ]);
    let said = run(api, json!({ "compare": compare, "success": steps })).await?.json()?;
    ensure!(said["succeeded"] == true && said["revision"] == revision + 1, "{said}");
    let results = said["results"].as_array().cloned().unwrap_or_default();
    ensure!(results.len() == 7, "{said}");
    ensure!(results[1]["more"] == true && results[1]["entries"][1]["value"] == STANDARD.encode([0, 255]), "{said}");
    ensure!(results[1]["entries"][1]["mod_revision"] == revision + 1, "{said}");
    let deleted: Vec<&Value> = results[2..5].iter().map(|result| &result["deleted"]).collect();
    ensure!(deleted == [&json!(1), &json!(0), &json!(2)], "{said}");
    ensure!(
        results[5]["entries"] == json!([]) && results[5]["more"] == false && results[6]["entry"].is_null(),
        "{said}"
    );
    for node in &cluster.nodes {
        let left = node.api.get("/roo/v1/kvs/t/").await?.json()?;
        ensure!(left["results"] == json!({}), "{left}");
    }
    Ok(())
}

#[tokio::test]
async fn what_may_not_be_done_is_refused_as_a_whole() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").secret()?.spawn().await?;
    node.ready().await?;
    let mark = json!({ "op": "put", "key": "mark", "text": "x" });
    let with = |op: Value| json!({ "success": [mark, op] });
    let many: Vec<Value> = (0..513).map(|_| json!({ "op": "get", "key": "a" })).collect();
    let big = "x".repeat(1 << 20);
    let cases = [
        (with(json!({ "op": "put", "key": "com.roo.ca", "text": "x" })), 403, "reserved-key"),
        (with(json!({ "op": "delete-prefix", "prefix": "com." })), 403, "reserved-key"),
        (with(json!({ "op": "put", "key": "com.roo.host:a.b:https", "text": "nonsense" })), 400, "bad-route"),
        (with(json!({ "op": "put", "key": "a", "text": "x", "lease": "77" })), 404, "lease-not-found"),
        (with(json!({ "op": "put", "key": "a", "text": format!("{big}x") })), 413, "too-large"),
        (json!({ "success": many }), 413, "too-large"),
        (json!({ "success": vec![json!({ "op": "put", "key": "a", "text": big }); 5] }), 413, "too-large"),
        (json!({ "success": vec![json!({ "op": "put", "key": "a", "text": big }); 9] }), 413, "too-large"),
        (json!({ "success": [{ "op": "put", "key": "a" }] }), 400, "bad-txn"),
        (json!({ "compare": [{ "key": "com.roo.ca", "operator": ">", "text": "x" }] }), 403, "reserved-key"),
    ];
    for (txn, status, code) in cases {
        let answer = run(&node.api, txn.clone()).await?;
        let text = txn.to_string();
        let shown = &text[..text.len().min(200)];
        ensure!(
            answer.status == status && answer.json()?["code"] == code,
            "{shown}: {} {}",
            answer.status,
            answer.text()
        );
    }
    ensure!(node.api.value("mark").await?.is_none(), "a part of a refused transaction happened");
    let mut stranger = node.api.clone();
    stranger.token = None;
    ensure!(run(&stranger, json!({ "success": [mark] })).await?.status == 401);
    // A route that is spelled otherwise is the same route, and it is served.
    let route = json!({ "op": "put", "key": "com.roo.host:TXN.localhost:443:https", "text": "http://127.0.0.1:9" });
    ensure!(run(&node.api, json!({ "success": [route] })).await?.status == 200);
    ensure!(node.api.value("com.roo.host:txn.localhost:https").await?.is_some());
    Ok(())
}

/// Money moves between accounts from all nodes at once; the sum stays.
#[tokio::test]
async fn transfers_between_accounts_keep_the_sum() -> Result<()> {
    const MOVES: usize = 12;
    let context = Context::new();
    let cluster = Cluster::start(&context, 3, &[]).await?;
    for name in ["bank/a", "bank/b"] {
        cluster.nodes[0].api.put(name, "100").await?;
    }
    let moving = cluster.nodes.iter().enumerate().map(|(k, node)| async move {
        let (from, to) = if k % 2 == 0 { ("bank/a", "bank/b") } else { ("bank/b", "bank/a") };
        let mut moved = 0;
        while moved < MOVES {
            let both = json!([{ "op": "get", "key": from }, { "op": "get", "key": to }]);
            let said = run(&node.api, json!({ "success": both })).await?.json()?;
            let balance = |at: usize| -> Result<i64> {
                let value = STANDARD.decode(said["results"][at]["entry"]["value"].as_str().unwrap_or_default())?;
                Ok(String::from_utf8(value)?.parse()?)
            };
            let seen = |at: usize, key: &str| {
                json!({ "key": key, "mod_revision": said["results"][at]["entry"]["mod_revision"] })
            };
            let (a, b) = (balance(0)?, balance(1)?);
            ensure!(a + b == 200, "{a} + {b}");
            let put = |key: &str, value: i64| json!({ "op": "put", "key": key, "text": value.to_string() });
            let transfer = json!({
                "compare": [seen(0, from), seen(1, to)],
                "success": [put(from, a - 1), put(to, b + 1)],
            });
            let said = run(&node.api, transfer).await?.json()?;
            moved += usize::from(said["succeeded"] == true);
        }
        Ok(())
    });
    futures_util::future::try_join_all(moving).await?;
    let expected = 100 - i64::try_from(MOVES)?;
    ensure!(cluster.nodes[2].api.value("bank/a").await? == Some(expected.to_string()));
    Ok(())
}
