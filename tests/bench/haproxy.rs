//! HAProxy, one of the peers.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::process::Command;

use crate::certificate::Certificate;
use crate::proxy::{Front, Logs, log_file};
use crate::support::context::Context;
use crate::support::process::Process;
use crate::{ports, program};

/// HAProxy in front of `service`.
pub fn start(context: &Context, service: SocketAddr, certificate: &Certificate, logs: Logs) -> Result<Front> {
    let [http, https] = ports::free()?;
    let (target, log, output) = match logs {
        Logs::Off => ("", "", context.path("haproxy.log")),
        // It writes to no file by itself.
        Logs::On => ("  log stdout format raw local0", "  log global\n  option httplog", log_file(context, "haproxy")),
    };
    let config = format!(
        "global
  maxconn 4096
  nbthread 1
  ssl-default-bind-options ssl-min-ver TLSv1.2
{target}
defaults
  mode http
{log}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend clients
  bind {http}
  bind {https} ssl crt {certificate} alpn h2,http/1.1
  option forwardfor
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}
  default_backend service
backend service
  server one {service}
",
        certificate = certificate.both.display(),
    );
    let file = context.path("haproxy.cfg");
    std::fs::write(&file, config)?;
    let mut command = Command::new(program::path("haproxy"));
    command.arg("-db").arg("-f").arg(&file);
    let server = Process::spawn(command, &output)?.into();
    let version = program::version(&program::path("haproxy"), "-v");
    Ok(Front { name: "HAProxy", version, server, http, https, roots: certificate.pem.clone() })
}
