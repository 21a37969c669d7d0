//! Watches through the API.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::api::Api;
use crate::support::cluster::{Cluster, Start};
use crate::support::context::Context;
use crate::support::events::{Event, Events};
use crate::support::wait::{PATIENCE, until};
use crate::support::{Result, bail, ensure};

async fn write(api: &Api, path: &str, value: &str) -> Result<u64> {
    let answer = api.call(Method::PUT, &format!("/roo/v1/kv/{path}"), value.to_owned()).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(answer.header("x-roo-revision").parse()?)
}

fn names(events: &[Event]) -> Vec<(&str, &str)> {
    events.iter().map(|event| (event.name.as_str(), event.key())).collect()
}

async fn several(events: &mut Events, count: usize) -> Result<Vec<Event>> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(events.next_change().await?);
    }
    Ok(seen)
}

#[tokio::test]
async fn a_watch_shows_what_is_there_and_then_what_happens() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let api = &node.api;
    write(api, "w/b", "1").await?;
    write(api, "w/a", "1").await?;
    let mut events = Events::open(api, "/roo/v1/watch/w/?prev=1", &[]).await?;
    let there = several(&mut events, 3).await?;
    ensure!(names(&there) == [("put", "w/a"), ("put", "w/b"), ("synced", "")], "{there:?}");
    // Whoever comes back before everything was there must begin anew.
    ensure!(there[0].id.is_none() && there[1].id.is_none() && there[2].id.is_some(), "{there:?}");

    let lease = api.call(Method::POST, "/roo/v1/leases", r#"{"ttl": 1}"#).await?.json()?["id"].clone();
    let lease = lease.as_str().unwrap_or_default();
    let changed = write(api, "w/a", "2").await?;
    write(api, "other", "x").await?;
    let txn = json!({ "success": [{ "op": "delete", "key": "w/a" }, { "op": "put", "key": "w/c", "text": "3" }] });
    let both = api.call(Method::POST, "/roo/v1/txn", txn.to_string()).await?.json()?["revision"].as_u64();
    write(api, &format!("w/d?lease={lease}"), "4").await?;
    let seen = several(&mut events, 5).await?;
    let expected = [("put", "w/a"), ("delete", "w/a"), ("put", "w/c"), ("put", "w/d"), ("expire", "w/d")];
    ensure!(names(&seen) == expected, "{seen:?}");
    ensure!(seen[0].id == Some(changed) && seen[0].data["mod_revision"] == changed, "{:?}", seen[0]);
    ensure!(seen[0].data["prev"]["value"] == STANDARD.encode("1"), "{:?}", seen[0]);
    // Of what happened at once, only the last may be where a client goes on.
    ensure!(seen[1].id.is_none() && seen[2].id == both && seen[1].data["mod_revision"].as_u64() == both, "{seen:?}");
    ensure!(seen[2].data["prev"].is_null() && seen[3].data["lease"] == lease, "{seen:?}");
    ensure!(seen[4].data["prev"]["value"] == STANDARD.encode("4"), "{:?}", seen[4]);
    Ok(())
}

