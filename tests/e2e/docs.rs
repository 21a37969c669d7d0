//! README.md and docs/ hold: their commands run and print what they say, their tables list what the code has.
//!
//! What stands behind the fence of a block decides what becomes of it:
//!
//! | fence | what is done |
//! |---|---|
//! | `sh` | run by bash in the page's own folder; a `text` block after it is all that it prints |
//! | `sh daemon` | one command of Roo that goes on: started; a `text` block after it is among what it prints |
//! | `sh make` | targets of the Makefile; the one that starts Roo is started as a daemon |
//! | `sh swarm` | must stand in `misc/swarm-test.sh` or `tests/swarm/deploy.rs`, which run it where there is an engine |
//! | `yaml` | its labels are known |
//!
//! Any other block is a mistake of the page. Ports are replaced by free ones, in what runs and in what is printed.
//! In `text`, `…` stands for anything within a line, or alone for any number of lines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::Context as _;
use tokio::process::Command;

use crate::support::api::Api;
use crate::support::cluster::tail;
use crate::support::context::{Context, roo_bin};
use crate::support::pebble::Pebble;
use crate::support::ports::free_port_at;
use crate::support::process::Process;
use crate::support::wait::{PATIENCE, until};
use crate::support::{Result, bail, ensure};

/// A test for each page, and one that none is left out.
macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {
        const PAGES: &[&str] = &[$($path),*];
        $(
            #[tokio::test]
            async fn $name() -> Result<()> {
                walk($path).await
            }
        )*
    };
}

pages! {
    readme: "README.md",
    backup: "docs/backup.md",
    certificates: "docs/certificates.md",
    cluster: "docs/cluster.md",
    configuration: "docs/configuration.md",
    errors: "docs/errors.md",
    labels: "docs/labels.md",
    operations: "docs/operations.md",
    profiles: "docs/profiles.md",
    proxy: "docs/proxy.md",
    routes: "docs/routes.md",
    security: "docs/security.md",
    services: "docs/services.md",
    store: "docs/store.md",
    swarm: "docs/swarm.md",
}

// --- Running a page --------------------------------------------------------------------------------------------------

/// Where the pages say that another ACME server is, and the port at which it asks for challenges.
const OTHER_ACME: (u16, u16) = (14000, 8081);
/// The file with the root of its own certificate.
const OTHER_ACME_ROOT: &str = "other-ca.pem";

/// Does what a page says, from top to bottom.
async fn walk(page: &'static str) -> Result<()> {
    let blocks = blocks(&read(page)?).context(page)?;
    let context = Context::new();
    let mut stage = Stage::set(&context, &blocks).await?;
    for block in &blocks {
        stage.play(block).await.with_context(|| format!("{page}:{}\n{}", block.line, block.body))?;
    }
    Ok(())
}

/// A fenced block, with the `text` block that follows it.
struct Block {
    line: usize,
    fence: String,
    body: String,
    prints: Option<String>,
}

fn blocks(page: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(fence) = line.strip_prefix("```") else {
            ensure!(!line.trim_start().starts_with("```"), "line {}: a fence begins its line", at + 1);
            continue;
        };
        let mut body = String::new();
        loop {
            let (_, line) = lines.next().with_context(|| format!("line {}: the block has no end", at + 1))?;
            if line == "```" {
                break;
            }
            body.push_str(line);
            body.push('\n');
        }
        match (fence, blocks.last_mut()) {
            ("text", Some(block)) if block.prints.is_none() && block.fence != "yaml" => block.prints = Some(body),
            _ => blocks.push(Block { line: at + 1, fence: fence.to_owned(), body, prints: None }),
        }
    }
    Ok(blocks)
}

/// What a page runs on.
struct Stage<'a> {
    context: &'a Context,
    /// Documented port → the one in its place.
    ports: BTreeMap<u16, u16>,
    daemons: Vec<Process>,
    nodes: Vec<Api>,
    _acme: Option<Pebble>,
}

