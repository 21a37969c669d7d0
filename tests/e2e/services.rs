//! Services and their instances, on all nodes.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, request, send};
use crate::support::cluster::{Cluster, Node, Start};
use crate::support::context::Context;
use crate::support::process::Process;
use crate::support::upstream::Upstream;
use crate::support::wait::until;
use crate::support::{Result, ensure};

impl Node {
    async fn register(&self, path: &str, body: Value) -> Result<Value> {
        let answer = self.api.call(Method::PUT, &format!("/roo/v1/services/{path}"), body.to_string()).await?;
        ensure!(answer.status == 200, "PUT {path} {body}: {answer:?}");
        answer.json()
    }

    async fn instances(&self, service: &str) -> Result<Vec<Value>> {
        let answer = self.api.get(&format!("/roo/v1/services/{service}")).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer.json()?.as_array().cloned().unwrap_or_default())
    }

    /// Waits until the node knows exactly these instances of the service.
    async fn knows(&self, service: &str, ids: &[&str]) -> Result<()> {
        until("the node knows the instances", async || {
            let found = self.instances(service).await?;
            let found: Vec<_> = found.iter().filter_map(|instance| instance["id"].as_str()).collect();
            ensure!(found == ids, "{service}: {found:?}, not {ids:?}");
            Ok(())
        })
        .await
    }

    /// `GET /` of a host in plain http.
    async fn ask(&self, host: &str) -> Result<Answer> {
        send(self.http, request(Method::GET, host, "/", "")).await
    }
}

