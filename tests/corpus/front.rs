//! The proxies that the corpus is run through, each with a route for [`HOST`] to one upstream, on both of its ports.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use roo_proxy::{Certificates, Config, Events, Listeners, Proxy, RouteTable, Timeouts, certified_key};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::case::HOST;
use crate::certificate::Certificate;
use crate::program;
use crate::server::Server;
use crate::support::context::Context;
use crate::support::process::Process;
use crate::support::wait::until;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Roo,
    Nginx,
    Haproxy,
}

/// A running proxy.
pub struct Front {
    pub http: SocketAddr,
    pub https: SocketAddr,
    /// What a client must trust, in PEM.
    pub roots: String,
    running: Running,
    _context: Context,
}

enum Running {
    Roo(Box<Proxy>, Events),
    Peer(Server),
}

impl Front {
    pub async fn start(program: Program, upstream: SocketAddr) -> Result<Front> {
        let context = Context::new();
        let certificate = Certificate::make(&context, HOST)?;
        let (http, https, running) = match program {
            Program::Roo => roo(upstream, &certificate)?,
            Program::Nginx => nginx(&context, upstream, &certificate)?,
            Program::Haproxy => haproxy(&context, upstream, &certificate)?,
        };
        if let Running::Peer(server) = &running {
            for address in [http, https] {
                let connects = async || Ok(TcpStream::connect(address).await?);
                until("it listens", connects).await.with_context(|| server.output())?;
            }
        }
        Ok(Front { http, https, roots: certificate.pem, running, _context: context })
    }

    /// Ends it, and with it every connection to the upstream.
    pub async fn stop(self) {
        match self.running {
            // What is under way has nobody left who waits for it.
            Running::Roo(proxy, _events) => proxy.shutdown(Duration::ZERO).await,
            Running::Peer(server) => drop(server),
        }
    }
}

/// Ports that nobody else takes meanwhile: below those that the system picks.
fn own_ports() -> [SocketAddr; 2] {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    [(); 2].map(|()| {
        loop {
            let address = SocketAddr::from(([127, 0, 0, 1], NEXT.fetch_add(1, Ordering::Relaxed)));
            if std::net::TcpListener::bind(address).is_ok() {
                return address;
            }
        }
    })
}

type Started = (SocketAddr, SocketAddr, Running);

/// Roo's data plane in this process. Its timeouts are longer than any client here waits, so that what closes a
/// connection is a decision.
fn roo(upstream: SocketAddr, certificate: &Certificate) -> Result<Started> {
    let long = Duration::from_secs(300);
    let timeouts = Timeouts { header: long, idle: long, body: long, response: long, ..Timeouts::default() };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners = Listeners::bind(any, any, 1)?;
    let (http, https) = (listeners.http(), listeners.https());
    let (proxy, events) = Proxy::start(listeners, Config { timeouts, ..Config::default() })?;
    let key = certified_key(&certificate.pem, &std::fs::read_to_string(&certificate.key)?)?;
    proxy.control().set_certificates(Certificates::new([(vec![HOST.parse()?], key)]));
    let route =
        |scheme| Ok::<_, anyhow::Error>((format!("{HOST}:{scheme}").parse()?, format!("http://{upstream}").parse()?));
    proxy.control().set_routes(RouteTable::new([route("http")?, route("https")?]));
    Ok((http, https, Running::Roo(Box::new(proxy), events)))
}

/// nginx, set up with the care that its manual asks for: every forwarding field is its own, other names are refused.
fn nginx(context: &Context, upstream: SocketAddr, certificate: &Certificate) -> Result<Started> {
    let [http, https] = own_ports();
    let dir = context.path("nginx");
    std::fs::create_dir(&dir)?;
    let config = format!(
        "daemon off;
         worker_processes 1;
         pid pid;
         error_log stderr warn;
         events {{ worker_connections 256; }}
         http {{
           access_log off;
           client_body_temp_path body;
           proxy_temp_path proxy;
           fastcgi_temp_path fastcgi;
           scgi_temp_path scgi;
           uwsgi_temp_path uwsgi;
           map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
           upstream service {{ server {upstream}; keepalive 16; }}
           server {{ listen {http} default_server; listen {https} ssl http2 default_server;
             ssl_certificate {certificate}; ssl_certificate_key {key}; return 404; }}
           server {{
             listen {http};
             listen {https} ssl http2;
             server_name {HOST};
             ssl_certificate {certificate};
             ssl_certificate_key {key};
             location / {{
               proxy_pass http://service;
               proxy_http_version 1.1;
               proxy_set_header Host $host;
               proxy_set_header Upgrade $http_upgrade;
               proxy_set_header Connection $connection_upgrade;
               proxy_set_header Forwarded '';
               proxy_set_header Proxy '';
               proxy_set_header X-Forwarded-For $remote_addr;
               proxy_set_header X-Forwarded-Proto $scheme;
               proxy_set_header X-Forwarded-Host $host;
               proxy_set_header X-Forwarded-Port $server_port;
               proxy_set_header X-Origin-Host '';
               proxy_set_header X-Real-IP $remote_addr;
               proxy_set_header X-Request-ID $request_id;
             }}
           }}
         }}",
        certificate = certificate.certificate.display(),
        key = certificate.key.display(),
    );
    std::fs::write(dir.join("nginx.conf"), config)?;
    let mut command = Command::new(program::path("nginx"));
    command.arg("-e").arg("stderr").arg("-p").arg(&dir).arg("-c").arg("nginx.conf");
    let server = Process::spawn(command, &context.path("nginx.log"))?.into();
    Ok((http, https, Running::Peer(server)))
}

/// HAProxy, set up with the same care.
fn haproxy(context: &Context, upstream: SocketAddr, certificate: &Certificate) -> Result<Started> {
    let [http, https] = own_ports();
    let config = format!(
        "global
  maxconn 256
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
  option http-restrict-req-hdr-names delete
frontend clients
  bind {http}
  bind {https} ssl crt {certificate} alpn h2,http/1.1
  http-request deny deny_status 404 if !{{ req.hdr(host),host_only -i {HOST} }}
  http-request del-header forwarded
  http-request del-header proxy
  http-request del-header x-forwarded- -m beg
  http-request del-header x-origin-host
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}
  http-request set-header X-Request-ID %[uuid()]
  default_backend service
backend service
  server one {upstream}
",
        certificate = certificate.both.display(),
    );
    let file = context.path("haproxy.cfg");
    std::fs::write(&file, config)?;
    let mut command = Command::new(program::path("haproxy"));
    command.arg("-db").arg("-f").arg(&file);
    let server = Process::spawn(command, &context.path("haproxy.log"))?.into();
    Ok((http, https, Running::Peer(server)))
}
