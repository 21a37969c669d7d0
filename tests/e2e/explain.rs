//! What a node says that it would do with a request, over the API and the command line.

use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::api::{Answer, Api, request, send};
use crate::support::cluster::{Node, Start};
use crate::support::context::{Context, roo_bin};
use crate::support::upstream::Upstream;
use crate::support::wait::until;
use crate::support::{Result, ensure};

async fn explain(api: &Api, url: &str) -> Result<Answer> {
    let url: String = url.bytes().map(|byte| format!("%{byte:02X}")).collect();
    api.get(&format!("/roo/v1/explain?url={url}")).await
}

/// What is told once the outcome is as expected.
async fn told(node: &Node, url: &str, outcome: &str) -> Result<Value> {
    until("the outcome is as expected", async || {
        let told = explain(&node.api, url).await?.json()?;
        ensure!(told["outcome"] == outcome, "{told}");
        Ok(told)
    })
    .await
}

#[tokio::test]
async fn a_route_is_explained_from_its_key_to_its_instances() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").secret()?.spawn().await?;
    node.ready().await?;
    let (one, two) = (Upstream::saying("one").await?, Upstream::saying("two").await?);
    let route = json!({ "to": [one.url(), two.url(), "http://nobody.service.roo"], "source": "a test" });
    node.route("told.localhost:http", &route.to_string()).await?;
    node.route("told.localhost:https", &route.to_string()).await?;
    node.route("*.wild.localhost:https", &one.url()).await?;
    told(&node, "https://a.wild.localhost", "forward").await?;

    let plain = told(&node, "http://told.localhost/a?b", "forward").await?;
    ensure!(plain["node"] == node.api.status().await?["node"] && plain["certificate"] == Value::Null, "{plain}");
    let expected = json!({
        "origin": "told.localhost:http",
        "rule": "exact-name",
        "key": "com.roo.host:told.localhost:http",
        "source": "a test",
        "revision": plain["route"]["revision"],
        "error": null,
    });
    ensure!(plain["route"] == expected && plain["route"]["revision"].is_u64(), "{plain}");
    let states: Vec<_> = plain["instances"].as_array().into_iter().flatten().map(|i| i["state"].clone()).collect();
    ensure!(states == ["picked", "ready", "no-instance"], "{plain}");
    ensure!(plain["settings"]["balance"] == "round-robin", "{plain}");

    // What was told is what happens, however often it is told.
    for expected in ["one", "two", "one"] {
        let before = told(&node, "http://told.localhost", "forward").await?;
        let address = if expected == "one" { one.address } else { two.address };
        let is_picked = |i: &Value| i["state"] == "picked" && i["address"] == address.to_string();
        ensure!(before["instances"].as_array().into_iter().flatten().any(is_picked), "{expected}: {before}");
        let answer = send(node.http, request(Method::GET, "told.localhost", "/", "")).await?;
        ensure!(answer.text() == expected, "{answer:?}");
    }

    // The certificate, once it is there.
    until("the certificate is told", async || {
        let told = explain(&node.api, "told.localhost").await?.json()?;
        let certificate = &told["certificate"];
        ensure!(certificate["state"] == "ready" && certificate["name"] == "told.localhost", "{told}");
        ensure!(certificate["not_after"].is_string() && certificate["issuer"].is_string(), "{told}");
        Ok(())
    })
    .await?;

    // Where there is no route: what is close, and why it is not it.
    let redirect = told(&node, "http://a.wild.localhost/x?y", "redirect").await?;
    let location = format!("https://a.wild.localhost:{}/x?y", node.https.port());
    ensure!(redirect["status"] == 308 && redirect["location"] == location, "{redirect}");
    let deep = told(&node, "https://a.b.wild.localhost", "unknown-host").await?;
    let near = json!([{
        "origin": "*.wild.localhost:https",
        "why": "a wildcard stands for exactly one more part of a name",
    }]);
    ensure!(deep["near"] == near, "{deep}");
    for bad in ["ftp://told.localhost", "https://", "http://[::1]/"] {
        let answer = explain(&node.api, bad).await?;
        ensure!(answer.status == 400 && answer.json()?["code"] == "bad-url", "{bad}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn who_may_not_read_a_route_is_told_nothing_of_it() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").secret()?.spawn().await?;
    node.ready().await?;
    node.route("hidden.localhost:http", "http://127.0.0.1:1").await?;
    told(&node, "http://hidden.localhost", "forward").await?;
    let wanted = json!({ "name": "narrow", "read": ["com.roo.host:shop."] }).to_string();
    let made = node.api.call(Method::POST, "/roo/v1/tokens", wanted).await?.json()?;
    let narrow = Api { token: made["token"].as_str().map(str::to_owned), ..node.api.clone() };
    until("the token is known", async || {
        let answer = explain(&narrow, "http://hidden.localhost").await?;
        ensure!(answer.status == 403 && answer.json()?["code"] == "not-allowed", "{answer:?}");
        Ok(())
    })
    .await?;
    let near = explain(&narrow, "https://hidden.localhost").await?.json()?;
    ensure!(near["outcome"] == "unknown-host" && near["near"] == json!([]), "{near}");
    let near = told(&node, "https://hidden.localhost", "unknown-host").await?;
    ensure!(near["near"][0]["why"] == "it is for http only", "{near}");
    Ok(())
}

#[tokio::test]
async fn the_command_line_explains_why_others_are_out() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let upstream = Upstream::saying("here").await?;
    let route = json!({
        "to": [upstream.url(), "http://shop.service.roo"],
        "ejection": { "backoff": "1h", "backoff_max": "1h" },
    });
    // Nothing listens on port 1.
    let body = json!({ "address": "127.0.0.1:1" }).to_string();
    let answer = node.api.call(Method::PUT, "/roo/v1/services/shop/dead", body).await?;
    ensure!(answer.status == 200, "{answer:?}");
    node.route("told.localhost:http", &route.to_string()).await?;
    until("the instance is known", async || {
        let told = explain(&node.api, "http://told.localhost").await?.json()?;
        ensure!(told["outcome"] == "forward" && told["instances"][1]["address"] == "127.0.0.1:1", "{told}");
        Ok(())
    })
    .await?;
    for _ in 0..2 {
        let answer = send(node.http, request(Method::GET, "told.localhost", "/", "")).await?;
        ensure!(answer.text() == "here", "{answer:?}");
    }
    let roo = async |args: &[&str]| {
        let mut command = Command::new(roo_bin());
        command.args(["route", "explain"]).args(args).env_clear().env("ROO_ADDR", node.api.address.to_string());
        let output = command.output().await?;
        ensure!(output.status.success(), "{args:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let page = roo(&["http://told.localhost/x"]).await?;
    for part in ["told.localhost:http, by exact-name", "picked", "ejected for upstream-refused, for another 3"] {
        ensure!(page.contains(part), "no `{part}` in\n{page}");
    }
    let json: Value = serde_json::from_str(&roo(&["http://told.localhost/x", "--json"]).await?)?;
    ensure!(json["instances"][1]["state"] == "ejected", "{json}");
    let page = roo(&["tould.localhost"]).await?;
    ensure!(page.contains("unknown-host") && !page.contains("INSTANCE"), "{page}");
    Ok(())
}