#[tokio::test]
async fn a_watch_goes_on_at_any_node_where_it_was_left() -> Result<()> {
    let context = Context::new();
    let mut cluster = Cluster::start(&context, 3, &[]).await?;
    let mut revisions = Vec::new();
    for n in 0..30 {
        let key = if n % 3 == 2 { "other" } else { "r/key" };
        let revision = write(&cluster.nodes[n % 3].api, key, &n.to_string()).await?;
        if key == "r/key" {
            revisions.push(revision);
        }
    }
    let expect = async |events: &mut Events, expected: &[u64]| -> Result<()> {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let event = events.next_change().await?;
            if event.name == "put" {
                seen.push(event.id.unwrap_or_default());
            } else {
                ensure!(event.name == "synced", "{event:?}");
            }
        }
        ensure!(seen == expected, "{seen:?} instead of {expected:?}");
        Ok(())
    };
    for (k, node) in cluster.nodes.iter().enumerate() {
        // At the revision of a write, and between two.
        for from in [revisions[0], revisions[4] + 1] {
            let mut events = Events::open(&node.api, &format!("/roo/v1/watch/r/?from={from}"), &[]).await?;
            let expected: Vec<u64> = revisions.iter().copied().filter(|revision| *revision >= from).collect();
            expect(&mut events, &expected).await?;
            // And on from there, whatever the URL says, as a browser does it.
            let seen = expected[2].to_string();
            let path = format!("/roo/v1/watch/r/?from={from}");
            let mut events = Events::open(&node.api, &path, &[("last-event-id", &seen)]).await?;
            expect(&mut events, &expected[3..]).await?;
            let later = write(&cluster.nodes[(k + 1) % 3].api, "r/key", "later").await?;
            revisions.push(later);
            expect(&mut events, &[later]).await?;
        }
    }
    // From a revision that lies ahead, and of a node that has been started anew.
    let ahead = revisions[revisions.len() - 1] + 2;
    let mut events = Events::open(&cluster.nodes[0].api, &format!("/roo/v1/watch/r/?from={ahead}"), &[]).await?;
    write(&cluster.nodes[0].api, "r/key", "not yet").await?;
    let last = write(&cluster.nodes[0].api, "r/key", "now").await?;
    expect(&mut events, &[last]).await?;
    revisions.extend([last - 1, last]);
    cluster.nodes[1].process.kill().await?;
    let missed = write(&cluster.nodes[2].api, "r/key", "missed").await?;
    revisions.push(missed);
    cluster.nodes[1] = cluster.starts[1].spawn().await?;
    cluster.nodes[1].ready().await?;
    let path = format!("/roo/v1/watch/r/?from={}", revisions[0]);
    let mut events = Events::open(&cluster.nodes[1].api, &path, &[]).await?;
    expect(&mut events, &revisions).await
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let api = &node.api;
    for query in ["from=soon", "from=-1", "progress=1ms", "form=1", "prev=perhaps"] {
        let answer = api.get(&format!("/roo/v1/watch/x?{query}")).await?;
        ensure!(answer.status == 400 && answer.json()?["code"] == "bad-query", "{query}: {answer:?}");
    }
    // What is too large for the history takes its place: nothing before it can be told any more.
    let first = write(api, "x", "1").await?;
    let value = "v".repeat(1 << 20);
    let mut last = 0;
    for n in 0..40 {
        last = write(api, &format!("big/{n}"), &value).await?;
    }
    let answer = api.get(&format!("/roo/v1/watch/x?from={first}")).await?;
    let said = answer.json()?;
    ensure!(answer.status == 410 && said["code"] == "compacted", "{said}");
    let oldest = said["oldest"].as_u64().unwrap_or_default();
    ensure!(oldest > first && oldest <= last, "{said}");
    let mut events = Events::open(api, &format!("/roo/v1/watch/big/?from={oldest}"), &[]).await?;
    ensure!(events.next_change().await?.id == Some(oldest));
    Ok(())
}

