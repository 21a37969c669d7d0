//! The store through the API of one node.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;

use crate::support::cluster::Start;
use crate::support::context::Context;
use crate::support::{Result, ensure};

#[tokio::test]
async fn values_are_written_read_listed_and_deleted() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let api = &node.api;

    let answer = api.call(Method::PUT, "/roo/v1/kv/test", "test data").await?;
    ensure!(answer.status == 200 && answer.json()?["ok"] == true, "{answer:?}");
    ensure!(api.value("test").await?.as_deref() == Some("test data"));
    for (path, key) in [("a/b/c", "a/b/c"), ("a%2Fb%20%C3%BC", "a/b ü"), ("%E6%97%A5%E6%9C%AC", "日本"), ("%2Fx", "/x")]
    {
        api.put(path, key).await?;
        ensure!(api.value(path).await?.as_deref() == Some(key), "{path}");
        let listed = api.get(&format!("/roo/v1/kvs/{path}")).await?.json()?;
        ensure!(listed["results"][key] == STANDARD.encode(key), "{listed}");
    }

    let answer = api.call(Method::DELETE, "/roo/v1/kv/test", "").await?;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!(api.value("test").await?.is_none());
    ensure!(api.call(Method::DELETE, "/roo/v1/kv/test", "").await?.status == 404);
    Ok(())
}

#[tokio::test]
async fn a_scan_is_read_page_by_page() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    for k in 0..25 {
        node.api.put(&format!("page/{k:02}"), "x").await?;
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = node.api.get(&format!("/roo/v1/kvs/page/?limit=10&cursor={cursor}")).await?.json()?;
        ensure!(page["query"] == "page/", "{page}");
        seen.extend(page["results"].as_object().into_iter().flat_map(|results| results.keys().cloned()));
        match page["cursor"].as_str() {
            Some(next) => cursor = next.replace('/', "%2F"),
            None => break,
        }
        ensure!(seen.len() < 100, "the cursor does not end: {seen:?}");
    }
    let expected: Vec<String> = (0..25).map(|k| format!("page/{k:02}")).collect();
    ensure!(seen == expected, "{seen:?}");
    let all = node.api.get("/roo/v1/kvs").await?.json()?;
    ensure!(all["results"].as_object().is_some_and(|results| results.len() >= 25), "{all}");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_said_with_the_right_status() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let big = vec![b'x'; (1 << 20) + 1];
    let put = |path: &'static str, body: Vec<u8>| (Method::PUT, path, body);
    let cases = [
        (put("/roo/v1/kv/big", big), 413, "too-large"),
        (put("/roo/v1/kv/", vec![]), 400, "bad-key"),
        (put("/roo/v1/kv/a%00b", vec![]), 400, "bad-key"),
        (put("/roo/v1/kv/a%ffb", vec![]), 400, "bad-key"),
        (put("/roo/v1/kv/com.roo.cache:a.example", vec![]), 403, "reserved-key"),
        (put("/roo/v1/kv/com.roo.host:a.example:https", b"nonsense".to_vec()), 400, "bad-route"),
        (
            put(
                "/roo/v1/kv/com.roo.host:a.example:http",
                br#"{"to": "http://a", "client_tls": {"min_version": "1.3"}}"#.to_vec(),
            ),
            400,
            "bad-route",
        ),
        (put("/roo/v1/kv/com.roo.host:a..b:https", b"http://127.0.0.1:1".to_vec()), 400, "bad-origin"),
        ((Method::GET, "/roo/v1/kv/absent", vec![]), 404, "not-found"),
        ((Method::GET, "/roo/v1/kv/absent?level=psychic", vec![]), 400, "bad-query"),
        ((Method::GET, "/roo/v1/kvs?limit=0", vec![]), 400, "bad-query"),
        ((Method::GET, "/roo/v2/kv/a", vec![]), 404, "not-found"),
        ((Method::POST, "/roo/v1/kv/a", vec![]), 405, "wrong-method"),
        ((Method::GET, "/debug/pprof/", vec![]), 404, "not-found"),
        ((Method::POST, "/roo/v1/swarm", vec![]), 400, "no-swarm"),
    ];
    for ((method, path, body), status, code) in cases {
        let answer = node.api.call(method, path, body).await?;
        let said = answer.json()?;
        ensure!(answer.status == status && said["code"] == code, "{path}: {} {said}", answer.status);
        ensure!(said["request_id"] == answer.header("x-request-id"), "{path}: {said}");
    }
    ensure!(
        node.api.call(Method::GET, "/roo/v1/swarm", vec![]).await?.json()?["state"] == "off",
        "no swarm is watched"
    );
    // A value of exactly the limit is taken.
    node.api.put("limit", vec![b'x'; 1 << 20]).await?;
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_not_up_says_so() -> Result<()> {
    let context = Context::new();
    let start = Start::new(&context, "node").secret()?.args(["--peers", "127.0.0.1:9,127.0.0.1:10,127.0.0.1:11"]);
    let node = start.spawn().await?;
    let answer = node.api.call(Method::PUT, "/roo/v1/kv/a", "b").await?;
    ensure!(answer.status == 503 && answer.header("retry-after") == "1", "{answer:?}");
    ensure!(answer.json()?["code"] == "store-not-ready", "{}", answer.text());
    ensure!(node.api.get("/livez").await?.status == 200);
    ensure!(node.api.get("/readyz").await?.status == 503);
    ensure!(node.api.get("/roo/ping").await?.text() == "PONG");
    ensure!(node.api.status().await?["state"] == "forming");
    Ok(())
}