/// Waits until all nodes have the route for `host`, whatever stands behind it.
async fn routed(nodes: &[Node], host: &str, url: &str) -> Result<()> {
    nodes[0].route(&format!("{host}:http"), url).await?;
    for node in nodes {
        until("the route is live", async || {
            let answer = node.ask(host).await?;
            ensure!(answer.status != 404, "{answer:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_instance_registered_on_one_node_gets_requests_through_all() -> Result<()> {
    let context = Context::new();
    let cluster = Cluster::start(&context, 3, &[]).await?;
    let nodes = &cluster.nodes;
    routed(nodes, "shop.localhost", "http://shop.service.roo").await?;
    for node in nodes {
        let answer = node.ask("shop.localhost").await?;
        ensure!(answer.status == 503 && answer.header("roo-error") == "no-upstream", "{answer:?}");
    }

    let (one, two) = (Upstream::saying("one").await?, Upstream::saying("two").await?);
    nodes[1].register("Shop/one", json!({ "address": one.address, "metadata": { "zone": "a" } })).await?;
    nodes[2].register("shop/two", json!({ "address": two.address, "weight": 2 })).await?;
    for node in nodes {
        node.knows("shop", &["one", "two"]).await?;
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(node.ask("shop.localhost").await?.text());
        }
        seen.sort();
        ensure!(seen == ["one", "one", "two", "two", "two", "two"], "{seen:?}");
    }

    // The instances have the address of the first node and of no other.
    let first = nodes[0].api.status().await?["node"].clone();
    for node in nodes {
        let listed = node.api.get("/roo/v1/services").await?.json()?;
        let expected = json!([{ "service": "shop", "instances": 2, "up": 2, "nodes": [first], "sources": ["api"] }]);
        ensure!(listed == expected, "{listed}");
        let path = format!("/roo/v1/services?node={}", first.as_str().unwrap_or_default());
        ensure!(node.api.get(&path).await?.json()?.as_array().map(Vec::len) == Some(2));
        let shown = node.api.get("/roo/v1/services/shop/one").await?.json()?;
        ensure!(shown["metadata"] == json!({ "zone": "a" }) && shown["node"] == first, "{shown}");
    }
    // A key belongs to the same instance wherever one asks.
    let mut owners = BTreeSet::new();
    for key in 0..20 {
        let path = format!("/roo/v1/services/shop?key=user-{key}");
        let found = nodes[0].api.get(&path).await?.json()?;
        ensure!(found.as_array().map(Vec::len) == Some(1), "{found}");
        for node in nodes {
            ensure!(node.api.get(&path).await?.json()? == found, "{path}");
        }
        owners.insert(found[0]["id"].to_string());
    }
    ensure!(owners.len() == 2, "{owners:?}");

    // One that stops is known, and gets nothing new from the moment of the answer.
    let stopping = json!({ "address": one.address, "metadata": { "zone": "a" }, "state": "stopping" });
    nodes[2].register("shop/one", stopping).await?;
    gets_nothing(nodes, "one").await?;
    nodes[0].knows("shop", &["one", "two"]).await?;
    let answer = nodes[0].api.call(Method::DELETE, "/roo/v1/services/shop/one", "").await?;
    ensure!(answer.status == 200, "{answer:?}");
    for node in nodes {
        node.knows("shop", &["two"]).await?;
    }
    // A port in the destination is that of all instances.
    nodes[0].register("shop/two", json!({ "address": "127.0.0.1:1" })).await?;
    routed(nodes, "port.localhost", &format!("http://shop.service.roo:{}", one.address.port())).await?;
    for node in nodes {
        ensure!(node.ask("port.localhost").await?.text() == "one");
    }
    Ok(())
}

/// Waits until no node sends `who` anything, which is a matter of a moment; from then on it must stay so.
async fn gets_nothing(nodes: &[Node], who: &str) -> Result<()> {
    for node in nodes {
        until("the instance gets nothing new", async || {
            for _ in 0..4 {
                let text = node.ask("shop.localhost").await?.text();
                ensure!(text != who, "{who} is asked");
            }
            Ok(())
        })
        .await?;
    }
    for node in nodes.iter().cycle().take(12) {
        ensure!(node.ask("shop.localhost").await?.text() != who, "{who} is asked again");
    }
    Ok(())
}

#[tokio::test]
async fn who_is_not_kept_alive_disappears_on_all_nodes() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &[]).await?;
    let upstream = Upstream::saying("here").await?;
    routed(&cluster.nodes, "shop.localhost", "http://shop.service.roo").await?;
    let short = json!({ "address": upstream.address, "ttl": "2s" });
    cluster.nodes[0].register("shop/short", short).await?;
    cluster.nodes[0].register("shop/long", json!({ "address": upstream.address, "ttl": 3600 })).await?;
    for node in &cluster.nodes {
        node.knows("shop", &["long", "short"]).await?;
    }
    for node in &cluster.nodes {
        node.knows("shop", &["long"]).await?;
        let answer = node.ask("shop.localhost").await?;
        ensure!(answer.text() == "here", "{answer:?}");
    }
    // It may come back as if it had never been there.
    let again = json!({ "address": upstream.address, "ttl": "5s" });
    cluster.nodes[1].register("shop/short", again).await?;
    cluster.nodes[1].knows("shop", &["long", "short"]).await?;

    // With the leader gone, leases go on and end on the others.
    let leader = cluster.leader().await?;
    cluster.nodes[leader].process.kill().await?;
    cluster.nodes.remove(leader);
    for node in &cluster.nodes {
        node.knows("shop", &["long"]).await?;
    }
    let answer = cluster.nodes[1].api.call(Method::DELETE, "/roo/v1/services/shop/long", "").await?;
    ensure!(answer.status == 200, "{answer:?}");
    for node in &cluster.nodes {
        node.knows("shop", &[]).await?;
        until("nothing is left", async || {
            let answer = node.ask("shop.localhost").await?;
            ensure!(answer.status == 503 && answer.header("retry-after") == "1", "{answer:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_keep_alive_writes_nothing_and_a_change_does() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let body = json!({ "address": "10.0.0.7:8080", "ttl": "60s" });
    let first = node.register("shop/a", body.clone()).await?;
    ensure!(first["written"] == true, "{first}");
    let last_log = async || node.api.status().await.map(|status| status["last_log"].as_u64());
    let before = last_log().await?;
    for _ in 0..20 {
        let again = node.register("shop/a", body.clone()).await?;
        ensure!(again["written"] == false && again["revision"] == first["revision"], "{again}");
    }
    // The node itself may have written something meanwhile, but not as often as that.
    let after = last_log().await?;
    ensure!(before.zip(after).is_some_and(|(before, after)| after - before < 10), "{before:?} {after:?}");

    // The same in other words is the same.
    let same = json!({ "ttl": 60, "weight": 1, "state": "up", "address": "10.0.0.7:8080", "metadata": {} });
    ensure!(node.register("SHOP/a", same).await?["written"] == false);
    for change in [
        json!({ "address": "10.0.0.7:8081", "ttl": "60s" }),
        json!({ "address": "10.0.0.7:8081", "ttl": "60s", "metadata": { "v": "2" } }),
        json!({ "address": "10.0.0.7:8081", "ttl": "30s", "metadata": { "v": "2" } }),
        json!({ "address": "10.0.0.7:8081", "metadata": { "v": "2" } }),
        json!({ "address": "10.0.0.7:8081", "ttl": "2s", "metadata": { "v": "2" } }),
    ] {
        let changed = node.register("shop/a", change.clone()).await?;
        ensure!(changed["written"] == true, "{change}: {changed}");
        ensure!(node.register("shop/a", change.clone()).await?["written"] == false, "{change}");
    }
    // Of all its TTLs the last counts.
    node.knows("shop", &[]).await
}

#[tokio::test]
async fn a_bad_registration_is_refused_by_its_fault() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").secret()?.spawn().await?;
    node.ready().await?;
    for (path, body, code, part) in [
        ("shop/a", "", "bad-instance", "EOF"),
        ("shop/a", "{}", "bad-instance", "address"),
        ("shop/a", r#"{"address":"10.0.0.7"}"#, "bad-instance", "no port"),
        ("shop/a", r#"{"address":"0.0.0.0:80"}"#, "bad-instance", "no machine"),
        ("shop/a", r#"{"address":"web.service.roo:80"}"#, "bad-instance", "name of a service"),
        ("shop/a", r#"{"address":"a:80","weight":0}"#, "bad-instance", "1 to 1000"),
        ("shop/a", r#"{"address":"a:80","ttl":"soon"}"#, "bad-instance", "soon"),
        ("shop/a", r#"{"address":"a:80","ttl":"1ms"}"#, "bad-ttl", "1 ms"),
        ("shop/a", r#"{"address":"a:80","wieght":2}"#, "bad-instance", "wieght"),
        ("a.b/a", r#"{"address":"a:80"}"#, "bad-instance", "name of a service"),
        ("shop/a%2Fb", r#"{"address":"a:80"}"#, "bad-instance", "id of an instance"),
    ] {
        let answer = node.api.call(Method::PUT, &format!("/roo/v1/services/{path}"), body).await?;
        ensure!(answer.status == 400, "{path} {body}: {answer:?}");
        let said = answer.json()?;
        ensure!(said["code"] == code && said["error"].to_string().contains(part), "{path} {body}: {said}");
    }
    let large = format!(r#"{{"address":"a:80","node":"{}"}}"#, "n".repeat(200 * 1024));
    let answer = node.api.call(Method::PUT, "/roo/v1/services/shop/a", large).await?;
    ensure!(answer.status == 413, "{answer:?}");
    node.knows("shop", &[]).await?;
    for method in [Method::DELETE, Method::GET] {
        let answer = node.api.call(method, "/roo/v1/services/shop/a", "").await?;
        ensure!(answer.status == 404 && answer.json()?["code"] == "not-found", "{answer:?}");
    }

    // Writing needs the token, reading on a private network does not; and nobody writes past the registrar.
    node.register("shop/a", json!({ "address": "a:80" })).await?;
    let mut stranger = node.api.clone();
    stranger.token = None;
    for method in [Method::PUT, Method::DELETE] {
        let answer = stranger.call(method, "/roo/v1/services/shop/a", r#"{"address":"a:80"}"#).await?;
        ensure!(answer.status == 401, "{answer:?}");
    }
    ensure!(stranger.get("/roo/v1/services/shop").await?.status == 200);
    let key = "com.roo.service:shop:a";
    let answer = node.api.call(Method::PUT, &format!("/roo/v1/kv/{key}"), "{}").await?;
    ensure!(answer.status == 403, "{answer:?}");
    ensure!(stranger.value(key).await?.is_some_and(|value| value.contains(r#""address":"a:80""#)));
    Ok(())
}

#[tokio::test]
async fn the_command_line_keeps_an_instance_until_it_is_interrupted() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let roo = |args: &[&str]| {
        let mut command = tokio::process::Command::new(crate::support::context::roo_bin());
        command.args(args).env_clear().env("ROO_ADDR", node.api.address.to_string());
        command
    };
    let ttl = ["service", "add", "web", "[::1]:8080", "--ttl", "2s", "--meta", "zone=a", "--weight", "5"];
    let mut adding = Process::spawn(roo(&ttl), &context.path("add.log"))?;
    node.knows("web", &["[::1]:8080"]).await?;
    let output = roo(&["service", "add", "web", "10.0.0.7:80", "--id", "fixed"]).output().await?;
    ensure!(output.status.success(), "{output:?}");

    // It outlives its TTL as long as somebody keeps it alive; another with the same one shows that the time is over.
    node.register("clock/a", json!({ "address": "a:80", "ttl": "3s" })).await?;
    node.knows("clock", &["a"]).await?;
    node.knows("clock", &[]).await?;
    let listed = roo(&["service", "ls", "web"]).output().await?;
    let listed = String::from_utf8(listed.stdout)?;
    ensure!(listed.contains("[::1]:8080") && listed.contains("fixed") && listed.contains("2s"), "{listed}");
    let summary: Value = serde_json::from_slice(&roo(&["service", "ls", "--json"]).output().await?.stdout)?;
    ensure!(summary[0]["service"] == "web" && summary[0]["instances"] == 2, "{summary}");

    adding.signal("INT").await?;
    ensure!(adding.wait().await?.success(), "{}", adding.output());
    ensure!(adding.output().contains("Ctrl-C takes it out"), "{}", adding.output());
    node.knows("web", &["fixed"]).await?;
    ensure!(roo(&["service", "rm", "web", "fixed"]).output().await?.status.success());
    node.knows("web", &[]).await?;
    let again = roo(&["service", "rm", "web", "fixed"]).output().await?;
    ensure!(again.status.code() == Some(1), "{again:?}");
    let bad = roo(&["service", "add", "web", "nowhere", "--ttl", "2s"]).output().await?;
    ensure!(bad.status.code() == Some(2), "{bad:?}");
    Ok(())
}

#[tokio::test]
async fn who_is_told_to_stop_gets_nothing_new_until_it_is_resumed() -> Result<()> {
    let context = Context::new();
    let cluster = Cluster::start(&context, 3, &[]).await?;
    let nodes = &cluster.nodes;
    routed(nodes, "shop.localhost", "http://shop.service.roo").await?;
    let (one, two) = (Upstream::saying("one").await?, Upstream::saying("two").await?);
    let announced = json!({ "address": one.address, "ttl": "1h" });
    nodes[1].register("shop/one", announced.clone()).await?;
    nodes[1].register("shop/two", json!({ "address": two.address })).await?;
    for node in nodes {
        node.knows("shop", &["one", "two"]).await?;
    }
    let mark = async |node: &Node, verb: &str| {
        let mut command = tokio::process::Command::new(crate::support::context::roo_bin());
        command.args(["service", verb, "shop", "one"]).env_clear().env("ROO_ADDR", node.api.address.to_string());
        command.envs(node.api.token.iter().map(|token| ("ROO_TOKEN", token)));
        let output = command.output().await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    };
    mark(&nodes[2], "stop").await?;
    gets_nothing(nodes, "one").await?;
    // It keeps itself registered, on whichever node, which does not undo it.
    for node in nodes {
        let again = node.register("shop/one", announced.clone()).await?;
        ensure!(again["written"] == false, "{again}");
    }
    gets_nothing(nodes, "one").await?;
    let shown = nodes[0].api.get("/roo/v1/services/shop/one").await?.json()?;
    ensure!(shown["state"] == "stopping" && shown["ttl"] == "3600s", "{shown}");

    mark(&nodes[0], "resume").await?;
    for node in nodes {
        until("it is asked again", async || {
            ensure!(node.ask("shop.localhost").await?.text() == "one");
            Ok(())
        })
        .await?;
    }
    // The last word counts, from whomever: here the instance's own.
    nodes[0].register("shop/one", json!({ "address": one.address, "ttl": "1h", "state": "stopping" })).await?;
    gets_nothing(nodes, "one").await?;
    let bad = nodes[0].api.call(Method::PATCH, "/roo/v1/services/shop/one", r#"{"state":"asleep"}"#).await?;
    ensure!(bad.status == 400 && bad.json()?["code"] == "bad-instance", "{bad:?}");
    let none = nodes[0].api.call(Method::PATCH, "/roo/v1/services/shop/none", r#"{"state":"up"}"#).await?;
    ensure!(none.status == 404, "{none:?}");
    Ok(())
}