impl<'a> Stage<'a> {
    async fn set(context: &'a Context, blocks: &[Block]) -> Result<Self> {
        let mut ports = BTreeMap::new();
        let text: String = blocks.iter().map(|block| block.body.as_str()).collect();
        for port in [8080, 8443, 6299, 6300].into_iter().chain(ports_in(&text)) {
            ports.insert(port, free_port()?);
        }
        let bin = context.path("bin");
        std::fs::create_dir(&bin)?;
        std::os::unix::fs::symlink(std::fs::canonicalize(roo_bin())?, bin.join("roo"))?;
        let mut acme = None;
        if ports.contains_key(&OTHER_ACME.0) {
            let pebble = Pebble::start(context, ports[&OTHER_ACME.1], Ipv4Addr::LOCALHOST).await?;
            let url = pebble.directory();
            ports.insert(OTHER_ACME.0, ports_in(&url).next().context("a port")?);
            std::fs::copy(&pebble.ca_file, context.path(OTHER_ACME_ROOT))?;
            acme = Some(pebble);
        }
        Ok(Self { context, ports, daemons: Vec::new(), nodes: Vec::new(), _acme: acme })
    }

    async fn play(&mut self, block: &Block) -> Result<()> {
        match block.fence.as_str() {
            "sh" => self.run(block).await,
            "sh daemon" => self.start(&block.body, block.prints.as_deref()).await,
            "sh make" => {
                for line in commands(&block.body) {
                    if let Some(command) = made_by(&line)? {
                        self.start(&command, block.prints.as_deref()).await?;
                    }
                }
                Ok(())
            }
            "sh swarm" => commands(&block.body).iter().try_for_each(|line| tested_on_a_swarm(line)),
            "yaml" => block.body.lines().try_for_each(is_known_label),
            other => bail!("nothing is known of a block fenced `{other}`"),
        }
    }

    /// Runs a block to its end and compares what it prints.
    async fn run(&self, block: &Block) -> Result<()> {
        self.settle().await?;
        let script = format!("set -euo pipefail\n{}", self.real(&block.body));
        let output = tokio::time::timeout(PATIENCE, self.bash(&script).kill_on_drop(true).output()).await;
        let output = output.context("it does not end")??;
        let printed = self.documented(&String::from_utf8_lossy(&output.stdout));
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "it ends with {}\n{printed}{complaint}", output.status);
        if let Some(prints) = &block.prints {
            let (expected, found): (Vec<_>, Vec<_>) = (prints.lines().collect(), printed.lines().collect());
            ensure!(same_lines(&expected, &found), "expected:\n{prints}\nprinted:\n{printed}{complaint}");
        }
        Ok(())
    }

    /// Starts what goes on, and waits until it says that it is up.
    async fn start(&mut self, command: &str, prints: Option<&str>) -> Result<()> {
        let joined = command.replace("\\\n", " ");
        let (before, last) = joined.trim_end().rsplit_once('\n').unwrap_or(("", joined.trim_end()));
        ensure!(last.starts_with("roo "), "only Roo is started");
        let script = format!("set -euo pipefail\n{before}\nexec {last}");
        let log = self.context.path(&format!("daemon-{}.log", self.daemons.len()));
        let mut daemon = Process::spawn(self.bash(&self.real(&script)), &log)?;
        let signs = ["Ctrl-C stops it.", "Ctrl-C takes it out", "demo listens on", "\"listener\":\"raft\""];
        let is_up = until("it says that it is up", async || {
            let is_running = daemon.is_running();
            let output = daemon.output();
            ensure!(!is_running || signs.iter().any(|sign| output.contains(sign)), "{output}");
            Ok(is_running)
        });
        ensure!(is_up.await?, "it ended:\n{}", daemon.output());
        let printed = self.documented(&daemon.output());
        if let Some(prints) = prints {
            let (expected, found): (Vec<_>, Vec<_>) = (prints.lines().collect(), printed.lines().collect());
            let among = [vec!["…"], expected, vec!["…"]].concat();
            ensure!(same_lines(&among, &found), "expected:\n{prints}\nprinted:\n{printed}");
        }
        self.nodes.extend(api_of(&daemon.output()));
        self.daemons.push(daemon);
        Ok(())
    }

    /// Waits for what a reader does not see happen between two blocks.
    async fn settle(&self) -> Result<()> {
        for node in &self.nodes {
            until("the node, its routes and its certificates are live", async || self.is_live(node).await)
                .await
                .with_context(|| self.daemons.iter().map(|daemon| tail(&daemon.output())).collect::<String>())?;
        }
        Ok(())
    }

    async fn is_live(&self, node: &Api) -> Result<()> {
        let ready = node.get("/readyz").await?;
        ensure!(ready.status == 200, "{}", ready.text());
        let status = node.status().await?;
        let mut siblings = 0;
        for other in &self.nodes {
            siblings += usize::from(other.status().await?["cluster"] == status["cluster"]);
        }
        let members = status["nodes"].as_array().into_iter().flatten();
        let reachable = members.filter(|member| member["state"] == "reachable" && member["role"] != "learner").count();
        ensure!(reachable == siblings, "of {siblings} nodes it has {}", status["nodes"]);
        let stored = node.get("/roo/v1/kvs/com.roo.host:").await?.json()?;
        let stored = stored["results"].as_object().map(serde_json::Map::len);
        let routes = node.get("/roo/v1/routes").await?.json()?;
        ensure!(stored == routes.as_array().map(Vec::len), "{stored:?} routes, live are {routes}");
        let certs = node.get("/roo/v1/certs").await?.json()?;
        // Pebble turns down nonces at random, and then the name is tried again.
        let unlucky = |cert: &serde_json::Value| cert["state"] == "failed" && cert.to_string().contains("badNonce");
        let waits = certs.as_array().into_iter().flatten().any(|cert| cert["state"] == "waiting" || unlucky(cert));
        ensure!(!waits, "{certs}");
        Ok(())
    }

    fn bash(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        command.args(["-c", script]).current_dir(self.context.dir()).env_clear();
        command.env("PATH", format!("{}:{path}", self.context.path("bin").display()));
        command.env("HOME", self.context.dir()).env("LANG", "C.UTF-8");
        for (name, port) in [("HTTP", 8080), ("HTTPS", 8443), ("API", 6299), ("RAFT", 6300), ("ADDR", 6299)] {
            command.env(format!("ROO_{name}"), format!("127.0.0.1:{}", self.ports[&port]));
        }
        // No page may reach a public CA by leaving something out.
        command.env("ROO_ACME_DIRECTORY", "internal");
        command
    }

    fn real(&self, text: &str) -> String {
        replaced(text, |number| self.ports.get(&number).copied())
    }

    fn documented(&self, text: &str) -> String {
        let back = |number| self.ports.iter().find(|(_, real)| **real == number).map(|(port, _)| *port);
        replaced(text, back)
    }
}

