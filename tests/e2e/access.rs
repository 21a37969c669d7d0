//! Who may do what through the API, and what is noted of it.

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, Api};
use crate::support::cluster::{Cluster, Node, Start};
use crate::support::context::Context;
use crate::support::wait::until;
use crate::support::{Result, ensure};

/// The API of a node for somebody with another token.
fn with(node: &Node, token: &str) -> Api {
    Api { address: node.api.address, token: Some(token.to_owned()) }
}

/// Makes a token and waits until `node` knows it.
async fn token(node: &Node, wanted: Value) -> Result<String> {
    let answer = node.api.call(Method::POST, "/roo/v1/tokens", wanted.to_string()).await?;
    ensure!(answer.status == 201, "{} {}", answer.status, answer.text());
    let token = answer.json()?["token"].as_str().context("a token")?.to_owned();
    known_to(node, &token).await?;
    Ok(token)
}

async fn known_to(node: &Node, token: &str) -> Result<()> {
    until("the token is known", async || {
        let answer = with(node, token).get("/roo/v1/status").await?;
        ensure!(answer.status == 200, "{}", answer.text());
        Ok(())
    })
    .await
}

fn refused(answer: &Answer, code: &str) -> Result<()> {
    ensure!(answer.status == 403 && answer.json()?["code"] == code, "{} {}", answer.status, answer.text());
    Ok(())
}

