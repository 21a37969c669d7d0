//! Revisions in answers, and writes that depend on them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;

use crate::support::api::Answer;
use crate::support::cluster::{Cluster, Start};
use crate::support::context::Context;
use crate::support::{Result, ensure};

fn number(answer: &Answer, header: &str) -> u64 {
    answer.header(header).parse().unwrap_or(0)
}

#[tokio::test]
async fn answers_tell_the_revisions_of_store_and_key() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let api = &node.api;
    let first = number(&api.call(Method::PUT, "/roo/v1/kv/a", "1").await?, "x-roo-revision");
    let lease = api.call(Method::POST, "/roo/v1/leases", r#"{"ttl": "1h"}"#).await?.json()?;
    let lease = lease["id"].as_str().unwrap_or_default();
    let written = api.call(Method::PUT, &format!("/roo/v1/kv/a?lease={lease}"), "2").await?;
    let second = number(&written, "x-roo-revision");
    ensure!(second > first && written.header("etag") == format!("\"{second}\""), "{written:?}");
    ensure!(written.json()?["revision"] == second, "{}", written.text());
    api.put("b", "1").await?;

    let read = api.get("/roo/v1/kv/a").await?;
    let store = number(&read, "x-roo-revision");
    ensure!(store > second, "the store's revision, not the key's: {read:?}");
    ensure!(number(&read, "x-roo-create-revision") == first && number(&read, "x-roo-mod-revision") == second);
    ensure!(number(&read, "x-roo-version") == 2 && read.header("x-roo-lease") == lease, "{read:?}");
    ensure!(read.header("etag") == format!("\"{second}\""), "{read:?}");
    let missing = api.get("/roo/v1/kv/absent").await?;
    ensure!(missing.status == 404 && number(&missing, "x-roo-revision") >= store, "{missing:?}");
    let listed = api.get("/roo/v1/kvs/a?meta=1").await?;
    ensure!(number(&listed, "x-roo-revision") >= store, "{listed:?}");
    let entry = &listed.json()?["results"]["a"];
    ensure!(entry["create_revision"] == first && entry["mod_revision"] == second, "{entry}");
    ensure!(entry["version"] == 2 && entry["lease"] == lease && entry["value"] == STANDARD.encode("2"), "{entry}");
    Ok(())
}