/// A port that is free on 127.0.0.1 to 127.0.0.3, where the pages have their three nodes.
fn free_port() -> Result<u16> {
    free_port_at(&[1, 2, 3].map(|k| IpAddr::from([127, 0, 0, k])))
}

/// Ports as in `host:1234`; those below 1024 belong to services that nobody connects to here.
fn ports_in(text: &str) -> impl Iterator<Item = u16> {
    let after_colon = |part: &str| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse().ok().filter(|port| *port >= 1024)
    };
    text.split(':').skip(1).filter_map(after_colon)
}

/// `text` with whole numbers replaced.
fn replaced(text: &str, other: impl Fn(u16) -> Option<u16>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let word = &rest[start..];
        let word = &word[..word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len())];
        result.push_str(&rest[..start]);
        match word.parse().ok().and_then(&other) {
            Some(number) => result.push_str(&number.to_string()),
            None => result.push_str(word),
        }
        rest = &rest[start + word.len()..];
    }
    result + rest
}

/// The API of a node, from what it printed.
fn api_of(output: &str) -> Option<Api> {
    let line = output.lines().find(|line| line.contains("\"listener\":\"api\"") || line.starts_with("  api "))?;
    let address = line.split(['"', ' ']).find_map(|part| part.parse().ok())?;
    Some(Api { address, token: None })
}

/// Whether lines are as expected; `…` alone stands for any number of them.
fn same_lines(expected: &[&str], found: &[&str]) -> bool {
    match expected.split_first() {
        None => found.is_empty(),
        Some((&"…", rest)) => (0..=found.len()).any(|skipped| same_lines(rest, &found[skipped..])),
        Some((line, rest)) => {
            found.split_first().is_some_and(|(first, more)| same(line, first) && same_lines(rest, more))
        }
    }
}

