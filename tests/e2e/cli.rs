//! The command line, as people and scripts use it.

use tokio::process::Command;

use crate::support::cli::{ok, roo, text};
use crate::support::cluster::{SECRET, Start};
use crate::support::context::{Context, roo_bin};
use crate::support::{Result, ensure};

#[tokio::test]
async fn nouns_and_verbs_do_what_they_say() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    ok(&node, &["kv", "put", "dir/a key", "value one"]).await?;
    ensure!(ok(&node, &["kv", "get", "dir/a key"]).await? == "value one");
    let listed = ok(&node, &["kv", "ls", "dir/"]).await?;
    ensure!(listed.contains("dir/a key") && listed.contains("value one"), "{listed}");
    let listed: serde_json::Value = serde_json::from_str(&ok(&node, &["kv", "ls", "dir/", "--json"]).await?)?;
    ensure!(listed["dir/a key"] == "dmFsdWUgb25l", "{listed}");
    ok(&node, &["kv", "del", "dir/a key"]).await?;

    ok(&node, &["route", "add", "cli.localhost", "http://127.0.0.1:9001"]).await?;
    let routes = ok(&node, &["route", "ls"]).await?;
    ensure!(routes.contains("cli.localhost:https") && routes.contains("http://127.0.0.1:9001"), "{routes}");
    ok(&node, &["route", "rm", "cli.localhost"]).await?;
    ensure!(!ok(&node, &["route", "ls"]).await?.contains("cli.localhost"));

    let nodes = ok(&node, &["node", "ls"]).await?;
    ensure!(nodes.contains("leader") && nodes.contains("reachable"), "{nodes}");
    let status = ok(&node, &["status"]).await?;
    ensure!(status.contains("state:") && status.contains("ready"), "{status}");
    let status: serde_json::Value = serde_json::from_str(&ok(&node, &["status", "--json"]).await?)?;
    ensure!(status["role"] == "leader", "{status}");
    ok(&node, &["cert", "ls"]).await?;
    ok(&node, &["healthcheck"]).await?;
    ensure!(ok(&node, &["version"]).await?.starts_with("roo "));
    for shell in ["bash", "zsh", "fish"] {
        ensure!(ok(&node, &["completion", shell]).await?.contains("roo"), "{shell}");
    }
    Ok(())
}

#[tokio::test]
async fn a_watch_prints_changes_as_they_come() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    node.api.put("w/before", "1").await?;
    let log = context.path("watch.log");
    let mut command = Command::new(roo_bin());
    command.args(["kv", "watch", "w/"]).env("ROO_ADDR", node.api.address.to_string());
    let watch = crate::support::process::Process::spawn(command, &log)?;
    let sees = async |line: &str| {
        crate::support::wait::until(line, async || {
            ensure!(watch.output().lines().any(|l| l == line), "it printed:\n{}", watch.output());
            Ok(())
        })
        .await
    };
    sees("put w/before 1").await?;
    node.api.put("w/after", "2").await?;
    sees("put w/after 2").await?;
    node.api.call(http::Method::DELETE, "/roo/v1/kv/w/after", "").await?;
    sees("delete w/after").await
}