#[tokio::test]
async fn a_write_happens_only_if_the_key_is_as_expected() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let api = &node.api;
    let put = async |query: &str, headers: &[(&'static str, &str)], value: &str| {
        api.call_with(Method::PUT, &format!("/roo/v1/kv/k{query}"), headers, value.to_owned()).await
    };
    // Nothing is there.
    for (query, headers) in
        [("?prev_revision=7", vec![]), ("", vec![("if-match", "*")]), ("", vec![("if-match", "\"7\"")])]
    {
        let answer = put(query, &headers, "x").await?;
        let said = answer.json()?;
        ensure!(answer.status == 412 && said["code"] == "conflict", "{query} {headers:?}: {said}");
        ensure!(said["mod_revision"].is_null() && answer.header("etag").is_empty(), "{answer:?}");
    }
    let created = put("", &[("if-none-match", "*")], "1").await?;
    ensure!(created.status == 200, "{created:?}");
    let first = number(&created, "x-roo-revision");
    let tag = format!("\"{first}\"");
    // It is there, and the answer to a failure tells its revision.
    let other = format!("\"{}\"", first + 1);
    for (query, headers) in [
        ("?prev_revision=0".to_owned(), vec![]),
        (format!("?prev_revision={}", first + 1), vec![]),
        (String::new(), vec![("if-none-match", "*")]),
        (String::new(), vec![("if-none-match", &*tag)]),
        (String::new(), vec![("if-match", &*other)]),
    ] {
        let answer = put(&query, &headers, "x").await?;
        let said = answer.json()?;
        ensure!(answer.status == 412 && said["mod_revision"] == first, "{query} {headers:?}: {said}");
        ensure!(answer.header("etag") == tag && number(&answer, "x-roo-revision") >= first, "{answer:?}");
    }
    ensure!(api.value("k").await?.as_deref() == Some("1"), "a refused write happened");
    let second = put("", &[("if-match", &tag)], "2").await?;
    let second = number(&second, "x-roo-revision");
    let third = put(&format!("?prev_revision={second}&prev=1"), &[], "3").await?;
    ensure!(third.status == 200, "{third:?}");
    let previous = &third.json()?["prev"];
    ensure!(previous["mod_revision"] == second && previous["value"] == STANDARD.encode("2"), "{previous}");
    let third = number(&third, "x-roo-revision");

    let delete = async |query: &str, headers: &[(&'static str, &str)]| {
        api.call_with(Method::DELETE, &format!("/roo/v1/kv/k{query}"), headers, "").await
    };
    ensure!(delete("", &[("if-match", &tag)]).await?.status == 412);
    ensure!(delete(&format!("?prev_revision={second}"), &[]).await?.status == 412);
    let deleted = delete(&format!("?prev_revision={third}&prev=1"), &[]).await?;
    ensure!(deleted.status == 200 && deleted.json()?["prev"]["version"] == 3, "{deleted:?}");
    ensure!(delete("", &[("if-match", "*")]).await?.status == 412 && delete("", &[]).await?.status == 404);

    // What cannot be understood is not taken for an unconditional write.
    for (query, headers) in [("?prev_revison=3", vec![]), ("?prev_revision=x", vec![]), ("", vec![("if-match", "3")])] {
        ensure!(put(query, &headers, "x").await?.status == 400, "{query} {headers:?}");
    }
    ensure!(api.value("k").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_read_of_what_the_caller_has_is_not_modified() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let written = node.api.call(Method::PUT, "/roo/v1/kv/a", "1").await?;
    let tag = written.header("etag");
    let read = async |name, value: &str| node.api.call_with(Method::GET, "/roo/v1/kv/a", &[(name, value)], "").await;
    let same = read("if-none-match", tag).await?;
    ensure!(same.status == 304 && same.body.is_empty() && same.header("etag") == tag, "{same:?}");
    ensure!(read("if-none-match", &format!("W/{tag}, \"0\"")).await?.status == 304);
    ensure!(read("if-none-match", "\"0\"").await?.text() == "1");
    ensure!(read("if-match", tag).await?.text() == "1");
    ensure!(read("if-match", "\"0\"").await?.status == 412);
    Ok(())
}

/// Clients on all nodes count up one key by compare-and-swap: no step is lost and none is taken twice.
#[tokio::test]
async fn counting_by_compare_and_swap_loses_nothing() -> Result<()> {
    const STEPS: u64 = 15;
    let context = Context::new();
    let cluster = Cluster::start(&context, 3, &[]).await?;
    cluster.nodes[0].api.put("count", "0").await?;
    let counting = cluster.nodes.iter().map(|node| async move {
        let mut taken = 0;
        while taken < STEPS {
            let read = node.api.get("/roo/v1/kv/count").await?;
            let next = read.text().parse::<u64>()? + 1;
            let seen = [("if-match", read.header("etag"))];
            let answer = node.api.call_with(Method::PUT, "/roo/v1/kv/count", &seen, next.to_string()).await?;
            ensure!(answer.status == 200 || answer.status == 412, "{answer:?}");
            taken += u64::from(answer.status == 200);
        }
        Ok(())
    });
    futures_util::future::try_join_all(counting).await?;
    for node in &cluster.nodes {
        ensure!(node.api.value("count").await? == Some((3 * STEPS).to_string()));
    }
    let read = cluster.nodes[1].api.get("/roo/v1/kv/count").await?;
    ensure!(number(&read, "x-roo-version") == 1 + 3 * STEPS, "{read:?}");
    Ok(())
}