/// Whether a line is as expected; `…` stands for any part of it. How many blanks there are does not count: the width
/// of a column follows from what is in it.
fn same(expected: &str, found: &str) -> bool {
    let (expected, found) = (normal_blanks(expected), normal_blanks(found));
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| found.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn normal_blanks(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

// --- Commands that are run elsewhere ---------------------------------------------------------------------------------

/// The commands of a block, a line each, without comments.
fn commands(body: &str) -> Vec<String> {
    let joined = body.replace("\\\n", " ");
    let bare = |line: &str| normal(line.split(" # ").next().unwrap_or_default());
    joined.lines().map(bare).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// One blank between words; what the shell fills in is `$`.
fn normal(text: &str) -> String {
    let mut text = normal_blanks(&text.replace("\\\n", " "));
    for (open, close) in [("\"$(", ")\""), ("\"$", "\"")] {
        while let Some(start) = text.find(open) {
            let Some(length) = text[start + open.len()..].find(close) else { break };
            text.replace_range(start..start + open.len() + length + close.len(), "$");
        }
    }
    text
}

/// What `make TARGET` starts, if it starts Roo.
fn made_by(line: &str) -> Result<Option<String>> {
    let target = line.strip_prefix("make").with_context(|| format!("`{line}` is no make"))?.trim();
    let makefile = read("Makefile")?;
    let target = if target.is_empty() { "build" } else { target };
    let (_, rule) = makefile.split_once(&format!("\n{target}:")).with_context(|| format!("no target {target}"))?;
    let recipe = rule.lines().skip(1).take_while(|line| line.starts_with('\t'));
    let started = recipe.filter_map(|line| line.trim().strip_prefix("exec $(BIN) ")).next();
    Ok(started.map(|arguments| format!("roo {arguments}")))
}

/// A command for a swarm stands in one of the two tests that try it on one.
fn tested_on_a_swarm(line: &str) -> Result<()> {
    if line.starts_with("make") {
        return made_by(line).map(drop);
    }
    let mut command = line;
    while let Some((name, rest)) = command.split_once('=').filter(|(name, _)| name.starts_with("ROO_")) {
        ensure!(
            read("roo-docker-compose.yml")?.contains(&format!("${{{name}:-")),
            "the stack file does not take {name}"
        );
        command = rest.split_once(' ').map_or("", |(_, command)| command);
    }
    let known = normal(&read("misc/swarm-test.sh")?) + &normal(&read("tests/swarm/deploy.rs")?);
    ensure!(known.contains(command), "`{command}` does not stand in misc/swarm-test.sh, nor in tests/swarm/deploy.rs");
    Ok(())
}

// --- Tables and the code ---------------------------------------------------------------------------------------------

fn read(path: &str) -> Result<String> {
    let full = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&full).with_context(|| full.display().to_string())
}

/// The files in a folder and in those in it.
fn files(folder: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(folder))? {
        let entry = entry?;
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// Code up to its unit tests, blanks collapsed.
fn code(path: &str) -> Result<String> {
    let text = read(path)?;
    Ok(normal_blanks(text.split("#[cfg(test)]").next().unwrap_or_default()))
}

/// The part of a text between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Result<&'a str> {
    let (_, rest) = text.split_once(from).with_context(|| format!("there is no `{from}`"))?;
    Ok(rest.split_once(to).map_or(rest, |(part, _)| part))
}

/// The rows of the tables in a section of a page whose first cell is code: that code, then the other cells.
fn rows(page: &str, section: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let page = read(page)?;
    let part = between(&page, section, "\n## ")?;
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let row = |line: &str| {
        let cells = cells(line);
        let name = cells.first()?.strip_prefix('`')?.split('`').next()?.to_owned();
        Some((name, cells[1..].to_vec()))
    };
    Ok(part.lines().filter(|line| line.starts_with("| `")).filter_map(row).collect())
}

fn names(rows: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    rows.keys().cloned().collect()
}

/// The texts in double quotes that follow `mark`.
fn quoted_after(text: &str, mark: &str) -> BTreeSet<String> {
    text.split(mark).skip(1).filter_map(|rest| rest.split_once('"')).map(|(text, _)| text.to_owned()).collect()
}

#[test]
fn every_page_is_walked_and_linked() -> Result<()> {
    let mut there = BTreeSet::from(["README.md".to_owned()]);
    for entry in std::fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs"))? {
        there.insert(format!("docs/{}", entry?.file_name().to_string_lossy()));
    }
    ensure!(there == PAGES.iter().map(|page| (*page).to_owned()).collect(), "{there:?}");
    let front = read("README.md")?;
    for page in PAGES {
        ensure!(*page == "README.md" || front.contains(&format!("]({page})")), "README.md does not lead to {page}");
        let text = read(page)?;
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
            let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join(target);
            ensure!(link.starts_with("https://") || file.exists(), "{page}: {link} leads nowhere");
        }
    }
    Ok(())
}