#[tokio::test]
async fn writes_need_the_token_once_a_secret_is_set() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").secret()?.spawn().await?;
    node.ready().await?;
    node.api.put("a", "b").await?;
    let mut stranger = node.api.clone();
    stranger.token = None;
    ensure!(stranger.call(Method::PUT, "/roo/v1/kv/a", "c").await?.status == 401);
    stranger.token = Some("wrong".to_owned());
    ensure!(stranger.call(Method::PUT, "/roo/v1/kv/a", "c").await?.status == 403);
    ensure!(node.api.value("a").await?.as_deref() == Some("b"));
    Ok(())
}

#[tokio::test]
async fn data_survives_kill_and_restart() -> Result<()> {
    let context = Context::new();
    let start = Start::new(&context, "node");
    let mut node = start.spawn().await?;
    node.ready().await?;
    let id = node.api.status().await?["node"].clone();
    for round in 0..3 {
        node.api.put(&format!("round/{round}"), round.to_string()).await?;
        if round == 1 {
            node.stop().await?
        } else {
            node.process.kill().await?
        }
        node = start.spawn().await?;
        node.ready().await?;
        ensure!(node.api.status().await?["node"] == id, "the identity changed");
        for k in 0..=round {
            ensure!(node.api.value(&format!("round/{k}")).await? == Some(k.to_string()), "round {k} is lost");
        }
    }
    Ok(())
}

#[tokio::test]
async fn two_processes_do_not_share_a_data_directory() -> Result<()> {
    let context = Context::new();
    let start = Start::new(&context, "node");
    let node = start.spawn().await?;
    node.ready().await?;
    let output = tokio::process::Command::new(crate::support::context::roo_bin())
        .args(["run", "--http=127.0.0.1:0", "--https=127.0.0.1:0", "--api=127.0.0.1:0", "--raft=127.0.0.1:0"])
        .arg("--data-dir")
        .arg(context.path("node"))
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && said.contains("in use by another process"), "{said}");
    Ok(())
}

#[tokio::test]
async fn metrics_tell_about_store_and_routes() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let text = node.api.get("/metrics").await?.text();
    for name in ["roo_build_info{", "roo_raft_term ", "roo_raft_is_leader 1", "roo_raft_applied_index ", "roo_routes "]
    {
        ensure!(text.contains(name), "no {name} in\n{text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_given_later_keeps_what_is_sealed() -> Result<()> {
    let context = Context::new();
    let mut node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    node.route("sealed.localhost:https", "http://127.0.0.1:9").await?;
    let https = node.https_client().await?;
    let connects = async |node: &crate::support::cluster::Node| {
        let connect = async || https.connect(node.https, "sealed.localhost", &["http/1.1"]).await.map(drop);
        crate::support::wait::until("the certificate is served", connect).await
    };
    connects(&node).await?;
    node.stop().await?;
    let mut node = Start::new(&context, "node").secret()?.spawn().await?;
    node.ready().await?;
    connects(&node).await?;
    crate::support::wait::until("it is sealed anew", async || {
        ensure!(node.process.output().contains("sealed anew"), "nothing says so");
        Ok(())
    })
    .await?;
    // With the secret it made for itself gone, the node needs only the one that was given.
    node.stop().await?;
    std::fs::remove_file(context.path("node/secret"))?;
    let node = Start::new(&context, "node").secret()?.spawn().await?;
    node.ready().await?;
    connects(&node).await
}
