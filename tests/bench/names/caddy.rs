//! Caddy with many names: one more by its API, which takes the whole configuration.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::Instant;

use super::authority::Certificates;
use super::{Figures, answers, name};
use crate::nginx::Service;
use crate::series::Series;
use crate::support::api::{request, send};
use crate::support::context::Context;
use crate::support::https::Https;
use crate::support::process::Process;
use crate::{machine, ports, program};

pub async fn measure(context: &Context, service: &Service, certificates: &Certificates) -> Result<Figures> {
    let [https, admin] = ports::free()?;
    let mut names: Vec<String> = (0..certificates.count).map(name).collect();
    let config = |names: &[String]| -> Value {
        let route = |name: &String| {
            json!({
                "match": [{ "host": [name] }],
                "handle": [{ "handler": "reverse_proxy", "upstreams": [{ "dial": service.address.to_string() }] }],
            })
        };
        json!({
            "admin": { "listen": admin.to_string() },
            "logging": { "logs": { "default": { "level": "ERROR" } } },
            "apps": {
                "http": { "servers": { "all": {
                    "listen": [https.to_string()],
                    "routes": names.iter().map(route).collect::<Vec<_>>(),
                    "automatic_https": { "disable": true },
                    "tls_connection_policies": [{}],
                } } },
                "tls": { "certificates": { "load_folders": [certificates.dir] } },
            },
        })
    };
    let file = context.path("caddy.json");
    std::fs::write(&file, config(&names).to_string())?;
    let mut command = Command::new(program::path("caddy"));
    command.arg("run").arg("--config").arg(&file).env("HOME", context.dir()).env("XDG_DATA_HOME", context.dir());
    let client = Https::trusting(&certificates.root)?;
    let began = Instant::now();
    let process = Process::spawn(command, &context.path("caddy.log"))?;
    answers(&client, https, &name(certificates.count - 1), began).await?;
    let start = began.elapsed();
    let memory = machine::memory(process.id().context("Caddy has ended")?)?;
    eprintln!("{} names: Caddy starts in {start:.2?}, {memory} B", certificates.count);

    let mut name_more = Series::default();
    for (name, pem) in certificates.more.iter().take(3) {
        std::fs::write(certificates.dir.join(format!("{name}.pem")), pem)?;
        names.push(name.clone());
        let began = Instant::now();
        let mut load = request(Method::POST, &admin.to_string(), "/load", config(&names).to_string());
        load.headers_mut().insert("content-type", "application/json".parse()?);
        let answer = send(admin, load).await?;
        ensure!(answer.status == 200, "{answer:?}");
        answers(&client, https, name, began).await?;
        name_more.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let version = program::version(&program::path("caddy"), "version");
    let count = certificates.count;
    Ok(Figures { name: format!("Caddy {version}"), count, start, memory, route: None, name_more })
}
