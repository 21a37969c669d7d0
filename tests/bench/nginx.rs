//! nginx: one of the peers, and the service behind all of them.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::process::Command;

use crate::certificate::Certificate;
use crate::proxy::{BODY, Front, LARGE_BYTES, LARGE_PATH, Logs, log_file};
use crate::server::Server;
use crate::support::context::Context;
use crate::support::process::Process;
use crate::{ports, program};

/// The service: answers every request with [`BODY`].
pub struct Service {
    pub address: SocketAddr,
    pub server: Server,
}

impl Service {
    pub fn start(context: &Context) -> Result<Self> {
        let [address] = ports::free()?;
        let large = context.path("large");
        std::fs::create_dir(&large)?;
        std::fs::write(large.join(LARGE_PATH.trim_start_matches('/')), vec![b'x'; LARGE_BYTES])?;
        let config = format!(
            "server {{
               listen {address};
               location / {{ return 200 '{BODY}'; }}
               location {LARGE_PATH} {{ root {}; }}
             }}",
            large.display()
        );
        Ok(Self { address, server: spawn(context, "service", &config)? })
    }
}

/// nginx as a proxy in front of `service`.
pub fn start(context: &Context, service: SocketAddr, certificate: &Certificate, logs: Logs) -> Result<Front> {
    let log = match logs {
        Logs::Off => String::new(),
        Logs::On => format!("access_log {} combined buffer=64k flush=1s;", log_file(context, "nginx").display()),
    };
    let [http, https] = ports::free()?;
    let config = format!(
        "upstream service {{ server {service}; keepalive 64; keepalive_requests 1000000000; }}
         server {{
           listen {http};
           listen {https} ssl http2;
           ssl_certificate {certificate};
           ssl_certificate_key {key};
           ssl_protocols TLSv1.2 TLSv1.3;
           {log}
           location / {{
             proxy_pass http://service;
             proxy_http_version 1.1;
             proxy_set_header Connection '';
             proxy_set_header Host $host;
             proxy_set_header X-Real-IP $remote_addr;
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
             proxy_set_header X-Forwarded-Proto $scheme;
           }}
         }}",
        certificate = certificate.certificate.display(),
        key = certificate.key.display(),
    );
    let server = spawn(context, "nginx", &config)?;
    Ok(Front { name: "nginx", version: version(), server, http, https, roots: certificate.pem.clone() })
}

pub fn version() -> String {
    program::version(&program::path("nginx"), "-v")
}

/// Starts it with one worker and `servers` in its configuration, everything it writes under `name`.
fn spawn(context: &Context, name: &str, servers: &str) -> Result<Server> {
    let dir = context.path(name);
    std::fs::create_dir(&dir)?;
    let config = format!(
        "daemon off;
         worker_processes 1;
         pid pid;
         error_log stderr warn;
         events {{ worker_connections 4096; }}
         http {{
           access_log off;
           keepalive_requests 1000000000;
           client_body_temp_path body;
           proxy_temp_path proxy;
           fastcgi_temp_path fastcgi;
           scgi_temp_path scgi;
           uwsgi_temp_path uwsgi;
           {servers}
         }}"
    );
    std::fs::write(dir.join("nginx.conf"), config)?;
    let mut command = Command::new(program::path("nginx"));
    command.arg("-e").arg("stderr").arg("-p").arg(&dir).arg("-c").arg("nginx.conf");
    Ok(Process::spawn(command, &context.path(&format!("{name}.log")))?.into())
}
