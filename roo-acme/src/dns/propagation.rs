//! Whether a record is where the CA will look: at every name server of its zone.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::lookup::Lookup;
use super::server::Server;
use super::{DnsConfig, DnsError, DnsRecord};

/// A name server, with its addresses: one of them is enough.
struct NameServer {
    name: String,
    addresses: Vec<SocketAddr>,
    /// How often in a row it did not answer.
    silences: u32,
}

/// What a name server shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sight {
    Shown,
    Absent,
    Silent,
}

/// Returns when all servers show `record`. One that does not answer at all does not count: this node may be kept from
/// asking it, where the CA is not.
pub(super) async fn wait(config: &DnsConfig, record: &DnsRecord) -> Result<(), DnsError> {
    let began = Instant::now();
    let mut servers = servers(config, record).await?;
    let mut pause = Duration::from_millis(200);
    loop {
        let sights = look(&servers, record).await;
        for (server, sight) in servers.iter_mut().zip(&sights) {
            server.silences = if *sight == Sight::Silent { server.silences + 1 } else { 0 };
        }
        let pending = |(server, sight): &(&NameServer, &Sight)| match sight {
            Sight::Shown => false,
            Sight::Absent => true,
            Sight::Silent => server.silences < SILENCES_MAX,
        };
        let missing: Vec<&str> =
            servers.iter().zip(&sights).filter(pending).map(|(server, _)| server.name.as_str()).collect();
        if missing.is_empty() {
            let silent = sights.iter().filter(|sight| **sight == Sight::Silent).count();
            if silent > 0 {
                tracing::warn!(record = record.name, silent, "not every name server could be asked; going on");
            }
            return Ok(());
        }
        if began.elapsed() + pause > config.wait {
            let missing = missing.join(", ");
            return Err(DnsError::NotVisible { name: record.name.clone(), missing, waited: began.elapsed() });
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Those configured, or else those of the zone.
async fn servers(config: &DnsConfig, record: &DnsRecord) -> Result<Vec<NameServer>, DnsError> {
    if !config.servers.is_empty() {
        let server =
            |address: &SocketAddr| NameServer { name: address.to_string(), addresses: vec![*address], silences: 0 };
        return Ok(config.servers.iter().map(server).collect());
    }
    let lookup = Lookup::new(config.resolver)?;
    let mut servers = Vec::new();
    for name in lookup.name_servers(&record.name).await?.into_iter().take(SERVERS_MAX) {
        // One whose address nobody knows is as silent to the CA.
        let addresses = lookup.addresses(&name).await.unwrap_or_default();
        let addresses = addresses.into_iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(ip, 53)).collect();
        servers.push(NameServer { name, addresses, silences: 0 });
    }
    Ok(servers)
}

/// Asks all at once.
async fn look(servers: &[NameServer], record: &DnsRecord) -> Vec<Sight> {
    let mut asking = JoinSet::new();
    for (k, server) in servers.iter().enumerate() {
        for address in server.addresses.clone() {
            let record = record.clone();
            asking.spawn(async move { (k, sight(address, &record).await) });
        }
    }
    let mut sights = vec![Sight::Silent; servers.len()];
    while let Some(asked) = asking.join_next().await {
        let Ok((k, sight)) = asked else { continue };
        // An address that shows it stands for its server; one that denies it says more than one that is silent.
        sights[k] = match (sights[k], sight) {
            (Sight::Shown, _) | (_, Sight::Shown) => Sight::Shown,
            (Sight::Absent, _) | (_, Sight::Absent) => Sight::Absent,
            _ => Sight::Silent,
        };
    }
    sights
}

async fn sight(address: SocketAddr, record: &DnsRecord) -> Sight {
    let asked = async { Server::connect(address, None).await?.texts(&record.name).await };
    match asked.await {
        Ok(texts) if texts.contains(&record.value) => Sight::Shown,
        Ok(_) => Sight::Absent,
        Err(error) => {
            tracing::debug!(%address, %error, "a name server could not be asked");
            Sight::Silent
        }
    }
}

/// A server that is silent so often is left out.
const SILENCES_MAX: u32 = 3;
const SERVERS_MAX: usize = 16;
const ADDRESSES_MAX: usize = 4;
const PAUSE_MAX: Duration = Duration::from_secs(3);
