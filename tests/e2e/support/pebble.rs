//! A real ACME server: Debian's pebble, with a CA, a listener certificate and a resolver of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::process::Command;

use super::api::request;
use super::context::Context;
use super::counter::Counter;
use super::dns::Dns;
use super::https::Https;
use super::ports::free_address;
use super::process::Process;
use super::wait::until;

/// A running Pebble.
pub struct Pebble {
    process: Process,
    /// Every name has this answer: it decides which node a challenge reaches.
    pub dns: Dns,
    acme: SocketAddr,
    management: SocketAddr,
    /// Root of the listeners' certificate, for `--acme-ca-file`.
    pub ca_file: PathBuf,
    key_file: PathBuf,
    client: Https,
}

impl Pebble {
    /// Starts it; challenges are asked for at `http_port` of the address that `dns` gives.
    pub async fn start(context: &Context, http_port: u16, asked: Ipv4Addr) -> Result<Self> {
        let dns = Dns::start(vec![asked]).await?;
        let server = dns.address;
        Self::start_asking(context, http_port, dns, server).await
    }

    /// The same, asking another name server.
    pub async fn start_asking(context: &Context, http_port: u16, dns: Dns, server: SocketAddr) -> Result<Self> {
        // Bad nonces now and then, as in real life; no artificial waiting.
        let environment = [("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "10")];
        Self::start_with(context, (http_port, http_port), dns, server, &environment).await
    }

    /// As [`start`](Self::start), with ports for http and for https, and with what Pebble reads from the environment.
    pub async fn start_with(
        context: &Context,
        (http_port, tls_port): (u16, u16),
        dns: Dns,
        server: SocketAddr,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        let (ca_file, key_file) = (context.path("pebble-ca.pem"), context.path("pebble-key.pem"));
        std::fs::write(&ca_file, made.cert.pem())?;
        std::fs::write(&key_file, made.signing_key.serialize_pem())?;
        let (acme, management) = (free_address()?, free_address()?);
        let config = json!({ "pebble": {
            "listenAddress": acme.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": ca_file,
            "privateKey": key_file,
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        let file = context.path("pebble.json");
        std::fs::write(&file, config.to_string())?;
        let mut command = Command::new("pebble");
        command.arg("-config").arg(&file).arg("-dnsserver").arg(server.to_string());
        command.envs(environment.iter().copied());
        let process =
            Process::spawn(command, &context.path("pebble.log")).context("pebble is needed: apt-get install pebble")?;
        let client = Https::trusting(&made.cert.pem())?;
        let pebble = Self { process, dns, acme, management, ca_file, key_file, client };
        until("pebble answers", async || pebble.root().await.map(drop))
            .await
            .with_context(|| pebble.process.output())?;
        Ok(pebble)
    }

    /// A door to it that counts orders.
    pub async fn counted(&self) -> Result<Counter> {
        Counter::start(self.acme, self.client.clone(), &self.ca_file, &self.key_file).await
    }

    /// For `--acme-directory`.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.acme)
    }

    /// The root under which it signs.
    pub async fn root(&self) -> Result<String> {
        let asked = request(http::Method::GET, "localhost", "/roots/0", "");
        let answer = self.client.send(self.management, "localhost", asked).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer.text())
    }

    /// What it says of the certificate with this serial number: `Valid` or `Revoked`.
    pub async fn status_of(&self, serial: &str) -> Result<String> {
        let path = format!("/cert-status-by-serial/{}", serial.trim_start_matches('0'));
        let answer = self.client.send(self.management, "localhost", request(http::Method::GET, "localhost", &path, ""));
        let answer = answer.await?.json()?;
        answer["Status"].as_str().map(str::to_owned).with_context(|| answer.to_string())
    }

    /// How many orders it has taken for names that contain `part`, and in all when that is empty.
    pub fn orders(&self) -> usize {
        self.process.output().lines().filter(|line| line.contains("Added order")).count()
    }

    /// How many certificates it has signed.
    pub fn issued(&self) -> usize {
        self.process.output().lines().filter(|line| line.contains("Issued certificate serial")).count()
    }

    /// Everything it printed.
    pub fn log(&self) -> String {
        self.process.output()
    }
}
