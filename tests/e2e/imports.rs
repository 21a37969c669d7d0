//! Certificates of one's own: brought in by verb, API and files, kept as long as they are good, and given out again.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::support::cli::{ok, roo, text};
use crate::support::cluster::{Node, Start};
use crate::support::context::Context;
use crate::support::https::Https;
use crate::support::pki::Pki;
use crate::support::upstream::Upstream;
use crate::support::wait::until;
use crate::support::{Result, ensure};

async fn shown(node: &Node, name: &str) -> Result<Value> {
    node.api.get(&format!("/roo/v1/certs/{name}")).await?.json()
}

async fn served(node: &Node, pki: &Pki, name: &str, says: &str) -> Result<()> {
    let https = Https::trusting(&pki.root())?;
    until(&format!("{name} is served with the certificate of our own"), async || {
        let answer = https.get(node.https, name, "/").await?;
        ensure!(answer.text() == says, "{answer:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_chain_in_the_wrong_order_is_imported_and_stays() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let (pki, upstream) = (Pki::new()?, Upstream::saying("own").await?);
    let issued = pki.issue(&["own.example", "*.own.example"], 1, 60)?;
    let (cert, key) = (context.path("own.pem"), context.path("own.key"));
    std::fs::write(&cert, format!("{}{}{}", pki.root(), issued.intermediate, issued.leaf))?;
    std::fs::write(&key, &issued.key)?;
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let said = ok(&node, &["cert", "import", "--cert", &cert, "--key", &key]).await?;
    ensure!(said.starts_with("imported: own.example *.own.example, serial "), "{said}");
    for name in ["own.example", "a.own.example"] {
        node.route(&format!("{name}:https"), &upstream.url()).await?;
        served(&node, &pki, name, "own").await?;
    }
    let now = shown(&node, "own.example").await?;
    ensure!(now["source"] == "imported" && now["managed"] == "import" && now["chain_length"] == 2, "{now}");
    ensure!(now["state"] == "ready" && now["routes"][0] == "own.example:https", "{now}");
    let refused = roo(Some(&node), &["cert", "revoke", "own.example"]).await?;
    ensure!(text(&refused).contains("was brought in"), "{}", text(&refused));
    Ok(())
}

#[tokio::test]
async fn what_can_not_be_served_is_refused_without_showing_the_key() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let pki = Pki::new()?;
    let (good, old, other) =
        (pki.issue(&["own.example"], 1, 60)?, pki.issue(&["own.example"], 90, -1)?, pki.issue(&["x.example"], 1, 60)?);
    let put = async |certificate: &str, key: &str, force: bool| {
        let body = json!({ "certificate": certificate, "key": key, "force": force }).to_string();
        node.api.call(http::Method::PUT, "/roo/v1/certs", body).await
    };
    for (certificate, key, why) in [
        (good.chain(), &other.key, "belongs to none of the 2 certificates"),
        (good.chain(), &"nonsense".to_owned(), "no private key in PEM form"),
        (old.chain(), &old.key, "ended at"),
    ] {
        let answer = put(&certificate, key, false).await?;
        let said = answer.text();
        ensure!(answer.status == 400 && said.contains("bad-certificate") && said.contains(why), "{said}");
        ensure!(!said.contains(key.lines().nth(1).unwrap_or("BEGIN")), "{said}");
    }
    ensure!(put(&old.chain(), &old.key, true).await?.status == 200, "by force");
    let metrics = node.api.get("/metrics").await?.text();
    ensure!(metrics.contains("roo_tls_certs_ending 1"), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn pairs_in_a_directory_are_taken_and_the_newer_one_stays() -> Result<()> {
    let context = Context::new();
    let dir = context.path("certs");
    std::fs::create_dir(&dir)?;
    let (pki, upstream) = (Pki::new()?, Upstream::saying("from a file").await?);
    let write = |stem: &str, age: i64, left: i64| -> Result<String> {
        let issued = pki.issue(&["file.example"], age, left)?;
        std::fs::write(dir.join(format!("{stem}.key")), &issued.key)?;
        std::fs::write(dir.join(format!("{stem}.crt")), issued.chain())?;
        Ok(issued.leaf)
    };
    write("first", 10, 60)?;
    let place = dir.display().to_string();
    let node = Start::new(&context, "node").args(["--certs-dir", &place]).spawn().await?;
    node.ready().await?;
    node.route("file.example:https", &upstream.url()).await?;
    served(&node, &pki, "file.example", "from a file").await?;
    let first = shown(&node, "file.example").await?;
    write("older", 20, 60)?;
    write("newer", 5, 60)?;
    let newer = until("the newer one is there", async || {
        let now = shown(&node, "file.example").await?;
        ensure!(now["serial"] != first["serial"], "{now}");
        Ok(now)
    })
    .await?;
    ensure!(newer["not_before"].as_str() > first["not_before"].as_str(), "{newer} after {first}");
    // A pair that is no good is told of, and leaves the others alone.
    std::fs::write(dir.join("newer.key"), "nonsense")?;
    until("it is told", async || {
        let output = node.process.output();
        ensure!(output.contains("this certificate can't be used; mend its files"), "{output}");
        Ok(())
    })
    .await?;
    ensure!(shown(&node, "file.example").await?["serial"] == newer["serial"]);
    Ok(())
}

#[tokio::test]
async fn private_keys_leave_by_a_right_of_their_own() -> Result<()> {
    let context = Context::new();
    let audit = context.path("audit.log");
    let log = audit.display().to_string();
    let mut node = Start::new(&context, "node").secret()?.args(["--audit", &log]).spawn().await?;
    node.ready().await?;
    let issued = Pki::new()?.issue(&["own.example"], 1, 60)?;
    let body = json!({ "certificate": issued.chain(), "key": issued.key }).to_string();
    ensure!(node.api.call(http::Method::PUT, "/roo/v1/certs", body).await?.status == 200);

    let export = ["cert", "export", "own.example"];
    let refused = async |node: &Node, code: &str| {
        let answer = node.api.get("/roo/v1/certs/own.example/export").await?;
        let said = answer.text();
        ensure!(said.contains(code) && !said.contains("BEGIN"), "{said}");
        let output = roo(Some(node), &export).await?;
        ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{}", text(&output));
        Ok(())
    };
    let root = node.api.token.clone();
    refused(&node, "export-not-allowed").await?;
    let admin = ok(&node, &["token", "add", "boss", "--admin"]).await?;
    let exporter = ok(&node, &["token", "add", "exporter", "--export"]).await?;
    node.api.token = Some(admin.trim().to_owned());
    until("the token is known", async || refused(&node, "export-not-allowed").await).await?;
    let output = roo(Some(&node), &["token", "add", "sly", "--export"]).await?;
    ensure!(text(&output).contains("that takes the token of the secret"), "{}", text(&output));
    node.api.token = None;
    refused(&node, "token-needed").await?;

    node.api.token = Some(exporter.trim().to_owned());
    let (cert, key) = (context.path("out.pem"), context.path("out.key"));
    let (to_cert, to_key) = (cert.display().to_string(), key.display().to_string());
    ok(&node, &["cert", "export", "own.example", "--cert", &to_cert, "--key", &to_key]).await?;
    let same = |file, text: &str| {
        anyhow::Ok(std::fs::read_to_string(file)?.replace("\r\n", "\n") == text.replace("\r\n", "\n"))
    };
    ensure!(same(&cert, &issued.chain())? && same(&key, &issued.key)?);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key)?.permissions());
    ensure!(mode & 0o077 == 0, "the key may be read by others: {mode:o}");
    // As if a proxy on this machine had passed it on, from who knows where.
    let headers = [("x-forwarded-for", "203.0.113.9")];
    let path = "/roo/v1/certs/own.example/export";
    let passed_on = node.api.call_with(http::Method::GET, path, &headers, "").await?;
    ensure!(passed_on.status == 403 && passed_on.text().contains("export-in-clear"), "{}", passed_on.text());
    ensure!(node.api.call(http::Method::PUT, "/roo/v1/kv/a", "b").await?.status == 403, "it may do nothing else");

    node.api.token = root;
    until("each export is in the audit log", async || {
        let text = std::fs::read_to_string(&audit)?;
        let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let exports = lines.iter().filter(|line| line["path"] == path);
        let said: Vec<_> = exports.map(|line| (line["who"].clone(), line["status"].clone())).collect();
        for expected in [("exporter", 200), ("exporter", 403), ("boss", 403), ("root", 403)] {
            ensure!(said.contains(&(json!(expected.0), json!(expected.1))), "{expected:?} in {said:?}");
        }
        ensure!(!text.contains("BEGIN"));
        Ok(())
    })
    .await
    .context("audit")
}