#[test]
fn every_setting_is_documented_with_its_names_and_default() -> Result<()> {
    let code = code("roo/src/config/setting.rs")?.replace("( \"", "(\"");
    let table = between(&code, "SETTINGS: &[Setting]", "];")?;
    let rows = rows("docs/configuration.md", "## All settings")?;
    let flag = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    let rows: BTreeMap<String, Vec<String>> = rows.into_iter().map(|(name, cells)| (flag(&name), cells)).collect();
    let mut flags = BTreeSet::new();
    let stack = read("roo-docker-compose.yml")?;
    for setting in table.split("setting(\"").skip(1) {
        let name = setting.split('"').next().unwrap_or_default();
        let cells = rows.get(&format!("--{name}")).with_context(|| format!("--{name} is missing"))?;
        flags.insert(format!("--{name}"));
        let key = name.replace('-', "_");
        let mut due = vec![format!("`ROO_{}`", key.to_uppercase()), format!("`{key}`")];
        if setting.contains(".secret()") {
            due.push(format!("`ROO_{}_FILE`", key.to_uppercase()));
        }
        if let Ok(path) = between(setting, ".original(&[", "]") {
            due.push(format!("`{}`", path.replace(['"', ' '], "").replace(',', ".")));
        }
        if let Ok(default) = between(setting, "[default: ", "]") {
            ensure!(cells[2].starts_with(default), "--{name}: the default is {default}, not {}", cells[2]);
        }
        let env = key.to_uppercase();
        ensure!(stack.contains(&format!("ROO_{env}: \"${{ROO_{env}")), "the stack file does not pass ROO_{env} on");
        for part in due {
            ensure!(cells[..2].iter().any(|cell| cell.contains(&part)), "--{name}: no {part} in {cells:?}");
        }
    }
    ensure!(flags == names(&rows), "documented: {:?}", names(&rows));
    Ok(())
}

/// The labels that Roo reads, and those that are spoken for.
fn label_names() -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let native = code("roo-docker/src/labels/native.rs")?;
    let mut known = quoted_after(&native, ": &str = \"");
    known.remove("roo.routes.");
    known.extend(quoted_after(&label_fields()?, "kind( \""));
    known.extend(quoted_after(&code("roo-docker/src/labels/original.rs")?, ": &str = \""));
    known.insert(format!("{}<host>[:<port>]:<scheme>", key_form()?));
    let reserved = between(&native, "UNSUPPORTED: [&str; ", "];")?;
    Ok((known, reserved.split('"').skip(1).step_by(2).map(str::to_owned).collect()))
}

/// The table of labels that stand for a field each.
fn label_fields() -> Result<String> {
    let code = code("roo-docker/src/labels/settings.rs")?.replace("kind(\"", "kind( \"");
    Ok(between(&code, "SETTINGS: &[Kind]", "];")?.to_owned())
}

#[test]
fn every_field_of_a_route_has_a_label() -> Result<()> {
    let mut fields = names(&rows("docs/routes.md", "## The route document")?);
    for other in ["to", "source"] {
        ensure!(fields.remove(other), "{other} is not documented");
    }
    let labelled = quoted_after(&label_fields()?, "\", \"");
    ensure!(labelled == fields, "{labelled:?} {fields:?}");
    Ok(())
}

fn key_form() -> Result<String> {
    let code = code("roo-docker/src/labels/key_form.rs")?;
    Ok(between(&code, "PREFIX: &str = \"", "\"")?.to_owned())
}

fn is_known_label(line: &str) -> Result<()> {
    let Some((label, _)) = line.trim().trim_start_matches('"').split_once([' ', '"']) else { return Ok(()) };
    let label = label.trim_end_matches(':');
    let label = match label.strip_prefix("roo.routes.").and_then(|rest| rest.split_once('.')) {
        Some((_, setting)) => &format!("roo.{setting}"),
        None => label,
    };
    let ours = ["roo.", "Origin", "Destination", "com.roo."].iter().any(|start| label.starts_with(start));
    ensure!(!ours || label_names()?.0.contains(label) || label.starts_with(&key_form()?), "{label} is no label");
    Ok(())
}

