//! Taking over the certificates of other programs; Caddy is the real one.

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::cli::{ok, roo, text};
use crate::support::cluster::Start;
use crate::support::context::Context;
use crate::support::https::Https;
use crate::support::pki::Pki;
use crate::support::ports::free_address;
use crate::support::process::Process;
use crate::support::upstream::Upstream;
use crate::support::wait::until;
use crate::support::{Result, ensure};

/// The data directory of a Caddy that has signed for these names itself, and its root.
async fn caddy(context: &Context, names: &[&str]) -> Result<(std::path::PathBuf, String)> {
    let data = context.path("caddy");
    let config = json!({
        "admin": { "disabled": true },
        "storage": { "module": "file_system", "root": data },
        "apps": {
            "pki": { "certificate_authorities": { "local": { "install_trust": false } } },
            "tls": { "automation": { "policies": [{ "issuers": [{ "module": "internal" }] }] },
                "certificates": { "automate": names } },
            "http": { "http_port": free_address()?.port(), "servers": { "one": { "listen": [free_address()?.to_string()] } } },
        },
    });
    let file = context.path("caddy.json");
    std::fs::write(&file, config.to_string())?;
    let mut command = Command::new("caddy");
    command.arg("run").arg("--config").arg(&file).env("HOME", context.dir());
    let mut process =
        Process::spawn(command, &context.path("caddy.log")).context("caddy is needed: apt-get install caddy")?;
    let root = data.join("pki/authorities/local/root.crt");
    until("Caddy has signed", async || {
        for name in names {
            let name = name.replace('*', "wildcard_");
            let facts = data.join("certificates/local").join(&name).join(format!("{name}.json"));
            ensure!(facts.exists(), "{}", process.output());
        }
        Ok(())
    })
    .await?;
    process.kill().await?;
    Ok((data, std::fs::read_to_string(root)?))
}

#[tokio::test]
async fn certificates_of_a_real_caddy_are_taken_over() -> Result<()> {
    let context = Context::new();
    let (data, root) = caddy(&context, &["taken.example", "*.wild.example"]).await?;
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let path = data.display().to_string();
    let said = ok(&node, &["cert", "import", "--from", "caddy", &path, "--dry-run"]).await?;
    ensure!(said.matches("would be imported").count() == 2, "{said}");
    ensure!(node.api.get("/roo/v1/certs").await?.json()? == json!([]), "nothing was changed");
    let said = ok(&node, &["cert", "import", "--from", "caddy", &path]).await?;
    ensure!(said.contains("taken.example") && said.contains("*.wild.example"), "{said}");
    let upstream = Upstream::saying("as before").await?;
    for name in ["taken.example", "a.wild.example"] {
        node.route(&format!("{name}:https"), &upstream.url()).await?;
    }
    let https = Https::trusting(&root)?;
    until("it is served as before", async || {
        ensure!(https.get(node.https, "taken.example", "/").await?.text() == "as before");
        Ok(())
    })
    .await?;
    let shown: Value = node.api.get("/roo/v1/certs/taken.example").await?.json()?;
    ensure!(shown["managed"] == "automatic" && shown["renew_at"].is_string(), "{shown}");
    Ok(())
}

#[tokio::test]
async fn what_is_skipped_is_told_with_the_reason() -> Result<()> {
    use base64::Engine;
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    let pki = Pki::new()?;
    let (good, old) = (pki.issue(&["good.example"], 1, 60)?, pki.issue(&["old.example"], 90, -1)?);
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let entry = |name: &str, chain: &str, key: &str| json!({ "domain": { "main": name }, "certificate": encode(chain), "key": encode(key) });
    let store = json!({ "le": {
        "Account": { "Registration": { "uri": "https://acme-v02.api.letsencrypt.org/acme/acct/7" } },
        "Certificates": [entry("good.example", &good.chain(), &good.key), entry("old.example", &old.chain(), &old.key)],
    } });
    let file = context.path("acme.json");
    std::fs::write(&file, store.to_string())?;
    let file = file.display().to_string();
    let said = ok(&node, &["cert", "import", "--from", "traefik", &file]).await?;
    let line =
        |name: &str| said.lines().find(|line| line.contains(name)).map(str::to_owned).with_context(|| said.clone());
    ensure!(
        line("good.example")?.contains("imported") && line("old.example")?.contains("skipped: the certificate ended")
    );
    let shown: Value = node.api.get("/roo/v1/certs/good.example").await?.json()?;
    ensure!(shown["source"] == "https://acme-v02.api.letsencrypt.org/directory", "{shown}");
    for (args, code) in [
        (vec!["cert", "import"], 2),
        (vec!["cert", "import", "--from", "certbot", &file], 1),
        (vec!["cert", "import", "--from", "traefik", "/nowhere/acme.json"], 1),
    ] {
        let output = roo(Some(&node), &args).await?;
        ensure!(output.status.code() == Some(code), "{args:?}: {}", text(&output));
    }
    Ok(())
}