#[tokio::test]
async fn the_exit_code_tells_what_went_wrong() -> Result<()> {
    let context = Context::new();
    let node = Start::new(&context, "node").spawn().await?;
    node.ready().await?;
    for (args, code, part) in [
        (vec!["kv", "get", "absent"], 1, "no key `absent`"),
        (vec!["kv", "put", "com.roo.ca", "x"], 1, "belongs to Roo"),
        (vec!["route", "add", "x.localhost", "gopher://y"], 2, "gopher"),
        (vec!["kv", "fly"], 2, "fly"),
        (vec!["--no-such-flag"], 2, "no-such-flag"),
        (vec!["status", "--addr", "127.0.0.1:9"], 3, "127.0.0.1:9"),
        (vec!["run", "--http", "x", "--workers", "0", "--secret", "short"], 2, "--workers"),
    ] {
        let output = roo(Some(&node), &args).await?;
        let said = text(&output);
        ensure!(output.status.code() == Some(code) && said.contains(part), "{args:?}: {} {said}", output.status);
    }
    // All mistakes are told at once.
    let said = text(&roo(None, &["run", "--http", "x", "--workers", "0", "--secret", "short"]).await?);
    ensure!(["--http", "--workers", "--secret"].iter().all(|flag| said.contains(flag)), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_token_is_derived_from_the_secret() -> Result<()> {
    let context = Context::new();
    let mut node = Start::new(&context, "node").secret()?.spawn().await?;
    node.ready().await?;
    node.api.token = None;
    let output = roo(Some(&node), &["kv", "put", "a", "b"]).await?;
    ensure!(output.status.code() == Some(1) && text(&output).contains("token"), "{}", text(&output));
    let file = context.path("secret");
    std::fs::write(&file, format!("{SECRET}\n"))?;
    let mut command = Command::new(roo_bin());
    command.args(["kv", "put", "a", "b"]).env("ROO_ADDR", node.api.address.to_string()).env("ROO_SECRET_FILE", &file);
    let output = command.output().await?;
    ensure!(output.status.success(), "{}", text(&output));
    Ok(())
}

#[tokio::test]
async fn labels_of_a_stack_file_are_checked_without_a_node() -> Result<()> {
    let context = Context::new();
    let file = |name: &str, labels: &str| {
        let path = context.path(name);
        let text = format!("name: shop\nservices:\n  web:\n    labels:\n{labels}");
        std::fs::write(&path, text).map(|()| path.display().to_string())
    };
    let good = file("good.yml", "      roo.host: ${HOST:-shop.localhost}\n      roo.port: 80\n")?;
    let doubtful = file("doubtful.yml", "      roo.host: shop.localhost\n      roo.port: 80\n      roo.prot: h2\n")?;
    let bad = file("bad.yml", "      roo.host: shop.localhost\n      roo.port: 80\n      roo.balance: random\n")?;
    let broken = file("broken.yml", "      roo.host: [\n")?;
    for (args, code, parts) in [
        (vec!["check", &good, "--strict"], 0, ["https://shop.localhost  http://tasks.shop_web:80", "shop_web"]),
        (vec!["check", &doubtful], 0, ["warning: service shop_web: roo.prot", "'roo.port'"]),
        (vec!["check", &doubtful, "--strict"], 1, ["https://shop.localhost", "0 errors, 1 warning"]),
        (vec!["check", &bad], 1, ["error: service shop_web: roo.balance", "least-requests"]),
        (vec!["check", &bad, "--stack", "other", "--json"], 1, ["\"other_web\"", "\"severity\": \"error\""]),
        (vec!["check", &broken], 1, ["broken.yml", "no stack file"]),
        (vec!["check", "/nowhere.yml"], 2, ["/nowhere.yml", "can't read"]),
        (vec!["check"], 2, ["FILE", "required"]),
    ] {
        let output = roo(None, &args).await?;
        let said = text(&output);
        let fine = output.status.code() == Some(code) && parts.iter().all(|part| said.contains(part));
        ensure!(fine, "{args:?}: {} {said}", output.status);
    }
    Ok(())
}

#[tokio::test]
async fn a_file_in_the_form_of_the_original_still_works() -> Result<()> {
    let context = Context::new();
    let file = context.path("config.json");
    let data = context.path("data");
    std::fs::write(
        &file,
        serde_json::json!({
            "ApiVersion": "v1",
            "DataDirectoryRoot": data,
            "Debug": true,
            "SwarmRole": "dead",
            "Cluster": { "StartDelaySeconds": 0, "Binding": "127.0.0.1:0", "DSN": "a typing error" }
        })
        .to_string(),
    )?;
    let mut command = Command::new(roo_bin());
    command.arg("run").arg(&file).args(["--http=127.0.0.1:0", "--https=127.0.0.1:0", "--api=127.0.0.1:0"]);
    command.arg("--acme-directory=off");
    let process = crate::support::process::Process::spawn(command, &context.path("log"))?;
    crate::support::wait::until("the node is up and has warned", async || {
        let output = process.output();
        for part in ["`SwarmRole` never had an effect", "did you mean `Cluster.DNS`", "\"listener\":\"api\""] {
            ensure!(output.contains(part), "no {part} in\n{output}");
        }
        ensure!(data.join("secret").exists(), "the data is elsewhere");
        Ok(())
    })
    .await
}