#[test]
fn every_label_is_documented() -> Result<()> {
    let (known, reserved) = label_names()?;
    ensure!(known.len() > 10 && reserved.len() > 5, "{known:?} {reserved:?}");
    ensure!(names(&rows("docs/labels.md", "## Labels")?) == known, "{known:?}");
    ensure!(names(&rows("docs/labels.md", "## Reserved names")?) == reserved, "{reserved:?}");
    let front = names(&rows("README.md", "## Labels")?);
    ensure!(!front.is_empty() && front.is_subset(&known), "{front:?}");
    Ok(())
}

/// Status numbers by the names that the code has for them.
fn status_numbers() -> BTreeMap<String, String> {
    let name = |code| http::StatusCode::from_u16(code).ok()?.canonical_reason().map(|text| (text, code));
    let constant = |(text, code): (&str, u16)| (text.to_uppercase().replace([' ', '-'], "_"), code.to_string());
    (100..600).filter_map(name).map(constant).collect()
}

#[test]
fn every_reason_of_the_proxy_is_documented_with_its_status() -> Result<()> {
    let code = code("roo-proxy/src/failure.rs")?;
    let variant =
        |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned();
    let reasons: BTreeMap<String, String> = between(&code, "fn reason(self)", "} }")?
        .split("Failure::")
        .skip(1)
        .filter_map(|arm| Some((variant(arm), arm.split('"').nth(1)?.to_owned())))
        .collect();
    let numbers = status_numbers();
    let mut due = BTreeMap::new();
    let mut pending = Vec::new();
    for part in between(&code, "fn status(self)", "} }")?.split("::").skip(1).map(variant) {
        match (reasons.get(&part), numbers.get(&part)) {
            (Some(reason), _) => pending.push(reason.clone()),
            (None, Some(number)) => due.extend(pending.drain(..).map(|reason| (reason, number.clone()))),
            (None, None) => {}
        }
    }
    let rows = rows("docs/errors.md", "## What the proxy answers")?;
    let documented: BTreeMap<String, String> =
        rows.iter().map(|(name, cells)| (name.clone(), cells[0].clone())).collect();
    ensure!(due.len() == reasons.len() && due == documented, "the code has {due:?}");
    Ok(())
}

#[test]
fn every_code_of_the_api_is_documented_with_its_status() -> Result<()> {
    let numbers = status_numbers();
    let mut due: BTreeSet<(String, String)> = BTreeSet::new();
    for path in files("roo/src/api")? {
        let code = code(&path)?.replace("( ", "(");
        due.extend(quoted_after(&code, "bad_request(\"").into_iter().map(|name| (name, "400".to_owned())));
        for part in code.split("StatusCode::").skip(1) {
            let Some((constant, rest)) = part.split_once(", \"") else { continue };
            if let (Some(number), Some((name, _))) = (numbers.get(constant), rest.split_once('"'))
                && number.as_str() >= "400"
            {
                due.insert((name.to_owned(), number.clone()));
            }
        }
    }
    let rows = rows("docs/errors.md", "## What the API answers")?;
    let documented: BTreeSet<(String, String)> =
        rows.iter().map(|(name, cells)| (name.clone(), cells[0].clone())).collect();
    ensure!(due.len() > 15 && due == documented, "the code has {due:?}");
    Ok(())
}

#[test]
fn every_metric_is_documented() -> Result<()> {
    let mut due = BTreeSet::new();
    for path in [
        "roo-proxy/src/metric.rs",
        "roo/src/api/metrics.rs",
        "roo-acme/src/books.rs",
        "roo-acme/src/desk.rs",
        "roo-acme/src/revoke.rs",
    ] {
        let code = code(path)?;
        let name = |rest: String| format!("roo_{}", rest.split('{').next().unwrap_or_default());
        due.extend(quoted_after(&code, "\"roo_").into_iter().map(name));
    }
    ensure!(names(&rows("docs/operations.md", "## Metrics")?) == due, "the code has {due:?}");
    Ok(())
}

/// A number, a size or a time as pages write it, in the words of [`std::fmt::Debug`].
fn plain(written: &str) -> String {
    let (number, unit) = written.split_once(' ').unwrap_or((written, ""));
    let number: u64 = number.replace(',', "").parse().unwrap_or_default();
    match unit {
        "KiB" => (number * 1024).to_string(),
        "s" => format!("{number}s"),
        "h" => format!("{}s", number * 3600),
        _ => number.to_string(),
    }
}