#[tokio::test]
async fn progress_is_told_while_nothing_happens() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let mut events = Events::open(&node.api, "/roo/v1/watch/quiet/?from=now&progress=100ms", &[]).await?;
    ensure!(events.next().await?.name == "synced");
    let elsewhere = write(&node.api, "loud", "x").await?;
    loop {
        let event = events.next().await?;
        ensure!(event.name == "progress" && event.data["revision"].as_u64() == event.id, "{event:?}");
        if event.id >= Some(elsewhere) {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn a_websocket_carries_the_same_events() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let first = write(&node.api, "s/a", "1").await?;
    let url = format!("ws://{}/roo/v1/watch/s/?from={first}&prev=1&progress=1h", node.api.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await?;
    let next = async |socket: &mut tokio_tungstenite::WebSocketStream<_>| -> Result<Value> {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await?;
        match message {
            Some(Ok(Message::Text(text))) => Ok(serde_json::from_str(&text)?),
            other => bail!("{other:?}"),
        }
    };
    let put = next(&mut socket).await?;
    ensure!(put["event"] == "put" && put["id"] == first && put["data"]["key"] == "s/a", "{put}");
    ensure!(put["data"]["value"] == STANDARD.encode("1") && put["data"]["prev"].is_null(), "{put}");
    ensure!(next(&mut socket).await?["event"] == "synced");
    let elsewhere = write(&node.api, "t", "x").await?;
    until("progress is told when it is asked for", async || {
        socket.send(Message::text("progress")).await?;
        let mark = next(&mut socket).await?;
        ensure!(mark["event"] == "progress" && mark["id"].as_u64() >= Some(elsewhere), "{mark}");
        Ok(())
    })
    .await?;
    ensure!(node.api.call(Method::DELETE, "/roo/v1/kv/s/a", "").await?.status == 200);
    let deleted = loop {
        let message = next(&mut socket).await?;
        if message["event"] != "progress" {
            break message;
        }
    };
    ensure!(deleted["event"] == "delete" && deleted["data"]["prev"]["mod_revision"] == first, "{deleted}");
    socket.close(None).await?;

    let mut page = url.as_str().into_client_request()?;
    page.headers_mut().insert("origin", "https://elsewhere.example".parse()?);
    let refused = tokio_tungstenite::connect_async(page).await;
    ensure!(matches!(&refused, Err(tokio_tungstenite::tungstenite::Error::Http(answer)) if answer.status() == 403));
    Ok(())
}

/// One that does not read is cut and told where to go on; another on the same prefix gets everything meanwhile.
#[tokio::test]
async fn a_slow_watcher_is_cut_and_others_are_not_slowed() -> Result<()> {
    const WRITES: usize = 160;
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let mut slow = Events::open(&node.api, "/roo/v1/watch/f/?from=now", &[]).await?;
    let mut quick = Events::open(&node.api, "/roo/v1/watch/f/?from=now", &[]).await?;
    ensure!(slow.next().await?.name == "synced" && quick.next().await?.name == "synced");
    let value = "v".repeat(256 << 10);
    for n in 0..WRITES {
        let revision = write(&node.api, &format!("f/{}", n % 4), &value).await?;
        ensure!(quick.next_change().await?.id == Some(revision), "write {n}");
    }
    let mut seen = 0;
    let resume = loop {
        let event = slow.next_change().await?;
        match event.name.as_str() {
            "put" => seen += 1,
            "behind" => break event.data["resume"].as_u64().unwrap_or_default(),
            other => bail!("{other} after {seen}"),
        }
    };
    ensure!(slow.next().await.is_err(), "it goes on after it was cut");
    ensure!(seen < WRITES, "it was given everything");
    // The history is bounded in bytes too, so the place may be too old already: then that is said.
    match Events::open(&node.api, &format!("/roo/v1/watch/f/?from={resume}"), &[]).await {
        Ok(mut events) => ensure!(events.next_change().await?.id == Some(resume)),
        Err(error) => ensure!(error.to_string().contains("compacted"), "{error}"),
    }
    Ok(())
}

/// Many on one prefix: each gets every event.
#[tokio::test]
async fn many_watchers_of_one_prefix_get_every_event() -> Result<()> {
    const WATCHERS: usize = 1500;
    const WRITES: u64 = 5;
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let mut events = Events::open(&node.api, "/roo/v1/watch/m/?from=now", &[]).await?;
        ensure!(events.next().await?.name == "synced");
        watchers.push(events);
    }
    let mut revisions = Vec::new();
    for n in 0..WRITES {
        revisions.push(write(&node.api, "m/key", &n.to_string()).await?);
    }
    for events in &mut watchers {
        for revision in &revisions {
            ensure!(events.next_change().await?.id == Some(*revision));
        }
    }
    Ok(())
}