#[tokio::test]
async fn a_token_opens_what_begins_with_its_prefixes_on_every_node() -> Result<()> {
    let context = Context::new();
    let cluster = Cluster::start(&context, 3, &[]).await?;
    for key in ["shop/a", "shop/b", "bank/a"] {
        cluster.nodes[0].api.put(key, key).await?;
    }
    let wanted = json!({ "name": "shop", "read": ["shop/"], "write": ["shop/", "com.roo.host:shop."] });
    let token = token(&cluster.nodes[0], wanted).await?;
    for node in &cluster.nodes {
        known_to(node, &token).await?;
        let shop = with(node, &token);
        shop.put("shop/b", "mine").await?;
        ensure!(shop.value("shop/b").await?.as_deref() == Some("mine"));
        refused(&shop.call(Method::PUT, "/roo/v1/kv/bank/a", "mine").await?, "not-allowed")?;
        refused(&shop.call(Method::DELETE, "/roo/v1/kv/bank/a", "").await?, "not-allowed")?;
        refused(&shop.get("/roo/v1/kv/bank/a").await?, "not-allowed")?;
        refused(&shop.call(Method::POST, "/roo/v1/tokens", "{}").await?, "not-allowed")?;
        refused(&shop.get("/roo/v1/tokens").await?, "not-allowed")?;
        let listed = shop.get("/roo/v1/kvs").await?.json()?;
        let keys: Vec<&String> = listed["results"].as_object().into_iter().flat_map(|o| o.keys()).collect();
        ensure!(keys == ["shop/a", "shop/b"], "{listed}");
    }
    // A route is checked by the name that it is stored under, and shown to those who may read it.
    let shop = with(&cluster.nodes[0], &token);
    shop.put("com.roo.host:SHOP.localhost:https", "http://127.0.0.1:9").await?;
    refused(
        &shop.call(Method::PUT, "/roo/v1/kv/com.roo.host:bank.localhost:https", "http://127.0.0.1:9").await?,
        "not-allowed",
    )?;
    until("the route is live", async || {
        let routes = cluster.nodes[0].api.get("/roo/v1/routes").await?.json()?;
        ensure!(routes.as_array().is_some_and(|routes| routes.len() == 1), "{routes}");
        Ok(())
    })
    .await?;
    ensure!(shop.get("/roo/v1/routes").await?.json()? == json!([]));
    // Once removed it opens nothing, anywhere.
    let answer = cluster.nodes[1].api.call(Method::DELETE, "/roo/v1/tokens/shop", "").await?;
    ensure!(answer.status == 200, "{}", answer.text());
    for node in &cluster.nodes {
        until("the token is forgotten", async || {
            refused(&with(node, &token).get("/roo/v1/kv/shop/a").await?, "wrong-token")
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_watch_tells_only_what_may_be_read() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").secret()?.spawn().await?;
    node.ready().await?;
    let token = token(&node, json!({ "name": "eyes", "read": ["seen/"] })).await?;
    node.api.put("hidden/a", "1").await?;
    node.api.put("seen/a", "1").await?;
    let mut command = tokio::process::Command::new(crate::support::context::roo_bin());
    command.args(["kv", "watch", ""]).env("ROO_ADDR", node.api.address.to_string()).env("ROO_TOKEN", &token);
    let watch = crate::support::process::Process::spawn(command, &context.path("watch.log"))?;
    node.api.put("hidden/b", "1").await?;
    node.api.put("seen/b", "1").await?;
    until("the last change is told", async || {
        ensure!(watch.output().contains("put seen/b"), "{}", watch.output());
        Ok(())
    })
    .await?;
    ensure!(watch.output().contains("put seen/a") && !watch.output().contains("hidden"), "{}", watch.output());
    Ok(())
}

#[tokio::test]
async fn a_token_is_shown_once_kept_as_a_digest_and_ends_in_time() -> Result<()> {
    let context = Context::new();
    let mut node = Start::new(&context, "node").secret()?.spawn().await?;
    node.ready().await?;
    let token = token(&node, json!({ "name": "ci", "write": [""], "ttl": "1h" })).await?;
    let short = json!({ "name": "short", "read": ["x"], "ttl": "1s" });
    node.api.call(Method::POST, "/roo/v1/tokens", short.to_string()).await?;
    let answer =
        node.api.call(Method::POST, "/roo/v1/tokens", json!({ "name": "ci", "admin": true }).to_string()).await?;
    ensure!(answer.status == 409 && answer.json()?["code"] == "token-exists", "{}", answer.text());
    for wanted in
        [json!({ "name": "a b", "admin": true }), json!({ "name": "none" }), json!({ "name": "x", "wirte": [""] })]
    {
        let answer = node.api.call(Method::POST, "/roo/v1/tokens", wanted.to_string()).await?;
        ensure!(answer.status == 400 && answer.json()?["code"] == "bad-token", "{}", answer.text());
    }
    until("the short one has expired", async || {
        let listed = node.api.get("/roo/v1/tokens").await?.json()?;
        ensure!(listed[0]["name"] == "ci" && listed[0]["state"] == "valid", "{listed}");
        ensure!(listed[1]["name"] == "short" && listed[1]["state"] == "expired", "{listed}");
        ensure!(!listed.to_string().contains(&token), "{listed}");
        Ok(())
    })
    .await?;
    // It survives a restart, and neither it nor its digest is on the disk or in an answer.
    node.stop().await?;
    let node = Start::new(&context, "node").secret()?.spawn().await?;
    node.ready().await?;
    known_to(&node, &token).await?;
    let shown = node.api.get("/roo/v1/kvs/com.roo.token:").await?.json()?;
    ensure!(shown["results"]["com.roo.token:ci"] == "", "{shown}");
    ensure!(!crate::support::files::hold(&context.path("node"), token.as_bytes())?, "the token is on the disk");
    ensure!(!crate::support::files::hold(&context.path("node"), b"\"digest\"")?, "the record is not sealed");
    Ok(())
}

#[tokio::test]
async fn writes_are_noted_with_who_what_and_revision_but_never_the_value() -> Result<()> {
    let context = Context::new();
    let file = context.path("audit.log");
    let file_name = file.display().to_string();
    let node = Start::new(&context, "node").secret()?.args(["--audit", &file_name]).spawn().await?;
    node.ready().await?;
    let token = token(&node, json!({ "name": "ci", "write": ["a/"] })).await?;
    with(&node, &token).put("a/1", "a-value-of-nobodys-business").await?;
    with(&node, &token).call(Method::PUT, "/roo/v1/kv/b/1", "x").await?;
    node.api.call(Method::DELETE, "/roo/v1/kv/a/1", "").await?;
    with(&node, "roo_wrong").call(Method::PUT, "/roo/v1/kv/a/1", "x").await?;
    let lines: Vec<Value> = until("all is noted", async || {
        let text = std::fs::read_to_string(&file)?;
        ensure!(text.lines().count() == 5, "{text}");
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    })
    .await?;
    let told: Vec<String> = lines
        .iter()
        .map(|l| format!("{} {} {} {} {}", l["who"], l["method"], l["path"], l["status"], l["code"]))
        .collect();
    let expected = [
        r#""root" "POST" "/roo/v1/tokens" 201 null"#,
        r#""ci" "PUT" "/roo/v1/kv/a/1" 200 null"#,
        r#""ci" "PUT" "/roo/v1/kv/b/1" 403 "not-allowed""#,
        r#""root" "DELETE" "/roo/v1/kv/a/1" 200 null"#,
        r#""-" "PUT" "/roo/v1/kv/a/1" 403 "wrong-token""#,
    ];
    ensure!(told == expected, "{told:#?}");
    ensure!(lines[1]["revision"].as_u64() < lines[3]["revision"].as_u64(), "{lines:#?}");
    ensure!(
        lines.iter().all(|line| line["remote"].as_str().is_some_and(|r| r.starts_with("127.0.0.1:"))),
        "{lines:#?}"
    );
    let all = format!("{lines:?}{}", node.process.output());
    ensure!(!all.contains("nobodys-business") && !all.contains(&token), "a value or token was noted: {all}");
    // Moved away, it is begun anew.
    std::fs::rename(&file, context.path("audit.1"))?;
    node.api.put("a/2", "x").await?;
    until("it is begun anew", async || {
        let text = std::fs::read_to_string(&file)?;
        ensure!(text.lines().count() == 1 && text.contains("/roo/v1/kv/a/2"), "{text}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_a_setting_the_log_tells_of_writes() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    node.api.put("noted", "x").await?;
    until("the log tells", async || {
        let output = node.process.output();
        let line = output.lines().find(|line| line.contains("roo::audit")).context("no line")?;
        ensure!(line.contains("\"who\":\"open\"") && line.contains("/roo/v1/kv/noted"), "{line}");
        Ok(())
    })
    .await?;
    let quiet = Start::new(&context, "quiet").args(["--audit", "off"]).spawn().await?;
    quiet.ready().await?;
    quiet.api.put("noted", "x").await?;
    ensure!(!quiet.process.output().contains("roo::audit"));
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_head_loses_its_connection() -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let starts: [&[u8]; 3] = [b"", b"P", b"PUT /roo/v1/kv/a HTTP/1.1\r\nhost: "];
    let mut waiting = tokio::task::JoinSet::new();
    for start in starts {
        let mut stream = tokio::net::TcpStream::connect(node.api.address).await?;
        waiting.spawn(async move {
            stream.write_all(start).await?;
            // Whatever it says, it ends.
            let _ = stream.read_to_end(&mut Vec::new()).await;
            anyhow::Ok(())
        });
    }
    let ended = async {
        while let Some(ended) = waiting.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(crate::support::wait::PATIENCE * 2, ended).await.context("a connection stays open")??;
    // Too large a head is told so.
    let cookie = "x".repeat(80 << 10);
    let mut stream = tokio::net::TcpStream::connect(node.api.address).await?;
    let request = format!("GET /roo/ping HTTP/1.1\r\nhost: api\r\ncookie: {cookie}\r\n\r\n");
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    ensure!(!String::from_utf8_lossy(&answer).contains(" 200 "), "{}", String::from_utf8_lossy(&answer));
    node.api.put("a", "b").await
}