/// The fields of a struct as [`std::fmt::Debug`] shows it.
fn shown(debug: &str) -> BTreeMap<String, String> {
    let inner = debug.split_once('{').map_or("", |(_, rest)| rest).trim_end_matches('}');
    let fields = inner.split(',').filter_map(|field| field.split_once(": "));
    fields.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn every_limit_of_the_proxy_is_documented_with_its_default() -> Result<()> {
    let config = roo_proxy::Config::default();
    let mut limits = shown(&format!("{:?}", config.limits));
    let mut timeouts = shown(&format!("{:?}", config.timeouts));
    timeouts.insert("certificate_wait".to_owned(), format!("{:?}", config.certificate_wait));
    let sources = files("roo-proxy/src")?.iter().map(|path| code(path)).collect::<Result<Vec<_>>>()?;
    for (name, constant) in [
        ("handshakes of one route that wait for a certificate", "WAITERS_PER_ROUTE"),
        ("fields of a request or response", "FIELDS_MAX"),
        ("head of a response", "HEAD_BYTES_MAX"),
        ("interim responses to a request", "INTERIMS_MAX"),
        ("extensions of the chunks of a body", "EXTENSIONS_BYTES_MAX"),
        ("trailers of a body", "TRAILERS_BYTES_MAX"),
        ("addresses tried for a request", "TRIES"),
        ("destinations of a route", "DESTINATIONS_MAX"),
    ] {
        let mark = format!("const {constant}: usize = ");
        let code = sources.iter().find(|code| code.contains(&mark)).with_context(|| format!("no {constant}"))?;
        let factors: std::result::Result<Vec<u64>, _> =
            between(code, &mark, ";")?.split(" * ").map(str::parse).collect();
        limits.insert(name.to_owned(), factors.context(constant)?.iter().product::<u64>().to_string());
    }
    for (section, due) in [("## Limits", limits), ("## Timeouts", timeouts)] {
        let rows = rows("docs/proxy.md", section)?;
        let documented: BTreeMap<String, String> =
            rows.into_iter().map(|(name, cells)| (name, plain(&cells[0]))).collect();
        ensure!(due.len() > 5 && due == documented, "{section}: the code has {due:#?}\nthe page {documented:#?}");
    }
    Ok(())
}

#[test]
fn every_field_of_a_route_is_documented() -> Result<()> {
    let mut files = files("roo-proxy/src/route")?;
    files.push("roo-proxy/src/tls/policy.rs".to_owned());
    let code = files.iter().map(|path| code(path)).collect::<Result<Vec<_>>>()?.join(" ");
    let fields = |part: &str, prefix: &str| -> BTreeSet<String> {
        let words: Vec<&str> = part.split(' ').collect();
        let named = words.iter().filter_map(|word| word.strip_suffix(':'));
        named
            .filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
            .map(|name| format!("{prefix}{name}"))
            .collect()
    };
    let mut due = fields(between(&code, "struct Document {", "}")?, "");
    due.retain(|name| !["tls", "client_tls", "ejection"].contains(&name.as_str()));
    due.extend(fields(between(&code, "struct EjectionDocument {", "}")?, "ejection."));
    due.extend(fields(between(&code, "pub struct UpstreamTls {", "} impl")?, "tls."));
    due.extend(fields(between(&code, "pub struct TlsPolicy {", "}")?, "client_tls."));
    ensure!(names(&rows("docs/routes.md", "## The route document")?) == due, "the code has {due:?}");
    Ok(())
}

#[test]
fn the_marks_of_expected_output_mean_what_they_say() {
    assert!(same("a … c", "a b c") && same("a…", "a") && same("…c…", "abcd") && !same("a…c", "ab") && !same("a", "ab"));
    assert!(same_lines(&["a", "…", "d"], &["a", "b", "c", "d"]) && !same_lines(&["a"], &["a", "b"]));
    assert_eq!(replaced("x:8080 18080 8080.", |n| (n == 8080).then_some(1)), "x:1 18080 1.");
    assert_eq!(ports_in("a:80 b:9001/ c:8443:127").collect::<Vec<_>>(), [9001, 8443]);
    assert_eq!(normal("f \"$(a \"b\")\"  \"$x\""), "f $ $");
}
