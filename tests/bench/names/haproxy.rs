//! HAProxy with many names: a map of hosts and a directory of certificates. One more is taken by a new process that takes
//! over the sockets.

use anyhow::{Context as _, Result};
use tokio::process::Command;
use tokio::time::Instant;

use super::authority::Certificates;
use super::{Figures, answers, name};
use crate::nginx::Service;
use crate::series::Series;
use crate::support::context::Context;
use crate::support::https::Https;
use crate::support::process::Process;
use crate::{machine, ports, program};

pub async fn measure(context: &Context, service: &Service, certificates: &Certificates) -> Result<Figures> {
    let [http, https] = ports::free()?;
    let (map, socket) = (context.path("hosts.map"), context.path("haproxy.sock"));
    let mut hosts: String = (0..certificates.count).map(|k| format!("{} service\n", name(k))).collect();
    std::fs::write(&map, &hosts)?;
    let config = format!(
        "global
  nbthread 1
  stats socket {socket} level admin expose-fd listeners
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend clients
  bind {http}
  bind {https} ssl crt {dir} alpn h2,http/1.1
  use_backend %[req.hdr(host),lower,map_str({map})]
backend service
  server one {service}
",
        socket = socket.display(),
        dir = certificates.dir.display(),
        map = map.display(),
        service = service.address,
    );
    let file = context.path("haproxy-names.cfg");
    std::fs::write(&file, config)?;
    let spawn = |former: Option<u32>| {
        let mut command = Command::new(program::path("haproxy"));
        command.arg("-db").arg("-f").arg(&file);
        if let Some(former) = former {
            command.arg("-x").arg(&socket).arg("-sf").arg(former.to_string());
        }
        Process::spawn(command, &context.path("haproxy-names.log"))
    };
    let client = Https::trusting(&certificates.root)?;
    let began = Instant::now();
    let mut process = spawn(None)?;
    answers(&client, https, &name(certificates.count - 1), began).await?;
    let start = began.elapsed();
    let memory = machine::memory(process.id().context("HAProxy has ended")?)?;
    eprintln!("{} names: HAProxy starts in {start:.2?}, {memory} B", certificates.count);

    let mut name_more = Series::default();
    // Each takes as long as a start.
    for (name, pem) in certificates.more.iter().take(3) {
        std::fs::write(certificates.dir.join(format!("{name}.pem")), pem)?;
        hosts += &format!("{name} service\n");
        std::fs::write(&map, &hosts)?;
        let began = Instant::now();
        let next = spawn(process.id())?;
        answers(&client, https, name, began).await?;
        name_more.push(began.elapsed().as_secs_f64() * 1e3);
        process = next;
    }
    let version = program::version(&program::path("haproxy"), "-v");
    let count = certificates.count;
    Ok(Figures { name: format!("HAProxy {version}"), count, start, memory, route: None, name_more })
}
